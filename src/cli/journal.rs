//! The local audit log: one JSON line when something begins and one when it ends, beside the inventory. Each line ends
//! with a hash of itself and of the hash before.

use super::Context;
use super::asked::Asked;
use super::carry::operator;
use super::chain::{Linked, broken, link};
use crate::apply::{Report, audit};
use crate::clock::{Clock, SystemClock};
use crate::inventory::model::Inventory;
use crate::plan::Plan;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// When, RFC 3339.
    pub(super) time: String,
    /// Who.
    pub(super) operator: String,
    /// The address from which they came to this machine; none where they sit at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) from: Option<String>,
    /// This aesop's version; empty in lines of before it was noted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) aesop: String,
    /// `apply`, `resume`, `rollback`, `destroy`, `exec`.
    pub(super) command: String,
    /// The generation it makes.
    pub(super) generation: u64,
    /// `started`, `done`, `failed`.
    pub(super) result: String,
    /// What it changes, and on which hosts.
    pub(super) plan: String,
    /// The changes themselves, as the plan calls them; at the beginning only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) steps: Vec<String>,
    /// What failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) failures: Vec<String>,
    /// What was asked for, where it has a plan; none in lines of before it was noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) asked: Option<Asked>,
    /// Of this line and the hash of the one before; written by [`append`] as the last of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hash: Option<String>,
}

impl Entry {
    /// Something begins.
    pub(super) fn new(command: &str, asked: &Asked, inventory: &Inventory, plan: &Plan) -> Self {
        let hosts = plan.hosts().into_iter().collect::<Vec<_>>().join(", ");
        let what = format!("{}: {} on {hosts}", inventory.cluster, plan.summary());
        let asked = Some(asked.clone());
        let (generation, steps) = (plan.generation, audit::lines(plan));
        Self { generation, steps, asked, ..Self::of(command, "started", what) }
    }

    fn of(command: &str, result: &str, what: String) -> Self {
        Self {
            time: now(),
            operator: operator(),
            from: from(),
            aesop: crate::lock::VERSION.to_owned(),
            command: command.to_owned(),
            generation: 0,
            result: result.to_owned(),
            plan: what,
            steps: Vec::new(),
            failures: Vec::new(),
            asked: None,
            hash: None,
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
            result: result(report.is_success()).to_owned(),
            failures: report.failures.iter().map(failure).collect(),
            steps: Vec::new(),
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

/// Where somebody has logged in from, as sshd says it.
fn from() -> Option<String> {
    let connection = std::env::var("SSH_CONNECTION").ok()?;
    connection.split_whitespace().next().map(str::to_owned)
}

fn result(is_success: bool) -> &'static str {
    if is_success { "done" } else { "failed" }
}

/// Notes what has no plan: it was done, or failed.
pub(super) fn note(cx: &Context, inventory: &Inventory, command: &str, what: &str, failures: &[String]) {
    let what = format!("{}: {what}", inventory.cluster);
    let entry = Entry::of(command, result(failures.is_empty()), what);
    append(cx, inventory, &Entry { failures: failures.to_vec(), ..entry });
}

/// Notes that something without a plan begins.
pub(super) fn begin(cx: &Context, inventory: &Inventory, command: &str, what: &str) -> Entry {
    let entry = Entry::of(command, "started", format!("{}: {what}", inventory.cluster));
    append(cx, inventory, &entry);
    entry
}

/// Notes how it ended.
pub(super) fn end(cx: &Context, inventory: &Inventory, begun: Entry, failures: Vec<String>) {
    let result = result(failures.is_empty()).to_owned();
    append(cx, inventory, &Entry { time: now(), result, failures, ..begun });
}

/// Appends a line. A disk that is full here does not stop what is under way there.
pub(super) fn append(cx: &Context, inventory: &Inventory, entry: &Entry) {
    let path = path(inventory);
    let write = || -> anyhow::Result<()> {
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.create(true).read(true).append(true).open(&path)?;
        // Two that end at once must not take the same line for the last.
        file.lock()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let before = text.lines().next_back().and_then(|line| parted(line).hash).unwrap_or_default();
        let line = serde_json::to_string(entry)?;
        let hash = link(before, &line);
        let body = line.strip_suffix('}').unwrap_or(&line);
        file.write_all(format!("{body}{HASH}{hash}{HASH_END}\n").as_bytes())?;
        Ok(())
    };
    if let Err(error) = write() {
        cx.out.warning(format!("the audit log {} cannot be written: {error}", path.display()));
    }
}

const HASH: &str = ",\"hash\":\"";
const HASH_END: &str = "\"}";

/// The hash of a line. What it was made of lacks it, and its comma.
fn parted(text: &str) -> Linked<'_> {
    match Linked::part(text, HASH, HASH_END) {
        Some((line, hash)) => Linked { line, hash: Some(hash) },
        None => Linked { line: text, hash: None },
    }
}

/// All lines; a log that is not there yet is empty.
pub(super) fn read(inventory: &Inventory) -> anyhow::Result<Vec<Entry>> {
    let path = path(inventory);
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}:{}: not a line of an audit log", path.display(), number + 1))
    };
    text(&path)?.lines().enumerate().map(parse).collect()
}

/// The last line of what had a plan: notes of other commands are passed over.
pub(super) fn last(inventory: &Inventory) -> anyhow::Result<Option<Entry>> {
    let had_plan = |entry: &Entry| entry.asked.is_some() || entry.generation > 0;
    Ok(read(inventory)?.into_iter().rfind(had_plan))
}

/// Why the log is not as it was written; none where it is.
pub(super) fn changed(inventory: &Inventory) -> anyhow::Result<Option<String>> {
    let path = path(inventory);
    let text = text(&path)?;
    // The hash was made of the line as it was without it.
    let bodies: Vec<(String, Option<&str>)> = text
        .lines()
        .map(|line| match parted(line) {
            Linked { line, hash: Some(hash) } => (format!("{line}}}"), Some(hash)),
            Linked { line, hash: None } => (line.to_owned(), None),
        })
        .collect();
    let lines = bodies.iter().map(|(line, hash)| Linked { line, hash: *hash });
    Ok(broken(lines, true).map(|number| format!("{}:{number}", path.display())))
}

fn text(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}
