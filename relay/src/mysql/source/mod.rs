//! The loop that reads one source for ever.

mod branch;
mod input;
mod learn;
mod pass;
mod plan;
mod verify;

use super::connection::{Connection, Packets, Password, address};
use super::definitions::{Reading, Remembered};
use super::preflight::now_us;
use super::{
    Definite, Error, Examined, Finding, Flavor, ServerIdentity, Start, State, StatusCell, admin, cascades,
    preflight,
};
use crate::config;
use crate::decode::filter::TableFilter;
use crate::decode::stream::{Assembler, Counts, Progress, StreamError, file_number};
use crate::event::{Executed, TransactionSink};
use crate::gtid::GtidSet;
use crate::position::Position;
use crate::schema::TableName;
use branch::Missing;
use futures_util::FutureExt as _;
use input::Input;
use learn::{Learn, Lesson};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Heartbeats while a server has nothing to say: what idle progress and the dead-link test rest on.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A link that is silent for so long is dead: many heartbeats.
const SILENCE: Duration = Duration::from_secs(15);
/// The same before the first heartbeat: longer than a server needs to seek by GTID.
const FIRST_SILENCE: Duration = Duration::from_mins(1);
/// Between `covered` marks.
const COVERED_EVERY: Duration = Duration::from_secs(1);
/// First pause before connecting again; each one doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause: a database that is back is read again soon.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What to read, and from where.
#[derive(Clone, Debug)]
pub struct Job {
    /// The source's name, for logs.
    pub name: String,
    /// Connection and filters.
    pub config: config::Source,
    /// The password; none reads it from the configuration's `password_file` at each connection.
    pub password: Option<Password>,
    /// The epoch that positions get.
    pub epoch: u32,
    /// Where to begin.
    pub start: Start,
    /// `server_uuid` that must answer ([`super::ServerIdentity::server_uuid`]); none takes whoever does.
    pub expected_server: Option<String>,
    /// Counts what is read in GTIDs.
    pub counts_gtids: bool,
    /// What was read before, in GTIDs; if it is not known, or older than the start, it is found out by reading the
    /// start's file from its beginning.
    pub executed: Option<Executed>,
    /// Whether reading may go on, asked between transactions: whoever takes them may be slow. None always may.
    pub pace: Option<watch::Receiver<bool>>,
    /// What tables were, where the binlog does not say; none: it must say.
    pub definitions: Option<Remembered>,
    /// Where prepared XA branches wait for their end; made when it is needed.
    pub branches: std::path::PathBuf,
    /// End when everything committed by the time of connecting is handed on.
    pub until_caught_up: bool,
}

impl Job {
    /// The password to connect with now.
    pub(super) fn password(&self) -> Result<Password, Definite> {
        match &self.password {
            Some(password) => Ok(password.clone()),
            None => Password::load(&self.config.mysql),
        }
    }
}

/// Why [`run`] came back without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    Shutdown,
    /// Everything committed when it connected is handed on.
    CaughtUp,
}

/// Reads the source and hands its transactions to `sink`, reconnecting with back-off after transient errors,
/// until a definite error, a sink's error or `shutdown`.
///
/// After a lost connection it goes on behind the last transaction that the sink committed, and checks that the
/// binlog still holds that very transaction there.
pub async fn run<S: TransactionSink>(
    job: &Job,
    sink: &mut S,
    status: &StatusCell,
    shutdown: &CancellationToken,
) -> Result<Ended, Error> {
    let mut reader = Reader {
        job,
        status,
        start: job.start.clone(),
        replica_uuid: uuid::Uuid::new_v4().to_string(),
        assembler: None,
        backoff: BACKOFF_MIN,
        reported: Counts::default(),
        warned: Vec::new(),
        unlogged: None,
        replaced: AtomicBool::new(false),
        pace: job.pace.clone(),
        expected_server: job.expected_server.clone(),
        executed: job.executed.as_ref().and_then(|known| Some((known.position, known.gtids.parse().ok()?))),
        learn: None,
        learned: None,
        missing: None,
        reading: None,
        tables: TableFilter::new(&job.config.tables),
        full_metadata: false,
        verified: false,
    };
    let result = reader.run(sink, shutdown).await;
    status.update(|s| {
        s.state = State::Stopped;
        if let Err(error) = &result {
            s.last_error = Some(error.to_string());
        }
    });
    result
}

