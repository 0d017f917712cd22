//! What a lab has made, on disk, written before it is made: the truth that every process works from.
//!
//! `/run/aesop-lab/<lab>.json` is the state of a lab, `<lab>.lock` serialises those who change it, `lock` those
//! who make and remove labs. All of it, like the mounts and processes it speaks of, ends with a reboot.

use super::net::{self, Subnet};
use super::spec::{HostKind, Sudo};
use super::{LabError, Result};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

const RUN_DIR: &str = "/run/aesop-lab";
const EXTENSION: &str = "json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    pub(super) name: String,
    /// Short and its own: part of the names of links.
    pub(super) id: String,
    pub(super) owner: Owner,
    pub(super) persistent: bool,
    pub(super) subnet: Subnet,
    pub(super) work_dir: PathBuf,
    /// For `admin` of the databases and, with [`Sudo::Password`], for `deploy`.
    pub(super) password: String,
    pub(super) hosts: Vec<HostState>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostState {
    pub(super) name: String,
    pub(super) kind: HostKind,
    pub(super) sudo: Sudo,
    pub(super) number: u8,
    pub(super) machine: String,
    /// What overlays and services are made of.
    pub(super) images: Images,
}

/// The image folders of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Images {
    pub(super) system: PathBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mysql: Option<PathBuf>,
}

/// A process that a pid alone does not name for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Owner {
    pid: u32,
    start: u64,
}

impl Owner {
    pub(super) fn me() -> Self {
        let pid = std::process::id();
        Self { pid, start: start_time(pid).unwrap_or(0) }
    }

    pub(super) fn alive(self) -> bool {
        start_time(self.pid) == Some(self.start)
    }
}

/// When a process started, in clock ticks since boot; `None` if it is gone.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; field 22 is the twentieth after it.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let zombie = fields.next()? == "Z";
    (!zombie).then(|| fields.nth(18)?.parse().ok()).flatten()
}

impl State {
    pub(super) fn bridge(&self) -> String {
        net::bridge_name(&self.id)
    }

    pub(super) fn host(&self, name: &str) -> Result<&HostState> {
        self.hosts.iter().find(|host| host.name == name).ok_or_else(|| LabError::NoHost {
            lab: self.name.clone(),
            host: name.to_owned(),
            known: self.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    pub(super) fn host_dir(&self, host: &str) -> PathBuf {
        self.work_dir.join("hosts").join(host)
    }

    pub(super) fn stale(&self) -> bool {
        !self.persistent && !self.owner.alive()
    }

    fn path(name: &str) -> PathBuf {
        Path::new(RUN_DIR).join(name).with_extension(EXTENSION)
    }

    pub(super) fn load(name: &str) -> Result<Self> {
        let path = Self::path(name);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(LabError::NoLab(name.to_owned()));
            }
            other => other.map_err(LabError::file("read", &path))?,
        };
        serde_json::from_str(&text).map_err(|source| LabError::State { path, source })
    }

    pub(super) fn save(&self) -> Result<()> {
        let path = Self::path(&self.name);
        let text = serde_json::to_string_pretty(self)
            .map_err(|source| LabError::State { path: path.clone(), source })?;
        write_private(&path, text.as_bytes())
    }

    pub(super) fn forget(&self) -> Result<()> {
        let path = Self::path(&self.name);
        fs::remove_file(&path).map_err(LabError::file("remove", &path))
    }
}

/// Replaces a file that only root may read.
pub(super) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    let write = || {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        std::io::Write::write_all(&mut file, bytes)?;
        fs::rename(&new, path)
    };
    write().map_err(LabError::file("write", path))
}

/// A lock that ends with this value or with the process.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

pub(super) fn lock_file(path: &Path) -> Result<Lock> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(LabError::file("make", dir))?;
    }
    let open = File::options().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(LabError::file("open", path))?;
    file.lock().map_err(LabError::file("lock", path))?;
    Ok(Lock { _file: file })
}

/// Held while labs are made and removed.
pub(super) fn lock_labs() -> Result<Lock> {
    lock_file(&Path::new(RUN_DIR).join("lock"))
}

/// Held while something of a lab is changed.
pub(super) fn lock_lab(name: &str) -> Result<Lock> {
    lock_file(&Path::new(RUN_DIR).join(name).with_extension("lock"))
}

/// All labs with a readable state.
pub(super) fn all() -> Vec<State> {
    let entries = fs::read_dir(RUN_DIR).into_iter().flatten().flatten().map(|entry| entry.path());
    let states = entries.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    let mut labs: Vec<State> =
        states.filter_map(|path| State::load(path.file_stem()?.to_str()?).ok()).collect();
    labs.sort_by(|a, b| a.name.cmp(&b.name));
    labs
}

/// A lab that is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// Its network.
    pub subnet: Subnet,
    /// Names of its hosts.
    pub hosts: Vec<String>,
    /// Whether it outlives its creator.
    pub persistent: bool,
    /// Whether its creator is gone although it is not persistent.
    pub stale: bool,
}

/// The labs that are up, by name.
pub fn list() -> Vec<Summary> {
    let summary = |state: State| Summary {
        stale: state.stale(),
        name: state.name,
        subnet: state.subnet,
        hosts: state.hosts.into_iter().map(|host| host.name).collect(),
        persistent: state.persistent,
    };
    all().into_iter().map(summary).collect()
}

const INOTIFY: &str = "/proc/sys/fs/inotify/max_user_instances";
/// Inotify instances for all users together: systemd takes about ten a host, all as root.
const INOTIFY_WANTED: u64 = 8192;

/// Raises the limit of inotify instances and remembers what it was. Under [`lock_labs`].
pub(super) fn raise_inotify() -> Result<()> {
    let saved = Path::new(RUN_DIR).join("inotify");
    let now = fs::read_to_string(INOTIFY).map_err(LabError::file("read", INOTIFY))?;
    if now.trim().parse::<u64>().is_ok_and(|now| now >= INOTIFY_WANTED) {
        return Ok(());
    }
    if !saved.exists() {
        write_private(&saved, now.as_bytes())?;
    }
    fs::write(INOTIFY, INOTIFY_WANTED.to_string()).map_err(LabError::file("write", INOTIFY))
}

/// Puts the limit back when no lab is left. Under [`lock_labs`].
pub(super) fn restore_inotify() -> Result<()> {
    let saved = Path::new(RUN_DIR).join("inotify");
    if !saved.exists() || !all().is_empty() {
        return Ok(());
    }
    let before = fs::read_to_string(&saved).map_err(LabError::file("read", &saved))?;
    fs::write(INOTIFY, before.trim()).map_err(LabError::file("write", INOTIFY))?;
    fs::remove_file(&saved).map_err(LabError::file("remove", &saved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let me = Owner::me();
        assert!(me.alive());
        assert!(!Owner { start: me.start + 1, ..me }.alive());
        assert!(!Owner { pid: u32::MAX, start: 0 }.alive());
    }
}
