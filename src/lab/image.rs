//! The images that hosts are overlays on: Debian, and MySQL 9.7 in a folder of its own.
//!
//! An image is named by the hash of all it is made from, lies in the cache outside any checkout, and appears
//! there by a rename when it is complete. A lock keeps two labs from building it twice.

use super::command::Cmd;
use super::mirror::debian_mirror;
use super::spec::{OnProgress, Progress};
use super::{LabError, Result, SSH_USER, state};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Count up when [`finish`] changes: the hash of a recipe sees its data, not code.
const RECIPE_VERSION: u32 = 1;
/// Digits of the hash in an image's name.
const HASH_DIGITS: usize = 12;

/// What an image is made from.
#[derive(Debug)]
pub(super) struct Recipe {
    name: &'static str,
    suite: &'static str,
    /// Installed by debootstrap.
    base: &'static [&'static str],
    /// Installed by apt-get, which resolves what debootstrap cannot.
    packages: &'static [&'static str],
    /// Path and text.
    files: &'static [(&'static str, &'static str)],
    /// Where links to units stand that the image must not start.
    removed: &'static [&'static str],
    /// Units that a lab host has no use for: each costs memory or start-up time.
    masked: &'static [&'static str],
    /// Units to start.
    enabled: &'static [&'static str],
    /// The account made for people.
    user: Option<&'static str>,
}

pub(super) const DEBIAN: Recipe = Recipe {
    name: "base",
    suite: "bookworm",
    base: &[
        "ca-certificates",
        "dbus",
        "eatmydata",
        // Login shells that read what a POSIX shell writes in their own way.
        "fish",
        "iproute2",
        "openssh-server",
        "procps",
        "sudo",
        "systemd",
        "systemd-sysv",
        "tcsh",
        "zstd",
    ],
    packages: &["openjdk-17-jre-headless", "mariadb-server", "opensmtpd"],
    files: &[
        ("etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n"),
        // sshd refuses logins until user sessions are permitted: answering earlier would only confuse callers.
        (
            "etc/systemd/system/ssh.service.d/lab.conf",
            "[Unit]\nAfter=systemd-user-sessions.service lab-net.service\n",
        ),
        // A parallel apply and its probes come from one address.
        ("etc/ssh/sshd_config.d/lab.conf", "UseDNS no\nPasswordAuthentication no\nMaxStartups 100:30:200\n"),
        (
            "etc/systemd/system/lab-net.service",
            "[Unit]\nDescription=Static address of a lab host\nBefore=network.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/ip -batch /etc/lab-net\n\n[Install]\nWantedBy=multi-user.target\n",
        ),
        (
            "etc/smtpd.conf",
            "listen on 0.0.0.0 port 25 hostname mail.lab\ntable boxes { \"@\" = \"deploy\" }\naction \"keep\" maildir \"/var/mail/lab\" virtual <boxes>\nmatch from any for any action \"keep\"\n",
        ),
        // A lab host reaches no name server; asking nobody fails at once, asking the machine's after a minute.
        ("etc/resolv.conf", "nameserver 127.0.0.1\n"),
        // A test that kills the server wants to say itself when it comes back.
        ("etc/systemd/system/mariadb.service.d/lab.conf", "[Service]\nRestart=no\n"),
    ],
    removed: &[
        "etc/systemd/system/multi-user.target.wants/mariadb.service",
        "etc/systemd/system/sockets.target.wants/mariadb.socket",
        "etc/systemd/system/multi-user.target.wants/opensmtpd.service",
        "etc/ssh/ssh_host_ecdsa_key",
        "etc/ssh/ssh_host_ecdsa_key.pub",
        "etc/ssh/ssh_host_ed25519_key",
        "etc/ssh/ssh_host_ed25519_key.pub",
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_rsa_key.pub",
    ],
    masked: &[
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "console-getty.service",
        "dev-hugepages.mount",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "e2scrub_reap.service",
        "fstrim.timer",
        "getty.target",
        "systemd-logind.service",
        "systemd-pstore.service",
        "systemd-tmpfiles-clean.timer",
        "systemd-update-utmp.service",
        "systemd-update-utmp-runlevel.service",
    ],
    enabled: &["lab-net.service"],
    user: Some(SSH_USER),
};

pub(super) const MYSQL: Recipe = Recipe {
    name: "mysql97",
    suite: "sid",
    base: &["eatmydata"],
    packages: &["mysql-server"],
    files: &[],
    // Each server makes its own identity.
    removed: &["var/lib/mysql/auto.cnf"],
    masked: &[],
    enabled: &[],
    user: None,
};

/// Documentation and translations are two fifths of an image that nobody reads there.
const DPKG_CONFIG: &str = "force-unsafe-io\npath-exclude=/usr/share/doc/*\npath-exclude=/usr/share/man/*\npath-exclude=/usr/share/locale/*\npath-exclude=/usr/share/info/*\n";

/// Where aesop keeps what can be made again: `AESOP_CACHE`, else `aesop` in the user's cache folder.
pub fn cache_dir() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("AESOP_CACHE").unwrap_or_else(|| {
        let home = || variable("HOME").unwrap_or_else(|| PathBuf::from("/root")).join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("aesop")
    })
}

