//! What was served of an epoch, put together from what relays and groups say.

use crate::gtid::GtidSet;
use crate::position::Position;
use crate::zk::types::Checkpoint;

/// What was served of an epoch.
pub(super) struct Served {
    pub(super) gtids: GtidSet,
    /// Where it ends.
    pub(super) end: Option<Position>,
}

impl Served {
    /// Adds what a relay has read.
    pub(super) fn add(&mut self, gtids: &str, end: Position) {
        // Whoever wrote it has parsed it.
        if let Ok(gtids) = gtids.parse() {
            self.gtids.add(&gtids);
            self.end = self.end.max(Some(end));
        }
    }

    /// Adds what a checkpoint says was served, by a relay that died before it could say so. An error says what of it is
    /// not known.
    pub(super) fn delivered(&mut self, checkpoint: &Checkpoint, server_uuid: &str) -> Result<(), String> {
        let Position { offset, .. } = checkpoint.position;
        let gtid = checkpoint.gtid.as_deref().filter(|_| checkpoint.rows > 0);
        if gtid.is_some_and(|gtid| self.gtids.contains(gtid))
            || self.end.is_some_and(|end| checkpoint.position < end)
            || checkpoint.rows == 0 && self.end == Some(checkpoint.position)
        {
            return Ok(());
        }
        match gtid {
            Some(gtid) if self.gtids.add_up_to(gtid, server_uuid) => {
                // One that is done in part is not done.
                let end = checkpoint.end_offset.max(offset.saturating_add(1));
                self.end = Some(Position { offset: end, ..checkpoint.position });
                Ok(())
            }
            Some(gtid) => Err(gtid.to_owned()),
            None => Err(checkpoint.position.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: &str = "8df73393-e6c3-11f1-8c4b-96b1c9bb65cd";

    fn checkpoint(offset: u64, rows: u64, end_offset: u64, gtid: Option<u64>) -> Checkpoint {
        let gtid = gtid.map(|number| format!("{SERVER}:{number}"));
        Checkpoint { position: Position::new(1, 7, offset), rows, end_offset, gtid, ..Checkpoint::default() }
    }

    #[test]
    fn what_a_dead_relay_served_is_told_by_checkpoints_or_not_at_all() {
        let end = Position::new(1, 7, 500);
        let served = || Served { gtids: format!("{SERVER}:1-5").parse().unwrap(), end: Some(end) };
        let after = |checkpoint: &Checkpoint| {
            let mut served = served();
            served
                .delivered(checkpoint, SERVER)
                .map(|()| (served.gtids.to_string(), served.end.unwrap().offset))
        };
        // Nothing new: inside what is known, at its end by a mark, or behind its last transaction.
        let same = Ok((format!("{SERVER}:1-5"), 500));
        assert_eq!(after(&checkpoint(300, 2, 400, Some(4))), same);
        assert_eq!(after(&checkpoint(500, 0, 500, Some(3))), same);
        assert_eq!(after(&checkpoint(450, 2, 500, Some(5))), same);
        // A transaction more, and two, done whole or in part.
        assert_eq!(after(&checkpoint(500, 2, 600, Some(6))), Ok((format!("{SERVER}:1-6"), 600)));
        assert_eq!(after(&checkpoint(600, 1, 600, Some(7))), Ok((format!("{SERVER}:1-7"), 601)));
        // A mark further on does not say of what.
        assert_eq!(after(&checkpoint(600, 0, 600, Some(5))), Err("1:7:600".to_owned()));
        // Nor does a transaction that the server took over from another.
        let mut foreign = checkpoint(600, 1, 700, None);
        foreign.gtid = Some("3e11fa47-71ca-11e1-9e33-c80aa9429562:9".to_owned());
        assert_eq!(after(&foreign), Err("3e11fa47-71ca-11e1-9e33-c80aa9429562:9".to_owned()));
    }
}
