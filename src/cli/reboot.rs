//! `aesop reboot`: one host after the other, for a new kernel. Before each all of its services' members must be ready,
//! and afterwards they must be so again.

use super::asked::Asked;
use super::operate::of_scope;
use super::{Context, Exit, carry, remote};
use crate::clock::{Clock, SystemClock};
use crate::host::ssh::SshConnect;
use crate::host::{Call, Command, Connect, HostError};
use crate::inventory::model::{Host, Inventory};
use crate::plan::{Operation, Scope};
use crate::service::roles;
use std::time::Duration;

/// A server with much memory tests it for minutes.
const BOOT_LIMIT: Duration = Duration::from_mins(15);
const ASK_EVERY: Duration = Duration::from_secs(2);
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Flags of `aesop reboot`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let hosts = cx.hosts(&inventory)?;
    carry::can_ask("reboot", args.yes)?;
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let question = format!("Reboot {}, one after the other? Only `yes` is taken: ", names.join(", "));
    if !args.yes && !carry::confirmed(&question, "yes")? {
        cx.out.note("Nothing was changed.");
        return Ok(Exit::Failed);
    }
    let connect = remote::connector(&inventory)?;
    let asked = Asked::new("reboot", &cx.globals.on);
    for name in &hosts {
        let Some(host) = inventory.hosts.get(name) else { continue };
        cx.out.note(format!("== {name}"));
        let all = neighbours(&inventory, name);
        let only = Scope { hosts: [name.clone()].into(), services: Vec::new() };
        let steps = [(&all, Operation::Prove), (&only, Operation::Stop)];
        for (scope, operation) in steps {
            let exit = of_scope(cx, &inventory, scope, operation, "reboot", &asked, true).await?;
            if exit != Exit::Done {
                cx.out.note(format!("{name} was not rebooted, and none after it."));
                return Ok(exit);
            }
        }
        reboot(&connect, host).await?;
        cx.out.note(format!("   {name}: is back"));
        for (scope, operation) in [(&only, Operation::Start), (&all, Operation::Prove)] {
            let exit = of_scope(cx, &inventory, scope, operation, "reboot", &asked, true).await?;
            if exit != Exit::Done {
                cx.out.note(format!("{name} is back, but not all is ready; none after it was rebooted."));
                return Ok(exit);
            }
        }
    }
    Ok(Exit::Done)
}

/// All members of the services that a host carries.
fn neighbours(inventory: &Inventory, host: &str) -> Scope {
    let roles = roles(inventory);
    let services: Vec<String> = roles.get(host).cloned().unwrap_or_default();
    let hosts = roles
        .iter()
        .filter(|(_, theirs)| theirs.iter().any(|service| services.contains(service)))
        .map(|(name, _)| name.clone())
        .collect();
    Scope { hosts, services }
}

/// When its systemd began; another value is another boot.
async fn boot(connect: &SshConnect, host: &Host) -> Result<Vec<u8>, HostError> {
    let connection = connect.connect(host).await?;
    let argv = ["systemctl", "show", "-P", "UserspaceTimestamp"].map(str::to_owned).to_vec();
    let call = Call { command: Command::Argv(argv), timeout: COMMAND_LIMIT };
    let output = connection.call(call, &|_| ()).await;
    connection.close().await;
    Ok(output?.stdout)
}

/// Says when the host answers again, with another boot.
async fn reboot(connect: &SshConnect, host: &Host) -> anyhow::Result<()> {
    let before = boot(connect, host).await?;
    let connection = connect.connect(host).await?;
    let argv = ["systemctl", "reboot"].map(str::to_owned).to_vec();
    let call = Call { command: Command::Argv(argv), timeout: COMMAND_LIMIT };
    match connection.call(call, &|_| ()).await {
        // The connection may end before the answer.
        Ok(_) | Err(HostError::Lost { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    connection.close().await;
    let started = SystemClock.instant();
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        match boot(connect, host).await {
            Ok(now) if now != before && !now.is_empty() => return Ok(()),
            Ok(_) | Err(_) if started.elapsed() < BOOT_LIMIT => {}
            Ok(_) => anyhow::bail!("{}: still the same boot after {} s", host.name, BOOT_LIMIT.as_secs()),
            Err(error) => {
                let why = format!("{}: not back {} s after its reboot", host.name, BOOT_LIMIT.as_secs());
                return Err(anyhow::Error::new(error).context(why));
            }
        }
    }
}
