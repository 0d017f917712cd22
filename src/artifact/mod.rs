//! What services run from: sets of jars from Maven repositories, pinned by checksum, aesop's own binaries, and files
//! of the user's.
//! The controller keeps them in a cache by content; hosts get what they lack over SSH and need no internet.

mod binary;
mod bundle;
mod distribution;
mod elf;
mod error;
mod maven;
mod own;
mod pinned;

pub use error::ArtifactError;
pub(crate) use error::merge;
pub use pinned::{Jar, known_versions};

use crate::service::{ArtifactIds, ArtifactRef, Origin, WantedArtifact};
use bundle::Manifest;
use error::io;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

/// Told while a file comes: bytes that are here, and bytes in all where that is known.
pub type Told<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

/// The artifacts of one inventory: what they are called by content, and how to get them.
#[derive(Clone, Debug)]
pub struct Store {
    cache: PathBuf,
    binaries: PathBuf,
    ids: ArtifactIds,
    origins: BTreeMap<String, Origin>,
    /// All of them come from there.
    bundle: Option<(PathBuf, Manifest)>,
}

impl Store {
    /// Finds out what `wanted` are by content. Reads the binaries beside this program; downloads nothing yet.
    pub fn open(wanted: &[WantedArtifact]) -> Result<Self, ArtifactError> {
        Self::open_in(cache_folder()?, beside_us()?, wanted)
    }

    /// As [`Store::open`], with the places given.
    pub fn open_in(
        cache: PathBuf,
        binaries: PathBuf,
        wanted: &[WantedArtifact],
    ) -> Result<Self, ArtifactError> {
        let mut store = Self::empty(cache, binaries, wanted);
        for WantedArtifact { name, origin } in wanted {
            let id = match origin {
                Origin::Own(artifact) => own::id(&store.cache, artifact)?,
                Origin::Distribution { archive, .. } => distribution::id(&store.cache, name, archive)?,
                Origin::Known => match pinned::set(name)? {
                    Some(jars) => pinned::id(name, &jars),
                    None => binary::id(&store.cache, &store.binaries, name)?,
                },
            };
            store.name(name, id);
        }
        Ok(store)
    }

    /// What `wanted` are by a bundle, whose files are put into the cache: nothing else is looked at or downloaded.
    pub fn from_bundle(file: &Path, wanted: &[WantedArtifact]) -> Result<Self, ArtifactError> {
        Self::from_bundle_in(cache_folder()?, beside_us()?, file, wanted)
    }

    /// As [`Store::from_bundle`], with the places given.
    pub fn from_bundle_in(
        cache: PathBuf,
        binaries: PathBuf,
        file: &Path,
        wanted: &[WantedArtifact],
    ) -> Result<Self, ArtifactError> {
        let manifest = bundle::unpack(&cache, file)?;
        let mut store = Self::empty(cache, binaries, wanted);
        let mut lacking = Vec::new();
        for WantedArtifact { name, origin } in wanted {
            let expected = store.expected(name, origin)?;
            match manifest.get(name) {
                None => lacking.push(name.clone()),
                Some(have) if expected.as_ref().is_none_or(|id| *id == have.id) => {
                    store.name(name, have.id.clone());
                }
                Some(_) if name == "aesop" => return Err(bundle::other_program(file)),
                Some(_) => lacking.push(format!("{name} as it is wanted (it has another one)")),
            }
        }
        if !lacking.is_empty() {
            return Err(bundle::lacks(file, &lacking));
        }
        store.bundle = Some((file.to_owned(), manifest));
        Ok(store)
    }

    /// The id that an artifact must have, as far as it is known without the artifact.
    fn expected(&self, name: &str, origin: &Origin) -> Result<Option<String>, ArtifactError> {
        Ok(match origin {
            Origin::Own(artifact) => own::expected(artifact),
            Origin::Distribution { archive, .. } => distribution::expected(name, archive),
            Origin::Known => match pinned::set(name)? {
                Some(jars) => Some(pinned::id(name, &jars)),
                // The others of aesop's programs run on the hosts only, and belong to the one that runs here.
                None if name == "aesop" => Some(binary::id(&self.cache, &self.binaries, name)?),
                None => None,
            },
        })
    }

