//! `aesop audit`.

use super::chain::{Linked, broken};
use super::deployment::Gathered;
use super::{Context, Exit, deployment, journal};
use crate::host::{Call, Command};
use serde_json::json;
use std::time::Duration;

/// A host's log.
const LOG: &str = "/var/log/aesop/audit.log";
/// Of longer ones the end is looked at.
const LINES_MAX: usize = 100_000;
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
            cx.out.data(line(entry))?;
            for more in entry.steps.iter().chain(&entry.failures) {
                cx.out.data(format!("    {more}"))?;
            }
        }
        if entries.is_empty() {
            cx.out.note(format!("{} has no line yet.", journal::path(&inventory).display()));
        }
    }
    let mut failed = false;
    if let Some(place) = journal::changed(&inventory)? {
        failed = true;
        cx.out.error(&anyhow::anyhow!("{}", CHANGED.replace("{}", &place)));
    }
    if args.hosts {
        let gathered = deployment::gather(cx, &inventory, None).await?;
        let broken = of_hosts(cx, &gathered, args.last).await;
        gathered.session.close().await;
        failed |= broken?;
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// What is said of a log that does not fit its hashes.
const CHANGED: &str = "{}: its hash does not fit: this line was changed since it was written, or lines above it were changed, added or removed";

fn line(entry: &journal::Entry) -> String {
    let journal::Entry { time, operator, from, aesop, command, generation, result, plan, .. } = entry;
    let from = from.as_ref().map(|from| format!(" from {from}")).unwrap_or_default();
    let aesop = if aesop.is_empty() { String::new() } else { format!("  aesop {aesop}") };
    let of = if *generation == 0 { String::new() } else { format!(" of generation {generation}") };
    format!("{time}  {operator}{from}{aesop}  {command}{of} {result}  {plan}")
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
        let argv = ["tail", "-n", &LINES_MAX.to_string(), LOG].map(str::to_owned).to_vec();
        let call = Call { command: Command::Argv(argv), timeout: TAIL_LIMIT };
        let output = connection.call(call, &|_| ()).await?;
        if output.status != Some(0) {
            failed = true;
            cx.out.warning(format!("{host}: {}", output.stderr.trim()));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<Linked<'_>> = text.lines().map(Linked::of_host).collect();
        if let Some(number) = broken(lines.iter().copied(), lines.len() < LINES_MAX) {
            failed = true;
            cx.out.error(&anyhow::anyhow!("{}", CHANGED.replace("{}", &format!("{host}: {LOG}:{number}"))));
        }
        for Linked { line, .. } in lines.iter().skip(lines.len().saturating_sub(last)) {
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
