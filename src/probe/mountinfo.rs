//! Which file systems the kernel has made read-only.
//!
//! A service of ours lives in a mount namespace of its own, where systemd has mounted most of the host read-only
//! (`ProtectSystem=strict`), so `statvfs` would call every healthy disk read-only. `/proc/self/mountinfo` tells the
//! file system's own options apart from the mount's: its last field, see `proc_pid_mountinfo(5)`.

use std::path::{Path, PathBuf};

/// The file systems mounted here.
#[derive(Debug, Default)]
pub(super) struct Mounts(Vec<(PathBuf, bool)>);

impl Mounts {
    /// Reads the text of `mountinfo`; lines that are not understood are passed over.
    pub(super) fn parse(text: &str) -> Self {
        Self(text.lines().filter_map(line).collect())
    }

    /// Whether the file system that `path` lies on is read-only; none if it is not known.
    pub(super) fn read_only(&self, path: &Path) -> Option<bool> {
        let under = self.0.iter().filter(|(point, _)| path.starts_with(point));
        // Of mounts on one point the last covers the others.
        under.max_by_key(|(point, _)| point.components().count()).map(|(_, read_only)| *read_only)
    }
}

fn line(line: &str) -> Option<(PathBuf, bool)> {
    let (mount, file_system) = line.split_once(" - ")?;
    let point = mount.split(' ').nth(4)?.replace("\\040", " ");
    let options = file_system.split(' ').nth(2)?;
    Some((point.into(), options.split(',').any(|option| option == "ro")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_only_mount_of_a_healthy_file_system_is_no_fault() {
        let mounts = Mounts::parse(
            "22 1 254:0 / / ro,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro\n\
             23 22 254:1 / /var/lib/kafka\\040data rw,noatime - xfs /dev/vdb ro\n\
             nonsense\n",
        );
        assert_eq!(mounts.read_only(Path::new("/var/lib/aesop")), Some(false));
        assert_eq!(mounts.read_only(Path::new("/var/lib/kafka data/log")), Some(true));
        assert_eq!(Mounts::default().read_only(Path::new("/")), None);
    }
}
