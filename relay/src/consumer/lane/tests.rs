use super::*;
use crate::event::TxnStart;
use crate::sink::Failure;
use expect_test::{Expect, expect};
use proptest::prelude::*;

const INSERT: Op = Op::Insert;

fn txn(offset: u64, rows: u64) -> Arc<TxnHeader> {
    Arc::new(TxnHeader {
        start: TxnStart {
            position: Position::new(1, 3, offset),
            file_name: "bin.000003".into(),
            gtid: Some(format!("0-1-{offset}")),
            server_id: 1,
            commit_time_us: 1_000_000 + i64::try_from(offset).unwrap(),
        },
        end_offset: offset + 100,
        rows,
    })
}

fn start(text: &str) -> Checkpoint {
    Checkpoint { start: Some(text.to_owned()), ..Checkpoint::default() }
}

fn at(offset: u64, rows: u64) -> Checkpoint {
    Checkpoint { position: Position::new(1, 3, offset), rows, ..Checkpoint::default() }
}

fn point(offset: u64, row: u64) -> Point {
    Point { position: Position::new(1, 3, offset), row }
}

/// Four partitions of source `shop`, all from the beginning, on a stream.
fn running(tombstones: bool) -> Lanes {
    let mut lanes = Lanes::new(4, tombstones, &["shop".to_owned()]);
    for partition in 0..4 {
        lanes.add(0, partition, 7, &start("earliest"));
    }
    lanes.subscribed(0, &PartitionSet::all(4), "uuid", None);
    lanes
}

fn mark_of(lanes: &Lanes, partition: u32) -> Option<Point> {
    lanes.status().into_iter().find(|lane| lane.partition == partition)?.mark.map(|mark| mark.point)
}

fn check(lanes: &Lanes, partition: u32, expected: &Expect) {
    let mark = lanes.status().into_iter().find(|lane| lane.partition == partition).and_then(|lane| lane.mark);
    let c = mark.unwrap().checkpoint("uuid");
    let gtid = c.gtid.unwrap_or_default();
    expected.assert_eq(&format!("{} row {} end {} gtid {gtid}", c.position, c.rows, c.end_offset));
}

#[test]
fn a_checkpoint_waits_for_the_oldest_record_and_idle_partitions_go_on() {
    let mut lanes = running(false);
    let big = txn(100, 3);
    let a = lanes.route(0, &big, 0, INSERT, [1, 1]).whole.unwrap();
    let b = lanes.route(0, &big, 2, INSERT, [5, 5]).whole.unwrap();
    assert_eq!(a.epoch, 7);
    check(&lanes, 1, &expect!["1:3:100 row 0 end 100 gtid 0-1-100"]);
    check(&lanes, 0, &expect!["1:3:100 row 3 end 200 gtid 0-1-100"]);
    assert!(lanes.acknowledge(vec![(b.token, None)]).is_none());
    check(&lanes, 1, &expect!["1:3:100 row 0 end 100 gtid 0-1-100"]);
    lanes.covered(0, Position::new(1, 3, 500), &"bin.000003".into(), 0);
    assert!(lanes.acknowledge(vec![(a.token, None)]).is_none());
    check(&lanes, 1, &expect!["1:3:500 row 0 end 500 gtid 0-1-100"]);
}

#[test]
fn a_changed_key_becomes_a_delete_and_an_insert_and_each_owner_writes_its_part() {
    let mut lanes = running(true);
    let route = lanes.route(0, &txn(100, 1), 0, Op::Update, [1, 2]);
    assert!(route.whole.is_none());
    assert!(route.old.unwrap().tombstone.is_some());
    assert!(route.new.unwrap().tombstone.is_none());
    lanes.remove(1);
    let route = lanes.route(0, &txn(300, 1), 0, Op::Update, [1, 2]);
    assert!(route.old.is_none() && route.new.is_some());
    // Both in one partition: still a delete and an insert, for the keys differ.
    let route = lanes.route(0, &txn(500, 1), 0, Op::Update, [2, 6]);
    assert!(route.old.is_some() && route.new.is_some());
}

#[test]
fn statements_are_written_once_by_the_owner_of_partition_zero() {
    let mut lanes = running(true);
    assert!(lanes.route(0, &txn(100, 1), 0, Op::Ddl, [3, 3]).whole.is_some());
    lanes.remove(0);
    assert!(lanes.route(0, &txn(300, 1), 0, Op::Truncate, [3, 3]).is_empty());
}

