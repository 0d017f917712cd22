//! Best effort: what tables are, asked from `information_schema`, and tied to the binlog.
//!
//! A table is looked at while a lock of its own keeps every definition of it away, so that it is known at which position
//! it was so. Whether it was so at another position too is told by the statements between, all of which are read.

use super::branch::Missing;
use super::plan::{Dump, FILE_START};
use super::{Ended, Reader, located};
use crate::decode::filter::{ColumnFilter, TableFilter};
use crate::decode::stream::{Assembler, StreamError, file_number};
use crate::mysql::admin::{self, BinaryLogs};
use crate::mysql::connection::{Connection, Password, address};
use crate::mysql::definitions::Remembered;
use crate::mysql::{Definite, Error, Finding, ServerIdentity, preflight, tables};
use crate::position::Position;
use crate::schema::{Declared, TableName, Touch};

/// A table may be locked by a statement that takes long: then it is tried again.
const LOCK_SECS: u32 = 10;

/// What a session needs to know of tables.
pub(super) enum Learn {
    /// A row of this table, in the transaction that starts there, cannot be read otherwise.
    Table(TableName, Position),
    /// These were changed just now.
    Tables(Vec<TableName>),
    /// All may have been.
    Everything,
}

impl Learn {
    /// What to look at after these statements.
    pub(super) fn after(wanted: &TableFilter, touched: Vec<Touch>) -> Option<Self> {
        let mut names = Vec::new();
        for touch in touched {
            match touch.names() {
                Some(tables) => {
                    names.extend(tables.into_iter().filter(|t| wanted.table(&t.database, &t.table)));
                }
                None => return Some(Self::Everything),
            }
        }
        (!names.is_empty()).then_some(Self::Tables(names))
    }
}

/// What [`Reader::learn`] works with.
pub(super) struct Lesson<'a> {
    pub(super) connection: &'a mut Connection,
    pub(super) password: &'a Password,
    pub(super) server: &'a ServerIdentity,
    pub(super) logs: &'a BinaryLogs,
    pub(super) full_metadata: bool,
}

