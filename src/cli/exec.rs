//! `aesop exec`.

use super::{Context, Exit, carry, journal, remote};
use crate::apply::audit;
use crate::host::{Call, Command, Connect};
use crate::lock::VERSION;
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
    let command = audit::line(&args.command.join(" "));
    let names: Vec<&str> = selected.iter().map(String::as_str).collect();
    let begun = journal::begin(cx, &inventory, "exec", &format!("{command} on {}", names.join(", ")));
    let text = format!("{} aesop {VERSION} exec: {command}", carry::operator());
    let (connect, args, text) = (&connect, &args, &text);
    let hosts = inventory.hosts.iter().filter(|(name, _)| selected.contains(*name));
    let mut running = futures_util::stream::iter(hosts.map(|(name, host)| async move {
        let call =
            Call { command: Command::Argv(args.command.clone()), timeout: Duration::from_secs(args.timeout) };
        let result = match connect.connect(host).await {
            Ok(connection) => {
                // Before it runs; a host that cannot note it may be what the command is to mend.
                if let Err(error) = audit::note(connection.as_ref(), name, text).await {
                    cx.out.warning(format!("its audit log has no line of this: {error}"));
                }
                let output = connection.call(call, &|_| ()).await;
                connection.close().await;
                output
            }
            Err(error) => Err(error),
        };
        (name, result)
    }))
    .buffer_unordered(usize::from(cx.globals.parallel));
    let mut failures: Vec<String> = Vec::new();
    while let Some((name, result)) = running.next().await {
        match result {
            Ok(output) if cx.out.is_json() => {
                failures.extend(ended(name, output.status));
                let stdout = String::from_utf8_lossy(&output.stdout);
                let (status, stderr) = (output.status, &output.stderr);
                let line = json!({ "host": name, "status": status, "stdout": stdout, "stderr": stderr });
                cx.out.json_line(&line)?;
            }
            Ok(output) => {
                for line in String::from_utf8_lossy(&output.stdout).lines() {
                    cx.out.data(format!("{name}: {line}"))?;
                }
                for line in output.stderr.lines() {
                    cx.out.note(format!("{name}: {line}"));
                }
                let ended = ended(name, output.status);
                if let Some(words) = &ended {
                    cx.out.note(words);
                }
                failures.extend(ended);
            }
            Err(error) => {
                failures.push(error.to_string());
                if cx.out.is_json() {
                    cx.out.json_line(&json!({ "host": name, "error": error.to_string() }))?;
                }
                cx.out.error(&error.into());
            }
        }
    }
    let exit = if failures.is_empty() { Exit::Done } else { Exit::Failed };
    journal::end(cx, &inventory, begun, failures);
    Ok(exit)
}

/// How a command failed on a host.
fn ended(host: &str, status: Option<i32>) -> Option<String> {
    let words = status.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
    (status != Some(0)).then(|| format!("{host}: ended with {words}"))
}
