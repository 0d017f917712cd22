//! What is done where a service does not become ready with a new configuration: the former files come back, and the unit
//! is started again and proven. Only where that is the whole truth: never over a version, a format, an id or a
//! membership.

use super::HostFacts;
use super::order::Work;
use super::step::{Action, Step, UnitStart};
use crate::service::{Gate, Part, paths};
use std::collections::BTreeSet;

/// Settings that are about who is who and where data lies, not about how a service runs: nothing goes back over a
/// change of these by itself.
const FOR_GOOD: [&str; 6] =
    ["process.roles", "controller.quorum.", "node.id", "broker.id", "log.dirs", "dataDir"];

/// The steps; none where it must not be done, or where there is nothing to go back to.
pub(super) fn steps(part: &Part, facts: &HostFacts, work: &Work, changed: &BTreeSet<String>) -> Vec<Step> {
    let Some(gate) = &part.gate else { return Vec::new() };
    let mut written = Vec::new();
    for step in &work.prepare {
        if let Action::WriteFile { path, .. } = step.action() {
            written.push(path.clone());
        } else if !matches!(step.action(), Action::ReloadSystemd | Action::EnableUnit(_)) {
            // A version, a format: that way there is no return.
            return Vec::new();
        }
    }
    let mut restarts = Vec::new();
    let mut former = Vec::new();
    for step in work.restart.iter().chain(&work.start) {
        let (Action::RestartUnit(start) | Action::ReloadUnit(start) | Action::Adopt { start, .. }) =
            step.action()
        else {
            return Vec::new();
        };
        // Only what was proven is gone back to.
        let Some(record) = facts.records.get(&start.unit).filter(|record| record.ready) else {
            return Vec::new();
        };
        let UnitStart { unit, .. } = start.clone();
        let start = UnitStart { unit, restart: record.restart.clone(), reload: record.reload.clone() };
        former.push(start.clone());
        restarts.push(if let Action::Adopt { change, .. } = step.action() {
            // It is told by what its file says then.
            Action::Adopt { start, change: change.clone() }
        } else if matches!(step.action(), Action::ReloadUnit(_)) {
            Action::ReloadUnit(start)
        } else {
            Action::RestartUnit(start)
        });
    }
    let rests_on = part.units.iter().flat_map(|unit| unit.restart_on.iter().chain(&unit.reload_on));
    let ours = rests_on.filter(|name| changed.contains(*name)).all(|name| written.contains(name));
    if restarts.is_empty() || written.is_empty() || !ours || is_for_good(part, facts, &written) {
        return Vec::new();
    }
    let units = written.iter().any(|path| path.starts_with(paths::UNITS));
    let mut actions = Vec::new();
    // What is waited for in vain may have become a member that the others need, or be at its logs.
    if let (Some(turn), true) =
        (&part.turn, restarts.iter().any(|action| matches!(action, Action::RestartUnit(_))))
    {
        actions.push(Action::AwaitStop(Gate { or_down: true, ..turn.stop.clone() }));
    }
    actions.push(Action::PutBack(written));
    actions.extend(units.then_some(Action::ReloadSystemd));
    actions.extend(restarts);
    actions.push(Action::AwaitReady(gate.clone()));
    actions.extend(former.into_iter().map(Action::RecordReady));
    actions.into_iter().map(Step::plain).collect()
}

fn is_for_good(part: &Part, facts: &HostFacts, written: &[String]) -> bool {
    let files = part.files.iter().filter(|file| written.contains(&file.path));
    files.into_iter().any(|file| {
        if file.once || file.path.ends_with("/myid") {
            return true;
        }
        let after = String::from_utf8_lossy(&file.content);
        let before = facts.contents.get(&file.path).map_or("", String::as_str);
        let only_in = |text: &str, other: &str| {
            let lines: BTreeSet<&str> = other.lines().collect();
            text.lines().filter(|line| !lines.contains(line)).map(str::to_owned).collect::<Vec<_>>()
        };
        let lines = [only_in(&after, before), only_in(before, &after)].concat();
        let artifact = |line: &String| {
            let places = part.artifacts.iter().map(crate::service::ArtifactRef::directory);
            places.into_iter().any(|place| line.contains(&place))
        };
        lines.iter().any(|line| FOR_GOOD.iter().any(|key| line.starts_with(key)) || artifact(line))
    })
}
