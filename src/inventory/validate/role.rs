//! ZooKeeper and Kafka.

use super::{Check, secret_or_generated};
use crate::inventory::defaults as d;
use crate::inventory::error::either;
use crate::inventory::fault::At;
use crate::inventory::model::{KafkaMode, KafkaRole, Member, ZooKeeperRole};
use crate::inventory::quantity;
use crate::inventory::raw;
use crate::inventory::value::{Bytes, Entry, Scalar};
use crate::inventory::{KAFKA_VERSIONS, ZOOKEEPER_VERSIONS};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `zoo.cfg` settings that aesop writes, and the key to use instead.
const ZOOKEEPER_OWN: &[(&str, &str)] = &[
    ("clientPort", "`zookeeper.client_port`"),
    ("clientPortAddress", ""),
    ("secureClientPort", ""),
    ("dataDir", "`zookeeper.data_dir`"),
    ("dataLogDir", "`zookeeper.data_dir`"),
    ("dynamicConfigFile", ""),
    ("reconfigEnabled", ""),
    ("skipACL", ""),
    ("standaloneEnabled", ""),
    ("server.*", "`zookeeper.hosts`"),
    ("admin.*", ""),
];

/// `server.properties` settings that aesop writes, and the key to use instead.
const KAFKA_OWN: &[(&str, &str)] = &[
    ("node.id", "ids are kept in the lock file"),
    ("broker.id", "ids are kept in the lock file"),
    ("process.roles", "`kafka.hosts` and `kafka.controllers`"),
    ("listeners", "`kafka.port` and `kafka.controller_port`"),
    ("advertised.listeners", "`kafka.port`"),
    ("listener.security.protocol.map", ""),
    ("inter.broker.listener.name", ""),
    ("controller.listener.names", ""),
    ("controller.quorum.*", "`kafka.controllers`"),
    ("log.dir", "`kafka.data_dirs`"),
    ("log.dirs", "`kafka.data_dirs`"),
    ("metadata.log.dir", "`kafka.data_dirs`"),
    ("zookeeper.*", "`zookeeper`"),
    ("inter.broker.protocol.version", "`kafka.version`"),
    ("ssl.*", "`kafka.tls`"),
    ("sasl.*", "`kafka.sasl`"),
    ("listener.name.*", "`kafka.tls` and `kafka.sasl`"),
    ("security.inter.broker.protocol", "`kafka.tls`"),
    ("broker.rack", "`rack` under `hosts`"),
];

/// Less, and the JVM does not even start these services.
const HEAP_BYTES_MIN: u64 = 64 << 20;
/// More is a mistake in the unit.
const HEAP_BYTES_MAX: u64 = 1 << 40;

/// Both services' entries in one form.
struct Given<'a> {
    host: &'a str,
    heap: Option<Bytes>,
    config: &'a BTreeMap<String, Scalar>,
}

/// A host by its name alone has no settings of its own: `none`.
fn given<'a, M>(
    entries: &'a [Entry<M>],
    none: &'a BTreeMap<String, Scalar>,
    member: impl Fn(&'a M) -> Given<'a>,
) -> Vec<Given<'a>> {
    let one = |entry: &'a Entry<M>| match entry {
        Entry::Host(host) => Given { host, heap: None, config: none },
        Entry::Map(map) => member(map),
    };
    entries.iter().map(one).collect()
}

/// Kafka keeps its metadata in ZooKeeper.
pub(super) fn on_zookeeper(kafka: &raw::Kafka) -> bool {
    KafkaMode::of(kafka.version.as_deref().unwrap_or(d::KAFKA_VERSION)) == KafkaMode::ZooKeeper
}

