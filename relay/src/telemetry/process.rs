//! The bean that every program has.

use super::registry::{Bean, Kind, Registry, Value};
use super::{ObjectName, Text};
use std::time::Instant;

/// Registers `domain:type=kind` with `Version`, `UptimeSeconds` and `ResidentBytes`.
pub fn register(registry: &Registry, domain: &str, kind: &str, started: Instant) -> Bean {
    let bean = registry.bean(ObjectName::new(domain, &[("type", kind)]));
    let version: Text = bean.text("Version", Kind::Info);
    version.set(env!("CARGO_PKG_VERSION"));
    bean.computed("UptimeSeconds", Kind::Gauge, move || Value::Uint(started.elapsed().as_secs()));
    bean.computed("ResidentBytes", Kind::Gauge, || resident_bytes().map_or(Value::Null, Value::Uint));
    bean
}

/// Linux only; unknown elsewhere.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}
