//! More brokers than the defaults were made for: which topics follow, and to how many replicas. Pure.
//!
//! A topic follows where it has the former default number of replicas. One that has fewer was given fewer by somebody,
//! and one that a consumer group makes with a number of its own is left to it.

use super::view::{Partition, View};
use crate::rule::glob;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Topics that Kafka makes for itself: what groups have read, transactions, what share groups have read.
pub const OFFSETS: &str = "__consumer_offsets";
/// See [`OFFSETS`].
pub const TRANSACTIONS: &str = "__transaction_state";
/// See [`OFFSETS`].
pub const SHARES: &str = "__share_group_state";

/// What the defaults were and are. What the inventory says itself is not raised.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raise {
    /// The default number of replicas before.
    pub former: usize,
    /// The default now.
    pub replicas: usize,
    /// Of topics that Kafka makes for itself, by name.
    pub internal: BTreeMap<String, usize>,
    /// Names, with `*` for any characters, of topics that consumer groups make with a number of their own.
    pub own: BTreeSet<String>,
    /// `min.insync.replicas` before.
    pub former_in_sync: usize,
    /// The same now.
    pub in_sync: usize,
    /// Of topics that Kafka makes for itself with a minimum of their own, by name.
    pub internal_in_sync: BTreeMap<String, usize>,
}

impl Raise {
    /// How many replicas a partition is to have, where it has fewer.
    pub fn wants(&self, partition: &Partition) -> Option<usize> {
        let has = partition.replicas.len();
        if [OFFSETS, TRANSACTIONS, SHARES].contains(&partition.topic.as_str()) {
            return self.internal.get(&partition.topic).copied().filter(|wanted| has < *wanted);
        }
        let follows = (self.former..self.replicas).contains(&has) && !self.is_own(&partition.topic);
        follows.then_some(self.replicas)
    }

    fn is_own(&self, topic: &str) -> bool {
        self.own.iter().any(|pattern| glob(pattern, topic))
    }

    /// Topics that get more replicas, with how many.
    pub fn follow<'a>(&self, partitions: &'a [Partition]) -> BTreeMap<&'a str, usize> {
        partitions
            .iter()
            .filter_map(|partition| Some((partition.topic.as_str(), self.wants(partition)?)))
            .collect()
    }

    /// Topics that stay below the new default.
    pub fn stay<'a>(&self, partitions: &'a [Partition]) -> BTreeSet<&'a str> {
        let stays = |partition: &&Partition| {
            partition.replicas.len() < self.replicas && self.wants(partition).is_none()
        };
        partitions.iter().filter(stays).map(|partition| partition.topic.as_str()).collect()
    }

    /// The minimum of in-sync replicas grows.
    pub fn raises_in_sync(&self) -> bool {
        self.in_sync > self.former_in_sync
    }

    /// Partitions to which nobody could write if the minimum grew now: their replicas are not in sync.
    pub fn behind<'a>(&self, view: &'a View) -> Vec<&'a Partition> {
        let minimum = |topic: &String| {
            if view.own_min_in_sync.contains(topic) {
                self.internal_in_sync.get(topic).copied()
            } else {
                self.raises_in_sync().then_some(self.in_sync)
            }
        };
        let behind = |partition: &&Partition| {
            // Of fewer replicas than the minimum Kafka wants all.
            minimum(&partition.topic)
                .is_some_and(|needed| partition.in_sync.len() < needed.min(partition.replicas.len()))
        };
        view.partitions.iter().filter(behind).collect()
    }

    /// Topics of Kafka's own that have a lower minimum of their own, with the new one.
    pub fn own_minimum(&self, view: &View) -> BTreeMap<String, usize> {
        let has = |topic: &String| {
            view.min_in_sync.get(topic).copied().filter(|_| view.own_min_in_sync.contains(topic))
        };
        let wanted = self.internal_in_sync.iter();
        let lower = wanted.filter(|(topic, minimum)| has(topic).is_some_and(|now| now < **minimum));
        lower.map(|(topic, minimum)| (topic.clone(), *minimum)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(topic: &str, replicas: &[i32], in_sync: &[i32]) -> Partition {
        Partition {
            topic: topic.to_owned(),
            replicas: replicas.to_vec(),
            in_sync: in_sync.iter().copied().collect(),
            ..Partition::default()
        }
    }

    fn from_two_to_three() -> Raise {
        Raise {
            former: 2,
            replicas: 3,
            internal: BTreeMap::from([(OFFSETS.to_owned(), 3)]),
            own: BTreeSet::from(["shop.*.log".to_owned()]),
            former_in_sync: 1,
            in_sync: 2,
            internal_in_sync: BTreeMap::from([(TRANSACTIONS.to_owned(), 2)]),
        }
    }

    #[test]
    fn what_has_the_former_default_follows_and_nothing_else() {
        let raise = from_two_to_three();
        for (topic, replicas, wanted) in [
            ("rows", &[1, 2][..], Some(3)),
            ("rows", &[1, 2, 3], None),
            ("rows", &[1, 2, 3, 4], None),
            // Somebody wanted one.
            ("scratch", &[1], None),
            ("shop.a.log", &[1, 2], None),
            ("shop.a.logs", &[1, 2], Some(3)),
            (OFFSETS, &[1], Some(3)),
            (OFFSETS, &[1, 2, 3], None),
            // The inventory says how many.
            (TRANSACTIONS, &[1, 2], None),
        ] {
            assert_eq!(raise.wants(&partition(topic, replicas, &[])), wanted, "{topic} {replicas:?}");
        }
    }

    #[test]
    fn the_minimum_grows_only_where_nobody_is_kept_from_writing() {
        let raise = from_two_to_three();
        for (topic, replicas, in_sync, own, behind) in [
            ("rows", &[1, 2, 3][..], &[1, 2, 3][..], false, false),
            ("rows", &[1, 2, 3], &[1, 2], false, false),
            ("rows", &[1, 2, 3], &[1], false, true),
            ("rows", &[1, 2, 3], &[1], true, false),
            ("scratch", &[1], &[1], false, false),
            ("scratch", &[1], &[], false, true),
            (TRANSACTIONS, &[1, 2, 3], &[1], true, true),
            (TRANSACTIONS, &[1, 2, 3], &[1, 3], true, false),
        ] {
            let view = View {
                partitions: vec![partition(topic, replicas, in_sync)],
                own_min_in_sync: own.then(|| topic.to_owned()).into_iter().collect(),
                ..View::default()
            };
            assert_eq!(!raise.behind(&view).is_empty(), behind, "{topic} {replicas:?} {in_sync:?} {own}");
        }
        let stays = Raise { in_sync: 1, ..raise };
        let view = View { partitions: vec![partition("rows", &[1, 2], &[1])], ..View::default() };
        assert!(stays.behind(&view).is_empty());
    }

    #[test]
    fn a_minimum_of_its_own_is_raised_for_kafka_s_topics_alone() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let view = View {
            own_min_in_sync: names(&[TRANSACTIONS, "rows"]),
            min_in_sync: [TRANSACTIONS, "rows"].map(|name| (name.to_owned(), 1)).into(),
            ..View::default()
        };
        let raise = from_two_to_three();
        assert_eq!(raise.own_minimum(&view), BTreeMap::from([(TRANSACTIONS.to_owned(), 2)]));
        let done = View { min_in_sync: [(TRANSACTIONS.to_owned(), 2)].into(), ..view };
        assert_eq!(raise.own_minimum(&done), BTreeMap::new());
    }
}
