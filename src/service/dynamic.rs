//! Which of a broker's settings Kafka takes in while it runs.

/// Settings that `IncrementalAlterConfigs` takes for one broker (Kafka's documentation, "Updating Broker Configs",
/// those of update mode per-broker or cluster-wide), without those of listeners, which rest on files.
const DYNAMIC: &[&str] = &[
    "background.threads",
    "compression.type",
    "log.cleaner.backoff.ms",
    "log.cleaner.dedupe.buffer.size",
    "log.cleaner.delete.retention.ms",
    "log.cleaner.io.buffer.load.factor",
    "log.cleaner.io.buffer.size",
    "log.cleaner.io.max.bytes.per.second",
    "log.cleaner.max.compaction.lag.ms",
    "log.cleaner.min.cleanable.ratio",
    "log.cleaner.min.compaction.lag.ms",
    "log.cleaner.threads",
    "log.cleanup.policy",
    "log.flush.interval.messages",
    "log.flush.interval.ms",
    "log.index.interval.bytes",
    "log.index.size.max.bytes",
    "log.local.retention.bytes",
    "log.local.retention.ms",
    "log.message.timestamp.after.max.ms",
    "log.message.timestamp.before.max.ms",
    "log.message.timestamp.type",
    "log.preallocate",
    "log.retention.bytes",
    "log.retention.ms",
    "log.roll.jitter.ms",
    "log.roll.ms",
    "log.segment.bytes",
    "log.segment.delete.delay.ms",
    "max.connection.creation.rate",
    "max.connections",
    "max.connections.per.ip",
    "max.connections.per.ip.overrides",
    "message.max.bytes",
    "min.insync.replicas",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
    "producer.id.expiration.ms",
    "unclean.leader.election.enable",
];

/// Whether a running broker takes this setting in.
pub fn dynamic_setting(name: &str) -> bool {
    DYNAMIC.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_sorted_and_knows_what_needs_a_restart() {
        assert!(DYNAMIC.is_sorted());
        assert!(dynamic_setting("num.io.threads") && dynamic_setting("background.threads"));
        for fixed in ["listeners", "log.dirs", "queued.max.requests", "num.partitions", "log.retention.hours"]
        {
            assert!(!dynamic_setting(fixed), "{fixed}");
        }
    }
}
