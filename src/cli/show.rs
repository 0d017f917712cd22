//! A plan for people.

use crate::apply::Prepared;
use crate::plan::{Action, MEMBER, Plan, REBOOT, STOP, Stage, Step, Turn, Wave, render_diffs};
use std::fmt::Write as _;

/// More directories than this are counted, not listed.
const LISTED_DIRECTORIES: usize = 2;

/// Which diffs are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Diffs {
    /// Of files that come and go too.
    All,
    /// Of files that are there and stay.
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
        let mut steps = stage.waves.iter().flat_map(|wave| wave.steps.values().flatten());
        if !steps.any(Step::is_told) {
            continue;
        }
        let what = if stage.removes { "no longer declared: " } else { "" };
        let _infallible = writeln!(text, "{}. {what}{}", number + 1, stage.service);
        let order = stage.waves.iter().find_map(|wave| wave.turn.as_ref());
        if let (Some(turn), true) = (order, stage.waves.len() > 1) {
            let what = match stage.service.as_str() {
                Stage::REBOOT => "reboots",
                _ if stage.removes => "members leave",
                _ => "restarts",
            };
            let _infallible = writeln!(text, "   {what} {}", turn.order);
        }
        for wave in &stage.waves {
            show_wave(&mut text, wave);
        }
    }
    show_drift(&mut text, plan);
    show_schedule(&mut text, &plan.schedule());
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

/// What of the drift no diff shows.
fn show_drift(text: &mut String, plan: &Plan) {
    if !plan.drift.is_empty() {
        text.push_str("\nDrift: not as aesop left it; the steps above put it right\n");
    }
    for drift in &plan.drift {
        let _infallible = writeln!(text, "   {}: {} ({})", drift.host, drift.name, drift.found);
    }
}

/// What starts, restarts and stops. A plan that only starts what is new needs none: its steps say it all.
fn show_schedule(text: &mut String, turns: &[Turn]) {
    if turns.iter().all(|turn| turn.verb == "start") {
        return;
    }
    text.push_str("\nSchedule\n");
    for (number, turn) in turns.iter().enumerate() {
        let reason = turn.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        let (verb, unit, hosts) = (turn.verb, &turn.unit, turn.hosts.join(", "));
        let _infallible = match (&turn.reason, verb) {
            (Some(words), MEMBER) => writeln!(text, "{:>4}. {unit}, by {hosts}: {words}", number + 1),
            (_, REBOOT) => writeln!(text, "{:>4}. reboot {hosts}", number + 1),
            _ => writeln!(text, "{:>4}. {verb} {unit} on {hosts}{reason}", number + 1),
        };
        if let Some(gate) = &turn.gate {
            let also = match turn.gate_also_on.as_slice() {
                [] => String::new(),
                others => format!("; then the same on {}", others.join(", ")),
            };
            let _infallible = writeln!(text, "        gate: {gate}{also}");
        }
        if let Some(unavailable) = &turn.unavailable {
            let when = if verb == STOP { "unavailable until it is started" } else { "meanwhile unavailable" };
            let _infallible = writeln!(text, "        {when}: {unavailable}");
        }
        if turn.put_back {
            text.push_str("        where the gate fails, the former configuration is put back\n");
        }
    }
}

fn show_wave(text: &mut String, wave: &Wave) {
    // Hosts with the same steps are shown once.
    let mut groups: Vec<(Vec<&str>, Vec<String>)> = Vec::new();
    for (host, steps) in &wave.steps {
        let lines = step_lines(steps);
        if lines.is_empty() {
            continue;
        }
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
    for step in steps.iter().filter(|step| step.is_told()) {
        if new_directory(step) && directories > LISTED_DIRECTORIES {
            if !counted {
                lines.push(format!("+ {directories} directories"));
                counted = true;
            }
            continue;
        }
        let reason = step.reason().map(|reason| format!(" ({reason})")).unwrap_or_default();
        lines.push(format!("{} {}{reason}", step.sign(), step.action()));
    }
    lines
}

fn new_directory(step: &Step) -> bool {
    matches!(step.action(), Action::SetDirectory { exists: false, .. })
}
