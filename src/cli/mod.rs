//! The command line: the only module that prints. One file a subcommand, data on stdout, the rest on stderr.
//!
//! To add a subcommand: a file `cli/<name>.rs` with `pub(super) struct Args` (derive `Clone, Debug, clap::Args`)
//! and `pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit>`, then `mod <name>;` and one
//! line in `subcommands!` below. Its doc comment there is its help. The inventory comes from `cx.inventory()`.

mod agent;
mod alerts;
mod apply;
mod asked;
mod audit;
mod bundle;
mod carry;
mod chain;
mod check;
mod completions;
mod demo;
mod deployment;
mod destroy;
mod diagnostic;
mod exec;
mod forget;
mod import;
mod init;
mod installed;
mod journal;
mod lab;
mod lag;
mod logs;
mod lost_disk;
mod maintenance;
mod man;
mod member;

mod monitor;
mod operate;
mod output;
mod plan;
mod preflight;
mod probe;
mod progress;
mod ready;
mod reboot;
mod recover_lock;
mod remote;
mod render;
mod restart;
mod resume;
mod rollback;
mod schema;
mod show;
mod start;
mod status;
mod stop;
mod stream;
mod turn;
mod upgrade;
mod view;

pub use output::{Closed, Output};

use crate::inventory::model::Inventory;
use clap::{Parser, Subcommand, ValueEnum};
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// Moves every row change of MySQL to Kafka as JSON, and deploys and watches all it needs for that.
#[derive(Clone, Debug, Parser)]
#[command(name = "aesop", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 changes pending (plan --exit-code).")]
pub struct Cli {
    /// What every subcommand takes.
    #[command(flatten)]
    pub globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every subcommand.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub struct Globals {
    /// The inventory; without it the only `inventory/*.yml` below the current directory
    #[arg(short, long, global = true, value_name = "FILE", env = "AESOP_INVENTORY", hide_env_values = true)]
    pub inventory: Option<PathBuf>,
    /// Only these hosts: names, globs (`kafka-*`) and roles (`@kafka`), separated by commas
    #[arg(long, alias = "limit", global = true, value_name = "HOSTS", value_delimiter = ',')]
    pub on: Vec<String>,
    /// How data on stdout looks
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// When to use colour; `NO_COLOR` turns `auto` off
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub color: Color,
    /// How many hosts to work on at once
    #[arg(long, global = true, value_name = "N", default_value_t = DEFAULT_PARALLEL,
          value_parser = clap::value_parser!(u16).range(1..=MAX_PARALLEL))]
    pub parallel: u16,
}

/// Hosts worked on at once: enough for a usual cluster in one wave, few enough for sshd's `MaxStartups` on a
/// shared jump host.
const DEFAULT_PARALLEL: u16 = 20;
/// More connections than this from one controller only fail.
const MAX_PARALLEL: i64 = 200;

/// How data looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl Color {
    fn enabled(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

/// How a subcommand ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0.
    Done,
    /// 1; what failed has been said.
    Failed,
    /// 2; the command line was wrong in a way that clap cannot see.
    Usage,
    /// 3, for `--exit-code`.
    ChangesPending,
    /// 4, of `ready`: not yet, and the service gets on by itself.
    GetsOn,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::ChangesPending => 3,
            Exit::GetsOn => 4,
        })
    }
}

/// What a subcommand runs with.
#[derive(Debug)]
pub struct Context {
    /// Global flags.
    pub globals: Globals,
    /// The only way to print.
    pub out: Output,
}

/// A command line that clap could not see to be wrong: exit 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl Context {
    /// The inventory.
    pub fn inventory(&self) -> anyhow::Result<Inventory> {
        Ok(crate::inventory::load(&self.inventory_path()?)?)
    }

    /// `-i`, `AESOP_INVENTORY`, or the only inventory in `inventory/`.
    pub fn inventory_path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.globals.inventory {
            return Ok(path.clone());
        }
        let mut found: Vec<PathBuf> = std::fs::read_dir("inventory")
            .map(|entries| entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect())
            .unwrap_or_default();
        found.retain(|path| {
            path.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
        });
        found.sort();
        match found.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(UsageError(
                "there is no inventory: none in `inventory/`, none given with `-i FILE` or AESOP_INVENTORY; \
                 `aesop init .` writes one to start from"
                    .to_owned(),
            )
            .into()),
            several => {
                let names: Vec<String> = several.iter().map(|path| path.display().to_string()).collect();
                Err(UsageError(format!("which inventory? choose one with `-i`: {}", names.join(", "))).into())
            }
        }
    }

    /// The names of the hosts that `--on` selects.
    pub fn hosts(&self, inventory: &Inventory) -> anyhow::Result<BTreeSet<String>> {
        self.select(inventory, &self.globals.on)
    }

    /// The hosts that `selectors` name.
    pub fn select(&self, inventory: &Inventory, selectors: &[String]) -> anyhow::Result<BTreeSet<String>> {
        crate::inventory::select(inventory, selectors).map_err(|error| UsageError(error.to_string()).into())
    }
}

