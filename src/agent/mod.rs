//! The agent: one process on every host that runs probes when asked and answers over HTTPS.
//!
//! `/probe` answers JSON for the monitor, `/metrics` Prometheus text for anyone's Prometheus, both only to callers
//! with the token; `/healthz` answers everyone. The agent keeps nothing and decides nothing.

pub mod config;
pub mod sd_notify;
pub mod tls;

mod metrics;

pub(crate) use metrics::CONTENT_TYPE as METRICS_CONTENT_TYPE;
pub use metrics::prometheus_text;

use crate::clock::{Clock, SystemClock};
use crate::probe::bean::JvmProbe;
use crate::probe::certificate::CertificateProbe;
use crate::probe::endpoint::EndpointProbe;
use crate::probe::host::HostProbe;
use crate::probe::systemd::SystemdProbe;
use crate::probe::zookeeper::ZooKeeperProbe;
use crate::probe::{Probe, ProbeError, Sample, jolokia, run_all};
use crate::secret::Secret;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use config::AgentConfig;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long readings are given out again: several callers at once cost the JVMs one read.
const CACHE: Duration = Duration::from_secs(1);

/// How long open requests may take after SIGTERM.
const DRAIN: Duration = Duration::from_secs(5);

/// Why the agent could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A file it needs.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `agent.yml` is wrong.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_yaml::Error,
    },
    /// Certificate or key.
    #[error(transparent)]
    Tls(#[from] tls::TlsError),
    /// `listen` is not an address, or taken.
    #[error("cannot listen on {listen}; is another agent running, or the port taken?")]
    Listen {
        /// The address.
        listen: String,
        /// Why.
        source: std::io::Error,
    },
    /// A probe that cannot be made.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// The token file is empty.
    #[error("{0} is empty; it must hold the token that callers send")]
    EmptyToken(PathBuf),
}

/// What `/probe` answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeAnswer {
    /// Cluster name.
    pub cluster: String,
    /// Host name in the inventory.
    pub host: String,
    /// Version of the agent.
    pub version: String,
    /// The host's clock when the answer was made.
    pub now: Timestamp,
    /// Readings.
    pub samples: Vec<Sample>,
}

