//! `aesop forget`.

use super::asked::Asked;
use super::carry::{can_ask, carry_out};
use super::deployment::{Consent, Goal, gather, gather_for};
use super::{Context, Exit, UsageError};
use crate::plan::Observation;
use crate::service::roles;

/// Flags of `aesop forget`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The host that is gone
    #[arg(value_name = "HOST")]
    host: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Give up what no other broker has; the plan names it. Without this, such a host is not forgotten
    #[arg(long)]
    accept_data_loss: bool,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let Args { host, yes, accept_data_loss } = args;
    can_ask("forget", yes)?;
    if roles(&inventory).contains_key(&host) {
        let message = format!("{host} is in the inventory; take it out of its roles first");
        return Err(UsageError(message).into());
    }
    let before = gather(cx, &inventory, None).await?;
    let answer = before.observed.hosts.get(&host).cloned();
    before.session.close().await;
    match answer {
        None => {
            let message = format!("nothing of aesop's is on {host}, as far as the lock file knows");
            return Err(UsageError(message).into());
        }
        Some(Observation::Facts(_)) => {
            anyhow::bail!("{host} answers, so it is not gone: `aesop apply` empties it and takes it out");
        }
        Some(Observation::Failed(why)) => cx.out.note(format!("{host} does not answer: {why}")),
    }
    let (what, data) = (vec![host.clone()], accept_data_loss);
    let asked = Asked { what, data, ..Asked::new("forget", &cx.globals.on) };
    let consent = Consent { gone: vec![host], accept_data_loss, ..Consent::default() };
    let gathered = gather_for(cx, &inventory, None, Goal::Inventory, &cx.globals.on, &consent).await?;
    carry_out(cx, &inventory, gathered, "forget", &asked, yes).await
}
