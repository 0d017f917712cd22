//! The cluster goes by what its brokers' version brings, once all of them run it.

use crate::cli::Context;
use crate::kafka::Admin;
use anyhow::{Context as _, ensure};

/// Flags of `aesop member kafka-features`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Any brokers of the cluster
    #[arg(long, value_delimiter = ',')]
    bootstrap: Vec<String>,
    /// All of its brokers
    #[arg(long, value_delimiter = ',')]
    members: Vec<i32>,
}

pub(super) async fn run(args: &Args, cx: &Context) -> anyhow::Result<()> {
    let mut admin = Admin::connect(&args.bootstrap).await?;
    let view = admin.view().await?;
    let down = args.members.iter().find(|id| !view.serves(**id));
    ensure!(
        down.is_none(),
        "broker {} does not take part, and must say that it knows a new metadata.version; start it, then apply again",
        down.copied().unwrap_or_default()
    );
    let feature = view.feature.context("a broker does not say which metadata.version it knows")?;
    if feature.finalized < feature.supported {
        admin.raise_metadata_version(feature.supported).await?;
        cx.out.data(format!("metadata.version is {} and was {}", feature.supported, feature.finalized))?;
    }
    Ok(())
}
