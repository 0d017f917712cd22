//! A sink that keeps what it is given, for tests: acknowledges when told to, and fails when told to.

use super::{Acks, Failure, Open, Record, SendError, Sink};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Topic.
    pub topic: String,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Epoch header.
    pub epoch: i32,
}

#[derive(Debug, Default)]
struct State {
    written: Vec<Written>,
    topics: Vec<String>,
    held: Vec<u64>,
    hold: bool,
    fail_next: Option<Failure>,
    acks: Option<Arc<Acks>>,
}

/// Shared by all sinks it opened, as a Kafka cluster is by producers.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    state: Arc<Mutex<State>>,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything written so far.
    pub fn written(&self) -> Vec<Written> {
        self.lock().written.clone()
    }

    /// Topics prepared so far.
    pub fn topics(&self) -> Vec<String> {
        self.lock().topics.clone()
    }

    /// Holds acknowledgements back, or lets those held back go.
    pub fn hold(&self, hold: bool) {
        let mut state = self.lock();
        state.hold = hold;
        if !hold {
            let held = std::mem::take(&mut state.held);
            if let Some(acks) = state.acks.clone() {
                for token in held {
                    acks.push(token, None);
                }
            }
        }
    }

    /// The next record's delivery fails.
    pub fn fail_next(&self, failure: Failure) {
        self.lock().fail_next = Some(failure);
    }
}

impl Open for Memory {
    fn open(&self, acks: Arc<Acks>) -> Result<Box<dyn Sink>, Failure> {
        let mut state = self.lock();
        state.acks = Some(acks);
        state.held.clear();
        drop(state);
        Ok(Box::new(MemorySink { memory: self.clone() }))
    }
}

#[derive(Debug)]
struct MemorySink {
    memory: Memory,
}

impl Sink for MemorySink {
    fn prepare(&mut self, topic: &str) -> Result<(), Failure> {
        self.memory.lock().topics.push(topic.to_owned());
        Ok(())
    }

    fn send(&mut self, record: &Record<'_>) -> Result<(), SendError> {
        let mut state = self.memory.lock();
        let Some(acks) = state.acks.clone() else { return Err(SendError::Full) };
        if let Some(failure) = state.fail_next.take() {
            acks.push(record.token, Some(failure));
            return Ok(());
        }
        state.written.push(Written {
            topic: record.topic.to_owned(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            epoch: record.epoch,
        });
        if state.hold {
            state.held.push(record.token);
        } else {
            acks.push(record.token, None);
        }
        Ok(())
    }

    fn flush(&mut self, _timeout: Duration) -> bool {
        self.memory.lock().held.is_empty()
    }

    fn purge(&mut self) {
        self.memory.lock().held.clear();
    }

    fn in_flight(&self) -> u64 {
        u64::try_from(self.memory.lock().held.len()).unwrap_or(u64::MAX)
    }
}
