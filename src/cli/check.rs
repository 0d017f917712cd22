//! `aesop check`.

use super::preflight;
use super::{Context, Exit};
use crate::inventory::model::Inventory;
use crate::inventory::{InventoryError, load, warnings};
use crate::lock::{Lock, path_for};
use crate::rule::RuleSet;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Flags of `aesop check`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Ask the hosts too: system, disks, memory, ports, clock, Java, sudo, and whether they reach each other
    #[arg(long)]
    hosts: bool,
    /// Connect to the databases of `sources` from here: rights, binlog settings
    #[arg(long)]
    sources: bool,
    /// Judge what hosts said, saved in a file, instead of asking them
    #[arg(long, hide = true, value_name = "FILE", requires = "hosts")]
    observed: Option<PathBuf>,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let path = cx.inventory_path()?;
    let inventory = match load(&path) {
        Ok(inventory) => inventory,
        Err(error) if cx.out.is_json() => {
            cx.out.json(&faults(&error))?;
            return Ok(Exit::Failed);
        }
        Err(error) => return Err(error.into()),
    };
    let lock = Lock::load(&path_for(&path), &inventory.cluster)?;
    if let Some(rules) = inventory.monitor.as_ref().and_then(|monitor| monitor.rules.as_ref()) {
        RuleSet::with_file("monitor.rules", rules)?;
    }
    if args.hosts {
        return preflight::hosts(cx, &inventory, args.observed.as_deref()).await;
    }
    if args.sources {
        return preflight::sources(cx, &inventory).await;
    }
    let mut warnings = warnings(&inventory);
    warnings.extend(lock.outgrown(&inventory));
    if cx.out.is_json() {
        let mut summary = json!({ "ok": true, "cluster": inventory.cluster, "warnings": warnings });
        for (name, count) in counts(&inventory) {
            if let Some(map) = summary.as_object_mut() {
                map.insert(name.replace(' ', "_"), count.into());
            }
        }
        cx.out.json(&summary)?;
        return Ok(Exit::Done);
    }
    for warning in warnings {
        cx.out.warning(warning);
    }
    let parts: Vec<String> = counts(&inventory)
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| match name {
            // Names of software have no plural.
            "zookeeper" | "kafka" => format!("{count} {name}"),
            _ if count == 1 => format!("{count} {}", name.trim_end_matches('s')),
            _ => format!("{count} {name}"),
        })
        .collect();
    cx.out.data(format!("ok: {}", parts.join(", ")))?;
    Ok(Exit::Done)
}

fn counts(inventory: &Inventory) -> Vec<(&'static str, usize)> {
    vec![
        ("hosts", inventory.hosts.len()),
        ("zookeeper", inventory.zookeeper.as_ref().map_or(0, |role| role.members.len())),
        ("kafka", inventory.kafka.as_ref().map_or(0, |role| role.members.len())),
        ("sources", inventory.sources.len()),
        ("relays", inventory.relays.as_ref().map_or(0, |role| role.members.len())),
        ("consumer groups", inventory.consumers.len()),
        ("monitors", inventory.monitor.as_ref().map_or(0, |role| role.hosts.len())),
    ]
}

fn faults(error: &InventoryError) -> Value {
    let errors: Vec<Value> = error
        .diagnostics
        .iter()
        .map(|fault| {
            json!({
                "file": error.path.display().to_string(),
                "line": fault.place.as_ref().map(|place| place.line),
                "column": fault.place.as_ref().map(|place| place.column),
                "message": fault.message,
                "help": fault.help,
            })
        })
        .collect();
    json!({ "ok": false, "errors": errors })
}