#[test]
fn a_stream_begins_at_the_lowest_and_skips_for_those_further_ahead() {
    let mut lanes = Lanes::new(4, false, &["shop".to_owned()]);
    lanes.add(0, 0, 1, &at(100, 2));
    lanes.add(0, 1, 1, &at(300, 0));
    let both: BTreeSet<u32> = [0, 1].into();
    assert_eq!(lanes.from(0, &both), Some(From::Point(point(100, 2))));
    lanes.subscribed(0, &PartitionSet::of(4, [0, 1]), "uuid", None);
    assert!(lanes.route(0, &txn(100, 4), 2, INSERT, [4, 4]).whole.is_some());
    assert!(lanes.route(0, &txn(100, 4), 3, INSERT, [1, 1]).whole.is_none());
    assert!(lanes.route(0, &txn(300, 1), 0, INSERT, [1, 1]).whole.is_some());
}

#[test]
fn a_partition_that_joins_late_reads_its_past_and_the_others_are_not_repeated() {
    let mut lanes = running(false);
    lanes.remove(3);
    let sent = lanes.route(0, &txn(700, 1), 0, INSERT, [0, 0]).whole.unwrap();
    lanes.add(0, 3, 9, &at(100, 0));
    // What the old stream still has in line does not count for the newcomer.
    lanes.route(0, &txn(900, 1), 0, INSERT, [1, 1]);
    assert_eq!(lanes.from(0, &[0, 3].into()), Some(From::Point(point(100, 0))));
    lanes.subscribed(0, &PartitionSet::all(4), "uuid", None);
    assert!(lanes.route(0, &txn(200, 1), 0, INSERT, [3, 3]).whole.is_some());
    assert!(lanes.route(0, &txn(700, 1), 0, INSERT, [0, 0]).is_empty());
    assert_eq!(mark_of(&lanes, 0), Some(point(700, 0)));
    assert!(lanes.acknowledge(vec![(sent.token, None)]).is_none());
    assert_eq!(mark_of(&lanes, 0), Some(point(900, 1)));
}

#[test]
fn after_a_rewind_late_acknowledgements_count_for_nothing() {
    let mut lanes = running(false);
    let lost = lanes.route(0, &txn(100, 1), 0, INSERT, [2, 2]).whole.unwrap();
    lanes.rewind();
    assert!(lanes.acknowledge(vec![(lost.token, None)]).is_none());
    assert_eq!(lanes.from(0, &[2].into()), Some(From::Point(point(100, 0))));
    lanes.subscribed(0, &PartitionSet::all(4), "uuid", None);
    assert!(lanes.route(0, &txn(100, 1), 0, INSERT, [2, 2]).whole.is_some());
}

#[test]
fn a_definite_failure_stops_its_partition_alone() {
    let mut lanes = running(false);
    let bad = lanes.route(0, &txn(100, 1), 0, INSERT, [2, 2]).whole.unwrap();
    let failure = lanes.acknowledge(vec![(bad.token, Some(Failure::definite("too large")))]).unwrap();
    assert!(failure.definite);
    lanes.rewind();
    assert_eq!(lanes.streamable(0, &(0..4).collect()), [0, 1, 3].into());
    assert_eq!(mark_of(&lanes, 2), Some(point(100, 0)));
    assert!(lanes.is_quiet(2));
}

#[test]
fn latest_means_behind_everything_also_beside_older_partitions() {
    let mut lanes = Lanes::new(4, false, &["shop".to_owned()]);
    lanes.add(0, 0, 1, &start("latest"));
    assert_eq!(lanes.from(0, &[0].into()), Some(From::Start("latest".to_owned())));
    lanes.add(0, 1, 1, &at(100, 0));
    assert_eq!(lanes.from(0, &[0, 1].into()), Some(From::Point(point(100, 0))));
    lanes.subscribed(0, &PartitionSet::all(4), "uuid", Some(Position::new(1, 3, 500)));
    assert!(lanes.route(0, &txn(500, 1), 0, INSERT, [0, 0]).is_empty());
    assert!(lanes.route(0, &txn(600, 1), 0, INSERT, [0, 0]).whole.is_some());
    assert_eq!(mark_of(&lanes, 0), Some(point(600, 0)));
}

/// A transaction and its rows' key hashes, before and after.
type Logged = (Arc<TxnHeader>, Vec<(u64, u64)>);

