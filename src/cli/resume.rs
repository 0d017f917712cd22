//! `aesop resume`: finishes what was broken off, by the command that it was. What that is, the locks that it left on
//! hosts say; where it left none, the local audit log.

use super::asked::{Asked, Finish};
pub(super) use super::carry::Approval as Args;
use super::carry::{can_ask, carry_out};
use super::deployment::{Consent, Gathered, Goal, gather_for};
use super::journal::{self, Entry};
use super::{Context, Exit, UsageError, operate, reboot};
use crate::apply::LOCK_STALE;
use crate::inventory::model::Inventory;
use anyhow::{anyhow, bail};
use std::collections::BTreeMap;
use std::time::Duration;

pub(super) async fn run(approval: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    can_ask("resume", approval.yes)?;
    if !cx.globals.on.is_empty() {
        let message = "resume works on the hosts of what it finishes; leave out --on";
        return Err(UsageError(message.to_owned()).into());
    }
    let seen = until_free(cx, &inventory, &approval.consent).await?;
    let last = journal::last(&inventory)?;
    if let (true, Some(last)) = (seen.held.is_empty(), &last) {
        cx.out.note(words_of(last));
    }
    let Some(asked) = broken_off(&seen, last.as_ref())? else {
        cx.out.note("Nothing was broken off. What hosts lack is for `aesop plan` and `aesop apply`.");
        return Ok(Exit::Done);
    };
    let words = asked.words();
    let finish = asked.finish();
    let finish =
        finish.map_err(|why| anyhow!("resume does not finish `{words}`: {why}. Repeat it yourself"))?;
    cx.out.note(format!("Going on with `{words}`."));
    let goal = match finish {
        Finish::Goal(goal) => goal,
        Finish::Operation(operation) => {
            return operate::one(cx, &inventory, operation, "resume", &asked, approval.yes).await;
        }
        Finish::Reboot => return reboot::go_on(cx, &inventory, &asked, approval.yes).await,
    };
    let gathered = gather_for(cx, &inventory, None, goal, &asked.on, &approval.consent).await?;
    let plan = &gathered.plan;
    if plan.is_empty() && plan.refused.is_empty() && plan.unreachable.is_empty() {
        gathered.session.close().await;
        cx.out.note("Nothing of it is left to do.");
        return Ok(Exit::Done);
    }
    carry_out(cx, &inventory, gathered, "resume", &asked, approval.yes).await
}

/// What the hosts say.
struct Seen {
    /// Locks, by the id of who holds them.
    held: BTreeMap<String, Held>,
    /// The highest generation of a host.
    generation: u64,
}

/// Looks at the locks, and waits until nobody can be at work any more.
async fn until_free(cx: &Context, inventory: &Inventory, consent: &Consent) -> anyhow::Result<Seen> {
    let seen = look(cx, inventory, consent).await?;
    for holder in seen.held.values() {
        cx.out.note(holder.words());
    }
    let left = seen.held.values().map(Held::left).max().unwrap_or_default();
    if left.is_zero() {
        return Ok(seen);
    }
    cx.out.note(format!("It may still be at work. Waiting {} s for its lease to end.", left.as_secs()));
    tokio::time::sleep(left).await;
    let now = look(cx, inventory, consent).await?;
    match now.held.values().find(|holder| !holder.left().is_zero()) {
        Some(alive) => bail!("it is alive: {} goes on; let it end, or stop it, then resume", alive.operator),
        None => Ok(now),
    }
}

async fn look(cx: &Context, inventory: &Inventory, consent: &Consent) -> anyhow::Result<Seen> {
    let gathered = gather_for(cx, inventory, None, Goal::Inventory, &[], consent).await?;
    let generation = gathered.answers().map(|(_, facts)| facts.generation).max().unwrap_or_default();
    let seen = Seen { held: held(&gathered), generation };
    gathered.session.close().await;
    Ok(seen)
}

/// Who holds locks.
struct Held {
    operator: String,
    /// None where an older aesop took the lock.
    asked: Option<Asked>,
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
            asked: Asked::from_lock(&lock.operation),
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
        let what = self
            .asked
            .as_ref()
            .map_or_else(|| "Something".to_owned(), |asked| format!("`{}`", asked.words()));
        format!(
            "{what} of {}, begun {since}, did not end: it holds {}, its last sign of life was {} s ago.",
            self.operator,
            self.hosts.join(", "),
            self.silent
        )
    }
}

