//! A cluster on lab hosts, deployed by the real program over SSH as its user would; made once, shared by the stories.

use crate::{oracle, program};
use aesop::lab::shop::{self, Server};
use aesop::lab::{self, Host, HostKind, HostSpec, Lab, LabSpec};
use relay::format::fold::Fold;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take before a test gives up: generous, the machine is slow and shared.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);
const BROKERS: [&str; 3] = ["kafka1", "kafka2", "kafka3"];
/// The sources and the hosts of their databases: MariaDB 10.11 and MySQL 9.7.
pub(crate) const SOURCES: [(&str, &str); 2] = [("shop", "db1"), ("store", "db2")];

static CLUSTER: OnceLock<Mutex<Option<Arc<Cluster>>>> = OnceLock::new();

/// The shared cluster, deployed at the first call.
pub(crate) fn cluster() -> Arc<Cluster> {
    let mut slot = CLUSTER.get_or_init(Mutex::default).lock().expect("no story died while deploying");
    Arc::clone(slot.get_or_insert_with(|| Arc::new(Cluster::deploy())))
}

/// Removes the shared cluster, if one was made.
pub(crate) fn tear_down() {
    if let Some(slot) = CLUSTER.get() {
        drop(slot.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take());
    }
}

/// Hosts, and the folder with their inventory.
pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    dir: TempDir,
    runtime: tokio::runtime::Runtime,
    /// Next step of the shop's traffic, by source.
    steps: [AtomicU64; 2],
}

impl Cluster {
    fn deploy() -> Self {
        let say = |progress: &lab::Progress| eprintln!("    {progress}");
        let started = Instant::now();
        let plain = ["kafka1", "kafka2", "kafka3", "relay1", "consumer1", "consumer2", "monitor1"];
        let mut spec = LabSpec::new(format!("story-{}", std::process::id()));
        spec = plain.iter().fold(spec, |spec, name| spec.host(HostSpec::new(*name)));
        spec = spec
            .host(HostSpec::new("db1").kind(HostKind::MariaDb))
            .host(HostSpec::new("db2").kind(HostKind::MySql97))
            .host(HostSpec::new("mail1").kind(HostKind::Mail));
        let lab = Lab::create(&spec, &say).expect("the lab boots");
        eprintln!("    hosts after {:.0} s", started.elapsed().as_secs_f64());
        let cluster = Self {
            lab,
            dir: TempDir::new().expect("a temporary folder"),
            runtime: tokio::runtime::Runtime::new().expect("a runtime"),
            steps: [AtomicU64::new(0), AtomicU64::new(0)],
        };
        for (source, _) in SOURCES {
            let server = cluster.database(source);
            cluster.block_on(shop::create(&server)).expect("the shop opens");
            cluster
                .block_on(shop::create_reader(&server, "aesop", "reader-secret"))
                .expect("the reader is made");
        }
        let password = cluster.path("reader.password");
        fs::write(&password, "reader-secret\n").expect("a file");
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("its mode");
        cluster.write_inventory(&["consumer1", "consumer2"]);
        cluster.aesop_ok(&["check"]);
        let apply = crate::offline::deploy_from_bundle(&cluster);
        eprintln!("    deployed after {:.0} s\n{}", started.elapsed().as_secs_f64(), tail(&apply.stdout));
        cluster
    }

