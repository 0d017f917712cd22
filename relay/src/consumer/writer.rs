//! The blocking thread that turns rows into records and hands them to the sink.

use super::lane::Dest;
use super::shared::{Mode, ModeCell, Shared};
use crate::config::CleanupPolicy;
use crate::event::{Op, RowChange, TxnHeader};
use crate::format::{Formatter, RowContext};
use crate::position::Position;
use crate::schema::{SchemaId, TableSchema};
use crate::sink::{self, Failure, Record, SendError, Sink, TopicError, Topics};
use crate::wire::frame::Covered;
use crate::wire::{Block, BlockItem, PartitionSet};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long to wait for room in a full sink before looking whether to stop.
const FULL_WAIT: Duration = Duration::from_millis(20);
/// Acknowledgements to wait for in a full sink: a small part of what it holds, so that it never runs dry.
const FULL_WAIT_ACKS: usize = 4096;
/// Between two attempts to create a topic.
const TOPIC_RETRY: Duration = Duration::from_millis(500);
/// How long a clean stop waits for acknowledgements; what is not acknowledged is sent again by the next owner.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(2500);
/// Rows between two looks at the lease and the mode.
const ROWS_PER_CHECK: u32 = 256;

/// What the stream tasks hand to the writer, in line.
#[derive(Debug)]
pub(super) enum Feed {
    /// A new stream of a source begins; what follows is its.
    Subscribed { source: usize, partitions: PartitionSet, server_uuid: String, highest: Option<Position> },
    /// Rows.
    Block { source: usize, block: Block },
    /// A mark.
    Covered { source: usize, covered: Covered },
}

/// Why the writer ends before its channel does.
#[derive(Debug)]
enum Stop {
    /// Told to, or the lease is over.
    Told,
    /// The sink is of no more use.
    Failed(Failure),
}

/// The writer of one sink's life.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    mode: Arc<ModeCell>,
    sink: Box<dyn Sink>,
    formatter: Formatter,
    topics: Topics,
    compact: bool,
    known: HashMap<(usize, SchemaId), std::result::Result<Arc<str>, TopicError>>,
    prepared: HashSet<String>,
    names: Vec<Arc<str>>,
    uuids: Vec<Arc<str>>,
    value: Vec<u8>,
    key: Vec<u8>,
    rows_until_check: u32,
}

impl Writer {
    pub(super) fn new(
        shared: Arc<Shared>,
        mode: Arc<ModeCell>,
        sink: Box<dyn Sink>,
        topics: Topics,
        config: &crate::config::KafkaSink,
    ) -> Self {
        let names: Vec<Arc<str>> =
            shared.lanes().sources.iter().map(|source| Arc::clone(&source.name)).collect();
        Self {
            shared,
            mode,
            sink,
            formatter: Formatter::new(config.format),
            topics,
            compact: config.cleanup_policy == CleanupPolicy::Compact,
            known: HashMap::new(),
            prepared: HashSet::new(),
            uuids: vec!["".into(); names.len()],
            names,
            value: Vec::new(),
            key: Vec::new(),
            rows_until_check: ROWS_PER_CHECK,
        }
    }

    /// Runs until the channel closes or it is told to stop. Blocks.
    pub(super) fn run(mut self, mut feed: mpsc::Receiver<Feed>) {
        while let Some(next) = feed.blocking_recv() {
            match self.feed(next) {
                Ok(()) => {}
                Err(Stop::Told) => break,
                Err(Stop::Failed(failure)) => {
                    self.shared.fail(failure);
                    break;
                }
            }
        }
        // Streams that still push see the channel closed.
        drop(feed);
        let drained =
            self.mode.get() == Mode::Drain && self.shared.lease_holds() && self.sink.flush(DRAIN_TIMEOUT);
        if !drained {
            self.sink.purge();
        }
        self.shared.collect();
    }

    fn feed(&mut self, feed: Feed) -> Result<(), Stop> {
        self.check()?;
        match feed {
            Feed::Subscribed { source, partitions, server_uuid, highest } => {
                self.shared.lanes().subscribed(source, &partitions, &server_uuid, highest);
                if let Some(uuid) = self.uuids.get_mut(source) {
                    *uuid = server_uuid.into();
                }
            }
            Feed::Block { source, block } => self.block(source, &block)?,
            Feed::Covered { source, covered } => {
                let file: Arc<str> = covered.file_name.as_str().into();
                let mut lanes = self.shared.lanes();
                lanes.covered(source, covered.position, &file, covered.commit_time_us);
                if let Some(state) = lanes.sources.get_mut(source) {
                    state.head = covered.head;
                    // Another one after a failover.
                    if *state.server_uuid != *covered.server_uuid {
                        state.server_uuid = covered.server_uuid.as_str().into();
                    }
                }
            }
        }
        self.shared.collect();
        Ok(())
    }

    fn block(&mut self, source: usize, block: &Block) -> Result<(), Stop> {
        let mut file = None;
        for item in block.items() {
            match item {
                BlockItem::Txn(txn) => file = Some(&txn.start.file_name),
                BlockItem::Row { txn, row, change } => self.row(source, txn, row, change)?,
                BlockItem::Covered { position, commit_time_us } => {
                    let name = file.map_or_else(|| "".into(), Arc::clone);
                    self.shared.lanes().covered(source, position, &name, commit_time_us);
                }
            }
        }
        let header = block.header();
        if !header.ends_inside
            && let Some(file) = file
        {
            self.shared.lanes().covered(source, header.end, file, header.commit_time_us);
        }
        Ok(())
    }