/// One step of a member's life.
#[derive(Clone, Debug)]
enum Step {
    /// The relay sends its next transaction, a row for each hash.
    Txn(Vec<(u64, u64)>),
    /// Some acknowledgements come, in any order.
    Ack(usize),
    /// The producer fails: everything out is lost or not, and the stream begins again.
    Rewind { arrived: usize },
    /// The stream breaks and begins again; the producer goes on.
    Reconnect,
    /// A mark.
    Cover,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => proptest::collection::vec((0u64..8, 0u64..8), 1..5).prop_map(Step::Txn),
        5 => (0usize..1000).prop_map(Step::Ack),
        1 => (0usize..1000).prop_map(|arrived| Step::Rewind { arrived }),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Cover),
    ]
}

proptest! {
    /// Against a log of transactions: whatever fails, each partition's records come in order, none that a
    /// checkpoint is behind of is missing, and checkpoints never go back.
    #[test]
    fn nothing_is_skipped_and_checkpoints_never_pass_what_is_not_acknowledged(
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut lanes = running(false);
        let mut log: Vec<Logged> = Vec::new();
        let mut next = 0;
        let mut out: Vec<(u64, u32, Point)> = Vec::new();
        let mut delivered: BTreeSet<(u32, Point)> = BTreeSet::new();
        let mut last = [None; 4];
        let all: BTreeSet<u32> = (0..4).collect();
        for step in steps {
            match step {
                Step::Txn(hashes) => {
                    let offset = 1000 * (1 + u64::try_from(log.len()).unwrap());
                    log.push((txn(offset, u64::try_from(hashes.len()).unwrap()), hashes));
                }
                Step::Ack(pick) if !out.is_empty() => {
                    let (token, partition, point) = out.remove(pick % out.len());
                    delivered.insert((partition, point));
                    prop_assert!(lanes.acknowledge(vec![(token, None)]).is_none());
                }
                Step::Rewind { arrived } => {
                    for (_, partition, point) in out.drain(..).take(arrived) {
                        delivered.insert((partition, point));
                    }
                    lanes.rewind();
                    next = begin(&mut lanes, &log, &all);
                }
                Step::Reconnect => next = begin(&mut lanes, &log, &all),
                Step::Cover => {
                    if next == log.len() {
                        let end = log.last().map_or(10, |(txn, _)| txn.end_offset + 10);
                        lanes.covered(0, Position::new(1, 3, end), &"bin.000003".into(), 5);
                    }
                }
                Step::Ack(_) => {}
            }
            while let Some((txn, hashes)) = log.get(next) {
                for (row, (before, after)) in (0u64..).zip(hashes) {
                    let point = Point { position: txn.start.position, row };
                    let op = if before == after { INSERT } else { Op::Update };
                    let route = lanes.route(0, txn, row, op, [*before, *after]);
                    let old = u32::try_from(before % 4).unwrap();
                    let new = u32::try_from(after % 4).unwrap();
                    for (dest, partition) in [(route.whole, new), (route.old, old), (route.new, new)] {
                        if let Some(dest) = dest {
                            out.push((dest.token, partition, point));
                        }
                    }
                }
                next += 1;
            }
            for partition in 0..4u32 {
                let Some(mark) = mark_of(&lanes, partition) else { continue };
                for (txn, hashes) in &log {
                    for (row, (before, after)) in (0u64..).zip(hashes) {
                        let point = Point { position: txn.start.position, row };
                        let concerns = [before, after].iter().any(|h| **h % 4 == u64::from(partition));
                        if concerns && point < mark {
                            prop_assert!(delivered.contains(&(partition, point)), "{partition} {point:?} {mark:?}");
                        }
                    }
                }
                let slot = &mut last[usize::try_from(partition).unwrap()];
                prop_assert!(slot.is_none_or(|last| last <= mark));
                *slot = Some(mark);
            }
        }
    }
}

/// What the relay does with a subscription: the index of the first transaction it sends.
fn begin(lanes: &mut Lanes, log: &[Logged], all: &BTreeSet<u32>) -> usize {
    let from = lanes.from(0, all);
    lanes.subscribed(0, &PartitionSet::all(4), "uuid", None);
    match from {
        Some(From::Point(point)) => {
            log.iter().position(|(txn, _)| txn.start.position >= point.position).unwrap_or(log.len())
        }
        Some(From::Start(_)) | None => 0,
    }
}
