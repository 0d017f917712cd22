//! A snapshot: the rows of all wanted tables as they were at one place of the binlog.
//!
//! Everything committed before that place is in it, nothing behind it is. Reading goes on behind the place without a gap
//! or a row twice:
//! - MariaDB says itself at which place a consistent read begins.
//! - MySQL does not. The tables are locked against changes for the moment in which the read begins and the place is asked
//!   for: what changed them before is committed by then, and what changes them later is behind the place.
//! - Tables whose engine has no consistent read (`MyISAM`, Aria) stay locked against changes until they are read, which
//!   is first.
//!
//! A table that comes or goes meanwhile is noticed by listing them before and after; one that is changed by DDL after the
//! read began is an error of the server's.

mod columns;
mod lock;
mod stored;

use super::connection::{Connection, Password, address};
use super::filter::{ColumnFilter, TableFilter};
use super::preflight::now_us;
use super::source::Job;
use super::tables::{self, Listed};
use super::{Definite, Error, Examined, Flavor, ServerIdentity, admin, preflight};
use crate::config::{Oversize, SchemaFrom};
use crate::decode::DecodeError;
use crate::decode::stream::file_number;
use crate::event::{Op, RowChange, TxnHeader, TxnStart};
use crate::position::Position;
use crate::schema::{TableName, TableSchema};
use columns::Table;
use lock::Locked;
use std::sync::Arc;
use std::time::Duration;

/// Beginnings are tried so often where tables are in use, or come and go.
const ATTEMPTS: u32 = 10;
/// Between them: who waits behind a lock that was given up gets on.
const BETWEEN: Duration = Duration::from_secs(1);
/// Engines with reads that are consistent.
const CONSISTENT: [&str; 2] = ["InnoDB", "ROCKSDB"];
/// Bytes of a row's text beyond those of its image at most: digits, and lengths.
const TEXT_MORE: usize = 64 << 10;

/// A snapshot that has begun.
#[derive(Debug)]
pub(crate) struct Snapshot {
    connection: Connection,
    server: ServerIdentity,
    /// Where reading goes on.
    place: Position,
    start: TxnStart,
    /// Holds locks, and reads what it has locked: any other reader may have to wait behind writers that wait for it.
    locks: Option<Connection>,
    /// Tables that are locked come first.
    tables: Vec<Listed>,
    locked: usize,
}

/// How far a snapshot is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// Tables in all, and those read.
    pub(crate) tables: (usize, usize),
    /// The table being read.
    pub(crate) table: String,
    /// Rows so far.
    pub(crate) rows: u64,
}

/// Begins a snapshot of the job's tables.
pub(crate) async fn begin(job: &Job) -> Result<Snapshot, Error> {
    let password = job.password()?;
    let mut why = "";
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tracing::warn!(source = %job.name, "{why}: the snapshot is begun again");
            tokio::time::sleep(BETWEEN).await;
        }
        match attempt_once(job, &password).await? {
            Attempt::Begun(snapshot) => return Ok(*snapshot),
            Attempt::Again(reason) => why = reason,
        }
    }
    Err(Error::Transient(format!(
        "{}: no snapshot could be begun in {ATTEMPTS} attempts: {why}; try again when the tables are used less, or take fewer \
         of them with --tables",
        address(&job.config.mysql)
    )))
}

