//! What the monitor knows and decides, without any I/O: samples come in, notices go out.

use super::config::{AlertConfig, MonitorConfig};
use crate::alert::{Grouped, Incidents, Limiter, Notice, SpoolStatus, group_key};
use crate::lag::{LagReport, Status, Thresholds, Windows};
use crate::probe::{Sample, to_value};
use crate::rule::{
    Alert, Downtime, Engine, EngineState, Resolved, RuleSet, Store, Suppression, human, suppression,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Origins of the monitor's own samples; no host is called so.
const LAG: &str = "#lag";
const MAIL: &str = "#mail";

/// What survives a restart. Fields may be added.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct State {
    /// Version of this shape.
    pub(super) version: u32,
    #[serde(default)]
    pub(super) engine: EngineState,
    #[serde(default)]
    pub(super) incidents: Incidents,
    #[serde(default)]
    pub(super) limiter: Option<Limiter>,
    /// Notices that the rate limit held back.
    #[serde(default)]
    pub(super) deferred: Vec<Notice>,
}

/// Something to send.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outgoing {
    /// A mail, with what it explains.
    Notice(Box<Notice>, Vec<String>),
    /// One mail for several.
    Digest(Vec<Notice>),
}

/// An alert as the API shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct AlertView {
    #[serde(flatten)]
    pub(super) alert: Alert,
    /// Key of its incident.
    pub(super) incident: String,
    /// Why it is not mailed.
    pub(super) suppressed: Option<Suppression>,
}

#[derive(Debug)]
pub(super) struct Core {
    hosts: BTreeMap<String, Vec<String>>,
    alerts: AlertConfig,
    thresholds: Thresholds,
    store: Store,
    engine: Engine,
    incidents: Incidents,
    limiter: Limiter,
    deferred: Vec<Notice>,
    windows: Windows,
    /// Downtimes in force and those of the last hour.
    downtimes: Vec<Downtime>,
    started: Timestamp,
}

impl Core {
    pub(super) fn new(config: &MonitorConfig, rules: RuleSet, state: State, now: Timestamp) -> Self {
        let mut core = Self {
            hosts: BTreeMap::new(),
            alerts: config.alerts.clone(),
            thresholds: Thresholds::from(&config.lag_report),
            store: Store::default(),
            engine: Engine::new(rules, state.engine),
            incidents: state.incidents,
            limiter: state.limiter.unwrap_or_else(|| Limiter::new(config.alerts.mails_per_hour, now)),
            deferred: state.deferred,
            windows: Windows::default(),
            downtimes: Vec::new(),
            started: now,
        };
        core.reload(config, core.engine.rules().clone());
        core
    }

    /// New configuration, same state.
    pub(super) fn reload(&mut self, config: &MonitorConfig, rules: RuleSet) {
        self.hosts = config.hosts.iter().map(|(name, host)| (name.clone(), host.roles.clone())).collect();
        self.alerts = config.alerts.clone();
        self.thresholds = Thresholds::from(&config.lag_report);
        self.store.keep(rules.rules().iter().flat_map(|rule| rule.when.windows()));
        self.engine.set_rules(rules);
        let hosts = &self.hosts;
        self.store.retain(|origin| origin.starts_with('#') || hosts.contains_key(origin));
    }

    pub(super) fn state(&self) -> State {
        State {
            version: 1,
            engine: self.engine.state(),
            incidents: self.incidents.clone(),
            limiter: Some(self.limiter),
            deferred: self.deferred.clone(),
        }
    }

    /// New samples of a host.
    pub(super) fn observe(&mut self, host: &str, samples: Vec<Sample>) {
        // A reload may have taken it away while it was asked.
        if self.hosts.contains_key(host) {
            self.store.replace(host, samples);
        }
    }

    /// A new lag report; gives it back judged by what the ones before it showed.
    pub(super) fn observe_lag(&mut self, mut report: LagReport) -> LagReport {
        self.windows.judge(&mut report, self.thresholds);
        self.store.replace(LAG, lag_samples(&report));
        report
    }

