//! `aesop man`.

use super::{Context, Exit};
use anyhow::Context as _;
use clap::CommandFactory as _;
use std::path::PathBuf;

/// Flags of `aesop man`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Where to, for instance `/usr/local/share/man/man1`
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[expect(clippy::unused_async, reason = "every subcommand has the same shape")]
pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let folder = &args.directory;
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (relay, consumer) = (relay::cli::Relay::command(), relay::cli::Consumer::command());
    for program in [super::command(), relay, consumer] {
        clap_mangen::generate_to(program, folder)
            .with_context(|| format!("cannot write man pages to {}", folder.display()))?;
    }
    cx.out.note(format!(
        "man pages are in {}; `man {}/aesop.1` shows one",
        folder.display(),
        folder.display()
    ));
    Ok(Exit::Done)
}
