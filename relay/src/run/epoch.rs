//! Which epoch a source is in: all relays agree on it in ZooKeeper, and each keeps a copy for when that is away.
//!
//! An epoch is a run of one server's binlog. When another server answers at the source's address, and has all that was
//! served, a relay begins the next epoch, by making its znode: only one relay can. What was served is what any relay has
//! read, be it alive or not, and what any group has a checkpoint of; nobody makes the znode while a live relay still reads
//! the former server.

use super::kept;
use super::served::Served;
use crate::config::Mysql;
use crate::gtid::GtidSet;
use crate::mysql::{self, Definite, Flavor, ServerIdentity};
use crate::position::Position;
use crate::zk::Zk;
use crate::zk::types::{Checkpoint, EpochNode, ReadNode};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// The first epoch of every source.
pub(super) const FIRST: u32 = 1;
/// The copy of the epoch in force.
const FILE: &str = "epoch.json";
/// With a copy at hand, ZooKeeper is not waited for longer than this.
const ZK_TIMEOUT: Duration = Duration::from_secs(5);

/// An epoch in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Epoch {
    pub(super) number: u32,
    pub(super) node: EpochNode,
}

pub(super) enum EpochError {
    Transient(String),
    Mysql(mysql::Error),
}

impl From<crate::zk::Error> for EpochError {
    fn from(error: crate::zk::Error) -> Self {
        Self::Transient(error.to_string())
    }
}

impl From<Definite> for EpochError {
    fn from(error: Definite) -> Self {
        Self::Mysql(error.into())
    }
}

/// What an epoch is settled from.
pub(super) struct Asking<'a> {
    /// The source's name.
    pub(super) source: &'a str,
    /// This relay's name in ZooKeeper.
    pub(super) relay: &'a str,
    /// Who is asked.
    pub(super) mysql: &'a Mysql,
    /// Where the copy is.
    pub(super) dir: &'a Path,
    pub(super) zk: Option<&'a Zk>,
    /// The GTIDs of all that this relay has read; none where it does not know.
    pub(super) executed: Option<&'a GtidSet>,
    /// How far this relay has read.
    pub(super) covered: Option<Position>,
}

