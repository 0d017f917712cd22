//! Relays and epochs: what a relay writes, and what consumers and other relays read.

use super::group::Changed;
use super::types::{Checkpoint, CheckpointsNode, EpochNode, ReadNode, RelayNode};
use super::{Error, Result, Zk, request};
use std::collections::BTreeMap;
use zookeeper::CreateMode;

/// How far back the groups of a source still reach.
#[derive(Clone, Debug, PartialEq)]
pub enum LowestCheckpoint {
    /// No group has ever begun this source.
    None,
    /// Some partition has begun but has nothing done yet: it still wants the configured beginning.
    Start(String),
    /// Every partition that begun has gone beyond this one.
    At(Checkpoint),
}

impl Zk {
    /// Registers the relay for a source, or refreshes its node; call it each second and after each reconnection.
    pub async fn publish_relay(&self, source: &str, id: &str, node: &RelayNode) -> Result<()> {
        self.put_ephemeral(&self.paths().relay(source, id), node).await
    }

    /// Takes the relay's node away at a clean stop.
    pub async fn withdraw_relay(&self, source: &str, id: &str) -> Result<()> {
        self.delete(&self.paths().relay(source, id)).await
    }

    /// The relays that serve a source now, by id.
    pub async fn relays(&self, source: &str) -> Result<BTreeMap<String, RelayNode>> {
        let ids = self.children(&self.paths().relays(source)).await?;
        self.relay_nodes(source, ids).await
    }

    /// The relays that serve a source now, and a notice of the next time one comes or goes.
    pub async fn watch_relays(&self, source: &str) -> Result<(BTreeMap<String, RelayNode>, Changed)> {
        let path = self.paths().relays(source);
        let client = self.client()?;
        let (ids, watcher) = loop {
            match client.list_and_watch_children(&path).await {
                Ok(listed) => break listed,
                Err(zookeeper::Error::NoNode) => self.mkdir(&path).await?,
                Err(source) => return Err(request("list", &path, source)),
            }
        };
        Ok((self.relay_nodes(source, ids).await?, Changed::any([watcher])))
    }

    async fn relay_nodes(&self, source: &str, ids: Vec<String>) -> Result<BTreeMap<String, RelayNode>> {
        let mut relays = BTreeMap::new();
        for id in ids {
            if let Some((node, _)) = self.get(&self.paths().relay(source, &id)).await? {
                relays.insert(id, node);
            }
        }
        Ok(relays)
    }

    /// Says what a relay has read.
    pub async fn publish_read(&self, source: &str, relay: &str, node: &ReadNode) -> Result<()> {
        let path = self.paths().read(source, relay);
        if self.set(&path, node, None).await?.is_none() {
            self.create(&path, node, CreateMode::Persistent).await?;
        }
        Ok(())
    }

    /// What a relay said that it has read.
    pub async fn read_of(&self, source: &str, relay: &str) -> Result<Option<ReadNode>> {
        Ok(self.get(&self.paths().read(source, relay)).await?.map(|(node, _)| node))
    }

    /// What all relays said that they have read, by id; those that are no more, too.
    pub async fn reads(&self, source: &str) -> Result<BTreeMap<String, ReadNode>> {
        let mut reads = BTreeMap::new();
        for id in self.children(&self.paths().reads(source)).await? {
            if let Some(node) = self.read_of(source, &id).await? {
                reads.insert(id, node);
            }
        }
        Ok(reads)
    }

    /// The number of the source's epoch in force; 0 before the first.
    pub async fn epoch_number(&self, source: &str) -> Result<u32> {
        let names = self.children(&self.paths().epochs(source)).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).max().unwrap_or(0))
    }

    /// The source's epoch in force, none before the first relay has connected.
    pub async fn current_epoch(&self, source: &str) -> Result<Option<(u32, EpochNode)>> {
        Ok(self.epochs(source).await?.pop_last())
    }

    /// All epochs of a source, oldest first.
    pub async fn epochs(&self, source: &str) -> Result<BTreeMap<u32, EpochNode>> {
        let mut epochs = BTreeMap::new();
        for name in self.children(&self.paths().epochs(source)).await? {
            let Ok(epoch) = name.parse() else { continue };
            if let Some((node, _)) = self.get(&self.paths().epoch(source, epoch)).await? {
                epochs.insert(epoch, node);
            }
        }
        Ok(epochs)
    }

    /// Begins an epoch; false when another relay was first (read it then and compare). Creating a node is the
    /// compare-and-set: the same number is never given twice.
    ///
    /// When this fails with an unknown outcome, call it again: it then says false, and the node read is ours.
    pub async fn create_epoch(&self, source: &str, epoch: u32, node: &EpochNode) -> Result<bool> {
        self.create(&self.paths().epoch(source, epoch), node, CreateMode::Persistent).await
    }

    /// The lowest checkpoint of all groups that read `source`: an empty event log begins there.
    pub async fn lowest_checkpoint(&self, source: &str) -> Result<LowestCheckpoint> {
        let mut lowest: Option<Checkpoint> = None;
        for group in self.children(&self.paths().groups()).await? {
            for (_, checkpoint) in self.checkpoints(&group, source).await? {
                match &checkpoint.start {
                    // Nothing of the past is wanted; the stream gives it a position as soon as it runs.
                    Some(start) if start == "latest" => {}
                    Some(start) => return Ok(LowestCheckpoint::Start(start.clone())),
                    None => {
                        let lower = |low: &Checkpoint| {
                            (checkpoint.position, checkpoint.rows) < (low.position, low.rows)
                        };
                        if lowest.as_ref().is_none_or(lower) {
                            lowest = Some(checkpoint);
                        }
                    }
                }
            }
        }
        Ok(lowest.map_or(LowestCheckpoint::None, LowestCheckpoint::At))
    }

    /// The checkpoints of a source in force, with their groups.
    pub async fn all_checkpoints(&self, source: &str) -> Result<Vec<(String, Checkpoint)>> {
        let mut all = Vec::new();
        for group in self.children(&self.paths().groups()).await? {
            let found = self.checkpoints(&group, source).await?;
            all.extend(found.into_values().map(|checkpoint| (group.clone(), checkpoint)));
        }
        Ok(all)
    }

    /// The checkpoints in force of a group in a source.
    pub async fn checkpoints(&self, group: &str, source: &str) -> Result<BTreeMap<u32, Checkpoint>> {
        let paths = self.paths().group(group);
        let node: Option<(CheckpointsNode, _)> = self.get(&paths.checkpoints()).await?;
        let Some((CheckpointsNode { generation, .. }, _)) = node else { return Ok(BTreeMap::new()) };
        let mut found = BTreeMap::new();
        for name in self.children(&paths.source(generation, source)).await? {
            let Ok(partition) = name.parse() else { continue };
            let path = paths.checkpoint(generation, source, partition);
            match self.get(&path).await? {
                Some((checkpoint, _)) => found.insert(partition, checkpoint),
                None => continue,
            };
        }
        Ok::<_, Error>(found)
    }
}
