//! `aesop exec`.

use super::{Context, Exit, remote};
use crate::host::{Call, Command, Connect};
use futures_util::StreamExt;
use serde_json::json;
use std::time::Duration;

/// Flags of `aesop exec`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Give up on a host after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// The command and its arguments; no shell reads them
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let selected = cx.hosts(&inventory)?;
    let connect = remote::connector(&inventory)?;
    let (connect, args) = (&connect, &args);
    let hosts = inventory.hosts.iter().filter(|(name, _)| selected.contains(*name));
    let mut running = futures_util::stream::iter(hosts.map(|(name, host)| async move {
        let call =
            Call { command: Command::Argv(args.command.clone()), timeout: Duration::from_secs(args.timeout) };
        let result = match connect.connect(host).await {
            Ok(connection) => {
                let output = connection.call(call, &|_| ()).await;
                connection.close().await;
                output
            }
            Err(error) => Err(error),
        };
        (name, result)
    }))
    .buffer_unordered(usize::from(cx.globals.parallel));
    let mut failed = false;
    while let Some((name, result)) = running.next().await {
        match result {
            Ok(output) if cx.out.is_json() => {
                failed |= output.status != Some(0);
                let stdout = String::from_utf8_lossy(&output.stdout);
                cx.out.json(&json!({"host": name, "status": output.status, "stdout": stdout, "stderr": output.stderr}))?;
            }
            Ok(output) => {
                failed |= output.status != Some(0);
                for line in String::from_utf8_lossy(&output.stdout).lines() {
                    cx.out.data(format!("{name}: {line}"))?;
                }
                for line in output.stderr.lines() {
                    cx.out.note(format!("{name}: {line}"));
                }
                if output.status != Some(0) {
                    let status = output.status.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
                    cx.out.note(format!("{name}: ended with {status}"));
                }
            }
            Err(error) => {
                failed = true;
                cx.out.error(&error.into());
            }
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}
