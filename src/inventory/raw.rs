//! The inventory as it is written: serde's shapes of the YAML file, and the source of its JSON Schema. The rest of
//! the program sees only `model.rs`.
//!
//! No `flatten`, `untagged` or `tag`: serde loses the place of an error in them. What may take several shapes has
//! a visitor of its own (`value.rs`).

mod extra;

pub(super) use extra::{Extra, ExtraArtifact, ExtraDirectory, ExtraFile};

use super::defaults as d;
use super::value::{Bytes, Entry, Later, Scalar, SecretSource, Span, Word};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// An inventory of aesop: one file is one cluster.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "aesop inventory")]
pub(super) struct Raw {
    /// Name of the cluster: lower-case letters, digits and `-`. It names znodes and consumer groups and cannot change once the cluster is deployed.
    pub(super) cluster: String,
    /// How `aesop` reaches the hosts. What is not given is left to `~/.ssh/config`.
    pub(super) ssh: Option<Ssh>,
    /// What belongs to a host and not to a role, by host name. A role that lists an address needs no entry here.
    #[serde(default)]
    pub(super) hosts: BTreeMap<String, Host>,
    /// Where the hosts' Java comes from: a Debian package (`package`) or a directory that is there already (`home`).
    pub(super) java: Option<Java>,
    /// Jolokia's agent (`jolokia-agent-jvm-2.6.0-javaagent.jar`) from a file or an address, instead of Maven.
    pub(super) jolokia: Option<Artifact>,
    /// The agent that runs on every host.
    pub(super) agent: Option<Agent>,
    /// The ZooKeeper ensemble: members, owners and checkpoints of relays and consumers live in it.
    pub(super) zookeeper: Option<ZooKeeper>,
    /// The Kafka brokers.
    pub(super) kafka: Option<Kafka>,
    /// The MySQL and MariaDB servers to read, by a name of your choice.
    #[serde(default)]
    pub(super) sources: BTreeMap<String, Source>,
    /// The relays: they read the binlogs and serve them to the consumers.
    pub(super) relays: Option<Relays>,
    /// The consumer groups by name: they write to Kafka.
    #[serde(default)]
    pub(super) consumers: BTreeMap<String, Consumers>,
    /// Monitoring, alerts and the lag mail.
    pub(super) monitor: Option<Monitor>,
    /// Files, units, users and artifacts of your own, by a name of your choice; planned, applied and removed as
    /// everything else.
    #[serde(default)]
    pub(super) extras: BTreeMap<String, Extra>,
}

/// How `aesop` reaches a host.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ssh {
    /// Login user.
    pub(super) user: Option<String>,
    /// Whether to use sudo; needed unless the login user is root.
    #[schemars(extend("default" = d::BECOME))]
    pub(super) r#become: Option<bool>,
    /// Port of sshd.
    pub(super) port: Option<u16>,
    /// Private key; `~/` is the home of who calls `aesop`, relative paths start at the inventory.
    pub(super) identity_file: Option<String>,
    /// Jump host, `user@host:port`.
    pub(super) jump: Option<String>,
    /// `strict` refuses unknown and changed host keys, `accept_new` adds unknown ones, a path names a file to use strictly (relative ones start at the inventory).
    #[schemars(extend("default" = "strict"))]
    pub(super) known_hosts: Option<String>,
    /// Password for sudo, where sudo asks for one.
    pub(super) sudo_password: Option<SecretSource>,
}

/// A host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Host {
    /// IPv4 or IPv6 address or DNS name, as `aesop` and all other hosts reach it.
    pub(super) address: String,
    /// Rack or zone; replicas are spread over racks.
    pub(super) rack: Option<Word>,
    /// Overrides of `ssh` for this host.
    pub(super) ssh: Option<Ssh>,
}

/// Where Java comes from; one of the two keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Java {
    /// Debian package, installed where it is missing; the default is `openjdk-17-jre-headless` on Ubuntu 22.04.
    #[schemars(extend("default" = d::JAVA_PACKAGE))]
    pub(super) package: Option<String>,
    /// `JAVA_HOME` of a Java that is on the hosts already.
    pub(super) home: Option<String>,
}

