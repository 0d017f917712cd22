//! Lag of the last 24 hours, for the charts of the status page: the worst partition of each group and source, each
//! minute. Losing it loses a picture and nothing else, so it is written now and then.

use crate::alert::write_durably;
use crate::lag::LagReport;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

const KEEP: SignedDuration = SignedDuration::from_hours(24);
const STEP_SECS: i64 = 60;
const SAVE_EVERY: SignedDuration = SignedDuration::from_mins(5);

/// Seconds of lag by minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Point {
    /// Start of the minute, seconds since 1970.
    pub(super) at: i64,
    /// Worst seen in it.
    pub(super) seconds: f64,
}

/// Series by `group/source`.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    pub(super) series: BTreeMap<String, VecDeque<Point>>,
    path: PathBuf,
    saved: Option<Timestamp>,
}

impl History {
    pub(super) fn load(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_default();
        let series = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { series, path: path.to_owned(), saved: None }
    }

    pub(super) fn add(&mut self, report: &LagReport) {
        let minute = report.at.as_second().div_euclid(STEP_SECS) * STEP_SECS;
        for lag in &report.partitions {
            let Some(seconds) = lag.total.seconds else { continue };
            let points = self.series.entry(format!("{}/{}", lag.group, lag.source)).or_default();
            match points.back_mut() {
                Some(point) if point.at == minute => point.seconds = point.seconds.max(seconds),
                _ => points.push_back(Point { at: minute, seconds }),
            }
        }
        let oldest = (report.at - KEEP).as_second();
        for points in self.series.values_mut() {
            while points.front().is_some_and(|point| point.at < oldest) {
                points.pop_front();
            }
        }
        self.series.retain(|_, points| !points.is_empty());
    }

    pub(super) fn save(&mut self, now: Timestamp) {
        if self.saved.is_some_and(|then| now.duration_since(then) < SAVE_EVERY) {
            return;
        }
        self.saved = Some(now);
        let bytes = serde_json::to_vec(&self.series).unwrap_or_default();
        if let Err(error) = write_durably(&self.path.with_extension("tmp"), &self.path, &bytes) {
            tracing::warn!(path = %self.path.display(), %error, "lag history not written");
        }
    }
}