struct Reader<'a> {
    job: &'a Job,
    status: &'a StatusCell,
    start: Start,
    /// A server ends an older dump of the same replica; so each run is a replica of its own.
    replica_uuid: String,
    assembler: Option<Assembler>,
    backoff: Duration,
    reported: Counts,
    /// The server ended the connection for another replica with the same number.
    replaced: AtomicBool,
    /// By the last preflight.
    warned: Vec<Finding>,
    /// Rows that change without a word in the binlog; looked for once, for it may cost the server something.
    unlogged: Option<Vec<Finding>>,
    pace: Option<watch::Receiver<bool>>,
    expected_server: Option<String>,
    /// All GTIDs before a point that is at or before the start.
    executed: Option<(Position, GtidSet)>,
    /// What to find out before reading goes on.
    learn: Option<Learn>,
    /// What was found out last, because a row needed it.
    learned: Option<(TableName, Position)>,
    /// A branch to find before reading goes on.
    missing: Option<Missing>,
    /// What this session tells of definitions.
    reading: Option<Reading>,
    tables: TableFilter,
    /// Rows are logged with the names of their columns now.
    full_metadata: bool,
    /// What was known at the start is this server's history; later sessions go on from what they have read themselves.
    verified: bool,
}

impl Reader<'_> {
    async fn run<S: TransactionSink>(
        &mut self,
        sink: &mut S,
        shutdown: &CancellationToken,
    ) -> Result<Ended, Error> {
        loop {
            self.status.update(|s| s.state = State::Connecting);
            let outcome = tokio::select! {
                biased;
                () = shutdown.cancelled() => Ok(Ended::Shutdown),
                outcome = self.session(sink) => outcome,
            };
            let left = self.leave(sink);
            // Not before it is known how far it was read.
            self.status.update(|s| s.dumping = false);
            left?;
            if (self.learn.is_some() || self.missing.is_some()) && outcome.is_ok() && !shutdown.is_cancelled()
            {
                continue;
            }
            let reason = match outcome {
                Err(Error::Transient(reason)) => reason,
                ended => return ended,
            };
            if self.replaced.swap(false, Ordering::Relaxed) {
                // Each connection ends the other's: the fewer, the more of them both can read.
                self.backoff = BACKOFF_MAX;
            }
            tracing::warn!(source = %self.job.name, %reason, retry_in = ?self.backoff, "source is not readable now");
            self.status.update(|s| {
                s.state = State::Connecting;
                s.caught_up = false;
                s.disconnects_total += 1;
                s.last_error = Some(reason);
            });
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Ended::Shutdown),
                () = tokio::time::sleep(self.backoff) => {}
            }
            self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Ends a session: an unfinished transaction is forgotten, and the next session goes on behind the last whole
    /// one.
    fn leave<S: TransactionSink>(&mut self, sink: &mut S) -> Result<(), Error> {
        let Some(mut assembler) = self.assembler.take() else { return Ok(()) };
        assembler.disconnected(sink).map_err(|e| Error::Sink(Box::new(e)))?;
        sink.flush().map_err(|e| Error::Sink(Box::new(e)))?;
        self.report(&assembler);
        self.reported = Counts::default();
        if let Some(last) = assembler.last().filter(|_| assembler.awaited().is_none()) {
            self.start = Start::After(last);
        }
        if let Some(executed) = assembler.executed().filter(|_| assembler.boundary().0.file > 0) {
            self.executed = Some((assembler.boundary().0, executed.clone()));
        }
        self.report_executed(&assembler);
        Ok(())
    }

    fn report_executed(&self, assembler: &Assembler) {
        let position = assembler.boundary().0;
        if let Some(executed) = assembler.executed().filter(|_| position.file > 0) {
            let executed = Executed { position, gtids: executed.to_string() };
            self.status.update(|s| s.executed = Some(executed));
        }
    }

    /// Tells the sink what lies before the transactions to come, so that it is known even if they are the last to be
    /// read.
    fn announce_executed<S: TransactionSink>(
        &self,
        assembler: &Assembler,
        sink: &mut S,
    ) -> Result<(), Error> {
        let Some(gtids) = assembler.executed() else { return Ok(()) };
        // A start by GTIDs has no place, but lies before all that is read in this epoch.
        let at = self.executed.as_ref().map_or(Position::new(self.job.epoch, 0, 0), |(at, _)| *at);
        let known = Executed { position: at, gtids: gtids.to_string() };
        sink.executed(&known).map_err(|e| Error::Sink(Box::new(e)))?;
        self.status.update(|s| s.executed = Some(known));
        Ok(())
    }

    async fn session<S: TransactionSink>(&mut self, sink: &mut S) -> Result<Ended, Error> {
        let config = &self.job.config.mysql;
        let password = self.job.password()?;
        let mut connection = Connection::open(config, &password).await?;
        let schema = self.job.config.schema;
        let (Examined { server, warnings, full_metadata }, logs) =
            preflight::examine(&mut connection, config, schema, &[config.server_id]).await?;
        self.warn(warnings, &mut connection, &server).await?;
        self.check_server(&server)?;
        self.check_history(&mut connection, &server, &logs).await?;
        let since = match self.find_file(&password, &logs).await? {
            None => self.find_large_file(&mut connection, &password, &server, &logs).await?,
            found => found,
        };
        self.find_executed(&mut connection, &server, &logs, since.as_deref()).await?;
        let dump = self.plan(&server, &logs, since.as_deref())?;
        self.full_metadata = full_metadata;
        let mut lesson = Lesson {
            connection: &mut connection,
            password: &password,
            server: &server,
            logs: &logs,
            full_metadata,
        };
        let dump = self.learn(&mut lesson, dump).await?;
        if !self.fetch_branch(&mut lesson).await? {
            return Ok(Ended::Shutdown);
        }
        self.announce_executed(&dump.assembler, sink)?;
        self.prepare(&mut connection, &server, dump.begins.is_some()).await?;
        self.status.update(|s| s.dumping = true);
        connection.command(&dump.command).await?;
        tracing::info!(
            source = %self.job.name, server = %server.server_uuid, version = %server.version, from = %dump.wanted,
            "reading the binlog"
        );
        self.status.update(|s| s.server = Some(server));
        let end =
            Position::new(self.job.epoch, file_number(&logs.current_file).unwrap_or(0), logs.current_offset);
        self.assembler = Some(dump.assembler);
        self.stream(&mut connection, &dump.wanted, end, sink).await
    }

    /// Says what a preflight warns of, once.
    async fn warn(
        &mut self,
        mut warnings: Vec<Finding>,
        connection: &mut Connection,
        server: &ServerIdentity,
    ) -> Result<(), Error> {
        if self.unlogged.is_none() {
            let found = cascades::unlogged(connection, server.flavor, &self.tables).await?;
            self.unlogged = Some(found.into_iter().collect());
        }
        warnings.extend(self.unlogged.iter().flatten().cloned());
        for Finding { problem, remedy } in warnings.iter().filter(|finding| !self.warned.contains(finding)) {
            tracing::warn!(source = %self.job.name, %remedy, "{problem}");
        }
        self.warned = warnings;
        Ok(())
    }

    fn check_server(&mut self, server: &ServerIdentity) -> Result<(), Definite> {
        match &self.expected_server {
            Some(expected) if *expected != server.server_uuid => Err(Definite::WrongServer {
                address: address(&self.job.config.mysql),
                expected: expected.clone(),
                found: server.server_uuid.clone(),
            }),
            Some(_) => Ok(()),
            None => {
                // From now on positions mean this server.
                self.expected_server = Some(server.server_uuid.clone());
                Ok(())
            }
        }
    }

    /// Settings of the session that the dump reads. `has_place`: it begins at a place and not by GTIDs.
    async fn prepare(
        &self,
        connection: &mut Connection,
        server: &ServerIdentity,
        has_place: bool,
    ) -> Result<(), Error> {
        let period = HEARTBEAT.as_nanos();
        let mut statements = vec![
            "SET NAMES utf8mb4".to_owned(),
            "SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'".to_owned(),
            format!("SET @master_heartbeat_period = {period}, @source_heartbeat_period = {period}"),
            format!("SET @slave_uuid = '{0}', @replica_uuid = '{0}'", self.replica_uuid),
        ];
        if server.flavor == Flavor::MariaDb {
            // 4: this reader knows GTID events.
            statements.push("SET @mariadb_slave_capability = 4".to_owned());
            if let (Start::Gtid(set), false) = (&self.start, has_place) {
                let set: String =
                    set.chars().filter(|c| c.is_ascii_digit() || matches!(c, '-' | ',')).collect();
                statements.extend(admin::dump_from(&set));
            }
        }
        for statement in statements {
            connection.query(&statement).await?;
        }
        Ok(())
    }

    async fn stream<S: TransactionSink>(
        &mut self,
        connection: &mut Connection,
        wanted: &str,
        end: Position,
        sink: &mut S,
    ) -> Result<Ended, Error> {
        let sink_error = |e: S::Error| Error::Sink(Box::new(e));
        let mut covered_at: Option<Instant> = None;
        let mut bytes_read = 0u64;
        let mut packets = Packets::default();
        let mut silence = FIRST_SILENCE;
        loop {
            let piece;
            let input = if let Some(packet) = packets.next() {
                Input::Event(self.event_bytes(connection, packet, wanted)?)
            } else {
                // Given back, so that its room is used again.
                drop(std::mem::take(&mut packets));
                piece = if let Some(piece) = connection.piece().now_or_never() {
                    piece?
                } else {
                    sink.flush().map_err(sink_error)?;
                    self.progress(&mut bytes_read);
                    let waited = tokio::time::timeout(silence, connection.piece()).await;
                    let silent = |_| format!("the server has been silent for {} s", silence.as_secs());
                    waited.map_err(|elapsed| Error::Transient(silent(elapsed)))??
                };
                packets = connection.packets();
                self.input(connection, &piece, wanted)?
            };
            bytes_read += input.len();
            let Some(assembler) = &mut self.assembler else {
                return Err(Error::Transient("the session has ended".to_owned()));
            };
            let progress = match input.feed(assembler, sink) {
                Ok(Some(progress)) => progress,
                Ok(None) => continue,
                Err(error) => return self.failed(error),
            };
            self.backoff = BACKOFF_MIN;
            if assembler.in_transaction() {
                continue;
            }
            if let Some(reading) = self.reading.as_ref().filter(|_| !self.full_metadata)
                && let Some(learn) = Learn::after(&self.tables, reading.take_touched())
            {
                self.learn = Some(learn);
                return Ok(Ended::Shutdown);
            }
            if let Some(pace) = self.pace.as_mut().filter(|pace| !*pace.borrow()) {
                sink.flush().map_err(sink_error)?;
                // Whoever paces has gone: so will this run.
                if pace.wait_for(|go| *go).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            if progress == Progress::Heartbeat {
                silence = SILENCE;
                let mut offset = 0;
                self.status.update(|s| {
                    s.caught_up = true;
                    offset = s.server.as_ref().map_or(0, |server| server.clock_offset_us);
                });
                // Nothing that was committed by now is left, so the next transaction is one that is wanted.
                if assembler.awaited().is_some_and(|time| now_us() + offset > time) {
                    assembler.stop_awaiting();
                }
            }
            let (boundary, commit_time_us) = assembler.boundary();
            let file = assembler.file();
            let reached = Position::new(boundary.epoch, boundary.file, assembler.offset());
            let due = covered_at.is_none_or(|at| at.elapsed() >= COVERED_EVERY);
            if due && let Some(reading) = &self.reading {
                let kept = reading.keep(boundary);
                kept.map_err(|error| Error::Transient(format!("what is known of tables: {error}")))?;
            }
            if assembler.has_arrived() && (due || progress == Progress::Heartbeat) {
                covered_at = Some(Instant::now());
                sink.covered(boundary, file, commit_time_us).map_err(sink_error)?;
            }
            let arrived = assembler.has_arrived();
            if self.job.until_caught_up && (arrived || assembler.awaited().is_some()) && reached >= end {
                if arrived {
                    sink.covered(boundary, file, commit_time_us).map_err(sink_error)?;
                }
                sink.flush().map_err(sink_error)?;
                return Ok(Ended::CaughtUp);
            }
            if due && let Some(assembler) = &self.assembler {
                self.report_executed(assembler);
            }
        }
    }

    /// Brings the status up to date; called when input has run dry.
    fn progress(&mut self, bytes_read: &mut u64) {
        let read = std::mem::take(bytes_read);
        if let Some(assembler) = self.assembler.take() {
            self.report(&assembler);
            self.reported = assembler.counts();
            self.status.update(|s| {
                s.bytes_read_total += read;
                if read > 0 {
                    s.last_event_at_us = now_us();
                    s.state = State::Streaming;
                    s.last_error = None;
                }
            });
            self.assembler = Some(assembler);
        }
    }

    fn report(&self, assembler: &Assembler) {
        let counts = assembler.counts();
        if counts.oversize > self.reported.oversize {
            let rows = counts.oversize - self.reported.oversize;
            let table = assembler.oversize_table().unwrap_or_default();
            let limit = self.job.config.max_row_bytes;
            tracing::warn!(source = %self.job.name, rows, table, limit, "rows over max_row_bytes: their keys alone are passed on");
        }
        let (boundary, commit_time_us) = assembler.boundary();
        self.status.update(|s| {
            s.transactions_total += counts.transactions.saturating_sub(self.reported.transactions);
            s.rows_total += counts.rows.saturating_sub(self.reported.rows);
            s.oversize_rows_total += counts.oversize.saturating_sub(self.reported.oversize);
            s.hidden_changes_total += counts.hidden.saturating_sub(self.reported.hidden);
            s.inserts_total += counts.inserts.saturating_sub(self.reported.inserts);
            s.updates_total += counts.updates.saturating_sub(self.reported.updates);
            s.deletes_total += counts.deletes.saturating_sub(self.reported.deletes);
            s.statements_total += counts.statements.saturating_sub(self.reported.statements);
            if counts.transactions > self.reported.transactions {
                s.caught_up = false;
            }
            if let Some(last) = assembler.last_handed_on() {
                s.position = Some(last);
            }
            if !assembler.file().is_empty() {
                s.file_name = assembler.file().clone();
                s.end_offset = if assembler.in_transaction() { boundary.offset } else { assembler.offset() };
            }
            if commit_time_us > 0 {
                s.last_commit_time_us = commit_time_us;
            }
        });
    }
}

/// Adds the place to an error.
fn located<E: std::error::Error + Send + Sync + 'static>(
    error: StreamError<E>,
    assembler: &Assembler,
) -> Error {
    let (file, offset) = (assembler.file().to_string(), assembler.event_start());
    match error {
        StreamError::Decode(error) => Definite::Decode { file, offset, error }.into(),
        StreamError::Diverged { expected, found } => {
            Definite::Diverged { file, offset, expected, found }.into()
        }
        StreamError::Unknown { table, .. } => Definite::Unknown {
            table: table.to_string(),
            place: format!("{file}:{offset}"),
            why: "its columns are not known".to_owned(),
        }
        .into(),
        StreamError::Prepared { .. } => Error::Transient(format!("{file} at {offset}: {error}")),
        StreamError::Definitions(error) => {
            Error::Transient(format!("{file} at {offset}: what is known of tables: {error}"))
        }
        StreamError::Branches(error) => {
            Error::Transient(format!("{file} at {offset}: a prepared XA branch: {error}"))
        }
        StreamError::Sink(error) => Error::Sink(Box::new(error)),
    }
}
