//! What the binlog decoder hands to the event log, one call a thing: the seam between [`crate::mysql`]
//! (or `tail`) and [`crate::log`].

use crate::position::Position;
use crate::schema::TableSchema;
use std::sync::Arc;

/// What happened to a row, or to a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// A row came; only `after`.
    Insert = 1,
    /// A row changed; `before` and `after`.
    Update = 2,
    /// A row went; only `before`.
    Delete = 3,
    /// A row read by a snapshot; only `after`.
    Read = 4,
    /// All rows of the table went; `after` holds a [`Statement`].
    Truncate = 5,
    /// A data definition statement; `after` holds a [`Statement`].
    Ddl = 6,
}

impl Op {
    /// Whether it stands for a statement and not for a row.
    pub fn is_statement(self) -> bool {
        matches!(self, Self::Ddl | Self::Truncate)
    }
}

/// The beginning of a transaction, known when its first event is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnStart {
    /// Start of the transaction's first event.
    pub position: Position,
    /// The binlog file's whole name, `mysql-bin.000003`.
    pub file_name: Arc<str>,
    /// The GTID as the server writes it (`uuid:n`, `uuid:tag:n`, or MariaDB's `0-1-42`), when the
    /// server assigns one.
    pub gtid: Option<String>,
    /// The `server_id` that first wrote the transaction.
    pub server_id: u32,
    /// When it was committed, microseconds since 1970 UTC. MySQL 8 gives microseconds; elsewhere
    /// whole seconds.
    pub commit_time_us: i64,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxnEnd {
    /// Offset just behind the transaction's last event, in the same file.
    pub end_offset: u64,
}

/// One row's change inside a transaction.
#[derive(Clone, Copy, Debug)]
pub struct RowChange<'a> {
    /// What happened.
    pub op: Op,
    /// The table as its table map described it; for `Ddl` and `Truncate` one without columns.
    pub schema: &'a Arc<TableSchema>,
    /// xxh3 of table and key values before the change; equals `key_hash` unless the key changed.
    pub key_hash_before: u64,
    /// xxh3 of table and key values as canonical text (`crate::decode::key`); see the partition rule there.
    pub key_hash: u64,
    /// The old row image as the server sent it: present-columns bitmap, null bitmap, values. Empty when
    /// there is none.
    pub before: &'a [u8],
    /// The new row image, likewise.
    pub after: &'a [u8],
}

impl RowChange<'_> {
    /// Whether an update gave the row another key. Readers then get two changes: [`RowChange::old_row`] goes and
    /// [`RowChange::new_row`] comes.
    pub fn changes_key(&self) -> bool {
        self.op == Op::Update && self.key_hash_before != self.key_hash
    }

    /// The delete of the row under its old key.
    #[must_use]
    pub fn old_row(self) -> Self {
        Self { op: Op::Delete, after: &[], key_hash: self.key_hash_before, ..self }
    }

    /// The insert of the row under its new key.
    #[must_use]
    pub fn new_row(self) -> Self {
        Self { op: Op::Insert, before: &[], key_hash_before: self.key_hash, ..self }
    }
}

/// What of a source was read, in GTIDs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Executed {
    /// A point between transactions.
    pub position: Position,
    /// The GTIDs of everything before it, wanted or not.
    pub gtids: String,
}

/// A place in an open transaction, as its sink tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Savepoint {
    /// Rows before it.
    pub rows: u64,
    /// Bytes before it, where the sink counts them.
    pub bytes: u64,
}

/// Takes transactions in commit order, whole. [`crate::log::Writer`] keeps them on disk; `tail` prints them.
pub trait TransactionSink {
    /// What can go wrong while writing.
    type Error: std::error::Error + Send + Sync + 'static;

    /// A transaction begins. Nothing of it may be seen by readers before `commit`.
    fn begin(&mut self, start: TxnStart) -> Result<(), Self::Error>;
    /// The next row of the open transaction.
    fn row(&mut self, row: RowChange<'_>) -> Result<(), Self::Error>;
    /// Where the open transaction is now.
    fn savepoint(&self) -> Savepoint;
    /// The rows of the open transaction behind this place did not happen: forget them.
    fn roll_back(&mut self, to: Savepoint) -> Result<(), Self::Error>;
    /// The open transaction is whole.
    fn commit(&mut self, end: TxnEnd) -> Result<(), Self::Error>;
    /// The open transaction will not come (the connection was lost inside it): forget its rows.
    fn abort(&mut self) -> Result<(), Self::Error>;
    /// The source is read up to here although no transaction of interest came: idle progress.
    /// `position.offset` is the end offset of the last event read; `file_name` the whole name of that file. Called
    /// once at the very start of an empty log too, so that the log knows where it begins.
    fn covered(
        &mut self,
        position: Position,
        file_name: &Arc<str>,
        commit_time_us: i64,
    ) -> Result<(), Self::Error>;
    /// The input has run dry for now: publish what is whole.
    fn flush(&mut self) -> Result<(), Self::Error>;
    /// Reading begins, and `known` is at or before where it does: what was executed before the transactions to come.
    /// Not called where the server has no such sets.
    fn executed(&mut self, known: &Executed) -> Result<(), Self::Error> {
        let _: &Executed = known;
        Ok(())
    }
}

/// A DDL or TRUNCATE statement as it travels in a row's `after` image.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Statement {
    /// The default database of the session that ran it.
    pub database: String,
    /// The table it names, where the classifier could tell.
    pub table: Option<String>,
    /// The statement as the server logged it, invalid UTF-8 replaced.
    pub sql: String,
}

/// A whole transaction's header, as readers of the log see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxnHeader {
    /// Where and when.
    pub start: TxnStart,
    /// Offset just behind its last event.
    pub end_offset: u64,
    /// Its rows, counted before any filter of a stream; of a snapshot [`TxnHeader::UNKNOWN_ROWS`] until its last row.
    pub rows: u64,
}

impl TxnHeader {
    /// There are more, and nobody knows yet how many.
    pub const UNKNOWN_ROWS: u64 = u64::MAX;
}
