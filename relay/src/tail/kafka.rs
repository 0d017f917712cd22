//! Rows to Kafka without ZooKeeper: one process, one producer, and the place in a file.

use super::out::Out;
use super::printer::PrintError;
use crate::config::{CleanupPolicy, Format, KafkaSink};
use crate::event::Op;
use crate::format::{Formatter, RowContext};
use crate::schema::SchemaId;
use crate::sink::kafka::{Counters, Kafka};
use crate::sink::{self, Acks, Failure, Open as _, Record, SendError, Sink, Topics};
use anyhow::Context as _;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long to wait for room, or for acknowledgements, before looking whether to end.
const WAIT: Duration = Duration::from_millis(100);
/// Acknowledgements to wait for in a full producer: a small part of what it holds.
const WAIT_ACKS: usize = 4096;
/// Between two attempts to make a topic.
const TOPIC_RETRY: Duration = Duration::from_millis(500);
/// For what is on its way when the program is told to end.
const LAST_WAIT: Duration = Duration::from_secs(5);
/// The header of all records: there is one owner.
const EPOCH: i32 = 1;

/// The keys of a sink, from the file if there is one.
pub(super) fn settings(
    path: Option<&Path>,
    bootstrap: &[String],
    format: Format,
) -> anyhow::Result<KafkaSink> {
    let text = match path {
        Some(path) => std::fs::read_to_string(path)
            .with_context(|| format!("cannot read the settings for Kafka, {}", path.display()))?,
        None => String::new(),
    };
    let place = || path.map_or_else(String::new, |path| path.display().to_string());
    let mut keys: serde_yaml::Mapping = if text.trim().is_empty() {
        serde_yaml::Mapping::new()
    } else {
        serde_yaml::from_str(&text).with_context(place)?
    };
    for (key, value) in
        [("bootstrap", serde_yaml::to_value(bootstrap)?), ("format", serde_yaml::to_value(format)?)]
    {
        if keys.insert(key.into(), value).is_some() {
            let option = if key == "bootstrap" { "--kafka" } else { "--format" };
            anyhow::bail!("{}: {key} is said with {option}", place());
        }
    }
    serde_yaml::from_value(serde_yaml::Value::Mapping(keys)).with_context(place)
}

/// Sends rows.
#[derive(Debug)]
pub(super) struct KafkaOut {
    sink: Box<dyn Sink>,
    acks: Arc<Acks>,
    formatter: Formatter,
    topics: Topics,
    compact: bool,
    source: String,
    known: HashMap<SchemaId, Arc<str>>,
    prepared: HashSet<Arc<str>>,
    key: Vec<u8>,
    value: Vec<u8>,
    shutdown: CancellationToken,
}

impl KafkaOut {
    /// Must be called inside a tokio runtime of several threads.
    pub(super) fn open(config: KafkaSink, source: &str, shutdown: CancellationToken) -> anyhow::Result<Self> {
        let (format, compact) = (config.format, config.cleanup_policy == CleanupPolicy::Compact);
        let topics = Topics::new(&config)?;
        let acks = Arc::new(Acks::default());
        let client = format!("aesop-tail-{source}");
        let sink = Kafka::new(config, client, Arc::new(Counters::default()))?.open(Arc::clone(&acks))?;
        Ok(Self {
            sink,
            acks,
            formatter: Formatter::new(format),
            topics,
            compact,
            source: source.to_owned(),
            known: HashMap::new(),
            prepared: HashSet::new(),
            key: Vec::new(),
            value: Vec::new(),
            shutdown,
        })
    }

    /// An error where a record was not delivered: what follows it may be, so only the last place kept holds.
    fn check(&self) -> Result<(), PrintError> {
        if let Some(failure) = self.acks.take().into_iter().find_map(|(_, failure)| failure) {
            return Err(failure.into());
        }
        if self.shutdown.is_cancelled() { Err(PrintError::Ended) } else { Ok(()) }
    }

