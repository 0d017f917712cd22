//! What a host should look like: plain values, compared with what was observed by `plan`.

use crate::inventory::model::KafkaMode;
use crate::kafka::raise::Raise;
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Parts of a host in the order in which they are brought up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// What every host has: directories, users, Java, kernel settings, aesop itself.
    Base,
    /// ZooKeeper.
    ZooKeeper,
    /// Kafka.
    Kafka,
    /// A relay.
    Relay,
    /// A member of a consumer group.
    Consumer,
    /// The agent that probes its host.
    Agent,
    /// The monitor and the lag report.
    Monitor,
    /// Files and units of the user's own.
    Extra,
}

impl Role {
    /// Members restart one at a time.
    pub fn rolling(self) -> bool {
        matches!(self, Self::ZooKeeper | Self::Kafka | Self::Relay | Self::Consumer)
    }

    /// A restart of one member is followed by the ready test of all: they form a quorum.
    pub fn gates_all_members(self) -> bool {
        matches!(self, Self::ZooKeeper | Self::Kafka)
    }

    /// A member that runs and was never ready is started again by the next apply: what it found when it started may
    /// have been mended since. Not ZooKeeper and Kafka, which may be long at reading their logs: they are waited for.
    pub fn starts_again_when_unready(self) -> bool {
        !matches!(self, Self::ZooKeeper | Self::Kafka)
    }

    /// Roles without which this one cannot become ready, whatever the inventory says.
    fn needs(self) -> &'static [Self] {
        match self {
            Self::Base | Self::ZooKeeper | Self::Kafka | Self::Agent | Self::Monitor | Self::Extra => &[],
            Self::Relay => &[Self::ZooKeeper],
            Self::Consumer => &[Self::ZooKeeper, Self::Kafka],
        }
    }

    /// The word of the inventory's selection (`@kafka`) and of tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::ZooKeeper => "zookeeper",
            Self::Kafka => "kafka",
            Self::Relay => "relay",
            Self::Consumer => "consumer",
            Self::Agent => "agent",
            Self::Monitor => "monitor",
            Self::Extra => "extra",
        }
    }
}

impl std::str::FromStr for Role {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        let all = [
            Self::Base,
            Self::ZooKeeper,
            Self::Kafka,
            Self::Relay,
            Self::Consumer,
            Self::Agent,
            Self::Monitor,
            Self::Extra,
        ];
        all.into_iter().find(|role| role.word() == word).ok_or(())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Everything that the inventory wants of one host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct HostState {
    /// By role, in the order in which they are brought up.
    pub parts: Vec<Part>,
    /// The `java` that JVMs run with, where there are any.
    pub java: Option<String>,
}

/// What one role wants of a host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The role.
    pub role: Role,
    /// `kafka`, `consumer/kafka-json`: what tables, alerts and downtimes call it.
    pub service: String,
    /// Debian packages.
    pub packages: Vec<Package>,
    /// System users, each with a group of its own name.
    pub users: Vec<User>,
    /// Directories, parents first.
    pub directories: Vec<Directory>,
    /// Ports that it listens on.
    pub ports: Vec<u16>,
    /// Artifacts that must be in the host's store.
    pub artifacts: Vec<ArtifactRef>,
    /// Symbolic links.
    pub links: Vec<Link>,
    /// Files.
    pub files: Vec<File>,
    /// A step done once, before the first start.
    pub init: Option<Init>,
    /// Units.
    pub units: Vec<Unit>,
    /// When the part counts as ready.
    pub gate: Option<Gate>,
    /// When it may be stopped, and whose turn it is; for members of a quorum.
    pub turn: Option<Turn>,
    /// Its place in the Kafka cluster, where it is a node of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broker: Option<KafkaMember>,
    /// Its place in ZooKeeper's ensemble. Not in snapshots: members come and go by the inventory, not by a rollback.
    #[serde(skip)]
    pub ensemble: Option<EnsembleMember>,
}

/// A node's place in its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaMember {
    /// `node.id`.
    pub id: i32,
    /// Where aesop administers it: `host:port`, with `ssl://` before it where it speaks TLS; none where it is no broker.
    pub address: Option<String>,
    /// Where the cluster keeps its metadata.
    #[serde(default)]
    pub mode: KafkaMode,
    /// Its rack.
    pub rack: Option<String>,
    /// `host:port` as a controller; none for a broker alone.
    pub controller: Option<String>,
    /// Ids of brokers that were taken out of the inventory, with their hosts.
    pub retired: BTreeMap<i32, String>,
    /// Partitions move by themselves.
    pub rebalance: bool,
    /// Bytes a second at each broker for partitions that move.
    pub throttle: u64,
    /// Somebody has said that its data is gone for good, and that it may begin anew.
    #[serde(skip)]
    pub lost_disk: bool,
    /// Hosts that somebody has given up with all that nobody else has.
    #[serde(skip)]
    pub given_up: BTreeSet<String>,
    /// By the lock file the first controllers may not all have been up yet.
    #[serde(skip)]
    pub forming: bool,
    /// There are more brokers than the defaults were made for, and topics have not followed yet.
    #[serde(skip)]
    pub raise: Option<Raise>,
}

