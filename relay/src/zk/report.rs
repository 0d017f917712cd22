//! Everything at once, for the control plane's lag report and status.

use super::types::{
    Assignment, Checkpoint, CheckpointsNode, EpochNode, LeaderNode, MemberNode, OwnerNode, RelayNode,
};
use super::{Result, Zk};
use std::collections::BTreeMap;

/// What ZooKeeper knows of a cluster's data plane.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterReport {
    /// By source.
    pub sources: BTreeMap<String, SourceReport>,
    /// By consumer group.
    pub groups: BTreeMap<String, GroupReport>,
}

/// One source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SourceReport {
    /// The epoch in force.
    pub epoch: Option<(u32, EpochNode)>,
    /// Relays that are alive, by id.
    pub relays: BTreeMap<String, RelayNode>,
}

/// One consumer group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupReport {
    /// Number of partitions, once the group has run.
    pub partitions: Option<u32>,
    /// Members that are alive, by id.
    pub members: BTreeMap<String, MemberNode>,
    /// The leader's id.
    pub leader: Option<String>,
    /// What the leader wants.
    pub assignment: Option<Assignment>,
    /// Who delivers what now, by partition.
    pub owners: BTreeMap<u32, OwnerNode>,
    /// By source and partition. One with `start` set has nothing done yet.
    pub checkpoints: BTreeMap<String, BTreeMap<u32, Checkpoint>>,
}

impl Zk {
    /// Reads the whole cluster. What vanishes while it is read is left out.
    pub async fn read_all(&self) -> Result<ClusterReport> {
        let mut report = ClusterReport::default();
        let mut sources = self.children(&self.paths().sources()).await?;
        sources.extend(self.children(&self.paths().relays_root()).await?);
        for source in sources {
            if report.sources.contains_key(&source) {
                continue;
            }
            let epoch = self.current_epoch(&source).await?;
            let relays = self.relays(&source).await?;
            report.sources.insert(source, SourceReport { epoch, relays });
        }
        for name in self.children(&self.paths().groups()).await? {
            let group = self.read_group(&name).await?;
            report.groups.insert(name, group);
        }
        Ok(report)
    }

    async fn read_group(&self, name: &str) -> Result<GroupReport> {
        let paths = self.paths().group(name);
        let mut report = GroupReport::default();
        for id in self.children(&paths.members()).await? {
            if let Some((member, _)) = self.get::<MemberNode>(&paths.member(&id)).await? {
                report.members.insert(id, member);
            }
        }
        report.leader = self.get::<LeaderNode>(&paths.leader()).await?.map(|(leader, _)| leader.member);
        report.assignment = self.get(&paths.assignment()).await?.map(|(assignment, _)| assignment);
        for child in self.children(&paths.owners()).await? {
            let Ok(partition) = child.parse() else { continue };
            if let Some((owner, _)) = self.get(&paths.owner(partition)).await? {
                report.owners.insert(partition, owner);
            }
        }
        let Some((node, _)) = self.get::<CheckpointsNode>(&paths.checkpoints()).await? else {
            return Ok(report);
        };
        report.partitions = Some(node.partitions);
        for source in self.children(&paths.generation(node.generation)).await? {
            let checkpoints = self.checkpoints(name, &source).await?;
            report.checkpoints.insert(source, checkpoints);
        }
        Ok(report)
    }
}
