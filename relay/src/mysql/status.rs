//! What a source says about itself.

use crate::decode::stream::Flavor;
use crate::event::Executed;
use crate::position::Position;
use std::sync::{Arc, Mutex, PoisonError};

/// Who answers at a source's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerIdentity {
    /// `server_uuid`; MariaDB has none: its `server_id` in decimal.
    pub server_uuid: String,
    /// `server_id`.
    pub server_id: u32,
    /// `version()`.
    pub version: String,
    /// Which database.
    pub flavor: Flavor,
    /// What binlog file names begin with: `mysql-bin`.
    pub file_base: String,
    /// GTIDs executed so far (`gtid_executed`; MariaDB: `gtid_binlog_pos`).
    pub gtids: String,
    /// The server's clock minus ours, microseconds.
    pub clock_offset_us: i64,
}

/// What a source is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not connected; trying.
    #[default]
    Connecting,
    /// Reading the binlog.
    Streaming,
    /// Ended by a definite error or a shutdown.
    Stopped,
}

/// A source's numbers at a moment.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// What it is doing.
    pub state: State,
    /// The server was asked for its binlog over the connection there is.
    pub dumping: bool,
    /// Who answers, once known.
    pub server: Option<ServerIdentity>,
    /// Start of the last whole transaction handed on.
    pub position: Option<Position>,
    /// What was read so far, at most a second ago; none without GTIDs.
    pub executed: Option<Executed>,
    /// Name of the binlog file being read.
    pub file_name: Arc<str>,
    /// Offset just behind the last event read from that file.
    pub end_offset: u64,
    /// Commit time of the last transaction read (filtered ones included), microseconds since 1970 UTC.
    pub last_commit_time_us: i64,
    /// When the last event came, heartbeats included, microseconds since 1970 UTC by our clock.
    pub last_event_at_us: i64,
    /// The server has nothing we have not read: the last thing it sent was a heartbeat.
    pub caught_up: bool,
    /// Transactions handed on.
    pub transactions_total: u64,
    /// Rows handed on, statements included.
    pub rows_total: u64,
    /// Of these, rows over `max_row_bytes`, of which the key alone was handed on.
    pub oversize_rows_total: u64,
    /// Changes that were logged as statements and left out.
    pub hidden_changes_total: u64,
    /// Of these, rows that came.
    pub inserts_total: u64,
    /// Rows that changed.
    pub updates_total: u64,
    /// Rows that went.
    pub deletes_total: u64,
    /// DDL and TRUNCATE.
    pub statements_total: u64,
    /// Bytes of binlog read.
    pub bytes_read_total: u64,
    /// Connections lost.
    pub disconnects_total: u64,
    /// The last error, transient or definite; emptied when streaming resumes.
    pub last_error: Option<String>,
}

/// A [`Status`] shared between the reading task and those who report.
#[derive(Debug, Default)]
pub struct StatusCell(Mutex<Status>);

impl StatusCell {
    /// The numbers now.
    pub fn get(&self) -> Status {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the numbers.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
