//! Reads a source's binlog again for consumers whose place is older than the log.
//!
//! At most two such readings a source, each over a connection of its own and shared by all consumers whose place it has.
//! Each writes a small log of its own, a bounded distance before the furthest of its readers; one that falls behind what
//! that log keeps opens another, or waits for its turn.

use super::guard::{self, Fault};
use crate::config;
use crate::log::{Log, Options};
use crate::mysql::source::{self, Job};
use crate::mysql::{self, Definite, Remembered, Start, StatusCell};
use crate::serve::{LookBack, Opened, Refused, Seat};
use crate::telemetry::{Bean, Counter, Gauge, ObjectName, Registry};
use crate::wire::frame::{ErrorCode, StartFrom};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Each costs the database a connection that reads old files.
const AT_ONCE: usize = 2;
/// Of such a log: small, so that what was read goes away soon.
const SEGMENT_BYTES: u64 = 16 << 20;
/// What such a log keeps for readers behind the furthest one.
const RETENTION_BYTES: u64 = 256 << 20;
/// Segments that reading is before the furthest reader.
const AHEAD_SEGMENTS: u64 = 4;
/// Between looks at retention.
const HOUSEKEEP_EVERY: Duration = Duration::from_secs(1);

/// Who is read, and in which epoch: known once the source was reached.
type Epoch = (u32, String);

/// The readings of one source.
#[derive(Debug)]
pub(super) struct LookBacks {
    name: String,
    config: config::Source,
    definitions: Option<Remembered>,
    dir: PathBuf,
    epoch: watch::Sender<Option<Epoch>>,
    slots: Mutex<[Weak<Back>; AT_ONCE]>,
    next: AtomicU64,
    numbers: Numbers,
}

/// What is seen of them.
#[derive(Debug)]
struct Numbers {
    _bean: Bean,
    begun: Counter,
    failed: Counter,
    refused: Counter,
    active: Gauge,
    readers: Gauge,
}

impl Numbers {
    fn new(registry: &Registry, source: &str) -> Self {
        let bean = registry.bean(ObjectName::new("aesop.relay", &[("type", "LookBack"), ("source", source)]));
        let (begun, failed) = (bean.counter("LookBacksTotal"), bean.counter("LookBacksFailedTotal"));
        let (refused, active) = (bean.counter("ReadersRefusedTotal"), bean.gauge("LookBacksActive"));
        let readers = bean.gauge("ReadersActive");
        Self { _bean: bean, begun, failed, refused, active, readers }
    }
}

/// Counts one as long as it is there.
#[derive(Debug)]
struct Counted(Gauge);

impl Counted {
    fn new(gauge: &Gauge) -> Self {
        gauge.add(1);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.add(-1);
    }
}

/// One reading; ends when nobody holds it any more.
#[derive(Debug)]
struct Back {
    from: StartFrom,
    log: Log,
    /// The segment that each of its readers is in.
    readers: Mutex<HashMap<u64, u64>>,
    moved: Notify,
    failed: watch::Sender<Option<Refused>>,
    stop: CancellationToken,
    _counted: Counted,
}

impl Drop for Back {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[derive(Debug)]
struct BackSeat {
    back: Arc<Back>,
    number: u64,
    _counted: Counted,
}

impl Seat for BackSeat {
    fn at(&self, segment: u64) {
        let before = lock(&self.back.readers).insert(self.number, segment);
        if before != Some(segment) {
            self.back.moved.notify_one();
        }
    }

