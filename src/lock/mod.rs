//! The lock file beside the inventory (`shop.lock` beside `shop.yml`): ids that must never move. It is meant to
//! be committed.
//!
//! [`Lock::assign`] is pure: it gives ids to new hosts, retires those of hosts that are gone and leaves all
//! others alone. An id that was ever used is never given again.

mod defaults;
mod file;
#[cfg(test)]
mod tests;

pub use defaults::Defaults;
pub use file::{LockError, is_newer, path_for};

use crate::inventory::model::{Host, Inventory, KafkaMode, KafkaRole};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// This aesop's version, written into the lock.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// ZooKeeper takes `myid` from 1 to 255.
const MYID_MAX: u32 = 255;
/// From 1001 on, Kafka gives ids by itself where none is configured.
const NODE_ID_MAX: u32 = 1000;
/// `server_id`s of relays begin somewhere in the upper half of MySQL's range, where people rarely pick theirs.
const SERVER_ID_FLOOR: u32 = 1 << 31;
/// Where exactly is random, so that two clusters that read one server do not meet.
const SERVER_ID_SPREAD: u32 = 1 << 30;
/// Each relay and source gets a block: the first for the stream, the others for connections that look back.
pub const SERVER_ID_BLOCK: u32 = 4;
/// Hosts that are controllers as well as brokers, at most.
const CONTROLLERS_MAX: usize = 3;

/// Everything that was assigned once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The aesop that wrote it; an older one refuses to go on.
    pub aesop: String,
    /// The inventory's cluster.
    pub cluster: String,
    /// Where aesop's services are, so that they can be removed once the inventory names the host no more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, Place>,
    /// `myid` by host name.
    #[serde(default, skip_serializing_if = "Ids::is_empty")]
    pub zookeeper: Ids,
    /// Hosts on which ZooKeeper has been ready with what it keeps: where that is gone, nothing is started in its place
    /// until somebody says so.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ensemble: BTreeSet<String>,
    /// Hosts of which somebody has said that what their ZooKeeper kept is gone, until something was done there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lost_members: BTreeSet<String>,
    /// Kafka's ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaLock>,
    /// MySQL `server_id`s by `<relay host>/<source>`; the first of a block of [`SERVER_ID_BLOCK`].
    #[serde(default, skip_serializing_if = "Ids::is_empty")]
    pub server_ids: Ids,
}

/// How a host is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// Address.
    pub address: String,
    /// SSH port, where it is not the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// SSH user, where it is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Ids by name, and those that are spent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ids {
    /// In use.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ids: BTreeMap<String, u32>,
    /// Once in use, by whom.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub retired: BTreeMap<u32, String>,
}

/// Kafka's part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaLock {
    /// KRaft cluster id: 16 bytes in URL-safe base64. On ZooKeeper there is none: the cluster has its id from there.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster_id: String,
    /// Default replication factor, from the highest number of brokers so far.
    pub replication_factor: u16,
    /// `min.insync.replicas` that goes with it.
    pub min_insync_replicas: u16,
    /// The defaults before they were raised, until topics have followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised_from: Option<Defaults>,
    /// Hosts that are controllers: those that the inventory names, or those of the first start and whoever took the
    /// place of one of them.
    #[serde(default)]
    pub controllers: Vec<String>,
    /// The first controllers have been up, or others have come since: who has no storage yet joins those that are there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub formed: bool,
    /// Where nodes that run look for the controllers; kept while two of them are controllers still, so that a change of
    /// the others restarts nobody. Addresses by host.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub known_controllers: BTreeMap<String, String>,
    /// `node.id` by host name.
    pub nodes: Ids,
    /// Directory id of each host's metadata log, as `--initial-controllers` wants it.
    #[serde(default)]
    pub directory_ids: BTreeMap<String, String>,
    /// Hosts whose broker may begin anew: somebody has said that its data is gone for good.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub lost_disks: BTreeSet<String>,
}

