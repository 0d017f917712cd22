//! Prepared XA branches as files beside the event log.
//!
//! A branch is one file, named by a hash of the branch's name and by the position of the transaction that prepared it;
//! one that is committed or rolled back gets `.done` and stays for a while, because after a crash the statement that
//! ended it may be read again.

use crate::decode::branch::Branches;
use crate::position::Position;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How long an ended branch stays: the log is on disk within seconds, this is far beyond.
const DONE_FOR: Duration = Duration::from_mins(30);
const DONE: &str = "done";
const NEW: &str = "new";

/// A folder of branches.
#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
    open: Option<(BufWriter<File>, PathBuf)>,
}

impl Folder {
    /// Keeps branches in `dir`, which is made when it is needed.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, open: None }
    }

    /// The file of the last branch of this name prepared before `before`.
    fn find(&self, branch: &str, before: Position) -> io::Result<Option<PathBuf>> {
        let hash = hash(branch);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut found: Option<(Position, PathBuf)> = None;
        for entry in entries {
            let path = entry?.path();
            let Some(position) = parse(&path, &hash) else { continue };
            if position < before && found.as_ref().is_none_or(|(best, _)| position > *best) {
                found = Some((position, path));
            }
        }
        Ok(found.map(|(_, path)| path))
    }

    fn forget_old(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let ended = entry.path().extension().is_some_and(|e| e == DONE || e == NEW);
            let age = SystemTime::now().duration_since(entry.metadata()?.modified()?).unwrap_or_default();
            if ended && age > DONE_FOR {
                remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Names may hold any bytes and be 256 long.
fn hash(branch: &str) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(branch.as_bytes()))
}

/// `<hash>-<epoch>-<file>-<offset>`, maybe with `.done`; none for other names and other branches.
fn parse(path: &Path, hash: &str) -> Option<Position> {
    if path.extension().is_some_and(|e| e != DONE) {
        return None;
    }
    let mut parts = path.file_stem()?.to_str()?.split('-');
    if parts.next()? != hash {
        return None;
    }
    let (epoch, file, offset) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Position::new(epoch.parse().ok()?, file.parse().ok()?, offset.parse().ok()?))
}

impl Branches for Folder {
    fn begin(&mut self, branch: &str, position: Position) -> io::Result<()> {
        self.abort();
        fs::create_dir_all(&self.dir)?;
        self.forget_old()?;
        let Position { epoch, file, offset } = position;
        let path = self.dir.join(format!("{}-{epoch}-{file}-{offset}", hash(branch)));
        // Another reader of the same binlog may be writing the same branch.
        let new = path.with_extension(format!("{}.{NEW}", uuid::Uuid::new_v4()));
        self.open = Some((BufWriter::new(File::create(&new)?), new));
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Some((file, _)) => file.write_all(bytes),
            None => Err(io::Error::other("no XA branch is open")),
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let Some((file, _)) = &mut self.open else { return Err(io::Error::other("no XA branch is open")) };
        // What is still in memory is written by the seek.
        file.seek(SeekFrom::Start(len))?;
        file.get_ref().set_len(len)
    }

    fn prepare(&mut self) -> io::Result<()> {
        let Some((file, new)) = self.open.take() else { return Ok(()) };
        file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        let path = new.with_extension("").with_extension("");
        fs::rename(&new, path)?;
        File::open(&self.dir)?.sync_all()
    }

    fn abort(&mut self) {
        if let Some((_, new)) = self.open.take() {
            // Removed with the old ones otherwise.
            drop(remove(&new));
        }
    }

    fn open(&mut self, branch: &str, before: Position) -> io::Result<Option<Box<dyn Read + Send>>> {
        let Some(path) = self.find(branch, before)? else { return Ok(None) };
        Ok(Some(Box::new(BufReader::new(File::open(path)?))))
    }

    fn finish(&mut self, branch: &str, before: Position) -> io::Result<()> {
        let Some(path) = self.find(branch, before)? else { return Ok(()) };
        if path.extension().is_some() {
            return Ok(());
        }
        File::options().append(true).open(&path)?.set_modified(SystemTime::now())?;
        fs::rename(&path, path.with_extension(DONE))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(offset: u64) -> Position {
        Position::new(1, 2, offset)
    }

    fn prepared(folder: &mut Folder, branch: &str, position: Position, text: &str) {
        folder.begin(branch, position).unwrap();
        folder.append(text.as_bytes()).unwrap();
        folder.prepare().unwrap();
    }

    fn read(folder: &mut Folder, branch: &str, before: Position) -> Option<String> {
        folder.open(branch, before).unwrap().map(|mut file| io::read_to_string(&mut file).unwrap())
    }

    #[test]
    fn a_branch_is_its_name_and_the_place_of_its_prepare() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(dir.path().join("xa"));
        assert_eq!(read(&mut folder, "X'61',X'',1", at(900)), None);
        prepared(&mut folder, "X'61',X'',1", at(100), "first");
        folder.finish("X'61',X'',1", at(200)).unwrap();
        prepared(&mut folder, "X'61',X'',1", at(300), "second");
        prepared(&mut folder, "X'62',X'',1", at(350), "other");
        // The first commit is read again after a restart.
        let mut folder = Folder::new(dir.path().join("xa"));
        assert_eq!(read(&mut folder, "X'61',X'',1", at(200)).as_deref(), Some("first"));
        assert_eq!(read(&mut folder, "X'61',X'',1", at(400)).as_deref(), Some("second"));
    }

    #[test]
    fn a_branch_is_cut_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(dir.path().join("xa"));
        folder.begin("a", at(1)).unwrap();
        folder.append(b"stays, goes").unwrap();
        folder.truncate(6).unwrap();
        folder.append(b" comes").unwrap();
        folder.prepare().unwrap();
        assert_eq!(read(&mut folder, "a", at(2)).as_deref(), Some("stays, comes"));
    }

    #[test]
    fn an_unfinished_branch_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(dir.path().to_owned());
        folder.begin("a", at(1)).unwrap();
        folder.append(b"x").unwrap();
        folder.abort();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
