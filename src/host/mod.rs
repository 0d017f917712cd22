//! Hosts: the only module that runs remote commands. A command is an argument vector and bytes on stdin, never
//! text for somebody's shell; what it does is decided elsewhere.
//!
//! Two constant POSIX sh programs do all the work: `observe.sh` reads a host in one go, `execute.sh` carries out
//! typed steps. Their text travels on stdin and is run by `/bin/sh`, so no login shell's start-up file matters.

pub mod client;
mod error;
pub mod fake;
#[cfg(test)]
mod gate_tests;
mod jump;
mod shell;
pub mod ssh;
#[cfg(test)]
mod step_tests;

pub use error::{HostError, Unreachable};

use crate::inventory::model;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Reads a host.
pub const OBSERVE: &str = include_str!("observe.sh");
/// Carries out steps.
pub const EXECUTE: &str = include_str!("execute.sh");

/// What to run.
#[derive(Clone, Debug)]
pub struct Call {
    /// What.
    pub command: Command,
    /// How long it may take in all.
    pub timeout: Duration,
}

/// A command.
#[derive(Clone, Debug)]
pub enum Command {
    /// [`OBSERVE`] with its questions.
    Observe(String),
    /// [`EXECUTE`] with its steps and the bytes that they want, in order.
    Execute(String, Vec<Body>),
    /// Any other command.
    Argv(Vec<String>),
    /// One whose output is only told line by line and not kept: it may go on for days.
    Follow(Vec<String>),
}

/// What a step wants besides its line.
#[derive(Clone)]
pub enum Body {
    /// In memory.
    Bytes(Bytes),
    /// Text without NUL, which travels with the program: the shell needs no other program to read it.
    Text(Bytes),
    /// A local file, read while it is sent.
    File(PathBuf),
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // May hold a secret.
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Text(text) => write!(f, "Text({})", text.len()),
            Self::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit status; none after a signal.
    pub status: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// The end of standard error.
    pub stderr: String,
}

/// Told each line of standard output as it comes.
pub type OnLine<'a> = &'a (dyn Fn(&str) + Send + Sync);

/// A connection to a host.
pub trait Host: Send + Sync + fmt::Debug {
    /// Runs a command.
    fn call<'a>(&'a self, call: Call, on_line: OnLine<'a>) -> BoxFuture<'a, Result<Output, HostError>>;

    /// Connects anew, after the host was down; calls that are under way fail.
    fn reconnect(&self) -> BoxFuture<'_, Result<(), HostError>>;

    /// Ends the connection; later calls fail.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Makes connections.
pub trait Connect: Send + Sync + fmt::Debug {
    /// Connects to a host.
    fn connect<'a>(&'a self, host: &'a model::Host) -> BoxFuture<'a, Result<Arc<dyn Host>, HostError>>;
}
