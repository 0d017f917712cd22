//! `aesop ready`: the ready test of one service, run on its host by `apply`. Hidden.

use super::{Context, Exit};
use crate::clock::{Clock, SystemClock};
use crate::ensemble::{self, gate};
use crate::kafka::Admin;
use crate::kafka::gate::{may_lose_disk, may_stop_broker, may_stop_controller};
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpStream;

/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(250);
/// For one try; a service that hangs must not eat the whole time.
const TRY_LIMIT: Duration = Duration::from_secs(5);
/// `BrokerState` of a broker that is registered and unfenced.
const BROKER_RUNNING: i64 = 3;
/// `BrokerState` of a broker that reads its logs after an unclean stop.
const BROKER_RECOVERING: i64 = 2;

/// A service said that it will not become ready by itself.
#[derive(Debug, thiserror::Error)]
#[error("it will not become ready by itself")]
struct Never;

/// It is not ready, and gets on by itself.
#[derive(Debug, thiserror::Error)]
#[error("it gets on")]
struct GetsOn;

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
        data_dir: PathBuf,
    },
    /// It may stop: the others are a majority and in sync
    ZookeeperStop {
        #[arg(long)]
        data_dir: PathBuf,
    },
    /// It follows a leader, with a vote or without
    ZookeeperLearner {
        #[arg(long)]
        address: String,
    },
    /// The broker runs and none of its partitions is under-replicated
    Kafka(Jolokia),
    /// The controller leads or follows, and knows what is committed
    KafkaController(Jolokia),
    /// It may stop: no partition falls below its in-sync minimum, and the controllers keep their majority
    KafkaStop {
        #[command(flatten)]
        jolokia: Jolokia,
        #[command(flatten)]
        node: Node,
    },
    /// Its data may be gone: the others have all of it
    KafkaLost(Node),
    /// No partition has a replica on it, and it has no vote
    KafkaEmpty {
        #[command(flatten)]
        node: Node,
        /// It stays a controller
        #[arg(long)]
        keeps_vote: bool,
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

/// Kafka's Jolokia agent.
#[derive(Clone, Debug, clap::Args)]
struct Jolokia {
    #[arg(long)]
    jolokia: String,
    #[arg(long)]
    password_file: PathBuf,
}

/// A node of a Kafka cluster.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Node {
    /// Any brokers of the cluster
    #[arg(long, value_delimiter = ',')]
    pub(super) bootstrap: Vec<String>,
    /// The node's id
    #[arg(long)]
    pub(super) node: i32,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let end = SystemClock.instant() + Duration::from_secs(args.timeout);
    loop {
        let tried = tokio::time::timeout(TRY_LIMIT, args.test.passes()).await;
        let Err(why) = tried.unwrap_or_else(|_| bail!("no answer within {} s", TRY_LIMIT.as_secs())) else {
            return Ok(Exit::Done);
        };
        if why.is::<Never>() {
            return Err(why);
        }
        if SystemClock.instant() >= end && why.is::<GetsOn>() {
            // The words alone: as long as they change, it is waited for.
            cx.out.error(&anyhow::anyhow!("{why}"));
            return Ok(Exit::GetsOn);
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
            Self::Zookeeper { data_dir } => zookeeper(data_dir, gate::ready).await,
            Self::ZookeeperStop { data_dir } => zookeeper(data_dir, gate::may_stop).await,
            Self::ZookeeperLearner { address } => {
                let standing = ensemble::standing(address).await;
                ensure!(standing.serves(), "it does not follow a leader yet: {standing:?}");
                Ok(())
            }
            Self::Kafka(jolokia) => kafka(jolokia).await,
            Self::KafkaController(jolokia) => kafka_controller(jolokia).await,
            Self::KafkaStop { jolokia, node } => kafka_stop(jolokia, node).await,
            Self::KafkaLost(node) => {
                let view = Admin::connect(&node.bootstrap).await?.view().await?;
                Ok(may_lose_disk(&view, node.node)?)
            }
            Self::KafkaEmpty { node, keeps_vote } => kafka_empty(node, *keeps_vote).await,
            Self::Http { url } => http(url).await,
            Self::Port { address } => {
                TcpStream::connect(address).await.with_context(|| format!("nothing listens on {address}"))?;
                Ok(())
            }
        }
    }
}

