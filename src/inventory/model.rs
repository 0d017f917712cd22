//! The validated inventory: what the rest of the program sees. Every default is filled in, every reference
//! resolved; the raw shapes of the YAML file live in `raw.rs`.

pub use super::extra::{Extra, ExtraArtifact, ExtraDirectory, ExtraFile, ExtraUnit, FileOrigin};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// One cluster.
#[derive(Clone, Debug)]
pub struct Inventory {
    /// Where it was read from.
    pub path: PathBuf,
    /// Cluster name; `[a-z0-9-]+`.
    pub cluster: String,
    /// Every host that carries a role or is declared under `hosts:`, by name. A role that lists a bare address
    /// makes a host of that name.
    pub hosts: BTreeMap<String, Host>,
    /// The ensemble.
    pub zookeeper: Option<ZooKeeperRole>,
    /// The brokers.
    pub kafka: Option<KafkaRole>,
    /// MySQL servers by source name.
    pub sources: BTreeMap<String, Source>,
    /// The relays.
    pub relays: Option<RelayRole>,
    /// Consumer groups by name.
    pub consumers: BTreeMap<String, ConsumerGroup>,
    /// Monitor hosts and what they send.
    pub monitor: Option<MonitorRole>,
    /// Where the hosts' Java comes from.
    pub java: Java,
    /// Jolokia's agent, where Maven does not bring it.
    pub jolokia: Option<FileOrigin>,
    /// Port of the agent on every host.
    pub agent_port: u16,
    /// What the user wants on hosts besides, by name.
    pub extras: BTreeMap<String, Extra>,
}

/// A host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Stable name; ids hang on it.
    pub name: String,
    /// Where services reach it.
    pub address: String,
    /// Rack, for replica placement.
    pub rack: Option<String>,
    /// How `aesop` reaches it.
    pub ssh: Ssh,
}

/// SSH settings; anything not given is left to `~/.ssh/config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Login user.
    pub user: Option<String>,
    /// Use sudo.
    pub become_root: bool,
    /// Port.
    pub port: Option<u16>,
    /// Private key.
    pub identity_file: Option<PathBuf>,
    /// Jump host, `user@host:port`.
    pub jump: Option<String>,
    /// `strict` (default), `accept_new`, or a known-hosts file of its own.
    pub known_hosts: KnownHosts,
    /// Password for sudo, where it asks for one.
    pub sudo_password: Option<SecretRef>,
}

impl Default for Ssh {
    /// What holds where nothing is given.
    fn default() -> Self {
        Self {
            user: None,
            become_root: true,
            port: None,
            identity_file: None,
            jump: None,
            known_hosts: KnownHosts::default(),
            sudo_password: None,
        }
    }
}

/// Host key policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KnownHosts {
    /// Unknown and changed keys are refused.
    #[default]
    Strict,
    /// Unknown keys are added, changed ones refused.
    AcceptNew,
    /// Strict, with this file instead of the user's.
    File(PathBuf),
}

/// Where a secret comes from; resolved on the controller, never printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; a final newline is not part of the secret.
    File(PathBuf),
    /// A command's standard output; argv.
    Command(Vec<String>),
    /// Made by aesop at first use and kept beside the inventory in `<inventory>.secrets/<name>`, mode 0600.
    Generated(String),
}

/// A member of a role: a host and what it overrides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Host name, a key of [`Inventory::hosts`].
    pub host: String,
    /// JVM heap, bytes; none: from host memory.
    pub heap: Option<u64>,
    /// Settings of the service itself, over the role's.
    pub config: BTreeMap<String, String>,
}

/// ZooKeeper.
#[derive(Clone, Debug)]
pub struct ZooKeeperRole {
    /// Version, in the pinned list or that of `artifact`.
    pub version: String,
    /// The project's own archive; none: jars from Maven.
    pub artifact: Option<FileOrigin>,
    /// The ensemble, in inventory order.
    pub members: Vec<Member>,
    /// Client port.
    pub client_port: u16,
    /// Follower port.
    pub peer_port: u16,
    /// Election port.
    pub election_port: u16,
    /// Jolokia's port on loopback.
    pub jolokia_port: u16,
    /// Data directory.
    pub data_dir: PathBuf,
    /// zoo.cfg settings over aesop's.
    pub config: BTreeMap<String, String>,
    /// Super user's password, for reconfig.
    pub super_password: SecretRef,
    /// Password of the user `aesop` that owns `/aesop`.
    pub aesop_password: SecretRef,
}

