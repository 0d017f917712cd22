//! What services run from: sets of jars from Maven repositories, pinned by checksum, aesop's own binaries, and files
//! of the user's.
//! The controller keeps them in a cache by content; hosts get what they lack over SSH and need no internet.

mod binary;
mod elf;
mod maven;
mod own;
mod pinned;

pub use pinned::{Jar, known_versions};

use crate::inventory::model::ExtraArtifact;
use crate::service::{ArtifactIds, ArtifactRef, Origin, ServiceError, WantedArtifact};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Why an artifact cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No list for this version.
    #[error(transparent)]
    Version(#[from] ServiceError),
    /// A downloaded file is not the one that was pinned.
    #[error(
        "{file} has the wrong checksum: expected sha512 {expected}, got {got}; it was removed. Run again; if it happens again, the repository serves another file: look at the mirror in ~/.m2/settings.xml or AESOP_MAVEN_REPOSITORY"
    )]
    Checksum {
        /// The file.
        file: String,
        /// What the list says.
        expected: String,
        /// What came.
        got: String,
    },
    /// The Maven client failed.
    #[error("cannot fetch {name} with mvn: {detail}")]
    Maven {
        /// The artifact.
        name: String,
        /// What to know.
        detail: String,
    },
    /// A file beside the inventory is not the one that it says.
    #[error("{} is another file than the inventory says: expected sha512 {expected}, got {got}", file.display())]
    OwnChecksum {
        /// The file.
        file: PathBuf,
        /// What the inventory says.
        expected: String,
        /// What it is.
        got: String,
    },
    /// What an address serves is not what the inventory says.
    #[error(
        "{url} is another file than the inventory says: expected sha512 {expected}, got {got}; look at the address, or correct `sha512`"
    )]
    UrlChecksum {
        /// The address.
        url: String,
        /// What the inventory says.
        expected: String,
        /// What came.
        got: String,
    },
    /// A download failed.
    #[error("cannot fetch {url}: {detail}; what came is kept, and the next run goes on from there")]
    Download {
        /// The address.
        url: String,
        /// Why.
        detail: String,
    },
    /// A file of ours.
    #[error("{what} {}: {source}", path.display())]
    Io {
        /// `cannot read`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A data-plane binary is not where it should be.
    #[error("{name} is not beside {}; build it (`cargo build --release`), or install all three binaries in one folder", folder.display())]
    NoBinary {
        /// Its name.
        name: String,
        /// Where it was looked for.
        folder: PathBuf,
    },
    /// Another build than this aesop's is wanted, and the host has it no more.
    #[error("{name} ({id}) is neither on the host nor part of this aesop; use the aesop that deployed it")]
    Gone {
        /// Its name.
        name: String,
        /// Its id.
        id: String,
    },
    /// What a host should look like cannot be written down.
    #[error("cannot write a snapshot: {0}; this is a fault of aesop")]
    Snapshot(String),
    /// No home, no cache.
    #[error("no place for the cache: set HOME, XDG_CACHE_HOME or AESOP_CACHE")]
    NoCache,
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { what, path, source }
}

/// A file of an artifact, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its name on the host.
    pub name: String,
    /// Where it is here.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-512, as the host will check it.
    pub sha512: String,
    /// May be run.
    pub executable: bool,
}

/// The artifacts of one inventory: what they are called by content, and how to get them.
#[derive(Clone, Debug)]
pub struct Store {
    cache: PathBuf,
    binaries: PathBuf,
    ids: ArtifactIds,
    own: BTreeMap<String, ExtraArtifact>,
}

impl Store {
    /// Finds out what `wanted` are by content. Reads the binaries beside this program; downloads nothing yet.
    pub fn open(wanted: &[WantedArtifact]) -> Result<Self, ArtifactError> {
        let program = std::env::current_exe().map_err(io("cannot find", Path::new("this program")))?;
        let binaries = program.parent().unwrap_or(Path::new(".")).to_owned();
        Self::open_in(cache_folder()?, binaries, wanted)
    }

