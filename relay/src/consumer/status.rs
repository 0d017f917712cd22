//! What the member shows of itself: beans, and whether it is ready.

use super::lane::LaneStatus;
use crate::config::ConsumerConfig;
use crate::sink::Failure;
use crate::sink::kafka::Counters;
use crate::telemetry::{Bean, Counter, Flag, Gauge, Health, Kind, ObjectName, Registry, Text, Value, notify};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

const DOMAIN: &str = "aesop.consumer";

/// How the member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberState {
    /// Waits for ZooKeeper, or for its name to be free.
    Joining,
    /// In the group, with nothing to deliver yet.
    Standby,
    /// Delivers.
    Delivering,
    /// In the group, waiting until a broker or ZooKeeper answers again.
    Waiting,
    /// Something is stopped for good; see `LastError`.
    Failed,
    /// Stops.
    Leaving,
}

impl MemberState {
    fn word(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Standby => "standby",
            Self::Delivering => "delivering",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Leaving => "leaving",
        }
    }
}

/// What the member knows at a moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) leader: bool,
    pub(super) generation: Option<u64>,
    pub(super) held: BTreeSet<u32>,
    pub(super) delivering: bool,
    pub(super) lanes: Vec<LaneStatus>,
    pub(super) in_flight: usize,
    pub(super) source_errors: BTreeMap<usize, Failure>,
}

#[derive(Debug)]
struct PartitionBean {
    _bean: Bean,
    scn: Gauge,
    commit_time_us: Gauge,
    acked: Counter,
    acked_seen: u64,
    stored_at: Arc<Mutex<Option<Instant>>>,
    last_error: Text,
}

#[derive(Debug, Default)]
struct Inner {
    partitions: BTreeMap<(String, u32), PartitionBean>,
    refused: BTreeMap<u32, String>,
    note: String,
    state: Option<MemberState>,
}