/// A file that this machine has or fetches; one of `file` and `url`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Artifact {
    /// A file beside the inventory.
    pub(super) file: Option<String>,
    /// Where this machine fetches it; hosts need no internet.
    pub(super) url: Option<String>,
    /// SHA-512 in hexadecimal; needed with `url`.
    pub(super) sha512: Option<String>,
}

/// The agent of every host.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Agent {
    /// HTTPS port.
    #[schemars(extend("default" = d::AGENT_PORT))]
    pub(super) port: Option<u16>,
}

/// A ZooKeeper server.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ZooKeeperMember {
    /// Name from `hosts`, or address.
    pub(super) host: String,
    /// JVM heap of this host.
    pub(super) heap: Option<Bytes>,
    /// `zoo.cfg` settings of this host, over those of the role.
    #[serde(default)]
    pub(super) config: BTreeMap<String, Scalar>,
}

/// A Kafka broker.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KafkaMember {
    /// Name from `hosts`, or address.
    pub(super) host: String,
    /// JVM heap of this host.
    pub(super) heap: Option<Bytes>,
    /// `server.properties` settings of this host, over those of the role.
    #[serde(default)]
    pub(super) config: BTreeMap<String, Scalar>,
}

/// A relay.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RelayMember {
    /// Name from `hosts`, or address.
    pub(super) host: String,
    /// The sources that this relay serves, of those of the role.
    pub(super) sources: Option<Vec<String>>,
}

/// ZooKeeper.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ZooKeeper {
    /// Version.
    #[schemars(extend("default" = d::ZOOKEEPER_VERSION))]
    pub(super) version: Option<String>,
    /// The project's own archive (`apache-zookeeper-…-bin.tar.gz`) of that version, instead of the jars from Maven.
    pub(super) artifact: Option<Artifact>,
    /// The ensemble: addresses, names from `hosts`, or maps. Add a host by adding a line.
    pub(super) hosts: Vec<Entry<ZooKeeperMember>>,
    /// Port for clients.
    #[schemars(extend("default" = d::ZOOKEEPER_CLIENT_PORT))]
    pub(super) client_port: Option<u16>,
    /// Port of followers towards the leader.
    #[schemars(extend("default" = d::ZOOKEEPER_PEER_PORT))]
    pub(super) peer_port: Option<u16>,
    /// Port for elections.
    #[schemars(extend("default" = d::ZOOKEEPER_ELECTION_PORT))]
    pub(super) election_port: Option<u16>,
    /// Port of Jolokia (JMX as JSON), on loopback.
    #[schemars(extend("default" = d::ZOOKEEPER_JOLOKIA_PORT))]
    pub(super) jolokia_port: Option<u16>,
    /// Directory of snapshots and transaction logs.
    #[schemars(extend("default" = d::ZOOKEEPER_DATA_DIR))]
    pub(super) data_dir: Option<String>,
    /// JVM heap; without it an eighth of the host's memory.
    pub(super) heap: Option<Bytes>,
    /// `zoo.cfg` settings over those of aesop.
    #[serde(default)]
    pub(super) config: BTreeMap<String, Scalar>,
    /// Password of the super user, with which aesop changes the ensemble. Without it one is generated.
    pub(super) super_password: Option<SecretSource>,
    /// Password of the user `aesop`, who owns the znodes under `/aesop`. Without it one is generated.
    pub(super) aesop_password: Option<SecretSource>,
    /// TLS between servers and for clients. Not supported yet.
    pub(super) tls: Option<Later>,
}

