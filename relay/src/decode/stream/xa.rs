//! XA: rows wait beside the log from XA PREPARE to XA COMMIT, whose position they take.

use super::{Assembler, Branch, Counts, Progress, StreamError, Table};
use crate::decode::branch::{self, Branches};
use crate::decode::rows::{Encoding, Rows, RowsKind};
use crate::decode::{Bytes, DecodeError};
use crate::event::{RowChange, Savepoint, TransactionSink, TxnEnd, TxnStart};
use crate::position::Position;
use crate::schema::SchemaId;
use std::io;
use std::sync::Arc;

impl Assembler {
    /// Rows that follow belong to a branch.
    pub(super) fn xa_start<E>(&mut self, name: String) -> Result<(), StreamError<E>> {
        let Some(txn) = &mut self.txn else { return Ok(()) };
        txn.explicit = true;
        if self.seeking.as_ref() == Some(&name) {
            txn.skip = false;
        }
        if txn.skip {
            return Ok(());
        }
        let branches = self.branches.as_mut().ok_or_else(nowhere)?;
        branches.begin(&name, txn.start.position).map_err(StreamError::Branches)?;
        txn.branch = Some(Branch { name, schemas: Vec::new(), rows: 0, bytes: 0 });
        Ok(())
    }

    /// Puts rows of a branch aside.
    pub(super) fn branch_rows<E>(
        &mut self,
        parsed: &Rows<'_>,
        kind: RowsKind,
        encoding: Encoding,
        table: &Table,
    ) -> Result<(), StreamError<E>> {
        let taken = self.txn.as_mut().and_then(|txn| txn.branch.take()).zip(self.branches.take());
        let (branch, branches) = taken.ok_or_else(nowhere)?;
        let mut keeper = Keeper { branch, branches, buffer: Vec::new() };
        let mut scratch = std::mem::take(&mut self.scratch);
        let counts = self.counts;
        let done = self.each_row(parsed, kind, encoding, table, &mut scratch, &mut keeper);
        // They count when they are committed.
        self.counts = Counts { oversize: self.counts.oversize, ..counts };
        self.scratch = scratch;
        self.branches = Some(keeper.branches);
        if let Some(txn) = &mut self.txn {
            txn.branch = Some(keeper.branch);
        }
        done.map_err(|error| match error {
            StreamError::Decode(error) => StreamError::Decode(error),
            StreamError::Diverged { expected, found } => StreamError::Diverged { expected, found },
            StreamError::Unknown { table, position } => StreamError::Unknown { table, position },
            StreamError::Prepared { branch, before } => StreamError::Prepared { branch, before },
            StreamError::Definitions(error) => StreamError::Definitions(error),
            StreamError::Sink(error) | StreamError::Branches(error) => StreamError::Branches(error),
        })
    }

    /// `XA_PREPARE`: ends a branch's rows, and with one phase commits them.
    pub(super) fn xa_prepare<S: TransactionSink>(
        &mut self,
        body: &[u8],
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        let one_phase = Bytes::new(body, "XA prepare event").u8()? != 0;
        let prepared = self.txn.as_mut().and_then(|txn| txn.branch.take().zip(Some(txn.start.position)));
        if let Some((branch, position)) = prepared {
            let branches = self.branches.as_mut().ok_or_else(nowhere)?;
            branches.prepare().map_err(StreamError::Branches)?;
            if one_phase {
                let behind = Position { offset: position.offset.saturating_add(1), ..position };
                self.replay(&branch.name, behind, sink)?;
            }
        }
        self.commit(sink)
    }

    /// The rows of a branch, in the transaction that is open now.
    pub(super) fn xa_commit<S: TransactionSink>(
        &mut self,
        name: &str,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let position = self.txn.as_ref().map(|txn| txn.start.position).unwrap_or_default();
        self.replay(name, position, sink)
    }

    pub(super) fn xa_rollback<E>(&mut self, name: &str) -> Result<(), StreamError<E>> {
        let position = self.txn.as_ref().map(|txn| txn.start.position).unwrap_or_default();
        match &mut self.branches {
            Some(branches) => branches.finish(name, position).map_err(StreamError::Branches),
            None => Ok(()),
        }
    }

    fn replay<S: TransactionSink>(
        &mut self,
        name: &str,
        before: Position,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let branches = self.branches.as_mut().ok_or_else(nowhere)?;
        let Some(input) = branches.open(name, before).map_err(StreamError::Branches)? else {
            return Err(StreamError::Prepared { branch: name.to_owned(), before });
        };
        let mut rows = branch::Reader::new(input);
        while let Some(row) = rows.next().map_err(StreamError::Branches)? {
            self.begin(sink)?;
            sink.row(row).map_err(StreamError::Sink)?;
            self.counts.rows += 1;
        }
        let branches = self.branches.as_mut().ok_or_else(nowhere)?;
        branches.finish(name, before).map_err(StreamError::Branches)
    }
}

pub(super) fn nowhere() -> DecodeError {
    DecodeError::Unsupported(
        "XA transactions need a place for prepared branches, and this reader has none".to_owned(),
    )
}

/// Writes rows of a branch to where branches are kept.
struct Keeper {
    branch: Branch,
    branches: Box<dyn Branches>,
    buffer: Vec<u8>,
}

impl Keeper {
    fn schema(&mut self, row: &RowChange<'_>) -> usize {
        let id: SchemaId = row.schema.id;
        if let Some(index) = self.branch.schemas.iter().position(|known| *known == id) {
            return index;
        }
        branch::put_schema(row.schema, &mut self.buffer);
        self.branch.schemas.push(id);
        self.branch.schemas.len() - 1
    }
}

impl TransactionSink for Keeper {
    type Error = io::Error;

    fn begin(&mut self, _: TxnStart) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, row: RowChange<'_>) -> io::Result<()> {
        self.buffer.clear();
        let schema = self.schema(&row);
        branch::put_row(&row, schema, &mut self.buffer);
        self.branch.rows += 1;
        self.branch.bytes += u64::try_from(self.buffer.len()).unwrap_or(0);
        self.branches.append(&self.buffer)
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint { rows: self.branch.rows, bytes: self.branch.bytes }
    }

    fn roll_back(&mut self, to: Savepoint) -> io::Result<()> {
        (self.branch.rows, self.branch.bytes) = (to.rows, to.bytes);
        self.branches.truncate(to.bytes)
    }

    fn commit(&mut self, _: TxnEnd) -> io::Result<()> {
        Ok(())
    }

    fn abort(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn covered(&mut self, _: Position, _: &Arc<str>, _: i64) -> io::Result<()> {
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