impl Asking<'_> {
    /// The epoch in force; begins the first one when there is none, and the next one when another server answers that
    /// has everything.
    pub(super) async fn settle(&self) -> Result<Epoch, EpochError> {
        let server = mysql::admin::identify(self.mysql).await.map_err(EpochError::Mysql)?;
        let mut epoch = self.agreed(&server).await?;
        if epoch.node.server_uuid != server.server_uuid {
            epoch = self.fail_over(&epoch, &server).await?;
        }
        self.keep(&epoch)?;
        Ok(epoch)
    }

    fn keep(&self, epoch: &Epoch) -> Result<(), EpochError> {
        let dir = self.dir.display();
        kept::write(self.dir, FILE, epoch).map_err(|error| EpochError::Transient(format!("{dir}: {error}")))
    }

    async fn agreed(&self, server: &ServerIdentity) -> Result<Epoch, EpochError> {
        let copy = kept::read(self.dir, FILE);
        match (self.zk, copy) {
            (None, Some(copy)) => Ok(copy),
            (None, None) => Ok(Epoch { number: FIRST, node: node(server, String::new()) }),
            (Some(zk), None) => {
                zk.connected().await;
                self.agree(server, zk).await
            }
            (Some(zk), Some(copy)) => {
                let agreed = tokio::time::timeout(ZK_TIMEOUT, async {
                    zk.connected().await;
                    self.agree(server, zk).await
                });
                match agreed.await {
                    Ok(Ok(agreed)) => Ok(agreed),
                    Ok(Err(EpochError::Mysql(error))) => Err(EpochError::Mysql(error)),
                    Ok(Err(EpochError::Transient(_))) | Err(_) => {
                        tracing::warn!(
                            source = self.source,
                            "zookeeper is away; the epoch last agreed on is used"
                        );
                        Ok(copy)
                    }
                }
            }
        }
    }

    async fn agree(&self, server: &ServerIdentity, zk: &Zk) -> Result<Epoch, EpochError> {
        if let Some((number, node)) = zk.current_epoch(self.source).await? {
            return Ok(Epoch { number, node });
        }
        zk.create_epoch(self.source, FIRST, &node(server, server.gtids.clone())).await?;
        // Ours, or that of a relay that was quicker.
        current(self.source, zk).await
    }

    /// Begins the epoch of the server that answers now, or refuses it.
    async fn fail_over(&self, old: &Epoch, server: &ServerIdentity) -> Result<Epoch, EpochError> {
        let address = format!("{}:{}", self.mysql.host, self.mysql.port);
        let (expected, found) = (old.node.server_uuid.clone(), server.server_uuid.clone());
        let mut served = Served { gtids: self.executed.cloned().unwrap_or_default(), end: self.covered };
        if let Some(zk) = self.zk {
            self.others(zk, old, &mut served).await?;
        }
        let known = server.gtids.parse().ok().filter(|_: &GtidSet| !served.gtids.is_empty());
        let Some(theirs) = known else {
            return Err(Definite::WrongServer { address, expected, found }.into());
        };
        let missing = served.gtids.minus(&theirs);
        if !missing.is_empty() {
            let missing = missing.to_string();
            return Err(Definite::Behind { address, expected, found, missing }.into());
        }
        if server.flavor == Flavor::MariaDb {
            // By numbers alone it cannot be told whether it went another way.
            mysql::admin::goes_on_from(self.mysql, &served.gtids).await.map_err(EpochError::Mysql)?;
        }
        let node = EpochNode { former_end: served.end, ..node(server, served.gtids.to_string()) };
        let next = Epoch { number: old.number + 1, node };
        let Some(zk) = self.zk else {
            tracing::info!(source = self.source, epoch = next.number, server = found, "epoch begins");
            return Ok(next);
        };
        if zk.create_epoch(self.source, next.number, &next.node).await? {
            tracing::info!(source = self.source, epoch = next.number, server = found, "epoch begins");
        }
        let agreed = current(self.source, zk).await?;
        if agreed.node.server_uuid == found {
            return Ok(agreed);
        }
        let reason = format!("epoch {} is of another server than {found}; looking again", agreed.number);
        Err(EpochError::Transient(reason))
    }

    /// Adds what others have read, relays that are no more included, and what groups were served.
    async fn others(&self, zk: &Zk, old: &Epoch, served: &mut Served) -> Result<(), EpochError> {
        // Before the others are asked: who asks later knows of this relay.
        let ours = self.covered.filter(|covered| covered.epoch == old.number);
        if let (Some(position), Some(gtids)) = (ours, self.executed) {
            let node = ReadNode { position, gtids: gtids.to_string(), reading: false };
            zk.publish_read(self.source, self.relay, &node).await?;
        }
        let alive = zk.relays(self.source).await?;
        for (id, read) in zk.reads(self.source).await? {
            if read.position.epoch != old.number || id == self.relay {
                continue;
            }
            if read.reading && alive.contains_key(&id) {
                let former = &old.node.server_uuid;
                return Err(EpochError::Transient(format!(
                    "relay {id} still reads server {former}: waiting for it"
                )));
            }
            served.add(&read.gtids, read.position);
        }
        let of_epoch =
            |checkpoint: &Checkpoint| checkpoint.start.is_none() && checkpoint.position.epoch == old.number;
        let all = zk.all_checkpoints(self.source).await?;
        // Those inside or behind a transaction name it; what is before a mark without one must be known by then.
        let (rows, marks): (Vec<_>, Vec<_>) =
            all.iter().filter(|(_, c)| of_epoch(c)).partition(|(_, checkpoint)| checkpoint.rows > 0);
        for (group, checkpoint) in rows.into_iter().chain(marks) {
            served.delivered(checkpoint, &old.node.server_uuid).map_err(|reached| {
                Definite::ServedBeyond { name: self.source.to_owned(), group: group.clone(), reached }
            })?;
        }
        Ok(())
    }
}

async fn current(source: &str, zk: &Zk) -> Result<Epoch, EpochError> {
    let current = zk.current_epoch(source).await?;
    let (number, node) =
        current.ok_or_else(|| EpochError::Transient("the epoch's znode has gone".to_owned()))?;
    Ok(Epoch { number, node })
}

fn node(server: &ServerIdentity, start_gtids: String) -> EpochNode {
    let (server_uuid, file_base) = (server.server_uuid.clone(), server.file_base.clone());
    EpochNode { server_uuid, start_gtids, file_base, former_end: None }
}
