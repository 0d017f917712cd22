//! Which epoch a source is in: all relays agree on it in ZooKeeper, and each keeps a copy for when that is away.

use crate::config::Mysql;
use crate::mysql;
use crate::zk::Zk;
use crate::zk::types::EpochNode;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// The first epoch of every source.
const FIRST: u32 = 1;
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

/// The epoch in force; begins the first one when there is none.
pub(super) async fn settle(
    source: &str,
    mysql: &Mysql,
    dir: &Path,
    zk: Option<&Zk>,
) -> Result<Epoch, EpochError> {
    let copy = read(dir);
    let epoch = match (zk, copy) {
        (None, Some(copy)) => return Ok(copy),
        (None, None) => Epoch { number: FIRST, node: node(mysql).await? },
        (Some(zk), None) => {
            zk.connected().await;
            agree(source, mysql, zk).await?
        }
        (Some(zk), Some(copy)) => {
            let agreed = tokio::time::timeout(ZK_TIMEOUT, async {
                zk.connected().await;
                agree(source, mysql, zk).await
            });
            match agreed.await {
                Ok(Ok(agreed)) => agreed,
                Ok(Err(EpochError::Mysql(error))) => return Err(EpochError::Mysql(error)),
                Ok(Err(EpochError::Transient(_))) | Err(_) => {
                    tracing::warn!(source, "zookeeper is away; the epoch last agreed on is used");
                    copy
                }
            }
        }
    };
    write(dir, &epoch).map_err(|error| EpochError::Transient(format!("{}: {error}", dir.display())))?;
    Ok(epoch)
}

async fn agree(source: &str, mysql: &Mysql, zk: &Zk) -> Result<Epoch, EpochError> {
    let transient = |error: crate::zk::Error| EpochError::Transient(error.to_string());
    if let Some((number, node)) = zk.current_epoch(source).await.map_err(transient)? {
        return Ok(Epoch { number, node });
    }
    let node = node(mysql).await?;
    zk.create_epoch(source, FIRST, &node).await.map_err(transient)?;
    // Ours, or that of a relay that was quicker.
    let current = zk.current_epoch(source).await.map_err(transient)?;
    let (number, node) =
        current.ok_or_else(|| EpochError::Transient("the epoch's znode has gone".to_owned()))?;
    Ok(Epoch { number, node })
}

async fn node(mysql: &Mysql) -> Result<EpochNode, EpochError> {
    let server = mysql::admin::identify(mysql).await.map_err(EpochError::Mysql)?;
    Ok(EpochNode { server_uuid: server.server_uuid, start_gtids: server.gtids, file_base: server.file_base })
}

fn read(dir: &Path) -> Option<Epoch> {
    serde_json::from_slice(&std::fs::read(dir.join("epoch.json")).ok()?).ok()
}

fn write(dir: &Path, epoch: &Epoch) -> std::io::Result<()> {
    let (partial, whole) = (dir.join("epoch.json.partial"), dir.join("epoch.json"));
    std::fs::write(&partial, serde_json::to_vec(epoch)?)?;
    std::fs::rename(partial, whole)
}
