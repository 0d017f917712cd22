//! Prints whole transactions, one row a line.

use super::checkpoint::Checkpoint;
use super::out::Out;
use crate::decode::DecodeError;
use crate::event::{Op, RowChange, Savepoint, TransactionSink, TxnEnd, TxnHeader, TxnStart};
use crate::format::RowContext;
use crate::mysql::{LastTransaction, StatusCell};
use crate::position::Position;
use crate::schema::TableSchema;
use crate::sink::Failure;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows of an open transaction held in memory; more go to a temporary file.
const MAX_MEMORY: usize = 32 << 20;
/// Between writes of the checkpoint file.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);

/// What can go wrong while printing.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Sink(#[from] Failure),
    /// No error: told to end while something had to be waited for.
    #[error("told to end")]
    Ended,
}

/// Whether an error of the output is none: its reader has gone, or it was told to end.
pub(super) fn is_end(error: &(dyn std::error::Error + 'static)) -> bool {
    match error.downcast_ref::<PrintError>() {
        Some(PrintError::Io(error)) => error.kind() == io::ErrorKind::BrokenPipe,
        Some(PrintError::Ended) => true,
        _ => false,
    }
}

/// The rows of a transaction until its number of rows is known.
#[derive(Default)]
struct Pending {
    start: Option<TxnStart>,
    schemas: Vec<Arc<TableSchema>>,
    rows: u64,
    memory: Vec<u8>,
    spilled: Option<File>,
    /// Bytes of that.
    spilled_bytes: u64,
}

pub(super) struct Printer {
    out: Box<dyn Out + Send>,
    source: String,
    checkpoint: Option<PathBuf>,
    status: Arc<StatusCell>,
    pending: Pending,
    place: Checkpoint,
    stored_at: Option<Instant>,
    dirty: bool,
}

impl Printer {
    pub(super) fn new(
        out: Box<dyn Out + Send>,
        source: String,
        checkpoint: Option<PathBuf>,
        status: Arc<StatusCell>,
    ) -> Self {
        Self {
            out,
            source,
            checkpoint,
            status,
            pending: Pending::default(),
            place: Checkpoint {
                server_uuid: String::new(),
                after: None,
                covered: None,
                snapshot_unfinished: false,
            },
            stored_at: None,
            dirty: false,
        }
    }

    /// Writes what is left, and the place.
    pub(super) fn finish(&mut self) -> Result<(), PrintError> {
        self.store_place()
    }

    /// Keeps the place, once all rows before it are where they should be.
    fn store_place(&mut self) -> Result<(), PrintError> {
        if !self.out.settle()? {
            return Ok(());
        }
        let Some(path) = self.checkpoint.as_ref().filter(|_| self.dirty) else { return Ok(()) };
        self.place.server_uuid = self.status.get().server.map(|s| s.server_uuid).unwrap_or_default();
        self.place.store(path)?;
        self.dirty = false;
        self.stored_at = Some(Instant::now());
        Ok(())
    }

    /// Rows of a snapshot come: until they are all shown there is no place to go on from.
    pub(super) fn begin_snapshot(&mut self) -> Result<(), PrintError> {
        self.place.snapshot_unfinished = true;
        self.dirty = true;
        self.store_place()
    }

    /// Shows a row of a snapshot.
    pub(super) fn read(
        &mut self,
        header: &TxnHeader,
        row: u64,
        change: &RowChange<'_>,
        server_uuid: &str,
    ) -> Result<(), PrintError> {
        let context = RowContext {
            source: &self.source,
            txn: header,
            row,
            change: *change,
            server_uuid,
            snapshot: true,
        };
        self.out.row(&context)
    }

    /// All rows of a snapshot are shown.
    pub(super) fn end_snapshot(&mut self, place: Position) -> Result<(), PrintError> {
        self.place.snapshot_unfinished = false;
        self.place.covered = Some(place);
        self.dirty = true;
        self.store_place()
    }

    fn print(&mut self, header: &TxnHeader, rows: &mut dyn Read) -> Result<(), PrintError> {
        let server_uuid = self.status.get().server.map(|s| s.server_uuid).unwrap_or_default();
        let mut images = Vec::new();
        for row in 0..header.rows {
            let record = Record::read(rows, &mut images)?;
            let (before, after) = images.split_at_checked(record.before).unwrap_or((&images, &[]));
            let Some(schema) = self.pending.schemas.get(record.schema) else {
                return Err(io::Error::from(io::ErrorKind::InvalidData).into());
            };
            let change = RowChange { op: record.op, schema, key_hash_before: 0, key_hash: 0, before, after };
            // As consumers deliver it: a changed key is a row that goes and a row that comes.
            let changes: &[RowChange<'_>] =
                if record.changes_key { &[change.old_row(), change.new_row()] } else { &[change] };
            for change in changes {
                let context = RowContext {
                    source: &self.source,
                    txn: header,
                    row,
                    change: *change,
                    server_uuid: &server_uuid,
                    snapshot: false,
                };
                self.out.row(&context)?;
            }
        }
        Ok(())
    }
}

/// The front of a row in `Pending`.
struct Record {
    op: Op,
    changes_key: bool,
    schema: usize,
    before: usize,
}

/// Stands for an update that changes the key.
const KEY_CHANGE: u8 = 7;
const RECORD_LEN: usize = 13;

impl Record {
    fn write(op: Op, schema: usize, row: &RowChange<'_>, out: &mut Vec<u8>) -> io::Result<()> {
        let op: u8 = match op {
            Op::Insert => 1,
            Op::Update if row.changes_key() => KEY_CHANGE,
            Op::Update => 2,
            Op::Delete => 3,
            Op::Read => 4,
            Op::Truncate => 5,
            Op::Ddl => 6,
        };
        out.push(op);
        for number in [schema, row.before.len(), row.after.len()] {
            let number = u32::try_from(number).map_err(io::Error::other)?;
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(row.before);
        out.extend_from_slice(row.after);
        Ok(())
    }

    fn read(input: &mut dyn Read, images: &mut Vec<u8>) -> io::Result<Self> {
        let mut head = [0u8; RECORD_LEN];
        input.read_exact(&mut head)?;
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let (op, numbers) = head.split_first().ok_or_else(invalid)?;
        let mut numbers = numbers.as_chunks::<4>().0.iter().map(|n| u32::from_le_bytes(*n));
        let mut number = || usize::try_from(numbers.next().unwrap_or(0)).map_err(io::Error::other);
        let (schema, before, after) = (number()?, number()?, number()?);
        let changes_key = *op == KEY_CHANGE;
        let op = match *op {
            1 => Op::Insert,
            2 | KEY_CHANGE => Op::Update,
            3 => Op::Delete,
            4 => Op::Read,
            5 => Op::Truncate,
            6 => Op::Ddl,
            _ => return Err(invalid()),
        };
        images.resize(before + after, 0);
        input.read_exact(images)?;
        Ok(Self { op, changes_key, schema, before })
    }
}

fn count(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A file that vanishes with the process.
fn temporary_file() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("aesop-tail-{}", uuid::Uuid::new_v4()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

impl TransactionSink for Printer {
    type Error = PrintError;

    fn begin(&mut self, start: TxnStart) -> Result<(), PrintError> {
        self.pending = Pending { start: Some(start), ..Pending::default() };
        Ok(())
    }

    fn row(&mut self, row: RowChange<'_>) -> Result<(), PrintError> {
        let pending = &mut self.pending;
        // The last table is the likeliest.
        let known = pending.schemas.iter().rposition(|schema| Arc::ptr_eq(schema, row.schema));
        let schema = known.unwrap_or_else(|| {
            pending.schemas.push(Arc::clone(row.schema));
            pending.schemas.len() - 1
        });
        Record::write(row.op, schema, &row, &mut pending.memory)?;
        pending.rows += 1;
        if pending.memory.len() > MAX_MEMORY {
            let file = match &mut pending.spilled {
                Some(file) => file,
                none => none.insert(temporary_file()?),
            };
            file.write_all(&pending.memory)?;
            pending.spilled_bytes += count(pending.memory.len());
            pending.memory.clear();
        }
        Ok(())
    }

    fn savepoint(&self) -> Savepoint {
        let Pending { rows, memory, spilled_bytes, .. } = &self.pending;
        Savepoint { rows: *rows, bytes: spilled_bytes + count(memory.len()) }
    }

    fn roll_back(&mut self, to: Savepoint) -> Result<(), PrintError> {
        let pending = &mut self.pending;
        pending.rows = to.rows;
        match (to.bytes.checked_sub(pending.spilled_bytes), &mut pending.spilled) {
            (None, Some(file)) => {
                file.set_len(to.bytes)?;
                file.seek(SeekFrom::Start(to.bytes))?;
                pending.spilled_bytes = to.bytes;
                pending.memory.clear();
            }
            (in_memory, _) => {
                pending.memory.truncate(usize::try_from(in_memory.unwrap_or(0)).unwrap_or(usize::MAX));
            }
        }
        Ok(())
    }

    fn commit(&mut self, end: TxnEnd) -> Result<(), PrintError> {
        let Some(start) = self.pending.start.take() else { return Ok(()) };
        let header = TxnHeader { start, end_offset: end.end_offset, rows: self.pending.rows };
        let memory = std::mem::take(&mut self.pending.memory);
        match self.pending.spilled.take() {
            Some(mut file) => {
                file.seek(SeekFrom::Start(0))?;
                self.print(&header, &mut BufReader::new(file).chain(memory.as_slice()))?;
            }
            None => self.print(&header, &mut memory.as_slice())?,
        }
        self.pending = Pending { memory, ..Pending::default() };
        self.pending.memory.clear();
        self.place.after = Some(LastTransaction {
            position: header.start.position,
            file_name: header.start.file_name.to_string(),
            gtid: header.start.gtid,
        });
        self.dirty = true;
        Ok(())
    }

    fn abort(&mut self) -> Result<(), PrintError> {
        self.pending = Pending::default();
        Ok(())
    }

    fn covered(
        &mut self,
        position: Position,
        _file_name: &Arc<str>,
        _commit_time_us: i64,
    ) -> Result<(), PrintError> {
        if self.place.covered != Some(position) && position.file > 0 {
            self.place.covered = Some(position);
            self.dirty = true;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PrintError> {
        self.out.flush()?;
        let due = self.stored_at.is_none_or(|at| at.elapsed() >= CHECKPOINT_EVERY);
        if due && self.dirty && self.checkpoint.is_some() {
            self.store_place()?;
        }
        Ok(())
    }
}
