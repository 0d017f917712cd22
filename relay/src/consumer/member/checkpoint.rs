//! Storing checkpoints: what the sink acknowledged, at most once a second, and at a clean stop.

use super::{Member, MemberError, now_us};
use crate::zk::types::Checkpoint;
use crate::zk::{CheckpointWrite, Outcome};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tracing::warn;

/// Between two checkpoints of a partition.
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(1);

impl Member {
    pub(super) async fn checkpoint_if_due(&mut self) -> Result<(), MemberError> {
        if self.checkpointed.elapsed() >= CHECKPOINT_PERIOD {
            self.checkpointed = Instant::now();
            self.store_checkpoints(None).await?;
        }
        Ok(())
    }

    /// Stores what has moved, of all partitions or of some; false when that is not certain.
    pub(super) async fn store_checkpoints(
        &mut self,
        only: Option<&BTreeSet<u32>>,
    ) -> Result<bool, MemberError> {
        let writes = self.due_checkpoints(only);
        if writes.is_empty() {
            return Ok(true);
        }
        let mut held = std::mem::take(&mut self.held);
        let stored = self.bounded(self.group.write_checkpoints(&mut held, &writes)).await;
        self.held = held;
        match stored {
            Ok(outcomes) => {
                self.failures = 0;
                let now = Instant::now();
                for (write, outcome) in writes.iter().zip(outcomes) {
                    match outcome {
                        Outcome::Stored => self.status.checkpointed(&write.source, write.partition, now),
                        Outcome::Fenced => {
                            warn!(partition = write.partition, "fenced: another member owns it now");
                            self.forget(write.partition);
                        }
                    }
                }
                Ok(true)
            }
            Err(error) => {
                self.tolerate(error)?;
                Ok(false)
            }
        }
    }

    fn due_checkpoints(&self, only: Option<&BTreeSet<u32>>) -> Vec<CheckpointWrite> {
        let lanes = self.parts.shared.lanes();
        let uuids: BTreeMap<&str, &str> = lanes.sources.iter().map(|s| (&*s.name, &*s.server_uuid)).collect();
        let now = now_us();
        let member = &self.parts.config.id;
        lanes
            .status()
            .into_iter()
            .filter(|lane| only.is_none_or(|only| only.contains(&lane.partition)))
            .filter_map(|lane| {
                let owned = self.held.get(&lane.partition)?;
                let stored = owned.checkpoint(&lane.source)?;
                let mark = lane.mark?;
                let point = (mark.point.position, mark.point.row);
                if stored.start.is_none() && (stored.position, stored.rows) >= point {
                    return None;
                }
                let uuid = uuids.get(&*lane.source).copied().unwrap_or("");
                let checkpoint = Checkpoint {
                    owner_epoch: owned.epoch,
                    member: member.clone(),
                    written_at_us: now,
                    ..mark.checkpoint(uuid)
                };
                Some(CheckpointWrite {
                    partition: lane.partition,
                    source: lane.source.to_string(),
                    checkpoint,
                })
            })
            .collect()
    }
}
