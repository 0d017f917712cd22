//! The command lines of both programs: here, so that man pages can be made of them.

use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// Command line of `aesop-relay`.
#[derive(Debug, Parser)]
#[command(name = "aesop-relay", version, about = "Reads MySQL binlogs and serves their row changes")]
pub struct Relay {
    /// What to do.
    #[command(subcommand)]
    pub command: RelayCommand,
}

/// What `aesop-relay` does.
#[derive(Debug, Subcommand)]
pub enum RelayCommand {
    /// Reads the sources of a configuration file into event logs and serves them to consumers.
    Run {
        /// The configuration, relay.yml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Shows what is in an event log: its transactions, and with --rows their rows.
    Log {
        /// Directory of the log: the source's name under `data_dir`, and `log` in it.
        dir: PathBuf,
        /// One line a row too.
        #[arg(long)]
        rows: bool,
    },
    /// Shows a server's row changes as JSON lines on stdout.
    Tail(Box<crate::tail::Args>),
}

/// Command line of `aesop-consumer`.
#[derive(Debug, Parser)]
#[command(name = "aesop-consumer", version, about = "Reads row changes from relays and writes them to Kafka")]
pub struct Consumer {
    /// What to do.
    #[command(subcommand)]
    pub command: ConsumerCommand,
}

/// What `aesop-consumer` does.
#[derive(Debug, Subcommand)]
pub enum ConsumerCommand {
    /// Joins the consumer group and delivers its partitions until SIGTERM
    Run {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}
