//! Savepoints that a transaction is rolled back to in the binlog itself.
//!
//! A server takes rolled back rows out of its binlog, unless the transaction also changed a table that cannot be rolled
//! back: then MariaDB leaves them in, with SAVEPOINT and ROLLBACK TO around them. Rows of the tables that cannot be rolled
//! back are no matter: they stand in transactions of their own.

use super::{Assembler, StreamError, Txn};
use crate::decode::DecodeError;
use crate::event::{Savepoint, TransactionSink};

/// The last savepoints of a transaction that are remembered.
const MAX_SAVEPOINTS: usize = 10_000;

/// A savepoint of the open transaction.
pub(super) struct Named {
    name: String,
    place: Place,
}

#[derive(Clone, Copy)]
enum Place {
    /// Before its first row of interest.
    Start,
    /// So far in the sink.
    Sink(Savepoint),
    /// So far in the XA branch, which had used so many schemas.
    Branch(Savepoint, usize),
}

/// Whether two names are the same to a server; none where that depends on its tables of letters.
fn same(a: &str, b: &str) -> Option<bool> {
    if a.eq_ignore_ascii_case(b) {
        return Some(true);
    }
    if a.chars().count() != b.chars().count() {
        return Some(false);
    }
    let mut unsure = false;
    for (a, b) in a.chars().zip(b.chars()) {
        if !a.is_ascii() || !b.is_ascii() {
            unsure |= a != b;
        } else if !a.eq_ignore_ascii_case(&b) {
            return Some(false);
        }
    }
    if unsure { None } else { Some(true) }
}

fn unclear(what: &str) -> DecodeError {
    DecodeError::Unsupported(format!(
        "a transaction was rolled back to {what}: which of its rows stand cannot be told. Begin behind it, and take a snapshot"
    ))
}

impl Txn {
    fn place<S: TransactionSink>(&self, sink: &S) -> Place {
        match &self.branch {
            Some(branch) => {
                Place::Branch(Savepoint { rows: branch.rows, bytes: branch.bytes }, branch.schemas.len())
            }
            None if self.begun => Place::Sink(sink.savepoint()),
            None => Place::Start,
        }
    }
}

impl Assembler {
    /// SAVEPOINT: a former one of this name is gone.
    pub(super) fn set_savepoint<S: TransactionSink>(&mut self, name: String, sink: &S) {
        let Some(txn) = &mut self.txn else { return };
        let place = txn.place(sink);
        // Mostly the last few: names are used in turn.
        if let Some(former) = txn.savepoints.iter().rposition(|known| same(&known.name, &name) == Some(true))
        {
            txn.savepoints.remove(former);
        }
        if txn.savepoints.len() >= MAX_SAVEPOINTS {
            txn.savepoints.remove(0);
        }
        txn.savepoints.push(Named { name, place });
    }

    /// ROLLBACK TO: rows behind the savepoint did not happen, and savepoints set behind it are gone.
    pub(super) fn roll_back_to<S: TransactionSink>(
        &mut self,
        name: &str,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let Some(txn) = &mut self.txn else { return Ok(()) };
        let candidates = txn.savepoints.iter().enumerate().filter_map(|(at, known)| {
            let same = same(&known.name, name);
            (same != Some(false)).then_some((at, same.is_some()))
        });
        let (mut found, mut count) = (None, 0);
        for (at, is_sure) in candidates {
            // Only one of several names that may be the same would be a guess.
            count += 1;
            if is_sure || found.is_none() {
                found = Some(at);
            }
        }
        let Some(at) = found else {
            return Err(unclear(&format!(
                "savepoint {name:?}, which is not among its last {MAX_SAVEPOINTS}"
            ))
            .into());
        };
        if count > 1 {
            return Err(
                unclear(&format!("savepoint {name:?}, and it has others that may have this name")).into()
            );
        }
        txn.savepoints.truncate(at + 1);
        let Some(place) = txn.savepoints.last().map(|named| named.place) else { return Ok(()) };
        match (place, &mut txn.branch) {
            (Place::Branch(to, schemas), Some(branch)) => {
                branch.schemas.truncate(schemas);
                (branch.rows, branch.bytes) = (to.rows, to.bytes);
                let branches = self.branches.as_mut().ok_or_else(super::xa::nowhere)?;
                branches.truncate(to.bytes).map_err(StreamError::Branches)
            }
            (Place::Sink(to), None) => sink.roll_back(to).map_err(StreamError::Sink),
            (Place::Start, None) if txn.begun => {
                txn.begun = false;
                sink.abort().map_err(StreamError::Sink)
            }
            (Place::Start, None) => Ok(()),
            (Place::Branch(..), None) | (Place::Start | Place::Sink(_), Some(_)) => {
                Err(DecodeError::Invalid("savepoint of an XA branch").into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::same;

    #[test]
    fn names_are_the_same_where_that_is_sure() {
        assert_eq!(same("a b", "A B"), Some(true));
        assert_eq!(same("a", "ab"), Some(false));
        assert_eq!(same("é", "é"), Some(true));
        assert_eq!(same("é", "e"), None);
        assert_eq!(same("éa", "eb"), Some(false));
    }
}
