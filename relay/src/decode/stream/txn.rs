//! Beginnings and ends of transactions, statements, XA.

use super::{Assembler, Flavor, Progress, StreamError, Txn};
use crate::config::HiddenChanges;
use crate::decode::DecodeError;
use crate::decode::event::{Gtid, Header};
use crate::decode::query::{self, Name, Quoting, Statement};
use crate::decode::query_event::Query;
use crate::decode::touch;
use crate::event::{Op, RowChange, TransactionSink, TxnEnd, TxnStart};
use crate::position::Position;
use crate::schema::TableSchema;
use std::sync::Arc;

impl Assembler {
    pub(super) fn open<E>(&mut self, header: &Header, gtid: Gtid, start: u64) -> Result<(), StreamError<E>> {
        if self.txn.as_ref().is_some_and(|txn| txn.begun) {
            return Err(DecodeError::Invalid("transaction without an end, or a transaction inside it").into());
        }
        let explicit = self.flavor == Flavor::MariaDb && !gtid.standalone;
        let position = Position::new(self.epoch, self.file_number, start);
        let commit_time_us = gtid.commit_time_us.unwrap_or(i64::from(header.timestamp) * 1_000_000);
        let mut skip = position < self.from;
        if let Some(since) = self.since {
            // Whole seconds stand for all of their parts.
            let latest =
                if gtid.commit_time_us.is_some() { commit_time_us } else { commit_time_us + 999_999 };
            if latest < since {
                skip = true;
            } else {
                self.since = None;
            }
        }
        let passes_over = !self.passing_over.is_empty()
            && gtid.gtid.as_deref().is_some_and(|gtid| self.passing_over.contains(gtid));
        if passes_over {
            skip = true;
        } else if !skip {
            self.on_the_way = false;
        }
        if !skip && let Some(last) = self.resume.take() {
            let found = gtid.gtid.clone();
            if position != last.position || found != last.gtid {
                let name = |gtid: Option<String>| gtid.unwrap_or_else(|| "a transaction without GTID".into());
                let found = format!("{} at {}", name(found), position.offset);
                return Err(StreamError::Diverged { expected: name(last.gtid), found });
            }
            skip = true;
        }
        let start = TxnStart {
            position,
            file_name: Arc::clone(&self.file),
            gtid: gtid.gtid,
            server_id: header.server_id,
            commit_time_us,
        };
        self.txn = Some(Txn { start, explicit, begun: false, skip, branch: None, savepoints: Vec::new() });
        match gtid.branch {
            Some(branch) => self.xa_start(branch),
            None => Ok(()),
        }
    }

    pub(super) fn query<S: TransactionSink>(
        &mut self,
        header: &Header,
        query: &Query<'_>,
        start: u64,
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        if self.txn.is_none() {
            // Servers without GTID events: the group begins with its first statement.
            self.open(header, Gtid::default(), start)?;
        }
        if query.sql == b"BEGIN" {
            return Ok(self.explicitly());
        }
        let text = query.text();
        // Looked at only where quotes leave something open.
        let quoting =
            text.contains('\\').then(|| query.status().sql_mode).flatten().map(Quoting::of_sql_mode);
        let statement = query::classify(text.as_bytes(), quoting);
        if self.definitions.is_some() && !matches!(statement, Statement::Begin | Statement::Commit) {
            self.remember(query, &text)?;
        }
        let skip = !self.reading();
        match statement {
            Statement::Begin => return Ok(self.explicitly()),
            Statement::XaStart(branch) => {
                self.xa_start(branch)?;
                return Ok(Progress::Event);
            }
            Statement::XaCommit(branch) => {
                if !skip {
                    self.xa_commit(&branch, sink)?;
                }
                return self.commit(sink);
            }
            Statement::XaRollback(branch) => {
                if !skip {
                    self.xa_rollback(&branch)?;
                }
                return self.commit(sink);
            }
            Statement::Commit => return self.commit(sink),
            Statement::Rollback => {
                self.disconnected(sink).map_err(StreamError::Sink)?;
                self.end_of_transaction();
                return Ok(Progress::Transaction);
            }
            _ if skip => {}
            Statement::Savepoint(name) => self.set_savepoint(name, sink),
            Statement::RollbackTo(name) => self.roll_back_to(&name, sink)?,
            Statement::Truncate(name) => self.statement(Op::Truncate, &name, false, query, &text, sink)?,
            Statement::Ddl { name, several } => {
                self.statement(Op::Ddl, &name, several, query, &text, sink)?;
            }
            Statement::Filled(name) => {
                if self.is_wanted(&name, false, query) {
                    self.hidden(&text)?;
                    self.statement(Op::Ddl, &name, false, query, &text, sink)?;
                }
            }
            Statement::Dml => {
                if self.may_change_wanted(query, &text, quoting) {
                    self.hidden(&text)?;
                }
            }
            Statement::Other => {}
        }
        if self.txn.as_ref().is_some_and(|txn| txn.explicit) {
            Ok(Progress::Event)
        } else {
            self.commit(sink)
        }
    }

    /// The transaction has an end of its own.
    fn explicitly(&mut self) -> Progress {
        if let Some(txn) = &mut self.txn {
            txn.explicit = true;
        }
        Progress::Event
    }

