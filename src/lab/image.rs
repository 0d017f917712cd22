//! The images that hosts are overlays on: a system of each release, and MySQL 9.7 in a folder of its own.
//!
//! An image is named by the hash of all it is made from, lies in the cache outside any checkout, and appears
//! there by a rename when it is complete. A lock keeps two labs from building it twice.

use super::command::Cmd;
use super::mirror::{Archive, archive};
use super::recipe::{Image, Recipe};
use super::spec::{OnProgress, Progress};
use super::{LabError, Result, state};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Count up when [`finish`] changes: the hash of a recipe sees its data, not code.
const RECIPE_VERSION: u32 = 1;
/// Digits of the hash in an image's name.
const HASH_DIGITS: usize = 12;

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
pub(super) fn ensure(image: &'static Image, on_progress: OnProgress<'_>) -> Result<PathBuf> {
    let labs = cache_dir().join("lab");
    let name = image.recipe.name;
    let dir = labs.join(format!("{name}-{}", image.hash()));
    if dir.exists() {
        return Ok(dir);
    }
    let _lock = state::lock_file(&labs.join(format!("{name}.lock")))?;
    if dir.exists() {
        return Ok(dir);
    }
    let new = labs.join(format!("{name}.new"));
    // What a build that was killed left behind; its mounts ended with their namespace.
    remove_dir(&new)?;
    image.build(&new, on_progress)?;
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

impl Image {
    fn hash(&self) -> String {
        let text = format!("{RECIPE_VERSION} {DPKG_CONFIG} {:?}", self.recipe);
        // One that offers nothing keeps the name it has.
        let offered = if self.offered.is_empty() { String::new() } else { format!(" {:?}", self.offered) };
        super::net::hash(&(text + &offered), HASH_DIGITS)
    }

    fn build(&self, dir: &Path, on_progress: OnProgress<'_>) -> Result<()> {
        let Recipe { name, base, suite, .. } = self.recipe;
        let step = |step| on_progress(&Progress::Image(name, step));
        let mirror = archive(self.archive)?;
        let remedy =
            format!("does the mirror {mirror} answer? Its log is debootstrap/debootstrap.log in the folder");
        // In a mount namespace of its own, so that a killed build leaves no mount.
        let mut debootstrap = unshared()
            .args(["debootstrap", "--variant=minbase"])
            .arg(format!("--include={}", base.join(",")))
            .remedy(remedy);
        if let (Archive::Ubuntu, Some(keys)) = (self.archive, self.keys) {
            let keyring = ensure(keys, on_progress)?.join("usr/share/keyrings/ubuntu-archive-keyring.gpg");
            debootstrap = debootstrap.arg(format!("--keyring={}", keyring.display()));
            debootstrap = debootstrap.arg("--components=main,universe");
        }
        step("debootstrap");
        debootstrap = debootstrap.arg(suite).arg(dir).arg(&mirror);
        // What it does is the same for all of Ubuntu, also for a release that is younger than it.
        debootstrap.args((self.archive == Archive::Ubuntu).then_some("gutsy")).run()?;
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
        let apt = ["eatmydata", "apt-get", "-y", "--no-install-recommends"];
        let apt = |args: &[&str], packages: &[&str]| {
            chroot(dir).args(apt).args(args).args(packages).remedy("does the mirror answer?").run()
        };
        if !self.recipe.packages.is_empty() {
            apt(&["install"], self.recipe.packages)?;
        }
        if !self.offered.is_empty() {
            apt(&["clean"], &[])?;
            apt(&["install", "--download-only"], self.offered)?;
        }
        fs::remove_file(dir.join("usr/sbin/policy-rc.d")).map_err(LabError::file("remove", dir))
    }

    fn finish(&self, dir: &Path) -> Result<()> {
        let recipe = &self.recipe;
        for (path, text) in recipe.files {
            let place = dir.join(path);
            // It may lead out of the image.
            if place.is_symlink() {
                fs::remove_file(&place).map_err(LabError::file("remove", &place))?;
            }
            write(dir, path, text, 0o644)?;
        }
        for path in recipe.removed {
            fs::remove_file(dir.join(path)).map_err(LabError::file("remove", dir.join(path)))?;
        }
        for unit in recipe.masked {
            let link = dir.join("etc/systemd/system").join(unit);
            symlink("/dev/null", &link).map_err(LabError::file("link", &link))?;
        }
        for unit in recipe.enabled {
            enable(dir, unit)?;
        }
        if let Some(user) = recipe.user {
            let chroot = |argv: &[&str]| Cmd::new("chroot").arg(dir).args(argv).run();
            chroot(&["useradd", "--create-home", "--uid", "1000", "--shell", "/bin/bash", user])?;
            chroot(&["install", "-d", "-m", "700", "-o", user, "/var/mail/lab"])?;
            symlink("/lib/systemd/system/multi-user.target", dir.join("etc/systemd/system/default.target"))
                .map_err(LabError::file("link", dir))?;
        }
        // What is offered is installed by these, without an archive.
        let needed = !self.offered.is_empty();
        for path in ["var/cache/apt", "var/lib/apt/lists"].into_iter().filter(|_| !needed) {
            remove_dir(&dir.join(path))?;
        }
        Ok(())
    }
}

/// A command inside a folder, with what packages' scripts need there.
fn chroot(dir: &Path) -> Cmd {
    let script = "mount --bind /proc \"$1/proc\" && mount -t devpts -o newinstance devpts \"$1/dev/pts\" && exec chroot \"$@\"";
    unshared().args(["sh", "-c", script, "sh"]).arg(dir)
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
