//! `aesop schema`.

use super::{Context, Exit};
use crate::inventory::schema;

/// Flags of `aesop schema`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// As the reference in Markdown instead
    #[arg(long)]
    markdown: bool,
}

#[expect(clippy::unused_async, reason = "every subcommand has the same shape")]
pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    if args.markdown {
        cx.out.raw(schema::markdown())?;
    } else {
        cx.out.json(&schema::json_schema())?;
    }
    Ok(Exit::Done)
}
