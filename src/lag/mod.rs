//! Lag: how far each partition of each group is behind each source, by hop, in bytes and in seconds.
//!
//! Bytes are sums of binlog file sizes, never differences of SCNs. Seconds are commit times, and only where there
//! is something newer to have: an idle source is not behind. What cannot be read is said, never guessed.

mod collect;
mod compute;
mod mail;
mod text;
mod window;

pub use collect::{Collector, LagError};
pub use compute::{Readings, Thresholds, compute};
pub use mail::lag_mail;
pub(crate) use mail::partition as partition_context;
pub use text::text;
pub(crate) use text::{distance, scn};
pub use window::{Trend, Windows};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How a partition does. Later is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Below every threshold.
    Ok,
    /// Behind by `medium` or more, or falling behind.
    Medium,
    /// It cannot be said: no checkpoint, or one that does not fit the source.
    Unknown,
    /// Behind by `high` or more.
    High,
    /// Behind, and its checkpoint does not move.
    Stalled,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "OK",
            Self::Medium => "MEDIUM",
            Self::Unknown => "UNKNOWN",
            Self::High => "HIGH",
            Self::Stalled => "STALLED",
        })
    }
}

/// What the mail's subject begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    /// All is well.
    Info,
    /// Somebody is behind, by less than `high`.
    Medium,
    /// Somebody is far behind, stands still, or could not be read.
    High,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Info => "INFO",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
        })
    }
}

/// A distance; what is not known is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Distance {
    /// Bytes of binlog.
    pub bytes: Option<u64>,
    /// Seconds.
    pub seconds: Option<f64>,
}

/// A source and the relays that serve it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceLag {
    /// Source.
    pub source: String,
    /// Binlog file being written.
    pub file: Option<String>,
    /// Its end.
    pub offset: Option<u64>,
    /// Relays, farthest ahead first.
    pub relays: Vec<RelayLag>,
}

/// One relay of a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RelayLag {
    /// Its id.
    pub relay: String,
    /// SCN of its last whole transaction.
    pub scn: Option<u64>,
    /// Source to relay.
    pub behind: Distance,
    /// Status of this hop.
    pub status: Status,
    /// Why, where it is not OK.
    pub reason: String,
}

/// One partition of a group in a source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionLag {
    /// Status.
    pub status: Status,
    /// Why, where it is not OK.
    pub reason: String,
    /// Source.
    pub source: String,
    /// Consumer group.
    pub group: String,
    /// Partition.
    pub partition: u32,
    /// Who owns it now.
    pub owner: Option<String>,
    /// SCN of the relay that is farthest ahead.
    pub relay_scn: Option<u64>,
    /// SCN of the checkpoint.
    pub consumer_scn: Option<u64>,
    /// First hop.
    pub source_to_relay: Distance,
    /// Second hop.
    pub relay_to_consumer: Distance,
    /// Both hops.
    pub total: Distance,
    /// Seconds since the checkpoint was written.
    pub checkpoint_age_seconds: Option<f64>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLag {
    /// Consumer group.
    pub group: String,
    /// Members alive.
    pub members: usize,
    /// Partitions nobody owns.
    pub unowned: usize,
}

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LagReport {
    /// Version of this shape; fields may be added within it.
    pub version: u32,
    /// Cluster.
    pub cluster: String,
    /// When it was read.
    pub at: Timestamp,
    /// Worst of all.
    pub level: Level,
    /// What could not be read.
    pub problems: Vec<String>,
    /// Sources.
    pub sources: Vec<SourceLag>,
    /// Groups.
    pub groups: Vec<GroupLag>,
    /// Partitions, worst first.
    pub partitions: Vec<PartitionLag>,
}

impl LagReport {
    /// Sorts worst first and sets the level; call it after any change of a status.
    pub fn rank(&mut self) {
        let seconds = |p: &PartitionLag| p.total.seconds.unwrap_or(0.0);
        self.partitions.sort_by(|a, b| {
            b.status
                .cmp(&a.status)
                .then(seconds(b).total_cmp(&seconds(a)))
                .then(b.total.bytes.cmp(&a.total.bytes))
                .then((&a.group, &a.source, a.partition).cmp(&(&b.group, &b.source, b.partition)))
        });
        let relays = self.sources.iter().flat_map(|source| &source.relays).map(|relay| relay.status);
        let worst = self.partitions.iter().map(|p| p.status).chain(relays).max();
        let unserved = self.sources.iter().any(|source| source.relays.is_empty());
        let empty = self.groups.iter().any(|group| group.members == 0 || group.unowned > 0);
        self.level = match worst {
            _ if !self.problems.is_empty() || unserved || empty => Level::High,
            Some(Status::High | Status::Stalled | Status::Unknown) => Level::High,
            Some(Status::Medium) => Level::Medium,
            Some(Status::Ok) | None => Level::Info,
        };
    }

    /// The largest known distance over all partitions, in seconds and in bytes.
    pub fn worst(&self) -> Distance {
        let seconds = self.partitions.iter().filter_map(|p| p.total.seconds).max_by(f64::total_cmp);
        let bytes = self.partitions.iter().filter_map(|p| p.total.bytes).max();
        Distance { bytes, seconds }
    }

    /// Partitions of one status.
    pub fn count(&self, status: Status) -> usize {
        self.partitions.iter().filter(|p| p.status == status).count()
    }
}
