//! The copies of the lock file that hosts keep.

use super::session::{OBSERVE_LIMIT, facts_of};
use crate::host::{Call, Command, Connect, HostError};
use crate::inventory::model;
use crate::service::paths;
use futures_util::StreamExt;
use std::collections::BTreeMap;

/// What each host keeps; none where it keeps none.
pub async fn lock_copies(
    connect: &dyn Connect,
    hosts: &BTreeMap<String, model::Host>,
    parallel: usize,
) -> BTreeMap<String, Result<Option<String>, HostError>> {
    let asked = hosts.iter().map(|(name, host)| async move { (name.clone(), copy(connect, host).await) });
    futures_util::stream::iter(asked).buffer_unordered(parallel.max(1)).collect().await
}

async fn copy(connect: &dyn Connect, host: &model::Host) -> Result<Option<String>, HostError> {
    let connection = connect.connect(host).await?;
    let question = Command::Observe(format!("id|{}\n", paths::LOCK_FILE_COPY));
    let answer = connection.call(Call { command: question, timeout: OBSERVE_LIMIT }, &|_| ()).await;
    connection.close().await;
    Ok(facts_of(&host.name, answer)?.ids.remove(paths::LOCK_FILE_COPY))
}
