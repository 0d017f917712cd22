//! Keeps a session: a new one whenever the old one has expired, for ever.

use super::error::Error;
use crate::config;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use zookeeper::{Client, Connector};

/// Between two attempts to get a session, so that a dead ensemble is not hammered.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// How the session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none yet, or the last one expired: nothing ephemeral of ours exists, or will not for long.
    None,
    /// Connected.
    Connected,
    /// The connection was lost at this moment; the session lives on at the servers until its timeout.
    Disconnected {
        /// By the monotonic clock.
        since: Instant,
    },
}

/// A session and its state. What was created under another incarnation is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Rises by one with each new session.
    pub incarnation: u64,
    /// How it stands.
    pub state: State,
    /// The timeout the server agreed to.
    pub timeout: Duration,
}

impl Session {
    /// Whether requests go through.
    pub fn is_connected(&self) -> bool {
        self.state == State::Connected
    }
}

/// What the keeper publishes.
#[derive(Clone, Debug)]
pub(super) struct Current {
    pub(super) session: Session,
    pub(super) client: Option<Client>,
}

/// Builds the connector; reads the credentials.
pub(super) fn connector(config: &config::ZooKeeper) -> Result<(Connector, bool), Error> {
    let connector =
        Client::connector().with_session_timeout(Duration::from_millis(config.session_timeout_ms));
    let Some(path) = &config.auth_file else { return Ok((connector, false)) };
    let text =
        std::fs::read_to_string(path).map_err(|cause| Error::AuthFile { path: path.clone(), cause })?;
    Ok((connector.with_auth("digest", text.trim_end_matches(['\r', '\n']).as_bytes()), true))
}

/// Runs until cancelled.
pub(super) async fn keep(
    connector: Connector,
    servers: String,
    current: watch::Sender<Current>,
    stop: CancellationToken,
) {
    let mut incarnation = 0;
    loop {
        let connected = tokio::select! {
            connected = connector.clone().connect(&servers) => connected,
            () = stop.cancelled() => return,
        };
        match connected {
            Ok(client) => {
                incarnation += 1;
                info!(incarnation, servers, "zookeeper session established");
                tokio::select! {
                    () = follow(client, incarnation, &current) => {}
                    () = stop.cancelled() => return,
                }
                warn!(incarnation, "zookeeper session is gone, asking for a new one");
            }
            Err(error) => {
                warn!(servers, %error, "no zookeeper session yet, trying again");
                tokio::select! {
                    () = tokio::time::sleep(RECONNECT_PAUSE) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }
}

/// Publishes the states of one session until it is gone.
async fn follow(client: Client, incarnation: u64, current: &watch::Sender<Current>) {
    let timeout = client.session_timeout();
    let mut watcher = client.state_watcher();
    let mut state = client.state();
    loop {
        if state.is_terminated() {
            let session = Session { incarnation, state: State::None, timeout };
            current.send_replace(Current { session, client: None });
            return;
        }
        let state_now = if state == zookeeper::SessionState::Disconnected {
            State::Disconnected { since: Instant::now() }
        } else {
            State::Connected
        };
        let session = Session { incarnation, state: state_now, timeout };
        current.send_if_modified(|now| {
            let same = now.client.is_some() && now.session.incarnation == incarnation;
            let both_disconnected = matches!(
                (now.session.state, state_now),
                (State::Disconnected { .. }, State::Disconnected { .. })
            );
            if same && (both_disconnected || now.session.state == state_now) {
                return false;
            }
            *now = Current { session, client: Some(client.clone()) };
            true
        });
        state = watcher.changed().await;
    }
}
