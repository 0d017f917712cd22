//! What is asked of a host and what its answer says.

use super::machine::Machine;
use super::manifest::Manifest;
use super::step::UnitStart;
use crate::kafka::view::View;
use crate::lock::{VERSION, is_newer};
use crate::service::{HostState, Init, Role, ZOOKEEPER_UNIT, paths};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Where aesop writes on every host, and what programs use for passing files.
pub const PLACES: [&str; 5] = [paths::ETC, paths::OPT, paths::DATA, paths::LOG, "/tmp"];

/// All hosts as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// By name.
    pub hosts: BTreeMap<String, Observation>,
    /// What Kafka says of itself; none where no broker answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<Box<View>>,
}

/// One host as it is, or why we do not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// It answered.
    Facts(Box<HostFacts>),
    /// It did not.
    Failed(String),
}

/// What a host says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostFacts {
    /// `debian 12`.
    pub os: String,
    /// The aesop that worked on it last, as its copy of the lock file says; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deployed: String,
    /// Its clock, seconds since 1970.
    pub now: i64,
    /// What it is apart from aesop.
    pub machine: Machine,
    /// Another value is another boot.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub boot: String,
    /// Generation of the last apply.
    pub generation: u64,
    /// Who holds the lock.
    pub lock: Option<Holder>,
    /// Files, directories and links that were asked for and are there.
    pub stats: BTreeMap<String, Stat>,
    /// Hashes of files.
    pub sha256: BTreeMap<String, String>,
    /// Contents of files that differ and may be shown.
    pub contents: BTreeMap<String, String>,
    /// Targets of links.
    pub links: BTreeMap<String, String>,
    /// Units.
    pub units: BTreeMap<String, UnitFact>,
    /// Installed packages with their versions.
    pub packages: BTreeMap<String, String>,
    /// Users that are there.
    pub users: BTreeSet<String>,
    /// Artifacts in the store.
    pub artifacts: BTreeSet<String>,
    /// What units were started with.
    pub records: BTreeMap<String, Record>,
    /// What of aesop's is there, as the host keeps it.
    pub manifest: Manifest,
    /// Generations that it has a snapshot of, with the artifacts that they run from.
    pub generations: BTreeMap<u64, Vec<String>>,
    /// ZooKeeper's members, as its server on this host keeps them.
    pub ensemble: Option<EnsembleFact>,
    /// The snapshot that was asked for.
    #[serde(skip)]
    pub snapshot: Option<String>,
    /// Ids that services keep themselves: content of `myid` and `meta.properties`.
    pub ids: BTreeMap<String, String>,
}

/// ZooKeeper's members by one of its servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnsembleFact {
    /// Of the configuration: the higher, the newer; 0 before there ever was a quorum.
    pub version: u64,
    /// Its lines: `server.1=10.0.0.11:2888:3888:participant;2181`.
    pub members: String,
    /// Which of them is the server of this host.
    pub id: Option<u32>,
}

/// Kind, mode and owner.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    /// `regular file`, `directory`, `symbolic link`, as stat says.
    pub kind: String,
    /// Octal.
    pub mode: String,
    /// Owner.
    pub owner: String,
    /// Group.
    pub group: String,
}

/// A unit's state, in systemd's words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitFact {
    /// `active`, `inactive`, `failed`, `activating`.
    pub active: String,
    /// `running`, `dead`, `auto-restart`, `waiting`.
    pub sub: String,
    /// `enabled`, `disabled`.
    pub file: String,
    /// Its file changed since systemd read it.
    pub needs_reload: bool,
    /// Since when it is active.
    pub since: String,
}

/// An apply that holds a host's lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Which apply.
    pub id: String,
    /// Who runs it.
    pub operator: String,
    /// Since when, seconds since 1970 by the host's clock.
    pub since: i64,
    /// Its last sign of life, by the same clock.
    pub touched: i64,
    /// What was asked of it; empty where an older aesop wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub operation: String,
}

/// What a unit was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Fingerprint of what needs a restart.
    pub restart: String,
    /// Fingerprint of what needs a reload.
    pub reload: String,
    /// It became ready.
    pub ready: bool,
}

/// The questions for one host, lines for `observe.sh`.
pub fn questions(desired: &HostState) -> String {
    let mut text = String::new();
    let mut ask = |line: std::fmt::Arguments<'_>| {
        let _infallible = writeln!(text, "{line}");
    };
    let mut seen = BTreeSet::new();
    ask(format_args!("leaving"));
    for path in PLACES {
        ask(format_args!("disk|{path}"));
    }
    if let Some(java) = &desired.java {
        ask(format_args!("java|{java}"));
    }
    // Also where it should not be: who leaves may be needed once more.
    ask(format_args!("unit|{ZOOKEEPER_UNIT}"));
    for part in &desired.parts {
        for port in &part.ports {
            ask(format_args!("port|{port}"));
        }
        let data = part.directories.iter().filter(|_| part.role != Role::Extra);
        for directory in data.filter(|directory| !PLACES.contains(&&*directory.path)) {
            ask(format_args!("disk|{}", directory.path));
        }
        for directory in &part.directories {
            if seen.insert(&directory.path) {
                ask(format_args!("path|{}", directory.path));
            }
        }
        for link in &part.links {
            if seen.insert(&link.path) {
                ask(format_args!("path|{}", link.path));
            }
        }
        for file in &part.files {
            if seen.insert(&file.path) {
                ask(format_args!("path|{}", file.path));
                let show = if file.secret || file.once { "secret".to_owned() } else { file.sha256() };
                ask(format_args!("show|{}|{show}", file.path));
            }
        }
        for unit in part.units.iter().filter(|unit| unit.name != ZOOKEEPER_UNIT) {
            ask(format_args!("unit|{}", unit.name));
        }
        for package in &part.packages {
            for name in std::iter::once(&package.name).chain(package.other.values()) {
                ask(format_args!("package|{name}"));
            }
            ask(format_args!("path|{}", package.unless));
        }
        for user in &part.users {
            ask(format_args!("user|{}", user.name));
        }
        for file in part.files.iter().filter(|file| file.path.ends_with("/myid")) {
            ask(format_args!("id|{}", file.path));
        }
        for marker in part.init.iter().flat_map(Init::markers) {
            ask(format_args!("id|{marker}"));
        }
    }
    text
}

