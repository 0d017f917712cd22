//! One sink's life: the writer thread and the stream tasks that feed it. A failed delivery or a lost lease
//! ends it; the member starts another one from the checkpoints.

use super::shared::{Mode, ModeCell, Shared};
use super::stream::{Relays, StreamTask};
use super::writer::Writer;
use crate::config::ConsumerConfig;
use crate::sink::{Failure, Open, Topics};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

/// Blocks in line for the writer, over all sources: with 256 KiB each little memory, and enough to keep it busy.
const FEED_CAPACITY: usize = 16;
/// How long to wait for the writer thread to end; longer than a clean stop waits for acknowledgements. It
/// takes longer only while it creates a topic and no broker answers.
const END_TIMEOUT: Duration = Duration::from_millis(3200);

/// What an engine is built from.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) config: ConsumerConfig,
    pub(super) shared: Arc<Shared>,
    pub(super) relays: Arc<dyn Relays>,
    pub(super) sink: Arc<dyn Open>,
}

/// A running engine.
#[derive(Debug)]
pub(super) struct Engine {
    shared: Arc<Shared>,
    mode: Arc<ModeCell>,
    wanted: watch::Sender<BTreeSet<u32>>,
    streams: JoinSet<()>,
    ended: oneshot::Receiver<()>,
}

impl Engine {
    /// Opens the sink and starts to stream the partitions in `wanted`.
    pub(super) fn start(parts: &Parts, wanted: BTreeSet<u32>) -> Result<Self, Failure> {
        let shared = Arc::clone(&parts.shared);
        let topics =
            Topics::new(&parts.config.sink.kafka).map_err(|error| Failure::definite(error.to_string()))?;
        let mode = Arc::new(ModeCell::default());
        let sink = parts.sink.open(Arc::clone(&shared.acks))?;
        let writer =
            Writer::new(Arc::clone(&shared), Arc::clone(&mode), sink, topics, &parts.config.sink.kafka);
        let (feed, incoming) = mpsc::channel(FEED_CAPACITY);
        let (end, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(move || {
                writer.run(incoming);
                if end.send(()).is_err() {
                    tracing::debug!("nobody waited for the writer");
                }
            })
            .map_err(|error| Failure::transient(format!("cannot start the writer thread: {error}")))?;
        let (wanted_sender, wanted) = watch::channel(wanted);
        let mut streams = JoinSet::new();
        for (source, (name, consumed)) in parts.config.sources.iter().enumerate() {
            let task = StreamTask {
                source,
                name: name.clone(),
                selection: consumed.select.clone(),
                cluster: parts.config.cluster.clone(),
                group: parts.config.group.clone(),
                member: parts.config.id.clone(),
                partitions: parts.config.partitions,
                shared: Arc::clone(&shared),
                relays: Arc::clone(&parts.relays),
                wanted: wanted.clone(),
                feed: feed.clone(),
            };
            streams.spawn(task.run());
        }
        Ok(Self { shared, mode, wanted: wanted_sender, streams, ended })
    }

    /// Streams these partitions from now on.
    pub(super) fn want(&self, partitions: BTreeSet<u32>) {
        self.wanted.send_if_modified(|now| {
            let changed = *now != partitions;
            *now = partitions;
            changed
        });
    }

    /// Ends it: `Drain` waits for acknowledgements, `Halt` forgets what is out. Afterwards no record of this
    /// engine is handed to the sink any more, and every lane is back at its checkpoint.
    pub(super) async fn end(mut self, mode: Mode) {
        self.mode.set(mode);
        self.streams.abort_all();
        while self.streams.join_next().await.is_some() {}
        if tokio::time::timeout(END_TIMEOUT, &mut self.ended).await.is_err() {
            tracing::warn!(
                "the writer is still busy; its lanes get new numbers, so nothing of it counts any more"
            );
        }
        self.shared.collect();
        self.shared.lanes().rewind();
    }
}
