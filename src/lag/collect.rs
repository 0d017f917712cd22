//! Reads what a report is made of: ends of binlogs over SQL, relays and checkpoints from ZooKeeper.

use super::Readings;
use crate::monitor::config::MonitorConfig;
use futures_util::future::join_all;
use relay::mysql::admin::{BinaryLogs, binary_logs};
use relay::zk::{ClusterReport, Zk};
use std::collections::BTreeMap;
use std::time::Duration;

/// Longest wait for one MySQL server, and for a whole reading of ZooKeeper.
const DEADLINE: Duration = Duration::from_secs(10);

/// Why nothing can be read at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot use ZooKeeper's settings: {0}")]
pub struct LagError(String);

/// Keeps a session with ZooKeeper; a connection to MySQL is made for each reading.
#[derive(Debug)]
pub struct Collector {
    zk: Zk,
    sources: BTreeMap<String, relay::config::Mysql>,
}

impl Collector {
    /// Starts the session; it is awaited at the first reading.
    pub fn new(config: &MonitorConfig) -> Result<Self, LagError> {
        let zk =
            Zk::start(&config.zookeeper, &config.cluster).map_err(|error| LagError(error.to_string()))?;
        Ok(Self { zk, sources: config.sources.clone() })
    }

    /// Reads everything, each part with a deadline. What fails is in the readings as such.
    pub async fn read(&self) -> Readings {
        let asks = self.sources.iter().map(|(source, mysql)| async move {
            let end = match tokio::time::timeout(DEADLINE, binary_logs(mysql)).await {
                Ok(end) => end.map_err(|error| with_causes(&error)),
                Err(_) => Err(format!("no answer within {DEADLINE:?}")),
            };
            (source.clone(), end)
        });
        let ends: BTreeMap<String, Result<BinaryLogs, String>> = join_all(asks).await.into_iter().collect();
        let (zookeeper, zookeeper_error) = match self.zookeeper().await {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error)),
        };
        Readings { ends, zookeeper, zookeeper_error }
    }

    async fn zookeeper(&self) -> Result<ClusterReport, String> {
        let read = async {
            self.zk.connected().await;
            self.zk.read_all().await.map_err(|error| with_causes(&error))
        };
        match tokio::time::timeout(DEADLINE, read).await {
            Ok(report) => report,
            Err(_) => Err(format!("no answer within {DEADLINE:?}")),
        }
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}