impl Check<'_, '_> {
    pub(super) fn zookeeper(&mut self) -> Option<ZooKeeperRole> {
        let role = self.raw.zookeeper.as_ref()?;
        let at = At::top("zookeeper");
        if role.tls.is_some() {
            self.not_yet(
                &at.key("tls"),
                "TLS for ZooKeeper",
                "keep its ports inside a trusted network, and remove the key",
            );
        }
        let artifact = self.artifact(&at.key("artifact"), role.artifact.as_ref());
        let known = (d::ZOOKEEPER_VERSION, ZOOKEEPER_VERSIONS);
        let version = self.version(&at, role.version.as_deref(), known, role.artifact.is_some());
        let none = BTreeMap::new();
        let given = given(&role.hosts, &none, |m| Given { host: &m.host, heap: m.heap, config: &m.config });
        let members = self.members(&at.key("hosts"), &given, role.heap, "zookeeper", ZOOKEEPER_OWN);
        self.heap(&at.key("heap"), role.heap);
        let data_dir = self.data_dir(&at, "data_dir", role.data_dir.as_deref(), d::ZOOKEEPER_DATA_DIR);
        let ports = [
            ("client_port", role.client_port, d::ZOOKEEPER_CLIENT_PORT),
            ("peer_port", role.peer_port, d::ZOOKEEPER_PEER_PORT),
            ("election_port", role.election_port, d::ZOOKEEPER_ELECTION_PORT),
            ("jolokia_port", role.jolokia_port, d::ZOOKEEPER_JOLOKIA_PORT),
        ];
        let [client_port, peer_port, election_port, jolokia_port] =
            ports.map(|(key, given, default)| self.claimed(&at, "zookeeper", key, given, default, &members));
        for member in &members {
            self.hosts.claim_directory(&member.host, data_dir.clone(), "zookeeper", &at.key("data_dir"));
        }
        Some(ZooKeeperRole {
            version,
            artifact,
            client_port,
            peer_port,
            election_port,
            jolokia_port,
            data_dir,
            config: self.config(&at.key("config"), &role.config, ZOOKEEPER_OWN),
            super_password: secret_or_generated(role.super_password.as_ref(), "zookeeper-super"),
            aesop_password: secret_or_generated(role.aesop_password.as_ref(), "zookeeper-aesop"),
            members,
        })
    }

    pub(super) fn kafka(&mut self) -> Option<KafkaRole> {
        let role = self.raw.kafka.as_ref()?;
        let at = At::top("kafka");
        self.heap(&at.key("heap"), role.heap);
        let version = self.kafka_version(&at, role);
        let none = BTreeMap::new();
        let given = given(&role.hosts, &none, |m| Given { host: &m.host, heap: m.heap, config: &m.config });
        let members = self.members(&at.key("hosts"), &given, role.heap, "kafka", KAFKA_OWN);
        let controllers = self.controllers(&at, role, &members);
        let apart = |member: &&Member| members.iter().all(|broker| broker.host != member.host);
        let apart: Vec<Member> = controllers.iter().flatten().filter(apart).cloned().collect();
        let nodes = [members.clone(), apart].concat();
        let data_dirs = self.data_dirs(&at, role.data_dirs.as_deref(), &nodes);
        let mode = KafkaMode::of(&version);
        if mode == KafkaMode::ZooKeeper {
            self.without_controllers(&at, role, &version);
        }
        let with_controllers = if mode == KafkaMode::Kraft { nodes.clone() } else { Vec::new() };
        let ports = [
            ("port", role.port, d::KAFKA_PORT, &members),
            ("controller_port", role.controller_port, d::KAFKA_CONTROLLER_PORT, &with_controllers),
            ("jolokia_port", role.jolokia_port, d::KAFKA_JOLOKIA_PORT, &nodes),
        ];
        let [port, controller_port, jolokia_port] =
            ports.map(|(key, given, default, on)| self.claimed(&at, "kafka", key, given, default, on));
        let tls = self.kafka_tls(&at.key("tls"), role.tls.as_ref());
        let internal_port = match (&tls, role.internal_port) {
            (None, None) => d::KAFKA_INTERNAL_PORT,
            (None, Some(port)) => {
                let help = "add `tls: {}`, or remove it".to_owned();
                self.faults.add_key(
                    &at.key("internal_port"),
                    "`internal_port` is of no use without `tls`",
                    help,
                );
                port
            }
            (Some(_), given) => {
                self.claimed(&at, "kafka", "internal_port", given, d::KAFKA_INTERNAL_PORT, &members)
            }
        };
        let sasl = self.kafka_sasl(&at, role, tls.is_some());
        Some(KafkaRole {
            internal_port,
            tls,
            sasl,
            version,
            artifact: self.artifact(&at.key("artifact"), role.artifact.as_ref()),
            mode,
            port,
            controller_port,
            jolokia_port,
            data_dirs,
            config: self.config(&at.key("config"), &role.config, KAFKA_OWN),
            rebalance: role.rebalance != Some(raw::Rebalance::Never),
            rebalance_throttle: self.rebalance_throttle(&at, role),
            members,
            controllers,
        })
    }

