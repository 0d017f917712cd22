//! The state machine of an alert, and the engine that drives one for each rule and set of labels.

use super::file::{Rule, RuleSet, environment};
use super::store::{Store, matches};
use super::{Element, Severity};
use crate::probe::Labels;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// An alert whose readings stay away this long is dropped: whatever it was about is gone.
pub const NO_DATA_FORGET: Duration = Duration::from_hours(24);

/// Resolved alerts, and announced work that is over, are remembered this long: for the status page, and for their
/// symptoms to go away.
pub const RESOLVED_KEEP: SignedDuration = SignedDuration::from_hours(1);

/// Where an alert is; an alert that is ok is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It holds, not long enough yet.
    Pending,
    /// It has held for `for`.
    Firing,
    /// It fired, and its readings have gone since.
    NoData,
}

/// What one evaluation saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observation {
    /// The rule holds.
    Holds,
    /// There are readings, and it does not.
    Clear,
    /// There are no readings.
    NoData,
}

/// The two durations of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timers {
    /// `for`.
    pub hold: Duration,
    /// `clear_for`.
    pub clear_for: Duration,
}

/// One alert's way through the states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Track {
    /// Where it is.
    pub phase: Phase,
    /// Since when it holds, without a gap before it fired.
    pub since: Timestamp,
    /// When it fired.
    pub fired_at: Option<Timestamp>,
    /// Since when it has not held, while it fires.
    pub clear_since: Option<Timestamp>,
    /// Since when there are no readings.
    pub no_data_since: Option<Timestamp>,
}

/// One step. None: the alert is ok. What fired and is ok now has been resolved.
pub fn advance(track: Option<Track>, seen: Observation, timers: Timers, now: Timestamp) -> Option<Track> {
    let elapsed = |since: Timestamp, wanted: Duration| {
        now.duration_since(since) >= SignedDuration::try_from(wanted).unwrap_or(SignedDuration::MAX)
    };
    let Some(mut track) = track else {
        let new = Track {
            phase: Phase::Pending,
            since: now,
            fired_at: None,
            clear_since: None,
            no_data_since: None,
        };
        return match seen {
            Observation::Holds if timers.hold.is_zero() => {
                Some(Track { phase: Phase::Firing, fired_at: Some(now), ..new })
            }
            Observation::Holds => Some(new),
            Observation::Clear | Observation::NoData => None,
        };
    };
    match (track.phase, seen) {
        (Phase::Pending, Observation::Holds) => {
            if elapsed(track.since, timers.hold) {
                track.phase = Phase::Firing;
                track.fired_at = Some(now);
            }
            Some(track)
        }
        (Phase::Pending, Observation::Clear | Observation::NoData) => None,
        (Phase::Firing | Phase::NoData, Observation::Holds) => {
            Some(Track { phase: Phase::Firing, clear_since: None, no_data_since: None, ..track })
        }
        (Phase::Firing | Phase::NoData, Observation::Clear) => {
            let clear_since = *track.clear_since.get_or_insert(now);
            let over = elapsed(clear_since, timers.clear_for);
            (!over).then_some(Track { phase: Phase::Firing, no_data_since: None, ..track })
        }
        (Phase::Firing | Phase::NoData, Observation::NoData) => {
            let no_data_since = *track.no_data_since.get_or_insert(now);
            // The clear stretch must be whole: what nobody saw does not count.
            let lost = Track { phase: Phase::NoData, clear_since: None, ..track };
            (!elapsed(no_data_since, NO_DATA_FORGET)).then_some(lost)
        }
    }
}

/// A pending or firing alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The rule.
    pub rule: String,
    /// What it is about.
    pub labels: Labels,
    /// State and times.
    pub track: Track,
    /// How bad.
    pub severity: Severity,
    /// The rendered summary.
    pub summary: String,
    /// What to do.
    pub runbook: String,
    /// Value at the last evaluation that held.
    pub value: f64,
}

/// An alert that fired and is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    /// As it last was.
    pub alert: Alert,
    /// When.
    pub at: Timestamp,
}

impl Alert {
    /// Names the alert for as long as it lives.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.rule, &self.labels)
    }

    /// Whether it is or was firing.
    pub fn is_firing(&self) -> bool {
        self.track.phase != Phase::Pending
    }
}

fn fingerprint(rule: &str, labels: &Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    format!("{rule}{{{}}}", labels.join(","))
}

/// What survives a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineState {
    /// Pending and firing alerts.
    #[serde(default)]
    pub alerts: Vec<Alert>,
    /// Recently resolved ones.
    #[serde(default)]
    pub resolved: Vec<Resolved>,
}

/// All alerts of a rule set.
#[derive(Debug)]
pub struct Engine {
    rules: RuleSet,
    alerts: BTreeMap<String, Alert>,
    resolved: Vec<Resolved>,
}

