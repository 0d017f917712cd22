//! One source: finds out where to begin, reads for ever, stops alone.

use super::beginnings::Beginnings;
use super::epoch::{self, Asking};
use super::executed::{self, Keeping, Kept};
use super::guard::{self, Fault};
use super::lookback::LookBacks;
use crate::config::{self, RelayConfig};
use crate::event::{Executed, TransactionSink as _};
use crate::log::{Log, LogError, Options, Writer};
use crate::mysql::source::{Ended, Job};
use crate::mysql::{self, Definite, State, StatusCell};
use crate::serve::{Hub, Identity, LookBack, Served};
use crate::telemetry::Registry;
use crate::zk::Zk;
use futures_util::future::BoxFuture;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// First pause after a transient failure; doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause: a disk with room again, or a ZooKeeper that is back, is used soon.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// After a definite error: a person has to act first, and each look is a line in the log.
const LOOK_AGAIN: Duration = Duration::from_mins(1);
/// Between fsyncs, and between looks at retention.
const HOUSEKEEP_EVERY: Duration = Duration::from_secs(1);

/// A source of this relay.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) status: StatusCell,
    /// Once it is open.
    log: OnceLock<Log>,
    beginnings: Mutex<Beginnings>,
    options: Options,
    pub(super) hub: Arc<Hub>,
    look_back: Arc<LookBacks>,
    /// The relay's name.
    relay: String,
    pub(super) config: config::Source,
    pub(super) dir: PathBuf,
    pub(super) zk: Option<Zk>,
    connected_once: AtomicBool,
    /// The log is being written at this moment.
    writing: AtomicBool,
    /// What has ended the reading for as long as the relay runs.
    fault: OnceLock<String>,
    /// Ends the reading.
    pub(super) stop: CancellationToken,
    /// The epoch being read, and what ends that.
    reading: Mutex<Option<(u32, CancellationToken)>>,
}

/// Reads until it ends, or fails.
pub(super) type Session =
    for<'a> fn(&'a Source, &'a mut Writer, &'a CancellationToken) -> BoxFuture<'a, Result<Ended, Failure>>;

/// Why reading ended.
pub(super) enum Failure {
    /// Trying again may help.
    Transient(String),
    /// It will not.
    Definite(String),
}

impl From<mysql::Error> for Failure {
    fn from(error: mysql::Error) -> Self {
        match error {
            mysql::Error::Transient(reason) => Self::Transient(reason),
            mysql::Error::Definite(error) => error.into(),
            mysql::Error::Sink(error) => match error.downcast::<LogError>() {
                Ok(error) if error.is_transient() => Self::Transient(error.to_string()),
                Ok(error) => Self::Definite(error.to_string()),
                Err(error) => Self::Definite(error.to_string()),
            },
        }
    }
}

/// What keeps a source from being read.
pub(super) enum Obstacle {
    /// It was not reached yet.
    Waiting(String),
    /// It has stopped with a definite error.
    Stopped(String),
}

impl Obstacle {
    /// The reason of one that will not pass.
    pub(super) fn stopped(&self) -> Option<&str> {
        match self {
            Self::Stopped(why) => Some(why),
            Self::Waiting(_) => None,
        }
    }
}

impl From<Definite> for Failure {
    fn from(error: Definite) -> Self {
        Self::Definite(error.to_string())
    }
}

impl Source {
    pub(super) fn new(
        name: String,
        config: config::Source,
        relay: &RelayConfig,
        hub: Arc<Hub>,
        registry: &Registry,
        zk: Option<Zk>,
    ) -> Self {
        let dir = relay.data_dir.join(&name);
        let options = Options::new(dir.join("log"), relay.retention.bytes, relay.retention.age_secs);
        let look_back = Arc::new(LookBacks::new(&name, config.clone(), &dir, registry));
        let (relay, log) = (relay.id.clone(), OnceLock::new());
        let (status, connected_once) = (StatusCell::default(), AtomicBool::new(false));
        let (reading, writing) = (Mutex::default(), AtomicBool::new(false));
        Self {
            name,
            status,
            log,
            beginnings: Mutex::default(),
            options,
            hub,
            look_back,
            relay,
            config,
            dir,
            zk,
            connected_once,
            writing,
            fault: OnceLock::new(),
            stop: CancellationToken::new(),
            reading,
        }
    }

    /// The log, once it is open.
    pub(super) fn log(&self) -> Option<&Log> {
        self.log.get()
    }

