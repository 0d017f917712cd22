//! What the member, the stream tasks and the writer thread share.

use super::lane::Lanes;
use crate::group::Lease;
use crate::sink::{Acks, Failure};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What the writer does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Deliver it.
    Run,
    /// Drop it, but wait for what is out: a clean stop.
    Drain,
    /// Drop it, and forget what is out: the lease is lost, or a delivery failed.
    Halt,
}

/// The mode of one engine.
#[derive(Debug, Default)]
pub(super) struct ModeCell(AtomicU8);

impl ModeCell {
    pub(super) fn get(&self) -> Mode {
        match self.0.load(Ordering::Acquire) {
            0 => Mode::Run,
            1 => Mode::Drain,
            _ => Mode::Halt,
        }
    }

    pub(super) fn set(&self, mode: Mode) {
        let value = match mode {
            Mode::Run => 0,
            Mode::Drain => 1,
            Mode::Halt => 2,
        };
        self.0.store(value, Ordering::Release);
    }
}

/// Shared state; each lock is held for a moment only and never across another.
#[derive(Debug)]
pub(super) struct Shared {
    lanes: Mutex<Lanes>,
    lease: Mutex<Option<Lease>>,
    failure: Mutex<Option<Failure>>,
    /// By source: why its stream does not run; definite or not.
    source_errors: Mutex<BTreeMap<usize, Failure>>,
    pub(super) acks: Arc<Acks>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(lanes: Lanes) -> Self {
        Self {
            lanes: Mutex::new(lanes),
            lease: Mutex::new(None),
            failure: Mutex::new(None),
            source_errors: Mutex::new(BTreeMap::new()),
            acks: Arc::new(Acks::default()),
        }
    }

    pub(super) fn lanes(&self) -> MutexGuard<'_, Lanes> {
        lock(&self.lanes)
    }

    pub(super) fn set_lease(&self, lease: Option<Lease>) {
        *lock(&self.lease) = lease;
    }

    pub(super) fn with_lease(&self, apply: impl FnOnce(&mut Lease)) {
        if let Some(lease) = lock(&self.lease).as_mut() {
            apply(lease);
        }
    }

    pub(super) fn lease_deadline(&self) -> Option<Instant> {
        lock(&self.lease).as_ref().map(Lease::deadline)
    }

    pub(super) fn lease_holds(&self) -> bool {
        lock(&self.lease).as_ref().is_some_and(|lease| lease.holds(Instant::now()))
    }

    /// The delivery failed; the first reason counts.
    pub(super) fn fail(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
    }

    pub(super) fn take_failure(&self) -> Option<Failure> {
        lock(&self.failure).take()
    }

    pub(super) fn set_source_error(&self, source: usize, error: Option<Failure>) {
        let mut errors = lock(&self.source_errors);
        match error {
            Some(error) => errors.insert(source, error),
            None => errors.remove(&source),
        };
    }

    pub(super) fn source_errors(&self) -> BTreeMap<usize, Failure> {
        lock(&self.source_errors).clone()
    }

    /// Counts acknowledgements in.
    pub(super) fn collect(&self) {
        let acks = self.acks.take();
        if acks.is_empty() {
            return;
        }
        let failed = self.lanes().acknowledge(acks);
        if let Some(failure) = failed {
            self.fail(failure);
        }
    }
}
