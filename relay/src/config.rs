//! The configuration files of the two programs, `relay.yml` and `consumer.yml`.
//!
//! `aesop` renders them from the inventory and parses the result with these very types before any
//! upload: two programs, one parser. Every struct denies unknown keys.

use crate::wire::Selection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `relay.yml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RelayConfig {
    /// The inventory's cluster name; the root of all znodes.
    pub cluster: String,
    /// This relay's name: its host's name in the inventory.
    pub id: String,
    /// `address:port` to accept consumers on.
    pub listen: String,
    /// `address:port` that consumers are told to connect to.
    pub advertise: String,
    /// `address:port` for `/metrics`, `/jolokia` and `/healthz`.
    pub http_listen: String,
    /// Directory of the event log.
    pub data_dir: PathBuf,
    /// How much of the past the event log keeps.
    #[serde(default)]
    pub retention: Retention,
    /// Where consumers find this relay. Without it the relay registers nowhere (tests, `tail`).
    #[serde(default)]
    pub zookeeper: Option<ZooKeeper>,
    /// What clients may take.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limits: Limits,
    /// The MySQL servers to read, by source name.
    pub sources: BTreeMap<String, Source>,
}

/// Bounds of what clients may take, so that one of them costs the others nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections at a time: the members of all groups times their sources, with room to spare. Each holds at most one
    /// block.
    pub connections: usize,
    /// Of these, connections from one address.
    pub connections_per_peer: usize,
    /// Seconds in which a client that is sent something may take nothing.
    pub stuck_secs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 512, connections_per_peer: 128, stuck_secs: 30 }
    }
}

/// Bounds of the event log, per source; whichever is reached first evicts whole segments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Bytes on disk.
    pub bytes: u64,
    /// Age of the newest transaction in a segment, seconds.
    pub age_secs: u64,
}

impl Default for Retention {
    fn default() -> Self {
        Self { bytes: 4 << 30, age_secs: 24 * 3600 }
    }
}

/// How to reach the ensemble.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZooKeeper {
    /// `host:port` of each server.
    pub servers: Vec<String>,
    /// Session timeout in milliseconds.
    #[serde(default = "default_session_timeout_ms")]
    pub session_timeout_ms: u64,
    /// A file with `user:password` for ZooKeeper's digest scheme. Nodes are then writable by this user only
    /// and readable by everyone; without it they are open.
    #[serde(default)]
    pub auth_file: Option<PathBuf>,
}

fn default_session_timeout_ms() -> u64 {
    10_000
}

/// One MySQL or MariaDB server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Connection.
    pub mysql: Mysql,
    /// Which tables: globs `database.table`, a leading `!` excludes; the last match wins; empty means all but
    /// the system schemas.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Columns left out of every row: `database.table.column`, globs allowed.
    #[serde(default)]
    pub exclude_columns: Vec<String>,
    /// Where an empty log begins when no group has a checkpoint yet: `earliest`, `latest`, a time, an SCN or a GTID set.
    #[serde(default = "default_start")]
    pub start: String,
    /// The most bytes of one row, its old and its new image together.
    #[serde(default = "default_max_row_bytes", skip_serializing_if = "is_default_max_row_bytes")]
    pub max_row_bytes: u64,
    /// What becomes of a row that has more.
    #[serde(default, skip_serializing_if = "is_default")]
    pub oversize: Oversize,
    /// What becomes of changes that were logged as statements, so that their rows are not known.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hidden_changes: HiddenChanges,
    /// Where names, keys and members come from.
    #[serde(default, skip_serializing_if = "is_default")]
    pub schema: SchemaFrom,
}

/// Where the names of columns, their keys and the members of ENUM and SET come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum SchemaFrom {
    /// The binlog, which has them with `binlog_row_metadata=FULL`; a server without it is refused.
    #[default]
    RowMetadata,
    /// `information_schema`, where the binlog does not have them, as far as it can be known that they held for a row.
    BestEffort,
}

/// What becomes of changes that were logged as statements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum HiddenChanges {
    /// The source stops there.
    #[default]
    Stop,
    /// They are counted, and warned of.
    LeaveOut,
}

/// Bytes of a row unless the source says otherwise: several copies of it are within the relay's memory.
pub const MAX_ROW_BYTES: u64 = 32 << 20;
/// The least and the most that `max_row_bytes` can be: more than any key, and what a block takes.
pub const MAX_ROW_BYTES_RANGE: std::ops::RangeInclusive<u64> = 64 << 10..=256 << 20;

fn default_max_row_bytes() -> u64 {
    MAX_ROW_BYTES
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's way to ask")]
fn is_default_max_row_bytes(bytes: &u64) -> bool {
    *bytes == MAX_ROW_BYTES
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What becomes of a row above `max_row_bytes`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum Oversize {
    /// The source stops there.
    #[default]
    Stop,
    /// Its key alone is passed on, marked, and counted.
    LeaveOut,
}

fn default_start() -> String {
    "earliest".to_owned()
}

/// Connection to a MySQL or MariaDB server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mysql {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    #[serde(default = "default_mysql_port")]
    pub port: u16,
    /// User; needs REPLICATION SLAVE and REPLICATION CLIENT (MariaDB: BINLOG MONITOR).
    pub user: String,
    /// A file holding the password; a final newline is not part of it.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// TLS.
    #[serde(default)]
    pub tls: Tls,
    /// PEM file with the authorities that `verify_ca` and `verify_identity` trust; without it those of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The `server_id` this relay replicates with; must differ from every other replica's.
    pub server_id: u32,
}

fn default_mysql_port() -> u16 {
    3306
}

/// How a connection to MySQL is secured; the words of `--ssl-mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tls {
    /// Plain.
    Disabled,
    /// TLS when the server offers it.
    #[default]
    Preferred,
    /// TLS, any certificate.
    Required,
    /// TLS, certificate signed by a known authority.
    VerifyCa,
    /// TLS, certificate signed by a known authority for this host name.
    VerifyIdentity,
}

