//! `aesop lab`: lab hosts by hand. Hidden: users meet the lab as `aesop demo`.

use super::{Context, Exit};
use crate::lab::{self, Answer, Host, HostSpec, Lab, LabSpec, Progress, Subnet};
use anyhow::Context as _;
use std::io::Read;

/// Flags of `aesop lab`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Installs the packages and builds the images that labs need
    Prepare {
        /// The image of MySQL 9.7 too
        #[arg(long)]
        mysql: bool,
    },
    /// Makes a lab and leaves it up
    Up {
        /// Its name
        lab: String,
        /// `name`, `name:kind` or `name:kind:number`, behind the name also `@release`; kinds: plain, mariadb, mysql97,
        /// mail; releases: debian12, debian13, ubuntu2204, ubuntu2404
        hosts: Vec<HostSpec>,
        /// A network like 10.201.7.0/24
        #[arg(long)]
        subnet: Option<Subnet>,
        /// Stay until stdin ends, then remove the lab
        #[arg(long)]
        hold: bool,
    },
    /// Removes labs
    Down {
        /// Their names
        #[arg(required = true)]
        labs: Vec<String>,
    },
    /// Lists the labs that are up
    List,
    /// Prints what one needs to reach a lab's hosts, as shell assignments
    Env {
        /// The lab
        lab: String,
    },
    /// Adds hosts
    Add {
        /// The lab
        lab: String,
        /// As for `up`
        #[arg(required = true)]
        hosts: Vec<HostSpec>,
    },
    /// Removes a host at once
    Remove(Target),
    /// Starts a host
    Boot(Target),
    /// Shuts a host down
    Stop(Target),
    /// Ends all processes of a host
    Kill(Target),
    /// Restarts a host
    Reboot(Target),
    /// Stops all processes of a host where they stand
    Freeze(Target),
    /// Ends a freeze
    Thaw(Target),
    /// Takes a host off the network
    Cut(Target),
    /// Puts it back
    Uncut(Target),
    /// Runs a command on a host as root
    Exec {
        #[command(flatten)]
        target: Target,
        /// The command
        #[arg(last = true, required = true)]
        argv: Vec<String>,
    },
}

/// A host of a lab.
#[derive(Clone, Debug, clap::Args)]
struct Target {
    /// The lab
    lab: String,
    /// The host
    host: String,
}

impl Target {
    fn host(&self) -> lab::Result<Host> {
        Lab::attach(&self.lab)?.host(&self.host)
    }
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let out = cx.out;
    // The lab blocks, and boots hosts for seconds.
    tokio::task::spawn_blocking(move || act(args.action, out)).await.context("the lab's thread panicked")?
}

fn act(action: Action, out: super::Output) -> anyhow::Result<Exit> {
    let say = |progress: &Progress| out.note(progress);
    match action {
        Action::Prepare { mysql } => lab::prepare_images(mysql, &say)?,
        Action::Up { lab, hosts, subnet, hold } => {
            let spec = LabSpec { hosts, subnet, persistent: !hold, ..LabSpec::new(lab) };
            let lab = Lab::create(&spec, &say)?;
            out.data(env(&lab)?)?;
            if hold {
                std::io::stdin().read_to_end(&mut Vec::new())?;
                lab.down()?;
            }
        }
        Action::Down { labs } => labs.iter().try_for_each(|lab| lab::down(lab))?,
        Action::List => {
            for lab in lab::list() {
                let note = if lab.stale { " (its creator is gone)" } else { "" };
                out.data(format_args!("{} {} {}{note}", lab.name, lab.subnet, lab.hosts.join(",")))?;
            }
        }
        Action::Env { lab } => out.data(env(&Lab::attach(&lab)?)?)?,
        Action::Add { lab, hosts } => drop(Lab::attach(&lab)?.add_all(&hosts, &say)?),
        Action::Remove(target) => Lab::attach(&target.lab)?.remove(&target.host)?,
        Action::Boot(target) => target.host()?.boot()?,
        Action::Stop(target) => target.host()?.stop()?,
        Action::Kill(target) => target.host()?.kill()?,
        Action::Reboot(target) => target.host()?.reboot()?,
        Action::Freeze(target) => target.host()?.freeze()?,
        Action::Thaw(target) => target.host()?.thaw()?,
        Action::Cut(target) => target.host()?.cut()?,
        Action::Uncut(target) => target.host()?.uncut()?,
        Action::Exec { target, argv } => return exec(&target.host()?.answer(&argv)?, out),
    }
    Ok(Exit::Done)
}

fn exec(answer: &Answer, out: super::Output) -> anyhow::Result<Exit> {
    out.raw(&answer.stdout)?;
    if !answer.stderr.is_empty() {
        out.note(answer.stderr.trim_end());
    }
    Ok(if answer.ok() { Exit::Done } else { Exit::Failed })
}

fn env(lab: &Lab) -> lab::Result<String> {
    let mut lines = vec![
        format!("SSH_USER={}", lab::SSH_USER),
        format!("SSH_KEY={}", lab.ssh_key().display()),
        format!("SSH_KNOWN_HOSTS={}", lab.known_hosts().display()),
        format!("LAB_PASSWORD={}", lab.password()),
    ];
    for host in lab.hosts()? {
        let name = host.name().replace('-', "_").to_uppercase();
        lines.push(format!("{name}={}", host.address()));
        if host.kind() == lab::HostKind::Mail {
            lines.push(format!("{name}_MAILBOX={}", host.mailbox().display()));
        }
    }
    Ok(lines.join("\n"))
}
