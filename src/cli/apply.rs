//! `aesop apply`.

use super::deployment::{Diffs, gather, show};
use super::progress::render;
use super::{Context, Exit, UsageError};
use crate::apply::{Options, Report, execute};
use anyhow::Context as _;
use std::io::{BufRead, IsTerminal, Write};

/// Events on their way to the terminal: a burst of a few hundred lines must not stop the workers.
const EVENTS: usize = 4096;

/// Flags of `aesop apply`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let asks = !args.yes;
    if asks && !std::io::stdin().is_terminal() {
        let message = "apply asks before it changes anything, and stdin is no terminal; look at `aesop plan`, then give --yes";
        return Err(UsageError(message.to_owned()).into());
    }
    let gathered = gather(cx, &inventory, None).await?;
    let plan = &gathered.plan;
    if !cx.out.is_json() {
        cx.out.raw(show(plan, &gathered.prepared, Diffs::Changed))?;
    }
    for refusal in &plan.refused {
        cx.out.error(&anyhow::anyhow!("{refusal}"));
    }
    if !plan.refused.is_empty() {
        gathered.session.close().await;
        return Ok(Exit::Failed);
    }
    for why in plan.unreachable.values() {
        cx.out.error(&anyhow::anyhow!("{why}"));
    }
    if !plan.is_empty() && asks && !confirmed()? {
        gathered.session.close().await;
        cx.out.note("Nothing was changed.");
        return Ok(Exit::Failed);
    }
    gathered.prepared.save_lock()?;
    let (events, receiver) = tokio::sync::mpsc::channel(EVENTS);
    let rendering = tokio::spawn(render(cx.out, receiver));
    let contents = gathered.prepared.contents(plan, &events).await?;
    let options = Options { parallel: usize::from(cx.globals.parallel), operator: operator() };
    let report =
        execute(plan, &gathered.prepared.desired, &contents, &gathered.session, &options, &events).await;
    drop(events);
    rendering.await.context("the progress display failed")?;
    gathered.session.close().await;
    if cx.out.is_json() {
        cx.out.json(&report)?;
    } else {
        recap(cx, &report)?;
    }
    Ok(if report.is_success() { Exit::Done } else { Exit::Failed })
}

fn recap(cx: &Context, report: &Report) -> anyhow::Result<()> {
    for failure in report.failures.iter().filter(|failure| failure.service != "host") {
        cx.out.note(format!("\n{}, {}: {} failed", failure.host, failure.service, failure.step));
        cx.out.error(&anyhow::anyhow!("{}", failure.error.trim_end()));
    }
    let width = report.hosts.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (host, counts) in &report.hosts {
        text.push_str(&format_recap(host, width, *counts));
    }
    cx.out.raw(text)?;
    if !report.is_success() {
        cx.out.note(
            "Not everything was done. Mend what is said above and run apply again: it goes on from here.",
        );
    }
    Ok(())
}

fn format_recap(host: &str, width: usize, counts: crate::apply::HostReport) -> String {
    let crate::apply::HostReport { ok, changed, failed, unreachable, skipped } = counts;
    format!(
        "{host:width$}  ok={ok:<3} changed={changed:<3} failed={failed:<3} unreachable={:<3} skipped={skipped}\n",
        u8::from(unreachable)
    )
}

fn confirmed() -> anyhow::Result<bool> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "Apply this? Only `yes` is taken: ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

/// Who runs this, for locks and audit logs.
fn operator() -> String {
    let word = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = word("SUDO_USER").or_else(|| word("USER")).unwrap_or_else(|| "unknown".to_owned());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Kept free of what the hosts' programs part lines at.
    let clean = |text: &str| -> String {
        text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
    };
    format!("{}@{}", clean(&user), clean(&machine))
}
