//! `aesop turn`: whose turn it is when members restart one at a time; run on each member's host by `apply` before
//! every step, because leaders move. Hidden. Prints one number: the lowest goes first.

use super::ready::Node;
use super::{Context, Exit};
use crate::ensemble::{self, Standing};
use crate::inventory::model::KafkaMode;
use crate::kafka::Admin;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Ranks: who takes no part goes first, who leads goes last.
const UNREADY: u8 = 0;
const CONTROLLER: u8 = 1;
const MEMBER: u8 = 2;
const LEADER: u8 = 3;

/// Who does not answer for so long is not ready.
const LIMIT: Duration = Duration::from_secs(8);

/// Flags of `aesop turn`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    of: Of,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Of {
    /// A member of ZooKeeper's ensemble
    Zookeeper {
        #[arg(long)]
        data_dir: PathBuf,
        /// Another member than the one on this host
        #[arg(long)]
        member: Option<u32>,
    },
    /// A node of a Kafka cluster
    Kafka(Node),
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let rank = match &args.of {
        Of::Zookeeper { data_dir, member } => tokio::time::timeout(LIMIT, zookeeper(data_dir, *member)).await,
        Of::Kafka(node) => tokio::time::timeout(LIMIT, kafka(node)).await,
    };
    cx.out.data(rank.ok().flatten().unwrap_or(UNREADY))?;
    Ok(Exit::Done)
}

async fn zookeeper(data_dir: &Path, member: Option<u32>) -> Option<u8> {
    let (myid, servers) = ensemble::local(data_dir).ok()?;
    Some(match ensemble::standing(&servers.get(&member.unwrap_or(myid))?.client()).await {
        Standing::Leading { .. } => LEADER,
        Standing::Following | Standing::Observing => MEMBER,
        Standing::Waiting(_) | Standing::Down(_) => UNREADY,
    })
}

async fn kafka(node: &Node) -> Option<u8> {
    let mut admin = Admin::connect(&node.bootstrap).await.ok()?;
    let (brokers, quorum) = (admin.brokers().await.ok()?, admin.quorum().await.ok()?);
    let serves = match brokers.get(&node.node) {
        Some(broker) => !broker.fenced,
        // A controller apart; on ZooKeeper one that is down.
        None => admin.mode() == KafkaMode::Kraft,
    };
    Some(match quorum.leader {
        Some(leader) if leader == node.node => LEADER,
        _ if !serves => UNREADY,
        _ if quorum.voters.iter().any(|voter| voter.id == node.node) => CONTROLLER,
        _ => MEMBER,
    })
}
