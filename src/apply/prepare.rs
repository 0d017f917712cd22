//! All that is known before a host is asked: ids, secrets, certificates, templates, what hosts should look like.

use super::certificates::{CertificateError, load_or_make};
use super::{Contents, Events};
use crate::artifact::{ArtifactError, Store};
use crate::inventory::model::Inventory;
use crate::lock::{Change, Lock, LockError, OutOfIds, path_for};
use crate::plan::{Action, Plan};
use crate::render::{RenderError, Templates};
use crate::secret::{Resolver, Secret, SecretError, random_bytes};
use crate::service::{
    ArtifactRef, HostState, Inputs, Secrets, ServiceError, artifact_names, desired, roles, secret_refs,
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
    /// sudo passwords by host.
    pub sudo_passwords: BTreeMap<String, Secret>,
    pub(super) store: Store,
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
        store: impl FnOnce(&[String]) -> Result<Store, ArtifactError>,
    ) -> Result<Self, PrepareError> {
        let lock_path = path_for(&inventory.path);
        let lock = Lock::load(&lock_path, &inventory.cluster)?;
        let first = random_bytes().map_err(PrepareError::Random)?;
        let mut random = || random_bytes().unwrap_or(first);
        let (lock, lock_changes) = lock.assign(inventory, &mut random)?;

        let resolver = Resolver::new(&inventory.path);
        let mut secrets = Secrets::default();
        for (key, reference) in secret_refs(inventory) {
            let value = resolver.resolve(&key, &reference)?;
            secrets.0.insert(key, value);
        }
        let mut sudo_passwords = BTreeMap::new();
        for (name, host) in &inventory.hosts {
            if let Some(reference) = &host.ssh.sudo_password {
                let key = format!("hosts.{name}.ssh.sudo_password");
                sudo_passwords.insert(name.clone(), resolver.resolve(&key, reference)?);
            }
        }
        let addresses = roles(inventory)
            .into_keys()
            .filter_map(|name| Some((name.clone(), inventory.hosts.get(&name)?.address.clone())))
            .collect();
        let certificates = load_or_make(resolver.directory(), &inventory.cluster, &addresses)?;
        let folder = inventory.path.parent().unwrap_or(Path::new(".")).join("templates");
        let templates = Templates::new(&overrides(&folder)?)?;
        let store = store(&artifact_names(inventory))?;
        let desired = desired(&Inputs {
            inventory,
            lock: &lock,
            secrets: &secrets,
            certificates: &certificates,
            artifacts: store.ids(),
            templates: &templates,
        })?;
        let overridden = templates.overridden().to_vec();
        Ok(Self { desired, lock, lock_changes, overridden, sudo_passwords, store, lock_path })
    }

    /// Writes the lock file. Before the first change of a host, so that no id is ever given twice.
    pub fn save_lock(&self) -> Result<(), LockError> {
        self.lock.save(&self.lock_path)
    }

    /// The lock file.
    pub fn lock_path(&self) -> &Path {
        &self.lock_path
    }

    /// What the steps of a plan refer to; fetches artifacts that hosts lack.
    pub async fn contents(&self, plan: &Plan, events: &Events) -> Result<Contents, ArtifactError> {
        let mut contents = Contents::default();
        for (host, state) in &self.desired {
            let snapshot =
                serde_json::to_vec(state).map_err(|error| ArtifactError::Snapshot(error.to_string()))?;
            contents.snapshots.insert(host.clone(), Bytes::from(snapshot));
            for file in state.files() {
                let key = (host.clone(), file.path.clone());
                let entry = (file.sha256(), Bytes::from(file.content.clone()));
                contents.files.entry(key).or_insert(entry);
            }
        }
        let mut wanted: Vec<&ArtifactRef> = plan
            .steps()
            .filter_map(|(_, step)| {
                if let Action::SendArtifact(artifact) = step.action() { Some(artifact) } else { None }
            })
            .collect();
        wanted.sort();
        wanted.dedup();
        for artifact in wanted {
            // Whoever renders may have gone away; the work goes on.
            let _gone = events.send(super::ApplyEvent::Fetching { artifact: artifact.name.clone() }).await;
            let (store, artifact) = (self.store.clone(), artifact.clone());
            let id = artifact.id.clone();
            let fetched = tokio::task::spawn_blocking(move || store.fetch(&artifact)).await;
            let pieces = fetched.unwrap_or_else(|panic| {
                Err(ArtifactError::Maven { name: id.clone(), detail: panic.to_string() })
            })?;
            contents.pieces.insert(id, pieces);
        }
        Ok(contents)
    }
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
