//! From readings to a report. Pure.

use super::{Distance, GroupLag, LagReport, Level, PartitionLag, RelayLag, SourceLag, Status};
use crate::monitor::config::{LagReportConfig, MonitoredGroup};
use crate::probe::to_value;
use crate::rule::human;
use jiff::Timestamp;
use relay::mysql::admin::BinaryLogs;
use relay::position::{Position, Scn};
use relay::zk::types::{Checkpoint, RelayNode};
use relay::zk::{ClusterReport, GroupReport};
use std::collections::BTreeMap;

/// A relay that is behind and has not written to ZooKeeper for this long hangs; it writes each second.
const RELAY_SILENT_SECS: f64 = 30.0;
/// A partition that is behind and whose checkpoint is older than this stands still; one is written each second.
const CHECKPOINT_STILL_SECS: f64 = 60.0;

/// When a partition is MEDIUM or HIGH.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// Seconds.
    pub medium: f64,
    /// Seconds.
    pub high: f64,
}

impl From<&LagReportConfig> for Thresholds {
    fn from(config: &LagReportConfig) -> Self {
        Self { medium: to_value(config.medium_secs), high: to_value(config.high_secs) }
    }
}

/// What was read, or why not. The ends of the sources are read before ZooKeeper: what is written in between must not
/// look like lag.
#[derive(Debug, Default)]
pub struct Readings {
    /// By source.
    pub ends: BTreeMap<String, Result<BinaryLogs, String>>,
    /// Relays, groups, checkpoints.
    pub zookeeper: Option<ClusterReport>,
    /// Why there is none.
    pub zookeeper_error: Option<String>,
}

/// Makes the report.
pub fn compute(
    cluster: &str,
    groups: &BTreeMap<String, MonitoredGroup>,
    readings: &Readings,
    thresholds: Thresholds,
    now: Timestamp,
) -> LagReport {
    let mut report = LagReport {
        version: 1,
        cluster: cluster.to_owned(),
        at: now,
        level: Level::Info,
        problems: Vec::new(),
        sources: Vec::new(),
        groups: Vec::new(),
        partitions: Vec::new(),
    };
    for (source, end) in &readings.ends {
        if let Err(error) = end {
            report.problems.push(format!("could not ask source {source} where its binlog ends: {error}"));
        }
    }
    let Some(zookeeper) = &readings.zookeeper else {
        let reason = readings.zookeeper_error.as_deref().unwrap_or("not read");
        report.problems.push(format!("could not read relays and checkpoints from ZooKeeper: {reason}"));
        report.level = Level::High;
        return report;
    };
    for (source, end) in &readings.ends {
        let logs = end.as_ref().ok();
        let relays = zookeeper.sources.get(source).map(|report| &report.relays);
        report.sources.push(SourceLag {
            source: source.clone(),
            file: logs.map(|logs| logs.current_file.clone()),
            offset: logs.map(|logs| logs.current_offset),
            relays: relays.map(|relays| relay_lags(relays, logs, thresholds, now)).unwrap_or_default(),
        });
    }
    for (name, group) in groups {
        let seen = zookeeper.groups.get(name).cloned().unwrap_or_default();
        let partitions = seen.partitions.unwrap_or(group.partitions);
        let owned = seen.owners.keys().filter(|partition| **partition < partitions).count();
        report.groups.push(GroupLag {
            group: name.clone(),
            members: seen.members.len(),
            unowned: usize::try_from(partitions).unwrap_or(usize::MAX).saturating_sub(owned),
        });
        for source in &group.sources {
            let hop = FirstHop::new(source, readings, &report, zookeeper);
            for partition in 0..partitions {
                report.partitions.push(partition_lag(name, source, partition, &seen, &hop, thresholds, now));
            }
        }
    }
    report.rank();
    report
}

fn relay_lags(
    relays: &BTreeMap<String, RelayNode>,
    logs: Option<&BinaryLogs>,
    thresholds: Thresholds,
    now: Timestamp,
) -> Vec<RelayLag> {
    let mut nodes: Vec<(&String, &RelayNode)> = relays.iter().collect();
    nodes.sort_by_key(|(_, node)| std::cmp::Reverse(node.highest));
    nodes
        .into_iter()
        .map(|(id, node)| {
            let bytes = logs.and_then(|logs| logs.bytes_behind(&node.file, node.end_offset));
            let seconds = match bytes {
                Some(0) => Some(0.0),
                Some(_) if node.commit_time_us > 0 => Some(since(node.commit_time_us, now)),
                _ => None,
            };
            let silent = since(node.written_at_us, now);
            let (status, reason) = if silent > RELAY_SILENT_SECS {
                (Status::Stalled, format!("has not reported for {}", human::seconds(silent)))
            } else if bytes.is_none() && logs.is_some() {
                (Status::Unknown, "its place is not in the source's binlog".to_owned())
            } else {
                by_threshold(seconds, thresholds)
            };
            RelayLag {
                relay: id.clone(),
                scn: reached(node).map(|scn| scn.0),
                behind: Distance { bytes, seconds },
                status,
                reason,
            }
        })
        .collect()
}

