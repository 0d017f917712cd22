//! How far a partition is: the newest point with everything before it acknowledged.

use crate::position::Position;
use std::collections::VecDeque;

/// A place between rows: everything before `position`, and the first `row` rows of the transaction there.
/// Rows count before any filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Start of a transaction, or the end of what a mark covers.
    pub position: Position,
    /// Rows of it.
    pub row: u64,
}

/// Counts a partition's records out to the sink and back.
///
/// `M` is kept with each record until it is acknowledged (its transaction's header, for the checkpoint).
/// Sequence numbers are given in order; acknowledgements come in any order.
#[derive(Debug)]
pub struct Tracker<M> {
    resume: Option<Point>,
    pending: VecDeque<Entry<M>>,
    first: u64,
}

#[derive(Debug)]
struct Entry<M> {
    row: u64,
    meta: M,
    acked: bool,
}

impl<M> Tracker<M> {
    /// Goes on from `resume`; none wants every row the stream brings.
    pub fn new(resume: Option<Point>) -> Self {
        Self { resume, pending: VecDeque::new(), first: 0 }
    }

    /// Whether the row that follows `point` is still to be sent.
    pub fn wants(&self, point: Point) -> bool {
        self.resume.is_none_or(|resume| point >= resume)
    }

    /// Where to go on from: the rows before it are sent, though perhaps not acknowledged.
    pub fn resume(&self) -> Option<Point> {
        self.resume
    }

    /// The stream reached `point`: nothing before it is still to be sent, also on another stream.
    pub fn advance(&mut self, point: Point) {
        self.resume = self.resume.max(Some(point));
    }

    /// A record of row `row` goes out; gives the sequence number for [`Tracker::acked`].
    pub fn sent(&mut self, row: u64, meta: M) -> u64 {
        let seq = self.first + u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        self.pending.push_back(Entry { row, meta, acked: false });
        seq
    }

    /// The record came back; false for a number that is not outstanding.
    pub fn acked(&mut self, seq: u64) -> bool {
        let entry = seq
            .checked_sub(self.first)
            .and_then(|index| usize::try_from(index).ok())
            .and_then(|index| self.pending.get_mut(index));
        let Some(entry) = entry.filter(|entry| !entry.acked) else { return false };
        entry.acked = true;
        while self.pending.front().is_some_and(|entry| entry.acked) {
            self.pending.pop_front();
            self.first += 1;
        }
        true
    }

    /// The oldest record that is not acknowledged: its row and what was kept with it. Checkpoint there; with
    /// none outstanding, checkpoint at the later of [`Tracker::resume`] and what the stream has reached.
    pub fn oldest(&self) -> Option<(u64, &M)> {
        self.pending.front().map(|entry| (entry.row, &entry.meta))
    }

    /// Records between the oldest outstanding one and the newest.
    pub fn in_flight(&self) -> usize {
        self.pending.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// A row of a transaction some bytes further on; some rows have two records.
        Row { gap: u64, same: bool, records: u8 },
        /// Acknowledge one of the outstanding records.
        Ack(usize),
        /// A mark: the stream has read on without rows for us.
        Mark { gap: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u64..100, any::<bool>(), 1u8..3).prop_map(|(gap, same, records)| Step::Row { gap, same, records }),
            4 => any::<usize>().prop_map(Step::Ack),
            1 => (1u64..100).prop_map(|gap| Step::Mark { gap }),
        ]
    }

    fn checkpoint(tracker: &Tracker<Position>, reached: Point) -> Point {
        match tracker.oldest() {
            Some((row, position)) => Point { position: *position, row },
            None => tracker.resume().map_or(reached, |resume| resume.max(reached)),
        }
    }

    proptest! {
        #[test]
        fn never_ahead_of_acknowledgements_and_never_backwards(steps in proptest::collection::vec(step(), 1..200)) {
            let mut tracker = Tracker::new(None);
            let mut reached = Point::default();
            let mut model: Vec<(u64, Point, bool)> = Vec::new();
            let mut last = Point::default();
            for step in steps {
                match step {
                    Step::Row { gap, same, records } => {
                        let at = if same && reached.row > 0 {
                            reached
                        } else {
                            Point { position: Position::new(1, 1, reached.position.offset + gap), row: 0 }
                        };
                        prop_assert!(tracker.wants(at));
                        for _ in 0..records {
                            let seq = tracker.sent(at.row, at.position);
                            model.push((seq, at, false));
                        }
                        reached = Point { row: at.row + 1, ..at };
                    }
                    Step::Ack(pick) => {
                        let open: Vec<usize> = (0..model.len()).filter(|i| !model[*i].2).collect();
                        if !open.is_empty() {
                            let entry = &mut model[open[pick % open.len()]];
                            entry.2 = true;
                            prop_assert!(tracker.acked(entry.0));
                            prop_assert!(!tracker.acked(entry.0));
                        }
                    }
                    Step::Mark { gap } => {
                        reached = Point { position: Position::new(1, 1, reached.position.offset + gap), row: 0 };
                    }
                }
                let now = checkpoint(&tracker, reached);
                // Exactly the first point that still needs something, or all that was reached.
                let expected = model.iter().filter(|(_, _, acked)| !acked).map(|(_, at, _)| *at).min().unwrap_or(reached);
                prop_assert_eq!(now, expected);
                prop_assert!(now >= last);
                last = now;
            }
        }
    }

    #[test]
    fn another_stream_does_not_bring_rows_again_that_are_out() {
        let mut tracker = Tracker::new(None);
        let at = |offset, row| Point { position: Position::new(1, 1, offset), row };
        tracker.sent(0, ());
        tracker.advance(at(4, 1));
        assert!(!tracker.wants(at(4, 0)));
        assert!(tracker.wants(at(4, 1)));
        tracker.advance(at(2, 0));
        assert_eq!(tracker.resume(), Some(at(4, 1)));
    }
}
