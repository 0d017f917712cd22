//! `aesop rollback`.

use super::asked::Asked;
use super::carry::{can_ask, carry_out};
use super::deployment::{Consent, Goal, gather_for};
use super::{Context, Exit};

/// Flags of `aesop rollback`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Which generation; without it the one before the last
    generation: Option<u64>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    can_ask("rollback", args.yes)?;
    let goal = Goal::Generation { back_to: args.generation, since: None };
    let gathered = gather_for(cx, &inventory, None, goal, &cx.globals.on, &Consent::default()).await?;
    let asked = Asked::new("rollback", &cx.globals.on);
    carry_out(cx, &inventory, gathered, "rollback", &asked, args.yes).await
}
