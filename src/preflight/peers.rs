//! Who must reach whom: asked of the hosts themselves by `aesop check --hosts`.

use super::{Outcome, Verdict};
use crate::inventory::model::{Inventory, KafkaMode};
use crate::plan::Machine;
use crate::service::roles;
use std::collections::{BTreeMap, BTreeSet};

/// A way that must be free.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Where it ends.
    pub address: String,
    /// The port there.
    pub port: u16,
    /// What is there: `kafka on k2`.
    pub what: String,
    /// Somebody must be listening already: it is no service of ours.
    pub open: bool,
}

impl Edge {
    /// As the observing program takes it.
    pub fn question(&self) -> String {
        format!("{},{}", self.address, self.port)
    }
}

/// The ways that each host needs.
pub fn edges(inventory: &Inventory) -> BTreeMap<String, BTreeSet<Edge>> {
    let mut edges: BTreeMap<String, BTreeSet<Edge>> = BTreeMap::new();
    let ours = |host: &str, port: u16, what: &str| {
        let address = inventory.hosts.get(host)?.address.clone();
        Some(Edge { address, port, what: format!("{what} on {host}"), open: false })
    };
    let zookeeper: Vec<Edge> = inventory
        .zookeeper
        .iter()
        .flat_map(|role| {
            role.members.iter().filter_map(|member| ours(&member.host, role.client_port, "zookeeper"))
        })
        .collect();
    let kafka: Vec<Edge> = inventory
        .kafka
        .iter()
        .flat_map(|role| role.members.iter().filter_map(|member| ours(&member.host, role.port, "kafka")))
        .collect();
    for (host, words) in roles(inventory) {
        let wanted = edges.entry(host.clone()).or_default();
        for word in words {
            match word.as_str() {
                "zookeeper" => {
                    if let Some(role) = &inventory.zookeeper {
                        for member in role.members.iter().filter(|member| member.host != host) {
                            for port in [role.peer_port, role.election_port] {
                                wanted.extend(ours(&member.host, port, "zookeeper"));
                            }
                        }
                    }
                }
                "kafka" => {
                    wanted.extend(kafka.iter().cloned());
                    if let Some(role) = inventory.kafka.as_ref().filter(|role| role.tls.is_some()) {
                        let members = role.members.iter();
                        wanted.extend(
                            members.filter_map(|member| ours(&member.host, role.internal_port, "kafka")),
                        );
                    }
                    let mode = inventory.kafka.as_ref().map(|role| role.mode);
                    if mode == Some(KafkaMode::ZooKeeper) {
                        wanted.extend(zookeeper.iter().cloned());
                    } else if let Some(role) = &inventory.kafka {
                        // Where they are not named, the lock file knows them; the first three become it.
                        let first = || role.members.get(..3.min(role.members.len())).unwrap_or_default();
                        for member in role.controllers.as_deref().unwrap_or_else(first) {
                            wanted.extend(ours(&member.host, role.controller_port, "kafka's controller"));
                        }
                    }
                }
                "relay" => {
                    wanted.extend(zookeeper.iter().cloned());
                    wanted.extend(databases(inventory, &host));
                }
                "monitor" => {
                    wanted.extend(zookeeper.iter().cloned());
                    for peer in roles(inventory).keys() {
                        wanted.extend(ours(peer, inventory.agent_port, "the agent"));
                    }
                    let email = inventory.monitor.as_ref().and_then(|role| role.email.as_ref());
                    wanted.extend(email.map(|email| Edge {
                        address: email.smtp.host.clone(),
                        port: email.smtp.port,
                        what: "the mail server".to_owned(),
                        open: true,
                    }));
                }
                _ => {
                    wanted.extend(zookeeper.iter().chain(&kafka).cloned());
                    if let Some(role) = &inventory.relays {
                        let relays = role.members.iter();
                        wanted.extend(relays.filter_map(|member| ours(&member.host, role.port, "relay")));
                    }
                }
            }
        }
        let own = inventory.hosts.get(&host).map(|host| host.address.clone());
        wanted.retain(|edge| Some(&edge.address) != own.as_ref());
    }
    edges
}