/// What is to be finished; none: nothing was broken off.
fn broken_off(seen: &Seen, last: Option<&Entry>) -> anyhow::Result<Option<Asked>> {
    let mut asked: Vec<Asked> = Vec::new();
    for holder in seen.held.values() {
        let Some(theirs) = holder.asked.clone().or_else(|| of_entry(last?)) else {
            bail!(
                "an older aesop holds {}, and does not say what it was to do; repeat its command yourself",
                holder.hosts.join(", ")
            );
        };
        if !asked.iter().any(|other| other.words() == theirs.words()) {
            asked.push(theirs);
        }
    }
    if asked.len() > 1 {
        let all: Vec<String> = asked.iter().map(|asked| format!("`{}`", asked.words())).collect();
        bail!("more than one was broken off: {}; repeat yourself what is still wanted", all.join(", "));
    }
    if let Some(asked) = asked.pop() {
        return Ok(Some(asked));
    }
    let Some(entry) = last.filter(|entry| entry.result != "done") else { return Ok(None) };
    let Some(asked) = of_entry(entry) else {
        bail!("the audit log does not say what the {} was to do; repeat it yourself", entry.command);
    };
    if seen.generation > entry.generation {
        bail!(
            "since then somebody has made generation {}; if `{}` is still wanted, repeat it yourself",
            seen.generation,
            asked.words()
        );
    }
    Ok(Some(asked))
}

/// What a line of the audit log was about; in those of an older aesop it is only known of what follows the inventory.
fn of_entry(entry: &Entry) -> Option<Asked> {
    let inventory = matches!(entry.command.as_str(), "apply" | "upgrade");
    entry.asked.clone().or_else(|| inventory.then(|| Asked::new(&entry.command, &[])))
}

/// What the local audit log says of the last one.
fn words_of(entry: &Entry) -> String {
    let Entry { command, operator, time, .. } = entry;
    match entry.result.as_str() {
        "started" => {
            format!("The {command} of {operator}, begun {time}, did not end, and holds no host any more.")
        }
        "failed" => {
            format!("The {command} of {operator} ended {time} with failures: {}", entry.failures.join("; "))
        }
        _ => format!("The last {command}, of {operator}, ended well at {time}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(asked: Option<Asked>, command: &str, result: &str) -> Entry {
        let line = format!(
            r#"{{"time": "", "operator": "anna", "command": "{command}", "generation": 5, "result": "{result}", "plan": ""}}"#
        );
        Entry { asked, ..serde_json::from_str(&line).unwrap() }
    }

    fn seen(held: &[Option<&Asked>], generation: u64) -> Seen {
        let holder = |(number, asked): (usize, Option<&Asked>)| {
            let asked = asked.cloned();
            let (operator, hosts) = ("anna".to_owned(), vec![format!("k{number}")]);
            (number.to_string(), Held { operator, asked, hosts, since: 0, silent: 500 })
        };
        Seen { held: held.iter().copied().enumerate().map(holder).collect(), generation }
    }

    #[test]
    fn what_was_broken_off_is_what_is_finished() {
        let asked = |command| Asked::new(command, &["k1".to_owned()]);
        let rollback = Asked { back_to: Some(3), ..asked("rollback") };
        let applied = entry(Some(asked("apply")), "apply", "done");
        // A host's lock counts before what this machine has noted.
        for asked in [rollback.clone(), asked("stop"), asked("destroy"), asked("apply")] {
            let found = broken_off(&seen(&[Some(&asked)], 5), Some(&applied)).unwrap();
            assert_eq!(found.as_ref(), Some(&asked));
            for result in ["started", "failed"] {
                // Resumed once already, and broken off again.
                for command in [asked.command.as_str(), "resume"] {
                    let last = entry(Some(asked.clone()), command, result);
                    let found = broken_off(&seen(&[], 5), Some(&last)).unwrap();
                    assert_eq!(found.as_ref(), Some(&asked));
                }
            }
        }
        assert_eq!(broken_off(&seen(&[], 5), Some(&applied)).unwrap(), None);
        assert_eq!(broken_off(&seen(&[], 0), None).unwrap(), None);
        // An older aesop's: what followed the inventory can be finished, nothing else.
        let old = broken_off(&seen(&[None], 5), Some(&entry(None, "apply", "started"))).unwrap();
        assert_eq!(old, Some(Asked::new("apply", &[])));
        for (seen, last) in [
            (seen(&[None], 5), Some(entry(None, "rollback", "started"))),
            (seen(&[None], 5), None),
            (seen(&[], 5), Some(entry(None, "resume", "started"))),
            (seen(&[], 6), Some(entry(Some(rollback.clone()), "rollback", "started"))),
            (seen(&[Some(&rollback), Some(&asked("apply"))], 5), None),
        ] {
            let error = broken_off(&seen, last.as_ref()).unwrap_err().to_string();
            assert!(error.contains("yourself"), "{error}");
        }
    }
}