impl Engine {
    /// Goes on from a state.
    pub fn new(rules: RuleSet, state: EngineState) -> Self {
        let alerts = state.alerts.into_iter().map(|alert| (alert.fingerprint(), alert)).collect();
        Self { rules, alerts, resolved: state.resolved }
    }

    /// New rules; alerts of rules that are gone are resolved at the next evaluation.
    pub fn set_rules(&mut self, rules: RuleSet) {
        self.rules = rules;
    }

    /// The rules in force.
    pub fn rules(&self) -> &RuleSet {
        &self.rules
    }

    /// Pending and firing alerts.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.alerts.values()
    }

    /// Recently resolved alerts, oldest first.
    pub fn resolved(&self) -> &[Resolved] {
        &self.resolved
    }

    /// What must survive a restart.
    pub fn state(&self) -> EngineState {
        EngineState { alerts: self.alerts.values().cloned().collect(), resolved: self.resolved.clone() }
    }

    /// Evaluates every rule. `watched` says which hosts are still in the inventory.
    pub fn evaluate(&mut self, store: &Store, watched: impl Fn(&str) -> bool, now: Timestamp) {
        let mut next = BTreeMap::new();
        let mut before = std::mem::take(&mut self.alerts);
        for rule in self.rules.rules() {
            for element in rule.when.holds_for(store, now) {
                let print = fingerprint(&rule.name, &element.labels);
                // Two elements of one label set: the first stands for both.
                if next.contains_key(&print) {
                    continue;
                }
                let old = before.remove(&print);
                if let Some(alert) = holding(rule, old.as_ref(), element, now) {
                    next.insert(print, alert);
                }
            }
        }
        for (print, alert) in before {
            match self.not_holding(&alert, store, &watched, now) {
                Some(track) => {
                    next.insert(print, Alert { track, ..alert });
                }
                None if alert.is_firing() => self.resolved.push(Resolved { alert, at: now }),
                None => {}
            }
        }
        self.alerts = next;
        self.resolved.retain(|resolved| now.duration_since(resolved.at) < RESOLVED_KEEP);
    }

    fn not_holding(
        &self,
        alert: &Alert,
        store: &Store,
        watched: &impl Fn(&str) -> bool,
        now: Timestamp,
    ) -> Option<Track> {
        let rule = self.rules.get(&alert.rule)?;
        if alert.labels.get("host").is_some_and(|host| !watched(host)) {
            return None;
        }
        let seen =
            if has_data(rule, &alert.labels, store) { Observation::Clear } else { Observation::NoData };
        advance(Some(alert.track), seen, timers(rule), now)
    }
}

fn timers(rule: &Rule) -> Timers {
    Timers { hold: rule.hold, clear_for: rule.clear_for }
}

fn holding(rule: &Rule, old: Option<&Alert>, element: Element, now: Timestamp) -> Option<Alert> {
    let track = advance(old.map(|alert| alert.track), Observation::Holds, timers(rule), now)?;
    let summary = rendered(rule, &rule.summary, &element);
    let runbook = rendered(rule, &rule.runbook, &element);
    Some(Alert {
        rule: rule.name.clone(),
        labels: element.labels,
        track,
        severity: rule.severity,
        summary,
        runbook,
        value: element.value,
    })
}

fn rendered(rule: &Rule, template: &str, element: &Element) -> String {
    let note = element.note.clone().unwrap_or_default();
    let context = minijinja::context! { labels => element.labels.clone(), value => element.value, note };
    match environment().render_str(template, context) {
        // One line, whatever stood in a label or in an error.
        Ok(text) => text.split_whitespace().collect::<Vec<_>>().join(" "),
        // An alert with a clumsy text is better than none.
        Err(error) => format!("{} {:?} {} ({error})", rule.name, element.labels, element.value),
    }
}

