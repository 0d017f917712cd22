//! What a fault of the program costs: the source it happened in stands still and says so; one in what all of them need
//! ends the relay, to be started again on what is on disk.

use futures_util::FutureExt as _;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// What a panic carries.
pub(super) type Fault = Box<dyn Any + Send>;

/// Runs something to its end, or to its panic. What it was changing may be half changed then.
pub(super) async fn caught<T>(work: impl Future<Output = T>) -> Result<T, Fault> {
    AssertUnwindSafe(work).catch_unwind().await
}

/// A panic's words.
pub(super) fn words(fault: &Fault) -> String {
    let text = fault.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| fault.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}

/// Tasks none of which may end by a panic unseen.
#[derive(Debug)]
pub(super) struct Watched {
    tasks: TaskTracker,
    faults: mpsc::Sender<String>,
}

impl Watched {
    /// None yet, and where the first fault will be told.
    pub(super) fn new() -> (Self, mpsc::Receiver<String>) {
        let (faults, told) = mpsc::channel(1);
        (Self { tasks: TaskTracker::new(), faults }, told)
    }

    /// Starts one that all sources need: its fault is told.
    pub(super) fn spawn(&self, what: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let faults = self.faults.clone();
        self.spawn_or(what, work, move |fault| {
            tracing::error!("a task has ended by a fault of the program: {fault}");
            // One is enough.
            drop(faults.try_send(fault));
        });
    }

    /// Starts one with somebody who hears of its fault.
    pub(super) fn spawn_or(
        &self,
        what: &'static str,
        work: impl Future<Output = ()> + Send + 'static,
        faulted: impl FnOnce(String) + Send + 'static,
    ) {
        self.tasks.spawn(async move {
            if let Err(fault) = caught(work).await {
                faulted(format!("{what}: {}", words(&fault)));
            }
        });
    }

    /// Waits until all have ended.
    pub(super) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_fault_is_told_and_the_other_tasks_go_on() {
        let (watched, mut told) = Watched::new();
        let (go, gone) = tokio::sync::oneshot::channel();
        watched.spawn("the other", async move {
            gone.await.unwrap();
        });
        watched.spawn("serving", async { panic!("no row {}", 7) });
        assert_eq!(told.recv().await.as_deref(), Some("serving: no row 7"));
        go.send(()).unwrap();
        watched.ended().await;
        assert!(told.try_recv().is_err(), "the other has ended well");
    }
}