/// Kafka.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kafka {
    /// Version.
    #[schemars(extend("default" = d::KAFKA_VERSION))]
    pub(super) version: Option<String>,
    /// The project's own archive (`kafka_2.13-….tgz`) of that version, instead of the jars from Maven.
    pub(super) artifact: Option<Artifact>,
    /// Where Kafka keeps its metadata, which its version decides: `kraft`, its own controllers, from 4.0 on; `zookeeper`, the ensemble of `zookeeper`, for 3.9. It may be left out.
    pub(super) mode: Option<KafkaMode>,
    /// The brokers: addresses, names from `hosts`, or maps. The first three become controllers too, unless `controllers` says otherwise.
    pub(super) hosts: Vec<Entry<KafkaMember>>,
    /// Port for clients and brokers.
    #[schemars(extend("default" = d::KAFKA_PORT))]
    pub(super) port: Option<u16>,
    /// Port of the controllers; not with Kafka 3.9.
    #[schemars(extend("default" = d::KAFKA_CONTROLLER_PORT))]
    pub(super) controller_port: Option<u16>,
    /// Port of brokers among each other, where `tls` is on.
    #[schemars(extend("default" = d::KAFKA_INTERNAL_PORT))]
    pub(super) internal_port: Option<u16>,
    /// Port of Jolokia (JMX as JSON), on loopback.
    #[schemars(extend("default" = d::KAFKA_JOLOKIA_PORT))]
    pub(super) jolokia_port: Option<u16>,
    /// Log directories; the first holds the metadata log.
    #[schemars(extend("default" = [d::KAFKA_DATA_DIR]))]
    pub(super) data_dirs: Option<Vec<String>>,
    /// JVM heap; without it a quarter of the host's memory: the rest is for the page cache.
    pub(super) heap: Option<Bytes>,
    /// `server.properties` settings over those of aesop.
    #[serde(default)]
    pub(super) config: BTreeMap<String, Scalar>,
    /// The controllers: an odd number of hosts, of those of `hosts` or apart from them; heap and settings of a host that is a broker too stand there. Without it the first three brokers (one, below three) of the first start, and others in place of those that leave. Not with Kafka 3.9, where any broker can be the controller.
    pub(super) controllers: Option<Vec<Entry<KafkaMember>>>,
    /// TLS for clients, brokers and controllers; `{}` makes certificates by an authority of aesop's own. It is for a new cluster, or for one that is stopped.
    pub(super) tls: Option<KafkaTls>,
    /// Passwords for clients (SCRAM-SHA-512); needs `tls`.
    pub(super) sasl: Option<KafkaSasl>,
    /// Whether partitions move by themselves: `auto` gives a new broker its share and empties one that leaves; `never` leaves them where they are.
    #[schemars(extend("default" = "auto"))]
    pub(super) rebalance: Option<Rebalance>,
    /// How many bytes a second each broker sends, and takes in, at most for partitions that move.
    #[schemars(extend("default" = d::REBALANCE_THROTTLE))]
    pub(super) rebalance_throttle: Option<Bytes>,
}

/// Whether partitions move by themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Rebalance {
    Auto,
    Never,
}

/// TLS of Kafka.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KafkaTls {
    /// PEM file with the authorities that brokers and clients trust; without it an authority of aesop's own, kept beside the inventory. Needs `ca_key` or `certificates`.
    pub(super) ca: Option<String>,
    /// PEM file, mode 0600, with the private key of the first certificate in `ca`: aesop makes the certificates with it.
    pub(super) ca_key: Option<String>,
    /// Folder with your own certificates: `HOST.pem` for each host, mode 0600, with its PKCS#8 key and its chain.
    pub(super) certificates: Option<String>,
    /// How long a certificate is good that aesop makes.
    #[schemars(extend("default" = d::KAFKA_TLS_VALID))]
    pub(super) valid: Option<Span>,
    /// How long before its end an apply renews it.
    #[schemars(extend("default" = d::KAFKA_TLS_RENEW))]
    pub(super) renew: Option<Span>,
}

/// Users of Kafka.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KafkaSasl {
    /// Password of the user `aesop`, with which the consumers write. Without it one is generated.
    pub(super) password: Option<SecretSource>,
    /// Further users and their passwords.
    #[serde(default)]
    pub(super) users: BTreeMap<String, SecretSource>,
}

