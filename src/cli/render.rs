//! `aesop render`.

use super::{Context, Exit};
use crate::apply::Prepared;
use anyhow::Context as _;
use std::path::PathBuf;

/// Flags of `aesop render`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Folder to write to: `DIR/<host>/etc/…`. Secrets are written as `(secret)`
    directory: PathBuf,
}

#[expect(clippy::unused_async, reason = "every subcommand has the same shape")]
pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let selected = cx.hosts(&inventory)?;
    let prepared = tokio::task::block_in_place(|| Prepared::new(&inventory))?;
    let mut count = 0;
    for (host, state) in prepared.desired.iter().filter(|(host, _)| selected.contains(*host)) {
        for file in state.files() {
            let path = args.directory.join(host).join(file.path.trim_start_matches('/'));
            let folder = path.parent().unwrap_or(&args.directory);
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            let content: &[u8] = if file.secret { b"(secret)\n" } else { &file.content };
            std::fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
            count += 1;
        }
    }
    cx.out.note(format!("{count} files in {}", args.directory.display()));
    Ok(Exit::Done)
}
