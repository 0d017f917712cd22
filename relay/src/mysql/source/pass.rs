//! Passes over a part of the binlog beside the dump: for what an assembler notes on the way, not for its rows.

use super::Reader;
use super::learn::Lesson;
use crate::decode::stream::{Assembler, Progress, StreamError};
use crate::event::{RowChange, Savepoint, TransactionSink, TxnEnd, TxnStart};
use crate::mysql::connection::Connection;
use crate::mysql::{Error, Flavor, packet};
use crate::position::Position;
use std::convert::Infallible;
use std::sync::Arc;

impl Reader<'_> {
    /// Reads from a place of this file up to another, over a connection of its own. An event that the assembler does not
    /// take ends it.
    pub(super) async fn pass(
        &self,
        lesson: &mut Lesson<'_>,
        file: &str,
        begins: Position,
        to: Position,
        assembler: &mut Assembler,
    ) -> Result<Result<(), StreamError<Infallible>>, Error> {
        let config = &self.job.config.mysql;
        let mut connection = Connection::open(config, lesson.password).await?;
        connection.query("SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'").await?;
        connection
            .query(&format!("SET @slave_uuid = '{0}', @replica_uuid = '{0}'", uuid::Uuid::new_v4()))
            .await?;
        if lesson.server.flavor == Flavor::MariaDb {
            connection.query("SET @mariadb_slave_capability = 4").await?;
        }
        let at = u32::try_from(begins.offset).unwrap_or(4);
        connection.command(&packet::dump(config.server_id, file, at, 0)).await?;
        let (mut nothing, mut reached) = (Nothing, begins);
        while reached < to {
            let piece = tokio::time::timeout(super::FIRST_SILENCE, connection.piece());
            let silent = |_| Error::Transient("the server has been silent for a minute".to_owned());
            let piece = piece.await.map_err(silent)??;
            let input = self.input(&connection, &piece, file)?;
            let progress = match input.feed(assembler, &mut nothing) {
                Ok(Some(progress)) => progress,
                Ok(None) => continue,
                Err(error) => return Ok(Err(error)),
            };
            if progress == Progress::Transaction || !assembler.in_transaction() {
                let number = assembler.boundary().0.file;
                reached = Position::new(begins.epoch, number, assembler.offset()).max(begins);
            }
        }
        Ok(Ok(()))
    }
}

/// Takes nothing: a pass hands nothing on.
struct Nothing;

impl TransactionSink for Nothing {
    type Error = Infallible;

    fn begin(&mut self, _: TxnStart) -> Result<(), Self::Error> {
        Ok(())
    }

    fn row(&mut self, _: RowChange<'_>) -> Result<(), Self::Error> {
        Ok(())
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint::default()
    }

    fn roll_back(&mut self, _: Savepoint) -> Result<(), Self::Error> {
        Ok(())
    }

    fn commit(&mut self, _: TxnEnd) -> Result<(), Self::Error> {
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }

    fn covered(&mut self, _: Position, _: &Arc<str>, _: i64) -> Result<(), Self::Error> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Self::Error> {
        Ok(())
    }
}