/// Where Kafka keeps its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum KafkaMode {
    Kraft,
    ZooKeeper,
}

/// A MySQL or MariaDB server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Source {
    /// Connection.
    pub(super) mysql: Mysql,
    /// Which tables: `database.table` with `*` and `?`; a leading `!` excludes, and the last match wins. Without it all but the system schemas.
    #[serde(default)]
    pub(super) tables: Vec<String>,
    /// Which columns.
    pub(super) columns: Option<Columns>,
    /// Where a new consumer group begins, once: `earliest`, `latest`, a time like `2026-11-22T15:00:00Z`, an SCN or a GTID set. `snapshot` is not supported yet.
    #[schemars(extend("default" = d::START))]
    pub(super) start: Option<Word>,
    /// The most bytes of one row, its old and its new image together; 64 KiB to 256 MiB. A relay takes about five times
    /// as much memory for such a row; rows above it pass by in little memory, however large.
    #[schemars(extend("default" = d::MAX_ROW_BYTES))]
    pub(super) max_row_bytes: Option<Bytes>,
    /// What becomes of a row above `max_row_bytes`: the source stops there (`stop`), or its key alone is passed on, marked,
    /// counted and warned of (`leave_out`).
    #[schemars(extend("default" = "stop"))]
    pub(super) oversize: Option<Oversize>,
    /// What becomes of changes that a session logged as statements (`binlog_format` other than ROW), so that their rows are not
    /// known: the source stops there (`stop`), or they are counted and warned of (`leave_out`).
    #[schemars(extend("default" = "stop"))]
    pub(super) hidden_changes: Option<HiddenChanges>,
    /// Where names, keys and members of ENUM and SET come from: the binlog, of a server with `binlog_row_metadata=FULL`
    /// (`row_metadata`), or, where it does not have them, `information_schema` (`best_effort`): what cannot be known of a
    /// row then stops the source.
    #[schemars(extend("default" = "row_metadata"))]
    pub(super) schema: Option<SchemaFrom>,
}

/// Where names of columns come from.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SchemaFrom {
    RowMetadata,
    BestEffort,
}

/// What becomes of changes that were logged as statements.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HiddenChanges {
    Stop,
    LeaveOut,
}

/// What becomes of a row above `max_row_bytes`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Oversize {
    Stop,
    LeaveOut,
}

/// Which columns.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Columns {
    /// Columns left out of every row: `database.table.column` with `*` and `?`.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
}

/// Connection to a MySQL or MariaDB server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Mysql {
    /// Host name or address, as relays and monitor reach it.
    pub(super) host: String,
    /// Port.
    #[schemars(extend("default" = d::MYSQL_PORT))]
    pub(super) port: Option<u16>,
    /// User; needs REPLICATION SLAVE, REPLICATION CLIENT and SELECT.
    pub(super) user: String,
    /// Password.
    pub(super) password: Option<SecretSource>,
    /// TLS, in the words of `--ssl-mode`.
    #[schemars(extend("default" = "preferred"))]
    pub(super) tls: Option<MysqlTls>,
    /// PEM file with the authorities that `verify_ca` and `verify_identity` trust, from the inventory's folder; without
    /// it those of the host.
    pub(super) ca: Option<String>,
}

/// TLS towards MySQL.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MysqlTls {
    Disabled,
    Preferred,
    Required,
    VerifyCa,
    VerifyIdentity,
}

/// The relays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Relays {
    /// Addresses, names from `hosts`, or maps.
    pub(super) hosts: Vec<Entry<RelayMember>>,
    /// The sources that each relay serves; without it all.
    pub(super) sources: Option<Vec<String>>,
    /// Port for consumers.
    #[schemars(extend("default" = d::RELAY_PORT))]
    pub(super) port: Option<u16>,
    /// Port of `/metrics`, `/jolokia` and `/healthz`, on loopback.
    #[schemars(extend("default" = d::RELAY_HTTP_PORT))]
    pub(super) http_port: Option<u16>,
    /// Directory of the event log.
    #[schemars(extend("default" = d::RELAY_DATA_DIR))]
    pub(super) data_dir: Option<String>,
    /// How much of the past the event log keeps, per source; whichever is reached first.
    pub(super) retention: Option<Retention>,
    /// What consumers may take of each relay.
    #[serde(default)]
    pub(super) limits: RelayLimits,
}