    /// As [`Store::open`], with the places given.
    pub fn open_in(
        cache: PathBuf,
        binaries: PathBuf,
        wanted: &[WantedArtifact],
    ) -> Result<Self, ArtifactError> {
        let mut ids = BTreeMap::new();
        for WantedArtifact { name, origin } in wanted {
            let id = match (origin, name) {
                (Origin::Own(artifact), _) => own::id(&cache, artifact)?,
                (Origin::Known, name) => match pinned::set(name)? {
                    Some(jars) => pinned::id(name, &jars),
                    None => binary::id(&cache, &binaries, name)?,
                },
            };
            ids.insert(name.clone(), ArtifactRef { name: name.clone(), id });
        }
        Ok(Self { cache, binaries, ids: ArtifactIds(ids), own: own_files(wanted) })
    }

    /// Only for looking at plans: binaries are called by their names instead of by their content, so that
    /// nothing need be built or read.
    pub fn unhashed(wanted: &[WantedArtifact]) -> Result<Self, ArtifactError> {
        let mut ids = BTreeMap::new();
        for WantedArtifact { name, origin } in wanted {
            let id = match origin {
                Origin::Own(artifact) => artifact.name.clone(),
                Origin::Known => match pinned::set(name)? {
                    Some(jars) => pinned::id(name, &jars),
                    None => name.clone(),
                },
            };
            ids.insert(name.clone(), ArtifactRef { name: name.clone(), id });
        }
        let own = own_files(wanted);
        Ok(Self { cache: PathBuf::new(), binaries: PathBuf::new(), ids: ArtifactIds(ids), own })
    }

    /// The newest C library that any of our binaries asks for; none where they were not looked at.
    pub fn glibc_needed(&self) -> Option<(u32, u32)> {
        let names = self.ids.0.keys().filter(|name| name.starts_with("aesop"));
        let paths = names.filter_map(|name| binary::find(&self.binaries, name).ok());
        paths
            .filter_map(|path| elf::glibc_needed(&path))
            .max()
            .filter(|_| !self.binaries.as_os_str().is_empty())
    }

    /// Names and hashes.
    pub fn ids(&self) -> &ArtifactIds {
        &self.ids
    }

    /// Gets an artifact's files into the cache, checked. Blocks: call it from a blocking thread.
    pub fn fetch(&self, artifact: &ArtifactRef) -> Result<Vec<Piece>, ArtifactError> {
        let gone = || ArtifactError::Gone { name: artifact.name.clone(), id: artifact.id.clone() };
        if artifact.name.starts_with("extra/") {
            let own = self.own.get(&artifact.name).ok_or_else(gone)?;
            return if own::id(&self.cache, own)? == artifact.id {
                own::fetch(&self.cache, own)
            } else {
                Err(gone())
            };
        }
        match pinned::set(&artifact.name)? {
            Some(jars) if pinned::id(&artifact.name, &jars) == artifact.id => {
                maven::fetch(&self.cache, &artifact.name, &jars)
            }
            Some(_) => Err(gone()),
            None if binary::id(&self.cache, &self.binaries, &artifact.name)? != artifact.id => Err(gone()),
            None => Ok(vec![binary::piece(&self.cache, &self.binaries, &artifact.name)?]),
        }
    }
}

fn own_files(wanted: &[WantedArtifact]) -> BTreeMap<String, ExtraArtifact> {
    let own = wanted.iter().filter_map(|wanted| match &wanted.origin {
        Origin::Own(artifact) => Some((wanted.name.clone(), artifact.clone())),
        Origin::Known => None,
    });
    own.collect()
}

/// `${AESOP_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/aesop}/artifacts`.
fn cache_folder() -> Result<PathBuf, ArtifactError> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("AESOP_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("aesop")))
        .or_else(|| variable("HOME").map(|folder| folder.join(".cache/aesop")))
        .map(|folder| folder.join("artifacts"))
        .ok_or(ArtifactError::NoCache)
}

/// SHA-512 of a file, read in pieces.
fn sha512(path: &Path) -> Result<String, ArtifactError> {
    use sha2::Digest;
    use std::io::Read;
    const CHUNK: usize = 1 << 20;
    let mut file = std::fs::File::open(path).map_err(io("cannot read", path))?;
    let mut hash = sha2::Sha512::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read(&mut chunk).map_err(io("cannot read", path))?;
        let Some(read @ [_, ..]) = chunk.get(..count) else { break };
        hash.update(read);
    }
    Ok(crate::service::hex(&hash.finalize()))
}
