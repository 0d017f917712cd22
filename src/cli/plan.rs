//! `aesop plan`.

use super::deployment::{Consent, Goal, gather_for};
use super::show::{Diffs, show};
use super::{Context, Exit};
use anyhow::Context as _;
use std::path::PathBuf;

/// Flags of `aesop plan`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Save the plan as JSON, for `apply PLAN`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Only the steps, without the diffs of files
    #[arg(long)]
    summary: bool,
    /// Exit with 3 when there is something to do
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    consent: Consent,
    /// Plan from what hosts said, saved in a file, instead of asking them
    #[arg(long, hide = true, value_name = "FILE")]
    observed: Option<PathBuf>,
    /// Save what hosts said
    #[arg(long, hide = true, value_name = "FILE")]
    save_observed: Option<PathBuf>,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let (observed, on) = (args.observed.as_deref(), &cx.globals.on);
    let gathered = gather_for(cx, &inventory, observed, Goal::Inventory, on, &args.consent).await?;
    let save = |path: &PathBuf, text: String| {
        std::fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))
    };
    if let Some(path) = &args.save_observed {
        save(path, serde_json::to_string_pretty(&gathered.observed)?)?;
    }
    let plan = &gathered.plan;
    if let Some(path) = &args.output {
        // Ids in a saved plan must be those that the next run finds.
        gathered.prepared.save_lock()?;
        save(path, serde_json::to_string_pretty(&gathered.document(&cx.globals.on))?)?;
    }
    if cx.out.is_json() {
        cx.out.json(&gathered.document(&cx.globals.on))?;
    } else {
        cx.out.raw(show(plan, &gathered.prepared, if args.summary { Diffs::None } else { Diffs::All }))?;
    }
    gathered.session.close().await;
    for refusal in &plan.refused {
        cx.out.error(&anyhow::anyhow!("{refusal}"));
    }
    for why in plan.unreachable.values() {
        cx.out.error(&anyhow::anyhow!("{why}"));
    }
    if !plan.unreachable.is_empty() || !plan.refused.is_empty() {
        return Ok(Exit::Failed);
    }
    Ok(if args.exit_code && !plan.is_empty() { Exit::ChangesPending } else { Exit::Done })
}