    /// How mail does.
    pub(super) fn observe_mail(&mut self, spool: &SpoolStatus, now: Timestamp) {
        let note = spool.last_error.clone().unwrap_or_default();
        let refusal = spool.last_refusal.clone().unwrap_or_default();
        let age = spool.oldest.map_or(0.0, |oldest| now.duration_since(oldest).as_secs_f64().max(0.0));
        let count = |number: usize| to_value(u64::try_from(number).unwrap_or(u64::MAX));
        let samples = vec![
            Sample::new("mail_spool_waiting", count(spool.waiting), now),
            Sample::new("mail_spool_oldest_seconds", age, now).note(note.clone()),
            Sample::new("mail_refused_total", count(spool.refused), now).note(refusal),
        ];
        self.store.replace(MAIL, samples);
    }

    /// The downtimes that are announced now. One that was taken back goes on explaining symptoms for a while.
    pub(super) fn set_downtimes(&mut self, announced: Vec<Downtime>, now: Timestamp) {
        let over = std::mem::take(&mut self.downtimes).into_iter().filter(|old| !announced.contains(old));
        let over = over.map(|old| Downtime { until: old.until.min(now), ..old });
        let recent: Vec<Downtime> = over.filter(|old| old.is_remembered(now)).collect();
        self.downtimes = announced;
        for old in recent {
            if !self.downtimes.contains(&old) {
                self.downtimes.push(old);
            }
        }
    }

    /// Evaluates the rules and decides what to send.
    pub(super) fn step(&mut self, now: Timestamp) -> Vec<Outgoing> {
        let hosts = &self.hosts;
        self.engine.evaluate(&self.store, |host| hosts.contains_key(host), now);
        let settle = SignedDuration::from_secs(i64::try_from(self.alerts.settle_secs).unwrap_or(i64::MAX));
        let settled = now.duration_since(self.started) >= settle;
        let views = self.alerts(now);
        let grouped: Vec<Grouped<'_>> = views
            .iter()
            .map(|view| Grouped {
                alert: &view.alert,
                key: view.incident.clone(),
                // What is clearing already is no news: it may have fired in a downtime that is over.
                suppressed: view.suppressed.is_some() || view.alert.track.clear_since.is_some(),
            })
            .collect();
        let notices = self.incidents.decide(&grouped, self.engine.resolved(), &self.alerts, settled, now);
        let mut outgoing = Vec::new();
        if !self.deferred.is_empty() && self.limiter.take(self.alerts.mails_per_hour, now) {
            outgoing.push(Outgoing::Digest(std::mem::take(&mut self.deferred)));
        }
        for notice in notices {
            if self.limiter.take(self.alerts.mails_per_hour, now) {
                let symptoms = symptoms(&notice, &views);
                outgoing.push(Outgoing::Notice(Box::new(notice), symptoms));
            } else {
                tracing::warn!(incident = %notice.key, "over the limit of mails an hour, goes into a digest");
                self.deferred.push(notice);
            }
        }
        outgoing
    }

    /// Pending and firing alerts, worst first.
    pub(super) fn alerts(&self, now: Timestamp) -> Vec<AlertView> {
        let all: Vec<&Alert> = self.engine.alerts().collect();
        let view = |alert: &&Alert| AlertView {
            alert: (*alert).clone(),
            incident: group_key(alert, self.engine.rules().get(&alert.rule)),
            suppressed: suppression(
                alert,
                self.engine.rules(),
                &all,
                self.engine.resolved(),
                &self.downtimes,
                now,
            ),
        };
        let mut views: Vec<AlertView> = all.iter().map(view).collect();
        views.sort_by_key(|view| {
            let alert = &view.alert;
            (
                !alert.is_firing(),
                view.suppressed.is_some(),
                std::cmp::Reverse(alert.severity),
                alert.track.since,
            )
        });
        views
    }

