//! One task a source: chooses a relay, subscribes for the partitions wanted, and hands blocks to the writer.

use super::lane::From;
use super::shared::Shared;
use super::writer::Feed;
use crate::client::{self, ClientError, StreamEvent, Subscription};
use crate::mysql::Start;
use crate::sink::Failure;
use crate::wire::frame::{StartFrom, Welcome};
use crate::wire::{PartitionSet, Selection};
use crate::zk::Zk;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

/// Bytes of blocks of one source that may be on their way to the writer.
const CREDIT_BYTES: u64 = 8 << 20;
/// Pause after the first failure; doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Finds relays and opens streams; ZooKeeper and TCP, or a test's own.
pub(super) trait Relays: Send + Sync + fmt::Debug {
    /// Addresses of the relays that serve a source, by id.
    fn find<'a>(&'a self, source: &'a str) -> BoxFuture<'a, Result<BTreeMap<String, String>, String>>;
    /// The source's epoch in force.
    fn epoch<'a>(&'a self, source: &'a str) -> BoxFuture<'a, Result<u32, String>>;
    /// Opens a stream.
    fn subscribe(
        &self,
        subscription: Subscription,
        selection: Selection,
    ) -> BoxFuture<'_, Result<Box<dyn Events>, ClientError>>;
}

/// An open stream.
pub(super) trait Events: Send {
    /// What the relay said when it opened.
    fn welcome(&self) -> &Welcome;
    /// The next event; dropping the future loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<StreamEvent, ClientError>>;
}

/// The real ones.
#[derive(Debug)]
pub(super) struct Registered(pub(super) Zk);

impl Relays for Registered {
    fn find<'a>(&'a self, source: &'a str) -> BoxFuture<'a, Result<BTreeMap<String, String>, String>> {
        async move {
            let relays = self.0.relays(source).await.map_err(|error| error.to_string())?;
            Ok(relays.into_iter().map(|(id, relay)| (id, relay.address)).collect())
        }
        .boxed()
    }

    fn epoch<'a>(&'a self, source: &'a str) -> BoxFuture<'a, Result<u32, String>> {
        async move {
            let epoch = self.0.current_epoch(source).await.map_err(|error| error.to_string())?;
            epoch
                .map(|(number, _)| number)
                .ok_or_else(|| "no relay has connected to the source yet".to_owned())
        }
        .boxed()
    }

    fn subscribe(
        &self,
        subscription: Subscription,
        selection: Selection,
    ) -> BoxFuture<'_, Result<Box<dyn Events>, ClientError>> {
        async move {
            let stream = client::subscribe_to(subscription, selection).await?;
            Ok::<Box<dyn Events>, _>(Box::new(stream))
        }
        .boxed()
    }
}

impl Events for client::Stream {
    fn welcome(&self) -> &Welcome {
        Self::welcome(self)
    }

    fn next(&mut self) -> BoxFuture<'_, Result<StreamEvent, ClientError>> {
        Self::next(self).boxed()
    }
}

/// Everything a stream task needs.
#[derive(Debug)]
pub(super) struct StreamTask {
    pub(super) source: usize,
    pub(super) name: String,
    pub(super) selection: Selection,
    pub(super) cluster: String,
    pub(super) group: String,
    pub(super) member: String,
    pub(super) partitions: u32,
    pub(super) shared: Arc<Shared>,
    pub(super) relays: Arc<dyn Relays>,
    pub(super) wanted: watch::Receiver<BTreeSet<u32>>,
    pub(super) feed: mpsc::Sender<Feed>,
}

/// Why a stream ended.
enum End {
    /// Other partitions are wanted.
    Changed,
    /// Nobody listens any more.
    Closed,
    /// Something failed; whether trying the same relay again can help.
    Failed(Failure),
}

