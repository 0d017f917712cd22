//! `aesop resume`.

pub(super) use super::carry::Approval as Args;
use super::carry::{can_ask, carry_out};
use super::deployment::{Gathered, Goal, gather_for};
use super::{Context, Exit, journal};
use crate::apply::LOCK_STALE;
use crate::inventory::model::Inventory;
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) async fn run(approval: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    can_ask("resume", approval.yes)?;
    let mut gathered =
        gather_for(cx, &inventory, None, Goal::Inventory, &cx.globals.on, &approval.consent).await?;
    let held = held(&gathered);
    for (id, holder) in &held {
        cx.out.note(holder.words());
        if holder.left() > Duration::ZERO {
            let left = holder.left();
            gathered.session.close().await;
            cx.out
                .note(format!("It may still be at work. Waiting {} s for its lease to end.", left.as_secs()));
            tokio::time::sleep(left).await;
            gathered =
                gather_for(cx, &inventory, None, Goal::Inventory, &cx.globals.on, &approval.consent).await?;
            let now = self::held(&gathered);
            if now.get(id).is_some_and(|now| now.left() > Duration::ZERO) {
                gathered.session.close().await;
                anyhow::bail!(
                    "that apply is alive: {} goes on; let it end, or stop it, then resume",
                    holder.operator
                );
            }
        }
    }
    if held.is_empty() {
        cx.out.note(last(&inventory)?);
    }
    if gathered.plan.is_empty() && gathered.plan.refused.is_empty() && held.is_empty() {
        gathered.session.close().await;
        cx.out.note("Nothing is left to do.");
        return Ok(Exit::Done);
    }
    carry_out(cx, &inventory, gathered, "resume", approval.yes).await
}

/// An apply that holds locks.
struct Held {
    operator: String,
    hosts: Vec<String>,
    since: i64,
    /// Seconds since its last sign of life, by the clock of the host that saw it last.
    silent: i64,
}

fn held(gathered: &Gathered) -> BTreeMap<String, Held> {
    let mut held: BTreeMap<String, Held> = BTreeMap::new();
    for (host, facts) in gathered.answers() {
        let Some(lock) = &facts.lock else { continue };
        let silent = facts.now - lock.touched;
        let entry = held.entry(lock.id.clone()).or_insert_with(|| Held {
            operator: lock.operator.clone(),
            hosts: Vec::new(),
            since: lock.since,
            silent,
        });
        entry.hosts.push(host.clone());
        entry.since = entry.since.min(lock.since);
        entry.silent = entry.silent.min(silent);
    }
    held
}

impl Held {
    fn left(&self) -> Duration {
        LOCK_STALE.saturating_sub(Duration::from_secs(self.silent.max(0).unsigned_abs()))
    }

    fn words(&self) -> String {
        let since =
            jiff::Timestamp::from_second(self.since).map_or_else(|_| "?".to_owned(), |time| time.to_string());
        format!(
            "An apply of {}, begun {since}, did not end: it holds {}, its last sign of life was {} s ago.",
            self.operator,
            self.hosts.join(", "),
            self.silent
        )
    }
}

/// What the local audit log says of the last one.
fn last(inventory: &Inventory) -> anyhow::Result<String> {
    let Some(entry) = journal::read(inventory)?.pop() else {
        return Ok("No apply is known here that did not end.".to_owned());
    };
    let journal::Entry { command, operator, time, .. } = &entry;
    Ok(match entry.result.as_str() {
        "started" => {
            format!("The {command} of {operator}, begun {time}, did not end, and holds no host any more.")
        }
        "failed" => {
            format!("The {command} of {operator} ended {time} with failures: {}", entry.failures.join("; "))
        }
        _ => format!("The last {command}, of {operator}, ended well at {time}."),
    })
}