/// Bounds of what consumers may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RelayLimits {
    /// Connections at a time: the members of all groups times their sources, with room to spare.
    #[schemars(extend("default" = 512))]
    pub(super) connections: Option<u32>,
    /// Of these, connections from one address.
    #[schemars(extend("default" = 128))]
    pub(super) connections_per_peer: Option<u32>,
    /// How long a consumer that is sent something may take nothing of it.
    #[schemars(extend("default" = "30s"))]
    pub(super) stuck: Option<Span>,
}

/// Bounds of the event log.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Retention {
    /// Bytes on disk.
    #[schemars(extend("default" = d::RETENTION_BYTES))]
    pub(super) bytes: Option<Bytes>,
    /// Age of a transaction.
    #[schemars(extend("default" = d::RETENTION_AGE))]
    pub(super) age: Option<Span>,
}

/// A consumer group.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Consumers {
    /// Member hosts: addresses or names from `hosts`. Add a member by adding a line.
    pub(super) hosts: Vec<String>,
    /// The sources that it reads; without it all.
    pub(super) sources: Option<Vec<String>>,
    /// Which tables of them: `database.table` with `*` and `?`; a leading `!` excludes, and the last match wins. Without it
    /// all that the source has. The relay sends no others.
    #[serde(default)]
    pub(super) tables: Vec<String>,
    /// Which columns. The relay sends no others.
    pub(super) columns: Option<GroupColumns>,
    /// Number of partitions, shared out over the members. Cannot change once the group has run.
    #[schemars(extend("default" = d::PARTITIONS), range(min = 1, max = d::PARTITIONS_MAX))]
    pub(super) partitions: Option<u32>,
    /// Port of `/metrics`, `/jolokia` and `/healthz`, on loopback; groups that share a host need different ones.
    #[schemars(extend("default" = d::CONSUMER_HTTP_PORT))]
    pub(super) http_port: Option<u16>,
    /// Where rows go.
    pub(super) sink: Option<Sink>,
    /// `at_least_once`. `exactly_once` is not supported yet.
    #[schemars(extend("default" = "at_least_once"))]
    pub(super) delivery: Option<Delivery>,
}

/// Which columns a group gets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupColumns {
    /// `database.table.column` with `*` and `?`: a table that one of these names has these columns only, and its key.
    #[serde(default)]
    pub(super) include: Vec<String>,
    /// Columns left out, as long as they are not part of the key: `database.table.column` with `*` and `?`.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
}

/// What a crash may do to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

/// Where rows go.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Sink {
    /// Kafka.
    pub(super) kafka: Option<KafkaSink>,
}

/// Rows to Kafka.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KafkaSink {
    /// `host:port` of brokers that are not in this inventory; without it those of `kafka`.
    #[serde(default)]
    pub(super) bootstrap: Vec<String>,
    /// TLS towards the brokers of `bootstrap`; those of `kafka` are reached as it says there.
    pub(super) tls: Option<SinkTls>,
    /// User and password for the brokers of `bootstrap`; needs `tls`.
    pub(super) sasl: Option<SinkSasl>,
    /// Topic of a row, a template with `source`, `database` and `table`.
    #[schemars(extend("default" = d::TOPIC))]
    pub(super) topic: Option<String>,
    /// Shape of the JSON (docs/formats.md).
    #[schemars(extend("default" = "aesop"))]
    pub(super) format: Option<Format>,
    /// Kafka partitions of a topic that the sink creates.
    #[schemars(extend("default" = d::TOPIC_PARTITIONS))]
    pub(super) topic_partitions: Option<u16>,
    /// Replication factor of a topic that the sink creates; without it the default of the brokers. With it, topics keep theirs
    /// when more brokers raise that default.
    pub(super) replication_factor: Option<u16>,
    /// `cleanup.policy` of a topic that the sink creates; where it compacts, a delete is followed by a tombstone.
    #[schemars(extend("default" = "delete"))]
    pub(super) cleanup_policy: Option<CleanupPolicy>,
    /// Producer settings by librdkafka's names, over those of aesop.
    #[serde(default)]
    pub(super) config: BTreeMap<String, Scalar>,
}