    /// Notes what a statement may have done to tables, before anything behind it is handed on.
    #[cold]
    fn remember<E>(&mut self, query: &Query<'_>, text: &str) -> Result<(), StreamError<E>> {
        let database = String::from_utf8_lossy(query.database);
        let position = self.txn.as_ref().map_or(self.boundary, |txn| txn.start.position);
        if let (Some(definitions), Some(touch)) = (&mut self.definitions, touch::touch(text, &database)) {
            definitions.touched(position, touch).map_err(StreamError::Definitions)?;
            // The same table map may mean something else now.
            self.cache.clear();
        }
        Ok(())
    }

    /// Rows were changed by a statement: they are not in the binlog.
    #[cold]
    fn hidden(&mut self, text: &str) -> Result<(), DecodeError> {
        if self.hidden_changes == HiddenChanges::Stop {
            return Err(unseen(text));
        }
        let (file, offset, statement) = (&*self.file, self.event_start, shown(text));
        tracing::warn!(file, offset, statement, "a change that was logged as a statement is left out");
        self.counts.hidden += 1;
        Ok(())
    }

    /// Whether a statement that changes rows may change some that are wanted. MySQL says which databases it writes to,
    /// by functions and triggers too; elsewhere its text does, as far as it can.
    #[cold]
    fn may_change_wanted(&self, query: &Query<'_>, text: &str, quoting: Option<Quoting>) -> bool {
        let is_wanted = |name: &str| self.tables.database(name);
        if let Some(updated) = query.status().updated {
            return updated.iter().any(|name| is_wanted(name));
        }
        let session = String::from_utf8_lossy(query.database);
        session.is_empty() || is_wanted(&session) || query::may_change(text.as_bytes(), quoting, is_wanted)
    }

    /// Whether a statement about a table or a database is one to report.
    fn is_wanted(&self, name: &Name, several: bool, query: &Query<'_>) -> bool {
        let session = String::from_utf8_lossy(query.database);
        let database = name.database.as_deref().unwrap_or(&session);
        match &name.table {
            Some(table) => self.tables.table(database, table) || (several && self.tables.database(database)),
            None => self.tables.database(database),
        }
    }

    /// DDL and TRUNCATE as a row without columns.
    fn statement<S: TransactionSink>(
        &mut self,
        op: Op,
        name: &Name,
        several: bool,
        query: &Query<'_>,
        text: &str,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        if !self.is_wanted(name, several, query) {
            return Ok(());
        }
        let session = String::from_utf8_lossy(query.database).into_owned();
        let database = name.database.clone().unwrap_or_else(|| session.clone());
        let statement =
            crate::event::Statement { database: session, table: name.table.clone(), sql: text.to_owned() };
        let after =
            serde_json::to_vec(&statement).map_err(|_| DecodeError::Invalid("statement in a query event"))?;
        let table = name.table.clone().unwrap_or_default();
        let schema = Arc::new(TableSchema::new(database, table, Vec::new(), Vec::new()));
        self.begin(sink)?;
        // The hash is 0, and with it the partition.
        let row =
            RowChange { op, schema: &schema, key_hash_before: 0, key_hash: 0, before: &[], after: &after };
        self.counts.rows += 1;
        self.counts.statements += 1;
        sink.row(row).map_err(StreamError::Sink)
    }

    pub(super) fn begin<S: TransactionSink>(&mut self, sink: &mut S) -> Result<(), StreamError<S::Error>> {
        match &mut self.txn {
            Some(txn) if txn.begun => Ok(()),
            Some(txn) => {
                txn.begun = true;
                sink.begin(txn.start.clone()).map_err(StreamError::Sink)
            }
            None => Err(DecodeError::Invalid("row outside of a transaction").into()),
        }
    }

    pub(super) fn commit<S: TransactionSink>(
        &mut self,
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        let end_offset = self.offset;
        if let Some(txn) = self.txn.take() {
            self.last_commit_time_us = txn.start.commit_time_us;
            if let (Some(executed), Some(gtid)) = (&mut self.executed, &txn.start.gtid) {
                executed.insert(gtid);
            }
            if txn.begun {
                sink.commit(TxnEnd { end_offset }).map_err(StreamError::Sink)?;
                self.counts.transactions += 1;
                self.handed_on = Some(txn.start.position);
            }
            if txn.start.position >= self.from {
                self.last = Some(txn.start);
            }
        }
        self.end_of_transaction();
        Ok(Progress::Transaction)
    }

    fn end_of_transaction(&mut self) {
        self.txn = None;
        self.maps.clear();
        self.boundary = Position::new(self.epoch, self.file_number, self.offset);
    }
}

fn shown(text: &str) -> String {
    const SHOWN: usize = 120;
    let dots = if text.chars().nth(SHOWN).is_some() { "…" } else { "" };
    text.chars().take(SHOWN).chain(dots.chars()).collect()
}

fn unseen(text: &str) -> DecodeError {
    DecodeError::Unsupported(format!(
        "a change was logged as a statement, not as rows: {:?}; SET GLOBAL binlog_format = 'ROW', let no session \
         change it, and set hidden_changes: leave_out to go on without these rows",
        shown(text)
    ))
}