enum Attempt {
    Begun(Box<Snapshot>),
    Again(&'static str),
}

const BUSY: Attempt = Attempt::Again(
    "a table is in use by a statement or a transaction (a prepared XA branch too) that does not end",
);
const CHANGED: Attempt = Attempt::Again("tables came or went");

async fn attempt_once(job: &Job, password: &Password) -> Result<Attempt, Error> {
    let config = &job.config.mysql;
    let mut connection = Connection::open(config, password).await?;
    let (Examined { server, warnings, .. }, _) =
        preflight::examine(&mut connection, config, job.config.schema, &[config.server_id]).await?;
    for finding in warnings {
        tracing::warn!(source = %job.name, remedy = %finding.remedy, "{}", finding.problem);
    }
    prepare(&mut connection, server.flavor).await?;
    let wanted = TableFilter::new(&job.config.tables);
    let mut listed = tables::list(&mut connection, &wanted).await?;
    let before = listed.clone();
    // Stable: else in the order of their names.
    listed.sort_by_key(is_consistent);
    let locked = listed.iter().take_while(|table| !is_consistent(table)).count();
    let names: Vec<TableName> = listed.iter().map(|table| table.name.clone()).collect();
    let (inconsistent, consistent) = names.split_at(locked);
    let locks = match lock::against_changes(config, password, inconsistent).await? {
        Locked::Held(Some(mut locks)) => {
            prepare(&mut locks, server.flavor).await?;
            Some(locks)
        }
        Locked::Held(None) => None,
        Locked::Busy => return Ok(BUSY),
        Locked::Gone => return Ok(CHANGED),
    };
    let (file, offset) = match server.flavor {
        Flavor::MariaDb => {
            read_consistently(&mut connection).await?;
            maria_place(&mut connection).await?
        }
        Flavor::MySql => {
            let moment = match lock::against_changes(config, password, consistent).await? {
                Locked::Held(moment) => moment,
                Locked::Busy => return Ok(BUSY),
                Locked::Gone => return Ok(CHANGED),
            };
            read_consistently(&mut connection).await?;
            let end = admin::list_end(&mut connection).await?;
            drop(moment);
            (end.current_file, end.current_offset)
        }
    };
    // Not in the transaction, which may see the tables of its beginning.
    let mut other = Connection::open(config, password).await?;
    other.query("SET NAMES utf8mb4").await?;
    if tables::list(&mut other, &wanted).await? != before {
        return Ok(CHANGED);
    }
    let number = file_number(&file).ok_or_else(|| {
        Error::Transient(format!("{}: the server names no place in its binlog", address(config)))
    })?;
    let place = Position::new(job.epoch, number, offset);
    tracing::info!(source = %job.name, %file, offset, tables = names.len(), locked, "a snapshot begins");
    let start = TxnStart {
        // In front of all that is read later, behind all that is in the snapshot.
        position: Position { offset: offset.saturating_sub(1), ..place },
        file_name: file.into(),
        gtid: None,
        server_id: server.server_id,
        commit_time_us: now_us() + server.clock_offset_us,
    };
    let snapshot = Snapshot { connection, server, place, start, locks, tables: listed, locked };
    Ok(Attempt::Begun(Box::new(snapshot)))
}

fn is_consistent(table: &Listed) -> bool {
    CONSISTENT.iter().any(|engine| engine.eq_ignore_ascii_case(&table.engine))
}

/// A session whose answers do not depend on the server's settings.
async fn prepare(connection: &mut Connection, flavor: Flavor) -> Result<(), Error> {
    // A slow reader of our output is no reason to end the connection.
    let mut statements = vec![
        "SET NAMES utf8mb4",
        "SET SESSION sql_mode = '', time_zone = '+00:00', net_write_timeout = 86400",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
    ];
    statements.push(match flavor {
        Flavor::MySql => "SET SESSION max_execution_time = 0",
        Flavor::MariaDb => "SET SESSION max_statement_time = 0",
    });
    for statement in statements {
        connection.query(statement).await?;
    }
    tables::show_made_keys(connection).await
}

async fn read_consistently(connection: &mut Connection) -> Result<(), Error> {
    connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY").await.map(drop)
}

/// The place at which the consistent read of the open transaction began.
async fn maria_place(connection: &mut Connection) -> Result<(String, u64), Error> {
    let rows = connection.query("SHOW STATUS LIKE 'binlog_snapshot_%'").await?;
    let value = |name: &str| {
        let mut rows = rows.iter();
        let row = rows.find(|row| matches!(row.first(), Some(Some(n)) if n.eq_ignore_ascii_case(name)))?;
        row.get(1).cloned().flatten()
    };
    let offset = value("Binlog_snapshot_position").and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok((value("Binlog_snapshot_file").unwrap_or_default(), offset))
}

impl Snapshot {
    /// Who answers.
    pub(crate) fn server(&self) -> &ServerIdentity {
        &self.server
    }

    /// Where reading goes on.
    pub(crate) fn place(&self) -> Position {
        self.place
    }

    /// The name of the binlog file of that place.
    pub(crate) fn file_name(&self) -> &Arc<str> {
        &self.start.file_name
    }

