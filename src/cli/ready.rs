//! `aesop ready`: the ready test of one service, run on its host by `apply`. Hidden.

use super::{Context, Exit};
use crate::clock::{Clock, SystemClock};
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(250);
/// For one try; a service that hangs must not eat the whole time.
const TRY_LIMIT: Duration = Duration::from_secs(5);
/// `BrokerState` of a broker that is registered and unfenced.
const BROKER_RUNNING: i64 = 3;

/// A service said that it will not become ready by itself.
#[derive(Debug, thiserror::Error)]
#[error("it will not become ready by itself")]
struct Never;

/// Flags of `aesop ready`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Seconds to wait
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    #[command(subcommand)]
    test: Test,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Test {
    /// It leads or follows; a leader has its followers in sync
    Zookeeper {
        #[arg(long)]
        port: u16,
        /// Members in all
        #[arg(long)]
        ensemble: usize,
    },
    /// The broker runs and none of its partitions is under-replicated
    Kafka {
        #[arg(long)]
        jolokia: String,
        #[arg(long)]
        password_file: PathBuf,
    },
    /// A URL answers 200; 500 ends the test at once
    Http {
        #[arg(long)]
        url: String,
    },
    /// Something listens
    Port {
        #[arg(long)]
        address: String,
    },
}

pub(super) async fn run(args: Args, _: &Context) -> anyhow::Result<Exit> {
    let end = SystemClock.instant() + Duration::from_secs(args.timeout);
    loop {
        let tried = tokio::time::timeout(TRY_LIMIT, args.test.passes()).await;
        let Err(why) = tried.unwrap_or_else(|_| bail!("no answer within {} s", TRY_LIMIT.as_secs())) else {
            return Ok(Exit::Done);
        };
        if why.is::<Never>() {
            return Err(why);
        }
        if SystemClock.instant() >= end {
            return Err(why.context(format!("not ready after {} s", args.timeout)));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

impl Test {
    async fn passes(&self) -> anyhow::Result<()> {
        match self {
            Self::Zookeeper { port, ensemble } => zookeeper(*port, *ensemble).await,
            Self::Kafka { jolokia, password_file } => kafka(jolokia, password_file).await,
            Self::Http { url } => http(url).await,
            Self::Port { address } => {
                TcpStream::connect(address).await.with_context(|| format!("nothing listens on {address}"))?;
                Ok(())
            }
        }
    }
}

async fn word(port: u16, word: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .with_context(|| format!("ZooKeeper does not listen on port {port}"))?;
    stream.write_all(word.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn zookeeper(port: u16, ensemble: usize) -> anyhow::Result<()> {
    let answer = word(port, "mntr").await?;
    let value = |name: &str| {
        answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')).map(str::trim)
    };
    match value("zk_server_state") {
        Some("leader") => {
            let synced: usize = value("zk_synced_followers").and_then(|text| text.parse().ok()).unwrap_or(0);
            ensure!(
                synced + 1 >= ensemble,
                "it leads, and {synced} of {} followers are in sync",
                ensemble.saturating_sub(1)
            );
            Ok(())
        }
        Some("follower" | "observer") => Ok(()),
        Some(other) => bail!("ZooKeeper is {other}, not in an ensemble"),
        None => bail!("ZooKeeper has no quorum yet: {}", answer.trim()),
    }
}

async fn kafka(jolokia: &str, password_file: &Path) -> anyhow::Result<()> {
    let password = std::fs::read_to_string(password_file)
        .with_context(|| format!("cannot read {}", password_file.display()))?;
    let read = |mbean: &str| json!({"type": "read", "mbean": mbean, "attribute": "Value"});
    let request = json!([
        read("kafka.server:type=KafkaServer,name=BrokerState"),
        read("kafka.server:type=ReplicaManager,name=UnderReplicatedPartitions"),
    ]);
    let answer: Value = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(jolokia)
        .basic_auth("aesop", Some(password.trim_end()))
        .json(&request)
        .send()
        .await
        .context("Kafka's Jolokia agent does not answer")?
        .error_for_status()?
        .json()
        .await?;
    let value = |index: usize| answer.get(index).and_then(|entry| entry.get("value")).and_then(Value::as_i64);
    let state = value(0);
    ensure!(
        state == Some(BROKER_RUNNING),
        "the broker is not running yet (BrokerState {})",
        state.map_or_else(|| "unknown".to_owned(), |state| state.to_string())
    );
    let behind = value(1);
    ensure!(behind == Some(0), "{} partitions are under-replicated", behind.unwrap_or(-1));
    Ok(())
}

async fn http(url: &str) -> anyhow::Result<()> {
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .get(url)
        .send()
        .await
        .with_context(|| format!("{url} does not answer"))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let text = answer.text().await.unwrap_or_default();
    let said = format!("{url} answers {status}: {}", text.trim());
    // Our own programs keep 500 for what will not pass; 503 may.
    ensure!(status != reqwest::StatusCode::INTERNAL_SERVER_ERROR, anyhow::Error::new(Never).context(said));
    bail!(said)
}
