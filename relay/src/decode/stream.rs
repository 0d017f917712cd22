//! From a dump's events to transactions: positions, table maps, rows, and the calls to a
//! [`TransactionSink`].

use super::event::{self, Format, Gtid, HEADER_LEN, Header, code};
use super::filter::{ColumnFilter, TableFilter};
use super::query::{self, Name, Statement};
use super::rows::{self, RowsKind};
use super::{DecodeError, bytes::Bytes, key, table_map};
use crate::event::{Op, RowChange, TransactionSink, TxnEnd, TxnStart};
use crate::position::Position;
use crate::schema::TableSchema;
use std::collections::{HashMap, HashSet};
use std::io::Read as _;
use std::sync::Arc;

/// Table definitions kept for reuse; beyond it the memory is emptied and fills again.
const MAX_CACHED_TABLES: usize = 4096;
/// XA branches without rows of interest that may be prepared at the same time.
const MAX_PREPARED_BRANCHES: usize = 65_536;
/// Greatest event inside a compressed transaction: MySQL's greatest `max_allowed_packet`.
const MAX_INNER_EVENT: usize = 1 << 30;

/// Which database wrote the binlog.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Flavor {
    /// MySQL and what is built from it.
    #[default]
    MySql,
    /// MariaDB.
    MariaDb,
}

/// The last whole transaction somebody has: enough to go on behind it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LastTransaction {
    /// Its start.
    pub position: Position,
    /// Name of its binlog file.
    pub file_name: String,
    /// Its GTID, if the server assigns them.
    pub gtid: Option<String>,
}

/// Why an event could not be handled.
#[derive(Debug, thiserror::Error)]
pub enum StreamError<E> {
    /// It cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It is not the transaction that was read from this position before.
    #[error("expected {expected}, found {found}")]
    Diverged {
        /// GTID on record.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The sink refused.
    #[error("{0}")]
    Sink(E),
}

/// What an event brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A piece of a transaction, or nothing of interest.
    Event,
    /// The end of a transaction, wanted or not.
    Transaction,
    /// The server has nothing more at the moment.
    Heartbeat,
}

/// Counters, for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Transactions handed on.
    pub transactions: u64,
    /// Rows handed on.
    pub rows: u64,
}

struct Table {
    schema: Arc<TableSchema>,
    /// By column; none when nothing is left out.
    excluded: Option<Vec<bool>>,
}

struct Cached {
    definition: Vec<u8>,
    table: Option<Arc<Table>>,
}

struct Txn {
    start: TxnStart,
    /// Ends with COMMIT or XID, not with its first statement.
    explicit: bool,
    /// `sink.begin` was called.
    begun: bool,
    /// Was handed on before, or lies before the start: its rows are passed over.
    skip: bool,
}

/// Buffers kept between events.
#[derive(Default)]
struct Scratch {
    before: Vec<u8>,
    after: Vec<u8>,
    stripped: Vec<u8>,
    stripped_after: Vec<u8>,
    key: Vec<u8>,
    inflated: Vec<u8>,
}

/// Follows one dump. Make a new one for each connection.
pub struct Assembler {
    tables: TableFilter,
    columns: ColumnFilter,
    flavor: Flavor,
    epoch: u32,
    /// Transactions that start before are passed over.
    from: Position,
    /// The transaction that must stand at `from`.
    resume: Option<LastTransaction>,
    file: Arc<str>,
    file_number: u32,
    /// Just behind the last event read.
    offset: u64,
    /// Just behind the last whole transaction.
    boundary: Position,
    last_commit_time_us: i64,
    checksum: bool,
    wide_ids: bool,
    event_start: u64,
    /// The last whole transaction, wanted or not.
    last: Option<TxnStart>,
    /// Start of the last transaction handed on.
    handed_on: Option<Position>,
    txn: Option<Txn>,
    maps: Vec<(u64, Option<Arc<Table>>)>,
    cache: HashMap<u64, Cached>,
    prepared: HashSet<String>,
    scratch: Scratch,
    counts: Counts,
}

impl std::fmt::Debug for Assembler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Assembler")
            .field("file", &self.file)
            .field("offset", &self.offset)
            .finish_non_exhaustive()
    }
}

/// The number at the end of a binlog file's name.
pub fn file_number(name: &str) -> Option<u32> {
    name.rsplit_once('.').and_then(|(_, number)| number.parse().ok())
}

