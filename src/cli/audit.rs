//! `aesop audit`.

use super::deployment::Gathered;
use super::{Context, Exit, deployment, journal};
use crate::host::{Call, Command};
use serde_json::json;
use std::time::Duration;

const TAIL_LIMIT: Duration = Duration::from_secs(15);

/// Flags of `aesop audit`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Also what the hosts have written down themselves
    #[arg(long)]
    hosts: bool,
    /// How many lines, the newest
    #[arg(long, value_name = "N", default_value_t = 50)]
    last: usize,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let entries = journal::read(&inventory)?;
    let skipped = entries.len().saturating_sub(args.last);
    let entries = entries.get(skipped..).unwrap_or_default();
    if cx.out.is_json() {
        for entry in entries {
            cx.out.data(serde_json::to_string(entry)?)?;
        }
    } else {
        for entry in entries {
            let journal::Entry { time, operator, command, generation, result, plan, failures } = entry;
            cx.out
                .data(format!("{time}  {operator}  {command} of generation {generation} {result}  {plan}"))?;
            for failure in failures {
                cx.out.data(format!("    {failure}"))?;
            }
        }
        if entries.is_empty() {
            cx.out.note(format!("{} has no line yet.", journal::path(&inventory).display()));
        }
    }
    if !args.hosts {
        return Ok(Exit::Done);
    }
    let gathered = deployment::gather(cx, &inventory, None).await?;
    let failed = of_hosts(cx, &gathered, args.last).await;
    gathered.session.close().await;
    Ok(if failed? { Exit::Failed } else { Exit::Done })
}

/// The hosts' own logs; returns whether one could not be read.
async fn of_hosts(cx: &Context, gathered: &Gathered, last: usize) -> anyhow::Result<bool> {
    let mut failed = false;
    for host in gathered.desired.keys() {
        let Some(connection) = gathered.session.host(host) else {
            failed = true;
            cx.out.warning(format!("{host} cannot be asked"));
            continue;
        };
        let argv = ["tail", "-n", &last.to_string(), "/var/log/aesop/audit.log"].map(str::to_owned).to_vec();
        let call = Call { command: Command::Argv(argv), timeout: TAIL_LIMIT };
        let output = connection.call(call, &|_| ()).await?;
        if output.status != Some(0) {
            failed = true;
            cx.out.warning(format!("{host}: {}", output.stderr.trim()));
        }
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            if cx.out.is_json() {
                let (time, text) = line.split_once(' ').unwrap_or(("", line));
                cx.out.data(json!({"host": host, "time": time, "text": text}))?;
            } else {
                cx.out.data(format!("{host}: {line}"))?;
            }
        }
    }
    Ok(failed)
}
