//! `aesop logs`.

use super::{Context, Exit, remote};
use crate::host::{Call, Command, Connect, HostError};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// Reading what is there is quick.
const READ_LIMIT: Duration = Duration::from_mins(2);
/// Following ends with Ctrl-C, or with the first line after its reader went away; this only keeps a forgotten one from running for ever.
const FOLLOW_LIMIT: Duration = Duration::from_hours(24 * 7);

/// What journalctl says where no unit fits the pattern.
const NO_SUCH_UNIT: &str = "Failed to add filter for units: No data available";

/// Flags of `aesop logs`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Only these services: kafka, zookeeper, relay, consumer/<group>, agent, monitor
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// Begin with this many lines of each host
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    lines: u32,
    /// Begin here: `-1h`, `2026-11-22 19:00`, as journalctl takes it
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    since: Option<String>,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let selected = cx.hosts(&inventory)?;
    let connect = remote::connector(&inventory)?;
    let (argv, connect, follow) = (argv(&args), &connect, args.follow);
    let (unprinted, end) = (Mutex::new(None), Notify::new());
    let (unprinted, end) = (&unprinted, &end);
    let hosts = inventory.hosts.iter().filter(|(name, _)| selected.contains(*name));
    // All at once, whatever `--parallel` says: a followed log never makes room for the next.
    let reading = hosts.map(|(name, host)| {
        let command = if follow { Command::Follow(argv.clone()) } else { Command::Argv(argv.clone()) };
        let call = Call { command, timeout: if follow { FOLLOW_LIMIT } else { READ_LIMIT } };
        async move {
            let connection = connect.connect(host).await?;
            let print = |line: &str| {
                if let Err(error) = cx.out.data(format_args!("{name}: {line}")) {
                    *unprinted.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    end.notify_one();
                }
            };
            let output = connection.call(call, &print).await;
            connection.close().await;
            let output = output?;
            // A host without such a unit has nothing to say, and that is no failure.
            if output.status != Some(0) && !output.stderr.contains(NO_SUCH_UNIT) {
                let detail = output.stderr.trim().to_owned();
                return Err(HostError::Failed { host: name.clone(), what: "journalctl".to_owned(), detail });
            }
            Ok(())
        }
    });
    let results: Vec<Result<(), HostError>> = tokio::select! {
        results = futures_util::future::join_all(reading) => results,
        () = end.notified() => Vec::new(),
    };
    // A reader that went away (`| head`) ends all of it, on all hosts; so does a disk that is full.
    if let Some(error) = unprinted.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(error);
    }
    let mut exit = Exit::Done;
    for error in results.into_iter().filter_map(Result::err) {
        cx.out.error(&error.into());
        exit = Exit::Failed;
    }
    Ok(exit)
}

fn argv(args: &Args) -> Vec<String> {
    let mut argv: Vec<String> = ["journalctl", "--no-pager", "-o", "short-iso"].map(str::to_owned).to_vec();
    argv.push(format!("--lines={}", args.lines));
    if args.follow {
        argv.push("--follow".to_owned());
    }
    argv.extend(args.since.iter().map(|since| format!("--since={since}")));
    if args.services.is_empty() {
        argv.push("--unit=aesop-*".to_owned());
    }
    // `consumer/kafka-json` runs as aesop-consumer@kafka-json.
    argv.extend(args.services.iter().map(|service| format!("--unit=aesop-{}*", service.replace('/', "@"))));
    argv
}
