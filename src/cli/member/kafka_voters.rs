//! Controllers come and go: one vote after the other, each once the others are a majority that is caught up. Wherever it
//! was broken off, it goes on from what Kafka says.

use crate::cli::Context;
use crate::clock::{Clock, SystemClock};
use crate::kafka::Admin;
use crate::kafka::quorum::{Next, Wish, next};
use anyhow::{Context as _, bail};
use std::collections::BTreeMap;
use std::time::Duration;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// With no vote changed for so long, somebody has to look. The metadata log is small, and was copied before a controller
/// was ready.
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
    /// Controllers that lose their votes
    #[arg(long, value_delimiter = ',')]
    leaving: Vec<i32>,
}

pub(super) async fn run(args: &Args, cx: &Context) -> anyhow::Result<()> {
    let mut endpoints = BTreeMap::new();
    for controller in &args.controllers {
        let (id, endpoint) = controller.split_once('@').context("a controller is `id@host:port`")?;
        let id: i32 = id.parse().context("a controller's id is a number")?;
        endpoints.insert(id, endpoint);
    }
    let wish = Wish {
        controllers: endpoints.keys().copied().collect(),
        leaving: args.leaving.iter().copied().collect(),
    };
    let mut end = SystemClock.instant() + LIMIT;
    loop {
        // Each time anew: the active controller may be another one now, and one that has just resigned answers nothing.
        let why = match step(args, &wish, &endpoints).await {
            Ok(Step::Done) => return Ok(()),
            Ok(Step::Changed(words)) => {
                cx.out.data(words)?;
                end = SystemClock.instant() + LIMIT;
                continue;
            }
            Ok(Step::Waiting(why)) => why,
            Err(error) => format!("{error:#}"),
        };
        if SystemClock.instant() >= end {
            bail!("no vote has changed for {} s: {why}; apply again", LIMIT.as_secs());
        }
        tokio::time::sleep(LOOK).await;
    }
}

enum Step {
    Done,
    Changed(String),
    Waiting(String),
}

async fn step(args: &Args, wish: &Wish, endpoints: &BTreeMap<i32, &str>) -> anyhow::Result<Step> {
    let mut admin = Admin::connect(&args.bootstrap).await?;
    let quorum = admin.quorum().await?;
    Ok(match next(&quorum, wish) {
        Next::Done => Step::Done,
        Next::Wait(why) => Step::Waiting(why),
        Next::Remove(voter) => {
            admin.remove_voter(voter.id, &voter.directory).await?;
            let lost = quorum.without_vote(voter.id).is_some() && wish.controllers.contains(&voter.id);
            let words =
                if lost { "has no vote with its former disk any more" } else { "has no vote any more" };
            Step::Changed(format!("controller {} {words}", voter.id))
        }
        Next::Add(replica) => {
            let endpoint = endpoints.get(&replica.id).context("a controller without an address")?;
            admin.add_voter(replica.id, &replica.directory, endpoint).await?;
            Step::Changed(format!("controller {} votes", replica.id))
        }
    })
}
