//! Incidents: alerts of one key (host and service, or what their rule's `group_by` names). One mail when it begins,
//! one when it is over; between them only what is new, and a reminder.

use crate::monitor::config::AlertConfig;
use crate::rule::{Alert, Phase, Resolved, Rule, Severity};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What a mail says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It began.
    Problem,
    /// New alerts joined it.
    Update,
    /// It goes on.
    Reminder,
    /// It is over.
    Resolved,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// The incident's key.
    pub key: String,
    /// What about it.
    pub kind: Kind,
    /// Alerts that fire, worst first.
    pub firing: Vec<Alert>,
    /// Alerts that are over.
    pub resolved: Vec<Resolved>,
    /// When the incident began.
    pub began: Timestamp,
    /// Names the incident's mails; the first mail's is the root of the thread.
    pub thread: String,
    /// Number of this mail in the thread, from 0.
    pub number: u32,
}

/// An alert with its incident's key, and whether it is to be mailed.
#[derive(Clone, Debug)]
pub struct Grouped<'a> {
    /// The alert; pending ones are passed over.
    pub alert: &'a Alert,
    /// Which incident.
    pub key: String,
    /// A symptom, or in a downtime.
    pub suppressed: bool,
}

/// One incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncidentState {
    /// When its first alert was seen.
    pub first_seen: Timestamp,
    /// Fingerprints that have been mailed.
    pub told: BTreeSet<String>,
    /// When the last mail was made.
    #[serde(default)]
    pub last_mail: Option<Timestamp>,
    /// Names its mails.
    pub thread: String,
    /// Mails made so far.
    #[serde(default)]
    pub mails: u32,
}

/// All open incidents.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incidents {
    open: BTreeMap<String, IncidentState>,
}

/// The key of an alert's incident. `rule` stands for the rule's name; without `group_by` it is host and service.
pub fn group_key(alert: &Alert, rule: Option<&Rule>) -> String {
    let default = ["host".to_owned(), "service".to_owned()];
    let by = rule.map(|rule| rule.group_by.as_slice()).filter(|by| !by.is_empty()).unwrap_or(&default);
    let value = |label: &String| match label.as_str() {
        "rule" => Some(alert.rule.clone()),
        label => alert.labels.get(label).cloned(),
    };
    let parts: Vec<String> = by.iter().filter_map(value).filter(|part| !part.is_empty()).collect();
    // Group and source names could equal a host's: the default key is a host's alone.
    match (parts.is_empty(), rule.is_some_and(|rule| !rule.group_by.is_empty())) {
        (true, _) => alert.rule.clone(),
        (false, false) => parts.join("/"),
        (false, true) if by.iter().any(|label| label == "rule" || label == "host") => parts.join("/"),
        (false, true) => format!("{}:{}", by.join("+"), parts.join("/")),
    }
}

impl Incidents {
    /// Open incidents, by key.
    pub fn open(&self) -> &BTreeMap<String, IncidentState> {
        &self.open
    }

    /// Decides what to tell now. Everything given must be one moment's. `settled` is false shortly after the start:
    /// then nothing new is told.
    pub fn decide(
        &mut self,
        alerts: &[Grouped<'_>],
        resolved: &[Resolved],
        config: &AlertConfig,
        settled: bool,
        now: Timestamp,
    ) -> Vec<Notice> {
        let mut firing: BTreeMap<&str, Vec<&Grouped<'_>>> = BTreeMap::new();
        for grouped in alerts.iter().filter(|grouped| grouped.alert.is_firing()) {
            firing.entry(&grouped.key).or_default().push(grouped);
        }
        for (key, group) in &firing {
            if group.iter().any(|grouped| !grouped.suppressed) && !self.open.contains_key(*key) {
                self.open.insert((*key).to_owned(), IncidentState::new(key, now));
            }
        }
        let mut notices = Vec::new();
        self.open.retain(|key, incident| {
            let group = firing.get(key.as_str()).map_or(&[][..], Vec::as_slice);
            let (notice, keep) = incident.step(key, group, resolved, config, settled, now);
            notices.extend(notice);
            keep
        });
        notices
    }
}

impl IncidentState {
    fn new(key: &str, now: Timestamp) -> Self {
        Self {
            first_seen: now,
            told: BTreeSet::new(),
            last_mail: None,
            thread: format!("{}.{}", slug(key), now.as_millisecond()),
            mails: 0,
        }
    }

