//! Read locks on tables, held by a connection of their own: they go with it.

use crate::config::Mysql;
use crate::mysql::connection::{Connection, Password, address};
use crate::mysql::tables::{self, quoted, quoted_table};
use crate::mysql::{Definite, Error, Finding, preflight};
use crate::schema::TableName;

/// A lock that is not given by then is given up: statements that write to the tables wait behind it.
const LOCK_SECS: u32 = 5;

/// What became of a lock.
pub(super) enum Locked {
    /// Held until it is dropped. None: there was nothing to lock.
    Held(Option<Connection>),
    /// Somebody uses a table, and does not let go of it.
    Busy,
    /// A table is not there any more.
    Gone,
}

/// Locks tables against changes, all of them at once.
pub(super) async fn against_changes(
    config: &Mysql,
    password: &Password,
    tables: &[TableName],
) -> Result<Locked, Error> {
    const TIMED_OUT: [u16; 2] = [1205, 3572];
    const ABSENT: [u16; 2] = [1049, 1146];
    if tables.is_empty() {
        return Ok(Locked::Held(None));
    }
    let mut connection = Connection::open(config, password).await?;
    connection.query("SET NAMES utf8mb4").await?;
    connection.query(&format!("SET SESSION lock_wait_timeout = {LOCK_SECS}")).await?;
    let list: Vec<String> = tables.iter().map(|table| format!("{} READ", quoted_table(table))).collect();
    match connection.try_query(&format!("LOCK TABLES {}", list.join(", "))).await? {
        Ok(_) => Ok(Locked::Held(Some(connection))),
        Err(error) if TIMED_OUT.contains(&error.code) => Ok(Locked::Busy),
        Err(error) if ABSENT.contains(&error.code) => Ok(Locked::Gone),
        Err(error) if tables::DENIED.contains(&error.code) => {
            let mut databases: Vec<&str> = tables.iter().map(|table| table.database.as_str()).collect();
            databases.dedup();
            let account = preflight::account(&mut connection, config).await?;
            let grants: Vec<String> = databases
                .iter()
                .map(|name| preflight::grant("SELECT, LOCK TABLES", &format!("{}.*", quoted(name)), &account))
                .collect();
            let problem = format!(
                "user {} may not lock tables for the moment in which the snapshot begins ({error})",
                config.user
            );
            let findings = vec![Finding { problem, remedy: grants.join("; ") }];
            Err(Definite::Preflight { address: address(config), findings }.into())
        }
        Err(error) => Err(connection.classify(&error, false)),
    }
}
