//! What aesop put on a host and the inventory no longer declares: units stopped, files and links removed, artifacts that
//! nothing refers to. After all other work, what others rest on last.

use super::manifest::{Entry, Kind, Manifest};
use super::step::{Action, Step};
use super::{HostFacts, Stage, Wave};
use crate::service::{HostState, Role, paths};
use std::collections::{BTreeMap, BTreeSet};

/// Snapshots of former generations that a host keeps, and with them the artifacts they run from.
pub(super) const GENERATIONS_KEPT: usize = 5;

/// What leaves one host, by service.
pub(super) type Leaving = BTreeMap<(Role, String), Vec<Step>>;

/// What leaves a host.
pub(super) fn leaving(have: &Manifest, want: &Manifest) -> Leaving {
    let mut by_service: BTreeMap<(Role, String), Vec<&Entry>> = BTreeMap::new();
    for entry in have.without(want).into_iter().filter(|entry| entry.kind != Kind::Data) {
        by_service.entry((entry.role, entry.service.clone())).or_default().push(entry);
    }
    by_service.into_iter().map(|(service, entries)| (service, steps(&entries))).collect()
}

fn steps(entries: &[&Entry]) -> Vec<Step> {
    let names =
        |kind: Kind| entries.iter().filter(move |entry| entry.kind == kind).map(|entry| entry.name.clone());
    let mut steps: Vec<Step> = names(Kind::Unit).map(Action::StopUnit).map(Step::plain).collect();
    let (files, links) = (names(Kind::File), names(Kind::Link));
    steps.extend(files.chain(links).map(Action::Remove).map(Step::plain));
    if names(Kind::File).any(|path| path.starts_with(paths::UNITS)) {
        steps.push(Step::plain(Action::ReloadSystemd));
    }
    // Children first.
    let mut directories: Vec<String> = names(Kind::Directory).collect();
    directories.sort_by(|a, b| b.cmp(a));
    steps.extend(directories.into_iter().map(Action::RemoveDirectory).map(Step::plain));
    steps
}

/// Artifacts that neither `state` nor a generation that the host keeps after this apply refers to.
pub(super) fn artifacts(state: &HostState, facts: &HostFacts) -> Vec<Step> {
    let wanted = state.parts.iter().flat_map(|part| &part.artifacts).map(|artifact| &artifact.id);
    // A host that leaves keeps no generation that it could go back to.
    let kept = if state.parts.is_empty() { 0 } else { GENERATIONS_KEPT - 1 };
    let kept = facts.generations.values().rev().take(kept).flatten();
    let used: BTreeSet<&String> = wanted.chain(kept).collect();
    let unused = facts.artifacts.iter().filter(|id| !used.contains(id));
    unused.map(|id| Step::plain(Action::RemoveArtifact(id.clone()))).collect()
}

/// Data, as the last of all; the state with which aesop remembers its hosts lies among it.
pub(super) fn data<'a>(manifests: impl Iterator<Item = (&'a str, &'a Manifest)>) -> Option<Stage> {
    let steps: BTreeMap<String, Vec<Step>> = manifests
        .map(|(host, manifest)| {
            let paths: BTreeSet<&String> = manifest.data().collect();
            // What lies in another one goes with it.
            let within = |path: &String| paths.iter().any(|other| path.starts_with(&format!("{other}/")));
            let tops = paths.iter().filter(|path| !within(path));
            (host.to_owned(), tops.map(|path| Step::plain(Action::RemoveData((*path).clone()))).collect())
        })
        .filter(|(_, steps): &(_, Vec<_>)| !steps.is_empty())
        .collect();
    (!steps.is_empty()).then(|| Stage {
        role: Role::Base,
        service: "data".to_owned(),
        removes: true,
        members: steps.keys().cloned().collect(),
        waves: vec![Wave::of(steps)],
    })
}

/// One service after the other, in the opposite order of starting: whoever uses a service leaves before it. Members
/// of a quorum leave one by one, unless nobody stays: the last ones of a quorum could not even stop in good order
/// without the others.
pub(super) fn stages(hosts: &BTreeMap<&str, Leaving>, desired: &BTreeMap<String, HostState>) -> Vec<Stage> {
    let stays = |key: &(Role, String)| {
        let mut parts = desired.values().flat_map(|state| &state.parts);
        parts.any(|part| part.role == key.0 && part.service == key.1)
    };
    let services: BTreeSet<&(Role, String)> = hosts.values().flat_map(BTreeMap::keys).collect();
    let stage = |key: &(Role, String)| {
        let steps =
            hosts.iter().filter_map(|(host, leaving)| Some(((*host).to_owned(), leaving.get(key)?.clone())));
        let steps: BTreeMap<String, Vec<Step>> = steps.collect();
        let members = steps.keys().cloned().collect();
        let waves = if key.0.rolling() && stays(key) {
            steps.into_iter().map(|(host, steps)| Wave::of(BTreeMap::from([(host, steps)]))).collect()
        } else {
            vec![Wave::of(steps)]
        };
        Stage { role: key.0, service: key.1.clone(), removes: true, members, waves }
    };
    services.into_iter().rev().map(stage).collect()
}
