//! The tutorial, typed in from the document itself by somebody who has the hosts that it asks for.

use crate::cluster::{Mail, Said, wait};
use crate::document::{Block, blocks, merge};
use crate::program;
use aesop::lab::{self, Host, HostKind, HostSpec, Lab, LabSpec};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

const TEXT: &str = include_str!("../../docs/tutorial.md");
const PROGRAMS: [&str; 3] = ["aesop", "aesop-relay", "aesop-consumer"];

/// Every command of the document in its order; then what the text around it says is looked at.
pub(crate) fn its_commands_do_what_it_says() {
    let mut reader = Reader::new();
    let mut section = String::new();
    for block in blocks(TEXT) {
        if block.section != section {
            block.section.clone_into(&mut section);
            reader.prepare(&section);
        }
        reader.follow(&block);
    }
    reader.loses_a_host();
}

/// Who follows the text: hosts, a folder, a machine with the programs in its `PATH`.
struct Reader {
    lab: Lab,
    /// What the document's addresses are here.
    here: Vec<(String, String)>,
    folder: TempDir,
    programs: TempDir,
    /// `~/.ssh` as the commands see it.
    ssh: TempDir,
    inventory: serde_yaml::Value,
    exports: String,
}

impl Reader {
    fn new() -> Self {
        let spec = LabSpec::new(format!("tutorial-{}", std::process::id()));
        let spec = ["n1", "n2", "n3", "n4"].iter().fold(spec, |spec, name| spec.host(HostSpec::new(*name)));
        let spec = spec
            .host(HostSpec::new("db").kind(HostKind::MySql97))
            .host(HostSpec::new("mail").kind(HostKind::Mail));
        let lab = Lab::create(&spec, &|_| ()).expect("the lab boots");
        let address = |name: &str| lab.host(name).expect("a host").address().to_string();
        let mut here: Vec<_> = (1..5).map(|n| (format!("10.0.0.1{n}"), address(&format!("n{n}")))).collect();
        here.push(("10.0.0.5".to_owned(), address("db")));
        let mail = format!("{{host: {}, port: {}, tls: none}}", address("mail"), lab::SMTP_PORT);
        here.push(("{host: mail.example.com}".to_owned(), mail));
        let folder = || TempDir::new().expect("a folder");
        let reader = Self {
            lab,
            here,
            folder: folder(),
            programs: folder(),
            ssh: folder(),
            inventory: serde_yaml::Value::Null,
            exports: String::new(),
        };
        let config = format!(
            "Host *\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
            reader.lab.ssh_key().display(),
            reader.lab.known_hosts().display()
        );
        fs::write(reader.ssh.path().join("config"), config).expect("a file");
        fs::create_dir(reader.folder.path().join("inventory")).expect("a folder");
        reader.install("");
        reader
            .host("db")
            .sql("CREATE DATABASE shop; CREATE TABLE shop.orders (id INT PRIMARY KEY, state VARCHAR(20))")
            .expect("a shop");
        reader
    }

    fn host(&self, name: &str) -> Host {
        self.lab.host(name).expect("a host of the lab")
    }

    /// Puts the programs in place; another `build` has other bytes.
    fn install(&self, build: &str) {
        let built = Path::new(env!("CARGO_BIN_EXE_aesop")).parent().expect("a folder");
        for name in PROGRAMS {
            let place = self.programs.path().join(name);
            let partial = place.with_extension("partial");
            fs::copy(built.join(name), &partial).expect("cargo build --workspace --bins");
            let mut bytes = fs::OpenOptions::new().append(true).open(&partial).expect("a program");
            std::io::Write::write_all(&mut bytes, build.as_bytes()).expect("a build");
            drop(bytes);
            fs::rename(partial, place).expect("it is in place");
        }
    }

    /// What the text says somebody does before the section's commands.
    fn prepare(&self, section: &str) {
        match section.split('.').next() {
            Some("4") => {
                self.order(2, "new");
                self.host("db").sql("UPDATE shop.orders SET state = 'sent' WHERE id = 2").expect("a change");
                wait("the change in Kafka", || self.topic().contains("sent").then_some(()));
            }
            Some("7") => self.install("a newer build"),
            _ => {}
        }
    }

    fn order(&self, id: u32, state: &str) {
        let insert = format!("INSERT INTO shop.orders VALUES ({id}, '{state}')");
        self.host("db").sql(&insert).expect("an order");
    }

    fn follow(&mut self, block: &Block) {
        let text = self.here.iter().fold(block.text.clone(), |text, (there, here)| text.replace(there, here));
        match block.language.as_str() {
            "sql" => drop(self.host("db").sql(&text).expect("the database takes it")),
            "yaml" => {
                merge(&mut self.inventory, serde_yaml::from_str(&text).expect("YAML"));
                let text = serde_yaml::to_string(&self.inventory).expect("YAML");
                fs::write(self.folder.path().join("inventory/shop.yml"), text).expect("the inventory");
            }
            "sh" if text.contains("aesop-relay tail") => self.tails(&text),
            "sh" => {
                let said = self.types(&text);
                self.looks_at(block, &said);
                let exports = text.lines().filter(|line| line.starts_with("export "));
                self.exports.extend(exports.flat_map(|line| [line, "\n"]));
            }
            other => panic!("{}: nobody types a block of {other:?}", block.section),
        }
    }