    /// What to tell, and whether the incident stays open.
    fn step(
        &mut self,
        key: &str,
        group: &[&Grouped<'_>],
        resolved: &[Resolved],
        config: &AlertConfig,
        settled: bool,
        now: Timestamp,
    ) -> (Option<Notice>, bool) {
        let loud: Vec<&Alert> = group.iter().filter(|g| !g.suppressed).map(|g| g.alert).collect();
        // An alert that is told and now suppressed is not over.
        let going_on = group.iter().any(|g| !g.suppressed || self.told.contains(&g.alert.fingerprint()));
        if !going_on {
            let over: Vec<Resolved> =
                resolved.iter().filter(|r| self.told.contains(&r.alert.fingerprint())).cloned().collect();
            let notice = (!self.told.is_empty()).then(|| self.notice(key, Kind::Resolved, &[], over, now));
            return (notice, false);
        }
        let due = |since: Timestamp, seconds: u64| {
            let wait = SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
            now.duration_since(since) >= wait
        };
        let new = loud.iter().any(|alert| !self.told.contains(&alert.fingerprint()));
        let kind = match self.last_mail {
            None if settled && !loud.is_empty() && due(self.first_seen, config.group_wait_secs) => {
                Some(Kind::Problem)
            }
            Some(last) if new && due(last, config.group_interval_secs) => Some(Kind::Update),
            Some(last) if !loud.is_empty() && due(last, config.repeat_secs) => Some(Kind::Reminder),
            None | Some(_) => None,
        };
        let notice = kind.map(|kind| self.notice(key, kind, &loud, Vec::new(), now));
        (notice, true)
    }

    fn notice(
        &mut self,
        key: &str,
        kind: Kind,
        loud: &[&Alert],
        resolved: Vec<Resolved>,
        now: Timestamp,
    ) -> Notice {
        let mut firing: Vec<Alert> = loud.iter().map(|alert| (*alert).clone()).collect();
        firing.sort_by_key(|alert| (std::cmp::Reverse(alert.severity), alert.track.since));
        self.told.extend(firing.iter().map(Alert::fingerprint));
        let number = self.mails;
        self.mails += 1;
        self.last_mail = Some(now);
        let began = self.began(&firing, &resolved);
        Notice { key: key.to_owned(), kind, firing, resolved, began, thread: self.thread.clone(), number }
    }

    fn began(&self, firing: &[Alert], resolved: &[Resolved]) -> Timestamp {
        let starts = firing.iter().chain(resolved.iter().map(|r| &r.alert)).map(|alert| alert.track.since);
        starts.chain([self.first_seen]).min().unwrap_or(self.first_seen)
    }
}

impl Notice {
    /// The worst severity in it.
    pub fn severity(&self) -> Severity {
        let all = self.firing.iter().chain(self.resolved.iter().map(|r| &r.alert));
        all.map(|alert| alert.severity).max().unwrap_or(Severity::Warning)
    }

    /// What it is about, in one line.
    pub fn title(&self) -> String {
        let all: Vec<&Alert> = self.firing.iter().chain(self.resolved.iter().map(|r| &r.alert)).collect();
        let worst = all.iter().max_by_key(|alert| (alert.severity, std::cmp::Reverse(alert.track.since)));
        match (worst, all.len()) {
            (None, _) => self.key.clone(),
            (Some(alert), 1) => alert.summary.clone(),
            (Some(alert), count) => format!("{} (and {} more)", alert.summary, count - 1),
        }
    }

    /// Whether some of it has no readings at present.
    pub fn without_data(&self) -> bool {
        self.firing.iter().any(|alert| alert.track.phase == Phase::NoData)
    }
}

/// Letters and digits of a key, for a Message-ID.
fn slug(key: &str) -> String {
    key.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(80).collect()
}

/// A token bucket: at most so many mails an hour, a third of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limiter {
    tokens: f64,
    at: Timestamp,
}

impl Limiter {
    /// A full bucket.
    pub fn new(per_hour: u32, now: Timestamp) -> Self {
        Self { tokens: Self::burst(per_hour), at: now }
    }

    fn burst(per_hour: u32) -> f64 {
        (f64::from(per_hour) / 3.0).max(1.0)
    }

    /// Takes a token if there is one.
    pub fn take(&mut self, per_hour: u32, now: Timestamp) -> bool {
        let hours = now.duration_since(self.at).as_secs_f64().max(0.0) / 3600.0;
        self.tokens = (self.tokens + hours * f64::from(per_hour)).min(Self::burst(per_hour));
        self.at = now;
        let available = self.tokens >= 1.0;
        if available {
            self.tokens -= 1.0;
        }
        available
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rule::Track;

    pub(crate) fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_795_359_000 + second).unwrap()
    }

    pub(crate) fn alert(rule: &str, host: &str, service: &str, severity: Severity) -> Alert {
        let labels = [("host", host), ("service", service), ("unit", "aesop-kafka.service")];
        Alert {
            rule: rule.to_owned(),
            labels: labels.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            track: Track {
                phase: Phase::Firing,
                since: at(0),
                fired_at: Some(at(15)),
                clear_since: None,
                no_data_since: None,
            },
            severity,
            summary: format!("{service} is down on {host}: inactive (dead)"),
            runbook: format!("`journalctl -u aesop-{service}.service -n 50` on {host}"),
            value: 0.0,
        }
    }

    struct Scene {
        incidents: Incidents,
        config: AlertConfig,
    }

    impl Scene {
        fn new() -> Self {
            Self { incidents: Incidents::default(), config: AlertConfig::default() }
        }

