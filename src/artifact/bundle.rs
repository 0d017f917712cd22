//! All artifacts of an inventory in one archive, for a controller without a network: a manifest, aesop's programs under
//! `bin/`, and all other files by their checksum. The same artifacts give the same bytes.

use super::{ArtifactError, Piece, cached, io};
use crate::service::{ArtifactRef, hex};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Of the archive's form; a higher one is refused.
const FORMAT: u32 = 1;
const MANIFEST: &str = "aesop-bundle.json";
/// A manifest names some thousand files at most.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// What is in a bundle.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// The aesop that made it.
    aesop: String,
    /// What it was made for.
    cluster: String,
    artifacts: BTreeMap<String, Bundled>,
}

/// An artifact.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bundled {
    pub(super) id: String,
    files: Vec<BundledFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct BundledFile {
    /// On the host.
    name: String,
    /// In the archive.
    path: String,
    bytes: u64,
    sha512: String,
    executable: bool,
}

impl Manifest {
    pub(super) fn get(&self, name: &str) -> Option<&Bundled> {
        self.artifacts.get(name)
    }
}

impl Bundled {
    /// Its files as they lie in the cache.
    pub(super) fn pieces(&self, cache: &Path) -> Vec<Piece> {
        let piece = |file: &BundledFile| Piece {
            name: file.name.clone(),
            path: file.cached(cache),
            bytes: file.bytes,
            sha512: file.sha512.clone(),
            executable: file.executable,
        };
        self.files.iter().map(piece).collect()
    }
}

impl BundledFile {
    fn cached(&self, cache: &Path) -> PathBuf {
        cached(cache, &self.sha512, &self.name)
    }

    /// Whether it lies there already. Only what was checked is ever put there.
    fn is_cached(&self, cache: &Path) -> bool {
        self.cached(cache).metadata().is_ok_and(|metadata| metadata.len() == self.bytes)
    }

    /// Names come from a file of somebody else's.
    fn is_plain(&self) -> bool {
        let plain = |text: &str| !text.is_empty() && !text.contains('/') && text != ".." && text != ".";
        plain(&self.name) && self.sha512.len() == 128 && self.sha512.bytes().all(|b| b.is_ascii_hexdigit())
    }
}

pub(super) fn lacks(file: &Path, what: &[String]) -> ArtifactError {
    let remedy = "make it anew from this inventory where the network is: `aesop bundle -o FILE`";
    fault(file, format!("lacks {}; {remedy}", what.join(", ")))
}

pub(super) fn other_program(file: &Path) -> ArtifactError {
    let remedy = format!("unpack its programs (`tar -xf {} bin`) and use `bin/aesop`", file.display());
    fault(file, format!("was made by another build of aesop than this one; {remedy}"))
}

fn fault(file: &Path, detail: String) -> ArtifactError {
    ArtifactError::Bundle { file: file.to_owned(), detail }
}

/// Writes a bundle, whole or not at all; returns its size in bytes.
pub(super) fn write(
    cluster: &str,
    artifacts: &[(&ArtifactRef, &[Piece])],
    file: &Path,
) -> Result<u64, ArtifactError> {
    let mut manifest = Manifest {
        format: FORMAT,
        aesop: crate::lock::VERSION.to_owned(),
        cluster: cluster.to_owned(),
        artifacts: BTreeMap::new(),
    };
    let mut sources = BTreeMap::new();
    for (artifact, pieces) in artifacts {
        let mut files = Vec::new();
        for piece in *pieces {
            let program = artifact.name.starts_with("aesop");
            let path =
                if program { format!("bin/{}", piece.name) } else { format!("files/{}", piece.sha512) };
            sources.insert(path.clone(), piece);
            let Piece { name, bytes, sha512, executable, .. } = piece.clone();
            files.push(BundledFile { name, path, bytes, sha512, executable });
        }
        manifest.artifacts.insert(artifact.name.clone(), Bundled { id: artifact.id.clone(), files });
    }
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let writing = io("cannot write", file);
    let aside = tempfile::NamedTempFile::new_in(folder).map_err(io("cannot make a file in", folder))?;
    let mut builder = tar::Builder::new(std::io::BufWriter::new(aside));
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| fault(file, error.to_string()))?;
    let mut header = header(0o644, u64::try_from(text.len()).unwrap_or(u64::MAX));
    let mut written = builder.append_data(&mut header, MANIFEST, text.as_slice());
    for (path, piece) in &sources {
        if written.is_err() {
            break;
        }
        let source = File::open(&piece.path).map_err(io("cannot read", &piece.path))?;
        let mut reader = Hashing { inner: source.take(piece.bytes), hash: Sha512::new() };
        let mut header = self::header(if piece.executable { 0o755 } else { 0o644 }, piece.bytes);
        written = builder.append_data(&mut header, path, &mut reader);
        if written.is_ok() && reader.sum() != piece.sha512 {
            return Err(fault(
                file,
                format!("is not written: {} is damaged; remove it and run again", piece.path.display()),
            ));
        }
    }
    let finish = || -> std::io::Result<u64> {
        written?;
        let aside = builder.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        aside.as_file().sync_all()?;
        let bytes = aside.as_file().metadata()?.len();
        aside.persist(file).map_err(|error| error.error)?;
        Ok(bytes)
    };
    finish().map_err(writing)
}

