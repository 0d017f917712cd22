//! What `start`, `stop` and `restart` have in common: a plan of a person's wish, through the same order,
//! gates, locks and journal as an apply.

use super::asked::Asked;
use super::carry::{can_ask, carry_out};
use super::deployment::{Consent, Goal, gather_for};
use super::{Context, Exit};
use crate::inventory::model::Inventory;
use crate::plan::{Operation, Scope, operate};

/// Flags of these commands.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Only these services: kafka, zookeeper, relay, consumer, consumer/<group>, agent, monitor
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

/// Plans and carries out an operation on the hosts of `--on`.
pub(super) async fn run(args: Args, cx: &Context, operation: Operation, name: &str) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    can_ask(name, args.yes)?;
    let asked = Asked { what: args.services, ..Asked::new(name, &cx.globals.on) };
    one(cx, &inventory, operation, name, &asked, args.yes).await
}

/// The same for what is known to be asked for; `name` is the command that does it.
pub(super) async fn one(
    cx: &Context,
    inventory: &Inventory,
    operation: Operation,
    name: &str,
    asked: &Asked,
    yes: bool,
) -> anyhow::Result<Exit> {
    let scope = Scope { hosts: cx.select(inventory, &asked.on)?, services: asked.what.clone() };
    known(inventory, &scope)?;
    // All hosts are asked: those outside the scope may be in a gate.
    let mut gathered = gather_for(cx, inventory, None, Goal::Inventory, &[], &Consent::default()).await?;
    let mut plan = operate(&inventory.cluster, &gathered.desired, &gathered.observed, &scope, operation);
    plan.unreachable.retain(|host, _| scope.hosts.contains(host));
    gathered.plan = plan;
    if gathered.plan.is_empty() && gathered.plan.unreachable.is_empty() && gathered.plan.refused.is_empty() {
        gathered.session.close().await;
        cx.out.note(format!("Nothing to {name}: it is so already."));
        return Ok(Exit::Done);
    }
    carry_out(cx, inventory, gathered, name, asked, yes).await
}

/// A misspelt service would do nothing in silence.
fn known(inventory: &Inventory, scope: &Scope) -> anyhow::Result<()> {
    let mut known: Vec<String> = crate::service::roles(inventory).into_values().flatten().collect();
    known.extend(["agent".to_owned(), "consumer".to_owned()]);
    known.sort();
    known.dedup();
    for service in &scope.services {
        if !known.contains(service) {
            let message = format!("there is no service `{service}`; this inventory has {}", known.join(", "));
            return Err(super::UsageError(message).into());
        }
    }
    Ok(())
}