/// A member that ZooKeeper's ensemble should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnsembleMember {
    /// Its `myid`.
    pub id: u32,
    /// `10.0.0.11:2888:3888:participant;2181`.
    pub server: String,
    /// Its data directory.
    pub data_dir: String,
    /// File with the super user's password, on its host.
    pub super_file: String,
    /// By the lock file it has been ready before, and nobody said since that its disk is lost.
    pub deployed: bool,
    /// By the lock file some member has.
    pub lived: bool,
}

/// How long a member waits for the others to be in sync before it is left alone: its neighbours passed their ready
/// tests just before, so what is missing now will not come by itself.
pub(super) const STOP_GATE_SECS: u64 = 60;

/// How a running member of a quorum is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// When it may stop.
    pub stop: Gate,
    /// Arguments of `aesop turn`, which ranks the members that are still to restart.
    pub rank: Vec<String>,
    /// The order in words, for the plan.
    pub order: String,
}

impl Part {
    /// Roles without which it cannot become ready.
    pub fn needs(&self) -> &'static [Role] {
        match &self.broker {
            Some(KafkaMember { mode: KafkaMode::ZooKeeper, .. }) => &[Role::ZooKeeper],
            _ => self.role.needs(),
        }
    }

    /// A part without anything in it yet.
    pub fn new(role: Role, service: impl Into<String>) -> Self {
        Self {
            role,
            service: service.into(),
            packages: Vec::new(),
            users: Vec::new(),
            directories: Vec::new(),
            ports: Vec::new(),
            artifacts: Vec::new(),
            links: Vec::new(),
            files: Vec::new(),
            init: None,
            units: Vec::new(),
            gate: None,
            turn: None,
            broker: None,
            ensemble: None,
        }
    }
}

/// A Debian package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its name on systems (`ubuntu 22.04`) where another is meant.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub other: BTreeMap<String, String>,
    /// Where this is there already, somebody else provides it, and nothing is installed.
    pub unless: String,
}

impl Package {
    /// Its name on a system.
    pub fn on(&self, os: &str) -> &str {
        self.other.get(os).unwrap_or(&self.name)
    }
}

/// A system user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Name of user and group.
    pub name: String,
    /// Home directory; not created by the user's creation.
    pub home: String,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
}

/// An artifact by content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ArtifactRef {
    /// `kafka-4.2.0`, `aesop-relay`.
    pub name: String,
    /// Hash of its content; the name of its directory on the host.
    pub id: String,
}

impl ArtifactRef {
    /// Its directory on a host.
    pub fn directory(&self) -> String {
        format!("{}/{}", super::paths::ARTIFACTS, self.id)
    }
}

/// A symbolic link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where it is.
    pub path: String,
    /// What it names.
    pub target: String,
}

/// A file.
#[derive(Clone, Serialize, Deserialize)]
pub struct File {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
    /// Content.
    #[serde(with = "base64_bytes")]
    pub content: Vec<u8>,
    /// Its content is shown nowhere.
    pub secret: bool,
    /// Written only where it is missing: the service goes on with it.
    pub once: bool,
    /// What of it a restart depends on, where a running service can take in the rest.
    pub lasting: Option<String>,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File").field("path", &self.path).field("secret", &self.secret).finish_non_exhaustive()
    }
}

impl File {
    /// A file that everyone may read.
    pub fn new(path: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            owner: "root".to_owned(),
            group: "root".to_owned(),
            content: content.into(),
            secret: false,
            once: false,
            lasting: None,
        }
    }

    /// A file that holds a secret, readable by `owner` alone.
    pub fn secret(path: impl Into<String>, owner: &str, content: &Secret) -> Self {
        Self {
            mode: 0o600,
            owner: owner.to_owned(),
            group: owner.to_owned(),
            secret: true,
            ..Self::new(path, content.expose().as_bytes())
        }
    }

    /// Hash of its content.
    pub fn sha256(&self) -> String {
        sha256(&self.content)
    }
}