    fn row(
        &mut self,
        source: usize,
        txn: &Arc<TxnHeader>,
        row: u64,
        change: RowChange<'_>,
    ) -> Result<(), Stop> {
        self.rows_until_check = self.rows_until_check.saturating_sub(1);
        if self.rows_until_check == 0 {
            self.rows_until_check = ROWS_PER_CHECK;
            self.check()?;
        }
        let hashes = [change.key_hash_before, change.key_hash];
        let route = self.shared.lanes().route(source, txn, row, change.op, hashes);
        if route.is_empty() {
            return Ok(());
        }
        let dests = [route.whole, route.old, route.new];
        let topic = match self.topic(source, change.schema) {
            Ok(topic) => topic,
            Err(Stop::Failed(failure)) if failure.definite => {
                for dest in dests.into_iter().flatten() {
                    self.shared.lanes().stop(dest.token, failure.reason.clone());
                }
                return Ok(());
            }
            Err(stop) => return Err(stop),
        };
        for (dest, change) in dests.into_iter().zip([change, change.old_row(), change.new_row()]) {
            if let Some(dest) = dest {
                self.emit(source, &topic, dest, txn, row, change)?;
            }
        }
        Ok(())
    }

    fn emit(
        &mut self,
        source: usize,
        topic: &str,
        dest: Dest,
        txn: &TxnHeader,
        row: u64,
        change: RowChange<'_>,
    ) -> Result<(), Stop> {
        let empty: Arc<str> = "".into();
        let context = RowContext {
            source: self.names.get(source).unwrap_or(&empty),
            txn,
            row,
            change,
            server_uuid: self.uuids.get(source).unwrap_or(&empty),
            snapshot: change.op == Op::Read,
        };
        self.value.clear();
        self.key.clear();
        let mut value = std::mem::take(&mut self.value);
        let mut key = std::mem::take(&mut self.key);
        let formatted =
            self.formatter.value(&context, &mut value).and_then(|()| self.formatter.key(&context, &mut key));
        let result = match formatted {
            Ok(keyed) => self.emit_formatted(topic, dest, change, keyed.then_some(&key[..]), &value),
            Err(error) => {
                let TableSchema { database, table, .. } = &**change.schema;
                let at = txn.start.position;
                let reason = format!("{database}.{table}: row {row} of the transaction at {at}: {error}");
                self.shared.lanes().stop(dest.token, reason);
                Ok(())
            }
        };
        self.value = value;
        self.key = key;
        result
    }

    fn emit_formatted(
        &mut self,
        topic: &str,
        dest: Dest,
        change: RowChange<'_>,
        key: Option<&[u8]>,
        value: &[u8],
    ) -> Result<(), Stop> {
        let Ok(key) = sink::record_key(key, change.op, self.compact) else {
            let TableSchema { database, table, .. } = &**change.schema;
            let reason = format!(
                "{database}.{table} has no primary key and cannot go to a compacted topic; give it one, or set \
                 sink.kafka.cleanup_policy to delete"
            );
            self.shared.lanes().stop(dest.token, reason);
            return Ok(());
        };
        let record = Record { topic, key, value: Some(value), epoch: dest.epoch, token: dest.token };
        self.send(&record)?;
        match dest.tombstone {
            Some(token) => self.send(&Record { value: None, token, ..record }),
            None => Ok(()),
        }
    }

    fn send(&mut self, record: &Record<'_>) -> Result<(), Stop> {
        loop {
            match self.sink.send(record) {
                Ok(()) => return Ok(()),
                Err(SendError::Full) => {
                    self.shared.acks.wait(FULL_WAIT_ACKS, FULL_WAIT);
                    self.shared.collect();
                    self.check()?;
                }
                Err(SendError::Failed(failure)) if failure.definite => {
                    self.shared.lanes().stop(record.token, failure.reason);
                    return Ok(());
                }
                Err(SendError::Failed(failure)) => return Err(Stop::Failed(failure)),
            }
        }
    }

    fn topic(&mut self, source: usize, schema: &TableSchema) -> Result<Arc<str>, Stop> {
        let key = (source, schema.id);
        if let Some(known) = self.known.get(&key) {
            return known.clone().map_err(|error| Stop::Failed(Failure::definite(error.to_string())));
        }
        let name = self.names.get(source).map_or("", |name| &**name);
        let named = self.topics.name(name, &schema.database, &schema.table).map(Arc::from);
        if let Ok(topic) = &named {
            self.prepare(topic)?;
        }
        self.known.insert(key, named.clone());
        named.map_err(|error| Stop::Failed(Failure::definite(error.to_string())))
    }

    /// Makes sure that a topic exists; waits for brokers for ever.
    fn prepare(&mut self, topic: &str) -> Result<(), Stop> {
        while !self.prepared.contains(topic) {
            match self.sink.prepare(topic) {
                Ok(()) => {
                    self.prepared.insert(topic.to_owned());
                }
                Err(failure) if failure.definite => return Err(Stop::Failed(failure)),
                Err(failure) => {
                    tracing::warn!(topic, reason = failure.reason, "topic not ready, trying again");
                    self.check()?;
                    std::thread::sleep(TOPIC_RETRY);
                }
            }
            self.check()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Stop> {
        if self.mode.get() == Mode::Run && self.shared.lease_holds() { Ok(()) } else { Err(Stop::Told) }
    }
}
