//! What a host says about itself apart from what aesop put there: the facts that preflight checks rest on. All are
//! optional: a fact that a host did not give is unknown, never bad.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The machine under the services.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Kernel's name for it, kernel version and architecture.
    pub uname: String,
    /// systemd is the first process.
    pub systemd: Option<bool>,
    /// User that commands run as.
    pub uid: Option<u32>,
    /// Version of the C library, `2.36`.
    pub glibc: Option<String>,
    /// Memory in KiB.
    pub memory_kib: Option<u64>,
    /// Its clock against ours when it answered, in seconds; positive: ahead.
    pub clock_offset_secs: Option<i64>,
    /// File systems by the path that was asked about.
    pub disks: BTreeMap<String, Disk>,
    /// Mount options by mount point.
    pub mounts: BTreeMap<String, String>,
    /// Ports, of those that were asked about, on which something listens, and what, where that is known.
    pub listens: BTreeMap<u16, String>,
    /// Who holds the package manager's lock: pid and program.
    pub dpkg_lock: Option<String>,
    /// The Java that services would run with.
    pub java: Option<Java>,
    /// `address,port` that were tried: `open`, `refused`, `silent` or what the system said.
    pub peers: BTreeMap<String, String>,
}

/// The file system that holds a path, or will.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Mount point.
    pub mount: String,
    /// KiB in all.
    pub size_kib: u64,
    /// KiB that may still be written.
    pub free_kib: u64,
}

/// A Java.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Java {
    /// Where it really is.
    pub path: String,
    /// `17.0.15`, from its `release` file; may be empty.
    pub version: String,
}

impl Machine {
    /// Takes a line of the host's answer. None: it is malformed. False: it is not one of these.
    pub(super) fn read(&mut self, kind: &str, rest: &str) -> Option<bool> {
        let fields: Vec<&str> = rest.split('|').collect();
        let field = |index: usize| fields.get(index).map(|text| (*text).to_owned());
        match kind {
            "machine" => self.uname = rest.replace('|', " "),
            "systemd" => self.systemd = Some(true),
            "uid" => self.uid = Some(rest.parse().ok()?),
            "libc" => self.glibc = rest.strip_prefix("glibc ").map(str::to_owned),
            "memory" => self.memory_kib = Some(rest.parse().ok()?),
            "disk" => {
                let (size_kib, free_kib) = (field(2)?.parse().ok()?, field(3)?.parse().ok()?);
                self.disks.insert(field(0)?, Disk { mount: field(1)?, size_kib, free_kib });
            }
            "mount" => drop(self.mounts.insert(field(0)?, field(1)?)),
            "listens" => drop(self.listens.insert(field(0)?.parse().ok()?, field(1)?)),
            "dpkg" => self.dpkg_lock = Some(format!("{} (pid {})", field(1)?, field(0)?)),
            "java" => self.java = Some(Java { path: field(0)?, version: field(1)? }),
            "peer" => drop(self.peers.insert(field(0)?, field(1)?)),
            _ => return Some(false),
        }
        Some(true)
    }

    /// Whether the file system of `path` has a mount option.
    pub fn mounted_with(&self, path: &str, option: &str) -> bool {
        let mount = self.disks.get(path).map(|disk| disk.mount.as_str());
        let options = mount.and_then(|mount| self.mounts.get(mount));
        options.is_some_and(|options| options.split(',').any(|word| word == option))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &str) -> Machine {
        let mut machine = Machine::default();
        for line in lines.lines() {
            let (kind, rest) = line.split_once('|').unwrap_or((line, ""));
            assert_eq!(machine.read(kind, rest), Some(true), "{line}");
        }
        machine
    }

    #[test]
    fn every_line_is_read() {
        let machine = read(
            "machine|k1 6.1 x86_64\nsystemd\nuid|0\nlibc|glibc 2.36\nmemory|2048\ndisk|/tmp|/|100|50\n\
             mount|/|rw,noexec\nlistens|9092|java\ndpkg|12|apt-get\njava|/usr/lib/jvm/j/bin/java|17.0.1\n\
             peer|10.0.0.1,22|open",
        );
        assert!(machine.mounted_with("/tmp", "noexec") && !machine.mounted_with("/tmp", "ro"));
        assert_eq!(machine.dpkg_lock.as_deref(), Some("apt-get (pid 12)"));
        assert_eq!(machine.listens.get(&9092).map(String::as_str), Some("java"));
        assert_eq!(machine.glibc.as_deref(), Some("2.36"));
        assert_eq!(read("libc|").glibc, None, "musl has no such name");
        assert_eq!(Machine::default().read("disk", "/tmp|/|many|50"), None);
    }
}
