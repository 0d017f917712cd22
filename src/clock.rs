//! Time as a value: the only place that reads the clock.

use jiff::Timestamp;
use std::time::Instant;

/// Reads time; tests pass their own.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Wall clock.
    fn now(&self) -> Timestamp;
    /// Monotonic clock, for durations.
    fn instant(&self) -> Instant;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn instant(&self) -> Instant {
        Instant::now()
    }
}
