//! From a dump's events to transactions: positions, table maps, rows, and the calls to a
//! [`TransactionSink`].

mod large;
mod payload;
mod rows;
mod savepoint;
#[cfg(test)]
mod tests;
mod txn;
mod xa;

use crate::config::{HiddenChanges, Oversize};
use crate::decode::DecodeError;
use crate::decode::branch::Branches;
use crate::decode::definitions::Definitions;
use crate::decode::event::{self, Format, Header, Reached, code};
use crate::decode::filter::{ColumnFilter, TableFilter};
use crate::decode::query_event;
use crate::decode::rows::{self as row_event, Encoding};
use crate::event::{TransactionSink, TxnStart};
use crate::gtid::GtidSet;
use crate::position::Position;
use crate::schema::{SchemaId, TableName, TableSchema};
use std::collections::HashMap;
use std::sync::Arc;

pub use large::FRONT;

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

impl From<TxnStart> for LastTransaction {
    fn from(TxnStart { position, file_name, gtid, .. }: TxnStart) -> Self {
        Self { position, file_name: file_name.to_string(), gtid }
    }
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
    /// What a table was there is not known.
    #[error("what columns {table} had at {position} is not known")]
    Unknown {
        /// The table.
        table: TableName,
        /// Start of the transaction.
        position: Position,
    },
    /// An XA branch is committed, and was prepared before reading began: its rows are not known here.
    #[error("XA branch {branch} was prepared before reading began here, so its rows are not known")]
    Prepared {
        /// The branch, as its end names it.
        branch: String,
        /// Start of the transaction that ends it.
        before: Position,
    },
    /// A statement that changes tables cannot be noted.
    #[error("a definition: {0}")]
    Definitions(std::io::Error),
    /// A prepared XA branch cannot be kept, or not be read back.
    #[error("a prepared XA branch: {0}")]
    Branches(std::io::Error),
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
    /// Rows handed on, statements included.
    pub rows: u64,
    /// Of these, rows whose key alone was handed on.
    pub oversize: u64,
    /// Of these, rows that came.
    pub inserts: u64,
    /// Rows that changed.
    pub updates: u64,
    /// Rows that went.
    pub deletes: u64,
    /// DDL and TRUNCATE.
    pub statements: u64,
    /// Statements that changed rows, which are not known, and that were left out.
    pub hidden: u64,
}

struct Table {
    /// As the server has it.
    schema: Arc<TableSchema>,
    /// As readers see it: without the excluded columns.
    seen: Arc<TableSchema>,
    /// By column; none when nothing is left out.
    excluded: Option<Vec<bool>>,
}

/// The bound of a row's bytes.
#[derive(Clone, Copy, Debug)]
struct RowLimit {
    bytes: usize,
    oversize: Oversize,
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
    /// An XA branch, whose rows wait for its XA COMMIT.
    branch: Option<Branch>,
    /// In the order in which they were set.
    savepoints: Vec<savepoint::Named>,
}

/// The XA branch being read.
struct Branch {
    name: String,
    /// Its rows so far refer to these, in order.
    schemas: Vec<SchemaId>,
    rows: u64,
    /// Bytes of what was put aside.
    bytes: u64,
}

