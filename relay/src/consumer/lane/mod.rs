//! Lanes: one for each source and partition that this member delivers. They decide which record a row
//! becomes, count records out and back, and know each partition's checkpoint. No I/O.

mod mark;
#[cfg(test)]
mod tests;

pub(super) use mark::{Dest, From, Mark, Route};

use crate::event::{Op, TxnHeader};
use crate::group::{Point, Tracker};
use crate::position::Position;
use crate::sink::Ack;
use crate::wire::frame::SourceHead;
use crate::wire::{PartitionSet, partition_of};
use crate::zk::types::Checkpoint;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Bits of a token that count records; the rest name the lane.
const SEQ_BITS: u32 = 40;

/// One source's partition.
#[derive(Debug)]
pub(super) struct Lane {
    source: usize,
    partition: u32,
    epoch: i32,
    /// The running stream carries it.
    active: bool,
    /// What it begins with when it has never done anything.
    start: Option<String>,
    /// What the tracker resumes at.
    base: Option<Mark>,
    tracker: Tracker<Arc<TxnHeader>>,
    error: Option<String>,
    acked: u64,
}

/// One source.
#[derive(Debug)]
pub(super) struct SourceLanes {
    pub(super) name: Arc<str>,
    by_partition: BTreeMap<u32, usize>,
    routes: Vec<Option<usize>>,
    reached: Option<Mark>,
    pub(super) server_uuid: Arc<str>,
    pub(super) head: SourceHead,
}

/// What telemetry shows of a lane.
#[derive(Clone, Debug)]
pub(super) struct LaneStatus {
    pub(super) source: Arc<str>,
    pub(super) partition: u32,
    pub(super) mark: Option<Mark>,
    pub(super) rows_acked: u64,
    pub(super) error: Option<String>,
}

/// All lanes of a member.
#[derive(Debug)]
pub(super) struct Lanes {
    partitions: u32,
    /// The sink compacts: a delete is followed by a tombstone.
    tombstones: bool,
    pub(super) sources: Vec<SourceLanes>,
    /// By lane number; a number is never used again, so that a late acknowledgement finds nobody.
    numbered: Vec<Option<Box<Lane>>>,
}