/// Kafka.
#[derive(Clone, Debug)]
pub struct KafkaRole {
    /// Version, in the pinned list or that of `artifact`.
    pub version: String,
    /// The project's own archive; none: jars from Maven.
    pub artifact: Option<FileOrigin>,
    /// KRaft or ZooKeeper.
    pub mode: KafkaMode,
    /// Brokers, in inventory order.
    pub members: Vec<Member>,
    /// Controllers, where the inventory names them; those that are brokers too are named alone.
    pub controllers: Option<Vec<Member>>,
    /// Listener for clients and brokers.
    pub port: u16,
    /// Controller listener.
    pub controller_port: u16,
    /// Jolokia's port on loopback.
    pub jolokia_port: u16,
    /// Log directories.
    pub data_dirs: Vec<PathBuf>,
    /// server.properties settings over aesop's.
    pub config: BTreeMap<String, String>,
    /// Partitions move by themselves when brokers come and go.
    pub rebalance: bool,
    /// Bytes a second at each broker for partitions that move.
    pub rebalance_throttle: u64,
    /// Listener for brokers among each other, with TLS.
    pub internal_port: u16,
    /// TLS; none: all is plain.
    pub tls: Option<KafkaTls>,
    /// Users; none: clients need no password.
    pub sasl: Option<KafkaSasl>,
}

impl KafkaRole {
    /// Whether a host has a broker.
    pub fn is_broker(&self, host: &str) -> bool {
        self.members.iter().any(|member| member.host == host)
    }

    /// Brokers, then the controllers that are none.
    pub fn nodes(&self) -> impl Iterator<Item = &Member> {
        let apart = self.controllers.iter().flatten().filter(|member| !self.is_broker(&member.host));
        self.members.iter().chain(apart)
    }
}

/// TLS of Kafka.
#[derive(Clone, Debug)]
pub struct KafkaTls {
    /// Whose certificates.
    pub authority: KafkaAuthority,
    /// How long one is good that aesop makes.
    pub valid: Duration,
    /// How long before its end it is renewed.
    pub renew: Duration,
}

/// Whose certificates Kafka's nodes show.
#[derive(Clone, Debug)]
pub enum KafkaAuthority {
    /// Made by an authority of aesop's own.
    Own,
    /// Made by aesop with the user's authority.
    Signs {
        /// Its certificate, PEM.
        certificate: String,
        /// The file it is from.
        path: PathBuf,
        /// The file with its key.
        key: PathBuf,
    },
    /// The user's.
    Given {
        /// The authorities to trust, PEM.
        trusted: String,
        /// The file they are from.
        path: PathBuf,
        /// Where `HOST.pem` lie.
        folder: PathBuf,
    },
}

/// Users of Kafka.
#[derive(Clone, Debug)]
pub struct KafkaSasl {
    /// Passwords by user; [`KafkaSasl::OWN`] is among them.
    pub users: BTreeMap<String, SecretRef>,
}

impl KafkaSasl {
    /// The user of the consumers.
    pub const OWN: &str = "aesop";
}

/// Where Kafka keeps its metadata.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KafkaMode {
    /// Its own controllers.
    #[default]
    Kraft,
    /// ZooKeeper, up to 3.9.
    ZooKeeper,
}

impl KafkaMode {
    /// The mode in which aesop runs a version: what can do without ZooKeeper does.
    pub fn of(version: &str) -> Self {
        if version.starts_with("3.") { Self::ZooKeeper } else { Self::Kraft }
    }
}

/// A MySQL or MariaDB server to read.
#[derive(Clone, Debug)]
pub struct Source {
    /// Connection.
    pub mysql: Mysql,
    /// Which tables.
    pub tables: Vec<String>,
    /// `columns.exclude`.
    pub exclude_columns: Vec<String>,
    /// Where a new group begins, once.
    pub start: String,
    /// The most bytes of one row.
    pub max_row_bytes: u64,
    /// What becomes of a row that has more.
    pub oversize: relay::config::Oversize,
    /// What becomes of changes that were logged as statements.
    pub hidden_changes: relay::config::HiddenChanges,
    /// Where names of columns come from.
    pub schema: relay::config::SchemaFrom,
}

