//! The monitor.

pub mod config;

use config::MonitorConfig;
use std::path::{Path, PathBuf};

/// Why the monitor could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A file it needs.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `monitor.yml` is wrong.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_yaml::Error,
    },
}

/// Reads `monitor.yml`.
pub fn load_config(path: &Path) -> Result<MonitorConfig, MonitorError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| MonitorError::Read { path: path.to_owned(), source })?;
    serde_yaml::from_str(&text).map_err(|source| MonitorError::Config { path: path.to_owned(), source })
}
