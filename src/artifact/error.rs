//! Why artifacts cannot be had.

use crate::service::ServiceError;
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
    /// There is no Maven client.
    #[error(
        "there is no `mvn` on this machine, which would fetch {name} from Maven repositories: install it (`apt-get install maven`; it is needed here only), or make a bundle where it is (`aesop bundle -o FILE`) and use it here (`--bundle FILE`), or name files of your own in the inventory (`zookeeper.artifact`, `kafka.artifact`, `jolokia`)"
    )]
    NoMaven {
        /// The artifacts.
        name: String,
    },
    /// The Maven client failed.
    #[error(
        "cannot fetch {name} with mvn; look at the network, at the mirror in ~/.m2/settings.xml or at AESOP_MAVEN_REPOSITORY, or use a bundle that was made elsewhere (`--bundle FILE`). Maven says:\n{detail}"
    )]
    Maven {
        /// The artifact.
        name: String,
        /// What to know.
        detail: String,
    },
    /// A file beside the inventory is not the one that it says.
    #[error("{} is another file than the inventory says: expected sha512 {expected}, got {got}; put the right file there, or correct `sha512`", file.display())]
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
    /// An archive that is not the one of a project.
    #[error("{} is not an archive of {service} {version}: {detail}", file.display())]
    Distribution {
        /// The archive.
        file: PathBuf,
        /// `kafka`, `zookeeper`.
        service: &'static str,
        /// The version in the inventory.
        version: String,
        /// What was found.
        detail: String,
    },
    /// A bundle that cannot be used.
    #[error("{} {detail}", file.display())]
    Bundle {
        /// The bundle.
        file: PathBuf,
        /// Why, and what to do.
        detail: String,
    },
    /// More than one of these, each on lines of its own.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
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

pub(super) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> ArtifactError {
    let path = path.to_owned();
    move |source| ArtifactError::Io { what, path, source }
}

/// Several failures as one, the same remedy once.
pub(crate) fn merge(failures: Vec<ArtifactError>) -> Option<ArtifactError> {
    let mut names = Vec::new();
    let mut others = Vec::new();
    for failure in failures {
        if let ArtifactError::NoMaven { name } = failure {
            names.push(name);
        } else {
            others.push(failure);
        }
    }
    if !names.is_empty() {
        names.sort();
        others.push(ArtifactError::NoMaven { name: names.join(", ") });
    }
    if others.len() > 1 {
        let mut words: Vec<String> = others.iter().map(ToString::to_string).collect();
        words.sort();
        return Some(ArtifactError::Several(words));
    }
    others.pop()
}
