//! A change of one member, through ZooKeeper's own reconfiguration: behind a gate, only from the members that were
//! looked at, and proven by a write afterwards.

use super::gate::{may_join, may_leave};
use super::members::{self, Server};
use super::{ask, standing};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::time::Duration;
use zookeeper::{Client, EnsembleUpdate};

/// A session lasts as long as one change.
const SESSION: Duration = Duration::from_secs(10);

/// What changes. One member at a time: several at once could outvote those who have the data.
#[derive(Clone, Debug)]
pub enum Change {
    /// A learner gets a vote.
    Join(u32, Server),
    /// A member loses its vote; it goes on as a learner until it is stopped.
    Leave(u32),
}

impl Change {
    fn is_done(&self, members: &BTreeMap<u32, Server>) -> bool {
        match self {
            Self::Join(id, server) => members.get(id) == Some(server),
            Self::Leave(id) => !members.contains_key(id),
        }
    }
}

/// Tries once; the members with a vote afterwards. `known` are those that the local server knows. Whatever is said as an
/// error may pass: it changed nothing, or is seen to be done by the next try.
pub async fn change(
    known: BTreeMap<u32, Server>,
    password: &Secret,
    change: &Change,
) -> Result<BTreeMap<u32, Server>, String> {
    let mut voters = known;
    voters.retain(|_, server| server.votes);
    let asked = ask(voters).await;
    let serving = asked.values().filter(|(_, standing)| standing.serves());
    let addresses: Vec<String> = serving.map(|(server, _)| server.client()).collect();
    if addresses.is_empty() {
        return Err("no member of ZooKeeper serves".to_owned());
    }
    let (now, version) = config(&connect(&addresses, password).await?).await?;
    if change.is_done(&now) {
        return Ok(now);
    }
    match change {
        Change::Join(_, server) => may_join(&asked, &standing(&server.client()).await)?,
        Change::Leave(id) => may_leave(&asked, *id)?,
    }
    if !now.keys().eq(asked.keys()) {
        return Err("the members have just changed".to_owned());
    }
    let (joining, leaving) = match change {
        Change::Join(id, server) => (format!("server.{id}={server}"), String::new()),
        Change::Leave(id) => (String::new(), id.to_string()),
    };
    let update = EnsembleUpdate::Incremental {
        joinings: std::iter::once(joining.as_str()),
        leavings: std::iter::once(leaving.as_str()),
    };
    let client = connect(&addresses, password).await?;
    client
        .update_ensemble(update, Some(version))
        .await
        .map_err(|error| format!("ZooKeeper says: {error}"))?;
    // A new session is a write: once it is there, the new members are at work.
    let (now, _) = config(&connect(&addresses, password).await?).await?;
    if change.is_done(&now) { Ok(now) } else { Err("the new members are not at work yet".to_owned()) }
}

async fn connect(addresses: &[String], password: &Secret) -> Result<Client, String> {
    let auth = format!("super:{}", password.expose());
    let connector = Client::connector()
        .with_session_timeout(SESSION)
        .with_fail_eagerly()
        .with_auth("digest", auth.as_bytes());
    let words = |error| format!("{} does not let us in: {error}", addresses.join(", "));
    connector.connect(&addresses.join(",")).await.map_err(words)
}

/// The voters by ZooKeeper's own word, and the version of that word.
async fn config(client: &Client) -> Result<(BTreeMap<u32, Server>, i64), String> {
    let words = |error| format!("the members cannot be read: {error}");
    client.sync("/zookeeper/config").await.map_err(words)?;
    let (text, _) = client.get_config().await.map_err(words)?;
    let text = String::from_utf8_lossy(&text);
    let version = members::version(&text).ok_or("ZooKeeper's members have no version")?;
    let mut servers = members::parse(&text);
    servers.retain(|_, server| server.votes);
    Ok((servers, version))
}
