//! Where a dump begins, and the command that asks for it.

use super::Reader;
use crate::decode::event::Header;
use crate::decode::filter::{ColumnFilter, TableFilter};
use crate::decode::stream::{Assembler, file_number};
use crate::gtid::GtidSet;
use crate::mysql::admin::{self, BinaryLogs};
use crate::mysql::branches::Folder;
use crate::mysql::connection::{Connection, Password, address};
use crate::mysql::{Definite, Error, Flavor, ServerIdentity, Start, packet};
use crate::position::Position;

/// First event of a binlog file.
pub(super) const FILE_START: u64 = 4;
/// Seconds by which a transaction may have been committed before the file was made that holds it.
const COMMIT_SLACK_SECS: i64 = 10;
/// Events that a server sends before those of a file: a rotation, perhaps a heartbeat.
const EVENTS_BEFORE_FILE: usize = 8;

/// Where a dump begins.
pub(super) struct Dump {
    pub(super) command: Vec<u8>,
    /// For messages.
    pub(super) wanted: String,
    /// Unknown for a start by GTIDs.
    pub(super) begins: Option<Position>,
    pub(super) assembler: Assembler,
}

impl Reader<'_> {
    /// For a start by time: the last file that was begun before it, or the oldest. Files say when they were begun.
    pub(super) async fn find_file(
        &self,
        password: &Password,
        logs: &BinaryLogs,
    ) -> Result<Option<String>, Error> {
        let Start::Time(time) = &self.start else { return Ok(None) };
        let second = time.div_euclid(1_000_000).saturating_sub(COMMIT_SLACK_SECS);
        // Begun early enough are those before `early`; not early enough those from `late` on. The oldest will have to do.
        let (mut early, mut late) = (1, logs.files.len());
        while early < late {
            let middle = usize::midpoint(early, late);
            let Some(file) = logs.files.get(middle) else { break };
            if self.begun(password, &file.name).await? <= second {
                early = middle + 1;
            } else {
                late = middle;
            }
        }
        Ok(logs.files.get(early - 1).map(|file| file.name.clone()))
    }

    /// For a start by GTIDs on MariaDB: the file that it lies in, where that has more than 4 GiB. The server passes over what is
    /// in the set without a word, and says 32 bits of where it goes on: there nobody could tell at which place.
    pub(super) async fn find_large_file(
        &self,
        connection: &mut Connection,
        password: &Password,
        server: &ServerIdentity,
        logs: &BinaryLogs,
    ) -> Result<Option<String>, Error> {
        let (Start::Gtid(set), Flavor::MariaDb) = (&self.start, server.flavor) else { return Ok(None) };
        let Ok(set) = set.parse::<GtidSet>() else { return Ok(None) };
        if !logs.files.iter().any(|file| file.bytes > u64::from(u32::MAX)) {
            return Ok(None);
        }
        // It refuses what it lacks, which reading from a place would not.
        admin::accepts(&self.job.config.mysql, password, &set).await?;
        // What was before a file is in the set, from some file on no more.
        let (mut within, mut beyond) = (0, logs.files.len());
        while within < beyond {
            let middle = usize::midpoint(within, beyond);
            let Some(file) = logs.files.get(middle) else { break };
            let before = admin::gtids_at(connection, &file.name, FILE_START).await?;
            let before: Option<GtidSet> = before.and_then(|before| before.parse().ok());
            if before.is_some_and(|before| set.reaches(&before)) {
                within = middle + 1;
            } else {
                beyond = middle;
            }
        }
        let file = within.checked_sub(1).and_then(|last| logs.files.get(last));
        Ok(file.filter(|file| file.bytes > u64::from(u32::MAX)).map(|file| file.name.clone()))
    }

    /// When a file was begun, seconds since 1970 UTC.
    async fn begun(&self, password: &Password, file: &str) -> Result<i64, Error> {
        let config = &self.job.config.mysql;
        // A connection that has begun a dump is of no other use.
        let mut connection = Connection::open(config, password).await?;
        connection.query("SET @master_binlog_checksum = 'CRC32', @source_binlog_checksum = 'CRC32'").await?;
        connection
            .query(&format!("SET @slave_uuid = '{0}', @replica_uuid = '{0}'", uuid::Uuid::new_v4()))
            .await?;
        connection.query("SET @mariadb_slave_capability = 4").await?;
        connection.command(&packet::dump(config.server_id, file, 4, 0)).await?;
        for _ in 0..EVENTS_BEFORE_FILE {
            let packet = connection.answer().await?;
            let event = self.event_bytes(&connection, &packet, file)?;
            let header =
                Header::parse(event).map_err(|error| Error::Transient(format!("{file}: {error}")))?;
            if header.kind == crate::decode::event::code::FORMAT_DESCRIPTION {
                return Ok(i64::from(header.timestamp));
            }
        }
        Err(Error::Transient(format!("{file} does not begin like a binlog")))
    }

    /// Sees to it that the GTIDs before the start, or before some point on the way to it, are known.
    pub(super) async fn find_executed(
        &mut self,
        connection: &mut Connection,
        server: &ServerIdentity,
        logs: &BinaryLogs,
        since: Option<&str>,
    ) -> Result<(), Error> {
        let none = server.gtids.is_empty() && logs.current_gtids.is_empty();
        if !self.job.counts_gtids || none && server.flavor == Flavor::MySql {
            self.executed = None;
            return Ok(());
        }
        let epoch = self.job.epoch;
        let start = match &self.start {
            Start::Gtid(_) => return Ok(()),
            Start::Latest if server.flavor == Flavor::MySql => {
                let file = file_number(&logs.current_file).unwrap_or(0);
                let position = Position::new(epoch, file, logs.current_offset);
                self.executed = logs.current_gtids.parse().ok().map(|set| (position, set));
                return Ok(());
            }
            Start::Latest => {
                file_number(&logs.current_file).map(|file| Position::new(epoch, file, logs.current_offset))
            }
            Start::Earliest => logs
                .files
                .first()
                .and_then(|file| file_number(&file.name))
                .map(|file| Position::new(epoch, file, FILE_START)),
            Start::Time(_) => since.and_then(file_number).map(|file| Position::new(epoch, file, FILE_START)),
            Start::At(position) => Some(*position),
            Start::Scn(scn) => Some(scn.position(epoch)),
            Start::After(last) => Some(last.position),
        };
        let Some(start) = start else { return Ok(()) };
        let named = |number| logs.files.iter().find(|file| file_number(&file.name) == Some(number));
        let usable = |known: &(Position, GtidSet)| {
            known.0.epoch == epoch && known.0 <= start && named(known.0.file).is_some()
        };
        if self.executed.as_ref().is_some_and(usable) {
            return Ok(());
        }
        self.executed = None;
        if let Some(file) = named(start.file) {
            // MariaDB tells it of places with 32 bits. What lies beyond is read from the file's beginning anyway.
            let position = match server.flavor {
                Flavor::MariaDb if u32::try_from(start.offset).is_ok() => {
                    Position { offset: start.offset.max(FILE_START), ..start }
                }
                Flavor::MariaDb | Flavor::MySql => Position::new(epoch, start.file, FILE_START),
            };
            let before = match server.flavor {
                Flavor::MariaDb => admin::gtids_at(connection, &file.name, position.offset).await?,
                Flavor::MySql => admin::gtids_before(connection, &file.name).await?,
            };
            self.executed = before.and_then(|set| Some((position, set.parse().ok()?)));
        }
        Ok(())
    }

    /// One that reads as the source is configured.
    pub(super) fn assembler(&self, flavor: Flavor) -> Assembler {
        let config = &self.job.config;
        let (tables, columns) =
            (TableFilter::new(&config.tables), ColumnFilter::new(&config.exclude_columns));
        Assembler::new(tables, columns, flavor, self.job.epoch)
            .bounding_rows(config.max_row_bytes, config.oversize)
            .with_hidden_changes(config.hidden_changes)
            .keeping_branches(Box::new(Folder::new(self.job.branches.clone())))
    }

    /// Turns the start into a dump command.
    pub(super) fn plan(
        &mut self,
        server: &ServerIdentity,
        logs: &BinaryLogs,
        since: Option<&str>,
    ) -> Result<Dump, Definite> {
        let job = self.job;
        let assembler = self.assembler(server.flavor);
        let server_id = job.config.mysql.server_id;
        let flags = if server.flavor == Flavor::MySql { packet::WHOLE_HEARTBEATS } else { 0 };
        if self.start == Start::Latest {
            // Pinned, so that what is committed while a connection is lost is not passed over.
            let file = file_number(&logs.current_file).unwrap_or(0);
            self.start = Start::At(Position::new(job.epoch, file, logs.current_offset));
        }
        let gone = |wanted: String, reason: &str| Definite::Purged {
            address: address(&job.config.mysql),
            wanted,
            reason: reason.to_owned(),
        };
        let executed = &self.executed;
        let from = |file: &str, offset: u64, assembler: Assembler| {
            let wanted = format!("{file}:{offset}");
            // Where the GTIDs before are known; from there to the start is passed over.
            let known = executed.as_ref().and_then(|(known, set)| {
                let file = logs.files.iter().find(|f| file_number(&f.name) == Some(known.file))?;
                Some((file.name.as_str(), known.offset, set))
            });
            let (file, offset, assembler) = match known {
                Some((name, at, set)) => (name, at, assembler.knowing(set.clone())),
                None => (file, offset, assembler),
            };
            // The command has 32 bits: what lies beyond is reached from the file's start, passing over the rest.
            let at = u32::try_from(offset).or_else(|_| u32::try_from(FILE_START)).unwrap_or(4);
            let at = at.max(4);
            let command = packet::dump(server_id, file, at, flags);
            let begins = file_number(file).map(|file| Position::new(job.epoch, file, u64::from(at)));
            Dump { command, wanted, begins, assembler }
        };
        match &self.start {
            Start::Earliest | Start::Latest => {
                let first = logs.files.first();
                let file = first.ok_or_else(|| gone("its beginning".into(), "it lists no binlog"))?;
                Ok(from(&file.name, FILE_START, assembler))
            }
            Start::Time(time) => {
                let file = since.ok_or_else(|| gone("its beginning".into(), "it lists no binlog"))?;
                Ok(from(file, FILE_START, assembler.starting_since(*time)))
            }
            Start::At(position) => self.plan_at(*position, logs, assembler, from, gone),
            Start::Scn(scn) => self.plan_at(scn.position(job.epoch), logs, assembler, from, gone),
            Start::After(last) => {
                if !logs.files.iter().any(|f| f.name == last.file_name) {
                    return Err(gone(last.file_name.clone(), "the file is not listed"));
                }
                Ok(from(&last.file_name, last.position.offset, assembler.resuming_after(last.clone())))
            }
            Start::Gtid(set) if let (Some(file), Ok(known)) = (since, set.parse::<GtidSet>()) => {
                let command = packet::dump(server_id, file, 4, flags);
                let begins = file_number(file).map(|file| Position::new(job.epoch, file, FILE_START));
                let assembler = assembler.knowing(known.clone()).passing_over(known);
                Ok(Dump { command, wanted: set.clone(), begins, assembler })
            }
            Start::Gtid(set) if server.flavor == Flavor::MariaDb => {
                let command = packet::dump(server_id, "", 4, flags);
                let assembler = match set.parse() {
                    Ok(known) => assembler.knowing(known),
                    Err(_) => assembler,
                };
                Ok(Dump { command, wanted: set.clone(), begins: None, assembler })
            }
            Start::Gtid(set) => {
                let known: GtidSet = set
                    .parse()
                    .map_err(|error: crate::gtid::GtidError| Definite::Config(error.to_string()))?;
                let command = packet::dump_gtid(server_id, &packet::gtid_set(&known));
                let assembler = assembler.knowing(known);
                Ok(Dump { command, wanted: set.clone(), begins: None, assembler })
            }
        }
    }

    fn plan_at(
        &self,
        position: Position,
        logs: &BinaryLogs,
        assembler: Assembler,
        from: impl Fn(&str, u64, Assembler) -> Dump,
        gone: impl Fn(String, &str) -> Definite,
    ) -> Result<Dump, Definite> {
        let file = logs.files.iter().find(|f| file_number(&f.name) == Some(position.file));
        let file =
            file.ok_or_else(|| gone(format!("file number {}", position.file), "the file is not listed"))?;
        let position = Position { epoch: self.job.epoch, ..position };
        Ok(from(&file.name, position.offset.max(FILE_START), assembler.starting_at(position)))
    }
}
