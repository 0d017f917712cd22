//! Partitions follow the brokers: those that leave are emptied and unregistered, those that hold too little get their
//! share. Wherever it was broken off, it goes on from what Kafka says.

use super::kafka_raise;
use crate::cli::Context;
use crate::clock::{Clock, SystemClock};
use crate::kafka::Admin;
use crate::kafka::moves::{Move, Wish, moves, only_on};
use crate::kafka::raise::Raise;
use crate::kafka::view::{Moving, View};
use anyhow::{bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Between two looks at what is on its way.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// A partition that has just arrived may seem to be at more brokers than there are.
const LOOKS_MAX: usize = 5;
/// Between two notes, at least.
const SAY: Duration = Duration::from_secs(10);
/// With no partition arriving and no byte copied for so long, somebody has to look.
pub(super) const STALL: Duration = Duration::from_mins(15);
/// A stopped broker is fenced once its session of 9 s has ended.
const FENCE: Duration = Duration::from_mins(1);
/// New topics may come up on a broker that leaves, again and again, but not for ever.
const ROUNDS_MAX: usize = 10;

/// Flags of `aesop member kafka-brokers`.
#[derive(Clone, Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(super) struct Args {
    /// Any brokers of the cluster
    #[arg(long, value_delimiter = ',')]
    bootstrap: Vec<String>,
    /// Brokers that stay
    #[arg(long, value_delimiter = ',')]
    members: Vec<i32>,
    /// Brokers that are emptied
    #[arg(long, value_delimiter = ',')]
    leaving: Vec<i32>,
    /// Members that hold too little get more
    #[arg(long)]
    fill: bool,
    /// Bytes a second at each broker
    #[arg(long)]
    throttle: u64,
    /// What nobody but brokers that leave and are gone has is given up
    #[arg(long)]
    accept_loss: bool,
    /// Brokers that leave have stopped, and are unregistered
    #[arg(long)]
    unregister: bool,
    /// How many replicas topics get, now that there are more brokers, as JSON
    #[arg(long, value_parser = |text: &str| serde_json::from_str::<Raise>(text))]
    raise: Option<Raise>,
    /// Once they are there, more of them must be in sync
    #[arg(long, requires = "raise")]
    in_sync: bool,
}

