//! The engine from frames to records, with a relay and a sink made for it.

use super::engine::{Engine, Parts};
use super::lane::Lanes;
use super::shared::{Mode, Shared};
use super::stream::{Events, Relays};
use crate::client::{ClientError, StreamEvent, Subscription};
use crate::config::ConsumerConfig;
use crate::event::{Op, RowChange, TxnStart};
use crate::group::{Lease, Point};
use crate::position::Position;
use crate::schema::{Column, ColumnKind, TableSchema};
use crate::sink::Failure;
use crate::sink::memory::{Memory, Written};
use crate::wire::BlockReader;
use crate::wire::block::{BlockBuilder, NewSchema};
use crate::wire::frame::{StartFrom, Welcome};
use crate::zk::types::Checkpoint;
use expect_test::expect;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PARTITIONS: u32 = 4;

/// A row of table `shop.t (id INT PRIMARY KEY, v INT)`.
#[derive(Clone, Copy, Debug)]
enum Row {
    Insert(u32, u32),
    Delete(u32),
    Rekey(u32, u32),
}

/// A relay that serves transactions of one row each, and may cut its streams.
#[derive(Debug, Default)]
struct FakeRelay {
    log: Mutex<Vec<Row>>,
    subscriptions: Mutex<Vec<StartFrom>>,
    /// The next stream ends after so many transactions.
    cut_after: Mutex<Option<usize>>,
}

fn schema() -> Arc<TableSchema> {
    let column = |name: &str| Column {
        name: name.to_owned(),
        kind: ColumnKind::Int { bytes: 4, unsigned: true },
        nullable: false,
        visible: true,
    };
    Arc::new(TableSchema::new("shop".into(), "t".into(), vec![column("id"), column("v")], vec![0]))
}

fn image(id: u32, value: u32) -> Vec<u8> {
    [&[0b11, 0][..], &id.to_le_bytes(), &value.to_le_bytes()].concat()
}

fn position(index: usize) -> Position {
    Position::new(1, 3, 1000 * (1 + u64::try_from(index).unwrap()))
}

fn block(index: usize, row: Row, reader: &mut BlockReader) -> StreamEvent {
    let schema = schema();
    let start = TxnStart {
        position: position(index),
        file_name: "bin.000003".into(),
        gtid: None,
        server_id: 97,
        commit_time_us: 1_700_000_000_000_000,
    };
    let mut builder = BlockBuilder::new(start.position, Arc::clone(&start.file_name));
    builder.begin(&start);
    let definition = Some(schema.serialize().into());
    let slot = builder.add_schema(NewSchema { id: schema.id, definition }).unwrap();
    let (op, before, after, hashes) = match row {
        Row::Insert(id, v) => (Op::Insert, Vec::new(), image(id, v), (id, id)),
        Row::Delete(id) => (Op::Delete, image(id, 0), Vec::new(), (id, id)),
        Row::Rekey(old, new) => (Op::Update, image(old, 0), image(new, 0), (old, new)),
    };
    let change = RowChange {
        op,
        schema: &schema,
        key_hash_before: hashes.0.into(),
        key_hash: hashes.1.into(),
        before: &before,
        after: &after,
    };
    builder.row(slot, 0, &change);
    builder.commit(start.position.offset + 500, 1);
    StreamEvent::Block(reader.open(builder.seal(false)).unwrap())
}

struct FakeStream {
    welcome: Welcome,
    relay: Arc<FakeRelay>,
    reader: BlockReader,
    next: usize,
    cut_after: Option<usize>,
}

