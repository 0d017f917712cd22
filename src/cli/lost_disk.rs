//! `aesop lost-disk`.

use super::carry::confirmed;
use super::{Context, Exit, UsageError, journal};
use crate::lock::{Lock, path_for};
use anyhow::ensure;
use std::io::IsTerminal;

/// Flags of `aesop lost-disk`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// The host, by its name in the inventory
    #[arg(value_name = "HOST")]
    host: String,
    /// Whose data is lost: zookeeper, kafka, or both; may be left out where the host has one of them
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Do not ask: the host's name once more
    #[arg(long, value_name = "HOST")]
    confirm: Option<String>,
}

// What the others count on is noted in the lock file, and there it is taken back: the next plan says what follows.
#[expect(clippy::unused_async, reason = "every subcommand is")]
pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    let path = path_for(&inventory.path);
    let mut lock = Lock::load(&path, &inventory.cluster)?;
    let Args { host, services, confirm } = args;
    let services = meant(&lock, &host, services)?;
    let words = services.join(" and ");
    cx.out.warning(format!(
        "this says that all data of {words} on {host} is GONE FOR GOOD. What the others do not have is lost, and if \
         its disk is only not mounted, mount it instead."
    ));
    let sure = if let Some(name) = confirm {
        name == host
    } else {
        if !std::io::stdin().is_terminal() {
            let message = format!(
                "lost-disk asks for the host's name, and stdin is no terminal; give `--confirm {host}`"
            );
            return Err(UsageError(message).into());
        }
        confirmed(&format!("Type the name of the host, {host}, to say so: "), &host)?
    };
    if !sure {
        cx.out.note("That is not its name. Nothing was changed.");
        return Ok(Exit::Failed);
    }
    for service in &services {
        lock.lose_disk(&host, service);
    }
    lock.save(&path)?;
    journal::note(cx, &inventory, "lost-disk", &format!("data of {words} on {host}"), &[]);
    cx.out.note(format!(
        "{} says now that {words} on {host} may begin with nothing; nothing else was changed. `aesop plan` shows what follows.",
        path.display()
    ));
    Ok(Exit::Done)
}

/// The services that are meant. Where there are two, somebody must say which: they may be on different disks.
fn meant(lock: &Lock, host: &str, given: Vec<String>) -> anyhow::Result<Vec<String>> {
    let have = lock.with_data(host);
    ensure!(
        !have.is_empty(),
        "{host} is not known to have data of ZooKeeper or Kafka; look at its name in the inventory"
    );
    if let Some(other) = given.iter().find(|service| !have.contains(&service.as_str())) {
        let message = format!("{host} has no data of `{other}`; it has {}", have.join(" and "));
        return Err(UsageError(message).into());
    }
    if given.is_empty() && have.len() > 1 {
        let all = have.join(" ");
        let message = format!(
            "{host} has data of {}: say whose is lost, as in `aesop lost-disk {host} {all}` for both",
            have.join(" and ")
        );
        return Err(UsageError(message).into());
    }
    Ok(if given.is_empty() { have.into_iter().map(str::to_owned).collect() } else { given })
}
