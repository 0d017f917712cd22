//! What can go wrong in a lab, each with the place and the remedy.

use std::path::PathBuf;

/// A failure of the lab.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The machine lacks what the lab needs.
    #[error("the lab cannot run here: {0}")]
    Unsupported(String),
    /// A command could not be started.
    #[error("cannot start `{command}`; {remedy}")]
    Start {
        /// The command line.
        command: String,
        /// What to do.
        remedy: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A command ended with a failure.
    #[error("`{command}` ended with {status}; {remedy}\n{tail}")]
    Failed {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What to do.
        remedy: String,
        /// The last lines it wrote to stderr (stdout when that is empty).
        tail: String,
    },
    /// A file or folder.
    #[error("cannot {what} {}", path.display())]
    File {
        /// The verb.
        what: &'static str,
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A state file that this version did not write.
    #[error("{}: not a lab's state file; remove the lab's processes and mounts by hand and delete it", path.display())]
    State {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// No such lab.
    #[error("there is no lab named {0}; `aesop lab list` names the labs that are up")]
    NoLab(String),
    /// No such host.
    #[error("lab {lab} has no host {host}; it has {known}")]
    NoHost {
        /// The lab.
        lab: String,
        /// The host asked for.
        host: String,
        /// The hosts there are.
        known: String,
    },
    /// The wish cannot be met.
    #[error("{0}")]
    Spec(String),
    /// A host or its service did not answer in time.
    #[error("host {host}: {what} within {secs} s; the host's last lines were:\n{tail}")]
    Timeout {
        /// The host.
        host: String,
        /// What did not happen.
        what: String,
        /// How long it was waited for.
        secs: u64,
        /// The end of its console or journal.
        tail: String,
    },
    /// Several failures; none stopped the others.
    #[error("{}", .0.iter().map(chain).collect::<Vec<_>>().join("\n"))]
    Several(Vec<LabError>),
}

impl LabError {
    /// For `map_err` on file operations.
    pub(super) fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }

    /// One error out of a list of them; `Ok` if there is none.
    pub(super) fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => errors.pop().map_or(Ok(()), Err),
            _ => Err(Self::Several(errors)),
        }
    }
}

/// An error with its causes on one line: several failures have no single source.
fn chain(error: &LabError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