async fn zookeeper(
    data_dir: &Path,
    test: fn(&gate::Members, u32) -> Result<(), String>,
) -> anyhow::Result<()> {
    let (myid, servers) = ensemble::local(data_dir).map_err(anyhow::Error::msg)?;
    test(&ensemble::ask(servers).await, myid).map_err(anyhow::Error::msg)
}

/// Attributes `Value` of MBeans; none where an MBean is not there.
async fn beans(jolokia: &Jolokia, names: &[&str]) -> anyhow::Result<Vec<Option<i64>>> {
    let wanted: Vec<(&str, &str)> = names.iter().map(|name| (*name, "Value")).collect();
    Ok(attributes(jolokia, &wanted)
        .await?
        .iter()
        .map(|value| value.as_ref().and_then(Value::as_i64))
        .collect())
}

/// Attributes of MBeans; none where one is not there.
async fn attributes(jolokia: &Jolokia, wanted: &[(&str, &str)]) -> anyhow::Result<Vec<Option<Value>>> {
    let password = std::fs::read_to_string(&jolokia.password_file)
        .with_context(|| format!("cannot read {}", jolokia.password_file.display()))?;
    let read =
        |(mbean, attribute): &(&str, &str)| json!({"type": "read", "mbean": mbean, "attribute": attribute});
    let answer: Value = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(&jolokia.jolokia)
        .basic_auth("aesop", Some(password.trim_end()))
        .json(&wanted.iter().map(read).collect::<Vec<_>>())
        .send()
        .await
        .context("Kafka's Jolokia agent does not answer")?
        .error_for_status()?
        .json()
        .await?;
    let value = |index: usize| answer.get(index).and_then(|entry| entry.get("value")).cloned();
    Ok((0..wanted.len()).map(value).collect())
}

const BROKER_STATE: &str = "kafka.server:type=KafkaServer,name=BrokerState";

/// What a broker still has to read after an unclean stop; they are there only while it does. Sums over log directories,
/// and over the threads that read.
const LOGS_LEFT: &str = "kafka.log:type=LogManager,name=remainingLogsToRecover,*";
const SEGMENTS_LEFT: &str = "kafka.log:type=LogManager,name=remainingSegmentsToRecover,*";

async fn kafka(jolokia: &Jolokia) -> anyhow::Result<()> {
    let behind = "kafka.server:type=ReplicaManager,name=UnderReplicatedPartitions";
    let wanted = [BROKER_STATE, behind, LOGS_LEFT, SEGMENTS_LEFT].map(|name| (name, "Value"));
    let found = attributes(jolokia, &wanted).await?;
    let sum = |index: usize| found.get(index).and_then(Option::as_ref).and_then(total);
    broker_stands(sum(0), sum(1), sum(2), sum(3))
}

/// The value of an MBean, or of all that a pattern names together.
fn total(value: &Value) -> Option<i64> {
    match value.as_object() {
        None => value.as_i64(),
        Some(beans) => beans.values().map(|bean| bean.get("Value").and_then(Value::as_i64)).sum(),
    }
}

fn broker_stands(
    state: Option<i64>,
    behind: Option<i64>,
    logs: Option<i64>,
    segments: Option<i64>,
) -> anyhow::Result<()> {
    if let (Some(BROKER_RECOVERING), Some(logs)) = (state, logs.filter(|logs| *logs > 0)) {
        let segments = segments.unwrap_or(0);
        let said = format!(
            "the broker reads its logs after an unclean stop: {logs} logs are left, {segments} segments of those it is at"
        );
        return Err(anyhow::Error::new(GetsOn).context(said));
    }
    ensure!(
        state == Some(BROKER_RUNNING),
        "the broker is not running yet (BrokerState {})",
        state.map_or_else(|| "unknown".to_owned(), |state| state.to_string())
    );
    ensure!(behind == Some(0), "{} partitions are under-replicated", behind.unwrap_or(-1));
    Ok(())
}

