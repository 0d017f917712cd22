//! `aesop completions`.

use super::{Context, Exit};

/// Flags of `aesop completions`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[expect(clippy::unused_async, reason = "every subcommand has the same shape")]
pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "aesop", &mut script);
    cx.out.raw(String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
