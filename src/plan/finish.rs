//! What every plan begins and ends with on a host: the manifest, and the generation.

use super::manifest::Manifest;
use super::remove::GENERATIONS_KEPT;
use super::step::{Action, Step};
use super::{Plan, Stage, Wave};
use crate::service::{HostState, Role};
use std::collections::{BTreeMap, BTreeSet};

/// What a host's manifest says now, what it says while the plan is carried out, and at its end.
pub(super) struct Manifests {
    have: Manifest,
    during: Manifest,
    after: Manifest,
}

impl Manifests {
    pub(super) fn new(have: &Manifest, after: Manifest) -> Self {
        Self { have: have.clone(), during: have.with(&after), after }
    }
}

/// Before its first change a host notes what will be there, so that nothing is forgotten by whoever dies on the way; at
/// the end what is there. Every host that was touched learns the generation: an older plan is refused there.
pub(super) fn finish(
    plan: &mut Plan,
    hosts: &BTreeMap<&str, Manifests>,
    desired: &BTreeMap<String, HostState>,
) {
    let touched: BTreeSet<String> = plan.hosts().into_iter().map(str::to_owned).collect();
    let mut last = BTreeMap::new();
    for (name, manifests) in hosts {
        let first = plan
            .stages
            .iter_mut()
            .flat_map(|stage| &mut stage.waves)
            .find_map(|wave| wave.steps.get_mut(*name));
        let mut noted = &manifests.have;
        if let (Some(steps), false) = (first, manifests.have.same(&manifests.during)) {
            steps.insert(0, Step::plain(Action::RecordManifest(manifests.during.clone())));
            noted = &manifests.during;
        }
        let mut steps = Vec::new();
        if !noted.same(&manifests.after) {
            let alone = !touched.contains(*name);
            let reason = alone.then(|| "its list is not what is there".to_owned());
            steps.push(Step::because(Action::RecordManifest(manifests.after.clone()), reason));
        }
        if !steps.is_empty() || touched.contains(*name) {
            let parts = desired.get(*name).map_or(&[][..], |state| &state.parts);
            let artifacts = parts.iter().flat_map(|part| &part.artifacts).map(|artifact| artifact.id.clone());
            steps.push(Step::plain(Action::RecordGeneration {
                generation: plan.generation,
                keep: if parts.is_empty() { 1 } else { GENERATIONS_KEPT },
                artifacts: artifacts.collect::<BTreeSet<_>>().into_iter().collect(),
            }));
            last.insert((*name).to_owned(), steps);
        }
    }
    if !last.is_empty() {
        plan.stages.push(Stage {
            role: Role::Base,
            service: Stage::GENERATION.to_owned(),
            removes: false,
            members: last.keys().cloned().collect(),
            waves: vec![Wave::of(last)],
        });
    }
}
