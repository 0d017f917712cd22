//! Carries a plan out, whatever it is for: shows it, asks, applies, reports, and writes the local audit log.

use super::asked::Asked;
use super::deployment::{Consent, Gathered};
use super::journal::{self, Entry};
use super::progress::render;
use super::show::{Diffs, show};
use super::stream::{self, Edge};
use super::{Context, Exit, UsageError};
use crate::apply::{HostReport, Options, Report, execute};
use crate::inventory::model::Inventory;
use anyhow::Context as _;
use std::io::{BufRead, IsTerminal, Write};

/// Events on their way to the terminal: a burst of a few hundred lines must not stop the workers.
pub(super) const EVENTS: usize = 4096;

/// Flags of commands that carry out a plan.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Approval {
    /// Do not ask
    #[arg(short, long)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) consent: Consent,
}

/// A command that asks must be able to.
pub(super) fn can_ask(command: &str, yes: bool) -> anyhow::Result<()> {
    if yes || std::io::stdin().is_terminal() {
        return Ok(());
    }
    let message = format!(
        "{command} asks before it changes anything, and stdin is no terminal; look at `aesop plan`, then give --yes"
    );
    Err(UsageError(message).into())
}

/// Shows the plan, asks unless `yes`, and does it. `command` is what runs, `asked` what is to be finished should it be
/// broken off: they differ for `resume`.
pub(super) async fn carry_out(
    cx: &Context,
    inventory: &Inventory,
    gathered: Gathered,
    command: &str,
    asked: &Asked,
    yes: bool,
) -> anyhow::Result<Exit> {
    let plan = &gathered.plan;
    if cx.out.is_json() {
        stream::say(cx.out, &Edge::planned(plan))?;
    } else {
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
    if !plan.is_empty() && !yes && !confirmed("Apply this? Only `yes` is taken: ", "yes")? {
        gathered.session.close().await;
        cx.out.note("Nothing was changed.");
        return Ok(Exit::Failed);
    }
    gathered.prepared.save_lock()?;
    let asked = Asked {
        back_to: gathered.back_to.or(asked.back_to),
        since: asked.since.or(Some(plan.rests_on)),
        ..asked.clone()
    };
    let entry = Entry::new(command, &asked, inventory, plan);
    if !plan.is_empty() {
        journal::append(cx, inventory, &entry);
    }
    let report = work(cx, &gathered, &asked).await;
    gathered.session.close().await;
    let report = report?;
    gathered.prepared.settle(&gathered.desired, &report)?;
    if !plan.is_empty() {
        journal::append(cx, inventory, &entry.ended(&report));
    }
    if cx.out.is_json() {
        stream::say(cx.out, &Edge::finished(&report))?;
    } else {
        recap(cx, &report, &asked)?;
    }
    Ok(if report.is_success() { Exit::Done } else { Exit::Failed })
}

async fn work(cx: &Context, gathered: &Gathered, asked: &Asked) -> anyhow::Result<Report> {
    let Gathered { prepared, desired, session, plan, .. } = gathered;
    let (events, receiver) = tokio::sync::mpsc::channel(EVENTS);
    let rendering = tokio::spawn(render(cx.out, receiver));
    let contents = prepared.contents(desired, plan, &events).await?;
    let (parallel, operation) = (usize::from(cx.globals.parallel), asked.to_lock());
    let options = Options { parallel, operator: operator(), operation };
    let report = execute(plan, desired, &contents, session, &options, &events).await;
    drop(events);
    rendering.await.context("the progress display failed")?;
    Ok(report)
}

fn recap(cx: &Context, report: &Report, asked: &Asked) -> anyhow::Result<()> {
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
        let words = asked.words();
        cx.out.note(format!("Not everything was done. Mend what is said above and repeat `{words}`."));
    }
    Ok(())
}

fn format_recap(host: &str, width: usize, counts: HostReport) -> String {
    let HostReport { ok, changed, failed, unreachable, skipped } = counts;
    format!(
        "{host:width$}  ok={ok:<3} changed={changed:<3} failed={failed:<3} unreachable={:<3} skipped={skipped}\n",
        u8::from(unreachable)
    )
}

/// Asks; only `word` is taken.
pub(super) fn confirmed(question: &str, word: &str) -> anyhow::Result<bool> {
    let mut stderr = std::io::stderr().lock();
    write!(stderr, "{question}")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == word)
}

/// Who runs this, for locks and audit logs.
pub(super) fn operator() -> String {
    let word = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = word("SUDO_USER").or_else(|| word("USER")).unwrap_or_else(|| "unknown".to_owned());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    // Kept free of what the hosts' programs part lines at.
    let clean = |text: &str| -> String {
        text.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
    };
    format!("{}@{}", clean(&user), clean(&machine))
}