/// Beans and health of a member.
#[derive(Debug)]
pub(super) struct Status {
    group: String,
    registry: Registry,
    health: Health,
    _group_bean: Bean,
    state: Text,
    leader: Flag,
    owned: Gauge,
    generation: Gauge,
    last_error: Text,
    _sink_bean: Bean,
    in_flight: Gauge,
    inner: Mutex<Inner>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Status {
    pub(super) fn new(
        config: &ConsumerConfig,
        registry: Registry,
        health: Health,
        counters: &Arc<Counters>,
    ) -> Self {
        let bean = registry.bean(ObjectName::new(DOMAIN, &[("type", "Group"), ("name", &config.group)]));
        let sink = registry.bean(ObjectName::new(DOMAIN, &[("type", "Sink"), ("name", "kafka")]));
        let count = |name, read: fn(&Counters) -> u64| {
            let counters = Arc::clone(counters);
            sink.computed(name, Kind::Counter, move || Value::Uint(read(&counters)));
        };
        count("RowsSentTotal", |c| c.sent.load(Ordering::Relaxed));
        count("RowsAckedTotal", |c| c.acked.load(Ordering::Relaxed));
        count("BytesSentTotal", |c| c.bytes.load(Ordering::Relaxed));
        count("ErrorsTotal", |c| c.errors.load(Ordering::Relaxed));
        Self {
            group: config.group.clone(),
            state: bean.text("State", Kind::Info),
            leader: bean.flag("Leader"),
            owned: bean.gauge("OwnedPartitions"),
            generation: bean.gauge("AssignmentGeneration"),
            last_error: bean.text("LastError", Kind::Text),
            _group_bean: bean,
            in_flight: sink.gauge("InFlight"),
            _sink_bean: sink,
            registry,
            health,
            inner: Mutex::default(),
        }
    }

    pub(super) fn set_state(&self, state: MemberState) {
        let mut inner = lock(&self.inner);
        if inner.state.replace(state) == Some(state) {
            return;
        }
        drop(inner);
        self.state.set(state.word());
        match state {
            // Waiting for a broker or a relay passes by itself; whoever starts us need not wait for it.
            MemberState::Standby | MemberState::Delivering | MemberState::Waiting => {
                self.health.ready();
                notify("READY=1");
            }
            MemberState::Leaving => {
                self.health.waiting("stopping");
                notify("STOPPING=1");
            }
            MemberState::Joining => self.health.waiting(state.word()),
            MemberState::Failed => self.health.stopped("something has stopped for good; see LastError"),
        }
    }

    /// Something went wrong that is tried again; shown until the next good word.
    pub(super) fn note(&self, reason: &str) {
        reason.clone_into(&mut lock(&self.inner).note);
        self.last_error.set(reason);
    }

    pub(super) fn clear_note(&self) {
        lock(&self.inner).note.clear();
    }

    /// A partition that is not taken over, for good.
    pub(super) fn refuse_partition(&self, partition: u32, reason: String) {
        lock(&self.inner).refused.insert(partition, reason);
    }

    pub(super) fn partition_refused(&self, partition: u32) -> bool {
        lock(&self.inner).refused.contains_key(&partition)
    }

    pub(super) fn checkpointed(&self, source: &str, partition: u32, now: Instant) {
        if let Some(bean) = lock(&self.inner).partitions.get(&(source.to_owned(), partition)) {
            *lock(&bean.stored_at) = Some(now);
        }
    }

    pub(super) fn publish(&self, snapshot: &Snapshot) {
        self.leader.set(snapshot.leader);
        self.owned.set_u64(u64::try_from(snapshot.held.len()).unwrap_or(u64::MAX));
        if let Some(generation) = snapshot.generation {
            self.generation.set_u64(generation);
        }
        self.in_flight.set_u64(u64::try_from(snapshot.in_flight).unwrap_or(u64::MAX));
        let mut inner = lock(&self.inner);
        self.publish_partitions(&mut inner, &snapshot.lanes);
        let definite = inner
            .refused
            .values()
            .cloned()
            .chain(snapshot.lanes.iter().filter_map(|lane| lane.error.clone()))
            .chain(snapshot.source_errors.values().filter(|e| e.definite).map(|e| e.reason.clone()))
            .next();
        let passing = snapshot.source_errors.values().find(|error| !error.definite).map(|e| e.reason.clone());
        let state = if definite.is_some() {
            MemberState::Failed
        } else if passing.is_some() || !snapshot.delivering {
            MemberState::Waiting
        } else if snapshot.held.is_empty() {
            MemberState::Standby
        } else {
            MemberState::Delivering
        };
        if state == MemberState::Delivering {
            inner.note.clear();
        }
        let error = definite.or(passing).unwrap_or_else(|| inner.note.clone());
        drop(inner);
        self.last_error.set(error);
        self.set_state(state);
    }

    fn publish_partitions(&self, inner: &mut Inner, lanes: &[LaneStatus]) {
        let present: BTreeSet<(String, u32)> =
            lanes.iter().map(|l| (l.source.to_string(), l.partition)).collect();
        inner.partitions.retain(|key, _| present.contains(key));
        for lane in lanes {
            let key = (lane.source.to_string(), lane.partition);
            let bean = inner.partitions.entry(key).or_insert_with(|| self.partition_bean(lane));
            if let Some(mark) = &lane.mark {
                bean.scn.set_u64(mark.point.position.scn().0);
                bean.commit_time_us.set(mark.commit_time_us());
            }
            bean.acked.add(lane.rows_acked.saturating_sub(bean.acked_seen));
            bean.acked_seen = lane.rows_acked;
            bean.last_error.set(lane.error.clone().unwrap_or_default());
        }
    }

    fn partition_bean(&self, lane: &LaneStatus) -> PartitionBean {
        let partition = lane.partition.to_string();
        let keys = [
            ("type", "Partition"),
            ("group", self.group.as_str()),
            ("source", &lane.source),
            ("partition", partition.as_str()),
        ];
        let bean = self.registry.bean(ObjectName::new(DOMAIN, &keys));
        let stored_at: Arc<Mutex<Option<Instant>>> = Arc::default();
        let cell = Arc::clone(&stored_at);
        bean.computed("CheckpointAgeMs", Kind::Gauge, move || match *lock(&cell) {
            Some(at) => Value::Uint(u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
            None => Value::Null,
        });
        PartitionBean {
            scn: bean.gauge("Scn"),
            commit_time_us: bean.gauge("CommitTimeUs"),
            acked: bean.counter("RowsAckedTotal"),
            last_error: bean.text("LastError", Kind::Text),
            _bean: bean,
            acked_seen: 0,
            stored_at,
        }
    }
}
