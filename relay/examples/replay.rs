//! What a Kafka producer alone can do: reads a topic into memory and writes its records into another one, the same
//! keys, headers, partitions and values, with the promises of aesop's sink and more room. The peer of `bench/kafka`.
//!
//! usage: replay BOOTSTRAP FROM TO

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const TIMEOUT: Duration = Duration::from_mins(1);

struct Kept {
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Option<OwnedHeaders>,
}

#[derive(Default)]
struct Counter(AtomicU64);

impl ClientContext for Counter {}
impl ProducerContext for Counter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if result.is_ok() {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn read(bootstrap: &str, topic: &str) -> anyhow::Result<(i32, Vec<Kept>)> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "replay")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "false")
        .create()?;
    let metadata = consumer.fetch_metadata(Some(topic), TIMEOUT)?;
    let partitions: Vec<i32> =
        metadata.topics().iter().flat_map(MetadataTopic::partitions).map(MetadataPartition::id).collect();
    let (mut list, mut wanted) = (TopicPartitionList::new(), 0);
    for partition in &partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning)?;
        let (low, high) = consumer.fetch_watermarks(topic, *partition, TIMEOUT)?;
        wanted += u64::try_from(high - low)?;
    }
    consumer.assign(&list)?;
    let mut kept = Vec::with_capacity(usize::try_from(wanted)?);
    while u64::try_from(kept.len())? < wanted {
        let Some(message) = consumer.poll(TIMEOUT) else { anyhow::bail!("the topic went silent") };
        let message = message?;
        let headers = message.headers().map(|headers| {
            headers.iter().fold(OwnedHeaders::new(), |all, header| {
                all.insert(Header { key: header.key, value: header.value })
            })
        });
        kept.push(Kept {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers,
        });
    }
    Ok((i32::try_from(partitions.len())?, kept))
}

fn create(bootstrap: &str, topic: &str, partitions: i32) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create()?;
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for result in runtime.block_on(admin.create_topics([&new], &options))? {
        result.map_err(|(topic, code)| anyhow::anyhow!("topic {topic}: {code}"))?;
    }
    Ok(())
}

/// Seconds of CPU that this process has used.
fn cpu() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let behind = stat.rsplit_once(')').map_or("", |(_, behind)| behind);
    let fields = behind.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    // Linux counts these in hundredths of a second.
    Ok(fields.sum::<Result<f64, _>>()? / 100.0)
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(bootstrap), Some(from), Some(to)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        anyhow::bail!("usage: replay BOOTSTRAP FROM TO");
    };
    let (partitions, kept) = read(&bootstrap, &from)?;
    create(&bootstrap, &to, partitions)?;
    let producer: ThreadedProducer<Counter> = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("compression.type", "lz4")
        .set("linger.ms", "5")
        .set("queue.buffering.max.kbytes", "65536")
        .set("queue.buffering.max.messages", "200000")
        .create_with_context(Counter::default())?;
    // The connections are made before the clock runs.
    producer.client().fetch_metadata(Some(&to), TIMEOUT)?;
    let (before, clock) = (cpu()?, Instant::now());
    for row in &kept {
        loop {
            let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&to).partition(row.partition);
            if let Some(key) = &row.key {
                record = record.key(key);
            }
            if let Some(value) = &row.value {
                record = record.payload(value);
            }
            if let Some(headers) = &row.headers {
                record = record.headers(headers.clone());
            }
            match producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err((error, _)) => return Err(error.into()),
            }
        }
    }
    producer.flush(Duration::from_mins(5))?;
    let (seconds, used) = (clock.elapsed().as_secs_f64(), cpu()? - before);
    let acked = producer.context().0.load(Ordering::Relaxed);
    let bytes: usize = kept.iter().map(|row| row.value.as_ref().map_or(0, Vec::len)).sum();
    let mean = bytes / kept.len().max(1);
    let mut out = std::io::stdout();
    writeln!(out, "records {acked} seconds {seconds:.3} cpu {used:.2} mean_value_bytes {mean}")?;
    Ok(())
}
