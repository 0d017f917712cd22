//! Where in a log a time or a GTID set ends.

use super::{Log, LogState, ReadError};
use crate::event::Executed;
use crate::gtid::GtidSet;
use crate::position::Position;
use crate::wire::frame::StartFrom;
use std::collections::HashMap;

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Reading begins here.
    At(Position),
    /// It may be older than the log.
    Older,
}

/// None for what is no set, or has holes: what lies in a hole may be older than any log.
fn whole(text: &str) -> Option<GtidSet> {
    let set: GtidSet = text.parse().ok()?;
    let whole = set.parts().all(|(_, _, intervals)| matches!(intervals, [(1, _)]));
    (whole && !set.is_empty()).then_some(set)
}

/// What was executed before the beginning of a log, and perhaps a little more.
#[derive(Debug)]
struct Before {
    /// Before this place, which is near the beginning.
    at: Position,
    all: GtidSet,
    /// Of that, in the log.
    inside: GtidSet,
    /// The first of each domain in the log.
    first: HashMap<u32, u64>,
}

impl Before {
    /// From what is known of some places: the first in the log; or, while it was never shortened, the last before it.
    fn of(read: &[Executed], log: &Log, state: &LogState) -> Option<Self> {
        let lowest = state.lowest.as_ref()?;
        let whole = log.is_first(lowest);
        let known = read
            .iter()
            .rev()
            .find(|known| whole && known.position <= lowest.position)
            .or_else(|| read.iter().find(|known| known.position >= lowest.position))?;
        let all = known.gtids.parse().ok()?;
        Some(Self { at: known.position, all, inside: GtidSet::default(), first: HashMap::new() })
    }

    /// A transaction of the log.
    fn pass(&mut self, position: Position, gtid: &str) {
        if position >= self.at {
            return;
        }
        match maria(gtid) {
            Some((domain, number)) => {
                self.first.entry(domain).or_insert(number);
            }
            None => {
                self.inside.insert(gtid);
            }
        }
    }

    /// Whether all of it that is not in the log is in a set.
    fn is_in(&self, set: &GtidSet) -> bool {
        let has = |(domain, last): (u32, u64)| {
            let last = self.first.get(&domain).map_or(last, |first| first.saturating_sub(1));
            last == 0 || set.domains().any(|(known, number)| known == domain && number >= last)
        };
        let left = self.all.minus(&self.inside).minus(set);
        left.parts().next().is_none() && self.all.domains().all(has)
    }
}

/// Domain and number of MariaDB's `domain-server-number`.
fn maria(gtid: &str) -> Option<(u32, u64)> {
    let mut fields = gtid.split('-');
    let (domain, _server, number) = (fields.next()?, fields.next()?, fields.next()?);
    Some((domain.parse().ok()?, number.parse().ok()?))
}

impl Log {
    /// The first transaction committed at `time_us` or later (microseconds since 1970 UTC), or the log's end. Waits until
    /// the log has begun.
    pub async fn find_time(&self, time_us: i64) -> Result<Found, ReadError> {
        let state = self.begun().await;
        let (Some(lowest), Some(covered)) = (&state.lowest, &state.covered) else { return Ok(Found::Older) };
        if lowest.commit_time_us > time_us || lowest.commit_time_us == 0 {
            return Ok(Found::Older);
        }
        let from = {
            let segments = self.segments();
            let newest = segments.last_key_value().map(|(_, segment)| segment.begin().position);
            let first = segments.values().find(|segment| segment.newest_us() >= time_us);
            first.map(|segment| segment.begin().position).or(newest).unwrap_or(lowest.position)
        };
        let mut reader = self.reader(StartFrom::Position { position: from, rows: 0 });
        while let Some(block) = reader.try_next(&state).await? {
            if block.header().commit_time_us < time_us {
                continue;
            }
            let transactions = block.transactions().map_err(|error| reader.damaged(error))?;
            if let Some((position, ..)) = transactions.into_iter().find(|(.., time)| *time >= time_us) {
                return Ok(Found::At(position));
            }
        }
        Ok(Found::At(covered.position))
    }