    /// A shell that has the programs, and our `~/.ssh` in place of the user's.
    fn shell(&self, text: &str) -> Command {
        let path = format!("{}:{}", self.programs.path().display(), std::env::var("PATH").expect("PATH"));
        // At a terminal apply would ask.
        let yes =
            r#"aesop() { if [ "$1" = apply ]; then command aesop "$@" --yes; else command aesop "$@"; fi; }"#;
        let mut shell = program::with_ssh(self.ssh.path(), "bash");
        shell
            .args(["-ec", &format!("{yes}\n{}{text}", self.exports)])
            .env("PATH", path)
            .current_dir(self.folder.path());
        shell
    }

    /// Types it; it must end well.
    fn types(&self, text: &str) -> Said {
        let output = self.shell(text).output().expect("a shell");
        let status = output.status;
        let said = Said::from(output);
        assert!(status.success(), "{text}: {status}\n{}\n{}", said.stdout, said.stderr);
        said
    }

    /// A change is seen before anything is deployed.
    fn tails(&self, text: &str) {
        let seen: PathBuf = self.folder.path().join("seen");
        let out = fs::File::create(&seen).expect("a file");
        let mut tail = self.shell(&format!("exec env {text}")).stdout(out).spawn().expect("a shell");
        let mut id = 100;
        wait("a change in front of the reader", || {
            // It shows what comes after it has begun.
            id += 1;
            self.order(id, "early");
            assert_eq!(tail.try_wait().expect("its state"), None, "it goes on until Ctrl-C");
            fs::read_to_string(&seen).expect("what it shows").contains("early").then_some(())
        });
        let pid = i32::try_from(tail.id()).expect("a process");
        Command::new("kill").args(["-INT", &pid.to_string()]).status().expect("Ctrl-C");
        tail.wait().expect("it ends");
    }

    /// Whether the commands did what the text around them says.
    fn looks_at(&self, block: &Block, said: &Said) {
        if block.text.contains("aesop apply") {
            let plan = self.shell("aesop plan --exit-code").output().expect("a shell");
            let words = Said::from(plan.clone());
            assert_eq!(plan.status.code(), Some(0), "{}: {}{}", block.section, words.stdout, words.stderr);
        }
        let section = block.section.split('.').next().expect("a number");
        let expected: &[&str] = match (section, block.text.lines().next().unwrap_or_default()) {
            ("3", "aesop status") => &["n1", "n2", "n3"],
            ("4", line) if line.starts_with("kcat") => {
                &[r#""before":{"id":2,"state":"new"}"#, r#""state":"sent"}"#]
            }
            ("5", _) => &["+log.retention.hours=72", "restart aesop-kafka.service on n1"],
            ("6", line) if line.ends_with("n4") => &["n4"],
            ("7", _) => &["restart aesop-relay.service on n1"],
            _ => &[],
        };
        for words in expected {
            let all = [said.stdout.as_str(), &said.stderr].concat();
            assert!(all.contains(words), "{}: {words} is not in\n{all}", block.section);
        }
        if block.text.contains("--email") {
            wait("the lag mail", || self.mails().into_iter().find(is_lag));
        }
    }

    fn mails(&self) -> Vec<Mail> {
        Mail::all(&self.host("mail"))
    }

    /// The topic, read on a broker that stays.
    fn topic(&self) -> String {
        let broker = format!("{}:9092", self.host("n1").address());
        let kcat = ["-C", "-q", "-b", &broker, "-t", "shop.shop.orders", "-o", "beginning", "-e"];
        let read = Command::new("kcat").args(kcat).output().expect("kcat runs");
        String::from_utf8_lossy(&read.stdout).into_owned()
    }

    /// The last section, in which nothing is typed.
    fn loses_a_host(&self) {
        let alerts = || self.mails().into_iter().filter(|mail| !is_lag(mail));
        assert_eq!(alerts().count(), 0, "nothing was wrong: {:?}", alerts().collect::<Vec<_>>());
        self.host("n2").kill().expect("n2 is off");
        let problem = wait("the mail about n2", || alerts().find(|mail| mail.text.contains("n2")));
        self.order(3, "without n2");
        wait("the others go on", || self.topic().contains("without n2").then_some(()));
        self.host("n2").boot().expect("n2 is on");
        wait("the second mail", || {
            let answers = |mail: &Mail| mail.references.contains(problem.message_id.trim());
            alerts().find(|mail| answers(mail) && mail.subject.to_lowercase().contains("resolved"))
        });
    }
}

fn is_lag(mail: &Mail) -> bool {
    mail.subject.to_lowercase().contains("lag")
}

/// Where it went wrong, for whoever reads the failure.
impl Drop for Reader {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for look in ["aesop status", "aesop lag", "aesop logs --lines 40", "kcat -L -b 10.0.0.11:9092"] {
                let text =
                    self.here.iter().fold(look.to_owned(), |text, (there, here)| text.replace(there, here));
                let output = self.shell(&text).output();
                let said = output.map(|out| [out.stdout, out.stderr].concat()).unwrap_or_default();
                eprintln!("{look}:\n{}", String::from_utf8_lossy(&said));
            }
        }
    }
}
