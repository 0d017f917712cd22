//! Small disks that a test can fill.

use super::command::Cmd;
use super::host::Host;
use super::mount::loop_of;
use super::{LabError, Result};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const MEGABYTE: u64 = 1024 * 1024;
/// The file that fills a disk.
const FILLER: &str = ".lab-fill";
/// On the host: `$1` device, `$2` and `$3` its numbers, `$4` where to mount it. What was there moves along.
const MOUNT: &str = r#"
mkdir -p "$4"
[ -b "$1" ] || mknod "$1" b "$2" "$3"
mount "$1" /mnt
cp -a "$4/." /mnt/
umount /mnt
mount "$1" "$4"
"#;
/// Large pieces as long as they fit, then the smallest there are: ext4 refuses a piece that does not fit whole.
const FILL: &str = r#"
cat /dev/zero > "$1" 2>/dev/null
dd if=/dev/zero of="$1" bs=1024 oflag=append conv=notrunc 2>/dev/null
df --output=avail -B1 "$(dirname "$1")" | tail -n 1
"#;

impl Host {
    /// Puts a disk of its own, this many megabytes large, under the folder `path`, with what the folder holds.
    /// Services that have files open there must be started after this. A reboot takes the disk away; asking
    /// again brings it back with its contents.
    pub fn small_disk(&self, path: &str, megabytes: u64) -> Result<()> {
        let device = match loop_of(&self.disk_image(path)) {
            Some(device) => device,
            None => self.make_disk(path, megabytes)?,
        };
        let meta = fs::metadata(&device).map_err(LabError::file("look at", &device))?;
        let (major, minor) = (rustix::fs::major(meta.rdev()), rustix::fs::minor(meta.rdev()));
        let device = device.display().to_string();
        self.run(&["sh", "-ec", MOUNT, "sh", &device, &major.to_string(), &minor.to_string(), path]).map(drop)
    }

    fn make_disk(&self, path: &str, megabytes: u64) -> Result<PathBuf> {
        let image = self.disk_image(path);
        fs::create_dir_all(self.folders().disks()).map_err(LabError::file("make", self.folders().disks()))?;
        let file = File::create(&image).map_err(LabError::file("create", &image))?;
        file.set_len(megabytes * MEGABYTE).map_err(LabError::file("size", &image))?;
        // No blocks kept back for root: full means full for every service.
        Cmd::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image).run()?;
        let device = Cmd::new("losetup").args(["--find", "--show"]).arg(&image).run()?;
        Ok(PathBuf::from(device.trim()))
    }

    fn disk_image(&self, path: &str) -> PathBuf {
        let name = path.trim_matches('/').replace('/', "-");
        self.folders().disks().join(format!("{name}.img"))
    }

    /// Fills the disk that [`small_disk`](Self::small_disk) put there to the last byte.
    pub fn fill_disk(&self, path: &str) -> Result<()> {
        // Never the machine's own disk.
        if loop_of(&self.disk_image(path)).is_none() {
            return Err(LabError::Spec(format!(
                "host {}: {path} is no small disk; make it one first",
                self.name()
            )));
        }
        let left = self.run(&["sh", "-c", FILL, "sh", &filler(path)])?;
        match left.trim() {
            "0" => Ok(()),
            left => Err(LabError::Spec(format!("host {}: {left} bytes are left on {path}", self.name()))),
        }
    }

    /// Removes what [`fill_disk`](Self::fill_disk) wrote.
    pub fn free_disk(&self, path: &str) -> Result<()> {
        self.run(&["rm", "-f", &filler(path)]).map(drop)
    }
}

fn filler(path: &str) -> String {
    Path::new(path).join(FILLER).display().to_string()
}
