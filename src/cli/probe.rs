//! `aesop probe`.

use super::{Context, Exit};
use crate::agent::{self, ProbeAnswer};
use std::path::PathBuf;

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Probe what this agent configuration names, on this host
    #[arg(long, value_name = "FILE", default_value = "/etc/aesop/agent.yml")]
    config: PathBuf,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let config = agent::load_config(&args.config)?;
    let answer = agent::probe_once(&config).await?;
    if cx.out.is_json() {
        cx.out.json(&answer)?;
    } else {
        cx.out.data(text(&answer))?;
    }
    let failed = answer.samples.iter().any(|sample| sample.name == "probe_up" && sample.value < 1.0);
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
