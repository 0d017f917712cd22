//! Removing labs and hosts, from any process: everything is found by the state file and the kernel's tables.

use super::cgroup::Group;
use super::state::{self, HostState, State};
use super::{LabError, Result, image, mount, net};
use std::path::Path;

/// A file in every lab's folder: what has none is never removed.
pub(super) const MARKER: &str = ".aesop-lab";

/// Where systemd-nspawn passes mounts to running machines.
const PROPAGATE: &str = "/run/systemd/nspawn/propagate";

/// Removes a lab: processes, mounts, loop devices, links, cgroups, folders, and last its state. What fails does
/// not keep the rest from being removed, and leaves the state for another try.
pub fn down(name: &str) -> Result<()> {
    let lab = state::lock_lab(name)?;
    let state = State::load(name)?;
    let mut errors: Vec<LabError> =
        state.hosts.iter().filter_map(|host| remove_host(&state, host).err()).collect();
    let mut attempt = |result: Result<()>| errors.extend(result.err());
    attempt(mount::unmount_below(&state.work_dir));
    attempt(mount::detach_loops_below(&state.work_dir));
    attempt(net::remove_link(&state.bridge()));
    if state.work_dir.join(MARKER).exists() && mount::below(&state.work_dir)?.is_empty() {
        attempt(image::remove_dir(&state.work_dir));
    }
    LabError::all(errors)?;
    state.forget()?;
    drop(lab);
    let _labs = state::lock_labs()?;
    state::restore_inotify()
}

/// Removes one host, running or not. Under the lab's lock.
pub(super) fn remove_host(state: &State, host: &HostState) -> Result<()> {
    let group = Group::host(&state.name, &host.name)?;
    group.kill()?;
    let dir = state.host_dir(&host.name);
    let mut errors = Vec::new();
    let mut attempt = |result: Result<()>| errors.extend(result.err());
    attempt(mount::unmount_below(&dir));
    attempt(mount::detach_loops_below(&dir));
    attempt(net::remove_link(&net::link_name(&host.machine)));
    attempt(group.remove());
    // systemd-nspawn leaves it where /run is not a tmpfs.
    attempt(image::remove_dir(&Path::new(PROPAGATE).join(&host.machine)));
    if mount::below(&dir)?.is_empty() {
        attempt(image::remove_dir(&dir));
    }
    LabError::all(errors)
}