/// Connection of a source.
#[derive(Clone, Debug)]
pub struct Mysql {
    /// Host as relays and monitor reach it.
    pub host: String,
    /// Port.
    pub port: u16,
    /// User.
    pub user: String,
    /// Password.
    pub password: Option<SecretRef>,
    /// TLS.
    pub tls: relay::config::Tls,
    /// The authorities to trust, PEM; none: those of the host.
    pub ca: Option<String>,
}

/// The relays.
#[derive(Clone, Debug)]
pub struct RelayRole {
    /// Hosts and which sources each serves (all, unless narrowed).
    pub members: Vec<RelayMember>,
    /// Port for consumers.
    pub port: u16,
    /// Loopback port for metrics.
    pub http_port: u16,
    /// Directory of the event log.
    pub data_dir: PathBuf,
    /// Bounds of the event log.
    pub retention: relay::config::Retention,
    /// What consumers may take.
    pub limits: relay::config::Limits,
}

/// A relay host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayMember {
    /// Host name.
    pub host: String,
    /// Sources it serves.
    pub sources: Vec<String>,
}

/// A consumer group.
#[derive(Clone, Debug)]
pub struct ConsumerGroup {
    /// Group name.
    pub name: String,
    /// Member hosts.
    pub hosts: Vec<String>,
    /// Sources it reads.
    pub sources: Vec<String>,
    /// Which tables and columns of them.
    pub select: relay::wire::Selection,
    /// Number of partitions, fixed for its life.
    pub partitions: u32,
    /// Loopback port for metrics; groups on one host need different ones.
    pub http_port: u16,
    /// Where rows go; `bootstrap`, TLS and user are filled in from the Kafka role when empty.
    pub sink: relay::config::KafkaSink,
    /// TLS towards brokers elsewhere.
    pub sink_tls: Option<SinkTls>,
    /// User of brokers elsewhere.
    pub sink_sasl: Option<SinkSasl>,
}

/// TLS towards brokers elsewhere.
#[derive(Clone, Debug)]
pub struct SinkTls {
    /// The authorities to trust, PEM; none: those of the host.
    pub ca: Option<String>,
}

/// A user of brokers elsewhere.
#[derive(Clone, Debug)]
pub struct SinkSasl {
    /// User.
    pub user: String,
    /// Password.
    pub password: SecretRef,
    /// How it is shown.
    pub mechanism: relay::config::SaslMechanism,
}

/// Monitor and mail.
#[derive(Clone, Debug)]
pub struct MonitorRole {
    /// Hosts.
    pub hosts: Vec<String>,
    /// Port of the status page.
    pub port: u16,
    /// How often agents are polled.
    pub interval: Duration,
    /// Mail; without it alerts are only shown.
    pub email: Option<Email>,
    /// Hourly lag mail.
    pub lag_report: LagReport,
    /// The users' rule file, read; none: built-in rules.
    pub rules: Option<String>,
    /// Token that agents ask for.
    pub agent_token: SecretRef,
}

/// Mail.
#[derive(Clone, Debug)]
pub struct Email {
    /// Server.
    pub smtp: Smtp,
    /// Sender.
    pub from: String,
    /// Recipients of alerts.
    pub to: Vec<String>,
}

/// An SMTP server.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Encryption.
    pub tls: SmtpTls,
    /// The authorities to trust, PEM; none: those of the host.
    pub ca: Option<String>,
    /// User, where it wants one.
    pub user: Option<String>,
    /// Password.
    pub password: Option<SecretRef>,
}

/// Encryption towards the SMTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// Plain; only for a server on a trusted network.
    None,
    /// STARTTLS, required.
    Starttls,
    /// TLS from the first byte.
    Implicit,
}

/// The hourly lag mail.
#[derive(Clone, Debug)]
pub struct LagReport {
    /// systemd OnCalendar expression (a cron line has been translated).
    pub on_calendar: String,
    /// Lag from which a partition is HIGH.
    pub high: Duration,
    /// Lag from which a partition is MEDIUM.
    pub medium: Duration,
    /// Recipients; none: those of alerts.
    pub to: Vec<String>,
}

/// Where Java comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Java {
    /// A Debian package, installed if missing.
    Package(String),
    /// A directory that is already there.
    Home(PathBuf),
}

impl Java {
    /// The distribution's own, whatever its version.
    pub const DISTRIBUTION: &str = super::defaults::JAVA_PACKAGE;
}
