//! The payloads of aesop's znodes, all JSON.
//!
//! Fields may be added; a reader ignores those it does not know.

use crate::position::{Position, Scn};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// `/aesop/<cluster>/relays/<source>/<id>`, ephemeral: a relay that serves the source. Refreshed each second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayNode {
    /// `host:port` for consumers.
    pub address: String,
    /// First transaction still in the log.
    pub lowest: Option<Position>,
    /// Last whole transaction in the log.
    pub highest: Option<Position>,
    /// [`Position::scn`] of `highest`.
    pub scn: Option<Scn>,
    /// Name of the binlog file of `highest`.
    pub file: String,
    /// Offset just behind the last event read from that file (transactions that are filtered out count).
    pub end_offset: u64,
    /// Commit time of `highest`, microseconds since 1970 UTC.
    pub commit_time_us: i64,
    /// `server_uuid` (MariaDB: `server_id` in decimal) of the server it reads.
    pub server_uuid: String,
    /// When this was written, microseconds since 1970 UTC.
    pub written_at_us: i64,
}

/// `/aesop/<cluster>/sources/<source>/epochs/<n>`, persistent: a run of one server's binlog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochNode {
    /// `server_uuid` of the server (MariaDB: `server_id` in decimal).
    pub server_uuid: String,
    /// GTIDs executed before the epoch.
    pub start_gtids: String,
    /// What binlog file names begin with: `mysql-bin`.
    pub file_base: String,
    /// Where the epoch before ends: whoever has everything up to there goes on with what is not in `start_gtids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub former_end: Option<Position>,
}

/// `/aesop/<cluster>/sources/<source>/read/<relay>`, persistent: what a relay has read, for when it dies together with the
/// server. Refreshed each second in which it changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadNode {
    /// A point between transactions; its epoch is the relay's.
    pub position: Position,
    /// The GTIDs of everything before it.
    pub gtids: String,
    /// It is connected to the epoch's server, and may have read more.
    pub reading: bool,
}

/// `/aesop/<cluster>/groups/<group>/members/<id>`, ephemeral.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberNode {
    /// Address of its HTTP endpoint.
    pub http: String,
    /// Version of the program.
    pub version: String,
    /// When it joined, microseconds since 1970 UTC.
    pub joined_at_us: i64,
}

/// `/aesop/<cluster>/groups/<group>/assignment`, persistent, written by the leader by compare-and-set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Rises by one at each change.
    pub generation: u64,
    /// Number of partitions of the group, fixed for its life.
    pub partitions: u32,
    /// Partition to member id.
    pub owners: BTreeMap<u32, String>,
}

/// `/aesop/<cluster>/groups/<group>/leader`, ephemeral.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderNode {
    /// The member that leads.
    pub member: String,
}

/// `/aesop/<cluster>/groups/<group>/owners/<p>`, ephemeral: who may deliver the partition now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerNode {
    /// The member.
    pub member: String,
    /// Its epoch: the version of `epochs/<p>` that it raised.
    pub epoch: i32,
}

/// `/aesop/<cluster>/groups/<group>/epochs/<p>`, persistent. Its znode version is the epoch; each takeover raises it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionEpoch {
    /// Who took over last.
    pub member: String,
    /// When, microseconds since 1970 UTC.
    pub taken_at_us: i64,
    /// `<generation>/<source>` that this partition has begun: each has a checkpoint, or somebody lost it.
    #[serde(default)]
    pub begun: BTreeSet<String>,
}

/// `/aesop/<cluster>/groups/<group>/checkpoints`, persistent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointsNode {
    /// Which child holds the checkpoints in force; a rewind or an import begins a new one.
    pub generation: u64,
    /// Number of partitions of the group, fixed for its life.
    pub partitions: u32,
}

/// `/aesop/<cluster>/groups/<group>/checkpoints/<generation>/<source>/<p>`, persistent: everything of the partition
/// before `position`, and the first `rows` rows of the transaction at it, is acknowledged by the sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Set until the first row or mark is done: the configured beginning (`earliest`, `latest`, an SCN or a GTID
    /// set). The position means nothing then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Start of the transaction.
    pub position: Position,
    /// Rows of that transaction done, counted before any filter.
    pub rows: u64,
    /// [`Position::scn`] of `position`.
    pub scn: Scn,
    /// Name of the binlog file.
    pub file: String,
    /// Offset up to which the source is done: the end of the transaction when all of its rows are, else its start.
    pub end_offset: u64,
    /// GTID of the transaction, if it has one.
    pub gtid: Option<String>,
    /// `server_uuid` (MariaDB: `server_id` in decimal).
    pub server_uuid: String,
    /// Commit time of that transaction, microseconds since 1970 UTC.
    pub commit_time_us: i64,
    /// Epoch of the partition's owner that wrote it.
    pub owner_epoch: i32,
    /// The member that wrote it.
    pub member: String,
    /// When it was written, microseconds since 1970 UTC.
    pub written_at_us: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::DeserializeOwned;

    type Nodes = BTreeMap<String, serde_json::Value>;

    fn read<T: DeserializeOwned + Serialize>(nodes: &Nodes, name: &str) -> T {
        let stored = nodes.get(name).unwrap();
        let node: T = serde_json::from_value(stored.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        // What was there is still there: no field has got another name.
        let again = serde_json::to_value(&node).unwrap();
        for (field, value) in stored.as_object().unwrap() {
            assert_eq!(again.get(field), Some(value), "{name}.{field}");
        }
        node
    }

    /// As the first version has written them: a checkpoint that is not understood would stop its partition for good.
    #[test]
    fn nodes_of_version_1_are_understood() {
        let nodes: Nodes = serde_json::from_str(include_str!("../../fixtures/v1/znodes.json")).unwrap();
        let position = Position::new(1, 3, 900);
        assert_eq!(read::<RelayNode>(&nodes, "relay").highest, Some(position));
        assert_eq!(read::<EpochNode>(&nodes, "epoch").start_gtids, "u:1-7");
        assert_eq!(read::<MemberNode>(&nodes, "member").version, "0.1.0");
        assert_eq!(read::<Assignment>(&nodes, "assignment").owners.get(&1).map(String::as_str), Some("c2"));
        assert_eq!(read::<LeaderNode>(&nodes, "leader").member, "c1");
        assert_eq!(read::<OwnerNode>(&nodes, "owner").epoch, 3);
        assert!(read::<PartitionEpoch>(&nodes, "partition").begun.contains("1/shop"));
        assert_eq!(read::<CheckpointsNode>(&nodes, "checkpoints").generation, 1);
        let checkpoint: Checkpoint = read(&nodes, "checkpoint");
        assert_eq!((checkpoint.position, checkpoint.rows, checkpoint.start), (position, 2, None));
        assert_eq!(read::<Checkpoint>(&nodes, "beginning").start.as_deref(), Some("earliest"));
    }
}
