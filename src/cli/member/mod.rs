//! `aesop member`: a change of a cluster through one of its members; run on that member's host by `apply`, as root.
//! Hidden. What it says on stdout are notes for the person who applies, one a line.

mod kafka_brokers;
mod kafka_features;
mod kafka_raise;
mod kafka_settings;
mod kafka_voters;
mod zookeeper;

use super::{Context, Exit};

/// Flags of `aesop member`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    change: Change,
}

#[derive(Clone, Debug, clap::Subcommand)]
#[allow(clippy::enum_variant_names, reason = "the words of the command line: cluster, then what")]
enum Change {
    /// A broker takes in what its file says, as far as it can while it runs
    KafkaSettings(kafka_settings::Args),
    /// Partitions follow brokers that come and go
    KafkaBrokers(kafka_brokers::Args),
    /// Controllers get votes, and lose them
    KafkaVoters(kafka_voters::Args),
    /// The cluster's feature level is raised to what all brokers know
    KafkaFeatures(kafka_features::Args),
    /// What a ZooKeeper server that does not run starts with
    ZookeeperConfig(zookeeper::Config),
    /// A learner becomes a member of ZooKeeper's ensemble
    ZookeeperJoin(zookeeper::Join),
    /// A member of ZooKeeper's ensemble loses its vote
    ZookeeperLeave(zookeeper::Leave),
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    match args.change {
        Change::KafkaSettings(args) => kafka_settings::run(&args, cx).await?,
        Change::KafkaBrokers(args) => kafka_brokers::run(&args, cx).await?,
        Change::KafkaVoters(args) => kafka_voters::run(&args, cx).await?,
        Change::KafkaFeatures(args) => kafka_features::run(&args, cx).await?,
        Change::ZookeeperConfig(args) => zookeeper::config(&args, cx)?,
        Change::ZookeeperJoin(args) => zookeeper::join(&args, cx).await?,
        Change::ZookeeperLeave(args) => zookeeper::leave(&args, cx).await?,
    }
    Ok(Exit::Done)
}