/// How far a relay has read: behind the last event, whoever wanted it, as a consumer's marks are.
fn reached(node: &RelayNode) -> Option<Scn> {
    let (_, number) = node.file.rsplit_once('.')?;
    Some(Position::new(node.highest?.epoch, number.parse().ok()?, node.end_offset).scn())
}

/// Everything about a source that its partitions share.
struct FirstHop<'a> {
    source: &'a str,
    logs: Option<&'a BinaryLogs>,
    node: Option<&'a RelayNode>,
    behind: Distance,
    scn: Option<u64>,
}

impl<'a> FirstHop<'a> {
    fn new(
        source: &'a str,
        readings: &'a Readings,
        report: &LagReport,
        zookeeper: &'a ClusterReport,
    ) -> Self {
        let first = report.sources.iter().find(|lag| lag.source == source).and_then(|lag| lag.relays.first());
        let nodes = zookeeper.sources.get(source).map(|report| &report.relays);
        Self {
            source,
            logs: readings.ends.get(source).and_then(|end| end.as_ref().ok()),
            node: first.and_then(|relay| nodes?.get(&relay.relay)),
            behind: first.map(|relay| relay.behind).unwrap_or_default(),
            scn: first.and_then(|relay| relay.scn),
        }
    }

    /// From the relay to a checkpoint.
    fn to_checkpoint(&self, checkpoint: &Checkpoint) -> Distance {
        let Some(node) = self.node else { return Distance::default() };
        let bytes = if node.file == checkpoint.file {
            Some(node.end_offset.saturating_sub(checkpoint.end_offset))
        } else {
            let from_end = |file: &str, offset| self.logs.and_then(|logs| logs.bytes_behind(file, offset));
            from_end(&checkpoint.file, checkpoint.end_offset)
                .zip(from_end(&node.file, node.end_offset))
                .map(|(consumer, relay)| consumer.saturating_sub(relay))
        };
        // A mark stands behind the transaction it covers, so one that is further than the last is done with it.
        let done = Some(checkpoint.position) > node.highest
            || (Some(checkpoint.position) == node.highest
                && checkpoint.end_offset > checkpoint.position.offset);
        let seconds = if done || bytes == Some(0) {
            Some(0.0)
        } else if node.commit_time_us > 0 && checkpoint.commit_time_us > 0 {
            Some(micros(node.commit_time_us.saturating_sub(checkpoint.commit_time_us)).max(0.0))
        } else {
            None
        };
        Distance { bytes, seconds }
    }
}

fn partition_lag(
    group: &str,
    source: &str,
    partition: u32,
    seen: &GroupReport,
    hop: &FirstHop<'_>,
    thresholds: Thresholds,
    now: Timestamp,
) -> PartitionLag {
    let checkpoint = seen.checkpoints.get(source).and_then(|checkpoints| checkpoints.get(&partition));
    let mut lag = PartitionLag {
        status: Status::Unknown,
        reason: String::new(),
        source: source.to_owned(),
        group: group.to_owned(),
        partition,
        owner: seen.owners.get(&partition).map(|owner| owner.member.clone()),
        relay_scn: hop.scn,
        consumer_scn: None,
        source_to_relay: hop.behind,
        relay_to_consumer: Distance::default(),
        total: Distance::default(),
        checkpoint_age_seconds: None,
    };
    let Some(checkpoint) = checkpoint else {
        "no checkpoint".clone_into(&mut lag.reason);
        return lag;
    };
    let age = since(checkpoint.written_at_us, now);
    lag.checkpoint_age_seconds = Some(age);
    if let Some(start) = &checkpoint.start {
        lag.reason = format!("nothing done yet, begins at {start}");
        // A source without a transaction gives nothing to do.
        if hop.node.is_some_and(|node| node.highest.is_none()) {
            lag.status = Status::Ok;
        }
        return lag;
    }
    lag.consumer_scn = Some(checkpoint.scn.0);
    let Some(node) = hop.node else {
        lag.reason = format!("no relay serves {}", hop.source);
        return lag;
    };
    if let Some(reason) = mismatch(checkpoint, node) {
        lag.reason = reason;
        return lag;
    }
    lag.relay_to_consumer = hop.to_checkpoint(checkpoint);
    lag.total = add(hop.behind, lag.relay_to_consumer);
    let behind = lag.relay_to_consumer.seconds.is_some_and(|seconds| seconds > 0.0);
    if behind && age > CHECKPOINT_STILL_SECS {
        lag.status = Status::Stalled;
        lag.reason = format!("checkpoint has not moved for {}", human::seconds(age));
    } else {
        (lag.status, lag.reason) =
            by_threshold(lag.total.seconds.or(lag.relay_to_consumer.seconds), thresholds);
    }
    lag
}