/// TLS towards brokers elsewhere.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkTls {
    /// PEM file with the authorities to trust, from the inventory's folder; without it those of the host.
    pub(super) ca: Option<String>,
}

/// A user of brokers elsewhere.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SinkSasl {
    /// User.
    pub(super) user: String,
    /// Password.
    pub(super) password: SecretSource,
    /// How the password is shown.
    #[schemars(extend("default" = "scram-sha-512"))]
    pub(super) mechanism: Option<SaslMechanism>,
}

/// How a password is shown.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SaslMechanism {
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    Plain,
}

/// Kafka's `cleanup.policy`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CleanupPolicy {
    Delete,
    Compact,
}

/// Shapes of the JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Format {
    Aesop,
    Debezium,
    Maxwell,
    AesopV1,
}

/// Monitoring.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Monitor {
    /// Hosts that watch the others: addresses or names from `hosts`.
    pub(super) hosts: Vec<String>,
    /// Port of the status page.
    #[schemars(extend("default" = d::MONITOR_PORT))]
    pub(super) port: Option<u16>,
    /// How often every agent is polled.
    #[schemars(extend("default" = d::MONITOR_INTERVAL))]
    pub(super) interval: Option<Span>,
    /// Mail. Without it alerts are only shown.
    pub(super) email: Option<Email>,
    /// The regular mail that says how far each partition is behind.
    pub(super) lag_report: Option<LagReport>,
    /// File with your own rules, beside the inventory; the built-in rules apply without it.
    pub(super) rules: Option<String>,
    /// Your own checks. Not supported yet.
    pub(super) checks: Option<Later>,
    /// Token that agents ask for. Without it one is generated.
    pub(super) agent_token: Option<SecretSource>,
}

/// Mail.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Email {
    /// The server that takes the mails.
    pub(super) smtp: Smtp,
    /// Sender.
    pub(super) from: String,
    /// Recipients of alerts.
    pub(super) to: Vec<String>,
}

/// An SMTP server.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Smtp {
    /// Host name or address.
    pub(super) host: String,
    /// Port; by `tls`: 587 for `starttls`, 465 for `implicit`, 25 for `none`.
    pub(super) port: Option<u16>,
    /// `starttls` (required, never skipped), `implicit` or `none`.
    #[schemars(extend("default" = "starttls"))]
    pub(super) tls: Option<SmtpTls>,
    /// PEM file with the authorities to trust, from the inventory's folder; without it those of the host.
    pub(super) ca: Option<String>,
    /// User, where the server wants one.
    pub(super) user: Option<String>,
    /// Password of this user.
    pub(super) password: Option<SecretSource>,
}

/// Encryption towards the SMTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SmtpTls {
    None,
    Starttls,
    Implicit,
}

/// The lag mail.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LagReport {
    /// When: a systemd OnCalendar expression or a five-field cron line.
    #[schemars(extend("default" = d::LAG_SCHEDULE))]
    pub(super) schedule: Option<String>,
    /// Time zone of the schedule, as in `Europe/Berlin`; without it that of the monitor host.
    pub(super) timezone: Option<String>,
    /// Lag from which a partition is HIGH.
    #[schemars(extend("default" = d::LAG_HIGH))]
    pub(super) high: Option<Span>,
    /// Lag from which a partition is MEDIUM.
    #[schemars(extend("default" = d::LAG_MEDIUM))]
    pub(super) medium: Option<Span>,
    /// Recipients; without it those of alerts.
    #[serde(default)]
    pub(super) to: Vec<String>,
}
