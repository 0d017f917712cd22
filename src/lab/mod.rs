//! Real hosts on one machine, for `aesop demo` and for the tests.
//!
//! An image made by debootstrap ([`image`]) is shared read-only by all hosts with that release; each host is an overlay on it,
//! booted by systemd-nspawn in a cgroup of its own in every hierarchy ([`cgroup`]) and attached to the bridge of
//! its lab ([`net`]). What a lab is about to make is written to its state file first ([`state`]), so that
//! [`down`] can remove everything, from any process, after any crash.
//!
//! Everything here blocks; asynchronous callers use `spawn_blocking`. Needs root, Linux and a Debian mirror:
//! [`why_not`] says what is missing.

mod cgroup;
mod command;
mod disk;
mod error;
mod host;
mod image;
mod lifecycle;
mod mirror;
mod mount;
mod net;
mod packages;
mod prepare;
mod recipe;
pub mod shop;
mod spec;
mod state;
mod teardown;

pub use command::Answer;
pub use error::LabError;
pub use host::Host;
pub use image::cache_dir;
pub use lifecycle::{Lab, clean_stale, prepare_images};
pub use net::Subnet;
pub use packages::{ensure_packages, why_not};
pub use spec::{HostKind, HostSpec, LabSpec, OnProgress, Progress, Release, Sudo};
pub use state::{Summary, list};
pub use teardown::down;

/// The account on every host that the lab's key opens.
pub const SSH_USER: &str = "deploy";
/// The account on every database host that may do everything, from everywhere.
pub const DATABASE_USER: &str = "admin";
/// Where MariaDB and MySQL listen.
pub const DATABASE_PORT: u16 = 3306;
/// Where the mail host listens.
pub const SMTP_PORT: u16 = 25;

pub(crate) type Result<T, E = LabError> = std::result::Result<T, E>;
