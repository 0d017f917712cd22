//! Where consumers find this relay: an ephemeral znode a source, refreshed each second.

use super::source::Source;
use crate::gtid::GtidSet;
use crate::log::Log;
use crate::zk::types::{ReadNode, RelayNode};
use crate::zk::{self, Zk};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// A stop does not wait longer for ZooKeeper: the session's end takes the node away too.
const WITHDRAW_TIMEOUT: Duration = Duration::from_millis(500);

/// Keeps the node until `shutdown`.
pub(super) async fn keep(
    source: Arc<Source>,
    zk: Zk,
    id: String,
    address: String,
    shutdown: CancellationToken,
) {
    let mut tick = tokio::time::interval(REFRESH_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut registered = false;
    let mut epochs = Epochs { source: &source, zk: &zk, relay: &id, said: None, before: None, asked: false };
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = tick.tick() => {}
        }
        // Nothing can be served before.
        let Some(log) = source.log() else { continue };
        let node = node(&source, log, &address);
        let result = tokio::select! {
            () = shutdown.cancelled() => break,
            result = zk.publish_relay(&source.name, &id, &node) => result,
        };
        match result {
            Ok(()) if registered => {}
            Ok(()) => tracing::info!(source = %source.name, "registered in zookeeper"),
            Err(ref error) if registered => {
                tracing::warn!(source = %source.name, %error, "not registered in zookeeper now");
            }
            Err(ref error) => {
                tracing::debug!(source = %source.name, %error, "not registered in zookeeper yet");
            }
        }
        registered = result.is_ok();
        if registered {
            tokio::select! {
                () = shutdown.cancelled() => break,
                result = epochs.look() => if let Err(error) = result {
                    tracing::debug!(source = %source.name, %error, "what was read is not in zookeeper now");
                },
            }
        }
    }
    match tokio::time::timeout(WITHDRAW_TIMEOUT, zk.withdraw_relay(&source.name, &id)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(source = %source.name, %error, "not withdrawn from zookeeper"),
        Err(_) => tracing::debug!(source = %source.name, "not withdrawn from zookeeper in time"),
    }
}

/// What relays tell each other for a failover.
struct Epochs<'a> {
    source: &'a Source,
    zk: &'a Zk,
    relay: &'a str,
    /// What was said last.
    said: Option<ReadNode>,
    /// What this relay said before it was started; a log that was lost since does not take it back.
    before: Option<ReadNode>,
    asked: bool,
}

impl Epochs<'_> {
    async fn look(&mut self) -> Result<(), zk::Error> {
        let name = &self.source.name;
        if !self.asked {
            self.before = self.zk.read_of(name, self.relay).await?;
            self.asked = true;
        }
        if let Some(node) =
            read(self.source, self.before.as_ref()).filter(|node| self.said.as_ref() != Some(node))
        {
            self.zk.publish_read(name, self.relay, &node).await?;
            self.said = Some(node);
        }
        self.source.agreed(self.zk.epoch_number(name).await?);
        Ok(())
    }
}

fn read(source: &Source, before: Option<&ReadNode>) -> Option<ReadNode> {
    let status = source.status.get();
    let executed = status.executed?;
    let mut node = ReadNode { position: executed.position, gtids: executed.gtids, reading: status.dumping };
    if let Some(before) = before.filter(|before| before.position.epoch == node.position.epoch)
        && let (Ok(mut all), Ok(former)) = (node.gtids.parse::<GtidSet>(), before.gtids.parse())
    {
        all.add(&former);
        node.gtids = all.to_string();
        node.position = node.position.max(before.position);
    }
    Some(node)
}

fn node(source: &Source, log: &Log, address: &str) -> RelayNode {
    let (state, status) = (log.state(), source.status.get());
    let identity = source.hub.source(&source.name).map(|served| served.identity()).unwrap_or_default();
    let covered = state.covered.as_ref();
    let highest = state.last.as_ref().map(|last| last.position);
    let file = covered.map_or_else(|| status.file_name.to_string(), |covered| covered.file_name.clone());
    RelayNode {
        address: address.to_owned(),
        lowest: state.lowest.map(|lowest| lowest.position),
        highest,
        scn: highest.map(crate::position::Position::scn),
        file,
        end_offset: covered.map_or(0, |covered| covered.position.offset),
        commit_time_us: state.last_commit_time_us,
        server_uuid: identity.server_uuid,
        written_at_us: super::now_us(),
    }
}
