//! ZooKeeper's members: what a server starts with, and who has a vote.

use crate::cli::Context;
use crate::clock::{Clock, SystemClock};
use crate::ensemble::members::Server;
use crate::ensemble::{self, Change};
use crate::secret::Secret;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(500);
/// For one try: three sessions and a reconfiguration.
const TRY_LIMIT: Duration = Duration::from_secs(30);

/// Flags of `aesop member zookeeper-config`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Config {
    /// The server's data directory
    #[arg(long)]
    data_dir: PathBuf,
    /// Members that it starts with: `1=host:2888:3888:participant;2181`
    #[arg(long, value_parser = server)]
    server: Vec<(u32, Server)>,
    /// Move data that is there out of the way
    #[arg(long)]
    set_aside: bool,
}

/// Flags of both changes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Through {
    /// Of the server on this host
    #[arg(long)]
    data_dir: PathBuf,
    /// File with the super user's password
    #[arg(long)]
    super_file: PathBuf,
    /// Seconds to wait for the gate
    #[arg(long)]
    timeout: u64,
}

/// Flags of `aesop member zookeeper-join`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Join {
    #[command(flatten)]
    through: Through,
    /// The server on this host
    #[arg(long, value_parser = server)]
    server: (u32, Server),
}

/// Flags of `aesop member zookeeper-leave`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Leave {
    #[command(flatten)]
    through: Through,
    /// Who leaves
    #[arg(long)]
    id: u32,
}

fn server(text: &str) -> Result<(u32, Server), String> {
    let parsed =
        text.split_once('=').and_then(|(id, server)| Some((id.parse().ok()?, Server::parse(server)?)));
    parsed.ok_or_else(|| format!("{text} is no server"))
}

pub(super) fn config(args: &Config, cx: &Context) -> anyhow::Result<()> {
    let servers = args.server.iter().cloned().collect();
    let moved = ensemble::write(&args.data_dir, &servers, args.set_aside)
        .with_context(|| format!("cannot write the members into {}", args.data_dir.display()))?;
    if let Some(moved) = moved {
        cx.out.data(format!("data of a former membership is kept as {}", moved.display()))?;
    }
    Ok(())
}

pub(super) async fn join(args: &Join, cx: &Context) -> anyhow::Result<()> {
    let (id, server) = args.server.clone();
    carry_out(&args.through, &Change::Join(id, server), cx).await
}

pub(super) async fn leave(args: &Leave, cx: &Context) -> anyhow::Result<()> {
    carry_out(&args.through, &Change::Leave(args.id), cx).await
}

async fn carry_out(through: &Through, change: &Change, cx: &Context) -> anyhow::Result<()> {
    let password = std::fs::read_to_string(&through.super_file)
        .with_context(|| format!("cannot read {}", through.super_file.display()))?;
    let password = Secret::new(password.trim_end());
    let end = SystemClock.instant() + Duration::from_secs(through.timeout);
    loop {
        let tried = tokio::time::timeout(TRY_LIMIT, attempt(&through.data_dir, &password, change)).await;
        let why = match tried.unwrap_or_else(|_| Err(format!("no answer within {} s", TRY_LIMIT.as_secs()))) {
            Ok(voters) => {
                let servers: Vec<String> = voters.keys().map(|id| format!("server.{id}")).collect();
                cx.out.data(format!("ZooKeeper's members are {}", servers.join(", ")))?;
                return Ok(());
            }
            Err(why) => why,
        };
        if SystemClock.instant() >= end {
            anyhow::bail!("not done after {} s: {why}", through.timeout);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

async fn attempt(
    data_dir: &Path,
    password: &Secret,
    change: &Change,
) -> Result<std::collections::BTreeMap<u32, Server>, String> {
    let (_, known) = ensemble::local(data_dir)?;
    ensemble::change(known, password, change).await
}
