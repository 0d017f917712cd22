//! The local audit log: one JSON line when something begins and one when it ends, beside the inventory.

use super::Context;
use crate::apply::Report;
use crate::clock::{Clock, SystemClock};
use crate::inventory::model::Inventory;
use crate::plan::Plan;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::PathBuf;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// When, RFC 3339.
    pub(super) time: String,
    /// Who.
    pub(super) operator: String,
    /// `apply`, `resume`, `rollback`, `destroy`.
    pub(super) command: String,
    /// The generation it makes.
    pub(super) generation: u64,
    /// `started`, `done`, `failed`.
    pub(super) result: String,
    /// What it changes, and on which hosts.
    pub(super) plan: String,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) failures: Vec<String>,
}

impl Entry {
    /// Something begins.
    pub(super) fn new(command: &str, operator: &str, inventory: &Inventory, plan: &Plan) -> Self {
        let hosts = plan.hosts().into_iter().collect::<Vec<_>>().join(", ");
        Self {
            time: now(),
            operator: operator.to_owned(),
            command: command.to_owned(),
            generation: plan.generation,
            result: "started".to_owned(),
            plan: format!("{}: {} on {hosts}", inventory.cluster, plan.summary()),
            failures: Vec::new(),
        }
    }

    /// It ended.
    pub(super) fn ended(self, report: &Report) -> Self {
        let failure = |failure: &crate::apply::Failure| {
            let first = failure.error.lines().next().unwrap_or_default();
            format!("{} {}: {}: {first}", failure.host, failure.service, failure.step)
        };
        Self {
            time: now(),
            result: if report.is_success() { "done" } else { "failed" }.to_owned(),
            failures: report.failures.iter().map(failure).collect(),
            ..self
        }
    }
}

fn now() -> String {
    SystemClock.now().round(jiff::Unit::Second).map_or_else(|_| String::new(), |time| time.to_string())
}

/// `shop.audit` beside `shop.yml`.
pub(super) fn path(inventory: &Inventory) -> PathBuf {
    inventory.path.with_extension("audit")
}

/// Appends a line. A disk that is full here does not stop what is under way there.
pub(super) fn append(cx: &Context, inventory: &Inventory, entry: &Entry) {
    let path = path(inventory);
    let write = || -> anyhow::Result<()> {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(&path)?;
        file.write_all(format!("{}\n", serde_json::to_string(entry)?).as_bytes())?;
        Ok(())
    };
    if let Err(error) = write() {
        cx.out.warning(format!("the audit log {} cannot be written: {error}", path.display()));
    }
}

/// All lines; a log that is not there yet is empty.
pub(super) fn read(inventory: &Inventory) -> anyhow::Result<Vec<Entry>> {
    let path = path(inventory);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}:{}: not a line of an audit log", path.display(), number + 1))
    };
    text.lines().enumerate().map(parse).collect()
}