impl Assembler {
    /// For a dump of a server of `flavor`, whose transactions get `epoch`.
    pub fn new(tables: TableFilter, columns: ColumnFilter, flavor: Flavor, epoch: u32) -> Self {
        Self {
            tables,
            columns,
            flavor,
            epoch,
            from: Position::default(),
            resume: None,
            file: Arc::from(""),
            file_number: 0,
            offset: 0,
            boundary: Position::default(),
            last_commit_time_us: 0,
            checksum: true,
            wide_ids: true,
            event_start: 0,
            last: None,
            handed_on: None,
            txn: None,
            maps: Vec::new(),
            cache: HashMap::new(),
            prepared: HashSet::new(),
            scratch: Scratch::default(),
            counts: Counts::default(),
        }
    }

    /// Passes over transactions that start before.
    #[must_use]
    pub fn starting_at(mut self, from: Position) -> Self {
        self.from = from;
        self
    }

    /// Passes over everything up to this transaction, and over itself, and checks that it is there.
    #[must_use]
    pub fn resuming_after(mut self, last: LastTransaction) -> Self {
        self.from = last.position;
        self.resume = Some(last);
        self
    }

    /// The file being read.
    pub fn file(&self) -> &Arc<str> {
        &self.file
    }

    /// Just behind the last event read.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Just behind the last whole transaction, and the last commit time seen.
    pub fn boundary(&self) -> (Position, i64) {
        (self.boundary, self.last_commit_time_us)
    }

    /// Where the last event read starts.
    pub fn event_start(&self) -> u64 {
        self.event_start
    }

    /// The last whole transaction, wanted or not.
    pub fn last(&self) -> Option<LastTransaction> {
        self.last.as_ref().map(|start| LastTransaction {
            position: start.position,
            file_name: start.file_name.to_string(),
            gtid: start.gtid.clone(),
        })
    }

    /// Start of the last transaction handed on.
    pub fn last_handed_on(&self) -> Option<Position> {
        self.handed_on
    }

    /// Reading at or behind the start: not on the way to it through what was handed on before.
    pub fn has_arrived(&self) -> bool {
        self.resume.is_none() && self.file_number > 0 && self.boundary >= self.from
    }

    /// Inside a transaction.
    pub fn in_transaction(&self) -> bool {
        self.txn.is_some()
    }