/// What [`Lock::assign`] did, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new id.
    Assigned {
        /// `zookeeper myid`, `kafka node.id`, `mysql server_id`.
        kind: &'static str,
        /// Host name, or `<host>/<source>`.
        name: String,
        /// The id.
        id: u32,
    },
    /// An id that will not come back.
    Retired {
        /// As above.
        kind: &'static str,
        /// As above.
        name: String,
        /// The id.
        id: u32,
    },
    /// Kafka's cluster id was made.
    Cluster(String),
    /// There are more brokers than Kafka's defaults were made for.
    Raised {
        /// What they were.
        from: Defaults,
        /// What they are.
        to: Defaults,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assigned { kind, name, id } => write!(f, "{kind} {id} for {name}"),
            Self::Retired { kind, name, id } => write!(f, "{kind} {id} of {name} retired"),
            Self::Cluster(id) => write!(f, "kafka cluster id {id}"),
            Self::Raised { from, to } => write!(
                f,
                "kafka defaults raised: replication factor {} to {}, min.insync.replicas {} to {}",
                from.replication_factor,
                to.replication_factor,
                from.min_insync_replicas,
                to.min_insync_replicas
            ),
        }
    }
}

/// There are no ids left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {kind} is left for {name}: the highest possible is {max} and used ones never come back")]
pub struct OutOfIds {
    kind: &'static str,
    name: String,
    max: u32,
}

impl Lock {
    /// A lock without ids.
    pub fn new(cluster: &str) -> Self {
        Self {
            aesop: VERSION.to_owned(),
            cluster: cluster.to_owned(),
            hosts: BTreeMap::new(),
            zookeeper: Ids::default(),
            ensemble: BTreeSet::new(),
            lost_members: BTreeSet::new(),
            kafka: None,
            server_ids: Ids::default(),
        }
    }

    /// The lock that `inventory` needs, and how it differs from this one. `random` is asked only for ids that are
    /// new; pass [`crate::secret::random_bytes`] outside tests.
    pub fn assign(
        &self,
        inventory: &Inventory,
        random: &mut dyn FnMut() -> [u8; 16],
    ) -> Result<(Self, Vec<Change>), OutOfIds> {
        let mut next = self.clone();
        next.aesop.clear();
        next.aesop.push_str(VERSION);
        let mut changes = Vec::new();

        let ensemble = inventory.zookeeper.iter().flat_map(|role| &role.members).map(|m| m.host.clone());
        let myid = Kind { name: "zookeeper myid", first: 1, step: 1, max: MYID_MAX };
        next.zookeeper.assign(myid, ensemble.collect(), &mut changes)?;

        next.assign_kafka(inventory, random, &mut changes)?;

        let readers = inventory.relays.iter().flat_map(|role| &role.members);
        let names: Vec<String> =
            readers.flat_map(|m| m.sources.iter().map(|source| server_id_name(&m.host, source))).collect();
        let first = match next.server_ids.highest() {
            None if !names.is_empty() => server_id_base(random()),
            _ => SERVER_ID_FLOOR,
        };
        let max = u32::MAX - SERVER_ID_BLOCK;
        let server_id = Kind { name: "mysql server_id", first, step: SERVER_ID_BLOCK, max };
        next.server_ids.assign(server_id, names, &mut changes)?;
        Ok((next, changes))
    }