/// Declares the enum of subcommands and calls the `run` of the one given: `/// help` `Variant => module`.
macro_rules! subcommands {
    ($($(#[$attribute:meta])* $variant:ident => $module:ident,)*) => {
        #[derive(Clone, Debug, Subcommand)]
        enum Command {
            $($(#[$attribute])* $variant($module::Args),)*
        }

        /// Carries out the command line.
        pub async fn run(cli: Cli) -> anyhow::Result<Exit> {
            let out = Output::new(&cli.globals);
            let cx = Context { globals: cli.globals, out };
            match cli.command {
                $(Command::$variant(args) => $module::run(args, &cx).await,)*
            }
        }
    };
}

subcommands! {
    /// Writes a commented inventory to start from
    Init => init,
    /// Turns an inventory of another tool into one of aesop's, and says what it could not carry over
    Import => import,
    /// Checks the inventory: every fault with its line and its remedy
    Check => check,
    /// Shows what `apply` would change: diffs, then steps and restarts in their order
    Plan => plan,
    /// Makes the hosts what the inventory says: plans, asks, carries out
    Apply => apply,
    /// Writes one archive with every artifact that the inventory needs, for a machine without a network
    Bundle => bundle,
    /// Finishes what was broken off, by the same command: an apply, a rollback, a stop; says first what it was
    Resume => resume,
    /// Brings this aesop's programs to hosts that run another build, relays before consumers, behind the gates
    Upgrade => upgrade,
    /// Goes back to an earlier generation, through the same gates
    Rollback => rollback,
    /// Who did what, when, with which result
    Audit => audit,
    /// Rebuilds a lost lock file from the copies that the hosts keep
    RecoverLock => recover_lock,
    /// Says that the data of ZooKeeper or Kafka on a host is gone for good: it may come back with nothing
    LostDisk => lost_disk,
    /// Removes all of aesop's from the hosts; data only with --data
    Destroy => destroy,
    /// One table: hosts, services, the versions that are there, what is pending, drift, health
    Status => status,
    /// Takes a host that is gone for good, and is no longer in the inventory, out of its clusters
    Forget => forget,
    /// Writes every rendered file, by host
    Render => render,
    /// Starts what is stopped, and waits until it is ready
    Start => start,
    /// Stops services until somebody starts them; a quorum keeps its majority, or all of it is stopped
    Stop => stop,
    /// Stops and starts services, members one after the other, each behind its gate
    Restart => restart,
    /// Reboots hosts one after the other, for a new kernel, each behind the gates of its services
    Reboot => reboot,
    /// Announces work on hosts: the monitor mails nothing of it until it ends
    Maintenance => maintenance,
    /// Runs a command on hosts
    Exec => exec,
    /// The services' logs, of all hosts in one; `-f` goes on with what comes
    Logs => logs,
    /// The ready test of a service on this host
    #[command(hide = true)]
    Ready => ready,
    /// Changes a cluster through its member on this host
    #[command(hide = true)]
    Member => member,
    /// Whose turn it is to restart
    #[command(hide = true)]
    Turn => turn,
    /// What a cluster says of itself
    #[command(hide = true)]
    View => view,
    /// Runs this host's probes now and prints the samples
    Probe => probe,
    /// What fires and what may soon, worst first
    Alerts => alerts,
    /// How far each partition is behind its source, by hop; worst first
    Lag => lag,
    /// Polls agents, evaluates rules, mails, serves the status page (installed by `apply`)
    Monitor => monitor,
    /// Runs probes on this host when asked, over HTTPS (installed by `apply`)
    Agent => agent,
    /// Everything on lab hosts on this machine, from nothing (as root)
    Demo => demo,
    /// Makes, uses and removes lab hosts on this machine
    #[command(hide = true)]
    Lab => lab,
    /// Prints the JSON Schema of the inventory, for editors
    Schema => schema,
    /// Prints shell completions
    Completions => completions,
    /// Writes man pages, one for each subcommand, of all three programs
    Man => man,
}

/// Starts logging to stderr. `AESOP_LOG` or `RUST_LOG` choose what is logged; warnings without them.
pub fn start_tracing(globals: &Globals) {
    let filter = ["AESOP_LOG", "RUST_LOG"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .unwrap_or_else(|| "warn".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .with_ansi(globals.color.enabled(std::io::stderr().is_terminal()))
        .init();
}

/// Says on stderr what went wrong and maps it to an exit code. A reader that closed our stdout (`| head`) is
/// no failure.
pub fn report(globals: &Globals, error: &anyhow::Error) -> ExitCode {
    if error.is::<Closed>() {
        return Exit::Done.into();
    }
    Output::new(globals).error(error);
    if error.is::<UsageError>() { Exit::Usage.into() } else { Exit::Failed.into() }
}

/// The whole command tree, for completions and for the tests that read every help text.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}
