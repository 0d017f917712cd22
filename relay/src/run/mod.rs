//! `aesop-relay run`: reads every source into its log, serves the logs, says where it is.
//!
//! Each source is a task of its own; one that stops takes nothing with it. Without ZooKeeper the relay goes on
//! serving whoever is connected, and registers again when it is back.

mod beans;
mod beginnings;
mod epoch;
mod executed;
mod guard;
mod kept;
mod lookback;
mod register;
mod served;
mod source;
mod start;
#[cfg(test)]
mod tests;

use crate::config::{MAX_ROW_BYTES_RANGE, RelayConfig};
use crate::serve::{self, Hub, ListenError};
use crate::telemetry::{self, Health, HttpError, Registry};
use crate::zk::{self, Zk};
use guard::Watched;
use source::{Obstacle, Source};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A stop waits this long for streams and ZooKeeper, and then goes without them.
const STOP_TIMEOUT: Duration = Duration::from_millis(900);
/// Between looks at whether everything is ready.
const READY_EVERY: Duration = Duration::from_millis(100);

/// Why the relay cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration file cannot be read.
    #[error("{}: {error}; give the path of relay.yml", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        error: std::io::Error,
    },
    /// The configuration file makes no sense.
    #[error("{}: {error}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and what.
        error: serde_yaml::Error,
    },
    /// A value in it makes no sense.
    #[error("{}: {key}: {reason}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key's path.
        key: String,
        /// Why, and the remedy.
        reason: String,
    },
    /// An address is taken or not this host's.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// An address is taken or not this host's.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// What all sources need has ended by a panic.
    #[error("a fault of the program, {0}; it has to be started again")]
    Fault(String),
    /// ZooKeeper's settings make no sense.
    #[error("zookeeper: {0}")]
    Zk(#[from] zk::Error),
}

/// Reads and checks `relay.yml`.
pub fn load(path: &Path) -> Result<RelayConfig, RunError> {
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|error| RunError::Read { path: path.to_owned(), error })?;
    let parsed: Result<RelayConfig, _> = serde_yaml::from_str(&text);
    let config = parsed.map_err(|error| RunError::Parse { path: path.to_owned(), error })?;
    let value = |key: String, reason: String| RunError::Value { path: path.to_owned(), key, reason };
    for (key, given) in [
        ("connections", config.limits.connections),
        ("connections_per_peer", config.limits.connections_per_peer),
        ("stuck_secs", usize::try_from(config.limits.stuck_secs).unwrap_or(usize::MAX)),
    ] {
        if given == 0 {
            return Err(value(format!("limits.{key}"), "0 serves nobody; give 1 or more".into()));
        }
    }
    if config.sources.is_empty() {
        return Err(value("sources".into(), "there is none; name at least one MySQL server".into()));
    }
    for (name, source) in &config.sources {
        let start: Result<crate::mysql::Start, _> = source.start.parse();
        start.map_err(|error| value(format!("sources.{name}.start"), error.to_string()))?;
        if !MAX_ROW_BYTES_RANGE.contains(&source.max_row_bytes) {
            let reason = "give 65536 (64 KiB) to 268435456 (256 MiB)".to_owned();
            return Err(value(format!("sources.{name}.max_row_bytes"), reason));
        }
        if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
            return Err(value(
                format!("sources.{name}"),
                "a name is a directory's and a znode's name, without / and without a leading dot".into(),
            ));
        }
    }
    Ok(config)
}

/// Runs until `shutdown`.
pub async fn run(config: RelayConfig, shutdown: CancellationToken) -> Result<(), RunError> {
    let registry = Registry::default();
    let _process = telemetry::register_process(&registry, "aesop.relay", "Relay", Instant::now());
    let http = telemetry::bind(&config.http_listen).await?;
    let listener = serve::bind(&config.listen).await?;
    let zk = config.zookeeper.as_ref().map(|settings| Zk::start(settings, &config.cluster)).transpose()?;
    let (health, (tasks, mut faults)) = (Health::default(), Watched::new());
    tasks.spawn("http", telemetry::serve(http, registry.clone(), health.clone(), shutdown.clone()));

    let hub = Hub::new(&config.cluster, BTreeMap::new(), registry.clone()).limiting(config.limits.clone());
    let hub = Arc::new(hub);
    let (mut sources, mut beans) = (Vec::new(), Vec::new());
    for (name, settings) in config.sources.clone() {
        let mut source = Source::new(name, settings, &config, Arc::clone(&hub), &registry, zk.clone());
        source.stop = shutdown.child_token();
        let source = Arc::new(source);
        // Kept to the end: a source that has stopped must still say why.
        beans.push(beans::register(&registry, &source));
        let ended = || {
            let source = Arc::clone(&source);
            move |fault: String| source.end(&fault)
        };
        let opened = source.open().await;
        let kept = source::housekeep(Arc::clone(&source), shutdown.clone());
        tasks.spawn_or("housekeeping", kept, ended());
        let reading = Arc::clone(&source);
        let read = async move { source::read(&reading, opened, source::SESSION).await };
        tasks.spawn_or("reading", read, ended());
        if let Some(zk) = &zk {
            let (id, address) = (config.id.clone(), config.advertise.clone());
            let kept = register::keep(Arc::clone(&source), zk.clone(), id, address, shutdown.clone());
            tasks.spawn_or("registration", kept, ended());
        }
        sources.push(source);
    }
    tasks.spawn("serving", serve::serve(listener, hub, shutdown.clone()));
    tasks.spawn("health", watch_health(sources, health, shutdown.clone()));
    // Systemd hears at once: consumers are served from the logs however the sources are. Whether they are read is
    // what /healthz/ready says.
    telemetry::notify("READY=1");
    tracing::info!(listen = %config.listen, http = %config.http_listen, sources = config.sources.len(), "relay runs");
    let fault = tokio::select! {
        () = shutdown.cancelled() => None,
        fault = faults.recv() => fault,
    };
    shutdown.cancel();
    telemetry::notify("STOPPING=1");
    if tokio::time::timeout(STOP_TIMEOUT, tasks.ended()).await.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    tracing::info!("relay stopped");
    fault.map_or(Ok(()), |fault| Err(RunError::Fault(fault)))
}

/// Ready once each source has been read; a later disconnect heals by itself and is the monitor's to tell. A source
/// that has stopped makes the relay not ready, so that a deployment says why.
async fn watch_health(sources: Vec<Arc<Source>>, health: Health, shutdown: CancellationToken) {
    loop {
        let obstacles: Vec<Obstacle> = sources.iter().filter_map(|source| source.obstacle()).collect();
        let stopped: Vec<&str> = obstacles.iter().filter_map(Obstacle::stopped).collect();
        match obstacles.first() {
            _ if !stopped.is_empty() => health.stopped(stopped.join("; ")),
            Some(Obstacle::Waiting(why) | Obstacle::Stopped(why)) => health.waiting(why.as_str()),
            None => health.ready(),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(READY_EVERY) => {}
        }
    }
}

/// Microseconds since 1970 UTC.
fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
