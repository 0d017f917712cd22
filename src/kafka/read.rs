//! Reading records, for the demo and for tests: every partition of every topic of a prefix, from the beginning.

use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long the brokers may take to answer a metadata request.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Topic.
    pub topic: String,
    /// Kafka partition.
    pub partition: i32,
    /// Offset in it.
    pub offset: i64,
    /// Key; none for tables without one.
    pub key: Option<Vec<u8>>,
    /// Value; none is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Reads without a consumer group, so that nothing is left behind in the cluster.
pub struct Reader {
    consumer: BaseConsumer,
    prefix: String,
    assigned: BTreeSet<(String, i32)>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("prefix", &self.prefix)
            .field("assigned", &self.assigned)
            .finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader of all topics that start with `prefix`, at the brokers `bootstrap` (`host:port,…`).
    pub fn new(bootstrap: &str, prefix: &str) -> Result<Self, KafkaError> {
        Self::with(bootstrap, prefix, &[])
    }

    /// The same with further settings of librdkafka: TLS, a user.
    pub fn with(bootstrap: &str, prefix: &str, settings: &[(&str, &str)]) -> Result<Self, KafkaError> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", bootstrap)
            .set("group.id", "aesop-reader")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed");
        for (name, value) in settings {
            config.set(*name, *value);
        }
        let consumer = config.create()?;
        Ok(Self { consumer, prefix: prefix.to_owned(), assigned: BTreeSet::new() })
    }

    /// Takes in topics and partitions that came since the last call. Blocks.
    pub fn refresh(&mut self) -> Result<usize, KafkaError> {
        let metadata = self.consumer.fetch_metadata(None, METADATA_TIMEOUT)?;
        let mut fresh = TopicPartitionList::new();
        for topic in metadata.topics().iter().filter(|topic| topic.name().starts_with(&self.prefix)) {
            for partition in topic.partitions() {
                if self.assigned.insert((topic.name().to_owned(), partition.id())) {
                    fresh.add_partition_offset(topic.name(), partition.id(), Offset::Beginning)?;
                }
            }
        }
        if fresh.count() > 0 {
            self.consumer.incremental_assign(&fresh)?;
        }
        Ok(self.assigned.len())
    }

    /// The next record, if one comes within `wait`. Blocks.
    pub fn next(&self, wait: Duration) -> Result<Option<Record>, KafkaError> {
        let Some(message) = self.consumer.poll(wait).transpose()? else { return Ok(None) };
        Ok(Some(Record {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        }))
    }
}
