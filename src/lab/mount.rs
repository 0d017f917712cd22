//! Mounts and loop devices below a folder: made by commands, found again in the kernel's own tables.

use super::command::Cmd;
use super::{LabError, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a loop device may stay after its user was killed.
const DETACHED_WITHIN: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// An overlay at `root` that keeps its changes in `upper`.
pub(super) fn overlay(lower: &Path, upper: &Path, work: &Path, root: &Path) -> Result<()> {
    for dir in [upper, work, root] {
        fs::create_dir_all(dir).map_err(LabError::file("make", dir))?;
    }
    let options =
        format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    Cmd::new("mount")
        .args(["-t", "overlay", "overlay", "-o", &options])
        .arg(root)
        .remedy(
            "the lab needs root, and its folder on a file system that carries overlays (ext4, xfs, tmpfs)",
        )
        .run()
        .map(drop)
}

/// Mount points at or below `dir`, innermost last.
pub(super) fn below(dir: &Path) -> Result<Vec<PathBuf>> {
    let table =
        fs::read_to_string("/proc/self/mountinfo").map_err(LabError::file("read", "/proc/self/mountinfo"))?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

/// Unmounts everything at or below `dir`.
pub(super) fn unmount_below(dir: &Path) -> Result<()> {
    let mut errors = Vec::new();
    for point in below(dir)?.iter().rev() {
        let unmount = |lazy: &[&str]| Cmd::new("umount").args(lazy).arg(point).remedy("who uses it?").run();
        // Lazily only when somebody (a shell that stands in the folder) holds it.
        if let Err(error) = unmount(&[]).or_else(|_| unmount(&["--lazy"])) {
            errors.push(error);
        }
    }
    LabError::all(errors)
}

/// Loop devices and their backing files.
fn loops() -> Vec<(PathBuf, PathBuf)> {
    let devices = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let backed = devices.filter_map(|device| {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).ok()?;
        Some((Path::new("/dev").join(device.file_name()), PathBuf::from(file.trim_end())))
    });
    backed.collect()
}

/// The loop device of a file.
pub(super) fn loop_of(file: &Path) -> Option<PathBuf> {
    loops().into_iter().find_map(|(device, backing)| (backing == file).then_some(device))
}

/// Detaches loop devices whose backing file lies below `dir`, and waits until they are.
pub(super) fn detach_loops_below(dir: &Path) -> Result<()> {
    let below = || loops().into_iter().filter(|(_, file)| file.starts_with(dir)).map(|(device, _)| device);
    for device in below() {
        Cmd::new("losetup").arg("--detach").arg(device).run()?;
    }
    let start = Instant::now();
    // The kernel detaches when the last mount is gone, which for a killed host is soon.
    while let Some(device) = below().next() {
        if start.elapsed() > DETACHED_WITHIN {
            return Err(LabError::Spec(format!("{} is still in use; who has it mounted?", device.display())));
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}
