//! `aesop monitor`.

use super::{Context, Exit};
use crate::{agent, monitor};
use std::path::PathBuf;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The monitor's configuration, as `apply` renders it; SIGHUP reads it again
    #[arg(long, value_name = "FILE", default_value = "/etc/aesop/monitor.yml")]
    config: PathBuf,
}

pub(super) async fn run(args: Args, _cx: &Context) -> anyhow::Result<Exit> {
    monitor::run(&args.config, agent::shutdown_signal()).await?;
    Ok(Exit::Done)
}