/// Why a checkpoint and a relay cannot be compared. A checkpoint that is ahead of the relay can: the relay's
/// znode is up to a second old, or its log was begun anew and it is the one that is behind.
fn mismatch(checkpoint: &Checkpoint, node: &RelayNode) -> Option<String> {
    let (own, theirs) = (checkpoint.position.epoch, node.highest?.epoch);
    (own != theirs)
        .then(|| format!("checkpoint is of epoch {own}, the relay in {theirs}: the source failed over"))
}

pub(super) fn by_threshold(seconds: Option<f64>, thresholds: Thresholds) -> (Status, String) {
    match seconds {
        None => (Status::Unknown, "no commit time to compare".to_owned()),
        Some(seconds) if seconds >= thresholds.high => {
            (Status::High, format!("behind by {}", human::seconds(seconds)))
        }
        Some(seconds) if seconds >= thresholds.medium => {
            (Status::Medium, format!("behind by {}", human::seconds(seconds)))
        }
        Some(_) => (Status::Ok, String::new()),
    }
}

fn add(a: Distance, b: Distance) -> Distance {
    Distance {
        bytes: a.bytes.zip(b.bytes).map(|(a, b)| a.saturating_add(b)),
        seconds: a.seconds.zip(b.seconds).map(|(a, b)| a + b),
    }
}

