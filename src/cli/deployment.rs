//! What plan, apply, status, rollback and destroy have in common: read the inventory, ask the hosts, plan.

use super::Context;
use crate::apply::{Prepared, Session, former, observe, observe_again};
use crate::artifact::Store;
use crate::host::ssh::SshConnect;
use crate::inventory::model::Inventory;
use crate::plan::{
    Document, FORMAT, Facts, HostFacts, Observation, Observed, Plan, destroy, plan, selection,
};
use crate::preflight::{Verdict, consider};
use crate::service::HostState;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// All that a plan was made from.
#[derive(Debug)]
pub(super) struct Gathered {
    pub(super) prepared: Prepared,
    /// What every host of the plan should look like.
    pub(super) desired: BTreeMap<String, HostState>,
    pub(super) session: Session,
    pub(super) observed: Observed,
    pub(super) plan: Plan,
    pub(super) verdicts: Vec<Verdict>,
    /// What the plan rests on.
    pub(super) facts: Facts,
    /// The generation that the plan goes back to, where it does.
    pub(super) back_to: Option<u64>,
}

/// What hosts should become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// What the inventory says.
    Inventory,
    /// What they were in a generation.
    Generation {
        /// Its number; none: the one before the last.
        back_to: Option<u64>,
        /// Of a way back that was broken off: the highest generation before it began.
        since: Option<u64>,
    },
    /// Nothing of aesop's.
    Nothing {
        /// Not even its data.
        data: bool,
    },
}

impl Gathered {
    /// The plan as it is printed and saved.
    pub(super) fn document<'a>(&'a self, on: &'a [String]) -> Document<'a> {
        Document {
            format: FORMAT,
            aesop: crate::lock::VERSION,
            on,
            summary: self.plan.summary(),
            plan: &self.plan,
            schedule: self.plan.schedule(),
            facts: &self.facts,
        }
    }

    /// What the hosts that answered said.
    pub(super) fn answers(&self) -> impl Iterator<Item = (&String, &HostFacts)> {
        self.observed.hosts.iter().filter_map(|(host, observation)| match observation {
            Observation::Facts(facts) => Some((host, facts.as_ref())),
            Observation::Failed(_) => None,
        })
    }
}

/// Asks the hosts, or reads what they would say from a file, and plans what the inventory says.
pub(super) async fn gather(
    cx: &Context,
    inventory: &Inventory,
    observed: Option<&Path>,
) -> anyhow::Result<Gathered> {
    gather_for(cx, inventory, observed, Goal::Inventory, &cx.globals.on, &Consent::default()).await
}

/// What only a person can say.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Consent {
    /// Take all artifacts from this archive of `aesop bundle`, and nothing from a network
    #[arg(long, value_name = "FILE")]
    pub(super) bundle: Option<PathBuf>,
    /// Hosts that are gone for good.
    #[arg(skip)]
    pub(super) gone: Vec<String>,
    /// What only these hosts had may be lost.
    #[arg(skip)]
    pub(super) accept_data_loss: bool,
}

impl Consent {
    fn apply_to(&self, prepared: &mut Prepared) {
        for host in &self.gone {
            prepared.desired.remove(host);
            prepared.hosts.remove(host);
            prepared.lock.leave(host);
        }
        let parts = prepared.desired.values_mut().flat_map(|state| &mut state.parts);
        for broker in parts.filter_map(|part| part.broker.as_mut()).filter(|_| self.accept_data_loss) {
            broker.given_up.extend(self.gone.iter().cloned());
        }
    }
}

/// The same for any goal and selection of hosts.
pub(super) async fn gather_for(
    cx: &Context,
    inventory: &Inventory,
    observed: Option<&Path>,
    goal: Goal,
    on: &[String],
    consent: &Consent,
) -> anyhow::Result<Gathered> {
    // It reads files and waits for password managers, once, before anything else can happen.
    let bundle = consent.bundle.clone().or_else(bundle_of_environment);
    let mut prepared = tokio::task::block_in_place(|| match (observed, bundle) {
        (Some(_), _) => Prepared::with_store(inventory, Store::unhashed),
        (None, Some(file)) => Prepared::with_store(inventory, |wanted| Store::from_bundle(&file, wanted)),
        (None, None) => Prepared::new(inventory),
    })?;
    consent.apply_to(&mut prepared);
    let selected = select(cx, inventory, &prepared, on)?;
    let parallel = usize::from(cx.globals.parallel);
    let (session, mut observed) = if let Some(path) = observed {
        let text = std::fs::read_to_string(path)
            .map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?;
        (Session::default(), serde_json::from_str(&text)?)
    } else {
        // All of them: what is not selected may be in the way of what is.
        let connect = SshConnect::new(inventory, prepared.sudo_passwords.clone());
        observe(&connect, &prepared.hosts, &prepared.desired, parallel).await
    };
    let (mut desired, mut notes) = (prepared.desired.clone(), Vec::new());
    let mut at = None;
    let mut plan = match goal {
        Goal::Inventory => {
            notes.clone_from(&prepared.notes);
            plan(&inventory.cluster, &desired, &observed)
        }
        Goal::Nothing { data } => {
            desired = desired.into_keys().map(|host| (host, HostState::default())).collect();
            destroy(&inventory.cluster, &desired, &observed, data)
        }
        Goal::Generation { back_to, since } => {
            let kept = former(&session, &observed, &selected, back_to, since, parallel).await;
            let former = match kept {
                Ok(former) => former,
                Err(error) => {
                    session.close().await;
                    return Err(error.into());
                }
            };
            notes.push(format!(
                "this goes back to generation {}; the inventory still says otherwise",
                former.generation
            ));
            let unknown = former.unknown.iter();
            notes.extend(
                unknown.map(|host| format!("{host} keeps nothing of that generation and is left as it is")),
            );
            desired = former.desired;
            at = Some(former.generation);
            observed = observe_again(&session, &desired, parallel).await;
            plan(&inventory.cluster, &desired, &observed)
        }
    };
    plan.notes.extend(notes);
    if selected.len() < prepared.desired.len() {
        plan.refused.extend(selection(&plan, &desired, &observed, &selected));
    }
    plan.select(&selected);
    let mut verdicts = Vec::new();
    if goal == Goal::Inventory {
        verdicts = prepared.preflight(inventory, &observed);
        consider(&mut plan, &verdicts);
    }
    let mut facts = prepared.facts(&observed);
    facts.hosts.retain(|host, _| selected.contains(host));
    desired.retain(|host, _| selected.contains(host));
    Ok(Gathered { prepared, desired, session, observed, plan, verdicts, facts, back_to: at })
}

/// Every command that plans takes it, those too that have no flag for it.
fn bundle_of_environment() -> Option<PathBuf> {
    std::env::var_os("AESOP_BUNDLE").filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The hosts that are meant, those that the inventory names no more included.
fn select(
    cx: &Context,
    inventory: &Inventory,
    prepared: &Prepared,
    on: &[String],
) -> anyhow::Result<BTreeSet<String>> {
    if on.is_empty() {
        return Ok(prepared.desired.keys().chain(inventory.hosts.keys()).cloned().collect());
    }
    let gone = |name: &&String| prepared.desired.contains_key(*name) && !inventory.hosts.contains_key(*name);
    let mut selected: BTreeSet<String> = on.iter().filter(gone).cloned().collect();
    let others: Vec<String> = on.iter().filter(|name| !gone(name)).cloned().collect();
    if !others.is_empty() {
        selected.extend(cx.select(inventory, &others)?);
    }
    Ok(selected)
}
