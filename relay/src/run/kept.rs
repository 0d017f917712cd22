//! Small JSON files that a source keeps beside its log.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// What the file says; nothing where it is not there or not whole.
pub(super) fn read<T: DeserializeOwned>(dir: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&std::fs::read(dir.join(name)).ok()?).ok()
}

/// Replaces the file as a whole.
pub(super) fn write(dir: &Path, name: &str, value: &impl Serialize) -> std::io::Result<()> {
    let partial = dir.join(format!("{name}.partial"));
    std::fs::write(&partial, serde_json::to_vec(value)?)?;
    std::fs::rename(partial, dir.join(name))
}