impl Lanes {
    pub(super) fn new<'a>(
        partitions: u32,
        tombstones: bool,
        sources: impl IntoIterator<Item = &'a String>,
    ) -> Self {
        let sources = sources.into_iter().map(|name| SourceLanes {
            name: name.as_str().into(),
            by_partition: BTreeMap::new(),
            routes: vec![None; usize::try_from(partitions).unwrap_or(0)],
            reached: None,
            server_uuid: "".into(),
            head: SourceHead::default(),
        });
        Self { partitions, tombstones, sources: sources.collect(), numbered: Vec::new() }
    }

    /// Takes a partition of a source in, as its stored checkpoint says. The stream does not carry it yet.
    pub(super) fn add(&mut self, source: usize, partition: u32, epoch: i32, stored: &Checkpoint) {
        let base = stored.start.is_none().then(|| Mark {
            point: Point { position: stored.position, row: stored.rows },
            txn: None,
            gtid: stored.gtid.as_deref().map(Into::into),
            file: stored.file.as_str().into(),
            commit_time_us: stored.commit_time_us,
        });
        let lane = Lane {
            source,
            partition,
            epoch,
            active: false,
            start: stored.start.clone(),
            tracker: Tracker::new(base.as_ref().map(|mark| mark.point)),
            base,
            error: None,
            acked: 0,
        };
        let number = self.numbered.len();
        self.numbered.push(Some(Box::new(lane)));
        if let Some(source) = self.sources.get_mut(source) {
            source.by_partition.insert(partition, number);
        }
    }

    /// Forgets a partition in all sources.
    pub(super) fn remove(&mut self, partition: u32) {
        for source in &mut self.sources {
            if let Some(number) = source.by_partition.remove(&partition)
                && let Some(lane) = self.numbered.get_mut(number)
            {
                *lane = None;
            }
            if let Some(route) = slot(&mut source.routes, partition) {
                *route = None;
            }
        }
    }

    /// Puts every lane back to its checkpoint under a new number: what is out is forgotten and will be sent again.
    pub(super) fn rewind(&mut self) {
        for index in 0..self.numbered.len() {
            let Some(mark) = self.lane(index).map(|lane| self.mark(lane)) else { continue };
            let Some(old) = self.numbered.get_mut(index).and_then(Option::take) else { continue };
            let number = self.numbered.len();
            if let Some(source) = self.sources.get_mut(old.source) {
                source.by_partition.insert(old.partition, number);
            }
            let tracker = Tracker::new(mark.as_ref().map(|mark| mark.point));
            self.numbered.push(Some(Box::new(Lane { active: false, base: mark, tracker, ..*old })));
        }
        for source in &mut self.sources {
            source.routes.fill(None);
            source.reached = None;
        }
    }

    fn lane(&self, number: usize) -> Option<&Lane> {
        self.numbered.get(number)?.as_deref()
    }

    fn lane_of(&self, source: usize, partition: u32) -> Option<&Lane> {
        self.lane(*self.sources.get(source)?.by_partition.get(&partition)?)
    }

    /// Everything before this mark is acknowledged; none while the lane has done nothing.
    fn mark(&self, lane: &Lane) -> Option<Mark> {
        match lane.tracker.oldest() {
            Some((row, txn)) => Some(Mark::of_txn(txn, row)),
            None => self.sent_up_to(lane),
        }
    }

    /// Everything before this mark is sent.
    fn sent_up_to(&self, lane: &Lane) -> Option<Mark> {
        let reached = self.sources.get(lane.source).and_then(|source| source.reached.as_ref());
        match (&lane.base, reached.filter(|_| lane.active)) {
            (Some(base), Some(reached)) if reached.point > base.point => Some(reached.clone()),
            (Some(base), _) => Some(base.clone()),
            (None, reached) => reached.cloned(),
        }
    }

    /// Partitions of a source that can be streamed: all but those that an error stopped.
    pub(super) fn streamable(&self, source: usize, wanted: &BTreeSet<u32>) -> BTreeSet<u32> {
        let fine =
            |partition: &u32| self.lane_of(source, *partition).is_some_and(|lane| lane.error.is_none());
        wanted.iter().copied().filter(fine).collect()
    }

    /// Where a stream for these partitions has to begin.
    pub(super) fn from(&self, source: usize, partitions: &BTreeSet<u32>) -> Option<From> {
        let mut lowest: Option<Point> = None;
        let mut latest = None;
        for lane in partitions.iter().filter_map(|partition| self.lane_of(source, *partition)) {
            match (self.sent_up_to(lane), &lane.start) {
                (Some(mark), _) => lowest = Some(lowest.map_or(mark.point, |low| low.min(mark.point))),
                (None, Some(start)) if start == "latest" => latest = Some(From::Start(start.clone())),
                (None, Some(start)) => return Some(From::Start(start.clone())),
                (None, None) => {}
            }
        }
        lowest.map(From::Point).or(latest)
    }

    /// A stream begins for these partitions; what came before in line belongs to the one before. Lanes that
    /// begin with `latest` start behind `highest` where the stream begins earlier for the sake of others.
    pub(super) fn subscribed(
        &mut self,
        source: usize,
        set: &PartitionSet,
        uuid: &str,
        highest: Option<Position>,
    ) {
        let Some(state) = self.sources.get(source) else { return };
        let numbers: Vec<(u32, usize)> = state.by_partition.iter().map(|(p, n)| (*p, *n)).collect();
        let mixed = numbers.iter().any(|(p, n)| {
            set.contains(*p) && self.lane(*n).is_some_and(|lane| self.sent_up_to(lane).is_some())
        });
        for (partition, number) in &numbers {
            let sent = self.lane(*number).and_then(|lane| self.sent_up_to(lane));
            let Some(lane) = self.numbered.get_mut(*number).and_then(Option::as_deref_mut) else { continue };
            let behind_all = highest.filter(|_| mixed && lane.start.as_deref() == Some("latest"));
            lane.base = sent.or_else(|| {
                behind_all.map(|position| Mark {
                    point: Point { position, row: u64::MAX },
                    txn: None,
                    gtid: None,
                    file: "".into(),
                    commit_time_us: 0,
                })
            });
            if let Some(mark) = &lane.base {
                lane.tracker.advance(mark.point);
            }
            lane.active = set.contains(*partition);
        }
        let Some(state) = self.sources.get_mut(source) else { return };
        state.reached = None;
        state.server_uuid = uuid.into();
        for (partition, number) in numbers {
            if let Some(route) = slot(&mut state.routes, partition) {
                *route = set.contains(partition).then_some(number);
            }
        }
    }

    /// What a row becomes. Its records count as sent from here on: each must be sent, or its lane stopped.
    pub(super) fn route(
        &mut self,
        source: usize,
        txn: &Arc<TxnHeader>,
        row: u64,
        op: Op,
        hashes: [u64; 2],
    ) -> Route {
        let [before, after] = hashes;
        let point = Point { position: txn.start.position, row };
        let new = partition_of(op, after, self.partitions);
        let mut route = Route::default();
        if before == after {
            let tombstone = self.tombstones && op == Op::Delete;
            route.whole = self.dest(source, new, point, txn, tombstone);
        } else {
            let old = partition_of(op, before, self.partitions);
            route.old = self.dest(source, old, point, txn, self.tombstones);
            route.new = self.dest(source, new, point, txn, false);
        }
        if let Some(state) = self.sources.get_mut(source) {
            let next = Point { row: row + 1, ..point };
            match &mut state.reached {
                Some(mark) if mark.txn.as_ref().is_some_and(|known| Arc::ptr_eq(known, txn)) => {
                    mark.point = next;
                }
                reached => *reached = Some(Mark::of_txn(txn, row + 1)),
            }
        }
        route
    }

    fn dest(
        &mut self,
        source: usize,
        partition: u32,
        point: Point,
        txn: &Arc<TxnHeader>,
        tombstone: bool,
    ) -> Option<Dest> {
        let number = (*slot(&mut self.sources.get_mut(source)?.routes, partition)?)?;
        let lane = self.numbered.get_mut(number)?.as_deref_mut()?;
        if lane.error.is_some() || !lane.tracker.wants(point) {
            return None;
        }
        let token = token(number, lane.tracker.sent(point.row, Arc::clone(txn)));
        let tombstone = tombstone.then(|| token_of_next(number, lane, point.row, txn));
        Some(Dest { token, tombstone, epoch: lane.epoch })
    }

    /// Everything of the stream before `position` was routed.
    pub(super) fn covered(
        &mut self,
        source: usize,
        position: Position,
        file: &Arc<str>,
        commit_time_us: i64,
    ) {
        let Some(state) = self.sources.get_mut(source) else { return };
        let point = Point { position, row: 0 };
        if state.reached.as_ref().is_some_and(|mark| mark.point >= point) {
            return;
        }
        let last = state.reached.as_ref();
        let gtid =
            last.and_then(|mark| mark.txn.as_ref()).and_then(|txn| txn.start.gtid.as_deref()).map(Into::into);
        let gtid = gtid.or_else(|| last.and_then(|mark| mark.gtid.clone()));
        let time =
            if commit_time_us > 0 { commit_time_us } else { last.map_or(0, |mark| mark.commit_time_us) };
        state.reached = Some(Mark { point, txn: None, gtid, file: Arc::clone(file), commit_time_us: time });
    }

    /// Counts acknowledgements in; gives the first failure, and the lane it stops if it is definite.
    pub(super) fn acknowledge(&mut self, acks: Vec<Ack>) -> Option<crate::sink::Failure> {
        let mut first = None;
        for (token, failure) in acks {
            let number = usize::try_from(token >> SEQ_BITS).unwrap_or(usize::MAX);
            let Some(lane) = self.numbered.get_mut(number).and_then(Option::as_deref_mut) else { continue };
            match failure {
                None => {
                    if lane.tracker.acked(token & ((1 << SEQ_BITS) - 1)) {
                        lane.acked += 1;
                    }
                }
                Some(failure) => {
                    if failure.definite {
                        lane.error.get_or_insert_with(|| failure.reason.clone());
                    }
                    first.get_or_insert(failure);
                }
            }
        }
        first
    }

    /// A definite error: the lane of this token delivers nothing more.
    pub(super) fn stop(&mut self, token: u64, reason: String) {
        let number = usize::try_from(token >> SEQ_BITS).unwrap_or(usize::MAX);
        if let Some(lane) = self.numbered.get_mut(number).and_then(Option::as_deref_mut) {
            tracing::error!(partition = lane.partition, reason, "partition stopped");
            lane.error.get_or_insert(reason);
        }
    }

    /// Whether everything of a partition that was sent is acknowledged and no stream carries it any more.
    pub(super) fn is_quiet(&self, partition: u32) -> bool {
        (0..self.sources.len())
            .filter_map(|source| self.lane_of(source, partition))
            .all(|lane| lane.error.is_some() || (!lane.active && lane.tracker.in_flight() == 0))
    }

    /// Records out and not yet acknowledged.
    pub(super) fn in_flight(&self) -> usize {
        self.numbered
            .iter()
            .flatten()
            .filter(|lane| lane.error.is_none())
            .map(|lane| lane.tracker.in_flight())
            .sum()
    }

    /// How every lane stands.
    pub(super) fn status(&self) -> Vec<LaneStatus> {
        let mut all: Vec<LaneStatus> = self
            .numbered
            .iter()
            .flatten()
            .filter_map(|lane| {
                let source = Arc::clone(&self.sources.get(lane.source)?.name);
                Some(LaneStatus {
                    source,
                    partition: lane.partition,
                    // A mark at the row `u64::MAX` only says that nothing older is wanted.
                    mark: self.mark(lane).filter(|mark| mark.point.row < u64::MAX),
                    rows_acked: lane.acked,
                    error: lane.error.clone(),
                })
            })
            .collect();
        all.sort_by(|a, b| (&a.source, a.partition).cmp(&(&b.source, b.partition)));
        all
    }
}

fn token_of_next(number: usize, lane: &mut Lane, row: u64, txn: &Arc<TxnHeader>) -> u64 {
    token(number, lane.tracker.sent(row, Arc::clone(txn)))
}

fn token(number: usize, seq: u64) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX) << SEQ_BITS | seq
}

fn slot(routes: &mut [Option<usize>], partition: u32) -> Option<&mut Option<usize>> {
    routes.get_mut(usize::try_from(partition).ok()?)
}