    pub(super) fn resolved(&self) -> &[Resolved] {
        self.engine.resolved()
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    pub(super) fn hosts(&self) -> &BTreeMap<String, Vec<String>> {
        &self.hosts
    }
}

/// Alerts, pending ones too, that the notice's alerts inhibit.
fn symptoms(notice: &Notice, views: &[AlertView]) -> Vec<String> {
    let causes: Vec<String> = notice.firing.iter().map(Alert::fingerprint).collect();
    let explained = views.iter().filter(|view| match &view.suppressed {
        Some(Suppression::Inhibited { by }) => causes.contains(by),
        Some(Suppression::Downtime { .. }) | None => false,
    });
    explained.map(|view| view.alert.summary.clone()).collect()
}

/// A problem without what the rule's summary says already.
fn reason(problem: &str) -> String {
    problem.split_once(": ").map_or(problem, |(_, reason)| reason).to_owned()
}

fn lag_samples(report: &LagReport) -> Vec<Sample> {
    let at = report.at;
    let count = |number: usize| to_value(u64::try_from(number).unwrap_or(u64::MAX));
    let zookeeper = report.problems.iter().find(|problem| problem.contains("ZooKeeper"));
    let readable = Sample::new("lag_readable", f64::from(u8::from(zookeeper.is_none())), at);
    let mut samples = vec![match zookeeper {
        Some(problem) => readable.note(reason(problem)),
        None => readable,
    }];
    for source in &report.sources {
        let about = |name: &str, value: f64| Sample::new(name, value, at).label("source", &source.source);
        samples.push(about("source_relays", count(source.relays.len())));
        let prefix = format!("could not ask source {} ", source.source);
        let problem = report.problems.iter().find(|problem| problem.starts_with(&prefix));
        let readable = about("source_end_readable", f64::from(u8::from(problem.is_none())));
        samples.push(match problem {
            Some(problem) => readable.note(reason(problem)),
            None => readable,
        });
    }
    for group in &report.groups {
        let about = |name: &str, value: f64| Sample::new(name, value, at).label("group", &group.group);
        samples.push(about("group_members", count(group.members)));
        samples.push(about("group_unowned_partitions", count(group.unowned)));
    }
    let mut levels: BTreeMap<(&str, &str), Vec<&crate::lag::PartitionLag>> = BTreeMap::new();
    for lag in &report.partitions {
        levels.entry((&lag.group, &lag.source)).or_default().push(lag);
        let about = |name: &str, value: f64| {
            Sample::new(name, value, at)
                .label("group", &lag.group)
                .label("source", &lag.source)
                .label("partition", lag.partition.to_string())
        };
        samples.extend(lag.total.seconds.map(|seconds| about("partition_lag_seconds", seconds)));
        samples.extend(lag.total.bytes.map(|bytes| about("partition_lag_bytes", to_value(bytes))));
    }
    for ((group, source), lags) in levels {
        samples.push(level_sample(group, source, &lags, at));
    }
    samples
}

/// 0 all well, 1 somebody MEDIUM or not to be said, 2 somebody HIGH, 3 somebody STALLED.
fn level_sample(group: &str, source: &str, lags: &[&crate::lag::PartitionLag], at: Timestamp) -> Sample {
    let level = lags.iter().map(|lag| match lag.status {
        Status::Ok => 0.0,
        Status::Medium | Status::Unknown => 1.0,
        Status::High => 2.0,
        Status::Stalled => 3.0,
    });
    let level = level.fold(0.0, f64::max);
    let bad = lags.iter().filter(|lag| matches!(lag.status, Status::High | Status::Stalled)).count();
    let worst = lags.iter().filter_map(|lag| lag.total.seconds).fold(0.0, f64::max);
    // Partitions are sorted worst first.
    let reason = lags.first().map(|lag| format!("p{} {}", lag.partition, lag.reason)).unwrap_or_default();
    Sample::new("group_lag_level", level, at).label("group", group).label("source", source).note(format!(
        "{bad} of {} partitions, worst {}; {reason}",
        lags.len(),
        human::seconds(worst)
    ))
}

#[cfg(test)]
mod tests;
