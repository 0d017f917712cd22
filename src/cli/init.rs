//! `aesop init`.

use super::{Context, Exit};
use anyhow::Context as _;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Flags of `aesop init`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The folder to write `inventory/<name>.yml` into; made if missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Name of the cluster
    #[arg(long, value_name = "NAME", default_value = "shop")]
    name: String,
}

/// The example that the tests check, with every role in it.
const EXAMPLE: &str = include_str!("../../inventory/example.yml");
/// Generated secrets lie beside the inventory and never belong into version control.
const IGNORE: &str = "# Secrets that aesop generated.\n*.secrets/\n";

#[expect(clippy::unused_async, reason = "every subcommand has the same shape")]
pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let folder = args.directory.join("inventory");
    let file = folder.join(format!("{}.yml", args.name));
    let text = EXAMPLE.replace("cluster: shop", &format!("cluster: {}", args.name));
    // A name that the inventory refuses is refused before anything is written.
    crate::inventory::parse(&file, text.as_bytes(), &|path| std::fs::read_to_string(path))
        .with_context(|| format!("`{}` cannot be the name of a cluster", args.name))?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    create(&file, &text)?;
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        create(&ignore, IGNORE)?;
    }
    cx.out.data(file.display())?;
    cx.out.note("next: put in your addresses, then `aesop check`, `aesop plan`, `aesop apply`");
    Ok(Exit::Done)
}

/// Writes a new file; an existing one stays as it is.
fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            anyhow::bail!("{} is there already; nothing was changed", path.display())
        }
        other => other.with_context(|| format!("cannot write {}", path.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
