//! `min.insync.replicas` where topics get more replicas: it stays while these are copied, and grows once they are in sync.

use super::kafka_brokers::{LOOK, STALL};
use crate::cli::Context;
use crate::clock::{Clock, SystemClock};
use crate::kafka::Admin;
use crate::kafka::raise::Raise;
use crate::kafka::view::{Partition, View};
use anyhow::{bail, ensure};
use std::collections::BTreeSet;

/// As long as a copy is on its way, one replica in sync must be enough: brokers whose files say more go by what they are
/// told. Where they were told before, that counts.
pub(super) async fn hold(admin: &mut Admin, raise: &Raise) -> anyhow::Result<()> {
    if raise.raises_in_sync() && admin.min_in_sync().await?.is_none() {
        admin.set_min_in_sync(None, raise.former_in_sync).await?;
    }
    Ok(())
}

/// Lets the minimum grow; `settled` is the cluster once nothing is on its way any more.
pub(super) async fn finish(
    bootstrap: &[String],
    raise: &Raise,
    settled: &View,
    cx: &Context,
) -> anyhow::Result<()> {
    let short: Vec<&Partition> =
        settled.partitions.iter().filter(|partition| raise.wants(partition).is_some()).collect();
    if let Some(first) = short.first() {
        bail!(
            "{} partitions should have more replicas and there are not enough brokers that run, {first} among them; start the brokers that are down, then apply again",
            short.len()
        );
    }
    let (mut admin, view) = in_sync(bootstrap, raise).await?;
    let told = admin.min_in_sync().await?;
    if raise.raises_in_sync() && told.is_some_and(|told| told < raise.in_sync) {
        admin.set_min_in_sync(None, raise.in_sync).await?;
        cx.out.data(format!("min.insync.replicas is {}", raise.in_sync))?;
    }
    for (topic, minimum) in raise.own_minimum(&view) {
        admin.set_min_in_sync(Some(&topic), minimum).await?;
        cx.out.data(format!("min.insync.replicas of {topic} is {minimum}"))?;
    }
    // Who had everything restarted last, and leads nothing until somebody asks.
    let elsewhere = view.partitions.iter().filter(|partition| {
        let preferred = partition.replicas.first();
        partition.leader.as_ref() != preferred && preferred.is_some_and(|id| partition.in_sync.contains(id))
    });
    let elsewhere: BTreeSet<(String, i32)> =
        elsewhere.map(|partition| (partition.topic.clone(), partition.index)).collect();
    if !elsewhere.is_empty() {
        admin.elect_preferred(&elsewhere).await?;
    }
    Ok(())
}

/// Waits until nobody is kept from writing by a higher minimum.
async fn in_sync(bootstrap: &[String], raise: &Raise) -> anyhow::Result<(Admin, View)> {
    let (mut least, mut since) = (usize::MAX, SystemClock.instant());
    loop {
        let mut admin = Admin::connect(bootstrap).await?;
        let view = admin.view().await?;
        let behind = raise.behind(&view);
        let Some(first) = behind.first() else { return Ok((admin, view)) };
        if behind.len() < least {
            (least, since) = (behind.len(), SystemClock.instant());
        }
        ensure!(
            since.elapsed() < STALL,
            "{} partitions have too few replicas in sync for a higher min.insync.replicas, {first} among them; look at the brokers' logs, then apply again",
            behind.len()
        );
        tokio::time::sleep(LOOK).await;
    }
}
