//! `aesop recover-lock`.

use super::deployment::gather;
use super::{Context, Exit, remote};
use crate::apply::lock_copies;
use crate::lock::{Lock, LockError, path_for};
use anyhow::{bail, ensure};
use std::collections::BTreeMap;

/// Flags of `aesop recover-lock`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Go on although a host cannot be asked: an id that only it knows of may be given again
    #[arg(long)]
    accept_missing: bool,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let path = path_for(&inventory.path);
    ensure!(
        !path.exists(),
        "{} is there; recover-lock makes one only where it is lost. Move it away if it is damaged",
        path.display()
    );
    let connect = remote::connector(&inventory)?;
    let answers = lock_copies(&connect, &inventory.hosts, usize::from(cx.globals.parallel)).await;
    let (mut copies, mut missing) = (BTreeMap::new(), 0);
    for (host, answer) in answers {
        match answer {
            Ok(Some(text)) => drop(copies.insert(host, text)),
            Ok(None) => cx.out.note(format!("{host} has no copy: nothing was ever deployed there")),
            Err(error) => {
                missing += 1;
                cx.out.error(&error.into());
            }
        }
    }
    ensure!(
        missing == 0 || args.accept_missing,
        "{missing} hosts cannot be asked, and may know of newer ids; try again when they answer, or give --accept-missing"
    );
    let Some((generation, lock)) = Lock::newest(&copies)? else {
        bail!("no host has a copy of the lock file; if nothing was deployed, `aesop apply` makes a new one");
    };
    if lock.cluster != inventory.cluster {
        return Err(LockError::OtherCluster { path, theirs: lock.cluster, ours: inventory.cluster }.into());
    }
    lock.save(&path)?;
    cx.out.note(format!(
        "{} is as it was in generation {generation}, by the copies of {} hosts",
        path.display(),
        copies.len()
    ));
    // What hosts say about themselves is the last word.
    let gathered = gather(cx, &inventory, None).await?;
    for refusal in &gathered.plan.refused {
        cx.out.error(&anyhow::anyhow!("{refusal}"));
    }
    let agree = gathered.plan.refused.is_empty();
    gathered.session.close().await;
    if agree {
        cx.out.note("The hosts' own ids agree with it. Look at `aesop plan`, then commit it.");
    }
    Ok(if agree { Exit::Done } else { Exit::Failed })
}
