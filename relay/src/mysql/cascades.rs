//! Rows that change with those that their foreign keys refer to: where the storage engine does that, nobody logs it. MySQL
//! does it above its engines since 9.6, and logs it, unless `innodb_native_foreign_keys` is on.

use super::connection::Connection;
use super::filter::TableFilter;
use super::{Error, Finding, Flavor};

/// Of many tables, so many are named.
const NAMED: usize = 3;
/// A server of very many tables may have to open each of them to answer. Then it is left alone.
const LIMIT_SECS: u32 = 10;
const OWN: &str = "('CASCADE', 'SET NULL', 'SET DEFAULT')";

/// A warning that names wanted tables, as far as the user may see them.
pub(super) async fn unlogged(
    connection: &mut Connection,
    flavor: Flavor,
    wanted: &TableFilter,
) -> Result<Option<Finding>, Error> {
    if flavor == Flavor::MySql {
        let native = connection.try_query("SELECT @@GLOBAL.innodb_native_foreign_keys").await?;
        let native = native.ok().and_then(|rows| rows.into_iter().flatten().flatten().next());
        if native.is_some_and(|native| native == "0") {
            return Ok(None);
        }
    }
    let (before, hint) = match flavor {
        Flavor::MariaDb => (format!("SET STATEMENT max_statement_time = {LIMIT_SECS} FOR "), String::new()),
        Flavor::MySql => (String::new(), format!("/*+ MAX_EXECUTION_TIME({LIMIT_SECS}000) */ ")),
    };
    let sql = format!(
        "{before}SELECT {hint}DISTINCT CONSTRAINT_SCHEMA, TABLE_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS \
         WHERE DELETE_RULE IN {OWN} OR UPDATE_RULE IN {OWN} ORDER BY 1, 2"
    );
    let rows = match connection.try_query(&sql).await? {
        Ok(rows) => rows,
        Err(error) => {
            tracing::debug!(%error, "foreign keys were not looked at");
            return Ok(None);
        }
    };
    let tables = rows.into_iter().filter_map(|row| {
        let mut fields = row.into_iter().flatten();
        Some((fields.next()?, fields.next()?))
    });
    let tables = tables.filter(|(database, table)| wanted.table(database, table));
    Ok(finding(&tables.map(|(database, table)| format!("{database}.{table}")).collect::<Vec<_>>(), flavor))
}

fn finding(tables: &[String], flavor: Flavor) -> Option<Finding> {
    let more = tables.len().saturating_sub(NAMED);
    let mut names = tables.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 {
        names = format!("{names} and {more} more tables");
    }
    let newer = match flavor {
        Flavor::MySql => ", or MySQL from 9.6 on, which logs them",
        Flavor::MariaDb => "",
    };
    (!tables.is_empty()).then(|| Finding {
        problem: format!(
            "rows of {names} change by themselves with those that their foreign keys refer to (CASCADE, SET NULL): this server \
             writes these changes into no binlog, so they are in no message"
        ),
        remedy: format!("let statements or triggers make these changes{newer}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_tables_are_named() {
        let names = |count: usize| (1..=count).map(|n| format!("d.t{n}")).collect::<Vec<_>>();
        let said = |count| finding(&names(count), Flavor::MariaDb).map(|finding| finding.problem);
        assert_eq!(said(0), None);
        assert!(said(1).unwrap().starts_with("rows of d.t1 change"));
        assert!(said(3).unwrap().starts_with("rows of d.t1, d.t2, d.t3 change"));
        assert!(said(5).unwrap().starts_with("rows of d.t1, d.t2, d.t3 and 2 more tables change"));
    }
}
