//! The configuration that a server starts with, written in place of the one that it has.

use super::members::Server;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, chown};
use std::path::{Path, PathBuf};

/// Writes the members that a server which does not run will start with, and forgets those that it knew. With
/// `set_aside` its data is moved away first, to where this says: what it has from a former membership must not meet
/// what the others have. Blocks.
pub fn write(
    data_dir: &Path,
    servers: &BTreeMap<u32, Server>,
    set_aside: bool,
) -> io::Result<Option<PathBuf>> {
    let moved = if set_aside { aside(data_dir)? } else { None };
    let conf = data_dir.join("conf");
    for entry in std::fs::read_dir(&conf)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("zoo.cfg") {
            std::fs::remove_file(entry.path())?;
        }
    }
    let owner = std::fs::metadata(data_dir)?;
    let file = |name: &str, text: String| {
        let path = conf.join(name);
        let mut file =
            std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(&path)?;
        file.write_all(text.as_bytes())?;
        chown(&path, Some(owner.uid()), Some(owner.gid()))?;
        file.sync_all()?;
        Ok::<_, io::Error>(path)
    };
    let lines = servers.iter().fold(String::new(), |mut lines, (id, server)| {
        let _infallible = writeln!(lines, "server.{id}={server}");
        lines
    });
    let members = file("zoo.cfg.dynamic", lines)?;
    // The unit adds the settings at its start.
    file("zoo.cfg", format!("dynamicConfigFile={}\n", members.display()))?;
    std::fs::File::open(&conf)?.sync_all()?;
    Ok(moved)
}

/// Moves the data to the first free name.
fn aside(data_dir: &Path) -> io::Result<Option<PathBuf>> {
    let data = data_dir.join("version-2");
    if !data.exists() {
        return Ok(None);
    }
    let names = (1..u32::MAX).map(|number| data_dir.join(format!("former-{number}")));
    let free = names.into_iter().find(|path| !path.exists()).ok_or(io::ErrorKind::AlreadyExists)?;
    std::fs::rename(&data, &free)?;
    Ok(Some(free))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_configuration_takes_the_place_of_all_former_ones() {
        let folder = tempfile::tempdir().unwrap();
        let (data, conf) = (folder.path(), folder.path().join("conf"));
        std::fs::create_dir_all(&conf).unwrap();
        std::fs::create_dir_all(data.join("version-2")).unwrap();
        for name in ["zoo.cfg", "zoo.cfg.bak", "zoo.cfg.dynamic.100000000", "zoo.cfg.dynamic.next"] {
            std::fs::write(conf.join(name), "old").unwrap();
        }
        std::fs::write(data.join("myid"), "4\n").unwrap();
        let servers = super::super::members::parse(
            "server.1=10.0.0.1:2888:3888:participant;2181\nserver.4=10.0.0.4:2888:3888:observer;2181\n",
        );
        assert_eq!(write(data, &servers, true).unwrap(), Some(data.join("former-1")));
        let left: std::collections::BTreeSet<_> =
            std::fs::read_dir(&conf).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["zoo.cfg", "zoo.cfg.dynamic"].map(Into::into).into());
        assert_eq!(super::super::local(data).unwrap(), (4, servers.clone()));
        assert!(data.join("former-1").is_dir() && !data.join("version-2").exists());
        assert_eq!(write(data, &servers, true).unwrap(), None, "there is nothing to move");
        std::fs::create_dir_all(data.join("version-2")).unwrap();
        assert_eq!(write(data, &servers, false).unwrap(), None);
        assert!(data.join("version-2").is_dir());
    }
}
