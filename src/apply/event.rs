//! What workers say while they work. One owner renders it; nothing here prints.

use crate::service::Role;
use serde::Serialize;
use std::time::Duration;

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ApplyEvent {
    /// Files are fetched to this machine.
    Fetching {
        /// The artifact.
        artifact: String,
    },
    /// How far a download is.
    FetchProgress {
        /// The artifact.
        artifact: String,
        /// Bytes that are here.
        bytes: u64,
        /// Bytes in all, where that is known.
        total: Option<u64>,
    },
    /// An artifact is on this machine.
    Fetched {
        /// The artifact.
        artifact: String,
        /// Its size.
        bytes: u64,
        /// How long it took, milliseconds.
        #[serde(rename = "elapsed_ms", serialize_with = "milliseconds")]
        elapsed: Duration,
    },
    /// A stage begins.
    StageStarted {
        /// Role.
        role: Role,
        /// Service.
        service: String,
        /// Hosts with steps in it.
        hosts: Vec<String>,
    },
    /// A host begins with its steps of a wave.
    HostStarted {
        /// Host.
        host: String,
        /// Service.
        service: String,
        /// Number of steps.
        steps: usize,
        /// Bytes that will be sent.
        bytes: u64,
        /// The first step in words.
        step: String,
    },
    /// A step is done.
    StepDone {
        /// Host.
        host: String,
        /// Service.
        service: String,
        /// The step in words.
        step: String,
        /// Its number, from 1.
        number: usize,
        /// Number of steps.
        steps: usize,
        /// The next step in words.
        next: Option<String>,
    },
    /// A host did not mind something that usually matters.
    Note {
        /// Host.
        host: String,
        /// What.
        text: String,
    },
    /// A host is done with a wave.
    HostDone {
        /// Host.
        host: String,
        /// Service.
        service: String,
        /// How long it took, milliseconds.
        #[serde(rename = "elapsed_ms", serialize_with = "milliseconds")]
        elapsed: Duration,
    },
    /// A host failed; it gets no further steps.
    HostFailed {
        /// Host.
        host: String,
        /// Service.
        service: String,
        /// Why.
        error: String,
    },
    /// Steps were left out.
    Skipped {
        /// Host.
        host: String,
        /// Service.
        service: String,
        /// Why.
        reason: String,
    },
}

fn milliseconds<S: serde::Serializer>(elapsed: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
}
