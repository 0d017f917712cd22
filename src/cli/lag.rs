//! `aesop lag`.

use super::{Context, Exit, remote};
use crate::alert::{Composer, Smtp, Spool};
use crate::clock::{Clock, SystemClock};
use crate::lag::{Collector, LagReport, Level, Thresholds, compute, lag_mail, text};
use crate::monitor::config::{EmailConfig, MonitorConfig};
use crate::monitor::load_config;
use anyhow::Context as _;
use std::path::PathBuf;
use std::time::Duration;

/// A partition that seems behind is looked at again after this: a row on its way for one second is no lag.
const SECOND_LOOK: Duration = Duration::from_secs(3);
/// How long the mail may take to go out; what is left goes out with the next report.
const DELIVERY: Duration = Duration::from_secs(200);
/// On the monitor host, the delivery of the mail included.
const REMOTE: Duration = Duration::from_mins(5);
const DELIVERY_PAUSE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Read what this monitor configuration names, from this host; without it the inventory's monitor host reads
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Send the report by mail; it is sent whatever could not be read, and says so
    #[arg(long)]
    email: bool,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let Some(config) = args.config else {
        let mut arguments = vec!["lag", "--config", "/etc/aesop/monitor.yml"];
        arguments.extend(args.email.then_some("--email"));
        return remote::on_monitor(cx, &arguments, REMOTE).await;
    };
    let config = load_config(&config)?;
    let collector = Collector::new(&config)?;
    let mut report = look(&collector, &config).await;
    if report.level != Level::Info && report.problems.is_empty() {
        tokio::time::sleep(SECOND_LOOK).await;
        let again = look(&collector, &config).await;
        report = if again.level <= report.level { again } else { report };
    }
    if cx.out.is_json() {
        cx.out.json(&report)?;
    } else {
        cx.out.data(text(&report))?;
    }
    for problem in &report.problems {
        cx.out.warning(problem);
    }
    if args.email {
        let email = config.email.as_ref().context("monitor.yml has no email: nobody to send to")?;
        send(&config, email, &report).await?;
        cx.out.note("lag mail sent");
    }
    Ok(if report.problems.is_empty() || args.email { Exit::Done } else { Exit::Failed })
}

async fn look(collector: &Collector, config: &MonitorConfig) -> LagReport {
    let readings = collector.read().await;
    let thresholds = Thresholds::from(&config.lag_report);
    compute(&config.cluster, &config.groups, &readings, thresholds, SystemClock.now())
}

async fn send(config: &MonitorConfig, email: &EmailConfig, report: &LagReport) -> anyhow::Result<()> {
    let composer = Composer::new(&config.cluster, &config.host, config.url.as_deref(), &email.from)?;
    let to = if config.lag_report.to.is_empty() { &email.to } else { &config.lag_report.to };
    let mail = lag_mail(&composer, report, to)?;
    // A spool of its own: the monitor delivers the other one at the same time.
    let spool = Spool::open(&config.data_dir.join("lag-spool"))?;
    spool.put(&mail.id, &email.from, to, &mail.bytes, SystemClock.now())?;
    let smtp = Smtp::new(email)?;
    let started = SystemClock.instant();
    loop {
        spool.deliver(&smtp, SystemClock.now()).await?;
        let status = spool.status()?;
        if status.waiting == 0 {
            return Ok(());
        }
        if started.elapsed() > DELIVERY {
            let reason = status.last_error.unwrap_or_default();
            anyhow::bail!(
                "the lag mail waits in {} for the next report: {reason}",
                config.data_dir.display()
            );
        }
        tokio::time::sleep(DELIVERY_PAUSE).await;
    }
}
