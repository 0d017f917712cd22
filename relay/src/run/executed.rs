//! The GTIDs of all that a source's log, and this relay, has read: what another server must have to take over.

use crate::gtid::GtidSet;
use crate::log::Log;
use crate::mysql::Executed;
use std::path::Path;

/// What was kept on disk, if the log still fits it.
pub(super) fn load(dir: &Path, log: &Log) -> Option<Executed> {
    let known: Executed = serde_json::from_slice(&std::fs::read(dir.join("executed.json")).ok()?).ok()?;
    // A log that lost its tail is read again from where it ends.
    let covered = log.state().covered?.position;
    (known.position <= covered).then_some(known)
}

/// Keeps it; at most each second, so a restart adds what the log has beyond it.
pub(super) fn store(dir: &Path, executed: &Executed) -> std::io::Result<()> {
    let (partial, whole) = (dir.join("executed.json.partial"), dir.join("executed.json"));
    std::fs::write(&partial, serde_json::to_vec(executed)?)?;
    std::fs::rename(partial, whole)
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
