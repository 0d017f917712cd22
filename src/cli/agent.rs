//! `aesop agent`.

use super::{Context, Exit};
use crate::agent;
use std::path::PathBuf;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The agent's configuration, as `apply` renders it
    #[arg(long, value_name = "FILE", default_value = "/etc/aesop/agent.yml")]
    config: PathBuf,
}

pub(super) async fn run(args: Args, _cx: &Context) -> anyhow::Result<Exit> {
    let config = agent::load_config(&args.config)?;
    agent::run(config, agent::shutdown_signal()).await?;
    Ok(Exit::Done)
}