    /// The controllers, where they are named.
    fn controllers(&mut self, at: &At, role: &raw::Kafka, brokers: &[Member]) -> Option<Vec<Member>> {
        let entries = role.controllers.as_ref()?;
        let list = at.key("controllers");
        for (index, entry) in entries.iter().enumerate() {
            let Entry::Map(map) = entry else { continue };
            if brokers.iter().any(|broker| broker.host == map.host) {
                let help = format!("write `{}` alone, and its settings under `kafka.hosts`", map.host);
                self.faults.add(&list.index(index), format!("`{}` is a broker too", map.host), help);
            }
        }
        let none = BTreeMap::new();
        let given = given(entries, &none, |m| Given { host: &m.host, heap: m.heap, config: &m.config });
        let controllers = self.members(&list, &given, role.heap, "kafka's controllers", KAFKA_OWN);
        if !controllers.is_empty() && controllers.len().is_multiple_of(2) {
            let help = "name one more or one fewer: three are the rule".to_owned();
            let message = format!(
                "{} controllers stand the loss of no more hosts than {} would",
                controllers.len(),
                controllers.len() - 1
            );
            self.faults.add(&list, message, help);
        }
        Some(controllers)
    }

    fn rebalance_throttle(&mut self, at: &At, role: &raw::Kafka) -> u64 {
        /// Slower than this, a partition that is written to may never arrive.
        const LEAST: u64 = 1 << 20;
        let default = quantity::size(d::REBALANCE_THROTTLE).unwrap_or(LEAST);
        let bytes = role.rebalance_throttle.map_or(default, |bytes| bytes.0);
        if bytes < LEAST {
            let help = "give at least `1MiB`".to_owned();
            self.faults.add(
                &at.key("rebalance_throttle"),
                "partitions that move need at least 1 MiB a second",
                help,
            );
        }
        bytes
    }

    fn kafka_version(&mut self, at: &At, role: &raw::Kafka) -> String {
        let known = (d::KAFKA_VERSION, KAFKA_VERSIONS);
        let version = self.version(at, role.version.as_deref(), known, role.artifact.is_some());
        let wrong = match (role.mode, KafkaMode::of(&version)) {
            (Some(raw::KafkaMode::ZooKeeper), KafkaMode::Kraft) => Some((
                format!("Kafka {version} does not run on ZooKeeper; 3.9 was the last"),
                "leave `mode` out, or write `version: 3.9.1`",
            )),
            (Some(raw::KafkaMode::Kraft), KafkaMode::ZooKeeper) => Some((
                format!("aesop runs Kafka {version} on ZooKeeper only"),
                "use Kafka 4, or leave `mode` out",
            )),
            _ => None,
        };
        if let Some((message, help)) = wrong {
            self.faults.add(&at.key("mode"), message, help.to_owned());
        }
        version
    }

