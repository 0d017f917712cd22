//! The GTIDs of all that a source's log, and this relay, has read: what another server must have to take over.

use super::kept;
use crate::event::{Executed, RowChange, Savepoint, TransactionSink, TxnEnd, TxnStart};
use crate::gtid::GtidSet;
use crate::log::{Log, LogError, Writer};
use crate::position::Position;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const FILE: &str = "executed.json";

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
        kept::write(dir, FILE, self)
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
    let kept: Kept = kept::read(dir, FILE)?;
    let state = log.state();
    kept.for_log(state.last.map(|last| last.position), state.covered?.position)
}

/// The log's writer, which sees to it that the set is on disk before the first transaction is in the log: a relay that
/// is killed at once must not forget what it has served.
pub(super) struct Keeping<'a> {
    pub(super) writer: &'a mut Writer,
    /// Where the set is kept.
    pub(super) dir: &'a Path,
    /// Set while the log is written: a panic then leaves behind what nobody has looked at.
    pub(super) writing: &'a AtomicBool,
    /// Hears of the set before anything is read.
    pub(super) noted: &'a (dyn Fn(&Executed) + Sync),
}

impl Keeping<'_> {
    fn write<T>(&mut self, step: impl FnOnce(&mut Writer) -> T) -> T {
        self.writing.store(true, Ordering::Relaxed);
        let done = step(self.writer);
        self.writing.store(false, Ordering::Relaxed);
        done
    }
}

impl TransactionSink for Keeping<'_> {
    type Error = LogError;

    fn executed(&mut self, known: &Executed) -> Result<(), LogError> {
        (self.noted)(known);
        let log = self.writer.log();
        if load(self.dir, log).is_some() {
            return Ok(());
        }
        let failed = |error| LogError::Io { action: "write", path: self.dir.join(FILE), error };
        Kept::of(known.clone(), log).store(self.dir).map_err(failed)
    }

    fn begin(&mut self, start: TxnStart) -> Result<(), LogError> {
        self.write(|writer| writer.begin(start))
    }

    fn row(&mut self, row: RowChange<'_>) -> Result<(), LogError> {
        self.write(|writer| writer.row(row))
    }

    fn savepoint(&self) -> Savepoint {
        self.writer.savepoint()
    }

    fn roll_back(&mut self, to: Savepoint) -> Result<(), LogError> {
        self.write(|writer| writer.roll_back(to))
    }

    fn commit(&mut self, end: TxnEnd) -> Result<(), LogError> {
        self.write(|writer| writer.commit(end))
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.write(Writer::abort)
    }

    fn covered(&mut self, position: Position, file: &Arc<str>, commit_time_us: i64) -> Result<(), LogError> {
        self.write(|writer| writer.covered(position, file, commit_time_us))
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.write(Writer::flush)
    }
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
    use crate::log::Options;

    #[tokio::test]
    async fn it_is_on_disk_before_the_first_transaction() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::new(dir.path().to_owned(), u64::MAX, u64::MAX);
        let (log, mut writer) = Log::open(options.clone()).unwrap();
        let writing = AtomicBool::new(false);
        let noted = |_: &Executed| {};
        let mut sink = Keeping { writer: &mut writer, dir: dir.path(), writing: &writing, noted: &noted };
        let uuid = "8df73393-e6c3-11f1-8c4b-96b1c9bb65cd";
        let known = Executed { position: Position::new(1, 7, 4), gtids: format!("{uuid}:1-9") };
        sink.executed(&known).unwrap();
        let file: Arc<str> = "binlog.000007".into();
        sink.covered(known.position, &file, 0).unwrap();
        let start = TxnStart {
            position: Position::new(1, 7, 200),
            file_name: file,
            gtid: Some(format!("{uuid}:10")),
            server_id: 1,
            commit_time_us: 0,
        };
        sink.begin(start).unwrap();
        sink.commit(TxnEnd { end_offset: 300 }).unwrap();
        sink.flush().unwrap();
        drop((log, writer));

        let (log, _writer) = Log::open(options).unwrap();
        let kept = load(dir.path(), &log).unwrap();
        assert_eq!(with_log(&kept, &log).await.unwrap().to_string(), format!("{uuid}:1-10"));
    }

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