    /// What was handed on so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Tells the sink to forget an unfinished transaction: the connection is gone.
    pub fn disconnected<S: TransactionSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.maps.clear();
        match self.txn.take() {
            Some(txn) if txn.begun => sink.abort(),
            _ => Ok(()),
        }
    }

    /// Handles one whole event.
    pub fn event<S: TransactionSink>(
        &mut self,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        let header = Header::parse(bytes)?;
        match header.kind {
            code::FORMAT_DESCRIPTION => {
                let format = Format::parse(bytes)?;
                self.checksum = format.checksum;
                self.wide_ids = format.wide_table_ids();
                // A server that died inside a transaction begins its next file like this: it was rolled back.
                self.disconnected(sink).map_err(StreamError::Sink)?;
                self.advance(&header);
                return Ok(Progress::Event);
            }
            code::ROTATE if header.is_artificial() || header.end == 0 => {
                // The first event of a dump, made before the server told us whether it has a checksum: the
                // name ends where a checksum that matches begins.
                let (_, with) = event::split(bytes, false)?;
                let body = event::split(bytes, true).map_or(with, |(_, body)| body);
                self.rotate(body)?;
                return Ok(Progress::Event);
            }
            _ => {}
        }
        let (header, body) = event::split(bytes, self.checksum)?;
        let start = self.advance(&header);
        match header.kind {
            code::ROTATE => {
                self.disconnected(sink).map_err(StreamError::Sink)?;
                self.rotate(body)?;
                Ok(Progress::Event)
            }
            code::HEARTBEAT | code::HEARTBEAT_V2 => Ok(Progress::Heartbeat),
            code::TRANSACTION_PAYLOAD => self.payload(&header, body, start, sink),
            _ => self.inner(&header, body, start, sink),
        }
    }

    fn rotate(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        let (offset, name) = event::rotate(body)?;
        self.file_number = file_number(name).ok_or(DecodeError::Invalid("binlog file name"))?;
        self.file = Arc::from(name);
        self.offset = offset;
        self.boundary = Position::new(self.epoch, self.file_number, offset);
        Ok(())
    }

    /// Moves on behind an event and returns where it starts. Headers carry 32 bits; offsets only grow.
    fn advance(&mut self, header: &Header) -> u64 {
        let heartbeat = matches!(header.kind, code::HEARTBEAT | code::HEARTBEAT_V2);
        if header.is_artificial() || header.end == 0 || heartbeat {
            return self.offset;
        }
        let mut end = self.offset & !u64::from(u32::MAX) | u64::from(header.end);
        if end < self.offset {
            end += 1 << 32;
        }
        self.offset = end;
        self.event_start = end.saturating_sub(u64::from(header.size));
        self.event_start
    }

    /// The events of a compressed transaction, inflated one at a time.
    fn payload<S: TransactionSink>(
        &mut self,
        outer: &Header,
        body: &[u8],
        start: u64,
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        const UNCOMPRESSED: u64 = 255;
        let mut input = Bytes::new(body, "compressed transaction");
        let mut method = UNCOMPRESSED;
        loop {
            let field = input.lenenc()?;
            if field == 0 {
                break;
            }
            let value = input.lenenc_bytes()?;
            if field == 2 {
                method = Bytes::new(value, "compressed transaction").lenenc()?;
            }
        }
        let mut reader: Box<dyn std::io::Read> = match method {
            0 => Box::new(
                zstd::stream::read::Decoder::with_buffer(input.rest())
                    .map_err(|_| DecodeError::Invalid("compressed transaction"))?,
            ),
            UNCOMPRESSED => Box::new(input.rest()),
            _ => {
                return Err(DecodeError::Unsupported(format!(
                    "a transaction is compressed by method {method}, which is not known"
                ))
                .into());
            }
        };
        let mut buffer = Vec::new();
        let mut progress = Progress::Event;
        while read_inner(&mut reader, &mut buffer)? {
            let mut header = Header::parse(&buffer)?;
            // Inner events have no place of their own.
            header.end = outer.end;
            let body = buffer.get(HEADER_LEN..).unwrap_or_default();
            progress = self.inner(&header, body, start, sink)?;
        }
        Ok(progress)
    }

    /// Events that may also stand in a compressed transaction.
    fn inner<S: TransactionSink>(
        &mut self,
        header: &Header,
        body: &[u8],
        start: u64,
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        if let Some((kind, version, compressed)) = rows::layout(header.kind) {
            let parsed = rows::parse(body, kind, version, self.wide_ids)?;
            self.rows(&parsed, kind, compressed, sink)?;
            return Ok(Progress::Event);
        }
        match header.kind {
            code::TABLE_MAP => self.table_map(body)?,
            code::XID => return self.commit(sink),
            code::GTID => self.open(header, event::gtid(body, true)?, start)?,
            code::ANONYMOUS_GTID => self.open(header, event::gtid(body, false)?, start)?,
            code::GTID_TAGGED => self.open(header, event::gtid_tagged(body)?, start)?,
            code::MARIA_GTID => self.open(header, event::maria_gtid(body, header.server_id)?, start)?,
            code::QUERY => {
                let query = event::query(body)?;
                return self.query(header, &query, start, sink);
            }
            code::MARIA_QUERY_COMPRESSED => {
                let query = event::query(body)?;
                let mut inflated = Vec::new();
                event::maria_inflate(query.sql, &mut inflated)?;
                let query = event::Query { database: query.database, sql: &inflated };
                return self.query(header, &query, start, sink);
            }
            code::XA_PREPARE => return self.xa_prepare(body, sink),
            code::INCIDENT => {
                return Err(DecodeError::Unsupported(
                    "the server reports an incident: changes may be missing from its binlog; take a new snapshot \
                     and start behind it"
                        .to_owned(),
                )
                .into());
            }
            code::PARTIAL_UPDATE_ROWS if self.reading() => {
                return Err(DecodeError::Unsupported(
                    "partial JSON updates are not supported: SET GLOBAL binlog_row_value_options = ''"
                        .to_owned(),
                )
                .into());
            }
            code::STOP
            | code::INTVAR
            | code::RAND
            | code::USER_VAR
            | code::IGNORABLE
            | code::ROWS_QUERY
            | code::PREVIOUS_GTIDS
            | code::TRANSACTION_CONTEXT
            | code::VIEW_CHANGE
            | code::PARTIAL_UPDATE_ROWS
            | code::MARIA_ANNOTATE_ROWS
            | code::MARIA_BINLOG_CHECKPOINT
            | code::MARIA_GTID_LIST
            | code::MARIA_START_ENCRYPTION => {}
            other if header.flags & event::FLAG_IGNORABLE == 0 => {
                return Err(
                    DecodeError::Unsupported(format!("events of type {other} are not supported")).into()
                );
            }
            _ => {}
        }
        Ok(Progress::Event)
    }

    /// Whether rows read now matter: not inside a transaction that is passed over.
    fn reading(&self) -> bool {
        self.txn.as_ref().is_none_or(|txn| !txn.skip)
    }

    fn open<E>(&mut self, header: &Header, gtid: Gtid, start: u64) -> Result<(), StreamError<E>> {
        if self.txn.as_ref().is_some_and(|txn| txn.begun) {
            return Err(DecodeError::Invalid("transaction without an end, or a transaction inside it").into());
        }
        let explicit = self.flavor == Flavor::MariaDb && !gtid.standalone;
        let position = Position::new(self.epoch, self.file_number, start);
        let commit_time_us = gtid.commit_time_us.unwrap_or(i64::from(header.timestamp) * 1_000_000);
        let mut skip = position < self.from;
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
        self.txn = Some(Txn { start, explicit, begun: false, skip });
        Ok(())
    }

    fn query<S: TransactionSink>(
        &mut self,
        header: &Header,
        query: &event::Query<'_>,
        start: u64,
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        if self.txn.is_none() {
            // Servers without GTID events: the group begins with its first statement.
            self.open(header, Gtid::default(), start)?;
        }
        let statement = query::classify(query.sql);
        let skip = !self.reading();
        match statement {
            Statement::Begin => {
                if let Some(txn) = &mut self.txn {
                    txn.explicit = true;
                }
                return Ok(Progress::Event);
            }
            Statement::Commit => return self.commit(sink),
            Statement::Rollback => {
                self.disconnected(sink).map_err(StreamError::Sink)?;
                self.end_of_transaction();
                return Ok(Progress::Transaction);
            }
            _ if skip => {}
            Statement::RollbackTo => {
                if self.txn.as_ref().is_some_and(|txn| txn.begun) {
                    return Err(DecodeError::Unsupported(
                        "a transaction that also changed a non-transactional table was rolled back to a savepoint: \
                         which of its rows stand cannot be told"
                            .to_owned(),
                    )
                    .into());
                }
            }
            Statement::XaCommit(branch) => {
                if !self.prepared.remove(&branch) {
                    return Err(xa_unsupported().into());
                }
            }
            Statement::XaRollback(branch) => drop(self.prepared.remove(&branch)),
            Statement::Truncate(name) => self.statement(Op::Truncate, &name, false, query, sink)?,
            Statement::Ddl { name, several } => self.statement(Op::Ddl, &name, several, query, sink)?,
            Statement::Dml => {
                let database = String::from_utf8_lossy(query.database);
                if database.is_empty() || self.tables.database(&database) {
                    return Err(DecodeError::Unsupported(format!(
                        "a change in database {database:?} was logged as a statement, not as rows: SET GLOBAL \
                         binlog_format = 'ROW', and let no session change it"
                    ))
                    .into());
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

    /// DDL and TRUNCATE as a row without columns.
    fn statement<S: TransactionSink>(
        &mut self,
        op: Op,
        name: &Name,
        several: bool,
        query: &event::Query<'_>,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let session = String::from_utf8_lossy(query.database).into_owned();
        let database = name.database.clone().unwrap_or_else(|| session.clone());
        let wanted = match &name.table {
            Some(table) => {
                self.tables.table(&database, table) || (several && self.tables.database(&database))
            }
            None => self.tables.database(&database),
        };
        if !wanted {
            return Ok(());
        }
        let statement = crate::event::Statement {
            database: session,
            table: name.table.clone(),
            sql: String::from_utf8_lossy(query.sql).into_owned(),
        };
        let after =
            serde_json::to_vec(&statement).map_err(|_| DecodeError::Invalid("statement in a query event"))?;
        let table = name.table.clone().unwrap_or_default();
        let schema = Arc::new(TableSchema::new(database, table, Vec::new(), Vec::new()));
        self.begin(sink)?;
        // The hash is 0, and with it the partition.
        let row =
            RowChange { op, schema: &schema, key_hash_before: 0, key_hash: 0, before: &[], after: &after };
        self.counts.rows += 1;
        sink.row(row).map_err(StreamError::Sink)
    }

    fn begin<S: TransactionSink>(&mut self, sink: &mut S) -> Result<(), StreamError<S::Error>> {
        match &mut self.txn {
            Some(txn) if txn.begun => Ok(()),
            Some(txn) => {
                txn.begun = true;
                sink.begin(txn.start.clone()).map_err(StreamError::Sink)
            }
            None => Err(DecodeError::Invalid("row outside of a transaction").into()),
        }
    }

    fn commit<S: TransactionSink>(&mut self, sink: &mut S) -> Result<Progress, StreamError<S::Error>> {
        let end_offset = self.offset;
        if let Some(txn) = self.txn.take() {
            self.last_commit_time_us = txn.start.commit_time_us;
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

    fn xa_prepare<S: TransactionSink>(
        &mut self,
        body: &[u8],
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        let mut input = Bytes::new(body, "XA prepare event");
        let one_phase = input.u8()? != 0;
        if one_phase {
            return self.commit(sink);
        }
        let format = input.u32()?;
        let (global, branch) = (input.u32()?, input.u32()?);
        let mut part = |len: u32| -> Result<String, DecodeError> {
            let bytes = input.take(usize::try_from(len).unwrap_or(usize::MAX))?;
            Ok(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
        };
        let name = format!("X'{}',X'{}',{format}", part(global)?, part(branch)?);
        if self.txn.as_ref().is_some_and(|txn| txn.begun) || self.prepared.len() >= MAX_PREPARED_BRANCHES {
            return Err(xa_unsupported().into());
        }
        self.prepared.insert(name);
        self.commit(sink)
    }

    fn table_map(&mut self, body: &[u8]) -> Result<(), DecodeError> {
        if !self.reading() {
            return Ok(());
        }
        let name = table_map::name(body, self.wide_ids)?;
        let definition = body.get(if self.wide_ids { 8 } else { 6 }..).unwrap_or_default();
        let hash = xxhash_rust::xxh3::xxh3_64(definition);
        let known = self.cache.get(&hash).filter(|cached| cached.definition == definition);
        let table = if let Some(cached) = known {
            cached.table.clone()
        } else {
            let table = self.table(&name)?;
            if self.cache.len() >= MAX_CACHED_TABLES {
                self.cache.clear();
            }
            self.cache.insert(hash, Cached { definition: definition.to_vec(), table: table.clone() });
            table
        };
        self.maps.retain(|(id, _)| *id != name.table_id);
        self.maps.push((name.table_id, table));
        Ok(())
    }

    fn table(&self, name: &table_map::TableName<'_>) -> Result<Option<Arc<Table>>, DecodeError> {
        if !self.tables.table(name.database, name.table) {
            return Ok(None);
        }
        let schema = table_map::schema(name, self.flavor)?;
        let excluded: Vec<bool> = schema
            .columns
            .iter()
            .map(|column| self.columns.excludes(name.database, name.table, &column.name))
            .collect();
        if let Some(column) = schema.key.iter().find(|index| excluded.get(**index) == Some(&true)) {
            let column = schema.columns.get(*column).map_or("", |c| c.name.as_str());
            return Err(DecodeError::Unsupported(format!(
                "{}.{}.{column} is in columns.exclude and in the primary key: take it out of columns.exclude, or \
                 leave the table out",
                name.database, name.table
            )));
        }
        let excluded = excluded.contains(&true).then_some(excluded);
        Ok(Some(Arc::new(Table { schema: Arc::new(schema), excluded })))
    }

    fn rows<S: TransactionSink>(
        &mut self,
        parsed: &rows::Rows<'_>,
        kind: RowsKind,
        compressed: bool,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        /// Ends a statement without rows.
        const DUMMY_TABLE_ID: u64 = 0x00ff_ffff;
        if !self.reading() {
            return Ok(());
        }
        let Some((_, table)) = self.maps.iter().find(|(id, _)| *id == parsed.table_id) else {
            if parsed.table_id == DUMMY_TABLE_ID {
                return Ok(());
            }
            return Err(DecodeError::Invalid("rows event without its table map").into());
        };
        let Some(table) = table.clone() else { return Ok(()) };
        if parsed.columns != table.schema.columns.len() {
            return Err(DecodeError::Invalid("column count of a rows event").into());
        }
        self.begin(sink)?;
        let mut scratch = std::mem::take(&mut self.scratch);
        let done = self.each_row(parsed, kind, compressed, &table, &mut scratch, sink);
        self.scratch = scratch;
        done
    }

    fn each_row<S: TransactionSink>(
        &mut self,
        parsed: &rows::Rows<'_>,
        kind: RowsKind,
        compressed: bool,
        table: &Table,
        scratch: &mut Scratch,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let schema = &table.schema;
        let data = if compressed {
            event::maria_inflate(parsed.data, &mut scratch.inflated)?;
            scratch.inflated.as_slice()
        } else {
            parsed.data
        };
        let mut input = Bytes::new(data, "row");
        let image = |present: &[u8], input: &mut Bytes<'_>, out: &mut Vec<u8>, stripped: &mut Vec<u8>| {
            let row = rows::take_row(schema, present, input)?;
            out.clear();
            out.extend_from_slice(present);
            out.extend_from_slice(row);
            match &table.excluded {
                Some(excluded) => rows::strip(schema, excluded, out, stripped),
                None => Ok(()),
            }
        };
        while !input.is_empty() {
            let remaining = input.rest().len();
            let (op, has_before) = match kind {
                RowsKind::Write => (Op::Insert, false),
                RowsKind::Update => (Op::Update, true),
                RowsKind::Delete => (Op::Delete, true),
            };
            scratch.before.clear();
            scratch.after.clear();
            scratch.stripped.clear();
            scratch.stripped_after.clear();
            if has_before {
                image(parsed.present, &mut input, &mut scratch.before, &mut scratch.stripped)?;
            }
            if kind != RowsKind::Delete {
                let present = if has_before { parsed.present_after } else { parsed.present };
                image(present, &mut input, &mut scratch.after, &mut scratch.stripped_after)?;
            }
            if input.rest().len() == remaining {
                return Err(DecodeError::Invalid("row without bytes").into());
            }
            let (before, after) = (scratch.before.as_slice(), scratch.after.as_slice());
            let key_hash_before =
                if has_before { key::hash(schema, before, &[], &mut scratch.key)? } else { 0 };
            let key_hash = if after.is_empty() {
                key_hash_before
            } else {
                key::hash(schema, after, before, &mut scratch.key)?
            };
            let (before, after) = if table.excluded.is_some() {
                (scratch.stripped.as_slice(), scratch.stripped_after.as_slice())
            } else {
                (before, after)
            };
            let key_hash_before = if has_before { key_hash_before } else { key_hash };
            sink.row(RowChange { op, schema, key_hash_before, key_hash, before, after })
                .map_err(StreamError::Sink)?;
            self.counts.rows += 1;
        }
        Ok(())
    }
}

fn xa_unsupported() -> DecodeError {
    DecodeError::Unsupported(
        "XA transactions are not supported yet: leave the tables that they change out of `tables`, or take a \
         snapshot and start behind them"
            .to_owned(),
    )
}

/// Reads the next event of a compressed transaction; false at its end.
fn read_inner(reader: &mut dyn std::io::Read, buffer: &mut Vec<u8>) -> Result<bool, DecodeError> {
    const INVALID: DecodeError = DecodeError::Invalid("compressed transaction");
    let mut fill = |buffer: &mut Vec<u8>, len: usize| -> Result<usize, DecodeError> {
        let want = u64::try_from(len).map_err(|_| INVALID)?;
        (&mut *reader).take(want).read_to_end(buffer).map_err(|_| INVALID)
    };
    buffer.clear();
    match fill(buffer, HEADER_LEN)? {
        0 => return Ok(false),
        HEADER_LEN => {}
        _ => return Err(INVALID),
    }
    let size = usize::try_from(Header::parse(buffer)?.size).map_err(|_| INVALID)?;
    let rest = size.checked_sub(HEADER_LEN).ok_or(INVALID)?;
    if size > MAX_INNER_EVENT || fill(buffer, rest)? != rest {
        return Err(INVALID);
    }
    Ok(true)
}
