//! What topics get that say nothing else: by the highest number of brokers that there was.

use super::{Change, KafkaLock, Lock};
use crate::inventory::model::{Inventory, KafkaRole};
use serde::{Deserialize, Serialize};

/// More replicas than this make writes slower and nothing safer.
const REPLICATION_MAX: usize = 3;

/// What topics get that say nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Replicas.
    pub replication_factor: u16,
    /// `min.insync.replicas`.
    pub min_insync_replicas: u16,
}

impl Defaults {
    /// What suits a number of brokers: one of them may be away, and nothing acknowledged is on one alone.
    pub fn of(brokers: usize) -> Self {
        let replication_factor = u16::try_from(brokers.clamp(1, REPLICATION_MAX)).unwrap_or(1);
        Self { replication_factor, min_insync_replicas: replication_factor.saturating_sub(1).max(1) }
    }
}

impl Lock {
    /// What a person should know where the defaults are those of fewer brokers.
    pub fn outgrown(&self, inventory: &Inventory) -> Option<String> {
        let (lock, role) = (self.kafka.as_ref()?, inventory.kafka.as_ref()?);
        let (now, to) = (lock.raised_from.unwrap_or(lock.defaults()), lock.suited(role));
        let what = if role.rebalance {
            "the next apply raises that, and topics follow"
        } else {
            "with `kafka.rebalance: auto` an apply would raise that, and topics follow"
        };
        (now != to).then(|| {
            format!(
                "Kafka's defaults are those of fewer brokers: replication factor {} instead of {}, min.insync.replicas {} instead of {}; {what}",
                now.replication_factor, to.replication_factor, now.min_insync_replicas, to.min_insync_replicas
            )
        })
    }
}

impl KafkaLock {
    /// What topics get that say nothing else.
    pub fn defaults(&self) -> Defaults {
        let Self { replication_factor, min_insync_replicas, .. } = *self;
        Defaults { replication_factor, min_insync_replicas }
    }

    /// The defaults that suit the brokers of the inventory; fewer of them lower nothing.
    pub fn suited(&self, role: &KafkaRole) -> Defaults {
        let (now, wanted) = (self.defaults(), Defaults::of(role.members.len()));
        let minimum = now.min_insync_replicas.max(wanted.min_insync_replicas);
        // Where the inventory says how many replicas there are, a higher minimum could be more than one can do without.
        let says = role.config.contains_key("default.replication.factor");
        Defaults {
            replication_factor: now.replication_factor.max(wanted.replication_factor),
            min_insync_replicas: if says { now.min_insync_replicas } else { minimum },
        }
    }

    /// More brokers raise the defaults. Not where partitions must stay as they are: nothing there could follow.
    pub(super) fn grow(&mut self, role: &KafkaRole) -> Option<Change> {
        let (from, to) = (self.defaults(), self.suited(role));
        if from == to || !role.rebalance {
            return None;
        }
        self.raised_from.get_or_insert(from);
        self.replication_factor = to.replication_factor;
        self.min_insync_replicas = to.min_insync_replicas;
        Some(Change::Raised { from, to })
    }
}
