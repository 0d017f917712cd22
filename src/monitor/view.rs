//! What the status page and the API show: one value, made after each step.

use super::config::MonitorConfig;
use super::core::{AlertView, Core};
use super::history::History;
use crate::alert::SpoolStatus;
use crate::lag::LagReport;
use crate::probe::Sample;
use crate::rule::{Phase, Resolved, Severity};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// One host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HostView {
    /// Name.
    pub host: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Whether its agent answers; none: not asked yet.
    pub up: Option<bool>,
    /// Why it does not.
    pub note: String,
    /// Units of aesop on it.
    pub services: Vec<ServiceView>,
    /// Alerts about it that fire and are mailed.
    pub firing: usize,
}

/// One service of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceView {
    /// Its name.
    pub service: String,
    /// `ok`, `bad` (a probe or a rule says so) or `down`.
    pub state: &'static str,
    /// systemd's words.
    pub note: String,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct View {
    pub(super) cluster: String,
    pub(super) monitor: String,
    pub(super) started: Timestamp,
    pub(super) at: Timestamp,
    pub(super) interval_secs: u64,
    pub(super) hosts: Vec<HostView>,
    pub(super) alerts: Vec<AlertView>,
    pub(super) resolved: Vec<Resolved>,
    pub(super) lag: Option<LagReport>,
    pub(super) history: History,
    pub(super) mail: SpoolStatus,
    pub(super) samples: Vec<Sample>,
}

impl View {
    pub(super) fn empty(config: &MonitorConfig, now: Timestamp) -> Self {
        let host = |(name, host): (&String, &super::config::MonitoredHost)| HostView {
            host: name.clone(),
            roles: host.roles.clone(),
            up: None,
            note: String::new(),
            services: Vec::new(),
            firing: 0,
        };
        Self {
            cluster: config.cluster.clone(),
            monitor: config.host.clone(),
            started: now,
            at: now,
            interval_secs: config.interval_secs,
            hosts: config.hosts.iter().map(host).collect(),
            alerts: Vec::new(),
            resolved: Vec::new(),
            lag: None,
            history: History::default(),
            mail: SpoolStatus::default(),
            samples: Vec::new(),
        }
    }

    pub(super) fn new(
        config: &MonitorConfig,
        core: &Core,
        lag: Option<&LagReport>,
        history: &History,
        mail: &SpoolStatus,
        now: Timestamp,
    ) -> Self {
        let alerts = core.alerts(now);
        let samples: Vec<Sample> = core.store().samples().cloned().collect();
        let mut by_host: BTreeMap<&str, Vec<&Sample>> = BTreeMap::new();
        for sample in &samples {
            if let Some(host) = sample.labels.get("host") {
                by_host.entry(host).or_default().push(sample);
            }
        }
        let hosts = core
            .hosts()
            .iter()
            .map(|(host, roles)| {
                let samples = by_host.get(host.as_str()).map_or(&[][..], Vec::as_slice);
                host_view(host, roles, samples, &alerts)
            })
            .collect();
        Self {
            hosts,
            alerts,
            resolved: core.resolved().iter().rev().cloned().collect(),
            lag: lag.cloned(),
            history: history.clone(),
            mail: mail.clone(),
            samples,
            at: now,
            ..Self::empty(config, now)
        }
    }

    /// Firing alerts that are mailed.
    pub(super) fn loud(&self) -> impl Iterator<Item = &AlertView> {
        self.alerts.iter().filter(|view| view.alert.is_firing() && view.suppressed.is_none())
    }

    /// The worst of the loud ones.
    pub(super) fn severity(&self) -> Option<Severity> {
        self.loud().map(|view| view.alert.severity).max()
    }
}

fn host_view(host: &str, roles: &[String], samples: &[&Sample], alerts: &[AlertView]) -> HostView {
    let about = |view: &&AlertView| {
        let ours = view.alert.labels.get("host").is_some_and(|label| label == host);
        ours && view.alert.is_firing() && view.suppressed.is_none()
    };
    let firing: Vec<&AlertView> = alerts.iter().filter(about).collect();
    let agent = samples.iter().find(|sample| sample.name == "agent_up");
    let units = samples.iter().filter(|sample| sample.name == "unit_active");
    let services = units.map(|sample| {
        let service = sample.labels.get("service").cloned().unwrap_or_default();
        let troubled = |view: &&&AlertView| {
            view.alert.track.phase == Phase::Firing && view.alert.labels.get("service") == Some(&service)
        };
        let state = match (sample.value > 0.0, firing.iter().any(|view| troubled(&view))) {
            (false, _) => "down",
            (true, true) => "bad",
            (true, false) => "ok",
        };
        ServiceView { service: service.clone(), state, note: sample.note.clone().unwrap_or_default() }
    });
    HostView {
        host: host.to_owned(),
        roles: roles.to_vec(),
        up: agent.map(|sample| sample.value > 0.0),
        note: agent.and_then(|sample| sample.note.clone()).unwrap_or_default(),
        services: services.collect(),
        firing: firing.len(),
    }
}
