//! Units: whether they are enabled and read, and which of them start, restart or reload.

use super::{Action, HostPlan, Part, Step, UnitStart, Work};
use crate::service::{MemberChange, Unit};

impl HostPlan<'_> {
    /// Files of units that are as they should be, and that systemd has read before they were.
    pub(super) fn stale(&mut self, part: &Part) -> Option<Step> {
        const FOUND: &str = "changed since systemd read it";
        let needs = |unit: &&Unit| self.facts.units.get(&unit.name).is_some_and(|fact| fact.needs_reload);
        let stale: Vec<&Unit> = part.units.iter().filter(needs).collect();
        for unit in &stale {
            let (restart, _) = self.state.fingerprint(unit);
            let record = self.facts.records.get(&unit.name);
            // What runs with something else was left behind by an apply.
            if record.is_some_and(|record| record.ready && record.restart == restart) {
                self.drift(&unit.name, FOUND);
            }
        }
        let names: Vec<&str> = stale.iter().map(|unit| unit.name.as_str()).collect();
        let reason = format!("{} {FOUND}", names.join(", "));
        (!names.is_empty()).then(|| Step::because(Action::ReloadSystemd, Some(reason)))
    }

    pub(super) fn unit(&mut self, unit: &Unit, work: &mut Work) {
        let (restart, reload) = self.state.fingerprint(unit);
        let start = UnitStart { unit: unit.name.clone(), restart, reload };
        let fact = self.facts.units.get(&unit.name);
        let record = self.facts.records.get(&unit.name);
        if fact.is_none_or(|fact| fact.file != "enabled") {
            // Whatever was started was enabled before.
            let somebody = record.is_some() && fact.is_some_and(|fact| fact.file == "disabled");
            if somebody {
                self.drift(&unit.name, "disabled");
            }
            let reason = somebody.then(|| "somebody has disabled it".to_owned());
            work.prepare.push(Step::because(Action::EnableUnit(unit.name.clone()), reason));
        }
        let active = fact.is_some_and(|fact| matches!(fact.active.as_str(), "active" | "reloading"));
        let trying = fact.is_some_and(|fact| matches!(fact.active.as_str(), "activating" | "deactivating"));
        let known = record.is_some_and(|record| record.restart == start.restart);
        let current = record.is_some_and(|record| record.reload == start.reload);
        // What it has taken in over its file stays with it over a restart.
        let unadopted = |change: &MemberChange| {
            record.map_or(change.from_start, |record| record.reload != start.reload || !record.ready)
        };
        let adopt =
            unit.adopt.clone().filter(unadopted).map(|change| Step::plain(Action::ChangeMember(change)));
        let timer = unit.name.rsplit('.').next() == Some("timer");
        match (active || trying, known, current) {
            (true, true, true) if timer || record.is_some_and(|record| record.ready) => return,
            (true, true, true) => {
                let reason = Some("it was not ready when an earlier apply ended".to_owned());
                if work.role.starts_again_when_unready() {
                    work.restart.push(Step::because(Action::RestartUnit(start.clone()), reason));
                } else {
                    work.confirm.extend(adopt);
                    work.confirm.push(Step::because(Action::RecordReady(start), reason));
                    return;
                }
            }
            (true, true, false) if active => {
                let reason = Some(self.reason(&unit.reload_on));
                let action = match unit.adopt.clone() {
                    Some(change) => Action::Adopt { start: start.clone(), change },
                    None => Action::ReloadUnit(start.clone()),
                };
                work.start.push(Step::because(action, reason));
                work.confirm.push(Step::plain(Action::RecordReady(start)));
                return;
            }
            (true, ..) => {
                let names = if known { &unit.reload_on } else { &unit.restart_on };
                let reason = Some(self.reason(names));
                work.restart.push(Step::because(Action::RestartUnit(start.clone()), reason));
            }
            (false, ..) => {
                if record.is_some_and(|record| record.ready) {
                    let failed = fact.is_some_and(|fact| fact.active == "failed");
                    let found = if failed { "failed" } else { "stopped" };
                    self.drift(&unit.name, found);
                }
                let reason = match (fact.map(|fact| fact.active.as_str()), record) {
                    (Some("failed"), _) => Some("it has failed".to_owned()),
                    (_, Some(_)) => Some("it is stopped".to_owned()),
                    (_, None) => None,
                };
                work.start.push(Step::because(Action::StartUnit(start.clone()), reason));
            }
        }
        work.confirm.extend(adopt);
        work.confirm.push(Step::plain(Action::RecordReady(start)));
    }
}
