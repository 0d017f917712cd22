//! The steps that `apply` knows: every mutation of a host is one of them.

use super::manifest::Manifest;
use crate::service::{ArtifactRef, Gate, KafkaFormat, MemberChange};
use serde::Serialize;
use std::fmt;

/// A step on a host, and why. Only `plan` makes steps, so whoever has one has it from a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Step {
    pub(super) fn plain(action: Action) -> Self {
        Self { action, reason: None }
    }

    pub(super) fn because(action: Action, reason: Option<String>) -> Self {
        Self { action, reason }
    }

    /// What.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// Why, where it is not plain.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// It has a line of its own. What goes with other steps has none; what has a reason goes with no other.
    pub fn is_told(&self) -> bool {
        self.reason.is_some()
            || !matches!(
                self.action,
                Action::ReloadSystemd
                    | Action::EnableUnit(_)
                    | Action::ApplySysctl(_)
                    | Action::RecordReady(_)
                    | Action::RecordManifest(_)
                    | Action::RecordGeneration { .. }
            )
    }

    /// How it counts: what has a line of its own and is no wait changes something.
    pub fn change(&self) -> Change {
        let waits = matches!(self.action, Action::AwaitStop(_) | Action::AwaitReady(_));
        let change = self.action.change();
        if change == Change::Nothing && self.is_told() && !waits { Change::Alter } else { change }
    }

    /// `+`, `~`, `-`, `!` or a blank, as plans show it.
    pub fn sign(&self) -> char {
        match self.change() {
            Change::Add => '+',
            Change::Alter => '~',
            Change::Restart | Change::Stop | Change::Reboot => '!',
            Change::Remove => '-',
            Change::Nothing => ' ',
        }
    }
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
        /// Hash of the content. That of a secret is not told: a weak one could be guessed from it.
        sha256: Hash,
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
    /// Changes a cluster through its member on this host.
    ChangeMember(MemberChange),
    /// A running unit takes in what changed, told by `change`.
    Adopt {
        /// The unit.
        start: UnitStart,
        /// How it is told.
        change: MemberChange,
    },
    /// Waits until a member of a quorum may be stopped.
    AwaitStop(Gate),
    /// Waits until a service is ready.
    AwaitReady(Gate),
    /// Notes that a unit was ready with what it was started with.
    RecordReady(UnitStart),
    /// Stops a unit until somebody starts it.
    HaltUnit(String),
    /// Reboots the host, and waits until it is back.
    RebootHost(Reboot),
    /// Stops a unit for good.
    StopUnit(String),
    /// Removes a file or a link.
    Remove(String),
    /// Removes a directory where nothing is left in it.
    RemoveDirectory(String),
    /// Removes an artifact, by its id.
    RemoveArtifact(String),
    /// Removes a directory with all that is in it.
    RemoveData(String),
    /// Puts files back as they were before this call.
    PutBack(Vec<String>),
    /// Notes what of aesop's is on the host.
    RecordManifest(Manifest),
    /// Notes the generation, with a snapshot of what the host should look like.
    RecordGeneration {
        /// Its number.
        generation: u64,
        /// How many snapshots stay.
        keep: usize,
        /// Artifacts that it runs from.
        artifacts: Vec<String>,
    },
}

/// SHA-256 of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hash {
    /// Hexadecimal.
    pub hex: String,
    /// The content is a secret.
    pub secret: bool,
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.secret { to.serialize_none() } else { to.serialize_str(&self.hex) }
    }
}

/// A unit and the fingerprints of what it starts with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnitStart {
    /// The unit.
    pub unit: String,
    /// Of what needs a restart. Secrets are in it: it is told to nobody but the host.
    #[serde(skip)]
    pub restart: String,
    /// Of what needs a reload.
    #[serde(skip)]
    pub reload: String,
}

/// What a reboot takes down for its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reboot {
    /// Services that stop and start with the host.
    pub services: Vec<String>,
    /// What cannot be used meanwhile, for the schedule; none: nothing.
    #[serde(skip)]
    pub unavailable: Option<String>,
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
    /// A service is stopped until somebody starts it.
    Stop,
    /// A host goes down and comes back.
    Reboot,
    /// Something goes away.
    Remove,
    /// What goes with another step.
    Nothing,
}

impl Action {
    /// How it counts beside others.
    fn change(&self) -> Change {
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
            Self::ReloadUnit(_) | Self::PutBack(_) | Self::ChangeMember(_) | Self::Adopt { .. } => {
                Change::Alter
            }
            Self::RestartUnit(_) => Change::Restart,
            Self::ApplySysctl(_)
            | Self::ReloadSystemd
            | Self::EnableUnit(_)
            | Self::AwaitStop(_)
            | Self::AwaitReady(_)
            | Self::RecordReady(_)
            | Self::RecordManifest(_)
            | Self::RecordGeneration { .. } => Change::Nothing,
            Self::HaltUnit(_) => Change::Stop,
            Self::RebootHost(_) => Change::Reboot,
            Self::StopUnit(_)
            | Self::Remove(_)
            | Self::RemoveDirectory(_)
            | Self::RemoveArtifact(_)
            | Self::RemoveData(_) => Change::Remove,
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
            Self::ChangeMember(change) | Self::Adopt { change, .. } => f.write_str(&change.words),
            Self::AwaitStop(gate) => write!(f, "wait until {} may stop: {}", gate.unit, gate.words),
            Self::AwaitReady(gate) => write!(f, "wait until {} is ready: {}", gate.unit, gate.words),
            Self::RecordReady(start) => write!(f, "note that {} is ready", start.unit),
            Self::HaltUnit(unit) => write!(f, "stop {unit}"),
            Self::RebootHost(reboot) => write!(f, "reboot the host, with {}", reboot.services.join(", ")),
            Self::StopUnit(unit) => write!(f, "stop {unit} for good"),
            Self::Remove(path) => write!(f, "remove {path}"),
            Self::RemoveDirectory(path) => write!(f, "remove {path}, if it is empty"),
            Self::RemoveArtifact(id) => write!(f, "remove artifact {id}"),
            Self::RemoveData(path) => write!(f, "remove {path} WITH ALL DATA IN IT"),
            Self::PutBack(paths) => write!(f, "put back {}", paths.join(", ")),
            Self::RecordManifest(_) => f.write_str("note what of aesop's is here"),
            Self::RecordGeneration { generation, .. } => write!(f, "note generation {generation}"),
        }
    }
}
