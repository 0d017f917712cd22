//! Carries out a plan: hosts in parallel, roles in order, every failure reported. Decides nothing.
//!
//! [`Prepared`] is all that is known before a host is asked; [`observe`] asks all hosts at once;
//! [`crate::plan::plan`] compares; [`execute`] acts. [`run`] does all of it.

mod archive;
pub mod audit;
mod certificates;
mod clusters;
mod compile;
mod copies;
mod event;
mod execute;
mod fetch;
mod former;
mod guard;
mod maintenance;
mod outcome;
mod parting;
mod preflight;
mod prepare;
mod put_back;
mod reboot;
mod report;
mod session;
#[cfg(test)]
mod tests;

pub use certificates::{CertificateError, load_or_make};
pub use copies::lock_copies;
pub use event::ApplyEvent;
pub use execute::{execute, run};
pub use fetch::fetch_all;
pub use former::{Former, FormerError, former};
pub use guard::LOCK_STALE;
pub use maintenance::{Announcement, Work, announce};
pub use preflight::ask_peers;
pub use prepare::{PrepareError, Prepared, sudo_passwords};
pub use report::{Failure, HostReport, Report};
pub use session::{Session, observe, observe_again};

use crate::artifact::Piece;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Where events go. Bounded: whoever renders them keeps up, or the workers wait.
pub type Events = tokio::sync::mpsc::Sender<ApplyEvent>;

/// How to apply.
#[derive(Clone, Debug)]
pub struct Options {
    /// Hosts worked on at once.
    pub parallel: usize,
    /// Who does it, for lock and audit log: `anna@laptop`.
    pub operator: String,
    /// What was asked for, kept in the locks for whoever finishes it; may be empty.
    pub operation: String,
}

/// What steps refer to by hash: contents of files by host and path, and pieces of artifacts by id.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    files: BTreeMap<(String, String), (String, Bytes)>,
    pieces: BTreeMap<String, Vec<Piece>>,
    /// What each host should look like, as it keeps it.
    snapshots: BTreeMap<String, Bytes>,
    /// The lock file, of which each host keeps a copy.
    lock: Bytes,
}

/// A plan that cannot be carried out as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// A value that the steps' format cannot hold.
    #[error("{0:?} has a character that no path, user or unit may have")]
    Unsafe(String),
    /// The plan is older than the inventory.
    #[error("{path} for {host} has changed since the plan was made; plan again")]
    Stale {
        /// The host.
        host: String,
        /// The file.
        path: String,
    },
    /// The plan names what is not in the desired state.
    #[error("the plan wants {0}, which the inventory does not; plan again")]
    NoContent(String),
}
