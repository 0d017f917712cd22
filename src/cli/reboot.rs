//! `aesop reboot`: one host after the other, for a new kernel, by a plan behind gates.

use super::asked::Asked;
use super::carry::{can_ask, carry_out};
use super::deployment::{Consent, Goal, gather_for};
use super::{Context, Exit};
use crate::inventory::model::Inventory;
use crate::plan::{reboot, reboot_rest};

/// Flags of `aesop reboot`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let hosts = cx.hosts(&inventory)?;
    can_ask("reboot", args.yes)?;
    let asked = Asked::new("reboot", &cx.globals.on);
    // All are asked: those that stay up are in the gates.
    let mut gathered = gather_for(cx, &inventory, None, Goal::Inventory, &[], &Consent::default()).await?;
    gathered.plan = reboot(&inventory.cluster, &gathered.desired, &gathered.observed, &hosts);
    let rebooted = gathered.answers().filter(|(host, _)| hosts.contains(*host));
    let boots = rebooted.map(|(host, facts)| (host.clone(), facts.boot.clone())).collect();
    carry_out(cx, &inventory, gathered, "reboot", &Asked { boots, ..asked }, args.yes).await
}

/// Goes on with one that was broken off.
pub(super) async fn go_on(
    cx: &Context,
    inventory: &Inventory,
    asked: &Asked,
    yes: bool,
) -> anyhow::Result<Exit> {
    let mut gathered = gather_for(cx, inventory, None, Goal::Inventory, &[], &Consent::default()).await?;
    gathered.plan = reboot_rest(&inventory.cluster, &gathered.desired, &gathered.observed, &asked.boots);
    carry_out(cx, inventory, gathered, "resume", asked, yes).await
}
