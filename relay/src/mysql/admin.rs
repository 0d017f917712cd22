//! Questions to a server over SQL: who it is, which binlogs it has, where its end is.

use super::connection::{Connection, Password, address};
use super::filter::TableFilter;
use super::{Definite, Error, Examined, Flavor, ServerIdentity, cascades, packet, preflight};
use crate::config;
use crate::gtid::GtidSet;

/// One line of `SHOW BINARY LOGS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BinaryLog {
    /// File name.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
}

/// What a server's binlog holds: enough to turn a position into bytes of lag.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BinaryLogs {
    /// All files, oldest first.
    pub files: Vec<BinaryLog>,
    /// File being written.
    pub current_file: String,
    /// Offset of its end.
    pub current_offset: u64,
    /// GTIDs of everything before that end; empty on MariaDB.
    pub current_gtids: String,
}

impl BinaryLogs {
    /// Bytes of binlog between a place and the end; none when the file is gone.
    pub fn bytes_behind(&self, file: &str, offset: u64) -> Option<u64> {
        let index = self.files.iter().position(|f| f.name == file)?;
        let after: u64 = self.files.iter().skip(index).map(|f| f.bytes).sum();
        Some(after.saturating_sub(offset))
    }
}

/// Lists the binary logs and the current end.
pub async fn binary_logs(mysql: &config::Mysql) -> Result<BinaryLogs, Error> {
    let mut connection = Connection::open(mysql, &Password::load(mysql)?).await?;
    list(&mut connection).await
}

/// Asks who answers, without any further check.
pub async fn identify(mysql: &config::Mysql) -> Result<ServerIdentity, Error> {
    let mut connection = Connection::open(mysql, &Password::load(mysql)?).await?;
    preflight::identity(&mut connection).await
}

/// Connects and runs the whole preflight: an error lists each finding with what mends it. `relays` are the server ids
/// that relays read the server with, which no other replica may have; `tables` are globs as of
/// [`config::Source::tables`].
pub async fn check(
    mysql: &config::Mysql,
    schema: config::SchemaFrom,
    tables: &[String],
    relays: &[u32],
) -> Result<Examined, Error> {
    let mut connection = Connection::open(mysql, &Password::load(mysql)?).await?;
    let (mut examined, _) = preflight::examine(&mut connection, mysql, schema, relays).await?;
    let wanted = TableFilter::new(tables);
    examined.warnings.extend(cascades::unlogged(&mut connection, examined.server.flavor, &wanted).await?);
    Ok(examined)
}

pub(super) async fn list(connection: &mut Connection) -> Result<BinaryLogs, Error> {
    let mut logs = BinaryLogs::default();
    for row in connection.query("SHOW BINARY LOGS").await? {
        let mut fields = row.into_iter();
        let (Some(Some(name)), Some(Some(bytes))) = (fields.next(), fields.next()) else { continue };
        logs.files.push(BinaryLog { name, bytes: bytes.parse().unwrap_or(0) });
    }
    let end = list_end(connection).await?;
    Ok(BinaryLogs { files: logs.files, ..end })
}

/// The current end alone.
pub(super) async fn list_end(connection: &mut Connection) -> Result<BinaryLogs, Error> {
    let mut logs = BinaryLogs::default();
    // MySQL 8.2 renamed the statement and 8.4 removed the old name; MariaDB has the old one only.
    let maria = flavor(connection.server_version()) == Flavor::MariaDb;
    let statements = if maria {
        ["SHOW MASTER STATUS", "SHOW BINLOG STATUS"]
    } else {
        ["SHOW BINARY LOG STATUS", "SHOW MASTER STATUS"]
    };
    let [first, second] = statements;
    let rows = match connection.try_query(first).await? {
        Ok(rows) => rows,
        Err(_) => connection.query(second).await?,
    };
    if let Some(row) = rows.into_iter().next() {
        let mut fields = row.into_iter().map(Option::unwrap_or_default);
        logs.current_file = fields.next().unwrap_or_default();
        logs.current_offset = fields.next().and_then(|text| text.parse().ok()).unwrap_or(0);
        // Behind the two database filters of the server.
        logs.current_gtids = fields.nth(2).unwrap_or_default();
    }
    Ok(logs)
}

