//! aesop's own binaries, which travel with the controller.

use super::{ArtifactError, Piece, io, pinned, sha512};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub(super) fn find(folder: &Path, name: &str) -> Result<PathBuf, ArtifactError> {
    // The running program may have been renamed.
    let path = if name == "aesop" {
        std::env::current_exe().map_err(io("cannot find", Path::new("this program")))?
    } else {
        folder.join(name)
    };
    let beside = folder.join(name);
    let path = if beside.is_file() { beside } else { path };
    if path.is_file() {
        Ok(path)
    } else {
        Err(ArtifactError::NoBinary { name: name.to_owned(), folder: folder.to_owned() })
    }
}

/// Hash of a binary, remembered by size and time: hashing 100 MB each time would be the slowest part of a plan.
pub(super) fn hash(cache: &Path, path: &Path) -> Result<String, ArtifactError> {
    let metadata = path.metadata().map_err(io("cannot read", path))?;
    let stamp = format!(
        "{} {} {}.{} {}",
        path.display(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ino()
    );
    let memory = cache.join("binaries").join(crate::service::sha256(path.as_os_str().as_encoded_bytes()));
    if let Some((known, hash)) =
        std::fs::read_to_string(&memory).ok().as_deref().and_then(|text| text.split_once('\n'))
        && known == stamp
        && hash.len() == 128
    {
        return Ok(hash.to_owned());
    }
    let hash = sha512(path)?;
    let folder = cache.join("binaries");
    std::fs::create_dir_all(&folder).map_err(io("cannot make", &folder))?;
    std::fs::write(&memory, format!("{stamp}\n{hash}")).map_err(io("cannot write", &memory))?;
    Ok(hash)
}

pub(super) fn id(cache: &Path, folder: &Path, name: &str) -> Result<String, ArtifactError> {
    Ok(pinned::short(name, &hash(cache, &find(folder, name)?)?))
}

pub(super) fn piece(cache: &Path, folder: &Path, name: &str) -> Result<Piece, ArtifactError> {
    let path = find(folder, name)?;
    let bytes = path.metadata().map_err(io("cannot read", &path))?.len();
    let sha512 = hash(cache, &path)?;
    Ok(Piece { name: name.to_owned(), path, bytes, sha512, executable: true })
}
