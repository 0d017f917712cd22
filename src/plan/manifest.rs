//! What aesop has put on a host, as the host itself keeps it: from it follow what is pruned, and whether a
//! difference is somebody's edit or our own intent.

use crate::service::{HostState, Role, paths};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// Everything of aesop's on one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest(Vec<Entry>);

/// One thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) role: Role,
    pub(super) service: String,
    pub(super) kind: Kind,
    /// A unit's name or a path.
    pub(super) name: String,
    /// What aesop made of it: hash, mode and owner of a file, target of a link. `-` where the service goes on
    /// with it.
    pub(super) value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Unit,
    File,
    Link,
    /// Goes when it is empty.
    Directory,
    /// Holds data: goes only when asked for.
    Data,
}

/// A value that is never compared.
const ANY: &str = "-";

impl Kind {
    const ALL: [Self; 5] = [Self::Unit, Self::File, Self::Link, Self::Directory, Self::Data];

    fn word(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::File => "file",
            Self::Link => "link",
            Self::Directory => "directory",
            Self::Data => "data",
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, service, kind, name, value } = self;
        write!(f, "{role}|{service}|{}|{name}|{value}", kind.word())
    }
}

impl fmt::Display for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|entry| writeln!(f, "{entry}"))
    }
}

/// The value of a file that is there.
pub(super) fn file_value(sha256: &str, mode: &str, owner: &str, group: &str) -> String {
    format!("{sha256} {mode} {owner} {group}")
}

/// The value of a directory that is there.
pub(super) fn directory_value(mode: &str, owner: &str, group: &str) -> String {
    format!("{mode} {owner} {group}")
}

impl Manifest {
    /// What `state` will put on its host.
    pub(super) fn of(state: &HostState) -> Self {
        let (mut entries, mut seen) = (Vec::new(), BTreeSet::new());
        for part in &state.parts {
            let mut add = |kind, name: &str, value: String| {
                if seen.insert(name.to_owned()) {
                    let (role, service) = (part.role, part.service.clone());
                    entries.push(Entry { role, service, kind, name: name.to_owned(), value });
                }
            };
            for unit in &part.units {
                add(Kind::Unit, &unit.name, ANY.to_owned());
            }
            for file in &part.files {
                let mode = format!("{:o}", file.mode);
                let value = file_value(&file.sha256(), &mode, &file.owner, &file.group);
                add(Kind::File, &file.path, if file.once { ANY.to_owned() } else { value });
            }
            for link in &part.links {
                add(Kind::Link, &link.path, link.target.clone());
            }
            for directory in &part.directories {
                // A directory of an extra may be one that others use too: it goes when it is empty.
                let ours = part.role == Role::Extra
                    || [paths::ETC, paths::OPT].iter().any(|root| {
                        directory
                            .path
                            .strip_prefix(root)
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    });
                let mode = format!("{:o}", directory.mode);
                let value = directory_value(&mode, &directory.owner, &directory.group);
                add(if ours { Kind::Directory } else { Kind::Data }, &directory.path, value);
            }
        }
        Self(entries)
    }

    /// Reads a line; none where it is not one.
    pub(super) fn read(&mut self, line: &str) -> Option<()> {
        let mut fields = line.splitn(5, '|');
        let mut field = || fields.next().map(str::to_owned);
        let role = field()?.parse().ok()?;
        let (service, kind, name) = (field()?, field()?, field()?);
        let kind = Kind::ALL.into_iter().find(|known| known.word() == kind)?;
        // What is removed by it must be a place of its own.
        let sound =
            kind == Kind::Unit || (name.starts_with('/') && !name.split('/').any(|step| step == ".."));
        self.0.push(Entry { role, service, kind, name, value: field()? });
        sound.then_some(())
    }

    /// Services of which a member counts in a quorum.
    pub fn quorums(&self) -> BTreeSet<String> {
        let units = self.0.iter().filter(|entry| entry.kind == Kind::Unit && entry.role.gates_all_members());
        units.map(|entry| entry.service.clone()).collect()
    }

    /// Directories with data.
    pub(super) fn data(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|entry| entry.kind == Kind::Data).map(|entry| &entry.name)
    }

    /// What of one kind a service has there.
    pub(super) fn of_service<'a>(&'a self, service: &'a str, kind: Kind) -> impl Iterator<Item = &'a String> {
        self.0
            .iter()
            .filter(move |entry| entry.service == service && entry.kind == kind)
            .map(|entry| &entry.name)
    }

    /// Both: what is there and what will be, for as long as an apply is under way.
    pub(super) fn with(&self, other: &Self) -> Self {
        let known: BTreeSet<&Entry> = self.0.iter().collect();
        let new = other.0.iter().filter(|entry| !known.contains(entry)).cloned();
        Self(self.0.iter().cloned().chain(new).collect())
    }

    /// What `wanted` does not have any more.
    pub(super) fn without<'a>(&'a self, wanted: &Self) -> Vec<&'a Entry> {
        let names: BTreeSet<&String> = wanted.0.iter().map(|entry| &entry.name).collect();
        let mut seen = BTreeSet::new();
        self.0.iter().filter(|entry| !names.contains(&entry.name) && seen.insert(&entry.name)).collect()
    }

    /// Files that `wanted` does not have any more.
    pub(super) fn files_without<'a>(&'a self, wanted: &Self) -> impl Iterator<Item = &'a String> {
        let entries = self.without(wanted).into_iter().filter(|entry| entry.kind == Kind::File);
        entries.map(|entry| &entry.name)
    }

    /// What is left once everything that is not in `wanted` is gone: data outlives its service.
    pub(super) fn after(&self, wanted: &Self) -> Self {
        let data = self.without(wanted).into_iter().filter(|entry| entry.kind == Kind::Data);
        Self(wanted.0.iter().chain(data).cloned().collect())
    }

    /// Whether aesop made `name`, and not what is there now.
    pub(super) fn drifted(&self, name: &str, found: &str) -> bool {
        let mut ours = self.0.iter().filter(|entry| entry.name == name).peekable();
        ours.peek().is_some() && ours.all(|entry| entry.value != found && entry.value != ANY)
    }

    /// Same entries, in whatever order.
    pub(super) fn same(&self, other: &Self) -> bool {
        let set = |manifest: &Self| manifest.0.iter().cloned().collect::<BTreeSet<_>>();
        set(self) == set(other)
    }
}