/// Reads `agent.yml`.
pub fn load_config(path: &Path) -> Result<AgentConfig, AgentError> {
    let text = read(path)?;
    serde_yaml::from_str(&text).map_err(|source| AgentError::Config { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<String, AgentError> {
    std::fs::read_to_string(path).map_err(|source| AgentError::Read { path: path.to_owned(), source })
}

/// The probes that a configuration asks for.
pub fn probes(config: &AgentConfig) -> Result<Vec<Box<dyn Probe>>, ProbeError> {
    let client = jolokia::client()?;
    let mut probes: Vec<Box<dyn Probe>> = vec![
        Box::new(HostProbe { root: "/".into(), paths: config.paths.clone() }),
        Box::new(SystemdProbe { units: config.units.clone() }),
    ];
    for jvm in &config.jvms {
        probes.push(Box::new(JvmProbe {
            service: jvm.service.clone(),
            url: jvm.url.clone(),
            user: jvm.user.clone(),
            password_file: jvm.password_file.clone(),
            client: client.clone(),
        }));
    }
    for listener in &config.certificates {
        probes.push(Box::new(CertificateProbe {
            service: listener.service.clone(),
            address: listener.address.clone(),
        }));
    }
    if let Some(address) = &config.zookeeper {
        probes.push(Box::new(ZooKeeperProbe { address: address.clone() }));
    }
    for endpoint in &config.endpoints {
        probes.push(Box::new(EndpointProbe {
            service: endpoint.service.clone(),
            url: endpoint.url.clone(),
            client: client.clone(),
        }));
    }
    Ok(probes)
}

/// Runs every probe of a configuration once.
pub async fn probe_once(config: &AgentConfig) -> Result<ProbeAnswer, ProbeError> {
    let clock = SystemClock;
    let samples = run_all(&probes(config)?, &clock).await;
    Ok(answer(config, &clock, samples))
}

fn answer(config: &AgentConfig, clock: &dyn Clock, samples: Vec<Sample>) -> ProbeAnswer {
    ProbeAnswer {
        cluster: config.cluster.clone(),
        host: config.host.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now: clock.now(),
        samples,
    }
}

/// Serves until `shutdown` ends.
pub async fn run(
    config: AgentConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), AgentError> {
    let token = Secret::new(read(&config.token_file)?.trim());
    if token.expose().is_empty() {
        return Err(AgentError::EmptyToken(config.token_file));
    }
    let tls = tls::server(&config.certificate, &config.private_key)?;
    let listen_error = |source| AgentError::Listen { listen: config.listen.clone(), source };
    let address: SocketAddr = config
        .listen
        .parse()
        .map_err(|error| listen_error(std::io::Error::new(std::io::ErrorKind::InvalidInput, error)))?;
    let listener = std::net::TcpListener::bind(address).map_err(listen_error)?;
    listener.set_nonblocking(true).map_err(listen_error)?;
    let state = Arc::new(Agent::new(config.clone(), &token, Box::new(SystemClock))?);
    let handle = axum_server::Handle::new();
    let stopping = handle.clone();
    tokio::spawn(async move {
        shutdown.await;
        tracing::info!("stopping");
        stopping.graceful_shutdown(Some(DRAIN));
    });
    let server =
        axum_server::from_tcp_rustls(listener, axum_server::tls_rustls::RustlsConfig::from_config(tls))
            .map_err(listen_error)?;
    tracing::info!(listen = %config.listen, host = %config.host, "agent ready");
    sd_notify::ready();
    server.handle(handle).serve(router(state).into_make_service()).await.map_err(listen_error)
}

/// Ends at SIGTERM or SIGINT.
pub async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    // Without a handler the signal's default, which ends the process, stays in force.
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    let Ok(mut interrupt) = signal(SignalKind::interrupt()) else { return std::future::pending().await };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// What requests share.
#[derive(Debug)]
struct Agent {
    config: AgentConfig,
    /// Hashes of equal length, so that comparing them tells nothing of the token's length or prefix.
    token_hash: [u8; 32],
    probes: Vec<Box<dyn Probe>>,
    clock: Box<dyn Clock>,
    /// The last readings. Its lock is held while probing: callers at the same time wait for one run.
    last: Mutex<Option<(Instant, Arc<ProbeAnswer>)>>,
}

impl Agent {
    fn new(config: AgentConfig, token: &Secret, clock: Box<dyn Clock>) -> Result<Self, AgentError> {
        let probes = probes(&config)?;
        let token_hash = Sha256::digest(token.expose()).into();
        Ok(Self { config, token_hash, probes, clock, last: Mutex::new(None) })
    }

    async fn answer(&self) -> Arc<ProbeAnswer> {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = last.as_ref()
            && self.clock.instant().saturating_duration_since(*at) < CACHE
        {
            return Arc::clone(answer);
        }
        let samples = run_all(&self.probes, self.clock.as_ref()).await;
        let answer = Arc::new(answer(&self.config, self.clock.as_ref(), samples));
        *last = Some((self.clock.instant(), Arc::clone(&answer)));
        answer
    }

    fn authorized(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(given) = given.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
        let given: [u8; 32] = Sha256::digest(given.trim()).into();
        // No early end: the time taken does not depend on where the two differ.
        given.iter().zip(self.token_hash).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

fn router(agent: Arc<Agent>) -> Router {
    Router::new()
        .route("/probe", get(probe_json))
        .route("/metrics", get(probe_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .with_state(agent)
}

async fn probe_json(State(agent): State<Arc<Agent>>, headers: HeaderMap) -> Response {
    if !agent.authorized(&headers) {
        return refused();
    }
    Json(agent.answer().await.as_ref()).into_response()
}

async fn probe_metrics(State(agent): State<Arc<Agent>>, headers: HeaderMap) -> Response {
    if !agent.authorized(&headers) {
        return refused();
    }
    let text = prometheus_text(&agent.answer().await.samples);
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

fn refused() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "token missing or wrong\n")
        .into_response()
}

#[cfg(test)]
mod tests;
