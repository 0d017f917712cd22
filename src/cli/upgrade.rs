//! `aesop upgrade`: aesop's own programs. The plan is that of `apply`, which brings them too; this command says first
//! which hosts run what, and does nothing where no program is another.

use super::asked::Asked;
pub(super) use super::carry::Approval as Args;
use super::carry::{can_ask, carry_out};
use super::deployment::{Gathered, Goal, gather_for};
use super::{Context, Exit};
use crate::lock::VERSION;
use crate::plan::HostFacts;
use crate::service::{HostState, paths};
use std::collections::BTreeMap;

pub(super) async fn run(approval: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    can_ask("upgrade", approval.yes)?;
    let on = &cx.globals.on;
    let gathered = gather_for(cx, &inventory, None, Goal::Inventory, on, &approval.consent).await?;
    let others = others(&gathered);
    let refused = !gathered.plan.refused.is_empty() || !gathered.plan.unreachable.is_empty();
    if others.is_empty() && !refused {
        let pending = !gathered.plan.is_empty();
        gathered.session.close().await;
        cx.out.note(format!("Every host runs the programs of this aesop {VERSION} already."));
        if pending {
            cx.out.note("What else is to change is for `aesop plan` and `aesop apply`.");
        }
        return Ok(Exit::Done);
    }
    for (host, words) in &others {
        cx.out.note(format!("{host}: {words}"));
    }
    let asked = Asked::new("upgrade", on);
    carry_out(cx, &inventory, gathered, "upgrade", &asked, approval.yes).await
}

/// What runs on hosts that is not of this build.
fn others(gathered: &Gathered) -> BTreeMap<&str, String> {
    let hosts = gathered.answers().filter_map(|(host, facts)| {
        let programs = programs(gathered.desired.get(host)?, facts);
        let from = if facts.deployed.is_empty() { "nothing" } else { &facts.deployed };
        let words = format!("{} from {from} to {VERSION}", programs.join(", "));
        (!programs.is_empty()).then_some((host.as_str(), words))
    });
    hosts.collect()
}

/// Names of programs whose link is not where it should point.
fn programs(state: &HostState, facts: &HostFacts) -> Vec<String> {
    let links = state.parts.iter().flat_map(|part| &part.links);
    let ours = links.filter_map(|link| {
        let name = link.path.strip_prefix(paths::BIN)?.strip_prefix('/')?;
        (facts.links.get(&link.path) != Some(&link.target)).then(|| name.to_owned())
    });
    ours.collect()
}