pub(super) async fn run(args: &Args, cx: &Context) -> anyhow::Result<()> {
    let mut touched = BTreeSet::new();
    let (mut rounds, mut looks) = (0, 0);
    let last = loop {
        let mut admin = Admin::connect(&args.bootstrap).await?;
        let view = admin.view().await?;
        touched.extend(view.moving.iter().map(name));
        let given_up = given_up(args, &view);
        let headless = headless(&view, &given_up)?;
        if !headless.is_empty() {
            rounds += 1;
            ensure!(rounds <= ROUNDS_MAX, "no leader is found for what is given up; apply again");
            cx.out.data(format!(
                "{} partitions go on without what only brokers had that are gone",
                headless.len()
            ))?;
            admin.elect_unclean(&headless).await?;
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let arrived = arrived(&view);
        if args.accept_loss && !arrived.is_empty() {
            // Kafka ends a move when somebody gets in sync. Who was made the leader is so already: told again, it looks.
            admin.reassign(&arrived).await?;
        }
        if !view.moving.is_empty() {
            wait(args, cx, &view).await?;
            // The controller knows it first; brokers name those that a partition has left for a moment longer.
            tokio::time::sleep(LOOK).await;
            continue;
        }
        let changes = match moves(&view, &wish(args, &view)) {
            Err(_) if looks < LOOKS_MAX => {
                looks += 1;
                tokio::time::sleep(LOOK).await;
                continue;
            }
            changes => changes?,
        };
        if changes.is_empty() {
            break view;
        }
        rounds += 1;
        ensure!(rounds <= ROUNDS_MAX, "new topics keep coming up on brokers that leave; apply again");
        let mut stuck =
            only_on(&view, &view.brokers.keys().filter(|id| !view.serves(**id)).copied().collect());
        let lost = only_on(&view, &given_up);
        stuck.retain(|partition| !lost.contains(partition));
        let stuck =
            changes.iter().find(|change| stuck.contains(&format!("{}-{}", change.topic, change.index)));
        if let Some(change) = stuck {
            bail!("{change}: no broker that runs has it in sync; start the one that has, then apply again");
        }
        let replicas: usize = changes.iter().map(|change| change.adding().count()).sum();
        cx.out.data(format!("{replicas} replicas of {} partitions move", changes.len()))?;
        if let Some(raise) = args.raise.as_ref().filter(|_| changes.iter().any(Move::raises)) {
            kafka_raise::hold(&mut admin, raise).await?;
        }
        // Before they start: without the limit a copy would take all of the network.
        admin.throttle(&changes, args.throttle, &addresses(&view)).await?;
        admin.reassign(&changes).await?;
        // What has little to copy has arrived before anybody looks again.
        touched.extend(changes.into_iter().map(|change| (change.topic, change.index)));
    };
    let mut admin = Admin::connect(&args.bootstrap).await?;
    if !last.throttled.is_empty() {
        admin.lift(&last.throttled, &addresses(&last)).await?;
    }
    if !touched.is_empty() {
        admin.elect_preferred(&touched).await?;
        cx.out.data(format!("{} partitions have arrived, and nothing is limited any more", touched.len()))?;
    }
    if let Some(raise) = args.raise.as_ref().filter(|_| args.in_sync) {
        kafka_raise::finish(&args.bootstrap, raise, &last, cx).await?;
    }
    if args.unregister {
        for broker in &args.leaving {
            unregister(&mut admin, *broker).await?;
        }
    }
    Ok(())
}

fn wish(args: &Args, view: &View) -> Wish {
    Wish {
        members: args.members.iter().copied().filter(|id| view.serves(*id)).collect(),
        leaving: args.leaving.iter().copied().collect(),
        fill: args.fill,
        raise: args.raise.clone(),
    }
}

/// Brokers that leave and are gone, where what they alone have is given up.
fn given_up(args: &Args, view: &View) -> BTreeSet<i32> {
    let gone = args.leaving.iter().copied().filter(|id| args.accept_loss && !view.serves(*id));
    gone.collect()
}

/// Partitions that wait for brokers that were given up, and could be led by one that lives.
fn headless(view: &View, given_up: &BTreeSet<i32>) -> anyhow::Result<BTreeSet<(String, i32)>> {
    let lost = only_on(view, given_up);
    let mut found = BTreeSet::new();
    for partition in view.partitions.iter().filter(|partition| partition.leader.is_none()) {
        if !lost.contains(&partition.to_string()) {
            continue;
        }
        // Kafka may say that nobody is in sync; then one that is only down may have it.
        let down = partition.replicas.iter().find(|id| !view.serves(**id) && !given_up.contains(*id));
        if let Some(down) = down {
            bail!(
                "{partition}: broker {down} is down and may have what is to be given up; start it, then apply again"
            );
        }
        if partition.replicas.iter().any(|id| view.serves(*id)) {
            found.insert((partition.topic.clone(), partition.index));
        }
    }
    Ok(found)
}

/// Moves that have nothing left to copy.
fn arrived(view: &View) -> Vec<Move> {
    let in_sync = |moving: &&Moving| {
        let mut partitions = view.partitions.iter();
        let found = partitions.find(|one| one.topic == moving.topic && one.index == moving.index);
        found.is_some_and(|partition| moving.target.iter().all(|id| partition.in_sync.contains(id)))
    };
    let again = |moving: &Moving| Move {
        topic: moving.topic.clone(),
        index: moving.index,
        from: Vec::new(),
        to: moving.target.clone(),
    };
    view.moving.iter().filter(in_sync).map(again).collect()
}

fn name(moving: &Moving) -> (String, i32) {
    (moving.topic.clone(), moving.index)
}

fn addresses(view: &View) -> BTreeMap<i32, String> {
    let serving = view.brokers.iter().filter(|(_, broker)| !broker.fenced);
    serving.map(|(id, broker)| (*id, broker.address.clone())).collect()
}

/// Waits until everything that was on its way has arrived.
async fn wait(args: &Args, cx: &Context, view: &View) -> anyhow::Result<()> {
    let all = view.moving.len();
    let (mut state, mut since) = ((usize::MAX, 0), SystemClock.instant());
    let mut said: Option<Instant> = None;
    loop {
        let mut admin = Admin::connect(&args.bootstrap).await?;
        let moving = admin.moving().await?;
        if moving.is_empty() {
            return Ok(());
        }
        let now = (moving.len(), copied(&addresses(view), &moving).await);
        if now != state {
            (state, since) = (now, SystemClock.instant());
        } else if since.elapsed() >= STALL {
            let stuck = moving.iter().map(|moving| format!("{}-{}", moving.topic, moving.index)).next();
            bail!(
                "{} partitions are on their way and nothing has been copied for {} minutes, {} among them; Kafka goes on by itself: look at the brokers' logs, then apply again",
                moving.len(),
                STALL.as_secs() / 60,
                stuck.unwrap_or_default()
            );
        }
        if said.is_none_or(|at| at.elapsed() >= SAY) {
            said = Some(SystemClock.instant());
            let mebibytes = state.1 >> 20;
            cx.out
                .data(format!("{} of {all} partitions on their way, {mebibytes} MiB copied", moving.len()))?;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Bytes that have come to their new brokers so far; what a broker does not say does not count.
async fn copied(addresses: &BTreeMap<i32, String>, moving: &[Moving]) -> u64 {
    let mut wanted: BTreeMap<i32, BTreeSet<(String, i32)>> = BTreeMap::new();
    for moving in moving {
        for broker in &moving.adding {
            wanted.entry(*broker).or_default().insert(name(moving));
        }
    }
    let mut bytes = 0;
    for (broker, partitions) in wanted {
        let Some(address) = addresses.get(&broker) else { continue };
        if let Ok(mut admin) = Admin::at(address).await {
            bytes += admin.bytes_of(&partitions).await.unwrap_or(0);
        }
    }
    bytes
}

/// Forgets a broker that holds nothing, once it has stopped.
async fn unregister(admin: &mut Admin, broker: i32) -> anyhow::Result<()> {
    let end = SystemClock.instant() + FENCE;
    let view = loop {
        let view = admin.view().await?;
        match view.brokers.get(&broker) {
            // It was unregistered before; or ZooKeeper, which forgets by itself, names nothing that it holds.
            None => return Ok(()),
            Some(found) if found.fenced => break view,
            Some(found) => {
                ensure!(
                    SystemClock.instant() < end,
                    "broker {broker} at {} still takes part; stop it, then apply again",
                    found.address
                );
            }
        }
        tokio::time::sleep(LOOK).await;
    };
    if let Some(partition) = view.on(broker).next() {
        bail!("broker {broker} still holds {partition}; apply again");
    }
    Ok(admin.unregister(broker).await?)
}
