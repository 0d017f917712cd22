//! What plan, apply and status have in common: read the inventory, ask the hosts, show a plan.

use super::Context;
use crate::apply::{Prepared, Session, observe};
use crate::artifact::Store;
use crate::host::ssh::SshConnect;
use crate::inventory::model::Inventory;
use crate::plan::{Action, Observed, Plan, Stage, Step, Wave, plan, render_diffs};
use crate::preflight::{Verdict, consider};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

/// More directories than this are counted, not listed.
const LISTED_DIRECTORIES: usize = 2;

/// All that a plan was made from.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) prepared: Prepared,
    pub(super) session: Session,
    pub(super) observed: Observed,
    pub(super) plan: Plan,
    pub(super) verdicts: Vec<Verdict>,
}

/// Asks the hosts, or reads what they would say from a file, and plans.
pub(super) async fn gather(
    cx: &Context,
    inventory: &Inventory,
    observed: Option<&Path>,
) -> anyhow::Result<Gathered> {
    let selected = cx.hosts(inventory)?;
    // It reads files and waits for password managers, once, before anything else can happen.
    let prepared = tokio::task::block_in_place(|| match observed {
        Some(_) => Prepared::with_store(inventory, Store::unhashed),
        None => Prepared::new(inventory),
    })?;
    let (session, observed) = match observed {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?;
            (Session::default(), serde_json::from_str(&text)?)
        }
        None => ask(cx, inventory, &prepared, &selected).await,
    };
    let mut plan = plan(&inventory.cluster, &prepared.desired, &observed);
    plan.select(&selected);
    let verdicts = prepared.preflight(inventory, &observed);
    consider(&mut plan, &verdicts);
    Ok(Gathered { prepared, session, observed, plan, verdicts })
}

/// Asks the selected hosts.
async fn ask(
    cx: &Context,
    inventory: &Inventory,
    prepared: &Prepared,
    selected: &BTreeSet<String>,
) -> (Session, Observed) {
    let connect = SshConnect::new(inventory, prepared.sudo_passwords.clone());
    let mut desired = prepared.desired.clone();
    desired.retain(|name, _| selected.contains(name));
    observe(&connect, inventory, &desired, usize::from(cx.globals.parallel)).await
}

/// Which diffs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Diffs {
    /// Of new files too.
    All,
    /// Of files that are there already.
    Changed,
    /// None.
    None,
}

/// The plan for people: diffs, then what happens in which order.
pub(super) fn show(plan: &Plan, prepared: &Prepared, diffs: Diffs) -> String {
    let mut text = match diffs {
        Diffs::All => render_diffs(&plan.diffs, true),
        Diffs::Changed => render_diffs(&plan.diffs, false),
        Diffs::None => String::new(),
    };
    if !text.is_empty() && !text.ends_with("\n\n") {
        text.push('\n');
    }
    for name in &prepared.overridden {
        let _infallible = writeln!(text, "Template {name} comes from the folder beside the inventory.");
    }
    for change in &prepared.lock_changes {
        let _infallible = writeln!(text, "Lock file: {change}");
    }
    for (number, stage) in plan.stages.iter().enumerate() {
        if stage.service == Stage::GENERATION {
            continue;
        }
        let what = if stage.removes { "no longer declared: " } else { "" };
        let _infallible = writeln!(text, "{}. {what}{}", number + 1, stage.service);
        for wave in &stage.waves {
            show_wave(&mut text, wave);
        }
    }
    for note in &plan.notes {
        let _infallible = writeln!(text, "Note: {note}");
    }
    if plan.is_empty() && plan.unreachable.is_empty() {
        text.push_str("No changes: every host is as the inventory says.\n");
    } else if plan.is_empty() {
        text.push_str("No changes on the hosts that answered.\n");
    } else {
        let _infallible = writeln!(text, "\n{}", plan.summary());
    }
    text
}

fn show_wave(text: &mut String, wave: &Wave) {
    // Hosts with the same steps are shown once.
    let mut groups: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    for (host, steps) in &wave.steps {
        let lines = step_lines(steps);
        match groups.iter_mut().find(|(_, known)| *known == lines) {
            Some((hosts, _)) => hosts.push(host),
            None => groups.push((vec![host], lines)),
        }
    }
    for (hosts, lines) in groups {
        let _infallible = writeln!(text, "   {}", hosts.join(", "));
        for line in lines {
            let _infallible = writeln!(text, "     {line}");
        }
    }
    if !wave.gates.is_empty() {
        let hosts: Vec<&str> = wave.gates.keys().map(String::as_str).collect();
        let _infallible = writeln!(text, "       then the same test on {}", hosts.join(", "));
    }
}

fn step_lines(steps: &[Step]) -> Vec<String> {
    let mut lines = Vec::new();
    let directories = steps.iter().filter(|step| new_directory(step)).count();
    let mut counted = false;
    for step in steps {
        if new_directory(step) && directories > LISTED_DIRECTORIES {
            if !counted {
                lines.push(format!("+ {directories} directories"));
                counted = true;
            }
            continue;
        }
        // What goes with other steps is not worth a line of its own, but for the gates.
        if matches!(step.action(), Action::RecordReady(_) if step.reason().is_none())
            || matches!(
                step.action(),
                Action::ReloadSystemd
                    | Action::EnableUnit(_)
                    | Action::ApplySysctl(_)
                    | Action::RecordManifest(_)
            )
        {
            continue;
        }
        let reason = step.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
        lines.push(format!("{} {}{reason}", step.action().sign(), step.action()));
    }
    lines
}

fn new_directory(step: &Step) -> bool {
    matches!(step.action(), Action::SetDirectory { exists: false, .. })
}
