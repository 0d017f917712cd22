//! What topics follow where there are more brokers than Kafka's defaults were made for.

use super::ServiceError;
use super::inputs::Inputs;
use crate::inventory::model::{ConsumerGroup, KafkaRole};
use crate::kafka::raise::{OFFSETS, Raise, SHARES, TRANSACTIONS};
use crate::lock::KafkaLock;
use minijinja::{Value, context};
use std::collections::{BTreeMap, BTreeSet};

/// The default that follows last: with it, what has too few replicas in sync takes no writes.
pub(super) const MIN_IN_SYNC: &str = "min.insync.replicas";
const REPLICAS: &str = "default.replication.factor";

/// What is to be raised; none where topics have followed, or nothing was. Where partitions stay as they are it is what
/// would be.
pub(super) fn raise(
    inputs: &Inputs<'_>,
    role: &KafkaRole,
    lock: &KafkaLock,
) -> Result<Option<Raise>, ServiceError> {
    let (former, now) = match lock.raised_from {
        Some(former) => (former, lock.defaults()),
        None => (lock.defaults(), lock.suited(role)),
    };
    if former == now {
        return Ok(None);
    }
    let count = |count: u16| usize::from(count);
    let (replicas, in_sync) = (count(now.replication_factor), count(now.min_insync_replicas));
    let unless = |name: &str, before: u16, after: usize| if says(role, name) { count(before) } else { after };
    let named = |topics: &[(&str, &str)], value: usize| -> BTreeMap<String, usize> {
        let free = topics.iter().filter(|(_, setting)| !says(role, setting));
        free.map(|(topic, _)| ((*topic).to_owned(), value)).collect()
    };
    Ok(Some(Raise {
        former: count(former.replication_factor),
        replicas: unless(REPLICAS, former.replication_factor, replicas),
        internal: named(
            &[
                (OFFSETS, "offsets.topic.replication.factor"),
                (TRANSACTIONS, "transaction.state.log.replication.factor"),
                (SHARES, "share.coordinator.state.topic.replication.factor"),
            ],
            replicas,
        ),
        own: own(inputs)?,
        former_in_sync: count(former.min_insync_replicas),
        in_sync: unless(MIN_IN_SYNC, former.min_insync_replicas, in_sync),
        internal_in_sync: named(
            &[
                (TRANSACTIONS, "transaction.state.log.min.isr"),
                (SHARES, "share.coordinator.state.topic.min.isr"),
            ],
            in_sync,
        ),
    }))
}

/// Brokers do not take a higher minimum from their files yet: it is told once topics have followed.
pub(super) fn holds_minimum(role: &KafkaRole, lock: &KafkaLock) -> bool {
    let rises = |former: crate::lock::Defaults| lock.min_insync_replicas > former.min_insync_replicas;
    lock.raised_from.is_some_and(rises) && !says(role, MIN_IN_SYNC)
}

/// The inventory sets it.
fn says(role: &KafkaRole, setting: &str) -> bool {
    role.config.contains_key(setting) || role.nodes().any(|member| member.config.contains_key(setting))
}

/// Topics of groups that say how many replicas theirs have.
fn own(inputs: &Inputs<'_>) -> Result<BTreeSet<String>, ServiceError> {
    let says =
        |group: &&ConsumerGroup| group.sink.replication_factor.is_some() && group.sink.bootstrap.is_empty();
    let mut patterns = BTreeSet::new();
    for group in inputs.inventory.consumers.values().filter(says) {
        for source in &group.sources {
            let row: Value = context! { source, database => "*", table => "*" };
            patterns.insert(inputs.templates.render_own("sink.kafka.topic", &group.sink.topic, row)?);
        }
    }
    Ok(patterns)
}