/// Seconds from a time in microseconds to now.
fn since(us: i64, now: Timestamp) -> f64 {
    micros(now.as_microsecond().saturating_sub(us)).max(0.0)
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "microseconds of centuries fit 2⁵³")]
fn micros(us: i64) -> f64 {
    us as f64 / 1e6
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use expect_test::expect;
    use relay::mysql::admin::BinaryLog;
    use relay::zk::SourceReport;
    use relay::zk::types::{MemberNode, OwnerNode};

    pub(crate) const NOW: i64 = 1_795_359_600;

    pub(crate) fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    pub(crate) fn thresholds() -> Thresholds {
        Thresholds { medium: 60.0, high: 300.0 }
    }

    fn logs() -> BinaryLogs {
        let file = |name: &str, bytes| BinaryLog { name: name.to_owned(), bytes };
        BinaryLogs {
            files: vec![file("b.000002", 1_000_000), file("b.000003", 500_000), file("b.000004", 20_000)],
            current_file: "b.000004".to_owned(),
            current_offset: 20_000,
            current_gtids: String::new(),
        }
    }

    fn relay(file: u32, offset: u64, end: u64, commit: i64) -> RelayNode {
        let highest = Position::new(1, file, offset);
        RelayNode {
            highest: Some(highest),
            scn: Some(highest.scn()),
            file: format!("b.{file:06}"),
            end_offset: end,
            commit_time_us: commit * 1_000_000,
            written_at_us: (NOW - 1) * 1_000_000,
            ..RelayNode::default()
        }
    }

    fn checkpoint(file: u32, offset: u64, end: u64, commit: i64, written: i64) -> Checkpoint {
        let position = Position::new(1, file, offset);
        Checkpoint {
            position,
            scn: position.scn(),
            file: format!("b.{file:06}"),
            end_offset: end,
            commit_time_us: commit * 1_000_000,
            written_at_us: written * 1_000_000,
            ..Checkpoint::default()
        }
    }

    /// A relay at the end, partitions in every state.
    pub(crate) fn scene() -> (BTreeMap<String, MonitoredGroup>, Readings) {
        let group = MonitoredGroup {
            sources: vec!["shop".to_owned()],
            partitions: 8,
            hosts: vec!["c1".to_owned(), "c2".to_owned()],
        };
        let checkpoints = BTreeMap::from([
            (0, checkpoint(4, 19_000, 20_000, NOW - 2, NOW - 1)),
            (1, checkpoint(4, 10_000, 11_000, NOW - 92, NOW - 1)),
            (2, checkpoint(2, 400_000, 400_500, NOW - 900, NOW - 2)),
            (3, checkpoint(4, 10_000, 10_000, NOW - 200, NOW - 150)),
            (5, Checkpoint { start: Some("earliest".to_owned()), ..Checkpoint::default() }),
            (6, Checkpoint { position: Position::new(0, 9, 4), ..checkpoint(9, 4, 5, NOW, NOW) }),
            (7, checkpoint(4, 20_000, 20_100, NOW, NOW)),
        ]);
        let owner = |member: &str| OwnerNode { member: member.to_owned(), epoch: 1 };
        let report = GroupReport {
            partitions: Some(8),
            members: BTreeMap::from([("c1".to_owned(), MemberNode::default())]),
            owners: (0..7).map(|p| (p, owner("c1"))).collect(),
            checkpoints: BTreeMap::from([("shop".to_owned(), checkpoints)]),
            ..GroupReport::default()
        };
        let source = SourceReport {
            relays: BTreeMap::from([
                ("r1".to_owned(), relay(4, 19_000, 20_000, NOW - 2)),
                ("r2".to_owned(), relay(3, 400_000, 401_000, NOW - 80)),
            ]),
            ..SourceReport::default()
        };
        let zookeeper = ClusterReport {
            sources: BTreeMap::from([("shop".to_owned(), source)]),
            groups: BTreeMap::from([("kafka-json".to_owned(), report)]),
        };
        let readings = Readings {
            ends: BTreeMap::from([("shop".to_owned(), Ok(logs()))]),
            zookeeper: Some(zookeeper),
            zookeeper_error: None,
        };
        (BTreeMap::from([("kafka-json".to_owned(), group)]), readings)
    }

    #[test]
    fn every_state_of_a_partition_worst_first() {
        let (groups, readings) = scene();
        let report = compute("shop", &groups, &readings, thresholds(), now());
        let lines: Vec<String> = report
            .partitions
            .iter()
            .map(|p| {
                format!("{} {} {:?} {:?} {}", p.partition, p.status, p.total.bytes, p.total.seconds, p.reason)
            })
            .collect();
        expect![[r#"
            3 STALLED Some(10000) Some(198.0) checkpoint has not moved for 2 m 30 s
            2 HIGH Some(1119500) Some(898.0) behind by 14 m 58 s
            4 UNKNOWN None None no checkpoint
            5 UNKNOWN None None nothing done yet, begins at earliest
            6 UNKNOWN None None checkpoint is of epoch 0, the relay in 1: the source failed over
            1 MEDIUM Some(9000) Some(90.0) behind by 1 m 30 s
            0 OK Some(0) Some(0.0) 
            7 OK Some(0) Some(0.0) "#]]
        .assert_eq(&lines.join("\n"));
        assert_eq!((report.level, report.groups[0].unowned), (Level::High, 1));
    }

    #[test]
    fn what_cannot_be_read_is_a_problem_and_bytes_within_a_file_still_count() {
        let (groups, mut readings) = scene();
        readings.ends.insert("shop".to_owned(), Err("connection refused".to_owned()));
        let report = compute("shop", &groups, &readings, thresholds(), now());
        assert_eq!(report.problems, ["could not ask source shop where its binlog ends: connection refused"]);
        let one = report.partitions.iter().find(|p| p.partition == 1).unwrap();
        assert_eq!(one.relay_to_consumer, Distance { bytes: Some(9000), seconds: Some(90.0) });
        assert_eq!((one.source_to_relay.bytes, one.total.seconds), (None, None));
        assert_eq!(one.status, Status::Medium, "the hop that is known is judged");
        let none =
            Readings { ends: readings.ends, zookeeper: None, zookeeper_error: Some("no session".to_owned()) };
        let report = compute("shop", &groups, &none, thresholds(), now());
        assert_eq!((report.problems.len(), report.level), (2, Level::High));
    }

    #[test]
    fn an_idle_source_is_not_behind_however_old_its_last_commit_is() {
        let (groups, mut readings) = scene();
        let report = readings.zookeeper.as_mut().unwrap();
        let old = NOW - 86_400;
        let relays = &mut report.sources.get_mut("shop").unwrap().relays;
        relays.clear();
        relays.insert("r1".to_owned(), relay(4, 19_000, 20_000, old));
        let group = report.groups.get_mut("kafka-json").unwrap();
        group.checkpoints = BTreeMap::from([(
            "shop".to_owned(),
            (0..8).map(|p| (p, checkpoint(4, 19_000, 20_000, old, old))).collect(),
        )]);
        let report = compute("shop", &groups, &readings, thresholds(), now());
        assert!(report.partitions.iter().all(|p| p.status == Status::Ok), "{:?}", report.partitions);
    }
}
