//! A consumer group's membership: members, leader, assignment, and a notice of the next change.

use super::paths::GroupPaths;
use super::types::{Assignment, CheckpointsNode, LeaderNode, MemberNode};
use super::{Error, Result, Zk, decode, request};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, select_all};
use std::collections::BTreeSet;
use std::fmt;
use zookeeper::{CreateMode, OneshotWatcher};

/// Resolves when something that was read with it may have changed (or the session is gone).
pub struct Changed(BoxFuture<'static, ()>);

impl fmt::Debug for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Changed")
    }
}

impl Changed {
    pub(super) fn any(watchers: impl IntoIterator<Item = OneshotWatcher>) -> Self {
        let all = watchers.into_iter().map(|watcher| watcher.changed().map(drop).boxed());
        Self(select_all(all).map(drop).boxed())
    }

    /// Waits for it. Cancel-safe: may be awaited again after a cancelled wait.
    pub async fn wait(&mut self) {
        (&mut self.0).await;
    }
}

/// A group as one member sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupView {
    /// Members that are alive.
    pub members: BTreeSet<String>,
    /// Who leads.
    pub leader: Option<String>,
    /// What the leader wants.
    pub assignment: Option<Assignment>,
    /// Its znode version, for [`Group::assign`].
    pub assignment_version: Option<i32>,
    /// Partitions that somebody owns now.
    pub owned: BTreeSet<u32>,
}

/// A consumer group.
#[derive(Clone, Debug)]
pub struct Group {
    pub(super) zk: Zk,
    pub(super) paths: GroupPaths,
    name: String,
}

impl Zk {
    /// The consumer group of that name; nothing is read or written yet.
    pub fn group(&self, name: &str) -> Group {
        Group { zk: self.clone(), paths: self.paths().group(name), name: name.to_owned() }
    }
}

impl Group {
    /// Makes the group's nodes where they are missing and gives the checkpoint generation in force. Refuses
    /// another number of partitions than the group was created with.
    pub async fn prepare(&self, partitions: u32) -> Result<u64> {
        for path in [self.paths.members(), self.paths.owners(), self.paths.epochs()] {
            self.zk.mkdir(&path).await?;
        }
        let path = self.paths.checkpoints();
        let fresh = CheckpointsNode { generation: 1, partitions };
        self.zk.create(&path, &fresh, CreateMode::Persistent).await?;
        let stored = self.zk.get::<CheckpointsNode>(&path).await?.map_or(fresh, |(node, _)| node);
        if stored.partitions == partitions {
            Ok(stored.generation)
        } else {
            let group = self.name.clone();
            Err(Error::Partitions { group, stored: stored.partitions, configured: partitions })
        }
    }

    /// Enters the group; false while another session holds the same member id (a twin, or our own past that
    /// has not expired yet).
    pub async fn join(&self, id: &str, node: &MemberNode) -> Result<bool> {
        let path = self.paths.member(id);
        if self.zk.create(&path, node, CreateMode::Ephemeral).await? {
            return Ok(true);
        }
        self.is_mine(&path).await
    }

    /// Leaves the group, and its leadership, at once instead of at the session's end.
    pub async fn leave(&self, id: &str) -> Result<()> {
        let path = self.paths.leader();
        let leader = self.zk.get::<LeaderNode>(&path).await?;
        if leader.is_some_and(|(leader, _)| leader.member == id) && self.is_mine(&path).await? {
            self.zk.delete(&path).await?;
        }
        self.zk.delete(&self.paths.member(id)).await
    }

    /// Tries to become the leader; true when this member leads.
    pub async fn try_lead(&self, id: &str) -> Result<bool> {
        let path = self.paths.leader();
        let node = LeaderNode { member: id.to_owned() };
        if self.zk.create(&path, &node, CreateMode::Ephemeral).await? {
            return Ok(true);
        }
        self.is_mine(&path).await
    }

    /// Writes the assignment by compare-and-set; false when another one came first.
    pub async fn assign(&self, assignment: &Assignment, version: Option<i32>) -> Result<bool> {
        let path = self.paths.assignment();
        match version {
            None => self.zk.create(&path, assignment, CreateMode::Persistent).await,
            Some(version) => Ok(self.zk.set(&path, assignment, Some(version)).await?.is_some()),
        }
    }

    /// Reads the group and arms a notice for whatever changes next in what was read.
    pub async fn observe(&self) -> Result<(GroupView, Changed)> {
        let client = self.zk.client()?;
        let (members, leader, assignment, owners) =
            (self.paths.members(), self.paths.leader(), self.paths.assignment(), self.paths.owners());
        // All watches are armed before any data is read, so that nothing falls between.
        let (leader_stat, leader_watch) =
            client.check_and_watch_stat(&leader).await.map_err(|e| request("watch", &leader, e))?;
        let (assignment_stat, assignment_watch) =
            client.check_and_watch_stat(&assignment).await.map_err(|e| request("watch", &assignment, e))?;
        let (ids, members_watch) =
            client.list_and_watch_children(&members).await.map_err(|e| request("list", &members, e))?;
        let (owned, owners_watch) =
            client.list_and_watch_children(&owners).await.map_err(|e| request("list", &owners, e))?;
        let mut view = GroupView {
            members: ids.into_iter().collect(),
            owned: owned.iter().filter_map(|name| name.parse().ok()).collect(),
            ..GroupView::default()
        };
        if leader_stat.is_some() {
            view.leader = self.zk.get::<LeaderNode>(&leader).await?.map(|(node, _)| node.member);
        }
        if assignment_stat.is_some()
            && let Some((node, stat)) = self.zk.get::<Assignment>(&assignment).await?
        {
            view.assignment = Some(node);
            view.assignment_version = Some(stat.version);
        }
        Ok((view, Changed::any([leader_watch, assignment_watch, members_watch, owners_watch])))
    }

    /// A cheap read that proves that the servers still hear this session.
    pub async fn heartbeat(&self) -> Result<()> {
        let path = self.paths.members();
        self.zk.client()?.check_stat(&path).await.map(drop).map_err(|e| request("check", &path, e))
    }

    pub(super) async fn is_mine(&self, path: &str) -> Result<bool> {
        let client = self.zk.client()?;
        let stat = client.check_stat(path).await.map_err(|e| request("check", path, e))?;
        Ok(stat.is_some_and(|stat| stat.ephemeral_owner == client.session_id().0))
    }

    pub(super) fn parse<T: serde::de::DeserializeOwned>(path: &str, data: &[u8]) -> Result<T> {
        decode(path, data)
    }
}
