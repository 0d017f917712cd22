//! Kafka with TLS and passwords, deployed from an inventory: rows flow, strangers stay out, certificates are renewed
//! under load, and it can be turned off again.

use crate::client;
use crate::cluster::{PATIENCE, Said, wait};
use crate::load::{TOPIC, Writer};
use crate::program;
use crate::secrets::{self, Watch};
use aesop::lab::shop::{self, Server};
use aesop::lab::{self, Host, HostKind, HostSpec, Lab, LabSpec, Sudo};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use tempfile::TempDir;

const BROKERS: [&str; 3] = ["k1", "k2", "k3"];
/// Apart from the brokers.
const CONTROLLER: &str = "k4";
/// Found nowhere but in files that their user alone can read.
const PASSWORD: &str = "reader-sentinel-1";
const NEXT_PASSWORD: &str = "reader-sentinel-2";
const SOURCE_PASSWORD: &str = "source-sentinel-1";
const SMTP_PASSWORD: &str = "smtp-sentinel-1";
/// Where rows of the shop's orders go.
const ORDERS: &str = "shop.shop.orders";

struct Secure {
    lab: Lab,
    dir: TempDir,
    said: std::cell::RefCell<String>,
}

impl Secure {
    fn boot() -> Self {
        let spec = LabSpec::new(format!("secure-{}", std::process::id()));
        // On one of them sudo asks.
        let sudo = |name| if name == BROKERS[0] { Sudo::Password } else { Sudo::Passwordless };
        let spec = Self::nodes().fold(spec, |spec, name| spec.host(HostSpec::new(name).sudo(sudo(name))));
        let spec = spec.host(HostSpec::new("db1").kind(HostKind::MariaDb));
        let lab = Lab::create(&spec, &|_| ()).expect("the lab boots");
        let dir = TempDir::new().expect("a temporary folder");
        Self { lab, dir, said: std::cell::RefCell::default() }
    }

