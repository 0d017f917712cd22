//! A table as a table map event describes it: column names, types, signedness, charsets, keys.
//!
//! The schema travels by reference: blocks carry its [`SchemaId`], and its definition precedes its first
//! use in a log segment and on a stream.

/// Identity of a schema: xxh3 of its serialized form. Equal tables have equal ids on every relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u64);

/// A table at a moment in time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSchema {
    /// Identity; see [`SchemaId`].
    pub id: SchemaId,
    /// Database name.
    pub database: String,
    /// Table name.
    pub table: String,
    /// The columns in table order. Empty for DDL and TRUNCATE pseudo-rows.
    pub columns: Vec<Column>,
    /// Indices into `columns` of the primary key (or of the first unique key of not-null columns), in key
    /// order. Empty where the table has none.
    pub key: Vec<usize>,
}

/// A column; the decoder's owner fills this in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Column name.
    pub name: String,
}