fn header(mode: u32, bytes: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header
}

/// Puts what a bundle has, and the cache has not, into the cache, each file checked.
pub(super) fn unpack(cache: &Path, file: &Path) -> Result<Manifest, ArtifactError> {
    let opened = File::open(file).map_err(io("cannot read", file))?;
    let mut archive = tar::Archive::new(opened);
    let broken = |error: std::io::Error| fault(file, format!("is damaged or cut: {error}; copy it again"));
    let mut entries = archive.entries_with_seek().map_err(broken)?;
    let no_bundle = |_| fault(file, "is no bundle; `aesop bundle -o FILE` makes one".to_owned());
    let first = entries.next().unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()));
    let manifest = manifest(file, first.map_err(no_bundle)?)?;
    let mut wanted: BTreeMap<&str, Vec<&BundledFile>> = BTreeMap::new();
    for given in manifest.artifacts.values().flat_map(|artifact| &artifact.files) {
        if !given.is_plain() {
            return Err(fault(file, format!("names a file {:?}, which none can be called", given.name)));
        }
        if !given.is_cached(cache) {
            wanted.entry(&given.path).or_default().push(given);
        }
    }
    for entry in entries {
        let entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.to_string_lossy().into_owned();
        if let Some(files) = wanted.remove(path.as_str()) {
            keep(cache, file, entry, &files)?;
        }
    }
    if let Some(files) = wanted.values().next() {
        let names: BTreeSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
        let names = names.into_iter().collect::<Vec<_>>().join(", ");
        return Err(fault(file, format!("is cut: {names} is not in it; copy it again")));
    }
    Ok(manifest)
}

fn manifest(file: &Path, entry: tar::Entry<'_, File>) -> Result<Manifest, ArtifactError> {
    let no_bundle = || fault(file, "is no bundle; `aesop bundle -o FILE` makes one".to_owned());
    let named = entry.path().is_ok_and(|path| path == Path::new(MANIFEST));
    if !named || entry.size() > MANIFEST_BYTES_MAX {
        return Err(no_bundle());
    }
    let value: serde_json::Value = serde_json::from_reader(entry).map_err(|_| no_bundle())?;
    match value.get("format").and_then(serde_json::Value::as_u64) {
        Some(format) if format > u64::from(FORMAT) => {
            let made = value.get("aesop").and_then(serde_json::Value::as_str).unwrap_or("a newer aesop");
            Err(fault(file, format!("was made by aesop {made}, which this one is too old to read")))
        }
        _ => serde_json::from_value(value).map_err(|_| no_bundle()),
    }
}

/// Copies one file of the archive to its places, after it has been checked.
fn keep(
    cache: &Path,
    bundle: &Path,
    entry: tar::Entry<'_, File>,
    files: &[&BundledFile],
) -> Result<(), ArtifactError> {
    let Some(first) = files.first() else { return Ok(()) };
    std::fs::create_dir_all(cache).map_err(io("cannot make", cache))?;
    let mut aside = tempfile::NamedTempFile::new_in(cache).map_err(io("cannot make a file in", cache))?;
    let mut reader = Hashing { inner: entry, hash: Sha512::new() };
    let copied = std::io::copy(&mut reader, &mut aside)
        .and_then(|_| aside.as_file().sync_all())
        .map_err(io("cannot copy from", bundle));
    copied?;
    let got = reader.sum();
    if got != first.sha512 {
        let name = &first.name;
        return Err(fault(
            bundle,
            format!("is damaged: {name} has sha512 {got}, not {}; copy it again", first.sha512),
        ));
    }
    for file in files.iter().skip(1) {
        let target = file.cached(cache);
        make_parent(&target)?;
        std::fs::copy(aside.path(), &target).map_err(io("cannot write", &target))?;
    }
    let target = first.cached(cache);
    make_parent(&target)?;
    let persisted = aside.persist(&target).map_err(|error| error.error);
    persisted.map(drop).map_err(io("cannot write", &target))
}

fn make_parent(file: &Path) -> Result<(), ArtifactError> {
    let folder = file.parent().unwrap_or(file);
    std::fs::create_dir_all(folder).map_err(io("cannot make", folder))
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hash: Sha512,
}

impl<R> Hashing<R> {
    fn sum(self) -> String {
        hex(&self.hash.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