    /// Reads all rows, and hands each on: its header, whose rows are [`TxnHeader::UNKNOWN_ROWS`] but at the last one, its number,
    /// and the row. Returns how many there were.
    pub(crate) async fn rows<E>(
        mut self,
        job: &Job,
        mut progress: impl FnMut(&Progress),
        mut each: impl FnMut(&TxnHeader, u64, &RowChange<'_>) -> Result<(), E>,
    ) -> Result<u64, Error>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let excluded = ColumnFilter::new(&job.config.exclude_columns);
        let names_types = job.config.schema == SchemaFrom::BestEffort;
        let listed = std::mem::take(&mut self.tables);
        let mut now = Progress { tables: (listed.len(), 0), ..Progress::default() };
        let mut held = Held {
            header: TxnHeader {
                end_offset: self.place.offset,
                start: self.start.clone(),
                rows: TxnHeader::UNKNOWN_ROWS,
            },
            row: None,
            image: Vec::new(),
            number: 0,
        };
        for (index, Listed { name, .. }) in listed.iter().enumerate() {
            if index == self.locked {
                // The rest are read as they were when the snapshot began, whatever becomes of them.
                self.locks = None;
            }
            now.tables.1 = index;
            now.table = name.to_string();
            progress(&now);
            let declared = tables::declared(&mut self.connection, name).await?;
            let declared = declared.ok_or_else(|| changed(name, "it is not there any more"))?;
            let of_table = Table::new(name, &declared, &excluded, self.server.flavor, names_types);
            let mut table = of_table.map_err(|error| self.located(error))?;
            let connection = self.locks.as_mut().unwrap_or(&mut self.connection);
            // From here on text is as it is stored.
            connection.query("SET SESSION character_set_results = NULL").await?;
            let began = connection.begin_rows(&table.select).await?;
            began.map_err(|error| changed(name, &error.to_string()))?;
            self.table_rows(job, name, &mut table, &mut held, &mut each, &mut |rows| {
                now.rows = rows;
                progress(&now);
            })
            .await?;
            // Names of the next table are text again.
            self.connection.query("SET NAMES utf8mb4").await?;
        }
        let rows = held.last(&mut each).map_err(|error| Error::Sink(Box::new(error)))?;
        now.tables.1 = listed.len();
        now.rows = rows;
        progress(&now);
        Ok(rows)
    }

    async fn table_rows<E>(
        &mut self,
        job: &Job,
        name: &TableName,
        table: &mut Table,
        held: &mut Held,
        each: &mut impl FnMut(&TxnHeader, u64, &RowChange<'_>) -> Result<(), E>,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), Error>
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        /// Rows between two words of progress.
        const TOLD_EVERY: u64 = 1 << 12;
        let limit = job.config.max_row_bytes;
        let bytes_held = usize::try_from(limit).unwrap_or(usize::MAX).saturating_add(TEXT_MORE);
        let (mut row, mut image) = (Vec::new(), Vec::new());
        let mut left_out = 0u64;
        loop {
            let connection = self.locks.as_mut().unwrap_or(&mut self.connection);
            let next = connection.row(bytes_held, &mut row).await?;
            let next = next.map_err(|error| changed(name, &error.to_string()))?;
            let Some(bytes) = next else { break };
            let over = table.image(&row, bytes, limit, &mut image).map_err(|error| self.located(error))?;
            if over {
                if job.config.oversize == Oversize::Stop {
                    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
                    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                    let table = name.to_string();
                    return Err(self.located(DecodeError::RowTooLarge { table, bytes, limit }));
                }
                left_out += 1;
            }
            held.next(&table.schema, &mut image, each).map_err(|error| Error::Sink(Box::new(error)))?;
            if held.number.is_multiple_of(TOLD_EVERY) {
                progress(held.number);
                // A printer of rows gives nobody else a turn.
                tokio::task::yield_now().await;
            }
        }
        if left_out > 0 {
            tracing::warn!(
                source = %job.name, rows = left_out, table = %name, limit,
                "rows over max_row_bytes: their keys alone are passed on"
            );
        }
        Ok(())
    }

    fn located(&self, error: DecodeError) -> Error {
        Definite::Decode { file: self.start.file_name.to_string(), offset: self.place.offset, error }.into()
    }
}

fn changed(table: &TableName, reason: &str) -> Error {
    Error::Transient(format!("{table} cannot be read for the snapshot: {reason}; take the snapshot again"))
}

/// The row before the one at hand: whether it is the last is known only then.
struct Held {
    header: TxnHeader,
    row: Option<Arc<TableSchema>>,
    image: Vec<u8>,
    number: u64,
}

impl Held {
    fn next<E>(
        &mut self,
        schema: &Arc<TableSchema>,
        image: &mut Vec<u8>,
        each: &mut impl FnMut(&TxnHeader, u64, &RowChange<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.hand_on(each)?;
        self.row = Some(Arc::clone(schema));
        std::mem::swap(&mut self.image, image);
        Ok(())
    }

    /// Hands on the last row; how many there were.
    fn last<E>(
        mut self,
        each: &mut impl FnMut(&TxnHeader, u64, &RowChange<'_>) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.header.rows = self.number + 1;
        self.hand_on(each)?;
        Ok(self.number)
    }

    fn hand_on<E>(
        &mut self,
        each: &mut impl FnMut(&TxnHeader, u64, &RowChange<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(schema) = self.row.take() else { return Ok(()) };
        let change = RowChange {
            op: Op::Read,
            schema: &schema,
            key_hash_before: 0,
            key_hash: 0,
            before: &[],
            after: &self.image,
        };
        each(&self.header, self.number, &change)?;
        self.number += 1;
        Ok(())
    }
}