    fn assign_kafka(
        &mut self,
        inventory: &Inventory,
        random: &mut dyn FnMut() -> [u8; 16],
        changes: &mut Vec<Change>,
    ) -> Result<(), OutOfIds> {
        let hosts: Vec<String> =
            inventory.kafka.iter().flat_map(KafkaRole::nodes).map(|m| m.host.clone()).collect();
        let brokers: Vec<String> =
            inventory.kafka.iter().flat_map(|role| &role.members).map(|m| m.host.clone()).collect();
        if self.kafka.is_none() && hosts.is_empty() {
            return Ok(());
        }
        let kraft = inventory.kafka.as_ref().is_some_and(|role| role.mode == KafkaMode::Kraft);
        let lock = self.kafka.get_or_insert_with(|| KafkaLock::first(brokers.len()));
        changes.extend(inventory.kafka.as_ref().and_then(|role| lock.grow(role)));
        if kraft && lock.cluster_id.is_empty() {
            lock.cluster_id = kafka_uuid(random);
            changes.push(Change::Cluster(lock.cluster_id.clone()));
        }
        for host in &hosts {
            let fresh = !lock.nodes.ids.contains_key(host);
            if kraft && (fresh || !lock.directory_ids.contains_key(host)) {
                lock.directory_ids.insert(host.clone(), kafka_uuid(random));
            }
        }
        let node_id = Kind { name: "kafka node.id", first: 1, step: 1, max: NODE_ID_MAX };
        lock.directory_ids.retain(|host, _| hosts.contains(host));
        lock.lost_disks.retain(|host| hosts.contains(host));
        lock.nodes.assign(node_id, hosts, changes)?;
        let named = inventory.kafka.as_ref().and_then(|role| role.controllers.as_ref());
        let controllers = match named {
            _ if !kraft => Vec::new(),
            Some(named) => named.iter().map(|member| member.host.clone()).collect(),
            None => followers(&lock.controllers, &brokers),
        };
        lock.control(controllers, &inventory.hosts);
        Ok(())
    }

    /// Notes that services are, or will be, on a host.
    pub fn settle(&mut self, host: &Host) {
        let Host { name, address, ssh, .. } = host;
        let place = Place { address: address.clone(), port: ssh.port, user: ssh.user.clone() };
        self.hosts.insert(name.clone(), place);
    }

    /// Notes that nothing of aesop's is on a host any more, or that nobody will ever find out.
    pub fn leave(&mut self, host: &str) {
        self.hosts.remove(host);
        self.ensemble.remove(host);
        self.lost_members.remove(host);
    }

    /// The services whose data the others count on, on a host.
    pub fn with_data(&self, host: &str) -> Vec<&'static str> {
        let kafka = self.kafka.as_ref().is_some_and(|kafka| kafka.nodes.ids.contains_key(host));
        let zookeeper = self.ensemble.contains(host);
        [("zookeeper", zookeeper), ("kafka", kafka)]
            .into_iter()
            .filter(|(_, has)| *has)
            .map(|(name, _)| name)
            .collect()
    }

    /// Notes that the data of one of [`Lock::with_data`] is gone for good.
    pub fn lose_disk(&mut self, host: &str, service: &str) {
        if service == "zookeeper" {
            self.ensemble.remove(host);
            self.lost_members.insert(host.to_owned());
        } else if let Some(kafka) = &mut self.kafka {
            kafka.lost_disks.insert(host.to_owned());
        }
    }

    /// Notes that a host's services have data again.
    pub fn has_disk(&mut self, host: &str) {
        self.lost_members.remove(host);
        if let Some(kafka) = &mut self.kafka {
            kafka.lost_disks.remove(host);
        }
    }

    /// `myid` of a ZooKeeper host.
    pub fn myid(&self, host: &str) -> Option<u32> {
        self.zookeeper.ids.get(host).copied()
    }

    /// `node.id` of a Kafka host.
    pub fn node_id(&self, host: &str) -> Option<u32> {
        self.kafka.as_ref()?.nodes.ids.get(host).copied()
    }

    /// `server_id` with which the relay on `host` reads `source`; the following three are its own as well.
    pub fn server_id(&self, host: &str, source: &str) -> Option<u32> {
        self.server_ids.ids.get(&server_id_name(host, source)).copied()
    }
}

impl KafkaLock {
    fn first(brokers: usize) -> Self {
        let Defaults { replication_factor, min_insync_replicas } = Defaults::of(brokers);
        Self {
            cluster_id: String::new(),
            replication_factor,
            min_insync_replicas,
            raised_from: None,
            controllers: Vec::new(),
            formed: false,
            known_controllers: BTreeMap::new(),
            nodes: Ids::default(),
            directory_ids: BTreeMap::new(),
            lost_disks: BTreeSet::new(),
        }
    }

