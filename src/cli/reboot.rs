//! `aesop reboot`: one host after the other, for a new kernel, by a plan behind gates.

use super::asked::Asked;
use super::carry::{can_ask, carry_out};
use super::deployment::{Consent, Goal, gather_for};
use super::{Context, Exit};
use crate::plan::reboot;

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
    carry_out(cx, &inventory, gathered, "reboot", &asked, args.yes).await
}
