//! What the user wants on hosts besides, validated.

use super::model::SecretRef;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Things of the user's own on some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Where, by the names of hosts.
    pub hosts: Vec<String>,
    /// What templates see as `vars`.
    pub vars: BTreeMap<String, String>,
    /// What templates of secret files see as `secrets`.
    pub secrets: BTreeMap<String, SecretRef>,
    /// System users.
    pub users: Vec<String>,
    /// Directories, parents first.
    pub directories: Vec<ExtraDirectory>,
    /// Files.
    pub files: Vec<ExtraFile>,
    /// Artifacts.
    pub artifacts: Vec<ExtraArtifact>,
    /// Units.
    pub units: Vec<ExtraUnit>,
}

/// A directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraDirectory {
    /// Absolute path.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: String,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraFile {
    /// Absolute path on the host.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Owner and group.
    pub owner: String,
    /// Where its text comes from, as the inventory names it.
    pub from: String,
    /// The text.
    pub text: String,
    /// The text is a template.
    pub is_template: bool,
    /// Its content is shown nowhere.
    pub secret: bool,
}

/// A file of any size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraArtifact {
    /// Absolute path of the link to it.
    pub path: String,
    /// Its file name.
    pub name: String,
    /// Where it comes from.
    pub origin: FileOrigin,
    /// It may be run.
    pub executable: bool,
}

/// Where a file of any size comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOrigin {
    /// A file of this machine.
    File {
        /// Where.
        path: PathBuf,
        /// SHA-512 that it must have, hexadecimal.
        sha512: Option<String>,
    },
    /// A download.
    Url {
        /// From where.
        url: String,
        /// SHA-512, hexadecimal.
        sha512: String,
    },
}

/// A systemd unit: its file, and what restarts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraUnit {
    /// `exporter.service`.
    pub name: String,
    /// The unit's own file.
    pub file: ExtraFile,
    /// Paths of files and artifacts whose change restarts it.
    pub restart_on: Vec<String>,
}
