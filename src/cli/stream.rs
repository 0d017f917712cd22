//! What `--format json` says while hosts are changed: one JSON object a line, described in docs/plan.md.

use super::Output;
use crate::apply::{Failure, HostReport, Report};
use crate::clock::{Clock, SystemClock};
use crate::plan::{Plan, Summary};
use serde::Serialize;
use std::collections::BTreeMap;

/// The first and the last line; [`crate::apply::ApplyEvent`] is what comes between.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Edge<'a> {
    /// What will be done, or why it is refused.
    Planned {
        /// The cluster.
        cluster: &'a str,
        /// The generation that hosts have afterwards.
        generation: u64,
        /// Counts of steps.
        summary: Summary,
        /// Hosts that were not reached, and why.
        unreachable: &'a BTreeMap<String, String>,
        /// Why nothing is done.
        refused: &'a [String],
        /// What a person should know.
        notes: &'a [String],
    },
    /// How it ended.
    Finished {
        /// Nothing failed and no host was left out.
        success: bool,
        /// Counts by host.
        hosts: &'a BTreeMap<String, HostReport>,
        /// Every failure.
        failures: &'a [Failure],
    },
}

impl<'a> Edge<'a> {
    pub(super) fn planned(plan: &'a Plan) -> Self {
        Self::Planned {
            cluster: &plan.cluster,
            generation: plan.generation,
            summary: plan.summary(),
            unreachable: &plan.unreachable,
            refused: &plan.refused,
            notes: &plan.notes,
        }
    }

    pub(super) fn finished(report: &'a Report) -> Self {
        Self::Finished { success: report.is_success(), hosts: &report.hosts, failures: &report.failures }
    }
}

#[derive(Serialize)]
struct Line<'a, T> {
    time: String,
    #[serde(flatten)]
    event: &'a T,
}

/// A line of the stream.
pub(super) fn say(out: Output, event: &impl Serialize) -> anyhow::Result<()> {
    out.json_line(&Line { time: SystemClock.now().to_string(), event })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::ApplyEvent;
    use crate::service::Role;
    use expect_test::expect;
    use std::time::Duration;

    fn all() -> Vec<serde_json::Value> {
        let (host, service, step) =
            ("k1".to_owned(), "kafka".to_owned(), "start aesop-kafka.service".to_owned());
        let failure = Failure {
            host: host.clone(),
            service: service.clone(),
            step: step.clone(),
            error: "why".to_owned(),
        };
        let hosts = BTreeMap::from([(host.clone(), HostReport::default())]);
        let report = Report { hosts, failures: vec![failure] };
        let plan = Plan { cluster: "shop".to_owned(), generation: 3, ..Plan::default() };
        let events = [
            ApplyEvent::Fetching { artifact: "kafka-4.2.0".to_owned() },
            ApplyEvent::FetchProgress { artifact: "kafka-4.2.0".to_owned(), bytes: 1, total: Some(10) },
            ApplyEvent::Fetched {
                artifact: "kafka-4.2.0".to_owned(),
                bytes: 10,
                elapsed: Duration::from_millis(1500),
            },
            ApplyEvent::StageStarted {
                role: Role::Kafka,
                service: service.clone(),
                hosts: vec![host.clone()],
            },
            ApplyEvent::HostStarted {
                host: host.clone(),
                service: service.clone(),
                steps: 2,
                bytes: 10,
                step: step.clone(),
            },
            ApplyEvent::StepDone {
                host: host.clone(),
                service: service.clone(),
                step,
                number: 1,
                steps: 2,
                next: None,
            },
            ApplyEvent::Note { host: host.clone(), text: "text".to_owned() },
            ApplyEvent::HostDone {
                host: host.clone(),
                service: service.clone(),
                elapsed: Duration::from_millis(1500),
            },
            ApplyEvent::HostFailed { host: host.clone(), service: service.clone(), error: "why".to_owned() },
            ApplyEvent::Skipped { host, service, reason: "why".to_owned() },
        ];
        let first = serde_json::to_value(Edge::planned(&plan)).unwrap();
        let last = serde_json::to_value(Edge::finished(&report)).unwrap();
        let between = events.iter().map(|event| serde_json::to_value(event).unwrap());
        [first].into_iter().chain(between).chain([last]).collect()
    }

    #[test]
    fn lines_are_what_they_were() {
        let lines: Vec<String> = all().iter().map(ToString::to_string).collect();
        expect![[r#"
            {"cluster":"shop","event":"planned","generation":3,"notes":[],"refused":[],"summary":{"add":0,"change":0,"destroy":0,"reboots":0,"restarts":0,"stops":0},"unreachable":{}}
            {"artifact":"kafka-4.2.0","event":"fetching"}
            {"artifact":"kafka-4.2.0","bytes":1,"event":"fetch_progress","total":10}
            {"artifact":"kafka-4.2.0","bytes":10,"elapsed_ms":1500,"event":"fetched"}
            {"event":"stage_started","hosts":["k1"],"role":"kafka","service":"kafka"}
            {"bytes":10,"event":"host_started","host":"k1","service":"kafka","step":"start aesop-kafka.service","steps":2}
            {"event":"step_done","host":"k1","next":null,"number":1,"service":"kafka","step":"start aesop-kafka.service","steps":2}
            {"event":"note","host":"k1","text":"text"}
            {"elapsed_ms":1500,"event":"host_done","host":"k1","service":"kafka"}
            {"error":"why","event":"host_failed","host":"k1","service":"kafka"}
            {"event":"skipped","host":"k1","reason":"why","service":"kafka"}
            {"event":"finished","failures":[{"error":"why","host":"k1","service":"kafka","step":"start aesop-kafka.service"}],"hosts":{"k1":{"changed":0,"failed":0,"ok":0,"skipped":0,"unreachable":false}},"success":false}"#]].assert_eq(&lines.join("\n"));
    }

    /// The document has a line for each event, which names each field.
    #[test]
    fn every_event_and_field_is_described() {
        let document = include_str!("../../docs/plan.md");
        for event in all() {
            let fields = event.as_object().unwrap();
            let name = fields["event"].as_str().unwrap();
            let row = document.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            let row = row.unwrap_or_else(|| panic!("docs/plan.md does not describe {name}"));
            for field in fields.keys().filter(|field| *field != "event") {
                assert!(row.contains(&format!("`{field}`")), "docs/plan.md does not describe {name}.{field}");
            }
        }
    }
}
