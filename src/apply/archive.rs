//! Files of one call as one archive: each in a folder `.aesop-new` beside its place, from which it is moved there.

use super::ApplyError;
use bytes::Bytes;
use std::collections::BTreeSet;

/// The folder beside a file's place.
pub(crate) const ASIDE: &str = ".aesop-new";

/// A file on its way.
pub(super) struct Staged<'a> {
    pub(super) path: &'a str,
    /// Octal.
    pub(super) mode: &'a str,
    pub(super) owner: &'a str,
    pub(super) group: &'a str,
    pub(super) bytes: Bytes,
}

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Archive {
    files: Vec<(tar::Header, String, Bytes)>,
    folders: BTreeSet<String>,
}

impl Archive {
    pub(super) fn add(&mut self, file: Staged<'_>) -> Result<(), ApplyError> {
        let unsafe_name = || ApplyError::Unsafe(file.path.to_owned());
        let (folder, name) = file.path.rsplit_once('/').ok_or_else(unsafe_name)?;
        let folder = format!("{}/{ASIDE}", folder.trim_start_matches('/'));
        let mode = u32::from_str_radix(file.mode, 8).map_err(|_| unsafe_name())?;
        let mut header = header(mode, file.bytes.len());
        header.set_username(file.owner).map_err(|_| ApplyError::Unsafe(file.owner.to_owned()))?;
        header.set_groupname(file.group).map_err(|_| ApplyError::Unsafe(file.group.to_owned()))?;
        self.files.push((header, format!("{}/{name}", folder.trim_start_matches('/')), file.bytes));
        self.folders.insert(folder.trim_start_matches('/').to_owned());
        Ok(())
    }

    /// The bytes of it.
    pub(super) fn pack(self) -> Result<Bytes, ApplyError> {
        let mut builder = tar::Builder::new(Vec::new());
        for folder in &self.folders {
            // Nobody but root gets at what is not yet in place.
            let mut header = header(0o700, 0);
            header.set_entry_type(tar::EntryType::Directory);
            let added = builder.append_data(&mut header, folder, std::io::empty());
            added.map_err(|_| ApplyError::Unsafe(folder.clone()))?;
        }
        for (mut header, path, bytes) in self.files {
            let added = builder.append_data(&mut header, &path, bytes.as_ref());
            added.map_err(|_| ApplyError::Unsafe(path))?;
        }
        builder.into_inner().map(Bytes::from).map_err(|error| ApplyError::Unsafe(error.to_string()))
    }
}

fn header(mode: u32, size: usize) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(u64::try_from(size).unwrap_or(u64::MAX));
    header
}