async fn kafka_controller(jolokia: &Jolokia) -> anyhow::Result<()> {
    let raft = "kafka.server:type=raft-metrics";
    let wanted = [(raft, "current-state"), (raft, "current-leader"), (raft, "high-watermark")];
    let found = attributes(jolokia, &wanted).await?;
    let number = |index: usize| found.get(index).cloned().flatten().and_then(|value| value.as_f64());
    let state = found.first().cloned().flatten();
    let state = state.as_ref().and_then(Value::as_str).unwrap_or("unknown");
    ensure!(
        matches!(state, "leader" | "follower" | "observer"),
        "the controller neither leads nor follows yet (current-state {state})"
    );
    ensure!(number(1).is_some_and(|leader| leader >= 0.0), "no controller is active yet");
    ensure!(number(2).is_some_and(|mark| mark >= 0.0), "it does not know yet what is committed");
    Ok(())
}

async fn kafka_stop(jolokia: &Jolokia, node: &Node) -> anyhow::Result<()> {
    // A JVM that does not answer holds nothing up: what the cluster says of it decides.
    let state = beans(jolokia, &[BROKER_STATE]).await.unwrap_or_default().first().copied().flatten();
    ensure!(
        state != Some(BROKER_RECOVERING),
        "broker {} recovers its logs; a stop now would make it begin again",
        node.node
    );
    let view = Admin::connect(&node.bootstrap).await?.view().await?;
    may_stop_controller(&view.quorum, node.node)?;
    Ok(may_stop_broker(&view, node.node)?)
}

async fn kafka_empty(node: &Node, keeps_vote: bool) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&node.bootstrap).await?;
    let voters = admin.quorum().await?.voters;
    ensure!(
        keeps_vote || voters.iter().all(|voter| voter.id != node.node),
        "controller {} must not stop for good: it has a vote",
        node.node
    );
    let partitions = admin.partitions().await?;
    let mut held = partitions.iter().filter(|partition| partition.replicas.contains(&node.node));
    if let Some(partition) = held.next() {
        bail!(
            "broker {} must not stop for good: it holds {partition}, and {} more; move its partitions first",
            node.node,
            held.count()
        );
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_reads_its_logs_gets_on() {
        let pattern = json!({
            "kafka.log:dir=\"/a\",name=remainingLogsToRecover,type=LogManager": {"Value": 3},
            "kafka.log:dir=\"/b\",name=remainingLogsToRecover,type=LogManager": {"Value": 4},
        });
        assert_eq!((total(&pattern), total(&json!(2)), total(&json!("x"))), (Some(7), Some(2), None));
        let stands = |state, logs, segments| {
            broker_stands(Some(state), Some(0), logs, segments)
                .map_err(|error| (error.is::<GetsOn>(), error.to_string()))
        };
        let left = |logs: i64, segments: i64| {
            let said = format!(
                "the broker reads its logs after an unclean stop: {logs} logs are left, {segments} segments of those it is at"
            );
            Err((true, said))
        };
        assert_eq!(stands(BROKER_RECOVERING, Some(7), Some(20)), left(7, 20));
        assert_eq!(stands(BROKER_RECOVERING, Some(6), None), left(6, 0));
        // It is through, and waits for the controller; it has not begun; it runs.
        let waits = Err((false, "the broker is not running yet (BrokerState 2)".to_owned()));
        assert_eq!(stands(BROKER_RECOVERING, None, None), waits);
        assert_eq!(stands(BROKER_RECOVERING, Some(0), Some(0)), waits);
        assert!(stands(1, Some(7), None).is_err_and(|(gets_on, _)| !gets_on));
        assert_eq!(stands(BROKER_RUNNING, None, None), Ok(()));
    }
}