    /// Brokers and the controller.
    fn nodes() -> impl Iterator<Item = &'static str> {
        BROKERS.into_iter().chain([CONTROLLER])
    }

    fn host(&self, name: &str) -> Host {
        self.lab.host(name).expect("a host of the lab")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn bootstrap(&self, port: u16) -> String {
        BROKERS.map(|name| format!("{}:{port}", self.host(name).address())).join(",")
    }

    fn database(&self) -> Server {
        Server {
            host: self.host("db1").address().to_string(),
            port: lab::DATABASE_PORT,
            user: lab::DATABASE_USER.to_owned(),
            password: self.lab.password().to_owned(),
        }
    }

    /// A file that only its owner can read.
    fn secret(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).expect("its mode");
    }

    /// Writes the inventory with these lines under `kafka`.
    fn write(&self, kafka: &str) {
        let address = |name: &str| self.host(name).address();
        // Also where sudo does not ask for it.
        let ssh = "ssh: {sudo_password: {file: sudo.password}}";
        let hosts: String =
            Self::nodes().map(|name| format!("  {name}: {{address: {}, {ssh}}}\n", address(name))).collect();
        let text = format!(
            "cluster: secure
ssh: {{user: deploy, identity_file: {key}, known_hosts: {known}}}
hosts:
{hosts}
zookeeper: {{hosts: [{{host: k1, heap: 96m}}]}}
kafka:
  hosts: [k1, k2, k3]
  controllers: [{CONTROLLER}]
  heap: 320m
{kafka}
sources:
  shop:
    mysql: {{host: {database}, user: aesop, password: {{file: database.password}}}}
    tables: [\"shop.*\"]
relays: {{hosts: [k1]}}
consumers:
  kafka-json: {{hosts: [k2], sources: [shop], partitions: 4}}
monitor:
  hosts: [k3]
  email:
    smtp: {{host: {database}, port: 587, tls: starttls, user: aesop, password: {{file: smtp.password}}}}
    from: aesop@secure.example
    to: [ops@secure.example]
",
            key = self.lab.ssh_key().display(),
            known = self.lab.known_hosts().display(),
            database = address("db1"),
        );
        fs::write(self.path("secure.yml"), text).expect("the inventory is written");
    }

    fn aesop(&self, args: &[&str]) -> (Option<i32>, Said) {
        let output = program::aesop(&self.path("secure.yml"), args);
        let code = output.status.code();
        let said = Said::from(output);
        *self.said.borrow_mut() += &format!("{}{}", said.stdout, said.stderr);
        (code, said)
    }

    /// Applies; afterwards there is nothing left to do.
    fn apply(&self, kafka: &str) -> Said {
        self.write(kafka);
        program::apply(|args| self.aesop(args))
    }

    fn pids(&self) -> Vec<String> {
        let show = ["systemctl", "show", "-P", "MainPID", "aesop-kafka"];
        BROKERS.iter().map(|name| self.host(name).run(&show).expect("systemd answers")).collect()
    }

    /// librdkafka's settings of a client that trusts the cluster's authority, with this password.
    fn client(&self, password: &str) -> Vec<(String, String)> {
        client::reader(&self.path("secure.secrets/kafka-tls/ca.crt").display().to_string(), password)
    }

    /// A foreign client.
    fn kcat(&self, port: u16, settings: &[(String, String)], args: &[&str]) -> Output {
        let config: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
        self.secret("kcat.conf", &config);
        Command::new("timeout")
            .args(["60", "kcat", "-F"])
            .arg(self.path("kcat.conf"))
            .args(["-b", &self.bootstrap(port), "-m", "3"])
            .args(args)
            .output()
            .expect("kcat runs")
    }

    /// Whether a client is let in.
    fn is_let_in(&self, port: u16, settings: &[(String, String)]) -> bool {
        let output = self.kcat(port, settings, &["-L", "-J"]);
        output.status.success() && String::from_utf8_lossy(&output.stdout).contains("\"brokers\":[{")
    }

    /// When the certificate ends that a broker, or the controller, shows, and whose it is.
    fn shown(&self, name: &str) -> String {
        let port = if name == CONTROLLER { 9093 } else { 9092 };
        let address = format!("{}:{port}", self.host(name).address());
        let script = format!(
            "openssl s_client -connect {address} </dev/null 2>/dev/null | openssl x509 -noout -enddate -subject"
        );
        let output = Command::new("sh").args(["-c", &script]).output().expect("openssl runs");
        String::from_utf8(output.stdout).expect("a date")
    }

    /// Writes into the shop and waits until a foreign client has read as many orders as were sold.
    fn sell(&self, settings: &[(String, String)], from: u64, count: u64) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let mut conn = self.database().connect().await.expect("the database answers");
            for n in from..from + count {
                shop::step(&mut conn, n).await.expect("a step of the traffic");
            }
        });
        let orders = usize::try_from(from + count).expect("a number");
        wait("the orders", || {
            let read = self.kcat(9092, settings, &["-C", "-t", ORDERS, "-o", "beginning", "-e", "-q"]);
            let text = String::from_utf8_lossy(&read.stdout);
            let inserts = text.lines().filter(|line| line.contains("\"op\":\"insert\"")).count();
            (inserts >= orders).then_some(())
        });
    }
}

/// The whole story.
pub(crate) fn kafka_with_tls_and_passwords() {
    let started = std::time::Instant::now();
    let at = |what: &str| eprintln!("    {what} after {:.0} s", started.elapsed().as_secs_f64());
    let secure = Secure::boot();
    secure.secret("reader.password", PASSWORD);
    secure.secret("database.password", SOURCE_PASSWORD);
    secure.secret("smtp.password", SMTP_PASSWORD);
    secure.secret("sudo.password", secure.lab.password());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        shop::create(&secure.database()).await.expect("the shop opens");
        shop::create_reader(&secure.database(), "aesop", SOURCE_PASSWORD).await.expect("the reader is made");
    });
    let with =
        |tls: &str| format!("  tls: {{{tls}}}\n  sasl: {{users: {{reader: {{file: reader.password}}}}}}");
    let watch = Watch::start();
    secure.apply(&with("valid: 10d, renew: 1d"));
    let reader = secure.client(PASSWORD);
    secure.sell(&reader, 0, 30);
    at("rows");
    strangers_stay_out(&secure);
    at("strangers");
    let theirs = with("ca: theirs/ca.crt, certificates: theirs");
    certificates_are_renewed_under_load(
        &secure,
        &with("ca: theirs/ca.crt, ca_key: theirs/ca.key, valid: 20d, renew: 15d"),
        &theirs,
    );
    at("renewed");
    a_password_changes_without_a_restart(&secure, &theirs);
    nothing_tells_a_secret(&secure, watch);
    the_agent_reads_the_certificate(&secure);
    at("passwords");
    it_is_turned_off_while_kafka_stands(&secure);
    at("plain");
    secure.lab.down().expect("the lab goes");
}