    /// Only for looking at plans: binaries are called by their names instead of by their content, so that
    /// nothing need be built or read.
    pub fn unhashed(wanted: &[WantedArtifact]) -> Result<Self, ArtifactError> {
        let mut store = Self::empty(PathBuf::new(), PathBuf::new(), wanted);
        for WantedArtifact { name, origin } in wanted {
            let id = match origin {
                Origin::Own(artifact) => artifact.name.clone(),
                Origin::Distribution { .. } => name.clone(),
                Origin::Known => match pinned::set(name)? {
                    Some(jars) => pinned::id(name, &jars),
                    None => name.clone(),
                },
            };
            store.name(name, id);
        }
        Ok(store)
    }

    fn empty(cache: PathBuf, binaries: PathBuf, wanted: &[WantedArtifact]) -> Self {
        let origins = wanted.iter().map(|wanted| (wanted.name.clone(), wanted.origin.clone()));
        Self { cache, binaries, ids: ArtifactIds::default(), origins: origins.collect(), bundle: None }
    }

    fn name(&mut self, name: &str, id: String) {
        self.ids.0.insert(name.to_owned(), ArtifactRef { name: name.to_owned(), id });
    }

    /// The newest C library that any of our binaries asks for; none where they were not looked at.
    pub fn glibc_needed(&self) -> Option<(u32, u32)> {
        let names = self.ids.0.keys().filter(|name| name.starts_with("aesop"));
        let paths = names.filter_map(|name| match &self.bundle {
            Some((_, manifest)) => Some(manifest.get(name)?.pieces(&self.cache).into_iter().next()?.path),
            None => binary::find(&self.binaries, name).ok(),
        });
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
    pub fn fetch(&self, artifact: &ArtifactRef, told: Told<'_>) -> Result<Vec<Piece>, ArtifactError> {
        let name = &artifact.name;
        // Generations that hosts keep may name what is wanted no more.
        if self.ids.0.get(name).is_some_and(|known| known.id != artifact.id) {
            return Err(gone(artifact));
        }
        if let Some((_, manifest)) = &self.bundle {
            return Ok(manifest.get(name).ok_or_else(|| gone(artifact))?.pieces(&self.cache));
        }
        match self.origins.get(name) {
            Some(Origin::Own(own)) => own::fetch(&self.cache, own, told),
            Some(Origin::Distribution { service, version, archive }) => {
                distribution::fetch(&self.cache, service, version, archive, told)
            }
            None if name.starts_with("extra/") => Err(gone(artifact)),
            Some(Origin::Known) | None => self.fetch_known(artifact),
        }
    }

    fn fetch_known(&self, artifact: &ArtifactRef) -> Result<Vec<Piece>, ArtifactError> {
        match pinned::set(&artifact.name)? {
            Some(jars) if pinned::id(&artifact.name, &jars) == artifact.id => {
                maven::fetch(&self.cache, &artifact.name, &jars)
            }
            Some(_) => Err(gone(artifact)),
            None if binary::id(&self.cache, &self.binaries, &artifact.name)? != artifact.id => {
                Err(gone(artifact))
            }
            None => Ok(vec![binary::piece(&self.cache, &self.binaries, &artifact.name)?]),
        }
    }

    /// Writes all artifacts, which must have been fetched into `pieces`, into one archive: the same bytes for the same
    /// artifacts.
    pub fn bundle(
        &self,
        cluster: &str,
        pieces: &BTreeMap<String, Vec<Piece>>,
        file: &Path,
    ) -> Result<u64, ArtifactError> {
        let all = self.ids.0.values().map(|artifact| {
            let pieces = pieces.get(&artifact.id).ok_or_else(|| gone(artifact))?;
            Ok((artifact, pieces.as_slice()))
        });
        bundle::write(cluster, &all.collect::<Result<Vec<_>, ArtifactError>>()?, file)
    }
}

fn gone(artifact: &ArtifactRef) -> ArtifactError {
    ArtifactError::Gone { name: artifact.name.clone(), id: artifact.id.clone() }
}

/// The folder of this program, where the others are too.
fn beside_us() -> Result<PathBuf, ArtifactError> {
    let program = std::env::current_exe().map_err(io("cannot find", Path::new("this program")))?;
    Ok(program.parent().unwrap_or(Path::new(".")).to_owned())
}

/// Where a file that was checked lies in the cache.
fn cached(cache: &Path, sha512: &str, name: &str) -> PathBuf {
    cache.join("sha512").join(sha512).join(name)
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