        fn step(
            &mut self,
            loud: &[&Alert],
            quiet: &[&Alert],
            resolved: &[&Alert],
            now: i64,
        ) -> Vec<(Kind, usize)> {
            let grouped = |alert, suppressed| Grouped { alert, key: group_key(alert, None), suppressed };
            let alerts: Vec<Grouped<'_>> = loud
                .iter()
                .map(|alert| grouped(*alert, false))
                .chain(quiet.iter().map(|alert| grouped(*alert, true)))
                .collect();
            let resolved: Vec<Resolved> =
                resolved.iter().map(|alert| Resolved { alert: (*alert).clone(), at: at(now) }).collect();
            // A restart in between changes nothing.
            let json = serde_json::to_string(&self.incidents).unwrap();
            self.incidents = serde_json::from_str(&json).unwrap();
            let notices = self.incidents.decide(&alerts, &resolved, &self.config, true, at(now));
            notices.iter().map(|n| (n.kind, n.firing.len() + n.resolved.len())).collect()
        }
    }

    #[test]
    fn one_mail_when_it_begins_and_one_when_it_is_over() {
        let mut scene = Scene::new();
        let (down, deaf) = (
            alert("service_down", "k1", "kafka", Severity::Critical),
            alert("service_not_answering", "k1", "kafka", Severity::Critical),
        );
        assert_eq!(scene.step(&[&down], &[], &[], 0), []);
        assert_eq!(scene.step(&[&down], &[], &[], 5), [(Kind::Problem, 1)]);
        for now in (15..600).step_by(10) {
            assert_eq!(scene.step(&[&down], &[&deaf], &[], now), []);
        }
        assert_eq!(scene.step(&[], &[&deaf], &[&down], 600), [(Kind::Resolved, 1)]);
        assert_eq!(scene.step(&[], &[], &[&down], 610), []);
    }

    #[test]
    fn what_vanishes_within_the_wait_is_not_told_and_what_joins_is_told_once() {
        let mut scene = Scene::new();
        let first = alert("service_down", "k1", "kafka", Severity::Critical);
        let second = alert("jvm_fds", "k1", "kafka", Severity::Warning);
        assert_eq!(scene.step(&[&first], &[], &[], 0), []);
        assert_eq!(scene.step(&[], &[], &[&first], 3), []);
        assert_eq!(scene.step(&[&first], &[], &[], 10), []);
        assert_eq!(scene.step(&[&first], &[], &[], 20), [(Kind::Problem, 1)]);
        assert_eq!(scene.step(&[&first, &second], &[], &[], 30), []);
        assert_eq!(scene.step(&[&first, &second], &[], &[], 320), [(Kind::Update, 2)]);
        assert_eq!(scene.step(&[&first], &[], &[&second], 700), []);
        assert_eq!(scene.step(&[&first], &[], &[], 320 + 4 * 3600), [(Kind::Reminder, 1)]);
        assert_eq!(scene.step(&[], &[], &[&first], 15_000), [(Kind::Resolved, 1)]);
    }

    #[test]
    fn an_alert_that_is_suppressed_after_it_was_told_is_not_over() {
        let mut scene = Scene::new();
        let down = alert("service_down", "k1", "kafka", Severity::Critical);
        scene.step(&[&down], &[], &[], 0);
        assert_eq!(scene.step(&[&down], &[], &[], 10), [(Kind::Problem, 1)]);
        assert_eq!(scene.step(&[], &[&down], &[], 20), []);
        assert_eq!(scene.step(&[], &[&down], &[], 20_000), []);
        assert_eq!(scene.step(&[&down], &[], &[], 20_010), [(Kind::Reminder, 1)]);
        assert_eq!(scene.step(&[], &[], &[&down], 20_020), [(Kind::Resolved, 1)]);
    }

    #[test]
    fn nothing_new_is_told_before_it_has_settled_and_two_hosts_are_two_incidents() {
        let mut incidents = Incidents::default();
        let config = AlertConfig::default();
        let alerts = ["k1", "k2"].map(|host| alert("service_down", host, "kafka", Severity::Critical));
        let grouped: Vec<Grouped<'_>> = alerts
            .iter()
            .map(|alert| Grouped { alert, key: group_key(alert, None), suppressed: false })
            .collect();
        assert!(incidents.decide(&grouped, &[], &config, false, at(0)).is_empty());
        assert!(incidents.decide(&grouped, &[], &config, false, at(50)).is_empty());
        let notices = incidents.decide(&grouped, &[], &config, true, at(60));
        assert_eq!(notices.iter().map(|n| n.key.as_str()).collect::<Vec<_>>(), ["k1/kafka", "k2/kafka"]);
        assert_ne!(notices[0].thread, notices[1].thread);
    }

    #[test]
    fn the_limiter_allows_a_burst_and_then_its_rate() {
        let mut limiter = Limiter::new(30, at(0));
        assert_eq!((0..20).filter(|_| limiter.take(30, at(0))).count(), 10);
        assert!(!limiter.take(30, at(60)));
        assert!(limiter.take(30, at(121)));
    }
}