impl StreamTask {
    /// Runs until the writer goes away or the task is dropped.
    pub(super) async fn run(mut self) {
        let mut attempt = spread(&self.member);
        let mut failures = 0u32;
        let mut refusals = BTreeSet::new();
        // What was logged last: a relay that is away for an hour is one line.
        let mut said = String::new();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let wanted = self.shared.lanes().streamable(self.source, &wanted);
            if wanted.is_empty() {
                self.shared.set_source_error(self.source, None);
                if self.wanted.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let (end, relay) = self.attempt(&wanted, attempt, &mut failures).await;
            if failures == 0 {
                said.clear();
            }
            let failure = match end {
                End::Closed => return,
                End::Changed => {
                    refusals.clear();
                    continue;
                }
                End::Failed(failure) => failure,
            };
            let tried = relay.as_ref().map(|(id, _)| id.as_str());
            if said != failure.reason {
                warn!(source = self.name, relay = tried, reason = failure.reason, "no stream, trying again");
                said.clone_from(&failure.reason);
            }
            attempt = attempt.wrapping_add(1);
            failures = failures.saturating_add(1);
            // A definite refusal counts once every relay has refused: another one may reach further back.
            match relay {
                Some((id, all)) if failure.definite => {
                    refusals.insert(id);
                    let definite = all.iter().all(|id| refusals.contains(id));
                    self.shared.set_source_error(self.source, Some(Failure { definite, ..failure }));
                }
                _ => {
                    refusals.clear();
                    self.shared.set_source_error(self.source, Some(Failure { definite: false, ..failure }));
                }
            }
            let pause = MAX_PAUSE.min(FIRST_PAUSE * 2u32.saturating_pow(failures.min(8) - 1));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = self.feed.closed() => return,
            }
        }
    }

    async fn attempt(
        &mut self,
        wanted: &BTreeSet<u32>,
        attempt: usize,
        failures: &mut u32,
    ) -> (End, Option<(String, Vec<String>)>) {
        let found = match self.relays.find(&self.name).await {
            Ok(found) => found,
            Err(reason) => return (End::Failed(Failure::transient(reason)), None),
        };
        let ids: Vec<String> = found.keys().cloned().collect();
        let Some((id, address)) = found.into_iter().nth(attempt.checked_rem(ids.len()).unwrap_or(0)) else {
            let reason = format!("no relay serves source {}", self.name);
            return (End::Failed(Failure::transient(reason)), None);
        };
        let end = self.stream(wanted, &address, failures).await;
        (end, Some((id, ids)))
    }

    async fn stream(&mut self, wanted: &BTreeSet<u32>, address: &str, failures: &mut u32) -> End {
        let from = match self.from(wanted).await {
            Ok(from) => from,
            Err(failure) => return End::Failed(failure),
        };
        let partitions = PartitionSet::of(self.partitions, wanted.iter().copied());
        let subscription = Subscription {
            address: address.to_owned(),
            cluster: self.cluster.clone(),
            source: self.name.clone(),
            group: self.group.clone(),
            member: self.member.clone(),
            from: from.clone(),
            partitions: partitions.clone(),
            credit_bytes: CREDIT_BYTES,
        };
        let mut stream = match self.relays.subscribe(subscription, self.selection.clone()).await {
            Ok(stream) => stream,
            Err(error) => return End::Failed(failed(&error)),
        };
        info!(source = self.name, address, ?from, partitions = wanted.len(), "streaming");
        let welcome = stream.welcome();
        let begun = Feed::Subscribed {
            source: self.source,
            partitions,
            server_uuid: welcome.server_uuid.clone(),
            highest: welcome.highest,
        };
        // While there is no room, the partitions may change again.
        let room = tokio::select! {
            room = self.feed.reserve() => room,
            changed = self.wanted.changed() => {
                return if changed.is_ok() { End::Changed } else { End::Closed };
            }
        };
        match room {
            Ok(room) => room.send(begun),
            Err(_) => return End::Closed,
        }
        loop {
            let event = tokio::select! {
                event = stream.next() => event,
                changed = self.wanted.changed() => {
                    return if changed.is_ok() { End::Changed } else { End::Closed };
                }
                () = self.feed.closed() => return End::Closed,
            };
            let feed = match event {
                Ok(StreamEvent::Block(block)) => Feed::Block { source: self.source, block },
                Ok(StreamEvent::Covered(covered)) => Feed::Covered { source: self.source, covered },
                Err(error) => return End::Failed(failed(&error)),
            };
            if *failures > 0 {
                *failures = 0;
                self.shared.set_source_error(self.source, None);
            }
            // A block that has no room while the partitions change is read again by the next stream.
            let room = tokio::select! {
                room = self.feed.reserve() => room,
                changed = self.wanted.changed() => {
                    return if changed.is_ok() { End::Changed } else { End::Closed };
                }
            };
            match room {
                Ok(room) => room.send(feed),
                Err(_) => return End::Closed,
            }
        }
    }

    async fn from(&self, wanted: &BTreeSet<u32>) -> Result<StartFrom, Failure> {
        let from = self.shared.lanes().from(self.source, wanted);
        match from {
            Some(From::Point(point)) => Ok(StartFrom::Position { position: point.position, rows: point.row }),
            None => Ok(StartFrom::Earliest),
            Some(From::Start(start)) => match start.parse() {
                Ok(Start::Earliest) => Ok(StartFrom::Earliest),
                Ok(Start::Latest) => Ok(StartFrom::Latest),
                Ok(Start::Time(time_us)) => Ok(StartFrom::Time(time_us)),
                Ok(Start::Scn(scn)) => {
                    let epoch = self.relays.epoch(&self.name).await.map_err(Failure::transient)?;
                    Ok(StartFrom::Position { position: scn.position(epoch), rows: 0 })
                }
                // A text is never one of the last two.
                Ok(Start::Gtid(_) | Start::At(_) | Start::After(_)) | Err(_) => Ok(StartFrom::Gtid(start)),
            },
        }
    }
}

fn failed(error: &ClientError) -> Failure {
    Failure { reason: error.to_string(), definite: !error.is_transient() }
}

/// Spreads members over relays.
fn spread(member: &str) -> usize {
    usize::try_from(xxhash_rust::xxh3::xxh3_64(member.as_bytes()) >> 16).unwrap_or(0)
}