/// Reads the answer of `observe.sh`. Lines before its first are a chatty login shell's; an answer without its
/// last line was cut.
pub fn parse(answer: &str) -> Result<HostFacts, String> {
    let mut lines = answer.lines().skip_while(|line| *line != "aesop|1");
    if lines.next().is_none() {
        return Err("the host's answer does not begin as it should".to_owned());
    }
    let mut facts = HostFacts::default();
    for line in lines {
        if line == "end" {
            return Ok(facts);
        }
        let mut fields = line.splitn(2, '|');
        let (kind, rest) = (fields.next().unwrap_or(""), fields.next().unwrap_or(""));
        facts
            .read(kind, rest)
            .ok_or_else(|| facts.newer_aesop().unwrap_or_else(|| format!("unexpected line {line:?}")))?;
    }
    Err("the host's answer was cut".to_owned())
}

impl HostFacts {
    /// Why this aesop keeps its hands off a host: what a newer one has left there it may not understand.
    pub(super) fn newer_aesop(&self) -> Option<String> {
        is_newer(&self.deployed).then(|| {
            let theirs = &self.deployed;
            format!("it was deployed by aesop {theirs} and this is aesop {VERSION}; use {theirs} or newer")
        })
    }

    /// A unit with what it was started with, which may be older than the inventory.
    pub(super) fn as_recorded(&self, unit: &str) -> UnitStart {
        let Record { restart, reload, .. } = self.records.get(unit).cloned().unwrap_or_default();
        UnitStart { unit: unit.to_owned(), restart, reload }
    }

    fn read(&mut self, kind: &str, rest: &str) -> Option<()> {
        let fields: Vec<&str> = rest.split('|').collect();
        let field = |index: usize| fields.get(index).map(|text| (*text).to_owned());
        match kind {
            "os" => self.os = format!("{} {}", field(0)?, field(1)?),
            "deployed" => rest.trim_matches(['\'', '"']).clone_into(&mut self.deployed),
            "now" => self.now = rest.parse().ok()?,
            "boot" => rest.clone_into(&mut self.boot),
            "generation" => self.generation = rest.trim().parse().ok()?,
            "manifest" => self.manifest.read(rest)?,
            "kept" => {
                let artifacts = field(1)?.split_whitespace().map(str::to_owned).collect();
                self.generations.insert(field(0)?.parse().ok()?, artifacts);
            }
            "snapshot" => self.snapshot = Some(text(&field(1)?)?),
            "lock" => {
                let since = |index: usize| fields.get(index)?.parse().ok();
                let (id, operator) = (field(0)?, field(1)?);
                let (since, touched) = (since(2)?, since(3)?);
                self.lock = Some(Holder { id, operator, since, touched, operation: String::new() });
            }
            // Behind its lock; one that is just being given back has none any more.
            "operation" => {
                if let Some(lock) = &mut self.lock {
                    rest.clone_into(&mut lock.operation);
                }
            }
            "stat" => {
                let stat = Stat { kind: field(1)?, mode: field(2)?, owner: field(3)?, group: field(4)? };
                self.stats.insert(field(0)?, stat);
            }
            "sha256" => drop(self.sha256.insert(field(0)?, field(1)?)),
            "content" => drop(self.contents.insert(field(0)?, text(&field(1)?)?)),
            "link" => drop(self.links.insert(field(0)?, field(1)?)),
            "unit" => {
                let unit = UnitFact {
                    active: field(1)?,
                    sub: field(2)?,
                    file: field(3)?,
                    needs_reload: field(4)? == "yes",
                    since: field(5)?,
                };
                self.units.insert(field(0)?, unit);
            }
            "package" => {
                if field(2)? == "installed" {
                    self.packages.insert(field(0)?, field(1)?);
                }
            }
            "user" => drop(self.users.insert(field(0)?)),
            "artifact" => drop(self.artifacts.insert(field(0)?)),
            "record" => {
                let record = Record { restart: field(1)?, reload: field(2)?, ready: field(3)? == "1" };
                self.records.insert(field(0)?, record);
            }
            "ensemble" => {
                let version = crate::ensemble::members::version_of(&field(0)?);
                let members = text(&field(1)?)?;
                let id = field(2).and_then(|id| id.trim().parse().ok());
                self.ensemble = Some(EnsembleFact { version, members, id });
            }
            "id" => drop(self.ids.insert(field(0)?, text(&field(1)?)?)),
            _ => return self.machine.read(kind, rest).filter(|known| *known).map(|_| ()),
        }
        Some(())
    }
}

fn text(base64: &str) -> Option<String> {
    Some(String::from_utf8_lossy(&STANDARD.decode(base64).ok()?).into_owned())
}
