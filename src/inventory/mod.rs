//! The inventory: one YAML file that says what runs where.
//!
//! Its life: bytes → [`parse`] (YAML, then the raw shapes; goes on after an error) → `validate` (defaults,
//! references, conflicts) → [`model::Inventory`]. Every error names file, line and column, shows the line and says
//! what to do; one run reports all of them.

mod de;
mod defaults;
mod error;
mod extra;
mod fault;
mod locate;
pub mod model;
mod node;
mod parse;
mod quantity;
mod raw;
mod schedule;
pub mod schema;
mod select;
#[cfg(test)]
mod tests;
mod validate;
mod value;

pub use error::{Diagnostic, InventoryError, Place};
pub use select::{SelectError, select};

use fault::Faults;
use model::Inventory;
use std::path::Path;

/// ZooKeeper versions that aesop can install; the pinned artifacts of the same names belong to them.
pub const ZOOKEEPER_VERSIONS: &[&str] = &["3.9.3", "3.9.4"];
/// Kafka versions that aesop can install.
pub const KAFKA_VERSIONS: &[&str] = &["3.9.0", "3.9.1", "4.1.1", "4.2.0"];

/// Reads a duration as inventories have them: `30s`, `5m`, `2h`, `1d`.
pub fn duration(text: &str) -> Result<std::time::Duration, String> {
    quantity::duration(text).map_err(str::to_owned)
}

/// Reads an inventory from a file.
pub fn load(path: &Path) -> Result<Inventory, InventoryError> {
    let bytes = std::fs::read(path).map_err(|error| {
        let help = "name it with `-i FILE` or in AESOP_INVENTORY".to_owned();
        let message = format!("cannot read the inventory: {error}");
        whole(path, Diagnostic { message, place: None, help: Some(help) })
    })?;
    parse(path, &bytes, &|file| std::fs::read_to_string(file))
}

/// Reads an inventory from `bytes`; `path` is for messages and for relative paths, `read` for the rule file.
pub fn parse(
    path: &Path,
    bytes: &[u8],
    read: &dyn Fn(&Path) -> std::io::Result<String>,
) -> Result<Inventory, InventoryError> {
    let text = parse::text(bytes).map_err(|fault| whole(path, fault))?;
    let mut root = parse::tree(text).map_err(|fault| whole(path, fault))?;
    let (raw, mut diagnostics, harmless) = parse::raw(text, &mut root);
    let mut inventory = None;
    // After a fault that may have cut out a host or a source, dangling references would be guesses.
    if let Some(raw) = raw.filter(|_| harmless) {
        let mut faults = Faults::new(text, &root);
        inventory = Some(validate::validate(&raw, path, read, &mut faults));
        diagnostics.extend(faults.into_sorted());
        diagnostics.sort_by_key(|fault| fault.place.as_ref().map(|place| (place.line, place.column)));
    }
    match inventory {
        Some(inventory) if diagnostics.is_empty() => Ok(inventory),
        _ => Err(InventoryError { path: path.to_owned(), diagnostics }),
    }
}

fn whole(path: &Path, fault: Diagnostic) -> InventoryError {
    InventoryError { path: path.to_owned(), diagnostics: vec![fault] }
}

/// What is allowed and rarely meant.
pub fn warnings(inventory: &Inventory) -> Vec<String> {
    let mut warnings = Vec::new();
    let ensemble = inventory.zookeeper.as_ref().map_or(0, |role| role.members.len());
    if ensemble > 0 && ensemble.is_multiple_of(2) {
        let fewer = ensemble - 1;
        warnings.push(format!(
            "{ensemble} ZooKeeper hosts stand the loss of no more hosts than {fewer} would; have an odd number"
        ));
    }
    if inventory.kafka.as_ref().is_some_and(|role| role.members.len() == 2 && role.controllers.is_none()) {
        warnings.push("2 Kafka hosts have one controller: without it the other broker stops too".to_owned());
    }
    for (name, source) in &inventory.sources {
        let read = inventory.consumers.values().any(|group| group.sources.contains(name));
        if !read {
            warnings.push(format!("no consumer group reads source `{name}`"));
        }
        if source.mysql.password.is_none() {
            warnings.push(format!("source `{name}` has no password"));
        }
    }
    if inventory.monitor.as_ref().is_some_and(|role| role.email.is_none()) {
        warnings.push("the monitor has no `email`: alerts and lag reports are only shown".to_owned());
    }
    warnings
}
