//! Where in a log a time or a GTID set ends.

use super::{Log, LogState, ReadError};
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

/// What was read, in the words of either database.
#[derive(Debug)]
enum Known {
    MySql(GtidSet),
    /// The last number of each domain.
    MariaDb(HashMap<u32, u64>),
}

impl Known {
    /// None for what is no set, or has holes: what lies in a hole may be older than any log.
    fn parse(text: &str) -> Option<Self> {
        if let Ok(set) = text.parse::<GtidSet>() {
            let whole = set.parts().all(|(_, _, intervals)| matches!(intervals, [(1, _)]));
            return (whole && !set.is_empty()).then_some(Self::MySql(set));
        }
        let last = text.split(',').map(|gtid| maria(gtid.trim())).collect::<Option<_>>()?;
        Some(Self::MariaDb(last))
    }

    fn contains(&self, gtid: &str) -> bool {
        match self {
            Self::MySql(set) => set.contains(gtid),
            Self::MariaDb(last) => maria(gtid)
                .is_some_and(|(domain, number)| last.get(&domain).is_some_and(|last| number <= *last)),
        }
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

    /// The first transaction that is not in the set, if the one before it is: what a server had executed at some moment.
    /// Waits until the log has begun.
    pub async fn find_gtids(&self, set: &str) -> Result<Found, ReadError> {
        let state = self.begun().await;
        let (Some(known), Some(covered)) = (Known::parse(set), &state.covered) else {
            return Ok(Found::Older);
        };
        let mut reader = self.reader(StartFrom::Earliest);
        let mut seen = false;
        while let Some(block) = reader.try_next(&state).await? {
            for (position, gtid, _) in block.transactions().map_err(|error| reader.damaged(error))? {
                match gtid {
                    Some(gtid) if known.contains(gtid) => seen = true,
                    _ if seen => return Ok(Found::At(position)),
                    _ => return Ok(Found::Older),
                }
            }
        }
        Ok(if seen { Found::At(covered.position) } else { Found::Older })
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
