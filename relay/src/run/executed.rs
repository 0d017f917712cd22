//! The GTIDs of all that a source's log, and this relay, has read: what another server must have to take over.

use crate::gtid::GtidSet;
use crate::log::Log;
use crate::mysql::Executed;
use crate::position::Position;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// What is kept on disk; at most each second, so a restart adds what the log has beyond it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Kept {
    executed: Executed,
    /// The last transaction in the log, looked at after `executed`.
    last: Option<Position>,
}

impl Kept {
    /// What is to be kept once the log is on disk as it is now.
    pub(super) fn of(executed: Executed, log: &Log) -> Self {
        Self { executed, last: log.state().last.map(|last| last.position) }
    }

    /// Keeps it. The log must have been synced after [`Kept::of`].
    pub(super) fn store(&self, dir: &Path) -> std::io::Result<()> {
        let (partial, whole) = (dir.join("executed.json.partial"), dir.join("executed.json"));
        std::fs::write(&partial, serde_json::to_vec(self)?)?;
        std::fs::rename(partial, whole)
    }

    /// What it says of a log that ends so.
    fn for_log(self, last: Option<Position>, covered: Position) -> Option<Executed> {
        let mut executed = self.executed;
        if executed.position > covered {
            // How far was read without a transaction is noted in the log only now and then; nothing lies between. But
            // a log that lost transactions is read again from where it ends, and they must not pass for read.
            if self.last > last {
                return None;
            }
            executed.position = covered;
        }
        Some(executed)
    }
}

/// What was kept on disk, if the log still fits it.
pub(super) fn load(dir: &Path, log: &Log) -> Option<Executed> {
    let kept: Kept = serde_json::from_slice(&std::fs::read(dir.join("executed.json")).ok()?).ok()?;
    let state = log.state();
    kept.for_log(state.last.map(|last| last.position), state.covered?.position)
}

/// The set, with the transactions that the log has behind it.
pub(super) async fn with_log(known: &Executed, log: &Log) -> Option<GtidSet> {
    let mut set: GtidSet = known.gtids.parse().ok()?;
    match log.gtids_since(known.position).await {
        Ok(gtids) => {
            for gtid in gtids {
                set.insert(&gtid);
            }
            Some(set)
        }
        Err(error) => {
            tracing::warn!(%error, "the log's transactions are not known");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_a_log_that_lost_marks_and_not_one_that_lost_transactions() {
        let at = |offset| Position::new(1, 7, offset);
        let kept = |position, last| Kept {
            executed: Executed { position: at(position), gtids: "u:1-9".to_owned() },
            last: Some(at(last)),
        };
        // The log is ahead, or says the same.
        assert_eq!(kept(500, 400).for_log(Some(at(600)), at(700)).unwrap().position, at(500));
        // The mark behind its last transaction was not yet on disk.
        assert_eq!(kept(500, 400).for_log(Some(at(400)), at(450)).unwrap().position, at(450));
        // Its last transaction was not.
        assert_eq!(kept(500, 400).for_log(Some(at(300)), at(400)), None);
        assert_eq!(kept(500, 400).for_log(None, at(4)), None);
    }
}