    /// What Kafka on ZooKeeper does not have.
    fn without_controllers(&mut self, at: &At, role: &raw::Kafka, version: &str) {
        let given = [
            ("controllers", role.controllers.is_some()),
            ("controller_port", role.controller_port.is_some()),
        ];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            let message =
                format!("Kafka {version} has no controllers of its own: it keeps its metadata in ZooKeeper");
            let help = format!("remove `{key}`, any broker can be the controller; or use Kafka 4");
            self.faults.add_key(&at.key(key), message, help);
        }
    }

    /// A version that can be installed: one of those with a list of jars, or with an archive of its own (`own`) any
    /// of the same series.
    fn version(
        &mut self,
        at: &At,
        given: Option<&str>,
        (default, known): (&str, &[&str]),
        own: bool,
    ) -> String {
        let version = given.unwrap_or(default);
        let series = |version: &str| version.rsplit_once('.').map(|(series, _)| series.to_owned());
        let plain = version.chars().all(|c| c.is_ascii_digit() || c == '.');
        let fits = own && plain && known.iter().any(|known| series(known) == series(version));
        if !fits && !known.contains(&version) {
            let choice = either(known.iter().copied());
            let help = if own {
                let all: std::collections::BTreeSet<String> =
                    known.iter().filter_map(|known| series(known)).collect();
                format!(
                    "it is {choice}, or with `artifact` another of {}",
                    either(all.iter().map(String::as_str))
                )
            } else {
                format!("it is {choice}")
            };
            self.faults.add(
                &at.key("version"),
                format!("version `{version}` is not one that this aesop can install"),
                help,
            );
        }
        version.to_owned()
    }

    fn members(
        &mut self,
        list: &At,
        given: &[Given<'_>],
        heap: Option<Bytes>,
        role: &str,
        own: &[(&str, &str)],
    ) -> Vec<Member> {
        self.some_hosts(list, given.len());
        let mut members = Vec::new();
        let mut places = Vec::new();
        for (index, entry) in given.iter().enumerate() {
            let entry_at = list.index(index);
            // For an entry that is a plain word this resolves to the entry itself.
            let host_at = entry_at.key("host");
            let host = self.member(&host_at, entry.host);
            self.heap(&entry_at.key("heap"), entry.heap);
            let config = self.config(&entry_at.key("config"), entry.config, own);
            places.push((host_at, host.clone()));
            members.push(Member { host, heap: entry.heap.or(heap).map(|bytes| bytes.0), config });
        }
        self.once(&places, role);
        members
    }

    fn heap(&mut self, at: &At, heap: Option<Bytes>) {
        if heap.is_some_and(|heap| !(HEAP_BYTES_MIN..=HEAP_BYTES_MAX).contains(&heap.0)) {
            self.faults.add(at, "a JVM heap is between 64 MiB and 1 TiB", "as in `2g` or `512m`".to_owned());
        }
    }

    fn claimed(
        &mut self,
        at: &At,
        role: &str,
        key: &str,
        given: Option<u16>,
        default: u16,
        members: &[Member],
    ) -> u16 {
        let at = at.key(key);
        let port = self.port(&at, given, default);
        for member in members {
            self.hosts.claim_port(&member.host, port, &format!("`{role}.{key}`"), &at);
        }
        port
    }

    pub(super) fn data_dir(&mut self, at: &At, key: &str, given: Option<&str>, default: &str) -> PathBuf {
        self.directory(&at.key(key), given.unwrap_or(default))
    }

    fn data_dirs(&mut self, at: &At, given: Option<&[String]>, members: &[Member]) -> Vec<PathBuf> {
        let list = at.key("data_dirs");
        let Some(given) = given else {
            let directory = PathBuf::from(d::KAFKA_DATA_DIR);
            for member in members {
                self.hosts.claim_directory(&member.host, directory.clone(), "kafka", at);
            }
            return vec![directory];
        };
        if given.is_empty() {
            self.faults.add(&list, "there are no directories in this list", None);
        }
        let mut directories = Vec::new();
        for (index, text) in given.iter().enumerate() {
            let at = list.index(index);
            let directory = self.directory(&at, text);
            for member in members {
                self.hosts.claim_directory(&member.host, directory.clone(), "kafka", &at);
            }
            directories.push(directory);
        }
        directories
    }
}
