//! The place that `tail --checkpoint` keeps in a file.

use crate::mysql::{LastTransaction, Start};
use crate::position::Position;
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::Path;

/// Everything up to here is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The server that the place belongs to.
    pub(super) server_uuid: String,
    /// The last transaction shown.
    pub(super) after: Option<LastTransaction>,
    /// A later place, up to which nothing of interest came.
    pub(super) covered: Option<Position>,
    /// A snapshot was begun and not finished: there is no place to go on from.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) snapshot_unfinished: bool,
}

impl Checkpoint {
    /// Reads the file; none when it does not exist yet.
    pub(super) fn load(path: &Path) -> anyhow::Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read the checkpoint {}", path.display()));
            }
        };
        let found: Self = serde_json::from_slice(&text).with_context(|| {
            format!("the checkpoint {} is damaged: give --from, or remove it", path.display())
        })?;
        if found.snapshot_unfinished {
            anyhow::bail!(
                "the snapshot that the checkpoint {} belongs to was not finished: take it again with --from snapshot, or \
                 begin elsewhere with another --from",
                path.display()
            );
        }
        Ok(Some(found))
    }

    pub(super) fn start(&self) -> Start {
        match (&self.after, self.covered) {
            (Some(after), Some(covered)) if covered > after.position => Start::At(covered),
            (Some(after), _) => Start::After(after.clone()),
            (None, Some(covered)) => Start::At(covered),
            (None, None) => Start::Latest,
        }
    }

    /// Replaces the file as a whole.
    pub(super) fn store(&self, path: &Path) -> std::io::Result<()> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let mut file = std::fs::File::create(&temporary)?;
        serde_json::to_writer(&mut file, self)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_place_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("place");
        assert!(Checkpoint::load(&path).unwrap().is_none());
        let after = LastTransaction {
            position: Position::new(1, 3, 400),
            file_name: "b.000003".into(),
            gtid: Some("0-1-2".into()),
        };
        let mut checkpoint = Checkpoint {
            server_uuid: "1".into(),
            after: Some(after.clone()),
            covered: None,
            snapshot_unfinished: false,
        };
        checkpoint.store(&path).unwrap();
        assert_eq!(Checkpoint::load(&path).unwrap(), Some(checkpoint.clone()));
        assert_eq!(checkpoint.start(), Start::After(after));
        checkpoint.covered = Some(Position::new(1, 4, 4));
        assert_eq!(checkpoint.start(), Start::At(Position::new(1, 4, 4)));
        std::fs::write(&path, "{").unwrap();
        assert!(Checkpoint::load(&path).is_err());
        checkpoint.snapshot_unfinished = true;
        checkpoint.store(&path).unwrap();
        assert!(Checkpoint::load(&path).unwrap_err().to_string().contains("--from snapshot"));
    }
}
