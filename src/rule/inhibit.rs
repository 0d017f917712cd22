//! One incident, one mail: an alert that is only the symptom of another, or of work that somebody announced, is
//! not mailed.
//!
//! A cause inhibits already while it is pending: symptoms may show first. It goes on inhibiting for a while after
//! it is over: partitions of a broker that came back are under-replicated until it has caught up, and a
//! rule that counts over the last minutes still counts what the cause did (the inhibitor's `linger`).

use super::{Alert, Inhibitor, RESOLVED_KEEP, Resolved, RuleSet, glob};
use crate::probe::Labels;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Announced work: `<data_dir>/downtime.d/*.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downtime {
    /// Which host; `*` allowed.
    pub host: String,
    /// Which service; none or `*`: all of the host.
    #[serde(default)]
    pub service: Option<String>,
    /// When it ends by itself.
    pub until: Timestamp,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Why an alert is not mailed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Suppression {
    /// It is a symptom.
    Inhibited {
        /// The cause's fingerprint.
        by: String,
    },
    /// Announced work.
    Downtime {
        /// Why.
        reason: String,
    },
}

impl Downtime {
    fn covers(&self, labels: &Labels) -> bool {
        let host = labels.get("host").is_some_and(|host| glob(&self.host, host));
        let service = match (self.service.as_deref(), labels.get("service")) {
            (None | Some("*"), _) => true,
            (Some(pattern), Some(service)) => glob(pattern, service),
            (Some(_), None) => false,
        };
        host && service
    }

    /// Whether it is about a service of a host.
    pub fn is_of(&self, host: &str, service: &str) -> bool {
        let labels = [("host", host), ("service", service)];
        self.covers(&labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    /// Work on a service stands for the alert that says the service is down.
    fn as_cause(&self) -> Labels {
        let service = self.service.clone().unwrap_or_else(|| "*".to_owned());
        Labels::from([("host".to_owned(), self.host.clone()), ("service".to_owned(), service)])
    }

    /// In force, or over so short that a rule may still see its traces.
    pub fn is_remembered(&self, now: Timestamp) -> bool {
        now.duration_since(self.until) < RESOLVED_KEEP
    }
}

/// Whether an alert is not to be mailed now, and why. `alerts` and `resolved` are all of the engine's.
pub fn suppression(
    alert: &Alert,
    rules: &RuleSet,
    alerts: &[&Alert],
    resolved: &[Resolved],
    downtimes: &[Downtime],
    now: Timestamp,
) -> Option<Suppression> {
    let in_downtime = |downtime: &&Downtime| downtime.until > now && downtime.covers(&alert.labels);
    if let Some(downtime) = downtimes.iter().find(in_downtime) {
        return Some(Suppression::Downtime { reason: downtime.reason.clone() });
    }
    let inhibitors = &rules.get(&alert.rule)?.inhibited_by;
    let inhibited = |rule: &str, cause: &Labels, over: Option<Timestamp>| {
        inhibitors
            .iter()
            .any(|i| i.rule == rule && lingers(i, over, now) && explains(i, cause, &alert.labels))
    };
    let current = alerts.iter().map(|other| (*other, None));
    let mut causes = current.chain(resolved.iter().map(|r| (&r.alert, Some(r.at))));
    let cause = |(other, over): &(&Alert, Option<Timestamp>)| {
        other.fingerprint() != alert.fingerprint() && inhibited(&other.rule, &other.labels, *over)
    };
    if let Some((other, _)) = causes.find(cause) {
        return Some(Suppression::Inhibited { by: other.fingerprint() });
    }
    let worked_on =
        |downtime: &&Downtime| inhibited("service_down", &downtime.as_cause(), Some(downtime.until));
    let downtime = downtimes.iter().find(worked_on)?;
    Some(Suppression::Downtime { reason: downtime.reason.clone() })
}

/// Whether a cause that ended at `over`, or has not ended, can still be why.
fn lingers(inhibitor: &Inhibitor, over: Option<Timestamp>, now: Timestamp) -> bool {
    over.is_none_or(|over| now.duration_since(over) < inhibitor.linger)
}

fn explains(inhibitor: &Inhibitor, cause: &Labels, symptom: &Labels) -> bool {
    let get = |labels: &Labels, key: &str| labels.get(key).cloned().unwrap_or_default();
    let equal = inhibitor.equal.iter().all(|key| {
        let (cause, symptom) = (get(cause, key), get(symptom, key));
        cause == symptom || glob(&cause, &symptom)
    });
    let fits = |value: &str, pattern: &str| glob(pattern, value) || value == "*";
    equal && inhibitor.labels.iter().all(|(key, pattern)| fits(&get(cause, key), pattern))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Phase, Severity, Track};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn alert(rule: &str, labels: &[(&str, &str)]) -> Alert {
        let track = Track {
            phase: Phase::Firing,
            since: at(0),
            fired_at: Some(at(0)),
            clear_since: None,
            no_data_since: None,
        };
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Alert {
            rule: rule.to_owned(),
            labels,
            track,
            severity: Severity::Critical,
            summary: String::new(),
            runbook: String::new(),
            value: 1.0,
        }
    }

    fn check(
        symptom: &Alert,
        causes: &[&Alert],
        resolved: &[Resolved],
        downtimes: &[Downtime],
        now: i64,
    ) -> bool {
        let rules = RuleSet::built_in().unwrap();
        suppression(symptom, &rules, causes, resolved, downtimes, at(now)).is_some()
    }

    #[test]
    fn a_stopped_broker_explains_what_the_others_see_until_a_while_after_it_is_back() {
        let down =
            alert("service_down", &[("host", "k1"), ("service", "kafka"), ("unit", "aesop-kafka.service")]);
        let seen = alert("kafka_under_replicated", &[("host", "k2"), ("service", "kafka")]);
        assert!(check(&seen, &[&down, &seen], &[], &[], 60));
        let over = [Resolved { alert: down.clone(), at: at(100) }];
        assert!(check(&seen, &[&seen], &over, &[], 150));
        assert!(!check(&seen, &[&seen], &over, &[], 221));
        // The cause itself is mailed, and another service's end explains nothing.
        assert!(!check(&down, &[&down, &seen], &[], &[], 60));
        let relay = alert("service_down", &[("host", "r1"), ("service", "relay")]);
        assert!(!check(&seen, &[&relay, &seen], &[], &[], 60));
    }

    #[test]
    fn a_dead_host_explains_its_services_and_a_dead_broker_host_explains_the_partitions() {
        let dead = alert("host_unreachable", &[("host", "k1"), ("roles", "kafka zookeeper")]);
        let database = alert("host_unreachable", &[("host", "db"), ("roles", "")]);
        let service = alert("service_down", &[("host", "k1"), ("service", "kafka")]);
        let partitions = alert("kafka_under_replicated", &[("host", "k2"), ("service", "kafka")]);
        assert!(check(&service, &[&dead], &[], &[], 60));
        assert!(check(&partitions, &[&dead], &[], &[], 60));
        assert!(!check(&partitions, &[&database], &[], &[], 60));
        assert!(!check(&service, &[&database], &[], &[], 60));
    }

    #[test]
    fn announced_work_covers_its_host_and_service_and_explains_symptoms_elsewhere() {
        let work = |service: Option<&str>| Downtime {
            host: "k1".to_owned(),
            service: service.map(str::to_owned),
            until: at(100),
            reason: "apply".to_owned(),
        };
        let down = alert("service_down", &[("host", "k1"), ("service", "kafka")]);
        let seen = alert("kafka_under_replicated", &[("host", "k2"), ("service", "kafka")]);
        let disk = alert("disk_full", &[("host", "k1"), ("path", "/")]);
        assert!(check(&down, &[], &[], &[work(Some("kafka"))], 60));
        assert!(check(&seen, &[], &[], &[work(Some("kafka"))], 60));
        assert!(check(&seen, &[], &[], &[work(None)], 60));
        assert!(!check(&seen, &[], &[], &[work(Some("relay"))], 60));
        assert!(!check(&disk, &[], &[], &[work(Some("kafka"))], 60));
        assert!(check(&disk, &[], &[], &[work(None)], 60));
        assert!(!check(&down, &[], &[], &[work(Some("kafka"))], 100));
    }

    #[test]
    fn what_a_rule_counts_over_a_window_is_explained_until_it_has_left_the_window() {
        let work = |until: i64| Downtime {
            host: "k1".to_owned(),
            service: None,
            until: at(until),
            reason: "reboot".to_owned(),
        };
        let labels = [("host", "k2"), ("service", "zookeeper")];
        let (elections, followers) =
            (alert("zookeeper_elections", &labels), alert("zookeeper_followers_missing", &labels));
        for (symptom, second, explained) in [
            (&elections, 819, true),
            (&elections, 820, false),
            (&followers, 219, true),
            (&followers, 220, false),
        ] {
            assert_eq!(check(symptom, &[symptom], &[], &[work(100)], second), explained, "{second}");
            let down = alert("service_down", &[("host", "k1"), ("service", "zookeeper")]);
            let over = [Resolved { alert: down, at: at(100) }];
            assert_eq!(check(symptom, &[symptom], &over, &[], second), explained, "{second}");
        }
        let kafka = Downtime { service: Some("kafka".to_owned()), ..work(1000) };
        assert!(!check(&elections, &[&elections], &[], &[kafka], 60));
    }
}
