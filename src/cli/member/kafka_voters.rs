//! A controller whose disk was lost comes back without a vote: its former one is taken away, then it gets another.

use crate::cli::Context;
use crate::clock::{Clock, SystemClock};
use crate::kafka::Admin;
use crate::kafka::gate::may_stop_controller;
use anyhow::{Context as _, ensure};
use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// The metadata log is small, and was copied before the broker was ready.
const LIMIT: Duration = Duration::from_secs(90);

/// Flags of `aesop member kafka-voters`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Any brokers of the cluster
    #[arg(long, value_delimiter = ',')]
    bootstrap: Vec<String>,
    /// All controllers, as `id@host:port`
    #[arg(long, value_delimiter = ',')]
    controllers: Vec<String>,
}

pub(super) async fn run(args: &Args, cx: &Context) -> anyhow::Result<()> {
    let end = SystemClock.instant() + LIMIT;
    for controller in &args.controllers {
        let (id, endpoint) = controller.split_once('@').context("a controller is `id@host:port`")?;
        let id: i32 = id.parse().context("a controller's id is a number")?;
        loop {
            // Each time anew: the active controller may be another one now.
            let mut admin = Admin::connect(&args.bootstrap).await?;
            let quorum = admin.quorum().await?;
            let voter = quorum.voters.iter().find(|voter| voter.id == id);
            let observer = quorum.without_vote(id);
            match (voter, observer) {
                (Some(_), None) => break,
                (Some(voter), Some(_)) => {
                    may_stop_controller(&quorum, id)?;
                    admin.remove_voter(id, &voter.directory).await?;
                    cx.out.data(format!("controller {id} has no vote with its former disk any more"))?;
                }
                (None, Some(observer)) => {
                    admin.add_voter(id, &observer.directory, endpoint).await?;
                    cx.out.data(format!("controller {id} votes"))?;
                }
                (None, None) => {}
            }
            ensure!(
                SystemClock.instant() < end,
                "controller {id} has not got its vote within {} s; apply again",
                LIMIT.as_secs()
            );
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}
