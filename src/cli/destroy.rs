//! `aesop destroy`.

use super::asked::Asked;
use super::carry::{can_ask, carry_out, confirmed};
use super::deployment::{Consent, Goal, gather_for};
use super::{Context, Exit, UsageError};
use std::io::IsTerminal;

/// Flags of `aesop destroy`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Remove the data directories too; asks for the cluster's name
    #[arg(long)]
    data: bool,
    /// The cluster's name, instead of typing it
    #[arg(long, value_name = "CLUSTER", requires = "data")]
    confirm: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    can_ask("destroy", args.yes)?;
    if args.data {
        let question = format!(
            "All data of {} on its hosts will be gone: Kafka's topics, ZooKeeper's checkpoints, the relays' logs. Type the cluster's name: ",
            inventory.cluster
        );
        let sure = match &args.confirm {
            Some(name) => *name == inventory.cluster,
            None if !std::io::stdin().is_terminal() => {
                let message = "destroy --data wants the cluster's name, and stdin is no terminal; give --confirm CLUSTER";
                return Err(UsageError(message.to_owned()).into());
            }
            None => confirmed(&question, &inventory.cluster)?,
        };
        if !sure {
            return Err(UsageError(format!(
                "that is not the cluster's name, {}; nothing was changed",
                inventory.cluster
            ))
            .into());
        }
    }
    let goal = Goal::Nothing { data: args.data };
    let gathered = gather_for(cx, &inventory, None, goal, &cx.globals.on, &Consent::default()).await?;
    let asked = Asked { data: args.data, ..Asked::new("destroy", &cx.globals.on) };
    carry_out(cx, &inventory, gathered, "destroy", &asked, args.yes).await
}
