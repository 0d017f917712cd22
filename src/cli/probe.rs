//! `aesop probe`.

use super::{Context, Exit, remote};
use crate::agent::{self, ProbeAnswer};
use futures_util::StreamExt;
use std::path::PathBuf;
use std::time::Duration;

/// Probes have a deadline of seconds; the rest is for SSH.
const REMOTE: Duration = Duration::from_secs(40);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Probe what this agent configuration names, on this host; without it the hosts of the inventory probe
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let Some(config) = args.config else { return remotely(cx).await };
    let config = agent::load_config(&config)?;
    let answer = agent::probe_once(&config).await?;
    if cx.out.is_json() {
        cx.out.json(&answer)?;
    } else {
        cx.out.data(text(&answer))?;
    }
    let failed = answer.samples.iter().any(|sample| sample.name == "probe_up" && sample.value < 1.0);
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// All hosts at once, each one's output as it comes.
async fn remotely(cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let hosts = cx.hosts(&inventory)?;
    let arguments = ["probe", "--config", "/etc/aesop/agent.yml"];
    let inventory = &inventory;
    let mut running = futures_util::stream::iter(
        hosts
            .iter()
            .map(|host| async move { (host, remote::aesop(cx, inventory, host, &arguments, REMOTE).await) }),
    )
    .buffer_unordered(usize::from(cx.globals.parallel));
    let mut failed = false;
    while let Some((host, result)) = running.next().await {
        match result {
            Ok(output) => {
                failed |= output.status != Some(0);
                let stdout = String::from_utf8_lossy(&output.stdout);
                if cx.out.is_json() {
                    cx.out.raw(stdout)?;
                } else {
                    let lines: Vec<String> = stdout.lines().map(|line| format!("{host}: {line}")).collect();
                    cx.out.data(lines.join("\n"))?;
                }
                for line in output.stderr.lines() {
                    cx.out.note(format!("{host}: {line}"));
                }
            }
            Err(error) => {
                failed = true;
                cx.out.error(&error);
            }
        }
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// One sample a line: name, labels, value, note.
fn text(answer: &ProbeAnswer) -> String {
    let lines = answer.samples.iter().map(|sample| {
        let labels: Vec<String> = sample.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let note = sample.note.as_deref().map(|note| format!("  ({note})")).unwrap_or_default();
        format!("{} {{{}}} {}{note}", sample.name, labels.join(", "), sample.value)
    });
    lines.collect::<Vec<_>>().join("\n")
}