fn strangers_stay_out(secure: &Secure) {
    let reader = secure.client(PASSWORD);
    assert!(secure.is_let_in(9092, &reader));
    assert!(!secure.is_let_in(9092, &[]), "plain");
    assert!(!secure.is_let_in(9092, &secure.client("guessed")), "another password");
    let only_tls = vec![("security.protocol".to_owned(), "ssl".to_owned()), reader[1].clone()];
    assert!(!secure.is_let_in(9092, &only_tls), "no password");
    assert!(!secure.is_let_in(9094, &only_tls), "no certificate among the brokers");
    assert!(!secure.is_let_in(9094, &reader), "a password among the brokers");
    let untrusting: Vec<_> = reader.iter().filter(|(name, _)| name != "ssl.ca.location").cloned().collect();
    assert!(!secure.is_let_in(9092, &untrusting), "a client that knows nothing of this authority");
    for name in BROKERS {
        let listens = secure.host(name).run(&["cat", "/etc/aesop/kafka/server.properties"]).expect("a file");
        assert!(!listens.contains("PLAINTEXT"), "{listens}");
    }
}

/// The authority of aesop's own, as if it were the user's: what is made with its key, and what the user makes.
fn they_take_the_authority(secure: &Secure) {
    fs::create_dir(secure.path("theirs")).expect("a folder");
    for file in ["ca.crt", "ca.key"] {
        let text =
            fs::read_to_string(secure.path("secure.secrets/kafka-tls").join(file)).expect("an authority");
        secure.secret(&format!("theirs/{file}"), &text);
    }
    for name in Secure::nodes() {
        let script = format!(
            "cd \"$0\" && umask 077 && printf 'subjectAltName=IP:{address}\\nextendedKeyUsage=serverAuth,clientAuth\\nbasicConstraints=CA:FALSE\\n' >ext &&
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key -subj /CN=their-{name} -out csr &&
openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 60 -extfile ext -out crt && cat key crt >{name}.pem",
            address = secure.host(name).address(),
        );
        let made = Command::new("sh").args(["-c", &script]).arg(secure.path("theirs")).output();
        let made = made.expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    }
}

/// All nodes show other certificates than before; gives what they show.
fn renewed(secure: &Secure, before: &[String]) -> Vec<String> {
    let after: Vec<String> = Secure::nodes().map(|name| secure.shown(name)).collect();
    for (before, after) in before.iter().zip(&after) {
        assert!(after.starts_with("notAfter=") && before != after, "{before} {after}");
    }
    after
}

/// First by aesop with the key that it is given, then the user gives certificates of their own.
fn certificates_are_renewed_under_load(secure: &Secure, renewing: &str, theirs: &str) {
    let reader = secure.client(PASSWORD);
    let made = secure.kcat(9092, &reader, &["-L", "-t", TOPIC]);
    assert!(made.status.success(), "{made:?}");
    create_topic(secure, &reader);
    let writer = Writer::start_with(&secure.bootstrap(9092), reader.clone());
    wait("records", || (writer.acknowledged() > 50).then_some(()));
    let before: Vec<String> = Secure::nodes().map(|name| secure.shown(name)).collect();
    assert!(before.iter().all(|date| date.starts_with("notAfter=")), "{before:?}");
    they_take_the_authority(secure);
    secure.write(renewing);
    let (code, plan) = secure.aesop(&["plan", "--exit-code"]);
    assert_eq!(code, Some(3), "{}\n{}", plan.stdout, plan.stderr);
    for name in Secure::nodes() {
        let note = format!("{name}: the certificate of its broker ends on ");
        assert!(plan.stdout.contains(&note), "{}", plan.stdout);
    }
    let applied = secure.apply(renewing);
    assert!(!applied.stdout.contains("BEGIN"), "{}", applied.stdout);
    let after = renewed(secure, &before);
    secure.apply(theirs);
    let after = renewed(secure, &after);
    assert!(after.iter().all(|shown| shown.contains("their-")), "{after:?}");
    let records = writer.acknowledged();
    wait("records after it", || (writer.acknowledged() > records + 50).then_some(()));
    writer.settle();
}

