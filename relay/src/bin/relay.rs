//! `aesop-relay`: reads MySQL binlogs, keeps them in an event log, serves them to consumers; and `tail`, which shows
//! a server's changes at once.

use clap::Parser;
use relay::cli::{Relay as Cli, RelayCommand as Command};
use relay::log::Scan;
use relay::wire::BlockItem;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let result = runtime.block_on(async {
        let shutdown = CancellationToken::new();
        cancel_on_signal(&shutdown)?;
        match cli.command {
            Command::Run { config } => {
                relay::telemetry::init_logs("info");
                Ok(relay::run::run(relay::run::load(&config)?, shutdown).await?)
            }
            Command::Log { dir, rows } => show_log(&dir, rows),
            Command::Tail(args) => relay::tail::run(*args, shutdown).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    drop(writeln!(std::io::stderr(), "error: {error:#}"));
    ExitCode::FAILURE
}

/// The first SIGTERM or SIGINT asks for a clean end; a second one ends at once.
fn cancel_on_signal(shutdown: &CancellationToken) -> anyhow::Result<()> {
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if shutdown.is_cancelled() {
                std::process::abort();
            }
            shutdown.cancel();
        }
    });
    Ok(())
}

/// One line a transaction, covered mark and, if wanted, row; tab-separated.
fn show_log(dir: &Path, rows: bool) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for scanned in Scan::open(dir)? {
        let scanned = scanned?;
        let mut repeated = scanned.block.header().begins_inside;
        for item in scanned.block.items() {
            match item {
                BlockItem::Txn(_) if std::mem::take(&mut repeated) => {}
                BlockItem::Txn(txn) => {
                    let (start, place) = (&txn.start, scanned.place);
                    let gtid = start.gtid.as_deref().unwrap_or("-");
                    let (position, end, count) = (start.position, txn.end_offset, txn.rows);
                    let (segment, offset) = (place.segment, place.offset);
                    writeln!(
                        out,
                        "txn\t{position}\t{}\t{end}\t{gtid}\t{count}\t{segment}:{offset}",
                        start.file_name
                    )?;
                }
                BlockItem::Row { txn, row, change } if rows => {
                    let (position, schema) = (txn.start.position, change.schema);
                    let (before, after) = (change.before.len(), change.after.len());
                    let (op, hash) = (change.op, change.key_hash);
                    let table = format!("{}.{}", schema.database, schema.table);
                    writeln!(out, "row\t{position}\t{row}\t{op:?}\t{table}\t{hash:016x}\t{before}\t{after}")?;
                }
                BlockItem::Row { .. } => {}
                BlockItem::Covered { position, commit_time_us } => {
                    writeln!(out, "covered\t{position}\t{commit_time_us}")?;
                }
            }
        }
    }
    out.flush()?;
    Ok(())
}