impl Events for FakeStream {
    fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    fn next(&mut self) -> BoxFuture<'_, Result<StreamEvent, ClientError>> {
        async move {
            if self.cut_after == Some(0) {
                return Err(ClientError::Transient { address: "r1".into(), reason: "cut".into() });
            }
            loop {
                let row = self.relay.log.lock().unwrap().get(self.next).copied();
                if let Some(row) = row {
                    let event = block(self.next, row, &mut self.reader);
                    self.next += 1;
                    self.cut_after = self.cut_after.map(|left| left - 1);
                    return Ok(event);
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        .boxed()
    }
}

#[derive(Debug)]
struct Fake(Arc<FakeRelay>);

impl Relays for Fake {
    fn find<'a>(&'a self, _source: &'a str) -> BoxFuture<'a, Result<BTreeMap<String, String>, String>> {
        async { Ok(BTreeMap::from([("r1".to_owned(), "r1:1".to_owned())])) }.boxed()
    }

    fn epoch<'a>(&'a self, _source: &'a str) -> BoxFuture<'a, Result<u32, String>> {
        async { Ok(1) }.boxed()
    }

    fn subscribe(
        &self,
        subscription: Subscription,
        _: crate::wire::Selection,
    ) -> BoxFuture<'_, Result<Box<dyn Events>, ClientError>> {
        self.0.subscriptions.lock().unwrap().push(subscription.from.clone());
        let next = match subscription.from {
            StartFrom::Position { position: from, rows } => (0..=self.0.log.lock().unwrap().len())
                .find(|i| position(*i) >= from)
                .map(|i| if position(i) == from && rows > 0 { i + 1 } else { i })
                .unwrap(),
            StartFrom::Earliest | StartFrom::Latest | StartFrom::Gtid(_) | StartFrom::Time(_) => 0,
        };
        let stream = FakeStream {
            welcome: Welcome {
                server_uuid: "97".into(),
                epoch: 1,
                lowest: None,
                highest: None,
                file_base: "bin".into(),
            },
            relay: Arc::clone(&self.0),
            reader: BlockReader::default(),
            next,
            cut_after: self.0.cut_after.lock().unwrap().take(),
        };
        async move { Ok::<Box<dyn Events>, _>(Box::new(stream)) }.boxed()
    }
}

struct Harness {
    relay: Arc<FakeRelay>,
    memory: Memory,
    parts: Parts,
}

impl Harness {
    fn new(sink: &str) -> Self {
        let yaml = format!(
            "cluster: c\ngroup: g\nid: m\nhttp_listen: ''\nzookeeper: {{servers: []}}\npartitions: {PARTITIONS}\n\
             sources: {{shop: {{}}}}\nsink: {{kafka: {{bootstrap: [], {sink}}}}}"
        );
        let config: ConsumerConfig = serde_yaml::from_str(&yaml).unwrap();
        let relay = Arc::new(FakeRelay::default());
        let memory = Memory::default();
        let compact = sink.contains("compact");
        let mut lanes = Lanes::new(PARTITIONS, compact, config.sources.keys());
        for partition in 0..PARTITIONS {
            let start = Checkpoint { start: Some("earliest".into()), ..Checkpoint::default() };
            lanes.add(0, partition, 5, &start);
        }
        let shared = Arc::new(Shared::new(lanes));
        shared.set_lease(Some(Lease::new(Duration::from_mins(10), Instant::now())));
        let sink = Arc::new(memory.clone());
        let parts = Parts { config, shared, relays: Arc::new(Fake(Arc::clone(&relay))), sink };
        Self { relay, memory, parts }
    }

    fn push(&self, rows: impl IntoIterator<Item = Row>) {
        self.relay.log.lock().unwrap().extend(rows);
    }

    fn start(&self) -> Engine {
        Engine::start(&self.parts, (0..PARTITIONS).collect()).unwrap()
    }

    async fn until(&self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition(self) {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.parts.shared.collect();
        }
    }

    async fn until_written(&self, count: usize) {
        self.until("records are written", |h| h.memory.written().len() >= count).await;
    }

    fn all_at(&self, offset: u64) -> bool {
        self.marks().iter().all(|mark| mark.is_some_and(|mark| mark.position.offset == offset))
    }

