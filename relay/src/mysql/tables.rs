//! Tables, as `information_schema` has them.

use super::Error;
use super::connection::Connection;
use super::filter::TableFilter;
use crate::schema::{Declared, DeclaredColumn, TableName};
use std::collections::BTreeMap;

/// A table, and where its rows are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) name: TableName,
    /// `InnoDB`.
    pub(super) engine: String,
}

/// The tables that are wanted, as far as this user may see them.
pub(super) async fn list(connection: &mut Connection, wanted: &TableFilter) -> Result<Vec<Listed>, Error> {
    let rows = connection
        .query(
            "SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE FROM information_schema.TABLES \
             WHERE TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW') ORDER BY TABLE_SCHEMA, TABLE_NAME",
        )
        .await?;
    let tables = rows.into_iter().filter_map(|row| {
        let mut fields = row.into_iter();
        let name = TableName::new(fields.next()??, fields.next()??);
        Some(Listed { name, engine: fields.next().flatten().unwrap_or_default() })
    });
    Ok(tables.filter(|table| wanted.table(&table.name.database, &table.name.table)).collect())
}

/// Errors that say: no right to a database, to a table, to a column.
pub(super) const DENIED: [u16; 3] = [1044, 1142, 1143];

/// Lets the session see keys that the server made by itself: they are in the rows, and are shown only if asked for. Not every
/// server knows them.
pub(super) async fn show_made_keys(connection: &mut Connection) -> Result<(), Error> {
    let statement = "SET SESSION show_gipk_in_create_table_and_information_schema = ON";
    connection.try_query(statement).await.map(drop)
}

/// A name as it stands in a statement.
pub(super) fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// A table's name as it stands in a statement.
pub(super) fn quoted_table(table: &TableName) -> String {
    format!("{}.{}", quoted(&table.database), quoted(&table.table))
}

/// A table's declaration.
pub(super) async fn declared(
    connection: &mut Connection,
    table: &TableName,
) -> Result<Option<Declared>, Error> {
    let text = |text: &str| text.replace('\\', "\\\\").replace('\'', "''");
    let of_table =
        format!("TABLE_SCHEMA = '{}' AND TABLE_NAME = '{}'", text(&table.database), text(&table.table));
    let rows = connection
        .query(&format!(
            "SELECT COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, EXTRA, CHARACTER_OCTET_LENGTH, CHARACTER_SET_NAME \
             FROM information_schema.COLUMNS WHERE {of_table} ORDER BY ORDINAL_POSITION"
        ))
        .await?;
    let columns: Vec<DeclaredColumn> = rows
        .into_iter()
        .map(|row| {
            let mut fields = row.into_iter();
            let mut next = || fields.next().flatten();
            DeclaredColumn {
                name: next().unwrap_or_default(),
                kind: next().unwrap_or_default(),
                nullable: next().is_some_and(|word| word == "YES"),
                visible: !next().unwrap_or_default().to_ascii_uppercase().contains("INVISIBLE"),
                octets: next().and_then(|number| number.parse().ok()),
                charset: next(),
            }
        })
        .collect();
    let rows = connection
        .query(&format!(
            "SELECT COLUMN_NAME FROM information_schema.STATISTICS \
             WHERE {of_table} AND INDEX_NAME = 'PRIMARY' ORDER BY SEQ_IN_INDEX"
        ))
        .await?;
    let places: BTreeMap<&str, usize> =
        columns.iter().enumerate().map(|(index, column)| (column.name.as_str(), index)).collect();
    let key = rows.iter().flatten().flatten().filter_map(|name| places.get(name.as_str()).copied()).collect();
    Ok((!columns.is_empty()).then_some(Declared { columns, key }))
}
