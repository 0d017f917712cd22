//! Probes read one thing on this host and answer samples; nothing here judges a value, rules do.
//!
//! A probe that fails is itself a sample, `probe_up` 0 with the reason, so that silence never reads as health.
//! Every probe has a hard deadline. Probes read `/proc` below a root that tests replace.

pub mod bean;
pub mod certificate;
pub mod endpoint;
pub mod host;
pub mod jolokia;
mod mountinfo;
pub mod systemd;
pub mod zookeeper;

use crate::clock::Clock;
use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest run of one probe. Below the monitor's deadline for a whole agent, so that one hanging JVM costs its own
/// samples only.
pub const PROBE_DEADLINE: Duration = Duration::from_secs(4);

/// Names a series together with a sample's name.
pub type Labels = BTreeMap<String, String>;

/// One reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Snake case, unit last: `disk_free_bytes`. In `/metrics` it gets the prefix `aesop_`.
    pub name: String,
    /// What was read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    /// The reading.
    pub value: f64,
    /// What a number cannot say (`inactive (dead)`, an error's text); no part of the series' identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When it was read.
    pub at: Timestamp,
}

impl Sample {
    /// A sample without labels.
    pub fn new(name: impl Into<String>, value: f64, at: Timestamp) -> Self {
        Self { name: name.into(), labels: Labels::new(), value, note: None, at }
    }

    /// Adds a label.
    #[must_use]
    pub fn label(mut self, key: &str, value: impl Into<String>) -> Self {
        self.labels.insert(key.to_owned(), value.into());
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// Why a probe could not read.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing listens, or it does not answer as it should.
    #[error("{0}")]
    Unreachable(String),
    /// It answered what this version cannot read.
    #[error("unexpected answer: {0}")]
    Malformed(String),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
}

/// Reads one thing.
pub trait Probe: Send + Sync + std::fmt::Debug {
    /// Kind of probe: `host`, `systemd`, `jolokia`, `zookeeper`, `certificate`, `endpoint`.
    fn name(&self) -> &str;
    /// The service it reads, if it reads one: `kafka`.
    fn service(&self) -> Option<&str>;
    /// Reads.
    fn probe(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Sample>, ProbeError>>;
}

/// Runs all probes at once, each with its deadline, and adds `probe_up` and `probe_seconds` of each.
pub async fn run_all(probes: &[Box<dyn Probe>], clock: &dyn Clock) -> Vec<Sample> {
    let runs = probes.iter().map(|probe| run_one(probe.as_ref(), clock, PROBE_DEADLINE));
    join_all(runs).await.into_iter().flatten().collect()
}

async fn run_one(probe: &dyn Probe, clock: &dyn Clock, deadline: Duration) -> Vec<Sample> {
    let now = clock.now();
    let started = clock.instant();
    let outcome = match tokio::time::timeout(deadline, probe.probe(now)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(ProbeError::Deadline(deadline)),
    };
    let took = clock.instant().saturating_duration_since(started).as_secs_f64();
    let about = |name: &str, value: f64| {
        let sample = Sample::new(name, value, now).label("probe", probe.name());
        match probe.service() {
            Some(service) => sample.label("service", service),
            None => sample,
        }
    };
    let (mut samples, up) = match outcome {
        Ok(samples) => (samples, about("probe_up", 1.0)),
        Err(error) => (Vec::new(), about("probe_up", 0.0).note(error.to_string())),
    };
    samples.push(up);
    samples.push(about("probe_seconds", took));
    samples
}

/// An integer as a sample's value. Exact up to 2⁵³, which is 8 PiB in bytes.
#[expect(
    clippy::cast_precision_loss,
    clippy::as_conversions,
    reason = "samples are f64 and no probe reads more"
)]
pub(crate) fn to_value(integer: u64) -> f64 {
    integer as f64
}

/// `part / whole`; none where the whole is zero or unknown.
pub(crate) fn ratio(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[derive(Debug)]
    struct Scripted(Option<&'static str>);

    impl Probe for Scripted {
        fn name(&self) -> &'static str {
            "scripted"
        }
        fn service(&self) -> Option<&str> {
            Some("kafka")
        }
        fn probe(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Sample>, ProbeError>> {
            Box::pin(async move {
                match self.0 {
                    Some("hang") => std::future::pending().await,
                    Some(reason) => Err(ProbeError::Unreachable(reason.to_owned())),
                    None => Ok(vec![Sample::new("reading", 1.0, now)]),
                }
            })
        }
    }

    fn up(samples: &[Sample]) -> (f64, Option<String>) {
        let sample = samples.iter().find(|s| s.name == "probe_up").unwrap();
        assert_eq!(sample.labels["service"], "kafka");
        (sample.value, sample.note.clone())
    }

    #[tokio::test]
    async fn a_failing_or_hanging_probe_is_a_sample_and_costs_the_others_nothing() {
        for (script, expected) in [
            (None, (1.0, None)),
            (Some("connection refused"), (0.0, Some("connection refused".to_owned()))),
            (Some("hang"), (0.0, Some("no answer within 10ms".to_owned()))),
        ] {
            let deadline = Duration::from_millis(10);
            assert_eq!(up(&run_one(&Scripted(script), &SystemClock, deadline).await), expected);
        }
    }
}
