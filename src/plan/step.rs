//! The steps that `apply` knows: every mutation of a host is one of them.

use crate::service::{ArtifactRef, Gate, KafkaFormat};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A step on a host, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What.
    pub action: Action,
    /// Why, where it is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Installs Debian packages.
    InstallPackages(Vec<String>),
    /// Makes a system user with a group of its own.
    CreateUser {
        /// Name.
        name: String,
        /// Home directory.
        home: String,
    },
    /// Makes a directory, or sets its mode and owner.
    SetDirectory {
        /// Path.
        path: String,
        /// Permission bits, octal.
        mode: String,
        /// Owner.
        owner: String,
        /// Group.
        group: String,
        /// It is there already.
        exists: bool,
    },
    /// Sends an artifact into the host's store.
    SendArtifact(ArtifactRef),
    /// Makes or moves a symbolic link.
    SetLink {
        /// Path.
        path: String,
        /// What it will name.
        target: String,
        /// It is there already.
        exists: bool,
    },
    /// Writes a file; the content comes from the desired state and must have this hash.
    WriteFile {
        /// Path.
        path: String,
        /// Permission bits, octal.
        mode: String,
        /// Owner.
        owner: String,
        /// Group.
        group: String,
        /// Hash of the content.
        sha256: String,
        /// Its content is shown nowhere.
        secret: bool,
        /// It is there already.
        exists: bool,
    },
    /// Formats Kafka's log directories.
    FormatKafka(KafkaFormat),
    /// Sets kernel parameters from a file.
    ApplySysctl(String),
    /// Makes systemd read its units again.
    ReloadSystemd,
    /// Enables a unit.
    EnableUnit(String),
    /// Starts a unit that is stopped.
    StartUnit(UnitStart),
    /// Stops and starts a unit.
    RestartUnit(UnitStart),
    /// Makes a unit read its configuration again.
    ReloadUnit(UnitStart),
    /// Waits until a service is ready.
    AwaitReady(Gate),
    /// Notes that a unit was ready with what it was started with.
    RecordReady(UnitStart),
    /// Notes the generation.
    RecordGeneration(u64),
}

/// A unit and the fingerprints of what it starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStart {
    /// The unit.
    pub unit: String,
    /// Of what needs a restart.
    pub restart: String,
    /// Of what needs a reload.
    pub reload: String,
}

/// How a step counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Something is made.
    Add,
    /// Something is changed.
    Alter,
    /// A service is stopped and started.
    Restart,
    /// What goes with another step.
    Nothing,
}

impl Action {
    /// How it counts.
    pub fn change(&self) -> Change {
        match self {
            Self::InstallPackages(_)
            | Self::CreateUser { .. }
            | Self::SendArtifact(_)
            | Self::FormatKafka(_)
            | Self::StartUnit(_) => Change::Add,
            Self::SetDirectory { exists, .. }
            | Self::SetLink { exists, .. }
            | Self::WriteFile { exists, .. } => {
                if *exists {
                    Change::Alter
                } else {
                    Change::Add
                }
            }
            Self::ReloadUnit(_) => Change::Alter,
            Self::RestartUnit(_) => Change::Restart,
            Self::ApplySysctl(_)
            | Self::ReloadSystemd
            | Self::EnableUnit(_)
            | Self::AwaitReady(_)
            | Self::RecordReady(_)
            | Self::RecordGeneration(_) => Change::Nothing,
        }
    }

    /// `+`, `~`, `!` or a blank, as plans show it.
    pub fn sign(&self) -> char {
        match self.change() {
            Change::Add => '+',
            Change::Alter => '~',
            Change::Restart => '!',
            Change::Nothing => ' ',
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstallPackages(packages) => write!(f, "package {}", packages.join(" ")),
            Self::CreateUser { name, .. } => write!(f, "user {name}"),
            Self::SetDirectory { path, mode, owner, .. } => write!(f, "directory {path} ({mode} {owner})"),
            Self::SendArtifact(artifact) => write!(f, "artifact {}", artifact.name),
            Self::SetLink { path, .. } => write!(f, "link {path}"),
            Self::WriteFile { path, secret: false, .. } => write!(f, "file {path}"),
            Self::WriteFile { path, .. } => write!(f, "secret {path}"),
            Self::FormatKafka(format) => write!(f, "format Kafka's storage, cluster {}", format.cluster_id),
            Self::ApplySysctl(path) => write!(f, "kernel settings of {path}"),
            Self::ReloadSystemd => f.write_str("systemd reads its units"),
            Self::EnableUnit(unit) => write!(f, "enable {unit}"),
            Self::StartUnit(start) => write!(f, "start {}", start.unit),
            Self::RestartUnit(start) => write!(f, "restart {}", start.unit),
            Self::ReloadUnit(start) => write!(f, "reload {} (no restart)", start.unit),
            Self::AwaitReady(gate) => write!(f, "wait until {} is ready: {}", gate.unit, gate.words),
            Self::RecordReady(start) => write!(f, "note that {} is ready", start.unit),
            Self::RecordGeneration(generation) => write!(f, "note generation {generation}"),
        }
    }
}
