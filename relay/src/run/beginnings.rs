//! What had been executed before the places where a log may come to begin: without it nobody can tell whether what a GTID
//! set lacks is in the log, or older.

use super::kept;
use crate::event::Executed;
use crate::log::Log;
use std::path::Path;

const FILE: &str = "beginnings.json";

/// What was read, in GTIDs, once a segment of the log.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    known: Vec<Executed>,
    /// The segment that was written to when the last one was noted.
    segment: Option<u64>,
    /// It is on disk like this.
    stored: bool,
}

impl Beginnings {
    pub(super) fn load(dir: &Path) -> Self {
        Self { known: kept::read(dir, FILE).unwrap_or_default(), segment: None, stored: true }
    }

    /// All that is known, oldest first.
    pub(super) fn known(&self) -> &[Executed] {
        &self.known
    }

    /// Looks at where the log begins and ends now.
    pub(super) fn note(&mut self, executed: Option<Executed>, log: &Log) {
        let (state, before) = (log.state(), self.known.len());
        if let Some(lowest) = state.lowest.as_ref().filter(|lowest| !log.is_first(lowest)) {
            self.known.retain(|known| known.position >= lowest.position);
        }
        self.stored &= self.known.len() == before;
        let Some(executed) = executed else { return };
        let segment = state.tail.map(|tail| tail.segment);
        let is_later = self.known.last().is_none_or(|last| last.position < executed.position);
        if is_later && (self.known.is_empty() || segment.is_some() && self.segment != segment) {
            self.known.push(executed);
            (self.segment, self.stored) = (segment, false);
        }
    }

    /// What is not on disk goes there.
    pub(super) fn store(&mut self, dir: &Path) -> std::io::Result<()> {
        if !self.stored {
            kept::write(dir, FILE, &self.known)?;
            self.stored = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{TransactionSink as _, TxnEnd, TxnStart};
    use crate::log::Options;
    use crate::position::Position;

    #[test]
    fn each_place_where_the_log_may_begin_has_one() {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 500, ..Options::new(dir.path().join("log"), 2000, u64::MAX) };
        let (log, mut writer) = Log::open(options).unwrap();
        let mut beginnings = Beginnings::load(dir.path());
        for number in 1..100u64 {
            let start = TxnStart {
                position: Position::new(1, 1, number * 100),
                file_name: "b.000001".into(),
                gtid: None,
                server_id: 1,
                commit_time_us: 1,
            };
            writer.begin(start).unwrap();
            writer.commit(TxnEnd { end_offset: number * 100 + 100 }).unwrap();
            writer.flush().unwrap();
            let position = Position::new(1, 1, number * 100 + 100);
            let executed = Executed { position, gtids: format!("u:1-{number}") };
            beginnings.note(Some(executed.clone()), &log);
            beginnings.store(dir.path()).unwrap();
            beginnings.note(Some(executed), &log);
            assert!(beginnings.stored, "nothing new");
            log.evict(0).unwrap();
        }
        beginnings.note(None, &log);
        let lowest = log.state().lowest.unwrap().position;
        let known = beginnings.known().to_vec();
        assert!(known.len() > 2 && known.len() < 20, "{known:?}");
        assert!(known.first().unwrap().position >= lowest, "nothing of what is gone");
        assert!(known.first().unwrap().position.offset < lowest.offset + 1000, "one near the beginning");
        beginnings.store(dir.path()).unwrap();
        assert_eq!(Beginnings::load(dir.path()).known(), known);
    }
}
