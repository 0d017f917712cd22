//! `aesop apply`.

use super::asked::Asked;
use super::carry::{Approval, can_ask, carry_out};
use super::deployment::{Gathered, Goal, gather_for};
use super::{Context, Exit, UsageError};
use crate::plan::{Difference, FORMAT, Saved};
use anyhow::{Context as _, bail};
use std::path::{Path, PathBuf};

/// Flags of `aesop apply`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// A plan saved with `plan -o`: refused when anything it rests on has changed since
    #[arg(value_name = "PLAN")]
    plan: Option<PathBuf>,
    #[command(flatten)]
    approval: Approval,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    can_ask("apply", args.approval.yes)?;
    let saved = args.plan.as_deref().map(read).transpose()?;
    let on = match &saved {
        Some(_) if !cx.globals.on.is_empty() => {
            return Err(
                UsageError("a saved plan has its own selection of hosts; leave out --on".to_owned()).into()
            );
        }
        Some((_, saved)) => &saved.on,
        None => &cx.globals.on,
    };
    let gathered = gather_for(cx, &inventory, None, Goal::Inventory, on, &args.approval.consent).await?;
    if let (Some(path), Some((text, saved))) = (&args.plan, &saved)
        && let Err(error) = compare(path, text, saved, &gathered)
    {
        gathered.session.close().await;
        return Err(error);
    }
    let asked = Asked::new("apply", on);
    carry_out(cx, &inventory, gathered, "apply", &asked, args.approval.yes).await
}

fn read(path: &Path) -> anyhow::Result<(serde_json::Value, Saved)> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let no_plan = || format!("{} is no plan that `aesop plan -o` saved", path.display());
    let value: serde_json::Value = serde_json::from_str(&text).with_context(no_plan)?;
    let saved: Saved = serde_json::from_value(value.clone()).with_context(no_plan)?;
    if saved.format != FORMAT || saved.aesop != crate::lock::VERSION {
        bail!("{} was made by aesop {}; plan again with this one", path.display(), saved.aesop);
    }
    Ok((value, saved))
}

/// What the file says is not what is done: the plan is made anew, and must be the one that was saved.
fn compare(path: &Path, text: &serde_json::Value, saved: &Saved, gathered: &Gathered) -> anyhow::Result<()> {
    if saved.cluster != gathered.plan.cluster {
        bail!(
            "{} is for cluster {}, the inventory is of {}",
            path.display(),
            saved.cluster,
            gathered.plan.cluster
        );
    }
    let path = path.display();
    match saved.difference(text, &gathered.document(&saved.on))? {
        None => Ok(()),
        Some(Difference::Facts(changed)) => {
            bail!("{path} rests on what is no longer so; plan again:\n  {}", changed.join("\n  "))
        }
        Some(Difference::Edited) => {
            bail!("{path} is not the plan that these facts give; it was edited. Plan again")
        }
    }
}
