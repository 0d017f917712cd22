//! What is really on a host, for `aesop status`: versions by what its files and links name, and what somebody changed.

use crate::lock::VERSION;
use crate::plan::{Drift, HostFacts};
use crate::service::{HostState, Part, Role, paths};
use std::collections::BTreeMap;

/// Nothing of it is there.
const ABSENT: &str = "-";

/// The version of a part that its host has; `unknown` where what is there does not say.
pub(super) fn version(state: &HostState, part: &Part, facts: &HostFacts) -> String {
    let found = match part.role {
        Role::Extra => Some(ABSENT.to_owned()),
        Role::ZooKeeper | Role::Kafka => of_jars(part, facts),
        Role::Base | Role::Relay | Role::Consumer | Role::Agent | Role::Monitor => {
            of_program(state, part, facts)
        }
    };
    found.unwrap_or_else(|| "unknown".to_owned())
}

/// By the artifact that the unit starts from.
fn of_jars(part: &Part, facts: &HostFacts) -> Option<String> {
    let path = format!("{}/{}", paths::UNITS, part.units.first()?.name);
    let file = part.files.iter().find(|file| file.path == path)?;
    let text = match facts.sha256.get(&path) {
        None => return Some(ABSENT.to_owned()),
        Some(sum) if *sum == file.sha256() => String::from_utf8_lossy(&file.content).into_owned(),
        // A file that differs comes with its content.
        Some(_) => facts.contents.get(&path)?.clone(),
    };
    let (name, _) = part.artifacts.first()?.name.rsplit_once('-')?;
    let (_, rest) = text.split_once(&format!("{}/{name}-", paths::ARTIFACTS))?;
    let id = rest.split(['/', ':', ' ', '"', '\n']).next()?;
    // Behind the version stands the hash of all that is in it.
    Some(id.rsplit_once('-').map_or(id, |(version, _)| version).to_owned())
}

/// By its link: one to another build than ours is told by the aesop that has worked there.
fn of_program(state: &HostState, part: &Part, facts: &HostFacts) -> Option<String> {
    let mut links = part.links.iter().chain(state.parts.iter().flat_map(|part| &part.links));
    let link = links.find(|link| link.path.starts_with(paths::BIN))?;
    match facts.links.get(&link.path) {
        None => Some(ABSENT.to_owned()),
        Some(target) if *target == link.target => Some(VERSION.to_owned()),
        Some(_) => Some(facts.deployed.clone()).filter(|theirs| !theirs.is_empty() && theirs != VERSION),
    }
}

/// How much of a host's drift is about which of its parts, by the part's place; what nobody claims is the first's.
pub(super) fn drift(host: &str, state: &HostState, drift: &[Drift]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    for Drift { name, .. } in drift.iter().filter(|drift| drift.host == host) {
        let has = |part: &Part| {
            part.units.iter().any(|unit| unit.name == *name)
                || part.files.iter().any(|file| file.path == *name)
                || part.links.iter().any(|link| link.path == *name)
                || part.directories.iter().any(|directory| directory.path == *name)
        };
        *counts.entry(state.parts.iter().position(has).unwrap_or_default()).or_default() += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{ArtifactRef, File, Link, Unit};

    const UNIT: &str = "/etc/systemd/system/aesop-kafka.service";

    fn state() -> HostState {
        let mut base = Part::new(Role::Base, "base");
        base.links
            .push(Link { path: paths::AESOP.to_owned(), target: "/opt/aesop/artifacts/new/aesop".into() });
        let mut kafka = Part::new(Role::Kafka, "kafka");
        let name = "aesop-kafka.service".to_owned();
        kafka.units.push(Unit { name, restart_on: Vec::new(), reload_on: Vec::new(), adopt: None });
        kafka.files.push(File::new(UNIT, text("kafka-4.2.0-abcdef")));
        kafka.artifacts.push(ArtifactRef { name: "kafka-4.2.0".into(), id: "kafka-4.2.0-abcdef".into() });
        let parts = vec![base, kafka, Part::new(Role::Agent, "agent")];
        HostState { parts, java: None }
    }

    fn text(id: &str) -> String {
        format!("ExecStart=java -cp \"/opt/aesop/artifacts/{id}/*\" kafka.Kafka\n")
    }

    #[test]
    fn a_version_is_that_of_what_is_there() {
        let state = state();
        let versions = |facts: &HostFacts| {
            let versions = state.parts[1..].iter().map(|part| version(&state, part, facts));
            versions.collect::<Vec<_>>().join(" ")
        };
        let mut facts = HostFacts::default();
        assert_eq!(versions(&facts), "- -", "nothing is there");
        facts.sha256.insert(UNIT.to_owned(), state.parts[1].files[0].sha256());
        facts.links.insert(paths::AESOP.to_owned(), "/opt/aesop/artifacts/new/aesop".to_owned());
        assert_eq!(versions(&facts), format!("4.2.0 {VERSION}"));
        // Both are older than what is wanted.
        facts.sha256.insert(UNIT.to_owned(), "1".to_owned());
        assert_eq!(versions(&facts), format!("unknown {VERSION}"), "its content did not come");
        facts.contents.insert(UNIT.to_owned(), text("kafka-4.1.1-fedcba"));
        facts.links.insert(paths::AESOP.to_owned(), "/opt/aesop/artifacts/old/aesop".to_owned());
        assert_eq!(versions(&facts), "4.1.1 unknown", "a build of nobody knows which version");
        facts.deployed = "0.0.9".to_owned();
        assert_eq!(versions(&facts), "4.1.1 0.0.9");
    }

    #[test]
    fn drift_is_counted_where_it_is() {
        let told = |host: &str, name: &str| Drift { host: host.into(), name: name.into(), found: "edited" };
        let all =
            [told("k1", UNIT), told("k1", "aesop-kafka.service"), told("k1", "/etc/x"), told("k2", UNIT)];
        assert_eq!(drift("k1", &state(), &all), BTreeMap::from([(0, 1), (1, 2)]));
    }
}
