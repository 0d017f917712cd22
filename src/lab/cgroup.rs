//! A cgroup for each host in every hierarchy.
//!
//! Without that, two hosts share `/payload/system.slice/…` in the hierarchy that systemd tracks services with,
//! and `systemctl stop` on one leaves or kills the other's processes.

use super::{LabError, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder of all labs in each hierarchy.
const ROOT: &str = "aesop-lab";
/// Below a host's own: see [`Group::keeper_files`].
const KEEPER: &str = "keeper";
/// How long killed processes may take to be gone; the kernel needs milliseconds, a busy disk seconds.
const EMPTY_WITHIN: Duration = Duration::from_secs(20);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Where a hierarchy is mounted, and what kind it is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    path: PathBuf,
    unified: bool,
    cpuset: bool,
}

/// The cgroups of one host (or, without a host, of a whole lab).
#[derive(Clone, Debug)]
pub(super) struct Group {
    dirs: Vec<(Hierarchy, PathBuf)>,
    unified: PathBuf,
}

impl Group {
    pub(super) fn host(lab: &str, host: &str) -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo")
            .map_err(LabError::file("read", "/proc/self/mountinfo"))?;
        let hierarchies = hierarchies(&mounts);
        let dir = |hierarchy: &Hierarchy| hierarchy.path.join(ROOT).join(lab).join(host);
        let unified = hierarchies.iter().find(|hierarchy| hierarchy.unified).map(dir).ok_or_else(|| {
            LabError::Unsupported(
                "no cgroup2 hierarchy is mounted; mount one at /sys/fs/cgroup/unified".to_owned(),
            )
        })?;
        let dirs = hierarchies.into_iter().map(|hierarchy| (hierarchy.clone(), dir(&hierarchy))).collect();
        Ok(Self { dirs, unified })
    }

    pub(super) fn make(&self) -> Result<()> {
        for (hierarchy, dir) in &self.dirs {
            fs::create_dir_all(dir).map_err(LabError::file("make cgroup", dir))?;
            if hierarchy.cpuset {
                fill_cpuset(&hierarchy.path, dir)?;
            }
        }
        let keeper = self.unified.join(KEEPER);
        fs::create_dir_all(&keeper).map_err(LabError::file("make cgroup", keeper))
    }

    /// The files that the process which starts and restarts the host writes its pid to. In the unified hierarchy
    /// that is a leaf: a cgroup there has either processes or children with controllers.
    pub(super) fn keeper_files(&self) -> impl Iterator<Item = PathBuf> {
        self.dirs.iter().map(|(hierarchy, dir)| {
            let dir = if hierarchy.unified { dir.join(KEEPER) } else { dir.clone() };
            dir.join("cgroup.procs")
        })
    }

    /// The file that systemd-nspawn's pid goes to, from where it spreads into leaves of its own.
    pub(super) fn entry_file(&self) -> PathBuf {
        self.unified.join("cgroup.procs")
    }

    /// The files that a process writes its own pid to in order to join this one in every hierarchy.
    pub(super) fn entrances(&self, pid: u32) -> Result<Vec<PathBuf>> {
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path).map_err(LabError::file("read", &path))?;
        let entrances = self.dirs.iter().map(|(hierarchy, dir)| {
            // The init is somewhere at or below the host's folder: find it by the part of its path below.
            let own = dir.strip_prefix(&hierarchy.path).unwrap_or(dir);
            let inside = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).find_map(|path| {
                let candidate = hierarchy.path.join(path.trim_start_matches('/'));
                let procs = fs::read_to_string(candidate.join("cgroup.procs")).unwrap_or_default();
                let here = candidate.starts_with(hierarchy.path.join(own));
                (here && procs.lines().any(|line| line == pid.to_string())).then_some(candidate)
            });
            inside.unwrap_or_else(|| dir.clone()).join("cgroup.procs")
        });
        Ok(entrances.collect())
    }

    /// Every process in it.
    pub(super) fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        collect_pids(&self.unified, &mut pids);
        pids
    }

    pub(super) fn is_empty(&self) -> bool {
        let events = fs::read_to_string(self.unified.join("cgroup.events")).unwrap_or_default();
        !events.lines().any(|line| line == "populated 1")
    }

    /// The process that is number 1 inside the host.
    pub(super) fn init(&self) -> Option<u32> {
        self.pids().into_iter().find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            let numbers: Vec<&str> = numbers.split_whitespace().collect();
            numbers.len() > 1 && numbers.last() == Some(&"1")
        })
    }

    pub(super) fn freeze(&self, frozen: bool) -> Result<()> {
        let file = self.unified.join("cgroup.freeze");
        fs::write(&file, if frozen { "1" } else { "0" }).map_err(LabError::file("write", &file))?;
        let wanted = if frozen { "frozen 1" } else { "frozen 0" };
        let events = self.unified.join("cgroup.events");
        self.wait(&format!("frozen or thawed ({wanted})"), || {
            fs::read_to_string(&events).unwrap_or_default().lines().any(|line| line == wanted)
        })
    }

    /// Kills all that runs in it and waits until nothing does.
    pub(super) fn kill(&self) -> Result<()> {
        let file = self.unified.join("cgroup.kill");
        if !file.exists() {
            return Ok(());
        }
        fs::write(&file, "1").map_err(LabError::file("write", &file))?;
        self.wait("free of processes", || self.is_empty())
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        while !done() {
            if start.elapsed() > EMPTY_WITHIN {
                let (dir, secs) = (self.unified.display(), EMPTY_WITHIN.as_secs());
                return Err(LabError::Spec(format!(
                    "cgroup {dir} is not {what} after {secs} s; its processes are {:?}",
                    self.pids()
                )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Removes the folders, and those of the lab if this was its last host.
    pub(super) fn remove(&self) -> Result<()> {
        for (hierarchy, dir) in &self.dirs {
            let start = Instant::now();
            // A cgroup stays busy for a moment after its last process.
            while let Err(error) = remove_tree(dir) {
                if start.elapsed() > EMPTY_WITHIN {
                    return Err(LabError::file("remove cgroup", dir)(error));
                }
                std::thread::sleep(LOOK_EVERY);
            }
            for parent in dir.ancestors().skip(1).take_while(|parent| *parent != hierarchy.path) {
                if fs::remove_dir(parent).is_err() {
                    break; // Other hosts are in it.
                }
            }
        }
        Ok(())
    }
}

fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((place, kind)) = line.split_once(" - ") else { continue };
        let Some(path) = place.split(' ').nth(4).map(PathBuf::from) else { continue };
        let fstype = kind.split(' ').next().unwrap_or_default();
        let options = kind.rsplit(' ').next().unwrap_or_default();
        if !matches!(fstype, "cgroup" | "cgroup2") || found.iter().any(|other| other.path == path) {
            continue;
        }
        let cpuset = fstype == "cgroup" && options.split(',').any(|option| option == "cpuset");
        found.push(Hierarchy { path, unified: fstype == "cgroup2", cpuset });
    }
    found
}

/// A version-1 cpuset takes processes only once it names processors and memory nodes: its parent's.
fn fill_cpuset(root: &Path, dir: &Path) -> Result<()> {
    let below = dir.strip_prefix(root).unwrap_or(dir);
    let mut parent = root.to_path_buf();
    for part in below {
        let child = parent.join(part);
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let value =
                fs::read_to_string(parent.join(file)).map_err(LabError::file("read", parent.join(file)))?;
            fs::write(child.join(file), value.trim()).map_err(LabError::file("write", child.join(file)))?;
        }
        parent = child;
    }
    Ok(())
}

fn children(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

fn collect_pids(dir: &Path, pids: &mut Vec<u32>) {
    let procs = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()));
    for child in children(dir) {
        collect_pids(&child, pids);
    }
}

fn remove_tree(dir: &Path) -> std::io::Result<()> {
    for child in children(dir) {
        remove_tree(&child)?;
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_in_hybrid_and_unified_layouts() {
        let hybrid = "\
            30 20 0:25 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
            31 30 0:26 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n\
            32 30 0:27 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
            33 30 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let found = hierarchies(hybrid);
        let show = |h: &Hierarchy| format!("{} unified={} cpuset={}", h.path.display(), h.unified, h.cpuset);
        expect_test::expect![[r"
            /sys/fs/cgroup/cpuset unified=false cpuset=true
            /sys/fs/cgroup/systemd unified=false cpuset=false
            /sys/fs/cgroup/unified unified=true cpuset=false"]]
        .assert_eq(&found.iter().map(show).collect::<Vec<_>>().join("\n"));
        let unified = "30 20 0:25 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        assert_eq!(hierarchies(unified).len(), 1);
    }
}
