//! The only place that knows znode paths and payloads.
//!
//! [`Zk`] keeps a session for ever and offers one function a coordination step: relays register, epochs are made
//! by compare-and-set, a [`Group`] handles membership, ownership and checkpoints, and [`Zk::read_all`] gives
//! the control plane everything at once.

mod error;
mod group;
mod ownership;
mod paths;
mod relays;
mod report;
mod session;
pub mod types;

pub use error::Error;
pub use group::{Changed, Group, GroupView};
pub use ownership::{CheckpointWrite, Outcome, Owned, Takeover};
pub use relays::LowestCheckpoint;
pub use report::{ClusterReport, GroupReport, SourceReport};
pub use session::{Session, State};

use crate::config;
use paths::Paths;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use zookeeper::{Acl, Acls, AuthId, Client, CreateMode, CreateOptions, Permission, Stat};

/// Result of a ZooKeeper operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A handle to the ensemble; clones share one session, which ends when the last is dropped.
#[derive(Clone, Debug)]
pub struct Zk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    paths: Paths,
    servers: String,
    acls: Vec<Acl>,
    current: watch::Receiver<session::Current>,
    sessions: watch::Receiver<Session>,
    _stop: DropGuard,
}

impl Zk {
    /// Starts to keep a session and returns at once; [`Zk::connected`] waits for it. Needs a tokio runtime.
    ///
    /// Fails only when the credentials cannot be read.
    pub fn start(config: &config::ZooKeeper, cluster: &str) -> Result<Self> {
        let (connector, authenticated) = session::connector(config)?;
        let servers = config.servers.join(",");
        let none = Session {
            incarnation: 0,
            state: State::None,
            timeout: Duration::from_millis(config.session_timeout_ms),
        };
        let (sender, current) = watch::channel(session::Current { session: none, client: None });
        let (session_sender, sessions) = watch::channel(none);
        let stop = CancellationToken::new();
        tokio::spawn(session::keep(connector, servers.clone(), sender, stop.clone()));
        tokio::spawn(forward(current.clone(), session_sender));
        let acls = if authenticated {
            vec![Acl::new(Permission::ALL, AuthId::authed()), Acl::new(Permission::READ, AuthId::anyone())]
        } else {
            vec![Acl::new(Permission::ALL, AuthId::anyone())]
        };
        let paths = Paths::new(cluster);
        Ok(Self {
            shared: Arc::new(Shared { paths, servers, acls, current, sessions, _stop: stop.drop_guard() }),
        })
    }

    /// The session's states as they change.
    pub fn session(&self) -> watch::Receiver<Session> {
        self.shared.sessions.clone()
    }

    /// Waits until there is a connected session.
    pub async fn connected(&self) -> Session {
        let mut sessions = self.session();
        // The guard must not live on into the match: the future is to be Send.
        let session = sessions.wait_for(Session::is_connected).await.map(|session| *session);
        match session {
            Ok(session) => session,
            // The sender lives as long as `self`.
            Err(_) => std::future::pending().await,
        }
    }

    /// The error of a request that was not waited for.
    pub fn slow(&self) -> Error {
        Error::Slow { servers: self.shared.servers.clone() }
    }

    fn paths(&self) -> &Paths {
        &self.shared.paths
    }

    fn client(&self) -> Result<Client> {
        let client = self.shared.current.borrow().client.clone();
        client.ok_or_else(|| Error::NoSession { servers: self.shared.servers.clone() })
    }

    fn options(&self, mode: CreateMode) -> CreateOptions<'_> {
        mode.with_acls(Acls::new(&self.shared.acls))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<(T, Stat)>> {
        match self.client()?.get_data(path).await {
            Ok((data, stat)) => Ok(Some((decode(path, &data)?, stat))),
            Err(zookeeper::Error::NoNode) => Ok(None),
            Err(source) => Err(request("get", path, source)),
        }
    }

    /// Children's names, none when the node does not exist.
    async fn children(&self, path: &str) -> Result<Vec<String>> {
        match self.client()?.list_children(path).await {
            Ok(children) => Ok(children),
            Err(zookeeper::Error::NoNode) => Ok(Vec::new()),
            Err(source) => Err(request("list", path, source)),
        }
    }

    /// Creates the node and its parents; false when it was there.
    async fn create<T: Serialize + Sync>(&self, path: &str, value: &T, mode: CreateMode) -> Result<bool> {
        let data = encode(path, value)?;
        let client = self.client()?;
        let options = self.options(mode);
        for attempt in 0.. {
            match client.create(path, &data, &options).await {
                Ok(_) => return Ok(true),
                Err(zookeeper::Error::NodeExists) => return Ok(false),
                Err(zookeeper::Error::NoNode) if attempt == 0 => {
                    if let Some((parent, _)) = path.rsplit_once('/') {
                        self.mkdir(parent).await?;
                    }
                }
                Err(source) => return Err(request("create", path, source)),
            }
        }
        Ok(false)
    }

    async fn mkdir(&self, path: &str) -> Result<()> {
        let options = self.options(CreateMode::Persistent);
        self.client()?.mkdir(path, &options).await.map_err(|source| request("create", path, source))
    }

    /// Sets the node at `version`; none when the version or the node is not there.
    async fn set<T: Serialize + Sync>(
        &self,
        path: &str,
        value: &T,
        version: Option<i32>,
    ) -> Result<Option<Stat>> {
        let data = encode(path, value)?;
        match self.client()?.set_data(path, &data, version).await {
            Ok(stat) => Ok(Some(stat)),
            Err(zookeeper::Error::NoNode | zookeeper::Error::BadVersion) => Ok(None),
            Err(source) => Err(request("set", path, source)),
        }
    }

    async fn delete(&self, path: &str) -> Result<()> {
        match self.client()?.delete(path, None).await {
            Ok(()) | Err(zookeeper::Error::NoNode) => Ok(()),
            Err(source) => Err(request("delete", path, source)),
        }
    }

    /// Creates or replaces an ephemeral node of this session, taking the place of one that an earlier session of
    /// the same owner left behind.
    async fn put_ephemeral<T: Serialize + Sync>(&self, path: &str, value: &T) -> Result<()> {
        let mine = self.client()?.session_id();
        if let Some(stat) = self.set(path, value, None).await? {
            if stat.ephemeral_owner == mine.0 {
                return Ok(());
            }
            self.delete(path).await?;
        }
        self.create(path, value, CreateMode::Ephemeral).await?;
        Ok(())
    }
}

async fn forward(mut current: watch::Receiver<session::Current>, sessions: watch::Sender<Session>) {
    while current.changed().await.is_ok() {
        let session = current.borrow_and_update().session;
        if sessions.send(session).is_err() {
            return;
        }
    }
}

fn request(op: &'static str, path: &str, cause: zookeeper::Error) -> Error {
    Error::Request { op, path: path.to_owned(), cause }
}

fn decode<T: DeserializeOwned>(path: &str, data: &[u8]) -> Result<T> {
    serde_json::from_slice(data).map_err(|cause| Error::Payload { path: path.to_owned(), cause })
}

fn encode<T: Serialize>(path: &str, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|cause| Error::Payload { path: path.to_owned(), cause })
}
