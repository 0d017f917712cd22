//! XA branches that were prepared before reading began: their rows are in the binlog before it.

use super::learn::Lesson;
use super::plan::FILE_START;
use super::{Reader, located};
use crate::decode::branch::Branches as _;
use crate::decode::stream::{StreamError, file_number};
use crate::mysql::branches::Folder;
use crate::mysql::connection::address;
use crate::mysql::{Definite, Error};
use crate::position::Position;

/// A branch that ends behind where reading began, and was prepared before.
#[derive(Clone, Debug)]
pub(super) struct Missing {
    /// As its end names it.
    pub(super) branch: String,
    /// Start of the transaction that ends it.
    pub(super) before: Position,
}

impl Reader<'_> {
    /// Puts the branch that a transaction ends where the other branches are: it is looked for from there backwards, file by
    /// file, so that the last one of its name is found. False when something else must be learned first.
    pub(super) async fn fetch_branch(&mut self, lesson: &mut Lesson<'_>) -> Result<bool, Error> {
        let Some(Missing { branch, before }) = self.missing.clone() else { return Ok(true) };
        tracing::info!(source = %self.job.name, branch, %before, "reading the binlog for a prepared XA branch");
        let mut folder = Folder::new(self.job.branches.clone());
        let number = |name: &str| file_number(name).filter(|number| *number <= before.file);
        let logs = lesson.logs;
        for file in logs.files.iter().rev() {
            let Some(number) = number(&file.name) else { continue };
            let begins = Position::new(before.epoch, number, FILE_START);
            // The next file's name comes behind the last event of a file.
            let end = before.min(Position::new(before.epoch, number.saturating_add(1), 0));
            if !self.pass_for_branch(lesson, &branch, &file.name, (begins, end)).await? {
                return Ok(false);
            }
            let found = folder.open(&branch, before);
            if found.map_err(|error| Error::Transient(format!("a prepared XA branch: {error}")))?.is_some() {
                self.missing = None;
                return Ok(true);
            }
        }
        let named = |file: u32| logs.files.iter().find(|known| file_number(&known.name) == Some(file));
        Err(Definite::Prepared {
            address: address(&self.job.config.mysql),
            branch,
            file: named(before.file).map_or_else(|| before.file.to_string(), |file| file.name.clone()),
            offset: before.offset,
            oldest: logs.files.first().map_or_else(String::new, |file| file.name.clone()),
        }
        .into())
    }

    /// Keeps what one file has of the branch. False as `fetch_branch` has it.
    async fn pass_for_branch(
        &mut self,
        lesson: &mut Lesson<'_>,
        branch: &str,
        file: &str,
        (begins, end): (Position, Position),
    ) -> Result<bool, Error> {
        let mut assembler = self.assembler(lesson.server.flavor).seeking(branch);
        if let Some(remembered) = self.job.definitions.clone() {
            self.align(lesson, &remembered, begins).await?;
            assembler = assembler.remembering(Box::new(remembered.reading(Some(begins))));
        }
        match self.pass(lesson, file, begins, end, &mut assembler).await? {
            Ok(()) => Ok(true),
            Err(StreamError::Unknown { table, position }) if self.needs(&table, position) => Ok(false),
            Err(error) => Err(located(error, &assembler)),
        }
    }
}