    /// Writes the inventory with these consumer hosts.
    pub(crate) fn write_inventory(&self, consumers: &[&str]) {
        let mut hosts = String::new();
        for name in ["kafka1", "kafka2", "kafka3", "relay1", "monitor1"].iter().chain(consumers) {
            hosts += &format!("  {name}: {{address: {}}}\n", self.address(name));
        }
        let sources: String = SOURCES
            .iter()
            .map(|(source, host)| {
                format!(
                    "  {source}:\n    mysql: {{host: {}, user: aesop, password: {{file: reader.password}}}}\n    tables: \
                     [\"shop.*\"]\n",
                    self.address(host)
                )
            })
            .collect();
        let text = format!(
            "cluster: story
ssh: {{user: deploy, identity_file: {key}, known_hosts: {known_hosts}}}
hosts:
{hosts}
zookeeper: {{hosts: [kafka1, kafka2, kafka3]}}
kafka: {{hosts: [kafka1, kafka2, kafka3]}}
sources:
{sources}
relays: {{hosts: [relay1]}}
consumers:
  kafka-json: {{hosts: [{consumers}], sources: [shop, store], partitions: 8}}
monitor:
  hosts: [monitor1]
  interval: 5s
  email:
    smtp: {{host: {mail}, port: {smtp_port}, tls: none}}
    from: aesop@story.example
    to: [ops@story.example]
  lag_report: {{schedule: hourly}}
",
            key = self.lab.ssh_key().display(),
            known_hosts = self.lab.known_hosts().display(),
            consumers = consumers.join(", "),
            mail = self.address("mail1"),
            smtp_port = lab::SMTP_PORT,
        );
        fs::write(self.path("story.yml"), text).expect("the inventory is written");
    }

    /// A file in the inventory's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A host.
    pub(crate) fn host(&self, name: &str) -> Host {
        self.lab.host(name).expect("a host of the lab")
    }

    /// Its address.
    pub(crate) fn address(&self, name: &str) -> String {
        self.host(name).address().to_string()
    }

    /// `host:port,…` of the brokers.
    pub(crate) fn bootstrap(&self) -> String {
        BROKERS.map(|name| self.address(name) + ":9092").join(",")
    }

    /// `host:port,…` of the ensemble.
    pub(crate) fn zookeeper(&self) -> String {
        BROKERS.map(|name| self.address(name) + ":2181").join(",")
    }

    /// The database of a source, as its administrator reaches it.
    pub(crate) fn database(&self, source: &str) -> Server {
        let (_, host) = SOURCES.iter().find(|(name, _)| *name == source).expect("a source");
        Server {
            host: self.address(host),
            port: lab::DATABASE_PORT,
            user: lab::DATABASE_USER.to_owned(),
            password: self.lab.password().to_owned(),
        }
    }

    /// Waits for a future.
    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Runs `aesop` with the inventory.
    pub(crate) fn aesop(&self, args: &[&str]) -> Output {
        program::aesop(&self.path("story.yml"), args)
    }

    /// Runs `aesop` with the inventory; it must end well.
    pub(crate) fn aesop_ok(&self, args: &[&str]) -> Said {
        let output = self.aesop(args);
        let said = Said::from(output.clone());
        assert!(
            output.status.success(),
            "aesop {}: {}\n{}\n{}",
            args.join(" "),
            output.status,
            said.stdout,
            said.stderr
        );
        said
    }

    /// The processes of aesop's units on these hosts.
    pub(crate) fn pids(&self, hosts: &[&str]) -> Vec<String> {
        let show = ["systemctl", "show", "-P", "MainPID", "aesop-*"];
        hosts.iter().map(|host| self.host(host).run(&show).expect("systemd answers")).collect()
    }

    /// Writes `count` more transactions into the shop of each source.
    pub(crate) fn sell(&self, count: u64) {
        for (index, (source, _)) in SOURCES.iter().enumerate() {
            let from = self.steps[index].fetch_add(count, Ordering::SeqCst);
            let server = self.database(source);
            self.block_on(async {
                let mut conn = server.connect().await.expect("the database answers");
                for n in from..from + count {
                    shop::step(&mut conn, n).await.expect("a step of the traffic");
                }
                conn.disconnect().await.expect("the database says good-bye");
            });
        }
    }

