//! Prepared XA branches: the seam between the decoder, which meets their rows long before they are committed, and what
//! keeps them until then.

use crate::event::{Op, RowChange};
use crate::position::Position;
use crate::schema::TableSchema;
use std::io::{self, Read as _};
use std::sync::Arc;

/// Keeps the rows of XA branches from their XA PREPARE to their XA COMMIT or XA ROLLBACK, through restarts.
///
/// The same branch may be met several times (after a restart some of the binlog is read again), and its name may be used
/// again by a later one: a branch is its name together with the position of the transaction that prepared it.
pub trait Branches: Send + Sync {
    /// Rows of this branch follow; a former unfinished one is forgotten.
    fn begin(&mut self, branch: &str, position: Position) -> io::Result<()>;
    /// The next bytes of the open branch's rows.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Forgets what was appended to the open branch behind its first `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// The open branch is prepared: from now on it survives.
    fn prepare(&mut self) -> io::Result<()>;
    /// The open branch will not come.
    fn abort(&mut self);
    /// Opens the last branch of this name that was prepared before `position`; none when there is none.
    fn open(&mut self, branch: &str, before: Position) -> io::Result<Option<Box<dyn io::Read + Send>>>;
    /// The branch that `open` gives was committed or rolled back. It must still be there when the same statement is
    /// read again soon, after a restart.
    fn finish(&mut self, branch: &str, before: Position) -> io::Result<()>;
}

/// Record that defines a schema; others are rows of the op with that number.
const SCHEMA: u8 = 0;
/// Greatest schema or image in a file of ours: `max_allowed_packet` at its greatest.
const MAX_PART: usize = 1 << 30;

/// Writes a schema's record. Rows refer to schemas by the order of these records.
pub(crate) fn put_schema(schema: &TableSchema, out: &mut Vec<u8>) {
    let bytes = schema.serialize();
    out.push(SCHEMA);
    put_len(bytes.len(), out);
    out.extend_from_slice(&bytes);
}

/// Writes a row's record.
pub(crate) fn put_row(row: &RowChange<'_>, schema: usize, out: &mut Vec<u8>) {
    out.push(code(row.op));
    put_len(schema, out);
    out.extend_from_slice(&row.key_hash_before.to_le_bytes());
    out.extend_from_slice(&row.key_hash.to_le_bytes());
    for image in [row.before, row.after] {
        put_len(image.len(), out);
        out.extend_from_slice(image);
    }
}

fn code(op: Op) -> u8 {
    match op {
        Op::Insert => 1,
        Op::Update => 2,
        Op::Delete => 3,
        Op::Read => 4,
        Op::Truncate => 5,
        Op::Ddl => 6,
    }
}

fn op(code: u8) -> Option<Op> {
    Some(match code {
        1 => Op::Insert,
        2 => Op::Update,
        3 => Op::Delete,
        4 => Op::Read,
        5 => Op::Truncate,
        6 => Op::Ddl,
        _ => return None,
    })
}

fn put_len(len: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
}

/// Reads the records of a branch, one row at a time.
pub(crate) struct Reader<R> {
    input: R,
    schemas: Vec<Arc<TableSchema>>,
    before: Vec<u8>,
    after: Vec<u8>,
}

const DAMAGED: &str = "the file of a prepared XA branch is damaged";

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, DAMAGED)
}

impl<R: io::Read> Reader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, schemas: Vec::new(), before: Vec::new(), after: Vec::new() }
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.input.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn len(&mut self) -> io::Result<usize> {
        let len = usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| damaged())?;
        if len > MAX_PART { Err(damaged()) } else { Ok(len) }
    }

    fn part(&mut self, mut into: Vec<u8>) -> io::Result<Vec<u8>> {
        let len = self.len()?;
        into.clear();
        let wanted = u64::try_from(len).map_err(|_| damaged())?;
        if (&mut self.input).take(wanted).read_to_end(&mut into)? == len { Ok(into) } else { Err(damaged()) }
    }

    /// The next row; none at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<RowChange<'_>>> {
        let op = loop {
            let mut tag = [0];
            if self.input.read(&mut tag)? == 0 {
                return Ok(None);
            }
            let [tag] = tag;
            if tag != SCHEMA {
                break op(tag).ok_or_else(damaged)?;
            }
            let bytes = self.part(Vec::new())?;
            let schema = TableSchema::parse(&bytes).map_err(|_| damaged())?;
            self.schemas.push(Arc::new(schema));
        };
        let schema = self.len()?;
        let key_hash_before = u64::from_le_bytes(self.array()?);
        let key_hash = u64::from_le_bytes(self.array()?);
        self.before = {
            let buffer = std::mem::take(&mut self.before);
            self.part(buffer)?
        };
        self.after = {
            let buffer = std::mem::take(&mut self.after);
            self.part(buffer)?
        };
        let schema = self.schemas.get(schema).ok_or_else(damaged)?;
        Ok(Some(RowChange {
            op,
            schema,
            key_hash_before,
            key_hash,
            before: &self.before,
            after: &self.after,
        }))
    }
}