    /// Sets the controllers.
    fn control(&mut self, controllers: Vec<String>, hosts: &BTreeMap<String, Host>) {
        /// With one of them away, another one can still say who leads.
        const KNOWN_LEAST: usize = 2;
        let same = |a: &[String], b: &[String]| a.iter().all(|host| b.contains(host)) && a.len() == b.len();
        if !self.controllers.is_empty() && !same(&controllers, &self.controllers) {
            self.formed = true;
        }
        let stay = controllers.iter().filter(|host| self.known_controllers.contains_key(*host)).count();
        if stay < KNOWN_LEAST.min(controllers.len()) || controllers.is_empty() {
            self.known_controllers = controllers.iter().map(|host| (host.clone(), String::new())).collect();
        }
        for (name, address) in &mut self.known_controllers {
            if let Some(host) = hosts.get(name) {
                address.clone_from(&host.address);
            }
        }
        self.controllers = controllers;
    }
}

/// Who is controller where the inventory does not say: those that are it, as long as they are brokers, and the first
/// of the other brokers in place of those that left.
fn followers(now: &[String], brokers: &[String]) -> Vec<String> {
    let most = if now.is_empty() { CONTROLLERS_MAX } else { now.len().min(brokers.len()) };
    // Two controllers are worse than one: both must be alive. That holds for every even number.
    let count = if brokers.len() < CONTROLLERS_MAX { 1 } else { most - usize::from(most.is_multiple_of(2)) };
    let stay = now.iter().filter(|host| brokers.contains(host));
    let others = brokers.iter().filter(|host| !now.contains(host));
    stay.chain(others).take(count.min(brokers.len())).cloned().collect()
}

/// What an id is for and where it may lie.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    first: u32,
    step: u32,
    max: u32,
}

impl Ids {
    fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.retired.is_empty()
    }

    fn highest(&self) -> Option<u32> {
        self.ids.values().chain(self.retired.keys()).copied().max()
    }

    /// Retires the ids of names that are gone, then gives the next ids to new names in the order given.
    fn assign(&mut self, kind: Kind, names: Vec<String>, changes: &mut Vec<Change>) -> Result<(), OutOfIds> {
        let wanted: BTreeSet<&String> = names.iter().collect();
        let gone: Vec<String> = self.ids.keys().filter(|name| !wanted.contains(name)).cloned().collect();
        for name in gone {
            if let Some(id) = self.ids.remove(&name) {
                self.retired.insert(id, name.clone());
                changes.push(Change::Retired { kind: kind.name, name, id });
            }
        }
        for name in names {
            if self.ids.contains_key(&name) {
                continue;
            }
            let id = self.highest().map_or(Some(kind.first), |highest| highest.checked_add(kind.step));
            let Some(id) = id.filter(|id| *id <= kind.max) else {
                return Err(OutOfIds { kind: kind.name, name, max: kind.max });
            };
            self.ids.insert(name.clone(), id);
            changes.push(Change::Assigned { kind: kind.name, name, id });
        }
        Ok(())
    }
}

fn server_id_name(host: &str, source: &str) -> String {
    format!("{host}/{source}")
}

fn server_id_base(random: [u8; 16]) -> u32 {
    let [a, b, c, d, ..] = random;
    let offset = u32::from_le_bytes([a, b, c, d]) % SERVER_ID_SPREAD;
    SERVER_ID_FLOOR + offset / SERVER_ID_BLOCK * SERVER_ID_BLOCK
}

/// 16 bytes as Kafka writes them. Kafka's tools take a leading `-` for a flag, so such ids are passed over.
fn kafka_uuid(random: &mut dyn FnMut() -> [u8; 16]) -> String {
    // 1 id in 64 begins with `-`; the bound only guards against a broken source of randomness.
    const ATTEMPTS_MAX: u32 = 64;
    for _ in 0..ATTEMPTS_MAX {
        let id = URL_SAFE_NO_PAD.encode(random());
        if !id.starts_with('-') && id.trim_start_matches('A').len() > 2 {
            return id;
        }
    }
    URL_SAFE_NO_PAD.encode(*b"aesop-has-no-luc")
}