    /// Opens the log and serves it; or says why it cannot be, and tells when to look again.
    pub(super) async fn open(&self) -> Result<Writer, Duration> {
        let options = self.options.clone();
        let opened = tokio::task::spawn_blocking(move || Log::open(options)).await;
        let (why, again) = match opened {
            Ok(Ok((log, writer))) => {
                let again: Arc<dyn LookBack> = Arc::<LookBacks>::clone(&self.look_back);
                self.hub.add(self.name.clone(), Served::new(log.clone()).looking_back(again));
                *self.beginnings() = Beginnings::load(&self.dir);
                // It is opened once.
                drop(self.log.set(log));
                return Ok(writer);
            }
            // A disk may have room again soon.
            Ok(Err(error)) => (error.to_string(), if error.is_transient() { MAX_PAUSE } else { LOOK_AGAIN }),
            Err(fault) => (format!("a fault of the program: {fault}"), LOOK_AGAIN),
        };
        let reason = format!(
            "its event log cannot be opened: {why}; mend that, or move {} away: it is then read again from the lowest \
             checkpoint, as far as the server has it",
            self.options.dir.display()
        );
        self.stopped(&reason, again);
        Err(again)
    }

    /// Ends the reading of a former epoch: others have agreed on this one.
    pub(super) fn agreed(&self, number: u32) {
        let reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((epoch, stop)) = reading.as_ref().filter(|(epoch, _)| *epoch < number) {
            if !stop.is_cancelled() {
                tracing::warn!(source = %self.name, epoch, agreed = number, "others have begun an epoch: joining them");
            }
            stop.cancel();
        }
    }

    /// Why the source does not count as read, if it does not.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        let status = self.status.get();
        let name = &self.name;
        let why = status.last_error.map(|reason| format!(": {reason}")).unwrap_or_default();
        match status.state {
            State::Streaming => self.connected_once.store(true, Ordering::Relaxed),
            State::Stopped => {
                return Some(Obstacle::Stopped(format!("source {name} has stopped{why}")));
            }
            State::Connecting => {}
        }
        (!self.connected_once.load(Ordering::Relaxed))
            .then(|| Obstacle::Waiting(format!("source {name} is not connected yet{why}")))
    }

    async fn session(&self, writer: &mut Writer, shutdown: &CancellationToken) -> Result<Ended, Failure> {
        let log = writer.log().clone();
        let known = self.status.get().executed.or_else(|| executed::load(&self.dir, &log));
        let ours = match &known {
            Some(known) => executed::with_log(known, &log).await,
            None => None,
        };
        let asking = Asking {
            source: &self.name,
            relay: &self.relay,
            mysql: &self.config.mysql,
            dir: &self.dir,
            zk: self.zk.as_ref(),
            executed: ours.as_ref(),
            covered: log.state().covered.map(|covered| covered.position),
        };
        if let (Some(ours), Some(covered), None) = (&ours, asking.covered, self.status.get().executed) {
            // For the other relays, before the server is reached.
            let executed = Executed { position: covered, gtids: ours.to_string() };
            self.status.update(|status| status.executed = Some(executed));
        }
        let epoch = asking.settle().await?;
        if let Some(served) = self.hub.source(&self.name) {
            served.set_identity(Identity {
                server_uuid: epoch.node.server_uuid.clone(),
                epoch: epoch.number,
                file_base: epoch.node.file_base.clone(),
                crossing: epoch.node.former_end.map(|end| (end, epoch.node.start_gtids.clone())),
            });
        }
        self.look_back.settled(epoch.number, &epoch.node.server_uuid);
        let start = match (log.resume(), log.state().covered) {
            (Some(_), Some(covered)) if covered.position.epoch < epoch.number => {
                self.cross(writer, &epoch, ours.as_ref())?
            }
            (Some(start), _) => start,
            (None, _) => self.first_start(&epoch).await?,
        };
        tracing::info!(source = %self.name, epoch = epoch.number, ?start, "reading begins");
        let job = Job {
            name: self.name.clone(),
            config: self.config.clone(),
            password: None,
            epoch: epoch.number,
            start,
            expected_server: Some(epoch.node.server_uuid),
            counts_gtids: true,
            executed: known.filter(|known| known.position.epoch == epoch.number),
            definitions: self.look_back.definitions(),
            branches: self.dir.join("xa"),
            pace: None,
            until_caught_up: false,
        };
        let noted = |known: &Executed| self.note(Some(known.clone()));
        let mut sink = Keeping { writer, dir: &self.dir, writing: &self.writing, noted: &noted };
        let stop = shutdown.child_token();
        *self.reading.lock().unwrap_or_else(PoisonError::into_inner) = Some((epoch.number, stop.clone()));
        match mysql::source::run(&job, &mut sink, &self.status, &stop).await {
            // Settling the epoch anew tells whether it has everything.
            Err(mysql::Error::Definite(error @ Definite::WrongServer { .. })) => {
                Err(Failure::Transient(error.to_string()))
            }
            ended => Ok(ended?),
        }
    }

    /// A session has ended by a panic. What it was reading is read again; a log that it was writing is looked at only
    /// when it is opened.
    fn faulted(&self, writer: &mut Writer, fault: &Fault) -> Failure {
        let words = guard::words(fault);
        if self.writing.load(Ordering::Relaxed) {
            self.end(&format!("writing its log: {words}"));
        } else if let Err(error) = writer.abort() {
            return Failure::Transient(error.to_string());
        }
        Failure::Definite(format!("a fault of the program: {words}; upgrade it"))
    }

    /// Ends the reading until the relay is started again: a fault of the program may have left something half done. What
    /// the log has is served.
    pub(super) fn end(&self, fault: &str) {
        let reason = format!("a fault of the program, {fault}: restart the relay, and upgrade it");
        tracing::error!(source = %self.name, %reason, "source stopped");
        self.failed(&reason, State::Stopped);
        // The first one says most.
        drop(self.fault.set(reason));
        self.stop.cancel();
    }

    fn beginnings(&self) -> MutexGuard<'_, Beginnings> {
        self.beginnings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has been executed so far, for those who ask for what is not in a GTID set.
    fn note(&self, executed: Option<Executed>) {
        let (Some(log), Some(served)) = (self.log(), self.hub.source(&self.name)) else { return };
        let mut beginnings = self.beginnings();
        beginnings.note(executed, log);
        served.set_read(beginnings.known());
    }

    fn stopped(&self, reason: &str, again: Duration) {
        tracing::error!(source = %self.name, %reason, look_again_in = ?again, "source stopped; correct this");
        self.failed(reason, State::Stopped);
    }

    fn failed(&self, reason: &str, state: State) {
        self.status.update(|status| {
            status.dumping = false;
            status.state = state;
            status.last_error = Some(reason.to_owned());
        });
    }
}