/// A file's content in the snapshot that a host keeps of each generation.
mod base64_bytes {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// A systemd unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// `aesop-kafka.service`.
    pub name: String,
    /// What it runs with: paths of files and links, and artifact ids. A change of any means a restart.
    pub restart_on: Vec<String>,
    /// Files that it reads again when told to.
    pub reload_on: Vec<String>,
    /// How it is told, where that is not systemd's reload.
    pub adopt: Option<MemberChange>,
}

/// A change of a cluster through one of its members: run on that member's host by `aesop member`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberChange {
    /// Arguments of `aesop member`.
    pub args: Vec<String>,
    /// In words, for the plan.
    pub words: String,
    /// How long it may take.
    pub timeout_secs: u64,
    /// It changes who belongs to the cluster: it has its own line in the schedule, and what follows it in its stage is
    /// left out where it was not done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub membership: bool,
    /// It is told after its very first start too: not all of it is in the files it starts with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub from_start: bool,
}

/// A step done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Init {
    /// Kafka's log directories get cluster id and directory id.
    KafkaFormat(KafkaFormat),
    /// The broker makes its storage itself at its first start, which the host must not take for a later one.
    KafkaMark(KafkaMark),
}

impl Init {
    /// Files that say what was done, whose content is asked for.
    pub fn markers(&self) -> Vec<&str> {
        match self {
            Self::KafkaFormat(format) => vec![&format.marker],
            Self::KafkaMark(mark) => vec![&mark.mark, &mark.properties],
        }
    }
}

/// How a broker's data is told from an empty directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaMark {
    /// File of aesop's with the broker's id, written before the first start.
    pub mark: String,
    /// The broker's own, written by it as it starts.
    pub properties: String,
}

/// `kafka-storage format`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaFormat {
    /// `java` to run.
    pub java: String,
    /// Directory of the jars.
    pub artifact: String,
    /// `server.properties`.
    pub config: String,
    /// The cluster's id.
    pub cluster_id: String,
    /// `id@host:port:directory,…`, the same on all first controllers; none for a broker.
    pub initial_controllers: Option<String>,
    /// The node is a controller too.
    #[serde(default)]
    pub controller: bool,
    /// File whose presence says that it was done.
    pub marker: String,
}

/// When a part is ready; run on the host by `aesop ready`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// The unit whose log is shown when the test fails.
    pub unit: String,
    /// Arguments of `aesop ready`.
    pub test: Vec<String>,
    /// In words, for the plan.
    pub words: String,
    /// How long it may take; where it says that the service gets on, so long from then.
    pub timeout_secs: u64,
    /// How long in all while it gets on; 0 where no test says that.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub patience_secs: u64,
    /// A unit that does not run passes: there is nothing to stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub or_down: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(secs: &u64) -> bool {
    *secs == 0
}

impl Gate {
    /// The test of units that systemd alone knows about: all of them are active. The others are arguments of
    /// `aesop ready`.
    pub const UNITS: &str = "units";
}

impl HostState {
    /// Content of every file by path.
    pub fn files(&self) -> impl Iterator<Item = &File> {
        self.parts.iter().flat_map(|part| &part.files)
    }

    /// Services of which a member counts in a quorum.
    pub fn quorums(&self) -> std::collections::BTreeSet<String> {
        let parts = self.parts.iter().filter(|part| part.role.gates_all_members());
        parts.map(|part| part.service.clone()).collect()
    }

    /// What a unit's restart and reload depend on, as two hashes.
    pub fn fingerprint(&self, unit: &Unit) -> (String, String) {
        let links: BTreeMap<&str, &str> = self
            .parts
            .iter()
            .flat_map(|part| &part.links)
            .map(|link| (link.path.as_str(), link.target.as_str()))
            .collect();
        let hash = |names: &[String], restart: bool| {
            let lines: Vec<String> = names
                .iter()
                .map(|name| {
                    let file = self.files().find(|file| file.path == *name);
                    let what = match (file, links.get(name.as_str())) {
                        (Some(file), _) => {
                            let content = match (&file.lasting, restart) {
                                (Some(lasting), true) => lasting.as_bytes(),
                                _ => &file.content,
                            };
                            format!("{}:{:o}:{}", sha256(content), file.mode, file.owner)
                        }
                        (None, Some(target)) => (*target).to_owned(),
                        (None, None) => String::new(),
                    };
                    format!("{name} {what}\n")
                })
                .collect();
            sha256(lines.concat().as_bytes())
        };
        (hash(&unit.restart_on, true), hash(&unit.reload_on, false))
    }
}