fn databases(inventory: &Inventory, host: &str) -> Vec<Edge> {
    let members = inventory.relays.iter().flat_map(|role| &role.members);
    let sources = members.filter(|member| member.host == host).flat_map(|member| &member.sources);
    sources
        .filter_map(|name| {
            let mysql = &inventory.sources.get(name)?.mysql;
            let what = format!("the database of source {name}");
            Some(Edge { address: mysql.host.clone(), port: mysql.port, what, open: true })
        })
        .collect()
}

/// What the answers of one host mean.
pub fn judge(host: &str, edges: &BTreeSet<Edge>, machine: &Machine) -> Verdict {
    let mut bad = Vec::new();
    let mut said = 0;
    for edge in edges {
        let Some(answer) = machine.peers.get(&edge.question()) else { continue };
        said += 1;
        let why = match answer.as_str() {
            "open" => continue,
            "refused" if !edge.open => continue,
            "refused" => "nothing listens there",
            "silent" => "no answer",
            other => other,
        };
        bad.push(format!("{} ({}:{}): {why}", edge.what, edge.address, edge.port));
    }
    let outcome = if !bad.is_empty() {
        Outcome::error(
            format!("it does not reach {}", bad.join("; ")),
            "open these ports in the firewalls between the hosts, or correct the addresses in the inventory",
        )
    } else if said < edges.len() {
        Outcome::Unknown
    } else {
        Outcome::Passed
    };
    Verdict { host: host.to_owned(), check: "peers", outcome }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use std::fmt::Write as _;

    fn inventory() -> Inventory {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop.yml");
        let text = "cluster: shop
hosts: {k1: {address: 10.0.0.11}, r1: {address: 10.0.0.21}, c1: {address: 10.0.0.31}}
zookeeper: {hosts: [k1]}
kafka: {hosts: [k1, c1]}
sources: {shop: {mysql: {host: db, user: aesop}}}
relays: {hosts: [r1]}
consumers: {g: {hosts: [c1]}}
";
        std::fs::write(&path, text).unwrap();
        crate::inventory::load(&path).unwrap()
    }

    #[test]
    fn each_role_needs_its_own_ways() {
        let mut text = String::new();
        for (host, edges) in edges(&inventory()) {
            for edge in edges {
                writeln!(
                    text,
                    "{host} -> {} {}{}",
                    edge.question(),
                    edge.what,
                    if edge.open { "!" } else { "" }
                )
                .unwrap();
            }
        }
        expect![[r#"
            c1 -> 10.0.0.11,2181 zookeeper on k1
            c1 -> 10.0.0.11,9092 kafka on k1
            c1 -> 10.0.0.11,9093 kafka's controller on k1
            c1 -> 10.0.0.21,9190 relay on r1
            k1 -> 10.0.0.31,9092 kafka on c1
            k1 -> 10.0.0.31,9093 kafka's controller on c1
            r1 -> 10.0.0.11,2181 zookeeper on k1
            r1 -> db,3306 the database of source shop!
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn refused_is_a_free_way_but_not_to_a_database() {
        let all = edges(&inventory());
        let edges = all.get("r1").unwrap();
        let machine = |zookeeper: &str, database: &str| Machine {
            peers: [("10.0.0.11,2181", zookeeper), ("db,3306", database)]
                .map(|(peer, how)| (peer.to_owned(), how.to_owned()))
                .into(),
            ..Machine::default()
        };
        assert_eq!(judge("r1", edges, &machine("refused", "open")).outcome, Outcome::Passed);
        assert_eq!(judge("r1", edges, &Machine::default()).outcome, Outcome::Unknown);
        let Outcome::Error(bad) = judge("r1", edges, &machine("silent", "refused")).outcome else { panic!() };
        assert_eq!(
            bad.problem,
            "it does not reach zookeeper on k1 (10.0.0.11:2181): no answer; the database of source shop (db:3306): nothing listens there"
        );
    }
}