/// What is run between connections and pauses.
pub(super) const SESSION: Session = |source, writer, stop| Box::pin(source.session(writer, stop));

/// Reads the source until it is to stop, and says why where that is a fault of the program. Its log may have
/// to be opened later.
pub(super) async fn read(source: &Source, opened: Result<Writer, Duration>, session: Session) {
    read_on(source, opened, session, &source.stop).await;
    if let Some(reason) = source.fault.get() {
        source.failed(reason, State::Stopped);
    }
}

/// After a definite error the source counts as stopped; whether somebody has mended it is looked at now and then, from
/// the same position, so that nothing is passed over.
async fn read_on(
    source: &Source,
    mut opened: Result<Writer, Duration>,
    session: Session,
    shutdown: &CancellationToken,
) {
    let mut writer = loop {
        match opened {
            Ok(writer) => break writer,
            Err(again) => {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(again) => opened = source.open().await,
                }
            }
        }
    };
    let mut pause = FIRST_PAUSE;
    loop {
        let before = source.status.get().transactions_total;
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            ended = guard::caught(session(source, &mut writer, shutdown)) => ended,
        };
        let ended = ended.unwrap_or_else(|fault| Err(source.faulted(&mut writer, &fault)));
        if shutdown.is_cancelled() {
            return;
        }
        if source.status.get().transactions_total > before {
            pause = FIRST_PAUSE;
        }
        match ended {
            Ok(Ended::Shutdown | Ended::CaughtUp) => {}
            Err(Failure::Definite(reason)) => {
                source.stopped(&reason, LOOK_AGAIN);
                pause = LOOK_AGAIN;
            }
            Err(Failure::Transient(reason)) => {
                tracing::warn!(source = %source.name, %reason, retry_in = ?pause, "source is not read now");
                source.failed(&reason, State::Connecting);
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(MAX_PAUSE),
        }
    }
}

/// Each second: what was written goes to disk, what is too old goes away.
pub(super) async fn housekeep(source: Arc<Source>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(HOUSEKEEP_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stop = false;
    while !stop {
        tokio::select! {
            () = shutdown.cancelled() => stop = true,
            _ = tick.tick() => {}
        }
        let Some(log) = source.log().cloned() else { continue };
        let executed = source.status.get().executed;
        source.note(executed.clone());
        let executed = executed.map(|executed| Kept::of(executed, &log));
        let done = tokio::task::spawn_blocking(move || log.sync().and_then(|()| log.evict(super::now_us())));
        match done.await {
            Ok(Ok(())) => {
                let begun = source.beginnings().store(&source.dir);
                if let Err(error) = begun.and(executed.map_or(Ok(()), |kept| kept.store(&source.dir))) {
                    tracing::warn!(source = %source.name, %error, "what was read, in GTIDs, is not kept on disk now");
                }
            }
            Ok(Err(error)) => tracing::error!(source = %source.name, %error, "event log not kept in order"),
            Err(error) => tracing::error!(source = %source.name, %error, "housekeeping ended"),
        }
    }
}

impl From<epoch::EpochError> for Failure {
    fn from(error: epoch::EpochError) -> Self {
        match error {
            epoch::EpochError::Transient(reason) => Self::Transient(reason),
            epoch::EpochError::Mysql(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests;