    /// The mark of each partition.
    fn marks(&self) -> Vec<Option<Point>> {
        self.parts.shared.lanes().status().iter().map(|lane| lane.mark.as_ref().map(|m| m.point)).collect()
    }
}

fn text(written: &Written) -> String {
    let utf8 = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map_or("-".into(), |b| String::from_utf8(b.clone()).unwrap())
    };
    format!("{} {} {} {}\n", written.topic, written.epoch, utf8(&written.key), utf8(&written.value))
}

#[tokio::test]
async fn rows_become_records_and_changed_keys_two_of_them() {
    let harness = Harness::new("cleanup_policy: compact");
    harness.push([Row::Insert(1, 10), Row::Rekey(1, 2), Row::Delete(2)]);
    let engine = harness.start();
    harness.until_written(6).await;
    engine.end(Mode::Drain).await;
    let all: String = harness.memory.written().iter().map(text).collect();
    expect![[r#"
        shop.shop.t 5 {"id":1} {"op":"insert","source":"shop","database":"shop","table":"t","key":{"id":1},"before":null,"after":{"id":1,"v":10},"scn":12884902888,"row":0,"txn":{"id":"bin.000003:1000","rows":1,"last":true},"position":{"file":"bin.000003","offset":1000},"server_id":97,"commit_time":"2023-11-14T22:13:20.000000Z","snapshot":false}
        shop.shop.t 5 {"id":1} {"op":"delete","source":"shop","database":"shop","table":"t","key":{"id":1},"before":{"id":1,"v":0},"after":null,"scn":12884903888,"row":0,"txn":{"id":"bin.000003:2000","rows":1,"last":true},"position":{"file":"bin.000003","offset":2000},"server_id":97,"commit_time":"2023-11-14T22:13:20.000000Z","snapshot":false}
        shop.shop.t 5 {"id":1} -
        shop.shop.t 5 {"id":2} {"op":"insert","source":"shop","database":"shop","table":"t","key":{"id":2},"before":null,"after":{"id":2,"v":0},"scn":12884903888,"row":0,"txn":{"id":"bin.000003:2000","rows":1,"last":true},"position":{"file":"bin.000003","offset":2000},"server_id":97,"commit_time":"2023-11-14T22:13:20.000000Z","snapshot":false}
        shop.shop.t 5 {"id":2} {"op":"delete","source":"shop","database":"shop","table":"t","key":{"id":2},"before":{"id":2,"v":0},"after":null,"scn":12884904888,"row":0,"txn":{"id":"bin.000003:3000","rows":1,"last":true},"position":{"file":"bin.000003","offset":3000},"server_id":97,"commit_time":"2023-11-14T22:13:20.000000Z","snapshot":false}
        shop.shop.t 5 {"id":2} -
    "#]]
    .assert_eq(&all);
    assert_eq!(harness.memory.topics(), ["shop.shop.t"]);
    let end = Point { position: Position::new(1, 3, 3500), row: 0 };
    assert_eq!(harness.marks(), [Some(end); 4]);
}

#[tokio::test]
async fn a_cut_stream_goes_on_without_repeating_or_skipping() {
    let harness = Harness::new("");
    *harness.relay.cut_after.lock().unwrap() = Some(7);
    harness.push((0..20).map(|id| Row::Insert(id, id)));
    let engine = harness.start();
    harness.until_written(20).await;
    engine.end(Mode::Drain).await;
    assert_eq!(harness.memory.written().len(), 20);
    assert_eq!(harness.relay.subscriptions.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_failed_delivery_goes_back_to_the_checkpoint_and_loses_nothing() {
    let harness = Harness::new("");
    harness.push((0..8).map(|id| Row::Insert(id, 0)));
    let engine = harness.start();
    harness.until_written(8).await;
    harness.until("all is acknowledged", |h| h.parts.shared.lanes().in_flight() == 0).await;
    harness.memory.fail_next(Failure::transient("broker gone"));
    harness.push((8..16).map(|id| Row::Insert(id, 0)));
    let mut failure = None;
    harness
        .until("it failed", |h| {
            failure = h.parts.shared.take_failure();
            failure.is_some()
        })
        .await;
    engine.end(Mode::Halt).await;
    let engine = harness.start();
    harness
        .until("all is acknowledged", |h| {
            h.marks().iter().all(|m| {
                m.is_some_and(|m| m.position >= position(16))
                    || m.is_some_and(|m| m.position.offset == 16_500)
            })
        })
        .await;
    engine.end(Mode::Drain).await;
    let keys: BTreeSet<Vec<u8>> = harness.memory.written().iter().filter_map(|w| w.key.clone()).collect();
    assert_eq!(keys.len(), 16);
    // What was acknowledged before is not sent again.
    assert!(harness.memory.written().len() < 8 + 16);
}

#[tokio::test]
async fn a_checkpoint_never_passes_what_is_held_back() {
    let harness = Harness::new("");
    harness.memory.hold(true);
    harness.push([Row::Insert(0, 0), Row::Insert(1, 0)]);
    let engine = harness.start();
    harness.until_written(2).await;
    harness
        .until("idle partitions move on", |h| h.marks()[2].is_some_and(|m| m.position.offset == 2500))
        .await;
    assert_eq!(harness.marks()[0], Some(Point { position: position(0), row: 0 }));
    assert_eq!(harness.marks()[1], Some(Point { position: position(1), row: 0 }));
    harness.memory.hold(false);
    harness.until("all move on", |h| h.all_at(2500)).await;
    engine.end(Mode::Drain).await;
}

#[tokio::test]
async fn without_the_lease_nothing_more_is_sent() {
    let harness = Harness::new("");
    harness.push([Row::Insert(0, 0)]);
    let engine = harness.start();
    harness.until_written(1).await;
    harness.parts.shared.set_lease(Some(Lease::new(Duration::ZERO, Instant::now())));
    harness.push((1..50).map(|id| Row::Insert(id, 0)));
    engine.end(Mode::Halt).await;
    assert_eq!(harness.memory.written().len(), 1);
}

#[tokio::test]
async fn a_row_that_cannot_be_written_stops_its_partition_alone() {
    let harness = Harness::new("");
    harness.memory.fail_next(Failure::definite("too large"));
    harness.push((0..8).map(|id| Row::Insert(id, 0)));
    let engine = harness.start();
    let mut failure = None;
    harness
        .until("it failed", |h| {
            failure = h.parts.shared.take_failure();
            failure.is_some()
        })
        .await;
    engine.end(Mode::Halt).await;
    let engine = harness.start();
    harness
        .until("the others move on", |h| {
            h.marks()[1..].iter().all(|m| m.is_some_and(|m| m.position.offset == 8500))
        })
        .await;
    engine.end(Mode::Drain).await;
    assert_eq!(harness.marks()[0], Some(Point { position: position(0), row: 0 }));
    let status = harness.parts.shared.lanes().status();
    assert_eq!(status[0].error.as_deref(), Some("too large"));
}

#[tokio::test]
async fn partitions_come_and_go_while_rows_flow() {
    let harness = Harness::new("");
    harness.push((0..40).map(|id| Row::Insert(id, 0)));
    let engine = harness.start();
    harness.until_written(5).await;
    engine.want([0, 1].into());
    harness
        .until("two are quiet", |h| h.parts.shared.lanes().is_quiet(2) && h.parts.shared.lanes().is_quiet(3))
        .await;
    harness.push((40..80).map(|id| Row::Insert(id, 0)));
    engine.want((0..PARTITIONS).collect());
    harness.until_written(80).await;
    engine.end(Mode::Drain).await;
    // Nothing was lost, and as no delivery failed, nothing came twice.
    let keys: BTreeSet<Option<Vec<u8>>> = harness.memory.written().into_iter().map(|w| w.key).collect();
    assert_eq!((keys.len(), harness.memory.written().len()), (80, 80));
}