/// `consumer.yml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumerConfig {
    /// The inventory's cluster name; the root of all znodes.
    pub cluster: String,
    /// The consumer group.
    pub group: String,
    /// This member's name: its host's name in the inventory.
    pub id: String,
    /// `address:port` for `/metrics`, `/jolokia` and `/healthz`.
    pub http_listen: String,
    /// Members, owners, assignment, checkpoints, relays.
    pub zookeeper: ZooKeeper,
    /// Number of partitions of the group. Fixed for the group's life.
    pub partitions: u32,
    /// Which sources, and where the group begins in each, once.
    pub sources: BTreeMap<String, ConsumedSource>,
    /// Where rows go.
    pub sink: Sink,
}

/// A source as a group reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsumedSource {
    /// Where a group that never ran begins: `earliest`, `latest`, a time, an SCN or a GTID set.
    #[serde(default = "default_start")]
    pub start: String,
    /// Which tables and columns of it.
    #[serde(default, skip_serializing_if = "Selection::is_all")]
    pub select: Selection,
}

/// Where rows go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// The Kafka sink.
    pub kafka: KafkaSink,
}

/// Rows to Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSink {
    /// `host:port` of some brokers.
    pub bootstrap: Vec<String>,
    /// TLS towards the brokers; none: plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<KafkaTls>,
    /// The user to be for the brokers; none: nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sasl: Option<KafkaSasl>,
    /// A minijinja template with `source`, `database`, `table`; one topic a result.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// JSON shape.
    #[serde(default)]
    pub format: Format,
    /// Kafka partitions of a topic this sink creates.
    #[serde(default = "default_topic_partitions")]
    pub topic_partitions: i32,
    /// Replication factor of a topic this sink creates; none takes the brokers' default.
    #[serde(default)]
    pub replication_factor: Option<i32>,
    /// `cleanup.policy` of a topic this sink creates; a delete is followed by a tombstone where it compacts.
    #[serde(default)]
    pub cleanup_policy: CleanupPolicy,
    /// Further producer settings, by librdkafka's names.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
}

/// TLS towards Kafka.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaTls {
    /// PEM file with the authorities to trust; none: those of the host.
    #[serde(default)]
    pub ca: Option<PathBuf>,
}

/// A user of Kafka.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaSasl {
    /// How the password is shown.
    pub mechanism: SaslMechanism,
    /// User.
    pub user: String,
    /// File with the password.
    pub password_file: PathBuf,
}

/// How a password is shown to Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaslMechanism {
    /// By a proof that does not tell it.
    #[serde(rename = "scram-sha-512")]
    ScramSha512,
    /// The same with a shorter hash.
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// As it is; inside TLS only.
    #[serde(rename = "plain")]
    Plain,
}

impl SaslMechanism {
    /// Kafka's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::Plain => "PLAIN",
        }
    }
}

fn default_topic() -> String {
    "{{ source }}.{{ database }}.{{ table }}".to_owned()
}

fn default_topic_partitions() -> i32 {
    6
}

/// Kafka's `cleanup.policy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CleanupPolicy {
    /// Old records go by age and size.
    #[default]
    Delete,
    /// The last record of each key stays.
    Compact,
}

/// The JSON shapes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The native shape: one object a row with `before` and `after`.
    #[default]
    Aesop,
    /// Debezium's envelope, without schema.
    Debezium,
    /// Maxwell's daemon.
    Maxwell,
    /// The first Aesop on Kafka.
    AesopV1,
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "aesop" => Ok(Self::Aesop),
            "debezium" => Ok(Self::Debezium),
            "maxwell" => Ok(Self::Maxwell),
            "aesop-v1" => Ok(Self::AesopV1),
            _ => Err("the formats are: aesop, debezium, maxwell, aesop-v1".to_owned()),
        }
    }
}
