//! The effects that preflight checks need: what our binaries want, and asking hosts for their peers.

use super::session::{Session, facts_of};
use super::{Prepared, session};
use crate::host::{Call, Command};
use crate::inventory::model::Inventory;
use crate::plan::{Machine, Observed};
use crate::preflight::{Edge, Verdict, edges, examine, judge};
use crate::service::HostState;
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};

impl Prepared {
    /// The verdicts on all hosts that answered.
    pub fn preflight(&self, inventory: &Inventory, observed: &Observed) -> Vec<Verdict> {
        examine(inventory, &self.desired, observed, self.store.glibc_needed())
    }
}

/// Lets every selected host with a connection try its ways to the others.
pub async fn ask_peers(
    inventory: &Inventory,
    session: &Session,
    selected: &BTreeMap<String, HostState>,
    parallel: usize,
) -> Vec<Verdict> {
    let ways = edges(inventory);
    let ways = ways.iter().filter(|(host, _)| selected.contains_key(*host));
    let asked = futures_util::stream::iter(ways.filter_map(|(host, edges)| {
        let connection = session.host(host)?;
        Some(async move {
            let machine = try_ways(host, connection.as_ref(), edges).await.unwrap_or_default();
            judge(host, edges, &machine)
        })
    }));
    let mut verdicts: Vec<Verdict> = asked.buffer_unordered(parallel.max(1)).collect().await;
    verdicts.sort_by(|a, b| a.host.cmp(&b.host));
    verdicts
}

async fn try_ways(host: &str, connection: &dyn crate::host::Host, edges: &BTreeSet<Edge>) -> Option<Machine> {
    let questions: Vec<String> = edges.iter().map(|edge| format!("peer|{}\n", edge.question())).collect();
    let call = Call { command: Command::Observe(questions.concat()), timeout: session::OBSERVE_LIMIT };
    facts_of(host, connection.call(call, &|_| ()).await).ok().map(|facts| facts.machine)
}
