//! `aesop lost-disk`.

use super::{Context, Exit};
use crate::lock::{Lock, path_for};
use anyhow::ensure;

/// Flags of `aesop lost-disk`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The host, by its name in the inventory
    #[arg(value_name = "HOST")]
    host: String,
}

// What the others count on is noted in the lock file, and there it is taken back: the next plan says what follows.
#[expect(clippy::unused_async, reason = "every subcommand is")]
pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let path = path_for(&inventory.path);
    let mut lock = Lock::load(&path, &inventory.cluster)?;
    let host = &args.host;
    ensure!(
        lock.ensemble.remove(host),
        "{host} is not known to have data of ZooKeeper; those that have are {}",
        if lock.ensemble.is_empty() {
            "none".to_owned()
        } else {
            lock.ensemble.iter().cloned().collect::<Vec<_>>().join(", ")
        }
    );
    lock.save(&path)?;
    cx.out.note(format!(
        "{} says now that {host} may come back with nothing; nothing else was changed. `aesop plan` shows what follows.",
        path.display()
    ));
    Ok(Exit::Done)
}
