//! Subcommands that need what only a host can see: run there as the service's user, over SSH.

use super::Context;
use crate::apply::sudo_passwords;
use crate::host::ssh::SshConnect;
use crate::host::{Call, Command, Connect, Output};
use crate::inventory::model::Inventory;
use crate::secret::Resolver;
use anyhow::Context as _;
use std::time::Duration;

const AESOP: &str = "/opt/aesop/bin/aesop";

/// How to reach the inventory's hosts.
pub(super) fn connector(inventory: &Inventory) -> anyhow::Result<SshConnect> {
    let passwords = sudo_passwords(&Resolver::new(&inventory.path), &inventory.hosts)?;
    Ok(SshConnect::new(inventory, passwords))
}

/// A subcommand of `aesop` on a host; its output formats are the caller's.
pub(super) async fn aesop(
    cx: &Context,
    inventory: &Inventory,
    host: &str,
    arguments: &[&str],
    timeout: Duration,
) -> anyhow::Result<Output> {
    let about = inventory.hosts.get(host).with_context(|| format!("{host} is not in the inventory"))?;
    let connection = connector(inventory)?.connect(about).await?;
    let mut argv: Vec<String> = ["runuser", "-u", "aesop", "--", AESOP].map(str::to_owned).to_vec();
    argv.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    argv.extend(["--format", if cx.out.is_json() { "json" } else { "text" }].map(str::to_owned));
    let result = connection.call(Call { command: Command::Argv(argv), timeout }, &|_| ()).await;
    connection.close().await;
    Ok(result?)
}

/// The same on the first monitor host.
pub(super) async fn on_monitor(
    cx: &Context,
    arguments: &[&str],
    timeout: Duration,
) -> anyhow::Result<super::Exit> {
    let inventory = cx.inventory()?;
    let monitor = inventory.monitor.as_ref().and_then(|monitor| monitor.hosts.first());
    let host = monitor.context("the inventory has no `monitor:`; nobody watches this cluster")?;
    let output = aesop(cx, &inventory, host, arguments, timeout).await?;
    cx.out.raw(String::from_utf8_lossy(&output.stdout))?;
    for line in output.stderr.lines() {
        cx.out.note(format!("{host}: {line}"));
    }
    Ok(if output.status == Some(0) { super::Exit::Done } else { super::Exit::Failed })
}