    /// The first transaction that is not in the set, if everything before the log is in it: what a server had executed at
    /// some moment. `read` is what is known to have been executed before some places, oldest first. Waits until the log has
    /// begun.
    pub async fn find_gtids(&self, set: &str, read: &[Executed]) -> Result<Found, ReadError> {
        let state = self.begun().await;
        let (Some(known), Some(covered), Some(mut before)) =
            (whole(set), &state.covered, Before::of(read, self, &state))
        else {
            return Ok(Found::Older);
        };
        let mut reader = self.reader(StartFrom::Earliest);
        let mut found = None;
        'log: while let Some(block) = reader.try_next(&state).await? {
            for (position, gtid, _) in block.transactions().map_err(|error| reader.damaged(error))? {
                if found.is_some() && position >= before.at {
                    break 'log;
                }
                // Without one it may be anywhere.
                let Some(gtid) = gtid else { return Ok(Found::Older) };
                before.pass(position, gtid);
                if !known.contains(gtid) {
                    found.get_or_insert(position);
                }
            }
        }
        Ok(if before.is_in(&known) { Found::At(found.unwrap_or(covered.position)) } else { Found::Older })
    }

    /// The state, once there is something in it.
    async fn begun(&self) -> LogState {
        let mut watch = self.watch();
        // The log outlives its searchers' wish to wait.
        let state = watch.wait_for(|state| state.covered.is_some()).await.ok().map(|state| state.clone());
        match state {
            Some(state) => state,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{TransactionSink as _, TxnEnd, TxnStart};
    use crate::log::{Options, Writer};

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    const B: &str = "4e11fa47-71ca-11e1-9e33-c80aa9429562";

    fn at(number: u64) -> Position {
        Position::new(1, 3, number * 100)
    }

    /// A log of these transactions, the first at 1.
    fn log(dir: &std::path::Path, gtids: &[String]) -> (Log, Writer) {
        let (log, mut writer) = Log::open(Options::new(dir.to_owned(), u64::MAX, u64::MAX)).unwrap();
        for (gtid, number) in gtids.iter().zip(1..) {
            let start = TxnStart {
                position: at(number),
                file_name: "b.000003".into(),
                gtid: Some(gtid.clone()),
                server_id: 1,
                commit_time_us: 1,
            };
            writer.begin(start).unwrap();
            writer.commit(TxnEnd { end_offset: at(number + 1).offset }).unwrap();
        }
        writer.flush().unwrap();
        (log, writer)
    }

    #[tokio::test]
    async fn what_a_set_lacks_is_in_the_log_or_the_log_is_not_the_place() {
        let dir = tempfile::tempdir().unwrap();
        let gtids =
            [format!("{A}:6"), format!("{B}:4"), format!("{A}:blue:1"), format!("{A}:7"), format!("{B}:5")];
        let (log, _writer) = log(dir.path(), &gtids);
        // Before the log, and before its third transaction.
        let before = |number, gtids: String| Executed { position: at(number), gtids };
        let at_begin = before(1, format!("{A}:1-5,{B}:1-3,{B}:red:1-2"));
        let later = before(3, format!("{A}:1-6,{B}:1-4,{B}:red:1-2"));
        for read in [
            std::slice::from_ref(&at_begin),
            std::slice::from_ref(&later),
            &[at_begin.clone(), later.clone()],
        ] {
            let find = async |set: &str| log.find_gtids(set, read).await.unwrap();
            let of = |a, b, red: &str| format!("{A}:1-{a},{B}:1-{b}{red}");
            let red = format!(",{B}:red:1-2");
            assert_eq!(find(&of(5, 3, &red)).await, Found::At(at(1)));
            assert_eq!(find(&of(6, 3, &red)).await, Found::At(at(2)));
            assert_eq!(find(&of(6, 4, &red)).await, Found::At(at(3)));
            assert_eq!(find(&format!("{},{A}:blue:1", of(6, 4, &red))).await, Found::At(at(4)));
            assert_eq!(find(&format!("{},{A}:blue:1", of(7, 5, &red))).await, Found::At(at(6)));
            // A whole server, or a tag, is not in the set, or not up to the log's beginning.
            for older in [
                format!("{A}:1-6"),
                of(6, 4, ""),
                of(6, 2, &red),
                of(6, 4, &format!(",{B}:red:1")),
                of(4, 4, &red),
            ] {
                assert_eq!(find(&older).await, Found::Older, "{older}");
            }
            assert_eq!(find("0-1-7").await, Found::Older);
        }
        // Nobody knows what was before.
        assert_eq!(log.find_gtids(&at_begin.gtids, &[]).await.unwrap(), Found::Older);
    }

    #[tokio::test]
    async fn a_domain_that_a_set_lacks_is_older_too() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _writer) = log(dir.path(), &["0-1-6", "7-2-1", "0-1-7", "3-1-9"].map(str::to_owned));
        let at_begin = Executed { position: at(1), gtids: "0-1-5,3-1-8,4-1-2".to_owned() };
        let later = Executed { position: at(3), gtids: "0-1-6,3-1-8,4-1-2,7-2-1".to_owned() };
        for read in [at_begin, later] {
            let find = async |set: &str| log.find_gtids(set, std::slice::from_ref(&read)).await.unwrap();
            assert_eq!(find("0-1-5,3-1-8,4-1-2").await, Found::At(at(1)));
            assert_eq!(find("0-1-6,3-1-8,4-1-2").await, Found::At(at(2)));
            assert_eq!(find("0-1-6,3-1-8,4-1-2,7-2-1").await, Found::At(at(3)));
            assert_eq!(find("0-1-7,3-1-9,4-1-2,7-2-1").await, Found::At(at(5)));
            for older in
                ["0-1-6,3-1-8", "0-1-6,4-1-2", "0-1-6,3-1-7,4-1-2", "3-1-8,4-1-2", "0-1-4,3-1-8,4-1-2"]
            {
                assert_eq!(find(older).await, Found::Older, "{older}");
            }
        }
    }
}
