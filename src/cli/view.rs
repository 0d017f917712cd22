//! `aesop view`: what a cluster says of itself, as JSON; run on a member's host before a plan is made. Hidden.

use super::{Context, Exit};
use crate::kafka::Admin;

/// Flags of `aesop view`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    of: Of,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Of {
    /// Brokers, partitions, controllers
    Kafka {
        /// Any brokers of the cluster
        #[arg(long, value_delimiter = ',')]
        bootstrap: Vec<String>,
    },
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    match args.of {
        Of::Kafka { bootstrap } => {
            let view = Admin::connect(&bootstrap).await?.view().await?;
            cx.out.data(serde_json::to_string(&view)?)?;
        }
    }
    Ok(Exit::Done)
}
