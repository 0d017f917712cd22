//! Points with what checkpoints say beside them, and what a row becomes.

use crate::event::TxnHeader;
use crate::group::Point;
use crate::zk::types::Checkpoint;
use std::sync::Arc;

/// A point with what a checkpoint says beside it.
#[derive(Clone, Debug)]
pub(in crate::consumer) struct Mark {
    pub(in crate::consumer) point: Point,
    /// The transaction at the point, where there is one.
    pub(super) txn: Option<Arc<TxnHeader>>,
    pub(super) gtid: Option<Arc<str>>,
    pub(super) file: Arc<str>,
    pub(super) commit_time_us: i64,
}

impl Mark {
    pub(super) fn of_txn(txn: &Arc<TxnHeader>, row: u64) -> Self {
        Self {
            point: Point { position: txn.start.position, row },
            txn: Some(Arc::clone(txn)),
            gtid: None,
            file: Arc::clone(&txn.start.file_name),
            commit_time_us: txn.start.commit_time_us,
        }
    }

    /// When what is before it was committed.
    pub(in crate::consumer) fn commit_time_us(&self) -> i64 {
        self.commit_time_us
    }

    /// The checkpoint at this mark.
    pub(in crate::consumer) fn checkpoint(&self, server_uuid: &str) -> Checkpoint {
        let position = self.point.position;
        let done_txn =
            self.txn.as_ref().filter(|txn| self.point.row >= txn.rows && txn.start.position == position);
        let gtid = self.txn.as_ref().and_then(|txn| txn.start.gtid.clone());
        Checkpoint {
            start: None,
            position,
            rows: self.point.row,
            scn: position.scn(),
            file: self.file.to_string(),
            end_offset: done_txn.map_or(position.offset, |txn| txn.end_offset),
            gtid: gtid.or_else(|| self.gtid.as_deref().map(str::to_owned)),
            server_uuid: server_uuid.to_owned(),
            commit_time_us: self.commit_time_us,
            ..Checkpoint::default()
        }
    }
}

/// Where a source's stream for some partitions has to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::consumer) enum From {
    /// At a point.
    Point(Point),
    /// At the configured beginning, which is before every point the others have.
    Start(String),
}

/// A record that a row becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::consumer) struct Dest {
    pub(in crate::consumer) token: u64,
    /// Token of the tombstone that follows.
    pub(in crate::consumer) tombstone: Option<u64>,
    pub(in crate::consumer) epoch: i32,
}

/// The records that a row becomes here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::consumer) struct Route {
    /// The row as it is.
    pub(in crate::consumer) whole: Option<Dest>,
    /// The key changed: a delete of the old one,
    pub(in crate::consumer) old: Option<Dest>,
    /// and an insert of the new one.
    pub(in crate::consumer) new: Option<Dest>,
}

impl Route {
    pub(in crate::consumer) fn is_empty(self) -> bool {
        self == Self::default()
    }
}
