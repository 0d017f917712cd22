//! `aesop-consumer`: a member of a consumer group.

use anyhow::Context as _;
use clap::Parser;
use relay::cli::{Consumer, ConsumerCommand};
use relay::config::ConsumerConfig;
use std::path::Path;
use tokio::signal::unix::{SignalKind, signal};

/// Takes a tenth off the consumer's CPU: the system's gives memory back and takes it again for each burst of records.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let ConsumerCommand::Run { config } = Consumer::parse().command;
    relay::telemetry::init_logs("info");
    let config = load(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
        let shutdown = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        relay::consumer::run(config, shutdown).await?;
        anyhow::Ok(())
    })?;
    // A thread that still waits for a broker must not hold the process.
    runtime.shutdown_background();
    Ok(())
}

fn load(path: &Path) -> anyhow::Result<ConsumerConfig> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_yaml::from_str(&text).with_context(|| format!("{} is not a valid consumer.yml", path.display()))
}