/// Whether there are readings that could say whether the alert still holds.
fn has_data(rule: &Rule, labels: &Labels, store: &Store) -> bool {
    let belongs = |sample: &Labels| super::eval::compatible(labels, sample);
    rule.when.reads_absence()
        || rule.when.selectors().iter().any(|selector| {
            store.select(selector).any(|s| belongs(&s.labels) && matches(&selector.matchers, &s.labels))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Sample;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// The state from the whole history, the slow way.
    fn model(history: &[(i64, Observation)], hold: i64, clear_for: i64) -> Option<Phase> {
        let mut fired = false;
        let mut run: Option<(Observation, i64)> = None;
        let mut phase = None;
        for (second, seen) in history {
            let start = match run {
                Some((kind, start)) if kind == *seen => start,
                _ => *second,
            };
            run = Some((*seen, start));
            let length = second - start;
            match seen {
                Observation::Holds => fired |= length >= hold,
                Observation::Clear => fired &= length < clear_for,
                Observation::NoData => fired &= length < 24 * 3600,
            }
            phase = match (fired, seen) {
                (true, Observation::NoData) => Some(Phase::NoData),
                (true, _) => Some(Phase::Firing),
                (false, Observation::Holds) => Some(Phase::Pending),
                (false, _) => None,
            };
        }
        phase
    }

    fn observation() -> impl Strategy<Value = Observation> {
        prop_oneof![
            4 => Just(Observation::Holds),
            3 => Just(Observation::Clear),
            1 => Just(Observation::NoData)
        ]
    }

    proptest! {
        #[test]
        fn the_state_is_what_the_history_says(
            steps in proptest::collection::vec((observation(), 1..60i64), 0..60),
            hold in 0..120i64,
            clear_for in 0..120i64,
            leap in proptest::option::of(0..60usize),
        ) {
            let duration = |seconds: i64| Duration::from_secs(seconds.try_into().unwrap());
            let timers = Timers { hold: duration(hold), clear_for: duration(clear_for) };
            let mut track = None;
            let mut history = Vec::new();
            let mut now = 0;
            for (index, (seen, step)) in steps.into_iter().enumerate() {
                // Now and then a day passes, which is what it takes to forget.
                now += if leap == Some(index) { 25 * 3600 } else { step };
                history.push((now, seen));
                track = advance(track, seen, timers, at(now));
                let phase = track.map(|track| track.phase);
                prop_assert_eq!(phase, model(&history, hold, clear_for), "{:?}", history);
            }
        }
    }

    #[test]
    fn texts_of_the_built_in_rules_name_only_labels_that_their_samples_have() {
        let host = ["host", "roles", "service", "unit", "path", "probe", "resource"];
        let labels = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
        for rule in RuleSet::built_in().unwrap().rules() {
            let known: Labels = match rule.name.as_str() {
                "source_without_relay" | "source_unreadable" => labels(&["source"]),
                "group_without_members" | "group_partitions_unowned" => labels(&["group"]),
                "lag_high" => labels(&["group", "source"]),
                "relay_source_stopped"
                | "relay_rows_left_out"
                | "relay_changes_left_out"
                | "consumer_failed"
                | "consumer_waiting" => labels(&["host", "service", "name"]),
                _ => labels(&host),
            };
            let element = Element { labels: known, value: 0.5, note: Some("why".to_owned()) };
            for template in [&rule.summary, &rule.runbook] {
                let text = rendered(rule, template, &element);
                assert!(!text.contains("(undefined") && !text.contains("{\"host\""), "{}: {text}", rule.name);
                assert!(!text.contains("{{"), "{}: {text}", rule.name);
            }
        }
    }

    fn engine() -> Engine {
        let text = "rules:\n- name: disk\n  when: free < 10%\n  for: 20s\n  clear_for: 10s\n  severity: critical\n  summary: '{{ labels.host }} {{ value | percent }}'\n";
        Engine::new(RuleSet::with_file("test", text).unwrap(), EngineState::default())
    }

    fn store(value: Option<f64>, second: i64) -> Store {
        let mut store = Store::default();
        let sample = |value| Sample::new("free", value, at(second)).label("host", "k1");
        store.replace("k1", value.map(sample).into_iter().collect());
        store
    }

    #[test]
    fn an_alert_fires_survives_a_restart_keeps_through_missing_data_and_is_resolved() {
        let mut engine = engine();
        let step = |engine: &mut Engine, value: Option<f64>, second: i64| {
            engine.evaluate(&store(value, second), |_| true, at(second));
            (engine.alerts().map(|a| (a.track.phase, a.summary.clone())).next(), engine.resolved().len())
        };
        let is = |phase: Phase, text: &str| Some((phase, text.to_owned()));
        assert_eq!(step(&mut engine, Some(0.05), 0), (is(Phase::Pending, "k1 5.0 %"), 0));
        assert_eq!(step(&mut engine, Some(0.04), 20), (is(Phase::Firing, "k1 4.0 %"), 0));
        let json = serde_json::to_string(&engine.state()).unwrap();
        let mut engine = Engine::new(engine.rules().clone(), serde_json::from_str(&json).unwrap());
        assert_eq!(step(&mut engine, None, 30), (is(Phase::NoData, "k1 4.0 %"), 0));
        assert_eq!(step(&mut engine, Some(0.5), 40), (is(Phase::Firing, "k1 4.0 %"), 0));
        assert_eq!(step(&mut engine, Some(0.5), 50), (None, 1));
        assert_eq!(step(&mut engine, Some(0.5), 50 + 3600), (None, 0));
    }

    #[test]
    fn a_host_that_left_the_inventory_takes_its_alerts_along() {
        let mut engine = engine();
        for second in [0, 20] {
            engine.evaluate(&store(Some(0.0), second), |_| true, at(second));
        }
        engine.evaluate(&store(None, 30), |host| host != "k1", at(30));
        assert_eq!((engine.alerts().count(), engine.resolved().len()), (0, 1));
    }
}
