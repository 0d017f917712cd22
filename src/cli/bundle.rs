//! `aesop bundle`.

use super::progress::render;
use super::{Context, Exit};
use crate::apply::fetch_all;
use crate::artifact::Store;
use crate::service::wanted_artifacts;
use anyhow::Context as _;
use indicatif::HumanBytes;
use std::path::PathBuf;

/// Flags of `aesop bundle`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The archive to write
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let store = tokio::task::block_in_place(|| Store::open(&wanted_artifacts(&inventory)))?;
    let (events, receiver) = tokio::sync::mpsc::channel(super::carry::EVENTS);
    let rendering = tokio::spawn(render(cx.out, receiver));
    let fetched = fetch_all(&store, store.ids().0.values().cloned().collect(), &events).await;
    drop(events);
    rendering.await.context("the progress display failed")?;
    let pieces = fetched?;
    let write = || store.bundle(&inventory.cluster, &pieces, &args.output);
    let bytes = tokio::task::block_in_place(write)?;
    let (count, file) = (pieces.len(), args.output.display());
    cx.out.note(format!(
        "{file}: {count} artifacts, {}. On a machine without a network: `tar -xf {file} bin`, then `bin/aesop apply \
         --bundle {file}`.",
        HumanBytes(bytes)
    ));
    Ok(Exit::Done)
}
