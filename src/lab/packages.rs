//! What the lab needs on this machine.

use super::command::Cmd;
use super::spec::{OnProgress, Progress};
use super::{LabError, Result};
use std::path::Path;

/// A program or file, and the apt package that brings it.
const NEEDED: [(&str, &str); 12] = [
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("ssh", "openssh-client"),
    ("ssh-keygen", "openssh-client"),
    ("mkfs.ext4", "e2fsprogs"),
    ("kcat", "kcat"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("losetup", "mount"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Why the lab cannot run for this user on this machine, whatever were installed; `None` if it can.
pub fn why_not() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("it needs Linux".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Some("it needs root; run it with sudo".to_owned());
    }
    let overlays = std::fs::read_to_string("/proc/filesystems").unwrap_or_default().contains("overlay");
    // A kernel with overlays as a module names them only once it is loaded.
    if !overlays && Cmd::new("modprobe").arg("overlay").run().is_err() {
        return Some("it needs a kernel with overlayfs".to_owned());
    }
    None
}

/// Installs by apt-get what the lab needs and this machine lacks.
pub fn ensure_packages(on_progress: OnProgress<'_>) -> Result<()> {
    if let Some(reason) = why_not() {
        return Err(LabError::Unsupported(reason));
    }
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !present("apt-get") {
        return Err(LabError::Unsupported(format!("it needs {names} and there is no apt-get; install them")));
    }
    on_progress(&Progress::Packages(missing.iter().map(|name| (*name).to_owned()).collect()));
    let remedy = format!("install by hand: {names}");
    let apt = |args: &[&str]| {
        Cmd::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive").remedy(remedy.clone())
    };
    let install = || apt(&["install", "-y", "--no-install-recommends"]).args(&missing).run();
    // Lists that are missing or too old show as a failure; fetching them always would cost half a minute.
    install().or_else(|_| apt(&["update"]).run().and_then(|_| install())).map(drop)
}

fn missing() -> Vec<&'static str> {
    let mut names: Vec<&str> =
        NEEDED.iter().filter(|(file, _)| !present(file)).map(|(_, package)| *package).collect();
    names.dedup();
    names
}

fn present(file: &str) -> bool {
    FOLDERS.iter().any(|folder| Path::new(folder).join(file).exists())
}