    fn failed(&self) -> BoxFuture<'_, Refused> {
        let mut failed = self.back.failed.subscribe();
        async move {
            let refused = failed.wait_for(Option::is_some).await.ok().and_then(|refused| refused.clone());
            match refused {
                Some(refused) => refused,
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

impl Drop for BackSeat {
    fn drop(&mut self) {
        lock(&self.back.readers).remove(&self.number);
        self.back.moved.notify_one();
    }
}

impl LookBacks {
    pub(super) fn new(name: &str, config: config::Source, dir: &Path, registry: &Registry) -> Self {
        let path = dir.join("definitions.json");
        let definitions = match config.schema {
            config::SchemaFrom::BestEffort => Some(Remembered::open(path)),
            config::SchemaFrom::RowMetadata => {
                Remembered::forget(&path);
                None
            }
        };
        let dir = dir.join("lookback");
        // Left by a relay that was killed.
        drop(std::fs::remove_dir_all(&dir));
        let slots = Mutex::new([Weak::new(), Weak::new()]);
        Self {
            name: name.to_owned(),
            config,
            definitions,
            dir,
            epoch: watch::Sender::default(),
            slots,
            next: AtomicU64::new(1),
            numbers: Numbers::new(registry, name),
        }
    }

    /// What the source's tables were, shared by all readings of it.
    pub(super) fn definitions(&self) -> Option<Remembered> {
        self.definitions.clone()
    }

    /// Says who is read now.
    pub(super) fn settled(&self, epoch: u32, server_uuid: &str) {
        self.epoch.send_replace(Some((epoch, server_uuid.to_owned())));
    }

    fn seat(&self, back: &Arc<Back>) -> Opened {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (log, back) = (back.log.clone(), Arc::clone(back));
        let from = match &back.from {
            StartFrom::Position { .. } => back.from.clone(),
            // It begins where the server found it.
            StartFrom::Gtid(_) | StartFrom::Time(_) | StartFrom::Earliest | StartFrom::Latest => {
                StartFrom::Earliest
            }
        };
        lock(&back.readers).insert(number, 0);
        let counted = Counted::new(&self.numbers.readers);
        Opened { log, from, seat: Box::new(BackSeat { back, number, _counted: counted }) }
    }

    async fn opened(&self, from: StartFrom) -> Result<Opened, Refused> {
        let mut epoch = self.epoch.subscribe();
        let known = epoch.wait_for(Option::is_some).await.ok().and_then(|known| known.clone());
        let Some(epoch) = known else { return Err(transient("the relay is stopping")) };
        let start = match &from {
            StartFrom::Position { position, .. } if position.epoch != epoch.0 => {
                return Err(Refused {
                    code: ErrorCode::BelowLowest,
                    definite: true,
                    message: format!(
                        "position {position} is of epoch {}, and the source is in epoch {}: the log no longer has it, and the \
                         server of that epoch is not read any more; take a snapshot, or start elsewhere and accept the gap",
                        position.epoch, epoch.0
                    ),
                });
            }
            StartFrom::Position { position, .. } => Start::At(*position),
            StartFrom::Gtid(set) => Start::Gtid(set.clone()),
            StartFrom::Time(time_us) => Start::Time(*time_us),
            StartFrom::Earliest | StartFrom::Latest => return Err(transient("nothing older was asked for")),
        };
        let mut slots = lock(&self.slots);
        if let Some(back) = slots.iter().filter_map(Weak::upgrade).find(|back| back.has(&from)) {
            let mut opened = self.seat(&back);
            opened.from = if back.from == from { opened.from } else { from };
            return Ok(opened);
        }
        let free = slots.iter().position(|slot| slot.strong_count() == 0);
        let Some(number) = free else {
            return Err(transient(&format!(
                "source {} is read again for {AT_ONCE} others at other places already: waiting for one of them",
                self.name
            )));
        };
        let back = self.begin(from, start, epoch, number)?;
        if let Some(slot) = slots.get_mut(number) {
            *slot = Arc::downgrade(&back);
        }
        Ok(self.seat(&back))
    }

    fn begin(
        &self,
        from: StartFrom,
        start: Start,
        epoch: Epoch,
        number: usize,
    ) -> Result<Arc<Back>, Refused> {
        let dir = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let options = Options {
            segment_bytes: SEGMENT_BYTES,
            ..Options::new(dir.join("log"), RETENTION_BYTES, u64::MAX)
        };
        let (log, mut writer) = Log::open(options).map_err(|error| transient(&error.to_string()))?;
        let mut config = self.config.clone();
        // The relay's own number and the ones behind it are this source's.
        let own = u32::try_from(number).unwrap_or(0) + 1;
        config.mysql.server_id = config.mysql.server_id.wrapping_add(own);
        let (go, pace) = watch::channel(true);
        let job = Job {
            name: self.name.clone(),
            config,
            password: None,
            epoch: epoch.0,
            start,
            expected_server: Some(epoch.1),
            counts_gtids: false,
            executed: None,
            pace: Some(pace),
            definitions: self.definitions(),
            branches: dir.join("xa"),
            until_caught_up: false,
        };
        let stop = CancellationToken::new();
        let back = Arc::new(Back {
            from,
            log: log.clone(),
            readers: Mutex::default(),
            moved: Notify::new(),
            failed: watch::Sender::default(),
            stop: stop.clone(),
            _counted: Counted::new(&self.numbers.active),
        });
        self.numbers.begun.add(1);
        tracing::info!(source = %self.name, from = ?back.from, "the binlog is read again for what is older than the log");
        tokio::spawn(keep(Arc::downgrade(&back), log, go, stop.clone()));
        let (told, name, failed) = (Arc::downgrade(&back), self.name.clone(), self.numbers.failed.clone());
        tokio::spawn(async move {
            let status = StatusCell::default();
            let reading = Box::pin(source::run(&job, &mut writer, &status, &stop));
            let failure = match guard::caught(reading).await {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(refused(&error)),
                Err(fault) => Some(faulted(&fault)),
            };
            if let (Some(refused), Some(back)) = (failure, told.upgrade()) {
                failed.add(1);
                tracing::warn!(source = %name, reason = refused.message, "reading the binlog again has failed");
                back.failed.send_replace(Some(refused));
            }
            stop.cancelled().await;
            drop(writer);
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                tracing::warn!(source = %name, %error, "a log of what was read again is left in place");
            }
        });
        Ok(back)
    }
}

impl LookBack for LookBacks {
    fn open(&self, from: StartFrom) -> BoxFuture<'_, Result<Opened, Refused>> {
        async move {
            let opened = self.opened(from).await;
            if opened.is_err() {
                self.numbers.refused.add(1);
            }
            opened
        }
        .boxed()
    }
}

impl Back {
    /// Whether what is wanted is, or will be, in its log.
    fn has(&self, wanted: &StartFrom) -> bool {
        if self.failed.borrow().is_some() {
            return false;
        }
        let state = self.log.state();
        match (wanted, state.lowest, state.covered) {
            (StartFrom::Position { position, .. }, Some(lowest), Some(covered)) => {
                (lowest.position..=covered.position).contains(position)
            }
            // Nothing of it may be gone yet.
            (_, Some(lowest), _) => self.from == *wanted && self.log.is_first(&lowest),
            (_, None, _) => self.from == *wanted,
        }
    }
}

/// Keeps reading near the furthest reader, and the log small.
async fn keep(back: Weak<Back>, log: Log, go: watch::Sender<bool>, stop: CancellationToken) {
    let mut written = log.watch();
    let mut tick = tokio::time::interval(HOUSEKEEP_EVERY);
    loop {
        let moved = async {
            match back.upgrade() {
                // Held no longer than it takes to ask: the last reader must be able to end it.
                Some(back) => tokio::time::timeout(HOUSEKEEP_EVERY / 10, back.moved.notified()).await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            changed = written.changed() => if changed.is_err() { return },
            _ = moved => {}
            _ = tick.tick() => {
                let log = log.clone();
                let done = tokio::task::spawn_blocking(move || log.sync().and_then(|()| log.evict(0)));
                if let Ok(Err(error)) = done.await {
                    tracing::warn!(%error, "log of what is read again not kept in order");
                }
            }
        }
        let tail = log.state().tail.map_or(0, |tail| tail.segment);
        let furthest =
            back.upgrade().and_then(|back| lock(&back.readers).values().max().copied()).unwrap_or(0);
        let may = tail <= furthest.max(1) + AHEAD_SEGMENTS;
        go.send_if_modified(|go| std::mem::replace(go, may) != may);
    }
}

fn refused(error: &mysql::Error) -> Refused {
    match error {
        mysql::Error::Definite(definite @ Definite::Purged { .. }) => Refused {
            code: ErrorCode::BelowLowest,
            definite: true,
            message: format!("older than the relay's log, and {definite}"),
        },
        mysql::Error::Definite(definite) => {
            Refused { code: ErrorCode::BelowLowest, definite: true, message: definite.to_string() }
        }
        mysql::Error::Transient(_) | mysql::Error::Sink(_) => transient(&error.to_string()),
    }
}

fn faulted(fault: &Fault) -> Refused {
    let message = format!("a fault of the relay: {}; upgrade it", guard::words(fault));
    Refused { code: ErrorCode::Internal, definite: true, message }
}

fn transient(message: &str) -> Refused {
    Refused { code: ErrorCode::Busy, definite: false, message: message.to_owned() }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
