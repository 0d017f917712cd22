//! Which tables and columns a stream wants.

use crate::decode::filter::{ColumnFilter, TableFilter};

/// Tables and columns by patterns; nothing given is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selection {
    /// Globs `database.table`, a leading `!` excludes; the last match wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    /// Globs `database.table.column`: a table that one of them names has these columns only. Key columns stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include_columns: Vec<String>,
    /// Globs `database.table.column`: these columns are left out. Key columns stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_columns: Vec<String>,
}

impl Selection {
    /// Whether it leaves out nothing.
    pub fn is_all(&self) -> bool {
        self.tables.is_empty() && self.include_columns.is_empty() && self.exclude_columns.is_empty()
    }

    pub(crate) fn table_filter(&self) -> TableFilter {
        TableFilter::new(&self.tables)
    }

    /// Whether a column outside of the key is wanted.
    pub(crate) fn wants_column(&self, database: &str, table: &str, column: &str) -> bool {
        let included = &self.include_columns;
        let of_table = included.iter().filter(|glob| {
            let tables = glob.rsplit_once('.').map_or("", |(tables, _)| tables);
            ColumnFilter::new(&[format!("{tables}.*")]).excludes(database, table, "x")
        });
        let of_table: Vec<&String> = of_table.collect();
        let matched = |globs: &[&String]| ColumnFilter::new(globs).excludes(database, table, column);
        (of_table.is_empty() || matched(&of_table))
            && !matched(&self.exclude_columns.iter().collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_included_by_table_and_excluded_by_name() {
        let selection = Selection {
            include_columns: vec!["shop.orders.a*".into(), "shop.orders.b".into()],
            exclude_columns: vec!["*.*.secret".into(), "shop.orders.abc".into()],
            ..Selection::default()
        };
        let wants = |table: &str, column: &str| selection.wants_column("shop", table, column);
        assert!(wants("orders", "ab") && wants("orders", "b"));
        assert!(!wants("orders", "c") && !wants("orders", "abc"));
        assert!(wants("users", "c") && !wants("users", "secret"));
        assert!(!selection.is_all() && Selection::default().is_all());
    }
}
