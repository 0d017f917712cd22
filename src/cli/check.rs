//! `aesop check`.

use super::{Context, Exit};
use crate::inventory::model::Inventory;
use crate::inventory::{InventoryError, load, warnings};
use crate::lock::{Lock, path_for};
use serde_json::{Value, json};

/// Flags of `aesop check`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {}

#[expect(clippy::unused_async, reason = "every subcommand has the same shape")]
pub(super) async fn run(_: Args, cx: &Context) -> anyhow::Result<Exit> {
    let path = cx.inventory_path()?;
    let inventory = match load(&path) {
        Ok(inventory) => inventory,
        Err(error) if cx.out.is_json() => {
            cx.out.json(&faults(&error))?;
            return Ok(Exit::Failed);
        }
        Err(error) => return Err(error.into()),
    };
    Lock::load(&path_for(&path), &inventory.cluster)?;
    let warnings = warnings(&inventory);
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
