//! Who may deliver a partition, and how far it is: takeover, checkpoint and release, each one multi that
//! ZooKeeper carries out whole or not at all.

use super::group::Group;
use super::types::{Checkpoint, OwnerNode, PartitionEpoch};
use super::{Error, Result, encode, request};
use std::collections::BTreeMap;
use zookeeper::{Client, CreateMode, MultiWriteError};

/// Checkpoints in one multi: with some 500 bytes each well below ZooKeeper's limit of 1 MiB a request.
const CHECKPOINTS_PER_REQUEST: usize = 256;

/// The result of a takeover.
#[derive(Debug)]
pub enum Takeover {
    /// It is ours.
    Taken(Owned),
    /// Somebody owns it, or was faster: watch and try again.
    Busy,
    /// The partition has begun this source before and its checkpoint is gone. Nothing safe can be done.
    CheckpointMissing {
        /// The source.
        source: String,
        /// The znode that should be there.
        path: String,
    },
}

/// A partition that this session owns.
#[derive(Clone, Debug)]
pub struct Owned {
    /// The partition.
    pub partition: u32,
    /// The epoch of this ownership; goes into the records' headers.
    pub epoch: i32,
    slots: BTreeMap<String, Slot>,
}

/// A checkpoint znode as this owner knows it.
#[derive(Clone, Debug)]
struct Slot {
    path: String,
    version: i32,
    stored: Checkpoint,
    /// What a request with unknown outcome tried to write.
    unsure: Option<Checkpoint>,
}

impl Owned {
    /// Where the partition stands in a source.
    pub fn checkpoint(&self, source: &str) -> Option<&Checkpoint> {
        self.slots.get(source).map(|slot| &slot.stored)
    }
}

/// A checkpoint to store.
#[derive(Clone, Debug)]
pub struct CheckpointWrite {
    /// Of which partition.
    pub partition: u32,
    /// In which source.
    pub source: String,
    /// What to store.
    pub checkpoint: Checkpoint,
}

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Stored.
    Stored,
    /// The partition has a new owner, or its checkpoint was changed by somebody else: stop delivering it.
    Fenced,
}

impl Group {
    /// Takes a partition over: creates the owner and raises the epoch in one step. `sources` says where a source
    /// begins that the partition has never read.
    ///
    /// After an error the outcome may be unknown; call it again, it first looks whether the partition is ours.
    pub async fn take_over(
        &self,
        partition: u32,
        member: &str,
        generation: u64,
        sources: &BTreeMap<String, String>,
        now_us: i64,
    ) -> Result<Takeover> {
        let client = self.zk.client()?;
        let (owner_path, epoch_path) = (self.paths.owner(partition), self.paths.epoch(partition));
        self.zk.create(&epoch_path, &PartitionEpoch::default(), CreateMode::Persistent).await?;
        let Some((mut node, stat)) = self.zk.get::<PartitionEpoch>(&epoch_path).await? else {
            return Ok(Takeover::Busy);
        };
        let existing = self.zk.get::<OwnerNode>(&owner_path).await?;
        let mut slots = BTreeMap::new();
        let mut fresh = Vec::new();
        for (source, start) in sources {
            let path = self.paths.checkpoint(generation, source, partition);
            let stored = self.zk.get::<Checkpoint>(&path).await?;
            let begun = node.begun.contains(&begun_key(generation, source));
            let (stored, version) = match stored {
                Some((stored, stat)) => (stored, stat.version),
                None if begun => return Ok(Takeover::CheckpointMissing { source: source.clone(), path }),
                None => {
                    let initial = Checkpoint {
                        start: Some(start.clone()),
                        member: member.to_owned(),
                        written_at_us: now_us,
                        ..Checkpoint::default()
                    };
                    self.zk.mkdir(&self.paths.source(generation, source)).await?;
                    fresh.push((path.clone(), initial.clone()));
                    (initial, 0)
                }
            };
            slots.insert(source.clone(), Slot { path, version, stored, unsure: None });
        }
        if let Some((owner, owner_stat)) = existing {
            let ours = owner_stat.ephemeral_owner == client.session_id().0 && owner.epoch == stat.version;
            // A takeover whose answer was lost: epoch, owner and first checkpoints came in one step.
            return Ok(if ours && fresh.is_empty() {
                Takeover::Taken(Owned { partition, epoch: stat.version, slots })
            } else {
                Takeover::Busy
            });
        }
        let epoch = stat.version.wrapping_add(1);
        member.clone_into(&mut node.member);
        node.taken_at_us = now_us;
        node.begun.extend(sources.keys().map(|source| begun_key(generation, source)));
        let owner = OwnerNode { member: member.to_owned(), epoch };
        let mut multi = client.new_multi_writer();
        let ephemeral = self.zk.options(CreateMode::Ephemeral);
        let persistent = self.zk.options(CreateMode::Persistent);
        let bad = |e| request("take over", &owner_path, e);
        multi.add_create(&owner_path, &encode(&owner_path, &owner)?, &ephemeral).map_err(bad)?;
        multi.add_set_data(&epoch_path, &encode(&epoch_path, &node)?, Some(stat.version)).map_err(bad)?;
        for (path, initial) in &fresh {
            multi.add_create(path, &encode(path, initial)?, &persistent).map_err(bad)?;
        }
        match multi.commit().await {
            Ok(_) => Ok(Takeover::Taken(Owned { partition, epoch, slots })),
            Err(MultiWriteError::OperationFailed {
                source: zookeeper::Error::NodeExists | zookeeper::Error::BadVersion,
                ..
            }) => Ok(Takeover::Busy),
            Err(error) => Err(request("take over", &owner_path, error.into())),
        }
    }

