//! A source's history of definitions, in a file, shared by all that read the source.

use crate::decode::definitions::Definitions;
use crate::position::Position;
use crate::schema::{Declared, History, TableName, Touch};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How far statements are known, written each second; the history itself is written only when it changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ReadUpTo {
    server: String,
    position: Position,
}

#[derive(Debug, Default)]
struct State {
    history: History,
    /// As it is on disk.
    read_up_to: Option<ReadUpTo>,
}

/// The history of a source's definitions.
#[derive(Clone, Debug)]
pub struct Remembered {
    path: Arc<Path>,
    state: Arc<Mutex<State>>,
}

impl Remembered {
    /// Opens the file, which is made when something is to be remembered. What cannot be read is learned anew.
    pub fn open(path: PathBuf) -> Self {
        let state = State { history: load(&path), read_up_to: None };
        Self { path: path.into(), state: Arc::new(Mutex::new(state)) }
    }

    /// Removes what was remembered there: nobody follows the statements any more.
    pub fn forget(path: &Path) {
        // Where they are not there there is nothing to remove.
        drop(fs::remove_file(progress_path(path)));
        drop(fs::remove_file(path));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the history, or changes what need not be on disk yet.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut History) -> T) -> T {
        work(&mut self.state().history)
    }

    /// Changes the history and writes it.
    pub(super) fn change<T>(&self, work: impl FnOnce(&mut History) -> T) -> io::Result<T> {
        let mut state = self.state();
        let done = work(&mut state.history);
        store(&self.path, &state.history)?;
        Ok(done)
    }

    /// A reading that begins at `since`, or at the first thing that it tells.
    pub(super) fn reading(&self, since: Option<Position>) -> Reading {
        Reading { remembered: self.clone(), since, touched: Arc::default() }
    }
}

/// One pass over the binlog.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    remembered: Remembered,
    since: Option<Position>,
    touched: Arc<Mutex<Vec<Touch>>>,
}

impl Reading {
    /// The binlog was read up to here, and all its statements were told.
    pub(super) fn reached(&self, position: Position) {
        if let Some(since) = self.since {
            self.remembered.with(|history| history.join(since, position));
        }
    }

    /// As [`Reading::reached`], and keeps how far everything is known.
    pub(super) fn keep(&self, position: Position) -> io::Result<()> {
        self.reached(position);
        let mut state = self.remembered.state();
        let Some((_, position)) = state.history.covered() else { return Ok(()) };
        let now = ReadUpTo { server: state.history.server().to_owned(), position };
        if state.read_up_to.as_ref() != Some(&now) {
            replace(&progress_path(&self.remembered.path), &serde_json::to_vec(&now)?, false)?;
            state.read_up_to = Some(now);
        }
        Ok(())
    }

    /// What statements did since this was asked last.
    pub(super) fn take_touched(&self) -> Vec<Touch> {
        std::mem::take(&mut *self.touched.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn now_at(&mut self, position: Position) {
        let since = *self.since.get_or_insert(position);
        self.remembered.with(|history| history.join(since, position));
    }
}

impl Definitions for Reading {
    fn touched(&mut self, position: Position, touch: Touch) -> io::Result<()> {
        self.now_at(position);
        let is_new = self.remembered.with(|history| history.touch(position, touch.clone()));
        if is_new {
            self.touched.lock().unwrap_or_else(PoisonError::into_inner).push(touch);
        }
        // Also when it was known: what is in memory may not have reached the disk.
        self.remembered.change(|_| ())
    }

    fn table(&mut self, position: Position, table: &TableName) -> Option<Arc<Declared>> {
        self.now_at(position);
        self.remembered.with(|history| history.at(table, position))
    }
}

fn progress_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".read");
    name.into()
}

fn load(path: &Path) -> History {
    let Some(mut history) = read::<History>(path) else { return History::default() };
    if let Some(progress) = read::<ReadUpTo>(&progress_path(path))
        && progress.server == history.server()
        && let Some((_, high)) = history.covered()
    {
        history.join(high, progress.position);
    }
    history
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = fs::read(path).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "what was known of tables cannot be read and is learned anew");
            None
        }
    }
}

fn store(path: &Path, history: &History) -> io::Result<()> {
    replace(path, &serde_json::to_vec(history)?, true)
}

/// Replaces the file as a whole; `synced`: it is on disk when this comes back.
fn replace(path: &Path, bytes: &[u8], synced: bool) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    let mut file = File::create(&partial)?;
    file.write_all(bytes)?;
    if synced {
        file.sync_all()?;
    }
    fs::rename(partial, path)?;
    if synced { File::open(parent)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::DeclaredColumn;

    fn at(offset: u64) -> Position {
        Position::new(1, 1, offset)
    }

    #[test]
    fn a_restart_knows_what_was_known() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("definitions.json");
        let table = TableName::new("d", "t");
        let column = DeclaredColumn {
            name: "c".into(),
            kind: "int".into(),
            charset: None,
            octets: None,
            nullable: true,
            visible: true,
        };
        {
            let remembered = Remembered::open(path.clone());
            remembered.with(|history| history.for_server("s"));
            remembered.change(|history| history.restart(at(100), at(100))).unwrap();
            let declared = Declared { columns: vec![column], key: Vec::new() };
            remembered.change(|history| history.saw(table.clone(), at(100), declared)).unwrap();
            let mut reading = remembered.reading(Some(at(100)));
            assert!(reading.table(at(300), &table).is_some());
            reading.touched(at(500), Touch::Changed(vec![TableName::new("d", "u")])).unwrap();
            reading.keep(at(700)).unwrap();
            assert_eq!(reading.take_touched().len(), 1);
        }
        let mut again = Remembered::open(path.clone()).reading(Some(at(650)));
        assert!(again.table(at(690), &table).is_some());
        assert!(again.table(at(400), &TableName::new("d", "u")).is_none());
        // Where nobody has read nothing is known.
        let mut gap = Remembered::open(path.clone()).reading(Some(at(800)));
        assert!(gap.table(at(900), &table).is_none());
        Remembered::forget(&path);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
