//! `aesop import`.

use super::{Context, Exit};
use crate::import::{Tree, ansible, convert, vars};
use anyhow::Context as _;
use std::path::{Path, PathBuf};

/// Flags of `aesop import`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    from: From,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum From {
    /// An Ansible inventory (INI or YAML) of cp-ansible's kind, with the `group_vars/` and `host_vars/` beside it
    Ansible {
        /// The inventory
        file: PathBuf,
        /// Name of the cluster
        #[arg(long, default_value = "kafka")]
        cluster: String,
    },
}

#[expect(clippy::unused_async, reason = "every subcommand has the same shape")]
pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let From::Ansible { file, cluster } = args.from;
    let name = file.display().to_string();
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
    let mut tree = ansible(&name, &text)?;
    beside(&mut tree, file.parent().unwrap_or(Path::new(".")))?;
    let imported = convert(&name, &tree, &cluster)?;
    cx.out.raw(&imported.inventory)?;
    if !imported.left_out.is_empty() {
        cx.out.warning(format!("{} things are not in it:", imported.left_out.len()));
    }
    for line in &imported.left_out {
        cx.out.note(format!("  - {line}"));
    }
    Ok(Exit::Done)
}

/// Adds the variables of files and folders named like groups and hosts; weaker than what the inventory says.
fn beside(tree: &mut Tree, folder: &Path) -> anyhow::Result<()> {
    let groups: Vec<String> = tree.groups.keys().cloned().chain(["all".to_owned()]).collect();
    for name in groups {
        let found = read(&folder.join("group_vars"), &name)?;
        let group = tree.groups.entry(name).or_default();
        group.vars = found.into_iter().chain(std::mem::take(&mut group.vars)).collect();
    }
    for (name, own) in &mut tree.hosts {
        let found = read(&folder.join("host_vars"), name)?;
        *own = found.into_iter().chain(std::mem::take(own)).collect();
    }
    Ok(())
}

/// `<folder>/<name>`, with an ending or without, or all files of a folder of that name.
fn read(folder: &Path, name: &str) -> anyhow::Result<crate::import::Vars> {
    let mut files: Vec<PathBuf> = ["", ".yml", ".yaml", ".json"]
        .map(|ending| folder.join(format!("{name}{ending}")))
        .into_iter()
        .filter(|path| path.is_file())
        .collect();
    for entry in std::fs::read_dir(folder.join(name)).into_iter().flatten() {
        files.push(entry?.path());
    }
    files.sort();
    let mut all = crate::import::Vars::new();
    for file in files.iter().filter(|path| path.is_file()) {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        all.extend(vars(&file.display().to_string(), &text)?);
    }
    Ok(all)
}