    fn topic(&mut self, row: &RowContext<'_>) -> Result<Arc<str>, PrintError> {
        let schema = row.change.schema;
        if let Some(topic) = self.known.get(&schema.id) {
            return Ok(Arc::clone(topic));
        }
        let named = self.topics.name(&self.source, &schema.database, &schema.table);
        let topic: Arc<str> = named.map_err(|error| Failure::definite(error.to_string()))?.into();
        while !self.prepared.contains(&topic) {
            match self.sink.prepare(&topic) {
                Ok(()) => drop(self.prepared.insert(Arc::clone(&topic))),
                Err(failure) if failure.definite => return Err(failure.into()),
                Err(failure) => {
                    tracing::warn!(topic = &*topic, reason = failure.reason, "topic not ready, trying again");
                    std::thread::sleep(TOPIC_RETRY);
                    self.check()?;
                }
            }
        }
        self.known.insert(schema.id, Arc::clone(&topic));
        Ok(topic)
    }

    fn send(&mut self, record: &Record<'_>) -> Result<(), PrintError> {
        loop {
            match self.sink.send(record) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) => {
                    self.acks.wait(WAIT_ACKS, WAIT);
                    self.check()?;
                }
                Err(SendError::Failed(failure)) => return Err(failure.into()),
            }
        }
    }

    fn emit(
        &mut self,
        row: &RowContext<'_>,
        key: &[u8],
        value: &[u8],
        keyed: bool,
    ) -> Result<(), PrintError> {
        let topic = self.topic(row)?;
        let Ok(key) = sink::record_key(keyed.then_some(key), row.change.op, self.compact) else {
            let schema = row.change.schema;
            return Err(Failure::definite(format!(
                "{}.{} has no primary key and cannot go to a compacted topic: give it one, or leave it out with --tables",
                schema.database, schema.table
            ))
            .into());
        };
        let record = Record { topic: &topic, key, value: Some(value), epoch: EPOCH, token: 0 };
        self.send(&record)?;
        if self.compact && row.change.op == Op::Delete {
            self.send(&Record { value: None, ..record })?;
        }
        Ok(())
    }
}

impl Out for KafkaOut {
    fn row(&mut self, row: &RowContext<'_>) -> Result<(), PrintError> {
        let (mut key, mut value) = (std::mem::take(&mut self.key), std::mem::take(&mut self.value));
        key.clear();
        value.clear();
        self.formatter.value(row, &mut value)?;
        let keyed = self.formatter.key(row, &mut key)?;
        // Making a topic, or waiting for room, takes time that others need.
        let done = tokio::task::block_in_place(|| self.emit(row, &key, &value, keyed));
        (self.key, self.value) = (key, value);
        done
    }

    fn flush(&mut self) -> Result<(), PrintError> {
        match self.check() {
            // Whoever reads ends by itself.
            Err(PrintError::Ended) => Ok(()),
            done => done,
        }
    }

    fn settle(&mut self) -> Result<bool, PrintError> {
        tokio::task::block_in_place(|| {
            let mut patience = true;
            while !self.sink.flush(WAIT) {
                match self.check() {
                    Ok(()) => {}
                    Err(PrintError::Ended) if std::mem::take(&mut patience) => {
                        // What is on its way gets a moment to arrive.
                        if self.sink.flush(LAST_WAIT) {
                            break;
                        }
                    }
                    Err(PrintError::Ended) => return Ok(false),
                    Err(error) => return Err(error),
                }
            }
            match self.check() {
                Ok(()) | Err(PrintError::Ended) => Ok(true),
                Err(error) => Err(error),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_those_of_a_sink() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kafka.yml");
        let brokers = ["k:9092".to_owned()];
        let plain = settings(None, &brokers, Format::Maxwell).unwrap();
        assert_eq!((plain.bootstrap, plain.format), (brokers.to_vec(), Format::Maxwell));
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            settings(Some(&path), &brokers, Format::Aesop).map_err(|error| format!("{error:#}"))
        };
        assert_eq!(read("topic: rows\ncleanup_policy: compact\n").unwrap().topic, "rows");
        assert!(
            read("bootstrap: [x:1]\n").unwrap_err().ends_with("kafka.yml: bootstrap is said with --kafka")
        );
        let error = read("topics: rows\n").unwrap_err();
        assert!(error.contains("kafka.yml") && error.contains("unknown field `topics`"), "{error}");
    }
}
