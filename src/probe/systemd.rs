//! systemd units and timers, by `systemctl show`.

use super::{Probe, ProbeError, Sample, to_value};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::process::Stdio;
use tokio::process::Command;

const PROPERTIES: &str =
    "Id,LoadState,ActiveState,SubState,Type,Result,NRestarts,LastTriggerUSec,ActiveEnterTimestamp";

/// Asks systemd for the state of units.
#[derive(Debug)]
pub struct SystemdProbe {
    /// Units, with their suffix.
    pub units: Vec<String>,
}

impl Probe for SystemdProbe {
    fn name(&self) -> &'static str {
        "systemd"
    }

    fn service(&self) -> Option<&str> {
        None
    }

    fn probe(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Sample>, ProbeError>> {
        Box::pin(async move {
            if self.units.is_empty() {
                return Ok(Vec::new());
            }
            // Before systemd 251 there is no `--timestamp=unix`; times are then left out.
            let text = match self.show(&["--timestamp=unix"]).await {
                Ok(text) => text,
                Err(_) => self.show(&[]).await?,
            };
            Ok(parse(&text).iter().flat_map(|unit| samples(unit, now)).collect())
        })
    }
}

impl SystemdProbe {
    async fn show(&self, options: &[&str]) -> Result<String, ProbeError> {
        let output = Command::new("systemctl")
            .arg("show")
            .args(options)
            .arg(format!("--property={PROPERTIES}"))
            .arg("--")
            .args(&self.units)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|error| ProbeError::Unreachable(format!("cannot run systemctl: {error}")))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(ProbeError::Unreachable(format!("systemctl show: {reason}")))
        }
    }
}

/// The service that a unit runs: `kafka` for `aesop-kafka.service`, `consumer/orders` for
/// `aesop-consumer@orders.service`, and the unit itself where it is not one of aesop's.
pub fn service_of(unit: &str) -> String {
    let Some(stem) = unit.strip_prefix("aesop-") else { return unit.to_owned() };
    let stem = stem.strip_suffix(".service").or_else(|| stem.strip_suffix(".timer")).unwrap_or(stem);
    stem.replacen('@', "/", 1)
}

type Unit<'a> = BTreeMap<&'a str, &'a str>;

/// Blocks of `Key=Value` lines, an empty line between units.
fn parse(text: &str) -> Vec<Unit<'_>> {
    text.split("\n\n")
        .map(|block| block.lines().filter_map(|line| line.split_once('=')).collect::<Unit<'_>>())
        .filter(|unit| unit.contains_key("Id"))
        .collect()
}

fn samples(unit: &Unit<'_>, now: Timestamp) -> Vec<Sample> {
    let get = |key: &str| unit.get(key).copied().unwrap_or_default();
    let label = |name: &str, value: f64| {
        Sample::new(name, value, now).label("unit", get("Id")).label("service", service_of(get("Id")))
    };
    let missing = get("LoadState") == "not-found";
    let failed = get("ActiveState") == "failed";
    // A one-shot unit (the lag mail) is at rest when it is inactive.
    let active = match get("ActiveState") {
        "active" | "reloading" => true,
        "inactive" | "activating" if get("Type") == "oneshot" => !missing,
        _ => false,
    };
    let state = match (missing, get("Result")) {
        (true, _) => "not installed".to_owned(),
        (false, "" | "success") => format!("{} ({})", get("ActiveState"), get("SubState")),
        (false, result) => format!("{} ({}), result {result}", get("ActiveState"), get("SubState")),
    };
    let mut samples = vec![
        label("unit_active", f64::from(u8::from(active))).note(state.clone()),
        label("unit_failed", f64::from(u8::from(failed))).note(state),
    ];
    if let Ok(restarts) = get("NRestarts").parse::<u32>() {
        samples.push(label("unit_restarts_total", f64::from(restarts)));
    }
    if let Some(age) = age(get("LastTriggerUSec"), now) {
        samples.push(label("timer_last_trigger_age_seconds", age));
    }
    if active && let Some(age) = age(get("ActiveEnterTimestamp"), now) {
        samples.push(label("unit_uptime_seconds", age));
    }
    samples
}

/// Seconds since `@<unix seconds>`.
fn age(stamp: &str, now: Timestamp) -> Option<f64> {
    let then: u64 = stamp.strip_prefix('@')?.split('.').next()?.parse().ok()?;
    let now = u64::try_from(now.as_second()).ok()?;
    (then > 0).then(|| to_value(now.saturating_sub(then)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn reads_units_timers_and_what_is_not_installed() {
        let text = "Type=notify\nNRestarts=2\nResult=success\nId=aesop-kafka.service\nLoadState=loaded\nActiveState=active\nSubState=running\nActiveEnterTimestamp=@900\n\n\
            Type=notify\nNRestarts=0\nResult=exit-code\nId=aesop-relay.service\nLoadState=loaded\nActiveState=failed\nSubState=failed\n\n\
            Type=oneshot\nNRestarts=0\nResult=success\nId=aesop-lag-report.service\nLoadState=loaded\nActiveState=inactive\nSubState=dead\n\n\
            LastTriggerUSec=@400\nResult=success\nId=aesop-lag-report.timer\nLoadState=loaded\nActiveState=active\nSubState=waiting\n\n\
            Id=aesop-consumer@orders.service\nLoadState=not-found\nActiveState=inactive\nSubState=dead\n";
        let now = Timestamp::from_second(1000).unwrap();
        let lines: Vec<String> = parse(text)
            .iter()
            .flat_map(|unit| samples(unit, now))
            .map(|s| format!("{} {} {} {}", s.labels["service"], s.name, s.value, s.note.unwrap_or_default()))
            .collect();
        expect![[r"
            kafka unit_active 1 active (running)
            kafka unit_failed 0 active (running)
            kafka unit_restarts_total 2 
            kafka unit_uptime_seconds 100 
            relay unit_active 0 failed (failed), result exit-code
            relay unit_failed 1 failed (failed), result exit-code
            relay unit_restarts_total 0 
            lag-report unit_active 1 inactive (dead)
            lag-report unit_failed 0 inactive (dead)
            lag-report unit_restarts_total 0 
            lag-report unit_active 1 active (waiting)
            lag-report unit_failed 0 active (waiting)
            lag-report timer_last_trigger_age_seconds 600 
            consumer/orders unit_active 0 not installed
            consumer/orders unit_failed 0 not installed"]]
        .assert_eq(&lines.join("\n"));
    }
}
