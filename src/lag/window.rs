//! What a series of reports tells that one cannot: whether a partition falls behind steadily (a first set of
//! Burrow's window rules), and since when it has been behind at all.

use super::compute::by_threshold;
use super::{LagReport, Status};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Reports looked back at.
const WINDOW: usize = 10;
/// A lag that grows is worth a word from here on; below, it is jitter.
const GROWING_SECS: f64 = 10.0;

/// What the window says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// Nothing.
    Steady,
    /// It never fell over the whole window, and rose.
    Growing,
}

type Key = (String, String, u32);

/// The last reports' lags, by partition.
#[derive(Debug, Default)]
pub struct Windows {
    lags: BTreeMap<Key, VecDeque<f64>>,
    /// When a partition was last seen with nothing to do.
    caught_up: BTreeMap<Key, Timestamp>,
}

impl Windows {
    /// Notes a report and raises what it shows too mild: call it once for each report, in order.
    ///
    /// Commit times overstate after a pause: the first row for hours makes the row before it hours old. A partition
    /// cannot be behind for longer than since it was last seen with nothing to do.
    pub fn judge(&mut self, report: &mut LagReport, thresholds: super::Thresholds) {
        let at = report.at;
        for lag in &mut report.partitions {
            let key = (lag.group.clone(), lag.source.clone(), lag.partition);
            let Some(seconds) = lag.total.seconds else {
                self.lags.remove(&key);
                continue;
            };
            if seconds <= 0.0 {
                self.caught_up.insert(key.clone(), at);
            }
            let since = self.caught_up.get(&key).map(|then| at.duration_since(*then).as_secs_f64());
            if let Some(bound) = since.filter(|bound| *bound < seconds) {
                lag.total.seconds = Some(bound);
                for hop in [&mut lag.source_to_relay, &mut lag.relay_to_consumer] {
                    hop.seconds = hop.seconds.map(|seconds| seconds.min(bound));
                }
                if matches!(lag.status, Status::Ok | Status::Medium | Status::High) {
                    (lag.status, lag.reason) = by_threshold(Some(bound), thresholds);
                }
            }
            let window = self.lags.entry(key).or_default();
            window.push_back(lag.total.seconds.unwrap_or(seconds));
            if window.len() > WINDOW {
                window.pop_front();
            }
            if trend(window) == Trend::Growing && lag.status == Status::Ok {
                lag.status = Status::Medium;
                lag.reason = format!("falling behind in each of the last {WINDOW} reports");
            }
        }
        let current: BTreeSet<Key> =
            report.partitions.iter().map(|p| (p.group.clone(), p.source.clone(), p.partition)).collect();
        self.lags.retain(|key, _| current.contains(key));
        self.caught_up.retain(|key, _| current.contains(key));
        report.rank();
    }
}

fn trend(window: &VecDeque<f64>) -> Trend {
    let full = window.len() == WINDOW;
    let never_fell = window.iter().zip(window.iter().skip(1)).all(|(before, after)| after >= before);
    let (first, last) = (window.front().copied().unwrap_or(0.0), window.back().copied().unwrap_or(0.0));
    if full && never_fell && last > first && last >= GROWING_SECS { Trend::Growing } else { Trend::Steady }
}

#[cfg(test)]
mod tests {
    use super::super::compute::tests::{now, scene, thresholds};
    use super::*;
    use crate::lag::{Distance, compute};
    use jiff::SignedDuration;

    fn report(seconds: f64, minute: i64) -> LagReport {
        let (groups, readings) = scene();
        let mut report = compute("shop", &groups, &readings, thresholds(), now());
        report.at = now() + SignedDuration::from_mins(minute);
        report.partitions.retain(|p| p.partition == 0);
        report.partitions[0].total = Distance { bytes: Some(1), seconds: Some(seconds) };
        let (status, reason) = if seconds >= 300.0 { (Status::High, "behind") } else { (Status::Ok, "") };
        report.partitions[0].status = status;
        report.partitions[0].reason = reason.to_owned();
        report
    }

    fn statuses(lags: &[f64]) -> Vec<Status> {
        let mut windows = Windows::default();
        let judged = lags.iter().enumerate().map(|(minute, seconds)| {
            let mut report = report(*seconds, i64::try_from(minute).unwrap());
            windows.judge(&mut report, thresholds());
            report.partitions[0].status
        });
        judged.collect()
    }

    #[test]
    fn a_lag_that_only_grows_is_medium_before_it_reaches_a_threshold() {
        let growing: Vec<f64> = (0..10).map(|i| 4.0 + f64::from(i)).collect();
        assert_eq!(statuses(&growing)[8..], [Status::Ok, Status::Medium]);
        let mut dipped = growing;
        dipped[5] = 1.0;
        assert_eq!(statuses(&dipped)[9], Status::Ok);
    }

    #[test]
    fn the_first_row_after_a_pause_is_not_hours_old() {
        // Nothing to do, then a row whose predecessor is two hours old.
        assert_eq!(statuses(&[0.0, 7200.0]), [Status::Ok, Status::Medium]);
        assert_eq!(statuses(&[7200.0, 7200.0]), [Status::High, Status::High]);
        assert_eq!(statuses(&[0.0, 7200.0, 7200.0, 7200.0, 7200.0, 7200.0])[5], Status::High);
    }
}