impl Reader<'_> {
    /// Learns what is asked for, or at the very first everything, and lets the dump remember.
    pub(super) async fn learn(&mut self, lesson: &mut Lesson<'_>, dump: Dump) -> Result<Dump, Error> {
        let Some(remembered) = self.job.definitions.clone() else { return Ok(dump) };
        remembered.with(|history| history.for_server(&lesson.server.server_uuid));
        let asked = self.learn.take();
        if let Some(begins) = dump.begins {
            self.align(lesson, &remembered, begins).await?;
        }
        let is_first = remembered.with(|history| history.is_empty()) && !lesson.full_metadata;
        match &asked {
            Some(Learn::Table(table, position)) => {
                self.align(lesson, &remembered, *position).await?;
                let file = file_number(&lesson.logs.current_file).unwrap_or(0);
                let end = Position::new(self.job.epoch, file, lesson.logs.current_offset);
                self.align(lesson, &remembered, end).await?;
                let name = remembered.with(|history| history.called_later(table, *position));
                self.look(lesson, &remembered, &[name]).await?;
                check_known(&remembered, table, *position, lesson.logs)?;
                self.learned = Some((table.clone(), *position));
            }
            Some(Learn::Tables(tables)) => self.look(lesson, &remembered, tables).await?,
            Some(Learn::Everything) => {
                let tables = self.wanted(lesson.connection).await?;
                self.look(lesson, &remembered, &tables).await?;
            }
            None if is_first => {
                let tables = self.wanted(lesson.connection).await?;
                self.look(lesson, &remembered, &tables).await?;
            }
            None => {}
        }
        if let Some(first) = lesson.logs.files.first().and_then(|file| file_number(&file.name)) {
            let oldest = Position::new(self.job.epoch, first, FILE_START);
            if remembered.with(|history| history.covered().is_some_and(|(low, _)| low < oldest)) {
                remembered
                    .change(|history| history.forget_before(oldest))
                    .map_err(|error| not_kept(&error))?;
            }
        }
        let reading = remembered.reading(dump.begins);
        self.reading = Some(reading.clone());
        Ok(Dump { assembler: dump.assembler.remembering(Box::new(reading)), ..dump })
    }

    /// An event could not be handled: a session that knows more may.
    pub(super) fn failed<E: std::error::Error + Send + Sync + 'static>(
        &mut self,
        error: StreamError<E>,
    ) -> Result<Ended, Error> {
        if let StreamError::Unknown { table, position } = &error
            && self.needs(table, *position)
        {
            return Ok(Ended::Shutdown);
        }
        if let StreamError::Prepared { branch, before } = error {
            self.missing = Some(Missing { branch, before });
            return Ok(Ended::Shutdown);
        }
        match &self.assembler {
            Some(assembler) => Err(located(error, assembler)),
            None => Err(Error::Transient("the session has ended".to_owned())),
        }
    }

    /// Asks for what a row needs; false when that was of no use before.
    pub(super) fn needs(&mut self, table: &TableName, position: Position) -> bool {
        let need = (table.clone(), position);
        if self.job.definitions.is_none() || self.learned.as_ref() == Some(&need) {
            return false;
        }
        self.learn = Some(Learn::Table(need.0, position));
        true
    }

    /// Sees to it that what is known reaches to where reading begins.
    pub(super) async fn align(
        &self,
        lesson: &mut Lesson<'_>,
        remembered: &Remembered,
        begins: Position,
    ) -> Result<(), Error> {
        let covered = remembered.with(|history| history.covered());
        let between = match covered {
            Some((low, high)) if low.epoch == begins.epoch => {
                if begins > high {
                    Some((high, begins))
                } else if begins < low {
                    Some((begins, low))
                } else {
                    return Ok(());
                }
            }
            _ => None,
        };
        if let Some((from, to)) = between {
            match self.scan(lesson, remembered, from, to).await {
                Ok(()) => return Ok(()),
                // What was known before ends there.
                Err(Error::Definite(
                    Definite::Purged { .. } | Definite::Lost { .. } | Definite::Unsent { .. },
                )) => {}
                Err(other) => return Err(other),
            }
        }
        remembered.change(|history| history.restart(begins, begins)).map_err(|error| not_kept(&error))
    }

    async fn wanted(&self, connection: &mut Connection) -> Result<Vec<TableName>, Error> {
        let listed = tables::list(connection, &self.tables).await?;
        Ok(listed.into_iter().map(|table| table.name).collect())
    }

    /// Looks at tables, reads the statements up to there, and remembers.
    async fn look(
        &self,
        lesson: &mut Lesson<'_>,
        remembered: &Remembered,
        tables: &[TableName],
    ) -> Result<(), Error> {
        let connection = &mut *lesson.connection;
        connection.query("SET NAMES utf8mb4").await?;
        connection.query(&format!("SET SESSION lock_wait_timeout = {LOCK_SECS}")).await?;
        connection.query("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED").await?;
        tables::show_made_keys(connection).await?;
        let mut seen = Vec::new();
        for table in tables {
            if let Some((at, declared)) = self.look_at(connection, table).await? {
                seen.push((table.clone(), at, declared));
            }
        }
        if let Some(latest) = seen.iter().map(|(_, at, _)| *at).max() {
            match remembered.with(|history| history.covered()) {
                Some((_, high)) if high.epoch == latest.epoch && latest > high => {
                    self.scan(lesson, remembered, high, latest).await?;
                }
                Some((_, high)) if high.epoch == latest.epoch => {}
                _ => remembered.with(|history| history.restart(latest, latest)),
            }
        }
        let unlogged = remembered
            .change(|history| {
                seen.retain(|(table, at, declared)| !history.saw(table.clone(), *at, declared.clone()));
                seen
            })
            .map_err(|error| not_kept(&error))?;
        for (table, _, _) in unlogged {
            tracing::warn!(
                source = %self.job.name, %table,
                "the table was changed by a statement that is not in the binlog: rows between may have got former names"
            );
        }
        Ok(())
    }

    /// One table, and the position at which it is so; none when it is not there.
    async fn look_at(
        &self,
        connection: &mut Connection,
        table: &TableName,
    ) -> Result<Option<(Position, Declared)>, Error> {
        /// No such database, table; not a table.
        const ABSENT: [u16; 4] = [1049, 1146, 1347, 1356];
        connection.query("START TRANSACTION").await?;
        // Held until the end of the transaction, it keeps definitions of the table away, also one that is under way.
        let locked =
            connection.try_query(&format!("SELECT 1 FROM {} LIMIT 0", tables::quoted_table(table))).await?;
        let found = match locked {
            Ok(_) => {
                let logs = admin::list_end(connection).await?;
                let file = file_number(&logs.current_file).unwrap_or(0);
                let at = Position::new(self.job.epoch, file, logs.current_offset);
                tables::declared(connection, table).await?.map(|declared| (at, declared))
            }
            Err(error) if ABSENT.contains(&error.code) => None,
            Err(error) if tables::DENIED.contains(&error.code) => {
                let config = &self.job.config.mysql;
                let finding = Finding {
                    problem: format!(
                        "user {} may not see {table}, whose columns the binlog does not name",
                        config.user
                    ),
                    remedy: preflight::grant(
                        "SELECT",
                        &format!("{}.*", tables::quoted(&table.database)),
                        &preflight::account(connection, config).await?,
                    ),
                };
                return Err(Definite::Preflight { address: address(config), findings: vec![finding] }.into());
            }
            Err(error) => return Err(Error::Transient(format!("{table} cannot be looked at: {error}"))),
        };
        connection.query("COMMIT").await?;
        Ok(found)
    }

    /// Reads the statements of a part of the binlog.
    async fn scan(
        &self,
        lesson: &mut Lesson<'_>,
        remembered: &Remembered,
        from: Position,
        to: Position,
    ) -> Result<(), Error> {
        let wanted = format!("file number {}", from.file);
        let file = lesson.logs.files.iter().find(|file| file_number(&file.name) == Some(from.file));
        let Some(file) = file else {
            let address = address(&self.job.config.mysql);
            return Err(
                Definite::Purged { address, wanted, reason: "the file is not listed".to_owned() }.into()
            );
        };
        tracing::info!(source = %self.job.name, %from, %to, "reading the binlog for definitions of tables");
        let at = u32::try_from(from.offset.max(FILE_START)).unwrap_or(4);
        let begins = Position { offset: u64::from(at), ..from };
        let reading = remembered.reading(Some(begins));
        let everything = Position::new(u32::MAX, u32::MAX, u64::MAX);
        let mut assembler =
            Assembler::new(TableFilter::none(), ColumnFilter::default(), lesson.server.flavor, from.epoch)
                .starting_at(everything)
                .remembering(Box::new(reading.clone()));
        let read = self.pass(lesson, &file.name, begins, to, &mut assembler).await?;
        read.map_err(|error| located(error, &assembler))?;
        reading.reached(to);
        remembered.change(|_| ()).map_err(|error| not_kept(&error))
    }
}

/// A table that is still not known at the position will never be.
fn check_known(
    remembered: &Remembered,
    table: &TableName,
    position: Position,
    logs: &BinaryLogs,
) -> Result<(), Definite> {
    let (known, changed) =
        remembered.with(|history| (history.at(table, position), history.changed_after(table, position)));
    if known.is_some() {
        return Ok(());
    }
    let place = |position: Position| {
        let file = logs.files.iter().find(|file| file_number(&file.name) == Some(position.file));
        format!("{}:{}", file.map_or("", |file| file.name.as_str()), position.offset)
    };
    Err(Definite::Unknown {
        table: table.to_string(),
        place: place(position),
        why: match changed {
            Some(changed) => {
                format!("a statement at {} may have changed it before it was looked at", place(changed))
            }
            None => "it is not there any more".to_owned(),
        },
    })
}

fn not_kept(error: &std::io::Error) -> Error {
    Error::Transient(format!("what is known of tables cannot be kept: {error}"))
}