/// Buffers kept between events.
#[derive(Default)]
struct Scratch {
    before: Vec<u8>,
    after: Vec<u8>,
    merged: Vec<u8>,
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
    /// Transactions committed before are passed over, up to the first that was not; microseconds since 1970 UTC.
    since: Option<i64>,
    /// Transactions in it are passed over.
    passing_over: GtidSet,
    /// None that is not in it has come.
    on_the_way: bool,
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
    branches: Option<Box<dyn Branches>>,
    /// The one branch that is not passed over.
    seeking: Option<String>,
    definitions: Option<Box<dyn Definitions>>,
    scratch: Scratch,
    limit: RowLimit,
    hidden_changes: HiddenChanges,
    oversize_table: Option<String>,
    /// From this size on rows events are not held.
    large: usize,
    /// The event that comes in parts.
    parts: Option<large::Parts>,
    counts: Counts,
    /// All transactions before `boundary`, wanted or not, where that is known.
    executed: Option<GtidSet>,
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
            since: None,
            passing_over: GtidSet::default(),
            on_the_way: false,
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
            branches: None,
            seeking: None,
            definitions: None,
            scratch: Scratch::default(),
            limit: RowLimit { bytes: usize::MAX, oversize: Oversize::Stop },
            hidden_changes: HiddenChanges::Stop,
            oversize_table: None,
            large: large::LARGE,
            parts: None,
            counts: Counts::default(),
            executed: None,
        }
    }

    /// Counts GTIDs on from these: the ones of everything before the dump.
    #[must_use]
    pub fn knowing(mut self, executed: GtidSet) -> Self {
        self.executed = Some(executed);
        self
    }

    /// The GTIDs of everything before the boundary, where those before the dump were known.
    pub fn executed(&self) -> Option<&GtidSet> {
        self.executed.as_ref()
    }

    /// Bounds the bytes of a row, and says what becomes of one that has more.
    #[must_use]
    pub fn bounding_rows(mut self, bytes: u64, oversize: Oversize) -> Self {
        self.limit = RowLimit { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), oversize };
        self
    }

    /// Says what becomes of changes that were logged as statements.
    #[must_use]
    pub fn with_hidden_changes(mut self, hidden_changes: HiddenChanges) -> Self {
        self.hidden_changes = hidden_changes;
        self
    }

    /// Holds rows events of at most so many bytes, where [`Assembler::event`] would hold more: all larger ones are taken
    /// as those that come in parts.
    #[must_use]
    pub fn holding(mut self, bytes: usize) -> Self {
        self.large = bytes;
        self
    }

    /// Keeps prepared XA branches there; without it rows of XA transactions are a definite error.
    #[must_use]
    pub fn keeping_branches(mut self, branches: Box<dyn Branches>) -> Self {
        self.branches = Some(branches);
        self
    }

    /// Passes over everything but this XA branch, which is kept.
    #[must_use]
    pub fn seeking(mut self, branch: &str) -> Self {
        self.seeking = Some(branch.to_owned());
        self.starting_at(Position::new(u32::MAX, u32::MAX, u64::MAX))
    }

    /// Asks there what tables were where their maps do not say; without it such rows are a definite error.
    #[must_use]
    pub fn remembering(mut self, definitions: Box<dyn Definitions>) -> Self {
        self.definitions = Some(definitions);
        self
    }

    /// Passes over transactions that start before.
    #[must_use]
    pub fn starting_at(mut self, from: Position) -> Self {
        self.from = from;
        self
    }

    /// Passes over transactions up to the first that was committed at this time or later, microseconds since 1970 UTC.
    #[must_use]
    pub fn starting_since(mut self, time_us: i64) -> Self {
        self.since = Some(time_us);
        self
    }

    /// Passes over the transactions of a set, all of which the server has.
    #[must_use]
    pub fn passing_over(mut self, gtids: GtidSet) -> Self {
        self.passing_over = gtids;
        self.on_the_way = true;
        self
    }

    /// The time that is waited for, while no transaction was committed at it or later; any time, while none has come that
    /// is not passed over.
    pub fn awaited(&self) -> Option<i64> {
        self.since.or(self.on_the_way.then_some(i64::MIN))
    }

    /// The time has come: the next transaction is wanted, whatever it says.
    pub fn stop_awaiting(&mut self) {
        self.since = None;
        self.on_the_way = false;
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
        self.last.clone().map(Into::into)
    }

    /// Start of the last transaction handed on.
    pub fn last_handed_on(&self) -> Option<Position> {
        self.handed_on
    }

    /// Reading at or behind the start: not on the way to it through what was handed on before.
    pub fn has_arrived(&self) -> bool {
        self.resume.is_none()
            && self.awaited().is_none()
            && self.file_number > 0
            && self.boundary >= self.from
    }

    /// Inside a transaction.
    pub fn in_transaction(&self) -> bool {
        self.txn.is_some()
    }

    /// The table of the last row whose key alone was handed on.
    pub fn oversize_table(&self) -> Option<&str> {
        self.oversize_table.as_deref()
    }

    /// What was handed on so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Tells the sink to forget an unfinished transaction: the connection is gone.
    pub fn disconnected<S: TransactionSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        self.maps.clear();
        self.parts = None;
        if let Some(branches) = &mut self.branches {
            branches.abort();
        }
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
        let body = event::body(&header, bytes, self.checksum)?;
        let start = self.advance(&header);
        match header.kind {
            code::ROTATE => {
                self.disconnected(sink).map_err(StreamError::Sink)?;
                self.rotate(body)?;
                Ok(Progress::Event)
            }
            code::HEARTBEAT | code::HEARTBEAT_V2 => {
                self.heartbeat(&header, body)?;
                Ok(Progress::Heartbeat)
            }
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

    /// Moves on to where the server is: it may have passed over much that a start by GTIDs leaves out, even 4 GiB and more, of
    /// which the headers of later events say nothing.
    fn heartbeat(&mut self, header: &Header, body: &[u8]) -> Result<(), DecodeError> {
        let heartbeat = if header.kind == code::HEARTBEAT_V2 {
            event::heartbeat_v2(body)?
        } else {
            event::heartbeat(header.end, body)?
        };
        let reached = match heartbeat.reached {
            Reached::Offset(offset) => offset,
            Reached::Low(low) => self.offset & !u64::from(u32::MAX) | u64::from(low),
            Reached::Unknown => return Ok(()),
        };
        if heartbeat.file == self.file.as_bytes() {
            self.offset = self.offset.max(reached);
        }
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

    /// Events that may also stand in a compressed transaction.
    fn inner<S: TransactionSink>(
        &mut self,
        header: &Header,
        body: &[u8],
        start: u64,
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        if let Some((kind, version, encoding)) = row_event::layout(header.kind) {
            let parsed = row_event::parse(body, kind, version, self.wide_ids)?;
            if encoding == Encoding::Compressed && self.is_large(&parsed)? {
                self.inflated_rows(header, body, sink)?;
                return Ok(Progress::Event);
            }
            self.rows(&parsed, kind, encoding, sink)?;
            return Ok(Progress::Event);
        }
        match header.kind {
            code::TABLE_MAP => self.table_map::<S>(body)?,
            code::XID => return self.commit(sink),
            code::GTID => self.open(header, event::gtid(body, true)?, start)?,
            code::ANONYMOUS_GTID => self.open(header, event::gtid(body, false)?, start)?,
            code::GTID_TAGGED => self.open(header, event::gtid_tagged(body)?, start)?,
            code::MARIA_GTID => self.open(header, event::maria_gtid(body, header.server_id)?, start)?,
            code::QUERY => {
                let query = query_event::query(body)?;
                return self.query(header, &query, start, sink);
            }
            code::MARIA_QUERY_COMPRESSED => {
                let query = query_event::query(body)?;
                let mut inflated = Vec::new();
                event::maria_inflate(query.sql, &mut inflated)?;
                let query = query_event::Query { sql: &inflated, ..query };
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
            code::STOP
            | code::INTVAR
            | code::RAND
            | code::USER_VAR
            | code::IGNORABLE
            | code::ROWS_QUERY
            | code::PREVIOUS_GTIDS
            | code::TRANSACTION_CONTEXT
            | code::VIEW_CHANGE
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

    /// Whether the rows of a compressed event are too large to be held.
    fn is_large(&self, rows: &row_event::Rows<'_>) -> Result<bool, DecodeError> {
        let (len, _) = event::maria_compressed(rows.data)?;
        Ok(usize::try_from(len).map_or(true, |len| len > self.large))
    }

    /// Whether rows read now matter: not inside a transaction that is passed over.
    fn reading(&self) -> bool {
        self.txn.as_ref().is_none_or(|txn| !txn.skip)
    }
}
