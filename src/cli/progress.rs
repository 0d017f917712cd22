//! Renders events of an apply: bars on a terminal, plain lines elsewhere, JSON lines with `--format json`.

use super::Output;
use crate::apply::ApplyEvent;
use crate::plan::Stage;
use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressStyle};
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;

/// Often enough to look alive.
const TICK: Duration = Duration::from_millis(120);
/// Fewer bytes are gone before anyone reads the line.
const WORTH_SAYING: u64 = 1 << 20;
/// What is in the cache comes at once.
const WORTH_A_LINE: Duration = Duration::from_millis(500);

/// Renders until the workers are done.
pub(super) async fn render(out: Output, mut events: Receiver<ApplyEvent>) {
    let mut bars = (std::io::stderr().is_terminal() && !out.is_json()).then(Bars::default);
    while let Some(event) = events.recv().await {
        if out.is_json() {
            // A reader that went away does not stop the work.
            let _closed = super::stream::say(out, &event);
        } else if let Some(bars) = &mut bars {
            bars.show(out, &event);
        } else if let Some(line) = line(&event) {
            out.note(line);
        }
    }
}

fn line(event: &ApplyEvent) -> Option<String> {
    match event {
        ApplyEvent::Fetching { artifact } => Some(format!("fetching {artifact}")),
        ApplyEvent::StageStarted { service, hosts, .. } if service != Stage::GENERATION => {
            Some(format!("== {service} on {}", hosts.join(", ")))
        }
        ApplyEvent::Fetched { artifact, bytes, elapsed } if *elapsed >= WORTH_A_LINE => {
            let (bytes, seconds) = (HumanBytes(*bytes), elapsed.as_secs_f64());
            Some(format!("   {artifact} is here: {bytes} in {seconds:.1} s"))
        }
        ApplyEvent::Note { host, text } => Some(format!("   {host}: {}", text.trim())),
        ApplyEvent::HostDone { host, service, elapsed } if service != Stage::GENERATION => {
            Some(format!("   {host}: {service} done in {:.1} s", elapsed.as_secs_f64()))
        }
        ApplyEvent::Fetched { .. }
        | ApplyEvent::FetchProgress { .. }
        | ApplyEvent::HostStarted { .. }
        | ApplyEvent::StageStarted { .. }
        | ApplyEvent::StepDone { .. }
        | ApplyEvent::HostDone { .. } => None,
        ApplyEvent::HostFailed { host, service, error } => {
            Some(format!("   {host}: {service} FAILED: {}", error.lines().next().unwrap_or_default()))
        }
        ApplyEvent::Skipped { service, .. } if service == Stage::GENERATION => None,
        ApplyEvent::Skipped { host, service, reason } => {
            Some(format!("   {host}: {service} left out: {reason}"))
        }
    }
}

/// A bar for each host that is at work, and for each artifact that comes.
#[derive(Default)]
struct Bars {
    all: MultiProgress,
    hosts: BTreeMap<String, ProgressBar>,
    artifacts: BTreeMap<String, ProgressBar>,
}

impl Bars {
    fn show(&mut self, out: Output, event: &ApplyEvent) {
        match event {
            ApplyEvent::HostStarted { host, service, steps, bytes, step } if service != Stage::GENERATION => {
                let bar = self.all.add(ProgressBar::new(u64::try_from(*steps).unwrap_or(0)));
                let style = ProgressStyle::with_template(
                    "   {spinner} {prefix:24} {bar:20} {pos:>2}/{len:2} {wide_msg}",
                );
                if let Ok(style) = style {
                    bar.set_style(style.progress_chars("=> "));
                }
                bar.set_prefix(format!("{host} {service}"));
                let sending = if *bytes > WORTH_SAYING {
                    format!(" (sending {})", HumanBytes(*bytes))
                } else {
                    String::new()
                };
                bar.set_message(format!("{step}{sending}"));
                bar.enable_steady_tick(TICK);
                self.hosts.insert(host.clone(), bar);
            }
            ApplyEvent::StepDone { host, number, next, .. } => {
                if let Some(bar) = self.hosts.get(host) {
                    bar.set_position(u64::try_from(*number).unwrap_or(0));
                    bar.set_message(next.clone().unwrap_or_default());
                }
            }
            ApplyEvent::HostDone { host, .. } | ApplyEvent::HostFailed { host, .. } => {
                if let Some(bar) = self.hosts.remove(host) {
                    bar.finish_and_clear();
                }
            }
            ApplyEvent::Fetching { artifact } => {
                let bar = self.all.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("   {spinner} {prefix} {wide_msg}") {
                    bar.set_style(style);
                }
                bar.set_prefix(artifact.clone());
                bar.enable_steady_tick(TICK);
                self.artifacts.insert(artifact.clone(), bar);
            }
            ApplyEvent::FetchProgress { artifact, bytes, total } => {
                if let Some(bar) = self.artifacts.get(artifact) {
                    let of = total.map(|total| format!(" of {}", HumanBytes(total))).unwrap_or_default();
                    bar.set_message(format!("{}{of}", HumanBytes(*bytes)));
                }
            }
            ApplyEvent::Fetched { artifact, .. } => {
                if let Some(bar) = self.artifacts.remove(artifact) {
                    bar.finish_and_clear();
                }
            }
            ApplyEvent::StageStarted { .. }
            | ApplyEvent::HostStarted { .. }
            | ApplyEvent::Note { .. }
            | ApplyEvent::Skipped { .. } => {}
        }
        if let Some(line) = line(event) {
            // Lines scroll above the bars.
            self.all.suspend(|| out.note(line));
        }
    }
}