    /// Whether the owner node is still there and of this session.
    pub async fn still_owns(&self, owned: &Owned) -> Result<bool> {
        self.is_mine(&self.paths.owner(owned.partition)).await
    }

    /// Gives a partition back, if it is still ours.
    pub async fn release(&self, owned: &Owned) -> Result<()> {
        let client = self.zk.client()?;
        let path = self.paths.owner(owned.partition);
        if !self.is_mine(&path).await? {
            return Ok(());
        }
        let mut multi = client.new_multi_writer();
        let bad = |e| request("release", &path, e);
        multi.add_check_version(&self.paths.epoch(owned.partition), owned.epoch).map_err(bad)?;
        multi.add_delete(&path, None).map_err(bad)?;
        match multi.commit().await {
            Ok(_) | Err(MultiWriteError::OperationFailed { .. }) => Ok(()),
            Err(error) => Err(request("release", &path, error.into())),
        }
    }

    /// Stores checkpoints, all that can be in one request; gives one outcome a write, in their order.
    ///
    /// After an error some may be stored; call it again with the same or newer ones, it reads back first.
    pub async fn write_checkpoints(
        &self,
        owned: &mut BTreeMap<u32, Owned>,
        writes: &[CheckpointWrite],
    ) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(writes.len());
        for chunk in writes.chunks(CHECKPOINTS_PER_REQUEST) {
            outcomes.extend(self.write_chunk(owned, chunk).await?);
        }
        Ok(outcomes)
    }

    async fn write_chunk(
        &self,
        owned: &mut BTreeMap<u32, Owned>,
        writes: &[CheckpointWrite],
    ) -> Result<Vec<Outcome>> {
        let client = self.zk.client()?;
        let mut outcomes = vec![Outcome::Stored; writes.len()];
        for (write, outcome) in writes.iter().zip(&mut outcomes) {
            if !self.settle(&client, owned, write).await? {
                *outcome = Outcome::Fenced;
            }
        }
        loop {
            let pending: Vec<usize> =
                outcomes.iter().enumerate().filter(|(_, o)| **o == Outcome::Stored).map(|(i, _)| i).collect();
            if pending.is_empty() {
                return Ok(outcomes);
            }
            match self.commit(&client, owned, writes, &pending).await {
                Ok(()) => return Ok(outcomes),
                Err(Refused::At(position)) => {
                    if let Some(outcome) = pending.get(position).and_then(|i| outcomes.get_mut(*i)) {
                        *outcome = Outcome::Fenced;
                    }
                }
                Err(Refused::Failed(error)) => return Err(error),
            }
        }
    }

    /// Finds out what became of an earlier write with unknown outcome; false when the partition is not ours.
    async fn settle(
        &self,
        client: &Client,
        owned: &mut BTreeMap<u32, Owned>,
        write: &CheckpointWrite,
    ) -> Result<bool> {
        let Some(slot) = owned.get_mut(&write.partition).and_then(|o| o.slots.get_mut(&write.source)) else {
            return Ok(false);
        };
        let Some(tried) = slot.unsure.clone() else { return Ok(true) };
        let (data, stat) = match client.get_data(&slot.path).await {
            Ok(found) => found,
            Err(zookeeper::Error::NoNode) => return Ok(false),
            Err(source) => return Err(request("get", &slot.path, source)),
        };
        if stat.version != slot.version {
            if Self::parse::<Checkpoint>(&slot.path, &data)? != tried {
                return Ok(false);
            }
            slot.version = stat.version;
            slot.stored = tried;
        }
        slot.unsure = None;
        Ok(true)
    }

    async fn commit(
        &self,
        client: &Client,
        owned: &mut BTreeMap<u32, Owned>,
        writes: &[CheckpointWrite],
        pending: &[usize],
    ) -> std::result::Result<(), Refused> {
        let mut multi = client.new_multi_writer();
        for write in pending.iter().filter_map(|i| writes.get(*i)) {
            let Some((epoch, slot)) = slot(owned, write) else { continue };
            let bad = |e| Refused::Failed(request("checkpoint", &slot.path, e));
            let data = encode(&slot.path, &write.checkpoint).map_err(Refused::Failed)?;
            multi.add_check_version(&self.paths.epoch(write.partition), epoch).map_err(bad)?;
            multi.add_set_data(&slot.path, &data, Some(slot.version)).map_err(bad)?;
        }
        let writes = || pending.iter().filter_map(|i| writes.get(*i));
        // From here until the answer the outcome is unknown, also when this future is dropped.
        each_slot(owned, writes(), |slot, write| slot.unsure = Some(write.checkpoint.clone()));
        match multi.commit().await {
            Ok(_) => {
                each_slot(owned, writes(), |slot, write| {
                    slot.unsure = None;
                    slot.version = slot.version.wrapping_add(1);
                    slot.stored = write.checkpoint.clone();
                });
                Ok(())
            }
            Err(MultiWriteError::OperationFailed { index, source }) => {
                each_slot(owned, writes(), |slot, _| slot.unsure = None);
                if matches!(source, zookeeper::Error::BadVersion | zookeeper::Error::NoNode) {
                    return Err(Refused::At(index / 2));
                }
                Err(Refused::Failed(request("checkpoint", &self.paths.checkpoints(), source)))
            }
            Err(error) => {
                Err(Refused::Failed(request("checkpoint", &self.paths.checkpoints(), error.into())))
            }
        }
    }
}

/// Why a multi was not carried out.
enum Refused {
    /// The write at this place among the pending ones is fenced.
    At(usize),
    /// All of it failed, or the outcome is unknown.
    Failed(Error),
}

fn slot<'a>(owned: &'a BTreeMap<u32, Owned>, write: &CheckpointWrite) -> Option<(i32, &'a Slot)> {
    let owned = owned.get(&write.partition)?;
    Some((owned.epoch, owned.slots.get(&write.source)?))
}

fn each_slot<'a>(
    owned: &mut BTreeMap<u32, Owned>,
    writes: impl Iterator<Item = &'a CheckpointWrite>,
    mut apply: impl FnMut(&mut Slot, &CheckpointWrite),
) {
    for write in writes {
        if let Some(slot) = owned.get_mut(&write.partition).and_then(|o| o.slots.get_mut(&write.source)) {
            apply(slot, write);
        }
    }
}

fn begun_key(generation: u64, source: &str) -> String {
    format!("{generation}/{source}")
}
