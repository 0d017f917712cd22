//! A Kafka cluster as a plain value: what gates and moves are decided from.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The cluster at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Registered brokers by id; one that is down stays registered and is fenced.
    pub brokers: BTreeMap<i32, Broker>,
    /// Every partition of every topic, internal ones too.
    pub partitions: Vec<Partition>,
    /// `min.insync.replicas` by topic.
    pub min_in_sync: BTreeMap<String, usize>,
    /// Topics that say it themselves, whatever the default.
    #[serde(default)]
    pub own_min_in_sync: BTreeSet<String>,
    /// The controllers.
    pub quorum: Quorum,
    /// Partitions that are on their way to other brokers.
    #[serde(default)]
    pub moving: Vec<Moving>,
    /// Where replication is limited.
    #[serde(default)]
    pub throttled: Throttled,
    /// What versions of its metadata it knows; none where a broker did not say.
    #[serde(default)]
    pub feature: Option<Feature>,
}

/// A partition on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moving {
    /// Topic.
    pub topic: String,
    /// Its number.
    pub index: i32,
    /// Brokers that will hold it.
    pub target: Vec<i32>,
    /// Those of them that did not hold it before.
    pub adding: Vec<i32>,
}

/// Limits of replication that somebody has set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttled {
    /// Brokers with a rate.
    pub brokers: BTreeSet<i32>,
    /// Topics with limited replicas.
    pub topics: BTreeSet<String>,
}

impl Throttled {
    /// No limit is set.
    pub fn is_empty(&self) -> bool {
        self.brokers.is_empty() && self.topics.is_empty()
    }
}

/// `metadata.version`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feature {
    /// What the cluster goes by.
    pub finalized: i16,
    /// The highest that every living broker knows.
    pub supported: i16,
}

/// A broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// `host:port` of its listener.
    pub address: String,
    /// Its rack.
    pub rack: Option<String>,
    /// Registered, but not taking part.
    pub fenced: bool,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Topic.
    pub topic: String,
    /// Its number.
    pub index: i32,
    /// The broker that leads; none while it is unavailable.
    pub leader: Option<i32>,
    /// Brokers that hold it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those that are in sync.
    pub in_sync: BTreeSet<i32>,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

/// The controllers' quorum.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// The active controller; none while there is none.
    pub leader: Option<i32>,
    /// Voters.
    pub voters: Vec<Replica>,
    /// Brokers and controllers that follow without a vote.
    pub observers: Vec<Replica>,
}

/// A replica of the metadata log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replica {
    /// Node id.
    pub id: i32,
    /// Directory id, as Kafka writes it; the zero id where the quorum is static.
    pub directory: String,
    /// Where its log ends.
    pub log_end: i64,
    /// When it was last caught up with the leader, milliseconds since 1970 by the leader's clock; -1: unknown.
    pub caught_up_ms: i64,
    /// When it last asked the leader for more, by the same clock; -1: unknown.
    #[serde(default = "unknown")]
    pub fetched_ms: i64,
}

fn unknown() -> i64 {
    -1
}

impl Quorum {
    /// The replica as which a node lives, if that one has no vote. Kafka names a former directory for minutes after its
    /// disk was lost and its vote was taken away, and would give it a vote again; but nobody asks for more with it.
    pub fn without_vote(&self, id: i32) -> Option<&Replica> {
        let votes = self.voters.iter().map(|replica| (replica, true));
        let follows = self.observers.iter().map(|replica| (replica, false));
        // Of two that are equal the last one is taken: the one that votes.
        let (lives, has_vote) = follows
            .chain(votes)
            .filter(|(replica, _)| replica.id == id)
            .max_by_key(|(replica, _)| replica.fetched_ms)?;
        (!has_vote).then_some(lives)
    }
}

impl View {
    /// Partitions as they will be once those on their way have arrived.
    pub fn settled(&self) -> Vec<Partition> {
        let target = |partition: &Partition| {
            let on_its_way =
                |moving: &&Moving| moving.topic == partition.topic && moving.index == partition.index;
            self.moving.iter().find(on_its_way).map(|moving| moving.target.clone())
        };
        let settle = |partition: &Partition| Partition {
            replicas: target(partition).unwrap_or_else(|| partition.replicas.clone()),
            ..partition.clone()
        };
        self.partitions.iter().map(settle).collect()
    }

    /// Registered, and taking part.
    pub fn serves(&self, broker: i32) -> bool {
        self.brokers.get(&broker).is_some_and(|broker| !broker.fenced)
    }

    /// Partitions with a replica on a broker.
    pub fn on(&self, broker: i32) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().filter(move |partition| partition.replicas.contains(&broker))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_lives_as_what_it_asked_with_last() {
        let replica = |directory: &str, fetched_ms| Replica {
            id: 3,
            directory: directory.to_owned(),
            log_end: 9,
            // What lags is no sign: both were caught up once.
            caught_up_ms: 5,
            fetched_ms,
        };
        let waits = |voters: &[Replica], observers: &[Replica]| {
            let quorum = Quorum { leader: Some(1), voters: voters.to_vec(), observers: observers.to_vec() };
            quorum.without_vote(3).map(|replica| replica.directory.clone())
        };
        let (old, new) = (replica("old", 10), replica("new", 20));
        assert_eq!(waits(std::slice::from_ref(&old), &[]), None);
        assert_eq!(waits(std::slice::from_ref(&old), std::slice::from_ref(&new)), Some("new".to_owned()));
        for observers in [[old.clone(), new.clone()], [new.clone(), old.clone()]] {
            assert_eq!(waits(&[], &observers), Some("new".to_owned()));
        }
        assert_eq!(waits(std::slice::from_ref(&new), std::slice::from_ref(&old)), None);
        assert_eq!(waits(&[replica("new", -1)], &[replica("old", -1)]), None);
        assert_eq!(waits(&[], &[]), None);
    }
}