/// The image's folder, built now if it is not in the cache.
pub(super) fn ensure(recipe: &'static Recipe, on_progress: OnProgress<'_>) -> Result<PathBuf> {
    let labs = cache_dir().join("lab");
    let dir = labs.join(format!("{}-{}", recipe.name, recipe.hash()));
    if dir.exists() {
        return Ok(dir);
    }
    let _lock = state::lock_file(&labs.join(format!("{}.lock", recipe.name)))?;
    if dir.exists() {
        return Ok(dir);
    }
    let new = labs.join(format!("{}.new", recipe.name));
    // What a build that was killed left behind; its mounts ended with their namespace.
    remove_dir(&new)?;
    recipe.build(&new, on_progress)?;
    fs::rename(&new, &dir).map_err(LabError::file("rename", &new))?;
    Ok(dir)
}

pub(super) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(LabError::file("remove", dir)(error))
        }
        _ => Ok(()),
    }
}

impl Recipe {
    fn hash(&self) -> String {
        let text = format!("{RECIPE_VERSION} {DPKG_CONFIG} {self:?}");
        super::net::hash(&text, HASH_DIGITS)
    }

    fn build(&self, dir: &Path, on_progress: OnProgress<'_>) -> Result<()> {
        let step = |step| on_progress(&Progress::Image(self.name, step));
        let mirror = debian_mirror()?;
        step("debootstrap");
        // In a mount namespace of its own, so that a killed build leaves no mount.
        unshared()
            .args(["debootstrap", "--variant=minbase"])
            .arg(format!("--include={}", self.base.join(",")))
            .arg(self.suite)
            .arg(dir)
            .arg(&mirror)
            .remedy(format!(
                "does the mirror {mirror} answer? Its log is debootstrap/debootstrap.log in the folder"
            ))
            .run()?;
        step("packages");
        self.install(dir)?;
        step("finish");
        self.finish(dir)
    }

    fn install(&self, dir: &Path) -> Result<()> {
        write(dir, "etc/dpkg/dpkg.cfg.d/lab", DPKG_CONFIG, 0o644)?;
        // Debian's Java wants the folder of manual pages, read or not.
        fs::create_dir_all(dir.join("usr/share/man/man1")).map_err(LabError::file("make", dir))?;
        // Nothing starts while it is installed.
        write(dir, "usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)?;
        let chroot = "mount --bind /proc \"$1/proc\" && mount -t devpts -o newinstance devpts \"$1/dev/pts\" && exec chroot \"$@\"";
        unshared()
            .args(["sh", "-c", chroot, "sh"])
            .arg(dir)
            .args(["eatmydata", "apt-get", "install", "-y", "--no-install-recommends"])
            .args(self.packages)
            .remedy("does the mirror answer?")
            .run()?;
        fs::remove_file(dir.join("usr/sbin/policy-rc.d")).map_err(LabError::file("remove", dir))
    }

    fn finish(&self, dir: &Path) -> Result<()> {
        for (path, text) in self.files {
            write(dir, path, text, 0o644)?;
        }
        for path in self.removed {
            fs::remove_file(dir.join(path)).map_err(LabError::file("remove", dir.join(path)))?;
        }
        for unit in self.masked {
            let link = dir.join("etc/systemd/system").join(unit);
            symlink("/dev/null", &link).map_err(LabError::file("link", &link))?;
        }
        for unit in self.enabled {
            enable(dir, unit)?;
        }
        if let Some(user) = self.user {
            let chroot = |argv: &[&str]| Cmd::new("chroot").arg(dir).args(argv).run();
            chroot(&["useradd", "--create-home", "--uid", "1000", "--shell", "/bin/bash", user])?;
            chroot(&["install", "-d", "-m", "700", "-o", user, "/var/mail/lab"])?;
            symlink("/lib/systemd/system/multi-user.target", dir.join("etc/systemd/system/default.target"))
                .map_err(LabError::file("link", dir))?;
        }
        for path in ["var/cache/apt", "var/lib/apt/lists"] {
            remove_dir(&dir.join(path))?;
        }
        Ok(())
    }
}

fn unshared() -> Cmd {
    let path = "/usr/sbin:/usr/bin:/sbin:/bin";
    let command = Cmd::new("unshare").args(["--mount", "--propagation", "private"]);
    command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C.UTF-8").env("PATH", path)
}

/// Writes a file below `root`, making its folders.
pub(super) fn write(root: &Path, path: &str, text: &str, mode: u32) -> Result<()> {
    let path = root.join(path);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(LabError::file("make", dir))?;
    }
    fs::write(&path, text).map_err(LabError::file("write", &path))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map_err(LabError::file("chmod", &path))
}

/// Has systemd start a unit at boot.
pub(super) fn enable(root: &Path, unit: &str) -> Result<()> {
    let own = root.join("etc/systemd/system").join(unit);
    let folder = if own.exists() { "/etc/systemd/system" } else { "/lib/systemd/system" };
    let link = root.join("etc/systemd/system/multi-user.target.wants").join(unit);
    if let Some(dir) = link.parent() {
        fs::create_dir_all(dir).map_err(LabError::file("make", dir))?;
    }
    match symlink(format!("{folder}/{unit}"), &link) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(LabError::file("link", &link)),
    }
}
