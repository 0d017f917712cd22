//! `aesop init`: an inventory to start from. What hosts can be asked, nobody has to type.

mod ask;
mod text;

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
    /// Hosts to ask, over SSH, what they are: names, aliases of ~/.ssh/config, addresses; the inventory is made of them
    #[arg(value_name = "HOST")]
    hosts: Vec<String>,
    /// Name of the cluster
    #[arg(long, value_name = "NAME", default_value = "shop")]
    name: String,
}

/// The example that the tests check, with every role in it.
const EXAMPLE: &str = include_str!("../../../inventory/example.yml");
/// Generated secrets lie beside the inventory and never belong into version control.
const IGNORE: &str = "# Secrets that aesop generated.\n*.secrets/\n";

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let folder = args.directory.join("inventory");
    let file = folder.join(format!("{}.yml", args.name));
    if file.exists() {
        anyhow::bail!(there_already(&file));
    }
    let named = EXAMPLE.replace("cluster: shop", &format!("cluster: {}", args.name));
    // A name that the inventory refuses is refused before anything is asked or written.
    check(&file, &named).with_context(|| format!("`{}` cannot be the name of a cluster", args.name))?;
    let text = if args.hosts.is_empty() { named } else { asked(&args.hosts, &named, cx).await? };
    check(&file, &text).context("no inventory can be made of these hosts")?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    create(&file, &text)?;
    let ignore = folder.join(".gitignore");
    if !ignore.exists() {
        create(&ignore, IGNORE)?;
    }
    cx.out.data(file.display())?;
    let yours = if args.hosts.is_empty() { "addresses" } else { "sources and mail addresses" };
    cx.out.note(format!("next: put in your {yours}, then `aesop check`, `aesop plan`, `aesop apply`"));
    Ok(Exit::Done)
}

/// The example with hosts that were asked, and says what they answered.
async fn asked(hosts: &[String], example: &str, cx: &Context) -> anyhow::Result<String> {
    let found = ask::all(hosts, usize::from(cx.globals.parallel)).await?;
    for found in &found {
        match &found.words {
            Ok(words) => cx.out.note(format!("{} ({}): {words}", found.host.name, found.host.address)),
            // It names the host itself.
            Err(why) => cx.out.warning(why),
        }
    }
    Ok(text::with_hosts(example, &found))
}

fn check(file: &Path, text: &str) -> anyhow::Result<()> {
    crate::inventory::parse(file, text.as_bytes(), &|path| std::fs::read_to_string(path))?;
    Ok(())
}

fn there_already(path: &Path) -> String {
    format!("{} is there already; nothing was changed", path.display())
}

/// Writes a new file; an existing one stays as it is.
fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = match file {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            anyhow::bail!(there_already(path))
        }
        other => other.with_context(|| format!("cannot write {}", path.display()))?,
    };
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}
