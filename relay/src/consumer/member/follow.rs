//! Following the group: lead it if nobody does, take partitions over, give them back.

use super::{Member, MemberError, now_us};
use crate::consumer::shared::Mode;
use crate::group::{Intent, Seen, assign, decide};
use crate::zk::types::Assignment;
use crate::zk::{GroupView, Takeover};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tracing::{error, info, warn};

/// How long members must be the same before the leader moves partitions, so that a rolling start does not
/// move them once a member.
const SETTLE: Duration = Duration::from_secs(2);
/// How long a partition that is given back may wait for its acknowledgements before what is out is forgotten.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

impl Member {
    /// Follows the group.
    pub(super) async fn act(&mut self, view: &GroupView) -> Result<(), MemberError> {
        if view.members != self.members {
            self.members.clone_from(&view.members);
            self.members_since = Instant::now();
        }
        let held: BTreeSet<u32> = self.held.keys().copied().collect();
        let seen = Seen {
            members: &view.members,
            leader: view.leader.as_deref(),
            assignment: view.assignment.as_ref().map(|assignment| &assignment.owners),
            owned: &view.owned,
        };
        let intent = decide(&self.parts.config.id, self.parts.config.partitions, seen, &held);
        if intent.lead
            && let Err(error) = self.bounded(self.group.try_lead(&self.parts.config.id)).await
        {
            self.tolerate(error)?;
        }
        if intent.reassign && self.members_since.elapsed() >= SETTLE {
            self.reassign(view).await?;
        }
        self.follow(intent).await
    }

    async fn follow(&mut self, intent: Intent) -> Result<(), MemberError> {
        // Wanted again before it was given back: go on with it.
        self.releasing.retain(|partition, _| intent.release.contains(partition));
        for partition in intent.release {
            self.releasing.entry(partition).or_insert_with(|| {
                info!(partition, "giving back");
                Instant::now()
            });
        }
        for partition in intent.lost {
            // The view may be older than our takeover; only what is really gone is dropped.
            let Some(owned) = self.held.get(&partition) else { continue };
            match self.bounded(self.group.still_owns(owned)).await {
                Ok(true) => {}
                Ok(false) => {
                    warn!(partition, "no longer the owner");
                    self.forget(partition);
                }
                Err(error) => self.tolerate(error)?,
            }
        }
        for partition in intent.acquire {
            self.acquire(partition).await?;
        }
        Ok(())
    }

    async fn acquire(&mut self, partition: u32) -> Result<(), MemberError> {
        if self.held.contains_key(&partition) || self.status.partition_refused(partition) {
            return Ok(());
        }
        let member = &self.parts.config.id;
        let takeover = self.group.take_over(partition, member, self.generation, &self.starts, now_us());
        match self.bounded(takeover).await {
            Ok(Takeover::Taken(owned)) => {
                info!(partition, epoch = owned.epoch, "taken over");
                let mut lanes = self.parts.shared.lanes();
                for (source, name) in self.starts.keys().enumerate() {
                    let stored = owned.checkpoint(name).cloned().unwrap_or_default();
                    lanes.add(source, partition, owned.epoch, &stored);
                }
                drop(lanes);
                self.held.insert(partition, owned);
            }
            Ok(Takeover::Busy) => {}
            Ok(Takeover::CheckpointMissing { source, path }) => {
                let reason = format!(
                    "partition {partition} has delivered source {source} before and its checkpoint {path} is gone; \
                     restore it, or begin anew under another group name"
                );
                error!(reason);
                self.status.refuse_partition(partition, reason);
            }
            Err(error) => self.tolerate(error)?,
        }
        Ok(())
    }

    async fn reassign(&mut self, view: &GroupView) -> Result<(), MemberError> {
        let partitions = self.parts.config.partitions;
        let previous = view.assignment.as_ref();
        let empty = BTreeMap::new();
        let owners =
            assign(partitions, &view.members, previous.map_or(&empty, |assignment| &assignment.owners));
        let generation = previous.map_or(0, |assignment| assignment.generation) + 1;
        let assignment = Assignment { generation, partitions, owners };
        match self.bounded(self.group.assign(&assignment, view.assignment_version)).await {
            Ok(true) => info!(generation, members = view.members.len(), "assigned"),
            Ok(false) => {}
            Err(error) => self.tolerate(error)?,
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, partition: u32) {
        self.held.remove(&partition);
        self.releasing.remove(&partition);
        self.parts.shared.lanes().remove(partition);
    }

    /// Gives back what is quiet.
    pub(super) async fn finish_releases(&mut self) -> Result<(), MemberError> {
        let now = Instant::now();
        let overdue = |since: &Instant| now.duration_since(*since) > RELEASE_TIMEOUT;
        if self.releasing.iter().any(|(partition, since)| overdue(since) && !self.is_quiet(*partition)) {
            warn!(
                "partitions to give back wait for acknowledgements: what is out is forgotten, the next owner sends it"
            );
            self.end_engine(Mode::Halt).await;
        }
        let quiet: Vec<u32> = self.releasing.keys().copied().filter(|p| self.is_quiet(*p)).collect();
        if quiet.is_empty() {
            return Ok(());
        }
        if !self.store_checkpoints(Some(&quiet.iter().copied().collect())).await? {
            return Ok(());
        }
        for partition in quiet {
            let Some(owned) = self.held.get(&partition) else { continue };
            match self.bounded(self.group.release(owned)).await {
                Ok(()) => {
                    info!(partition, "given back");
                    self.forget(partition);
                }
                Err(error) => self.tolerate(error)?,
            }
        }
        Ok(())
    }

    fn is_quiet(&self, partition: u32) -> bool {
        self.engine.is_none() || self.parts.shared.lanes().is_quiet(partition)
    }
}