    /// Writes into the shops while `work` runs, whatever happens to the databases meanwhile.
    pub(crate) fn sell_while<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        let stop = Arc::new(AtomicBool::new(false));
        let sellers: Vec<_> = (0..SOURCES.len())
            .map(|index| {
                let (cluster, stop) = (Arc::clone(self), Arc::clone(&stop));
                thread::spawn(move || cluster.seller(index, &stop))
            })
            .collect();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        stop.store(true, Ordering::SeqCst);
        for seller in sellers {
            seller.join().expect("the traffic ends");
        }
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn seller(&self, index: usize, stop: &AtomicBool) {
        let (source, _) = SOURCES[index];
        let server = self.database(source);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            while !stop.load(Ordering::SeqCst) {
                // A restarting database refuses for a while; the step whose fate is unknown is done again.
                let Ok(mut conn) = server.connect().await else {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    continue;
                };
                while !stop.load(Ordering::SeqCst) {
                    let n = self.steps[index].load(Ordering::SeqCst);
                    if shop::step(&mut conn, n).await.is_err() {
                        break;
                    }
                    self.steps[index].store(n + 1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        });
    }

    /// Transactions written so far into the shop of source `index`.
    pub(crate) fn steps(&self, index: usize) -> u64 {
        self.steps[index].load(Ordering::SeqCst)
    }

    /// Both sources' topics equal their databases.
    pub(crate) fn kafka_equals_select(&self) -> Vec<Fold> {
        SOURCES
            .iter()
            .map(|(source, _)| {
                let expected = self.block_on(oracle::select(&self.database(source)));
                oracle::kafka_equals_select(&self.bootstrap(), source, &expected, PATIENCE)
            })
            .collect()
    }

    /// A znode's data, read by a plain client without aesop's code or password.
    pub(crate) fn znode(&self, path: &str) -> Option<Vec<u8>> {
        self.block_on(async {
            let client = zookeeper::Client::connect(&self.zookeeper()).await.expect("ZooKeeper answers");
            match client.get_data(path).await {
                Ok((data, _)) => Some(data),
                Err(zookeeper::Error::NoNode) => None,
                Err(error) => panic!("{path}: {error}"),
            }
        })
    }

    /// A znode's data as JSON.
    pub(crate) fn znode_json(&self, path: &str) -> Option<serde_json::Value> {
        let data = self.znode(path)?;
        Some(serde_json::from_slice(&data).unwrap_or_else(|error| panic!("{path}: {error}: {data:?}")))
    }

    /// Names of a znode's children.
    pub(crate) fn znode_children(&self, path: &str) -> Vec<String> {
        self.block_on(async {
            let client = zookeeper::Client::connect(&self.zookeeper()).await.expect("ZooKeeper answers");
            client.list_children(path).await.unwrap_or_else(|error| panic!("{path}: {error}"))
        })
    }

    /// All mails that have come, parsed; oldest first.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        Mail::all(&self.host("mail1"))
    }
}

/// What a program printed.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).expect("UTF-8 on stdout"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8 on stderr"),
        }
    }
}

/// A mail, as a person reads it.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) subject: String,
    pub(crate) text: String,
    pub(crate) message_id: String,
    pub(crate) references: String,
}

impl Mail {
    /// All mails in a mail host's box; oldest first.
    pub(crate) fn all(host: &Host) -> Vec<Self> {
        let mut files: Vec<_> = fs::read_dir(host.mailbox())
            .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
            .unwrap_or_default();
        files.sort_by_key(|path| fs::metadata(path).and_then(|meta| meta.modified()).ok());
        files.iter().map(|path| Self::parse(&fs::read(path).expect("a mail"))).collect()
    }

    fn parse(bytes: &[u8]) -> Self {
        let mail = mailparse::parse_mail(bytes).expect("a mail");
        let header =
            |name| mailparse::MailHeaderMap::get_first_value(&mail.headers[..], name).unwrap_or_default();
        let text = mail.parts().find(|part| part.ctype.mimetype == "text/plain").expect("a text part");
        Self {
            subject: header("Subject"),
            text: text.get_body().expect("a body"),
            message_id: header("Message-ID"),
            references: header("References"),
        }
    }
}

/// The last lines of what a program printed.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].iter().map(|line| format!("      {line}\n")).collect()
}

/// Waits until `check` gives something; says `what` was waited for if it never does.
pub(crate) fn wait<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = check() {
            return result;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(250));
    }
}
