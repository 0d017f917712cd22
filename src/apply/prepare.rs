//! All that is known before a host is asked: ids, secrets, certificates, templates, what hosts should look like.

use super::certificates::{CertificateError, for_brokers, load_or_make};
use super::{Contents, Events, Report, fetch_all};
use crate::artifact::{ArtifactError, Store};
use crate::clock::{Clock, SystemClock};
use crate::inventory::model::{Host, Inventory, SecretRef};
use crate::lock::{Change, Lock, LockError, OutOfIds, path_for};
use crate::plan::{Action, Facts, Observation, Observed, Plan, digest, host_facts, kafka_facts};
use crate::render::{RenderError, Templates};
use crate::secret::{Resolver, Secret, SecretError, random_bytes};
use crate::service::{
    HostState, Inputs, Role, Secrets, ServiceError, WantedArtifact, desired, roles, secret_refs,
    wanted_artifacts,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why no plan can be made.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The lock file.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Ids.
    #[error(transparent)]
    Ids(#[from] OutOfIds),
    /// A secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// An artifact.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The templates beside the inventory.
    #[error(transparent)]
    Templates(#[from] RenderError),
    /// They cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What hosts should look like cannot be said.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// No random numbers.
    #[error("cannot read /dev/urandom: {0}")]
    Random(std::io::Error),
}

/// Ready to observe, plan and apply.
#[derive(Debug)]
pub struct Prepared {
    /// What every host should look like.
    pub desired: BTreeMap<String, HostState>,
    /// Ids, with those that are new; not yet saved.
    pub lock: Lock,
    /// Which ids are new or gone.
    pub lock_changes: Vec<Change>,
    /// Templates that the user has replaced.
    pub overridden: Vec<String>,
    /// What a person should know of the certificates.
    pub notes: Vec<String>,
    /// sudo passwords by host.
    pub sudo_passwords: BTreeMap<String, Secret>,
    /// Every host of [`Prepared::desired`]: those of the inventory, and those that it names no more.
    pub hosts: BTreeMap<String, Host>,
    /// What it all was made from, by name, with digests.
    pub inputs: BTreeMap<String, String>,
    /// What digests are keyed with.
    pub key: Secret,
    pub(super) store: Store,
    /// The lock file as it was read.
    pub(super) found: Lock,
    lock_path: PathBuf,
}

impl Prepared {
    /// Resolves everything that the inventory refers to. Blocks; touches this machine only.
    pub fn new(inventory: &Inventory) -> Result<Self, PrepareError> {
        Self::with_store(inventory, Store::open)
    }

    /// As [`Prepared::new`], with artifacts from elsewhere. They are asked for last: a fault of the inventory
    /// is said before anything large is read.
    pub fn with_store(
        inventory: &Inventory,
        store: impl FnOnce(&[WantedArtifact]) -> Result<Store, ArtifactError>,
    ) -> Result<Self, PrepareError> {
        let lock_path = path_for(&inventory.path);
        let found = Lock::load(&lock_path, &inventory.cluster)?;
        let first = random_bytes().map_err(PrepareError::Random)?;
        let mut random = || random_bytes().unwrap_or(first);
        let (mut lock, lock_changes) = found.assign(inventory, &mut random)?;
        let carrying = roles(inventory);
        let mut hosts = inventory.hosts.clone();
        hosts.extend(departed(&lock, inventory));
        for host in carrying.keys().filter_map(|name| inventory.hosts.get(name)) {
            lock.settle(host);
        }

        let resolver = Resolver::new(&inventory.path);
        let mut secrets = Secrets::default();
        for (key, reference) in secret_refs(inventory) {
            let value = resolver.resolve(&key, &reference)?;
            secrets.0.insert(key, value);
        }
        let sudo_passwords = sudo_passwords(&resolver, &hosts)?;
        let addresses: BTreeMap<String, String> = carrying
            .into_keys()
            .filter_map(|name| Some((name.clone(), inventory.hosts.get(&name)?.address.clone())))
            .collect();
        let mut certificates = load_or_make(resolver.directory(), &inventory.cluster, &addresses)?;
        if let Some((role, tls)) = inventory.kafka.as_ref().and_then(|role| Some((role, role.tls.as_ref()?)))
        {
            let nodes = role.nodes().filter_map(|member| addresses.get_key_value(&member.host));
            let nodes = nodes.map(|(host, address)| (host.clone(), address.clone())).collect();
            let now = SystemClock.now();
            certificates.kafka = for_brokers(resolver.directory(), &inventory.cluster, tls, &nodes, now)?;
        }
        let folder = inventory.path.parent().unwrap_or(Path::new(".")).join("templates");
        let overrides = overrides(&folder)?;
        let templates = Templates::new(&overrides)?;
        let store = store(&wanted_artifacts(inventory))?;
        let key = resolver.resolve("plan-key", &SecretRef::Generated("plan-key".to_owned()))?;
        let mut desired = desired(&Inputs {
            inventory,
            lock: &lock,
            secrets: &secrets,
            certificates: &certificates,
            artifacts: store.ids(),
            templates: &templates,
        })?;
        for name in lock.hosts.keys() {
            // A host that the inventory names no more should have nothing.
            desired.entry(name.clone()).or_default();
        }
        let overridden = templates.overridden().to_vec();
        let mut inputs = BTreeMap::new();
        let mut input = |name: String, value: &[u8]| drop(inputs.insert(name, digest(key.expose(), value)));
        input("aesop itself".to_owned(), crate::lock::VERSION.as_bytes());
        input("the inventory".to_owned(), &std::fs::read(&inventory.path).unwrap_or_default());
        input("the lock file".to_owned(), lock.to_text().as_bytes());
        for (name, text) in &overrides {
            input(format!("template {name}"), text.as_bytes());
        }
        for (name, artifact) in &store.ids().0 {
            input(format!("artifact {name}"), artifact.id.as_bytes());
        }
        for (name, secret) in &secrets.0 {
            input(format!("secret {name}"), secret.expose().as_bytes());
        }
        for (host, state) in &desired {
            input(format!("what {host} should look like"), &snapshot(state)?);
        }
        Ok(Self {
            desired,
            lock,
            lock_changes,
            overridden,
            notes: certificates.kafka.notes.clone(),
            sudo_passwords,
            hosts,
            inputs,
            key,
            store,
            found,
            lock_path,
        })
    }

    /// What the plan made of `observed` rests on.
    pub fn facts(&self, observed: &Observed) -> Facts {
        let answered = observed.hosts.iter().filter_map(|(host, observation)| match observation {
            Observation::Facts(facts) => Some((host.clone(), host_facts(self.key.expose(), facts))),
            Observation::Failed(_) => None,
        });
        let kafka = observed.kafka.as_ref().map(|view| kafka_facts(self.key.expose(), view));
        Facts { inputs: self.inputs.clone(), hosts: answered.collect(), kafka }
    }

    /// After an apply: hosts that the inventory names no more, and that have been emptied, are forgotten.
    pub fn settle(&self, desired: &BTreeMap<String, HostState>, report: &Report) -> Result<(), LockError> {
        // What somebody said of a lost disk meanwhile stays.
        let now = Lock::load(&self.lock_path, &self.lock.cluster)?;
        let untouched = now == self.found || !self.lock_path.exists();
        let mut lock = if untouched { self.lock.clone() } else { now };
        // Of whom nothing is reported there was nothing to do, or it did not come to that.
        let emptied = |host: &String| {
            let counts = report.hosts.get(host);
            counts.map_or(report.is_success(), |c| !c.unreachable && c.failed == 0 && c.skipped == 0)
        };
        for (host, _) in desired.iter().filter(|(host, state)| state.parts.is_empty() && emptied(host)) {
            lock.leave(host);
        }
        let done = |host: &String| {
            let counts = report.hosts.get(host).copied().unwrap_or_default();
            !counts.unreachable && counts.failed == 0 && counts.skipped == 0
        };
        for (host, state) in desired.iter().filter(|(host, _)| done(host)) {
            if report.hosts.get(host).is_some_and(|counts| counts.changed > 0) {
                lock.has_disk(host);
            }
            if !state.parts.iter().any(|part| part.role == Role::ZooKeeper) {
                lock.ensemble.remove(host);
            } else if !lock.lost_members.contains(host) {
                lock.ensemble.insert(host.clone());
            }
        }
        if let Some(kafka) = &mut lock.kafka {
            // From here on there is a quorum to be joined.
            let has = |state: &HostState| state.parts.iter().any(|part| part.role == Role::Kafka);
            let up = |host: &String| desired.get(host).is_some_and(has) && done(host);
            kafka.formed |= !kafka.controllers.is_empty() && kafka.controllers.iter().all(up);
            let mut brokers =
                desired.values().flat_map(|state| &state.parts).filter_map(|part| part.broker.as_ref());
            let raised = brokers.any(|broker| broker.rebalance && broker.raise.is_some());
            if raised && report.is_success() && kafka.nodes.ids.keys().all(up) {
                kafka.raised_from = None;
            }
        }
        lock.save(&self.lock_path)
    }

    /// Writes the lock file. Before the first change of a host, so that no id is ever given twice. An error where
    /// somebody else has written it since it was read.
    pub fn save_lock(&self) -> Result<(), LockError> {
        self.lock.save_over(&self.found, &self.lock_path)
    }

    /// The lock file.
    pub fn lock_path(&self) -> &Path {
        &self.lock_path
    }

    /// What the steps of a plan refer to; fetches artifacts that hosts lack.
    pub async fn contents(
        &self,
        desired: &BTreeMap<String, HostState>,
        plan: &Plan,
        events: &Events,
    ) -> Result<Contents, ArtifactError> {
        let mut contents = Contents { lock: Bytes::from(self.lock.to_text()), ..Contents::default() };
        for (host, state) in desired {
            contents.snapshots.insert(host.clone(), Bytes::from(snapshot(state)?));
            for file in state.files() {
                let key = (host.clone(), file.path.clone());
                let entry = (file.sha256(), Bytes::from(file.content.clone()));
                contents.files.entry(key).or_insert(entry);
            }
        }
        let wanted = plan.steps().filter_map(|(_, step)| {
            if let Action::SendArtifact(artifact) = step.action() { Some(artifact.clone()) } else { None }
        });
        contents.pieces = fetch_all(&self.store, wanted.collect(), events).await?;
        Ok(contents)
    }
}

/// The sudo passwords of all hosts that need one.
pub fn sudo_passwords(
    resolver: &Resolver,
    hosts: &BTreeMap<String, Host>,
) -> Result<BTreeMap<String, Secret>, SecretError> {
    let needing = hosts.iter().filter_map(|(name, host)| Some((name, host.ssh.sudo_password.as_ref()?)));
    needing
        .map(|(name, reference)| {
            let key = format!("hosts.{name}.ssh.sudo_password");
            Ok((name.clone(), resolver.resolve(&key, reference)?))
        })
        .collect()
}

/// What a host should look like, as it keeps it.
fn snapshot(state: &HostState) -> Result<Vec<u8>, ArtifactError> {
    serde_json::to_vec(state).map_err(|error| ArtifactError::Snapshot(error.to_string()))
}

/// Hosts that carry services and are not in the inventory, or carry none in it. They are reached as the inventory's
/// other hosts are, but for what the lock file says.
fn departed<'a>(lock: &'a Lock, inventory: &'a Inventory) -> impl Iterator<Item = (String, Host)> + 'a {
    let gone = lock.hosts.iter().filter(|(name, _)| !inventory.hosts.contains_key(*name));
    gone.filter_map(|(name, place)| {
        let mut host = inventory.hosts.values().next()?.clone();
        name.clone_into(&mut host.name);
        host.address.clone_from(&place.address);
        host.ssh.port = place.port;
        host.ssh.user.clone_from(&place.user);
        Some((name.clone(), host))
    })
}

/// Templates of the user, by name.
fn overrides(folder: &Path) -> Result<BTreeMap<String, String>, PrepareError> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(current) = folders.pop() {
        let failed = |source| PrepareError::Read { path: current.clone(), source };
        let entries = match std::fs::read_dir(&current) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && current == folder => break,
            Err(source) => return Err(failed(source)),
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "j2")
                && let Ok(name) = path.strip_prefix(folder)
            {
                let text = std::fs::read_to_string(&path)
                    .map_err(|source| PrepareError::Read { path: path.clone(), source })?;
                found.insert(name.display().to_string(), text);
            }
        }
    }
    Ok(found)
}
