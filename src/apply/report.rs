//! How an apply ended, host by host.

use serde::Serialize;
use std::collections::BTreeMap;

/// The end of an apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Counts by host.
    pub hosts: BTreeMap<String, HostReport>,
    /// Every failure, in the order in which they happened.
    pub failures: Vec<Failure>,
}

/// Counts of steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// Ready tests that passed and notes taken.
    pub ok: usize,
    /// Steps that changed something.
    pub changed: usize,
    /// Steps that failed.
    pub failed: usize,
    /// It could not be reached.
    pub unreachable: bool,
    /// Steps left out after a failure.
    pub skipped: usize,
}

/// Something that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// Where.
    pub host: String,
    /// Which service.
    pub service: String,
    /// Which step, in words.
    pub step: String,
    /// Why; several lines where a service's log says more.
    pub error: String,
}

impl Report {
    /// Nothing failed and no host was left out.
    pub fn is_success(&self) -> bool {
        self.failures.is_empty() && self.hosts.values().all(|host| !host.unreachable && host.failed == 0)
    }
}