/// The GTIDs of everything before a binlog file, as the file itself says at its beginning.
pub(super) async fn gtids_before(connection: &mut Connection, file: &str) -> Result<Option<String>, Error> {
    // A file's name is quoted by doubling what would end the string.
    let file = file.replace('\'', "''").replace('\\', "\\\\");
    let rows = connection.query(&format!("SHOW BINLOG EVENTS IN '{file}' LIMIT 3")).await?;
    Ok(rows.into_iter().find_map(|row| {
        let mut fields = row.into_iter().map(Option::unwrap_or_default);
        // File, offset, type, server, end, content.
        (fields.nth(2)? == "Previous_gtids").then(|| fields.nth(2).unwrap_or_default())
    }))
}

/// Whether a MariaDB server's binlog goes on from this set: an error where it lacks one of its GTIDs.
pub async fn goes_on_from(mysql: &config::Mysql, gtids: &GtidSet) -> Result<(), Error> {
    accepts(mysql, &Password::load(mysql)?, gtids).await
}

/// As [`goes_on_from`], with the password.
pub(super) async fn accepts(
    mysql: &config::Mysql,
    password: &Password,
    gtids: &GtidSet,
) -> Result<(), Error> {
    let mut connection = Connection::open(mysql, password).await?;
    for statement in dump_from(&gtids.to_string()) {
        connection.query(&statement).await?;
    }
    connection.query("SET @mariadb_slave_capability = 4, @master_heartbeat_period = 100000000").await?;
    connection.query("SET @master_binlog_checksum = 'CRC32'").await?;
    connection.command(&packet::dump(mysql.server_id, "", 4, 0)).await?;
    // A rotation comes first, made for us; then an event of a file, or a refusal.
    for _ in 0..2 {
        let packet = connection.answer().await?;
        if let Some(error) = packet::server_error(&packet) {
            let (address, wanted) = (address(mysql), gtids.to_string());
            return Err(Definite::Purged { address, wanted, reason: error.to_string() }.into());
        }
    }
    Ok(())
}

/// What tells a MariaDB server where a dump begins. It refuses GTIDs that its binlog lacks.
pub(super) fn dump_from(gtids: &str) -> [String; 2] {
    [
        format!("SET @slave_connect_state = '{gtids}'"),
        "SET @slave_gtid_strict_mode = 1, @slave_gtid_ignore_duplicates = 0".to_owned(),
    ]
}

/// The GTIDs of everything before a place of a MariaDB server's binlog.
pub(super) async fn gtids_at(
    connection: &mut Connection,
    file: &str,
    offset: u64,
) -> Result<Option<String>, Error> {
    let file = file.replace('\'', "''").replace('\\', "\\\\");
    let rows = connection.query(&format!("SELECT BINLOG_GTID_POS('{file}', {offset})")).await?;
    Ok(rows.into_iter().flatten().next().flatten())
}

pub(super) fn flavor(version: &str) -> Flavor {
    if version.to_ascii_lowercase().contains("mariadb") { Flavor::MariaDb } else { Flavor::MySql }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_behind_counts_whole_files_between() {
        let file = |name: &str, bytes| BinaryLog { name: name.to_owned(), bytes };
        let logs = BinaryLogs {
            files: vec![file("b.000001", 100), file("b.000002", 200), file("b.000003", 50)],
            current_file: "b.000003".to_owned(),
            current_offset: 50,
            current_gtids: String::new(),
        };
        assert_eq!(logs.bytes_behind("b.000001", 40), Some(310));
        assert_eq!(logs.bytes_behind("b.000003", 50), Some(0));
        assert_eq!(logs.bytes_behind("b.000000", 4), None);
    }
}
