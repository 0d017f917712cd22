//! The lock as a file.

use super::{Ids, Lock, VERSION};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Why a lock file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is there and cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The lock file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not what aesop writes.
    #[error("{} is not a lock file of aesop: {message}; take it from version control again", path.display())]
    Syntax {
        /// The lock file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// One id twice: two branches each added a host.
    #[error(
        "{} gives {kind} {id} to both {first} and {second}; keep the one whose host is deployed and delete the \
         other's line",
        path.display()
    )]
    Twice {
        /// The lock file.
        path: PathBuf,
        /// Which ids.
        kind: &'static str,
        /// The id.
        id: u32,
        /// One holder.
        first: String,
        /// The other.
        second: String,
    },
    /// Somebody else wrote it since.
    #[error(
        "{} was changed since this plan was made: another aesop worked on this cluster, or somebody edited it. Nothing \
         was done; plan again",
        path.display()
    )]
    Changed {
        /// The lock file.
        path: PathBuf,
    },
    /// A newer aesop has worked with this cluster.
    #[error("{} was written by aesop {theirs} and this is aesop {VERSION}; use {theirs} or newer", path.display())]
    NewerAesop {
        /// The lock file.
        path: PathBuf,
        /// The version in it.
        theirs: String,
    },
    /// Two controllers, each with a lock file of its own.
    #[error(
        "the copies of generation {generation} on {first} and {second} differ: two lock files were at work; look at \
         both (`aesop exec --on {first},{second} -- cat /var/lib/aesop/state/cluster.lock`) and save the right one"
    )]
    Copies {
        /// Of both.
        generation: u64,
        /// A host.
        first: String,
        /// Another.
        second: String,
    },
    /// The lock of another cluster.
    #[error(
        "{} belongs to cluster {theirs} and the inventory says {ours}; a cluster's name cannot change once it \
         is deployed",
        path.display()
    )]
    OtherCluster {
        /// The lock file.
        path: PathBuf,
        /// The cluster in it.
        theirs: String,
        /// The inventory's cluster.
        ours: String,
    },
}

/// What a host's copy begins with, before its generation.
const COPY_HEADER: &str = "# generation ";
const HEADER: &str = "\
# Written by aesop. Ids that must never change: commit this file beside the inventory and do not edit it.
# An id of a host that is gone stays under `retired` and is never given again.
";

/// Where the lock of an inventory lies: `shop.lock` beside `shop.yml`.
pub fn path_for(inventory: &Path) -> PathBuf {
    inventory.with_extension("lock")
}

impl Lock {
    /// Reads a lock file; a new lock where there is none.
    pub fn load(path: &Path, cluster: &str) -> Result<Self, LockError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::new(cluster)),
            Err(source) => return Err(LockError::Read { path: path.to_owned(), source }),
        };
        let lock = Self::parse(path, &text)?;
        if lock.cluster != cluster {
            let path = path.to_owned();
            return Err(LockError::OtherCluster { path, theirs: lock.cluster, ours: cluster.to_owned() });
        }
        Ok(lock)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, LockError> {
        let syntax = |message: String| LockError::Syntax { path: path.to_owned(), message };
        let version: Version = serde_yaml::from_str(text).map_err(|error| syntax(error.to_string()))?;
        triple(&version.aesop)
            .ok_or_else(|| syntax(format!("`{}` is not a version of aesop", version.aesop)))?;
        if is_newer(&version.aesop) {
            return Err(LockError::NewerAesop { path: path.to_owned(), theirs: version.aesop });
        }
        let lock: Self = serde_yaml::from_str(text).map_err(|error| syntax(error.to_string()))?;
        lock.zookeeper.check(path, "zookeeper myid")?;
        lock.server_ids.check(path, "mysql server_id")?;
        lock.kafka.as_ref().map_or(Ok(()), |kafka| kafka.nodes.check(path, "kafka node.id"))?;
        Ok(lock)
    }

    /// The newest of the copies that hosts keep, with its generation: the first line says it.
    pub fn newest(copies: &BTreeMap<String, String>) -> Result<Option<(u64, Self)>, LockError> {
        let generation =
            |text: &str| text.lines().next()?.strip_prefix(COPY_HEADER)?.trim().parse::<u64>().ok();
        let mut newest: Option<(u64, &String, Self)> = None;
        for (host, text) in copies {
            let path = PathBuf::from(format!("the copy on {host}"));
            let Some(generation) = generation(text) else {
                let message = format!("its first line is not `{COPY_HEADER}` and a number");
                return Err(LockError::Syntax { path, message });
            };
            let lock = Self::parse(&path, text)?;
            match &newest {
                Some((at, first, other)) if *at == generation && *other != lock => {
                    let (first, second) = ((*first).clone(), host.clone());
                    return Err(LockError::Copies { generation, first, second });
                }
                Some((at, ..)) if *at >= generation => {}
                _ => newest = Some((generation, host, lock)),
            }
        }
        Ok(newest.map(|(generation, _, lock)| (generation, lock)))
    }

    /// The text of the lock file.
    pub fn to_text(&self) -> String {
        // Strings, numbers and maps of them always serialize.
        format!("{HEADER}{}", serde_yaml::to_string(self).unwrap_or_default())
    }

    /// Writes the lock file: a temporary file, fsync, rename. Does nothing when it already says the same.
    pub fn save(&self, path: &Path) -> Result<(), LockError> {
        let text = self.to_text();
        if std::fs::read_to_string(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        write_atomically(path, &text).map_err(|source| LockError::Write { path: path.to_owned(), source })
    }

    /// The same over a file that still says what was `read` before, or what is to be written; never over anything else.
    pub fn save_over(&self, read: &Self, path: &Path) -> Result<(), LockError> {
        let now = Self::load(path, &self.cluster)?;
        if now != *read && now != *self {
            return Err(LockError::Changed { path: path.to_owned() });
        }
        self.save(path)
    }
}

/// Only the version, whatever else a newer aesop has put beside it.
#[derive(serde::Deserialize)]
struct Version {
    aesop: String,
}

fn write_atomically(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(parent)?;
    file.write_all(text.as_bytes())?;
    // It holds no secret, and everyone who may read the inventory needs it.
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    std::fs::File::open(parent)?.sync_all()
}

impl Ids {
    fn check(&self, path: &Path, kind: &'static str) -> Result<(), LockError> {
        let twice = |id: u32, first: &str, second: &str| LockError::Twice {
            path: path.to_owned(),
            kind,
            id,
            first: first.to_owned(),
            second: second.to_owned(),
        };
        let mut seen = BTreeSet::new();
        for (name, id) in &self.ids {
            if let Some(before) = self.retired.get(id) {
                return Err(twice(*id, name, &format!("{before} (retired)")));
            }
            if !seen.insert(id) {
                let first = self.ids.iter().find(|(_, other)| *other == id).map_or("", |(name, _)| name);
                return Err(twice(*id, first, name));
            }
        }
        Ok(())
    }
}

/// Whether a version of aesop is newer than this one; what is no version is not.
pub fn is_newer(version: &str) -> bool {
    triple(version).zip(triple(VERSION)).is_some_and(|(theirs, ours)| theirs > ours)
}

fn triple(version: &str) -> Option<(u64, u64, u64)> {
    let release = version.split(['-', '+']).next()?;
    let mut parts = release.split('.').map(|part| part.parse::<u64>().ok());
    let triple = (parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(triple)
}