fn create_topic(secure: &Secure, settings: &[(String, String)]) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let mut config: rdkafka::ClientConfig = settings.iter().cloned().collect();
    let admin: AdminClient<rdkafka::client::DefaultClientContext> =
        config.set("bootstrap.servers", secure.bootstrap(9092)).create().expect("an admin client");
    let topic = NewTopic::new(TOPIC, 6, TopicReplication::Fixed(3));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(admin.create_topics([&topic], &options))
        .expect("the cluster answers");
    assert!(made.iter().all(Result::is_ok), "{made:?}");
}

fn a_password_changes_without_a_restart(secure: &Secure, kafka: &str) {
    let before = secure.pids();
    secure.secret("reader.password", NEXT_PASSWORD);
    secure.apply(kafka);
    assert_eq!(secure.pids(), before);
    // Brokers take it in from their metadata, a moment later than it was acknowledged.
    wait("the new password", || secure.is_let_in(9092, &secure.client(NEXT_PASSWORD)).then_some(()));
    wait("the old password's end", || (!secure.is_let_in(9092, &secure.client(PASSWORD))).then_some(()));
    secure.sell(&secure.client(NEXT_PASSWORD), 30, 30);
}

fn nothing_tells_a_secret(secure: &Secure, watch: Watch) {
    let given = [PASSWORD, NEXT_PASSWORD, SOURCE_PASSWORD, SMTP_PASSWORD, secure.lab.password()];
    let mut all = given.map(str::to_owned).to_vec();
    let generated = secrets::generated(&secure.path("secure.secrets"));
    // Two of ZooKeeper, one of Kafka, the agents' token, and keys of two authorities.
    assert!(generated.len() > 6, "{}", generated.len());
    all.extend(generated);
    watch.saw_none_of(&all);
    secrets::is_not_told(&secure.said.borrow(), &all, "an output");
    secrets::are_closed_here(secure.dir.path(), &all);
    for name in Secure::nodes() {
        secrets::are_readable_by_their_owners_only(&secure.host(name), &all);
    }
    let modes = "stat -c '%a %U %n' /etc/aesop/secrets/kafka.pem /etc/aesop/secrets/kafka-users";
    let modes = secure.host("k1").run(&["sh", "-c", modes]).expect("modes");
    assert!(modes.contains("600 kafka") && modes.contains("600 root"), "{modes}");
}

fn the_agent_reads_the_certificate(secure: &Secure) {
    let (_, said) = secure.aesop(&["probe", "--on", "k1"]);
    let line = said.stdout.lines().find(|line| line.contains("certificate_seconds_left"));
    assert!(line.is_some_and(|line| line.contains("ends on")), "{}", said.stdout);
}

/// Node by node it would fall apart: refused while it runs, done where it stands still.
fn it_is_turned_off_while_kafka_stands(secure: &Secure) {
    secure.write("");
    let (code, said) = secure.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("Stop all of it (`aesop stop kafka`)"), "{}", said.stderr);
    if std::env::var_os("AESOP_LONG").is_none() {
        eprintln!("    the switch itself is left to make test-long");
        return;
    }
    let (code, said) = secure.aesop(&["stop", "kafka", "--yes"]);
    assert_eq!(code, Some(0), "{}\n{}", said.stdout, said.stderr);
    secure.apply("");
    assert!(secure.is_let_in(9092, &[]));
    secure.sell(&[], 60, 30);
}
