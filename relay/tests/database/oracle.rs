//! The differential oracle: generated tables, rows and definitions on a real server; the fold of what `aesop-relay tail`
//! prints must be what the server's own SELECT says, column by column.

use crate::fold::{Ddl, Fold, Row};
use crate::random::Random;
use crate::server::{Kind, Server};
use crate::tail;
use crate::types::{self, Type};
use futures_util::future::BoxFuture;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use std::collections::BTreeMap;

/// Columns of a generated table, without its key and counter.
const COLUMNS: usize = 9;
/// Statements of one run, unless `AESOP_ORACLE_STATEMENTS` says otherwise.
const STATEMENTS: usize = 900;
/// Zero and invalid dates, index 0 of an ENUM: what a lax session can store, we must show.
const SQL_MODE: &str = "ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO";

/// How a generated table's rows are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    None,
    Int,
    Text,
    Pair,
    /// Of four columns, none of them an integer but the last.
    Wide,
}

#[derive(Clone, Debug)]
struct Table {
    name: String,
    key: Key,
    transactional: bool,
    /// Name and type; generated ones have no literal.
    columns: Vec<(String, Type)>,
    generated: Vec<String>,
    next: usize,
}

struct Run<'a> {
    conn: Conn,
    kind: Kind,
    random: Random,
    types: &'a [Type],
    tables: Vec<Table>,
    /// What each definition did, by its text.
    ddl: BTreeMap<String, Ddl>,
    /// For names that are never used twice.
    serial: usize,
    /// All rows are logged whole.
    whole_images: bool,
    /// Some columns of new tables must be given.
    requires: bool,
}

pub(crate) fn statements() -> usize {
    std::env::var("AESOP_ORACLE_STATEMENTS")
        .map_or(STATEMENTS, |n| n.parse().expect("AESOP_ORACLE_STATEMENTS"))
}

pub(crate) fn seed() -> u64 {
    std::env::var("AESOP_ORACLE_SEED").map_or(1, |n| n.parse().expect("AESOP_ORACLE_SEED"))
}

/// What goes wrong between the statements of a run, and what a reader has made of it in the end.
pub(crate) trait Disturber {
    /// A statement is done. True when the sessions of the server are lost.
    fn after_statement(&mut self) -> BoxFuture<'_, bool>;
    /// Whether there is time for rows that are larger than a packet of the protocol.
    /// All rows as they are now, in place of all that happened to them.
    fn snapshot(&self) -> Option<Vec<String>> {
        None
    }

    fn takes_large_rows(&self) -> bool {
        false
    }
    /// The types that tables are made of.
    fn types(&self, kind: Kind) -> Vec<Type> {
        types::all(kind)
    }
    /// The messages.
    fn lines(&mut self) -> BoxFuture<'_, Vec<String>>;
}

/// Nothing goes wrong; `tail` reads it all at the end.
struct Calm<'a> {
    server: &'a Server,
    start: String,
    tables: String,
}

impl Disturber for Calm<'_> {
    fn after_statement(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }

    fn lines(&mut self) -> BoxFuture<'_, Vec<String>> {
        let args = ["--from", &self.start, "--tables", &self.tables, "--max-row-bytes", "100000000"];
        let lines = tail::try_lines(&self.server.url(), &args).unwrap_or_else(|error| panic!("{error}"));
        Box::pin(std::future::ready(lines))
    }

    fn snapshot(&self) -> Option<Vec<String>> {
        let args = ["--from", "snapshot", "--tables", &self.tables, "--max-row-bytes", "100000000"];
        Some(tail::try_lines(&self.server.url(), &args).unwrap_or_else(|error| panic!("{error}")))
    }

    fn takes_large_rows(&self) -> bool {
        true
    }
}

/// One run in a database of its own.
pub(crate) async fn run(server: &Server, database: &str, partial_images: bool, seed: u64) {
    create(server, database).await;
    let start = tail::end_of_binlog(server).await;
    let mut calm = Calm { server, start, tables: format!("{database}.*") };
    statements_and_comparison(server, database, partial_images, seed, statements(), &mut calm).await;
}

/// A run in which things go wrong.
pub(crate) async fn run_disturbed(server: &Server, database: &str, seed: u64, disturber: &mut dyn Disturber) {
    create(server, database).await;
    statements_and_comparison(server, database, false, seed, statements(), disturber).await;
}

/// As [`run_disturbed`], in a database that is there, with a third of the statements.
pub(crate) async fn run_in(server: &Server, database: &str, seed: u64, disturber: &mut dyn Disturber) {
    statements_and_comparison(server, database, false, seed, statements() / 3, disturber).await;
}

async fn create(server: &Server, database: &str) {
    server
        .run(&[
            &format!("DROP DATABASE IF EXISTS {database}"),
            &format!("CREATE DATABASE {database} CHARACTER SET utf8mb4"),
        ])
        .await;
}

async fn session(server: &Server, database: &str) -> Conn {
    let mut conn = server.connect().await;
    conn.query_drop(format!("USE {database}")).await.unwrap();
    conn.query_drop(format!("SET sql_mode = '{SQL_MODE}', time_zone = '+00:00'")).await.unwrap();
    conn
}

async fn statements_and_comparison(
    server: &Server,
    database: &str,
    partial_images: bool,
    seed: u64,
    statements: usize,
    disturber: &mut dyn Disturber,
) {
    let types = disturber.types(server.kind);
    let conn = session(server, database).await;
    let mut run = Run {
        conn,
        kind: server.kind,
        random: Random::new(seed),
        types: &types,
        tables: Vec::new(),
        ddl: BTreeMap::new(),
        serial: 0,
        whole_images: !partial_images,
        requires: true,
    };
    // Every type once, in tables as wide as they need.
    for chunk in types.chunks(COLUMNS) {
        run.create(chunk.to_vec(), None).await;
        run.every_column_has_a_value().await;
    }
    disturber.after_statement().await;
    for _ in 0..statements {
        if partial_images {
            let image = *run.random.pick(&["MINIMAL", "NOBLOB", "FULL"]);
            run.sql(&format!("SET SESSION binlog_row_image = '{image}'")).await;
        }
        run.act().await;
        if disturber.after_statement().await {
            run.conn = session(server, database).await;
        }
    }
    if disturber.takes_large_rows() && !partial_images {
        run.large_rows().await;
    }
    let expected = run.select().await;
    let lines = disturber.lines().await;
    let mut fold = Fold { partial: partial_images, ..Fold::default() };
    for line in &lines {
        let known = |sql: &str| run.ddl.get(sql).cloned().unwrap_or(Ddl::Nothing);
        if let Err(what) = fold.push(line, known) {
            panic!("seed {seed}: {what}");
        }
    }
    assert!(fold.rows > statements * 2, "seed {seed}: only {} rows", fold.rows);
    assert!(partial_images || fold.ddls > statements / 20, "seed {seed}: only {} definitions", fold.ddls);
    if let Some(lines) = disturber.snapshot() {
        let read = snapshot_fold(&lines, seed);
        compare(&run, &read, expected.clone(), seed);
        for (name, table) in fold.tables.iter().filter(|(_, table)| !table.partial && !fold.partial) {
            let same = read.tables.get(name).map_or(table.rows().next().is_none(), |of| of.equals(table));
            let first =
                |table: Option<&crate::fold::Table>| format!("{:?}", table.and_then(|t| t.rows().next()));
            let (here, there) = (first(read.tables.get(name)), first(Some(table)));
            assert!(same, "seed {seed}: {name}: a snapshot says other than the binlog: {here}, {there}");
        }
    }
    compare(&run, &fold, expected, seed);
}

/// What a snapshot says, and nothing after it.
fn snapshot_fold(lines: &[String], seed: u64) -> Fold {
    let mut fold = Fold::default();
    for line in lines {
        assert!(line.starts_with("{\"op\":\"read\","), "seed {seed}: {line}");
        if let Err(what) = fold.push(line, |_| Ddl::Nothing) {
            panic!("seed {seed}: {what}");
        }
    }
    fold
}

fn compare(run: &Run<'_>, fold: &Fold, expected: Vec<Vec<Vec<Option<String>>>>, seed: u64) {
    let mut faults = Vec::new();
    for (table, rows) in run.tables.iter().zip(expected) {
        let folded = fold.tables.get(&table.name).cloned().unwrap_or_default();
        let mut ours: Vec<&Row> = folded.rows().collect();
        let partial = folded.partial || fold.partial;
        if ours.len() != rows.len() {
            faults.push(format!("{}: {} rows, SELECT has {}", table.name, ours.len(), rows.len()));
        }
        let columns = table.all_columns();
        for row in rows {
            let differing = |mine: &Row| {
                columns
                    .iter()
                    .zip(&row)
                    .filter(|((name, of), server)| {
                        !mine.get(name).map_or(partial, |value| of.same(value, server.as_deref()))
                    })
                    .map(|((name, of), server)| {
                        let value = mine.get(name).map_or("absent".to_owned(), ToString::to_string);
                        format!("{}.{name} {}: {value}, SELECT says {server:?}", table.name, of.ddl)
                    })
                    .collect::<Vec<_>>()
            };
            if let Some(at) = ours.iter().position(|mine| differing(mine).is_empty()) {
                ours.swap_remove(at);
            } else {
                let nearest = ours.iter().map(|mine| differing(mine)).min_by_key(Vec::len);
                faults.extend(nearest.unwrap_or_else(|| vec![format!("{}: missing {row:?}", table.name)]));
            }
        }
    }
    // One example of each column: thousands of rows may have the same fault.
    let mut first: BTreeMap<&str, &str> = BTreeMap::new();
    for fault in &faults {
        first.insert(fault.split(": ").next().unwrap_or_default(), fault);
    }
    let first: Vec<&&str> = first.values().take(40).collect();
    assert!(faults.is_empty(), "seed {seed}: {} faults: {first:#?}", faults.len());
}

impl Table {
    fn key_columns(&self) -> Vec<(String, Type)> {
        let named = |name: &str, of: &str| {
            let kind = types::all(Kind::MySql).into_iter().find(|t| t.ddl == of).unwrap();
            (name.to_owned(), kind)
        };
        match self.key {
            Key::None | Key::Int => vec![named("id", "INT")],
            Key::Text => vec![named("id", "INT"), named("k", "VARCHAR(20) CHARACTER SET latin1")],
            Key::Pair => vec![named("id", "INT"), named("k", "VARBINARY(200)")],
            Key::Wide => vec![
                named("id", "INT"),
                named("k", "DECIMAL(20,1)"),
                named("w", "DATETIME(6)"),
                named("v", "VARCHAR(20) CHARACTER SET utf8mb4"),
            ],
        }
    }

    /// The key's columns of a new row.
    fn key_of(&self, id: usize) -> Vec<String> {
        let mut fields = vec![id.to_string()];
        match self.key {
            Key::None | Key::Int => {}
            Key::Text => fields.push(format!("'k é{id}'")),
            Key::Pair => fields.push(format!("X'00ff{:02x}'", id % 3)),
            Key::Wide => fields.extend([
                format!("-{}.5", id % 5),
                format!("'2026-11-22 10:11:12.{:06}'", id % 7),
                format!("'ß漢😀{}'", id % 2),
            ]),
        }
        fields
    }

    fn key_names(&self) -> String {
        let names: Vec<String> = self.key_columns().iter().map(|(name, _)| format!("`{name}`")).collect();
        names.join(",")
    }

    fn all_columns(&self) -> Vec<(String, Type)> {
        let mut all = self.key_columns();
        all.extend(self.columns.iter().cloned());
        all
    }
}

impl Run<'_> {
    /// Runs a statement; what the server refuses (a duplicate key, a value that does not fit) changes nothing.
    async fn sql(&mut self, sql: &str) -> bool {
        match self.conn.query_drop(sql).await {
            Ok(()) => true,
            Err(mysql_async::Error::Server(_)) => false,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    async fn must(&mut self, sql: &str) {
        if let Err(error) = self.conn.query_drop(sql).await {
            panic!("{sql}: {error}");
        }
    }

    async fn define(&mut self, sql: &str, ddl: Ddl) -> bool {
        // A comment that makes each text the only one of its kind.
        self.serial += 1;
        let sql = format!("{sql} /* {} */", self.serial);
        let done = self.sql(&sql).await;
        if done {
            self.ddl.insert(sql, ddl);
        }
        done
    }

    fn name(&mut self, prefix: &str) -> String {
        self.serial += 1;
        format!("{prefix}{}", self.serial)
    }

    /// A literal that a server does not take would leave all the types beside it untried.
    async fn every_column_has_a_value(&mut self) {
        let at = self.tables.len() - 1;
        let table = self.tables[at].clone();
        for _ in 0..40 {
            let counts: Vec<String> =
                table.columns.iter().map(|(name, _)| format!("COUNT(`{name}`)")).collect();
            let sql = format!("SELECT {} FROM `{}`", counts.join(", "), table.name);
            let counts: mysql_async::Row = self.conn.query_first(&sql).await.unwrap().unwrap();
            if counts.unwrap().into_iter().all(|count| mysql_async::from_value::<u64>(count) > 0) {
                return;
            }
            self.insert(at).await;
        }
        let ddls: Vec<&str> = table.columns.iter().map(|(_, of)| of.ddl.as_str()).collect();
        panic!("no value for each of {ddls:?} goes in");
    }

    async fn create(&mut self, types: Vec<Type>, name: Option<String>) {
        let prefix = self.random.pick(&["t", "select ", "tä", "T"]);
        let name = name.unwrap_or_else(|| self.name(prefix));
        if self.kind == Kind::MySql {
            let invisible = self.random.below(2);
            self.must(&format!("SET SESSION sql_generate_invisible_primary_key = {invisible}")).await;
        }
        let key = *self.random.pick(&[Key::None, Key::Int, Key::Int, Key::Text, Key::Pair, Key::Wide]);
        let transactional = !self.random.one_in(5);
        let mut columns: Vec<(String, Type)> = Vec::new();
        for mut of in types {
            let prefix = self.random.pick(&["c", "from ", "Ö"]);
            let column = self.name(prefix);
            // MariaDB's default of a geometry that must be there is none: no bytes.
            of.nullable = !self.requires || of.form == types::Form::Geometry || !self.random.one_in(5);
            columns.push((column, of));
        }
        let mut lines = vec!["`id` INT NOT NULL".to_owned()];
        match key {
            Key::None => {}
            Key::Int => lines.push("PRIMARY KEY (`id`)".to_owned()),
            Key::Text => {
                lines.push("`k` VARCHAR(20) CHARACTER SET latin1 NOT NULL".to_owned());
                lines.push("PRIMARY KEY (`k`)".to_owned());
            }
            Key::Pair => {
                lines.push("`k` VARBINARY(200) NOT NULL".to_owned());
                lines.push("PRIMARY KEY (`k`(100), `id`)".to_owned());
            }
            Key::Wide => {
                lines.push("`k` DECIMAL(20,1) NOT NULL".to_owned());
                lines.push("`w` DATETIME(6) NOT NULL".to_owned());
                lines.push("`v` VARCHAR(20) CHARACTER SET utf8mb4 NOT NULL".to_owned());
                lines.push("PRIMARY KEY (`w`, `v`, `k`, `id`)".to_owned());
            }
        }
        for (column, of) in &columns {
            // MariaDB hides no column that must be given.
            let invisible = if self.random.one_in(6) && of.nullable { " INVISIBLE" } else { "" };
            let null = if of.nullable { "NULL" } else { "NOT NULL" };
            let default = if self.random.one_in(3) {
                format!(" DEFAULT ({})", of.literal(&mut self.random))
            } else {
                String::new()
            };
            lines.push(format!("`{column}` {} {null}{default}{invisible}", of.ddl));
        }
        let mut generated = Vec::new();
        if self.random.one_in(2) {
            let column = self.name("g");
            let stored = *self.random.pick(&["STORED", "VIRTUAL"]);
            lines.push(format!("`{column}` BIGINT GENERATED ALWAYS AS (`id` * 3) {stored}"));
            let bigint = self.types.iter().find(|t| t.ddl == "BIGINT").unwrap().clone();
            columns.push((column.clone(), bigint));
            generated.push(column);
        }
        let engine = if transactional { "InnoDB" } else { "MyISAM" };
        let sql = format!("CREATE TABLE `{name}` ({}) ENGINE={engine}", lines.join(", "));
        let without_default = |line: &String| match line.split_once(" DEFAULT (") {
            Some((before, rest)) if rest.ends_with(" INVISIBLE") => format!("{before} INVISIBLE"),
            Some((before, _)) => before.to_owned(),
            None => line.clone(),
        };
        let plain: Vec<String> = lines.iter().map(without_default).collect();
        let plain = format!("CREATE TABLE `{name}` ({}) ENGINE={engine}", plain.join(", "));
        let mut table = Table { name, key, transactional, columns, generated, next: 0 };
        if !self.define(&sql, Ddl::Nothing).await {
            // MyISAM has no VECTOR of such a length, not every literal is a default, and the like.
            let sql = sql.replace("MyISAM", "InnoDB");
            table.transactional = true;
            if !self.define(&sql, Ddl::Nothing).await {
                self.must(&plain.replace("MyISAM", "InnoDB")).await;
            }
        }
        self.tables.push(table);
        let at = self.tables.len() - 1;
        for _ in 0..3 {
            self.insert(at).await;
        }
    }

    async fn act(&mut self) {
        let at = self.random.below(self.tables.len());
        match self.random.below(40) {
            0..=2 => self.definition(at).await,
            3..=9 => self.transaction().await,
            10 => {
                let compressed = self.random.below(2);
                self.compress(compressed).await;
                if self.kind == Kind::MySql {
                    // Steps of JSON documents need the whole old ones.
                    let steps = if self.whole_images { *self.random.pick(&["", "PARTIAL_JSON"]) } else { "" };
                    self.must(&format!("SET SESSION binlog_row_value_options = '{steps}'")).await;
                }
            }
            _ => self.change(at).await,
        }
    }

    async fn compress(&mut self, on: usize) {
        let sql = match self.kind {
            Kind::MariaDb => format!("SET GLOBAL log_bin_compress = {on}, log_bin_compress_min_len = 10"),
            Kind::MySql => format!("SET SESSION binlog_transaction_compression = {on}"),
        };
        self.must(&sql).await;
    }

    /// Rows that no packet of the protocol holds: each kind of large value comes, changes and goes, also compressed.
    async fn large_rows(&mut self) {
        let of = |ddl: &str| self.types.iter().find(|of| of.ddl.starts_with(ddl)).unwrap().clone();
        let types = vec![of("LONGBLOB"), of("LONGTEXT"), of("JSON")];
        self.requires = false;
        self.create(types, None).await;
        let at = self.tables.len() - 1;
        let table = self.tables[at].clone();
        let name = table.name.clone();
        let [blob, text, json] = [0, 1, 2].map(|column: usize| table.columns[column].0.clone());
        // Rows of its own: others may have been refused.
        let (names, ids) = (table.key_names(), [table.next, table.next + 1, table.next + 2]);
        self.tables[at].next += 3;
        let [gone, document, long] = ids;
        self.compress(0).await;
        if self.kind == Kind::MySql {
            self.must("SET SESSION binlog_row_value_options = 'PARTIAL_JSON'").await;
        }
        for id in ids {
            let (key, bytes) = (table.key_of(id).join(","), if id == gone { 17_000_000 } else { 1 });
            self.must(&format!(
                "INSERT INTO `{name}` ({names}, `{blob}`) VALUES ({key}, REPEAT('x', {bytes}))"
            ))
            .await;
        }
        let value = "CONCAT('[0, \"', REPEAT('j', 17000000), '\"]')";
        self.must(&format!("UPDATE `{name}` SET `{json}` = {value} WHERE `id` = {document}")).await;
        if self.kind == Kind::MySql {
            let step = format!("JSON_SET(`{json}`, '$[0]', 7)");
            self.must(&format!("UPDATE `{name}` SET `{json}` = {step} WHERE `id` = {document}")).await;
        }
        self.must(&format!("DELETE FROM `{name}` WHERE `id` = {gone}")).await;
        self.compress(1).await;
        // A small row behind it in the same event.
        let value = format!("IF(`id` = {long}, REPEAT('text', 4250000), 'short')");
        self.must(&format!("UPDATE `{name}` SET `{text}` = {value} WHERE `id` >= {document}")).await;
        self.compress(0).await;
    }

    async fn transaction(&mut self) {
        self.serial += 1;
        let branch = self.random.one_in(4).then(|| format!("branch {}", self.serial));
        match &branch {
            Some(branch) => self.must(&format!("XA START '{branch}'")).await,
            None => self.must("BEGIN").await,
        }
        for step in 0..=self.random.below(6) {
            let at = self.random.below(self.tables.len());
            // Rows of tables that cannot be rolled back are logged apart and stand, whatever becomes of a savepoint; then
            // MariaDB leaves the rolled back ones in.
            let savepoint = self.random.one_in(3);
            if savepoint {
                self.must(&format!("SAVEPOINT s{step}")).await;
            }
            self.change(at).await;
            if savepoint {
                let another = self.random.below(self.tables.len());
                self.change(another).await;
                if self.random.one_in(2) {
                    self.must(&format!("ROLLBACK TO s{step}")).await;
                } else {
                    self.must(&format!("RELEASE SAVEPOINT s{step}")).await;
                }
            }
        }
        let end = if self.random.one_in(4) { "ROLLBACK" } else { "COMMIT" };
        let Some(branch) = branch else { return self.must(end).await };
        self.must(&format!("XA END '{branch}'")).await;
        if end == "COMMIT" && self.random.one_in(3) {
            return self.must(&format!("XA COMMIT '{branch}' ONE PHASE")).await;
        }
        self.must(&format!("XA PREPARE '{branch}'")).await;
        self.must(&format!("XA {end} '{branch}'")).await;
    }

    async fn change(&mut self, at: usize) {
        match self.random.below(10) {
            0..=4 => self.insert(at).await,
            5..=7 => self.update(at).await,
            8 => {
                let (name, condition) = (self.tables[at].name.clone(), self.condition());
                self.sql(&format!("DELETE FROM `{name}` WHERE {condition}")).await;
            }
            _ => self.move_keys(at).await,
        }
    }

    fn condition(&mut self) -> String {
        let modulus = *self.random.pick(&[2, 3, 7, 20]);
        format!("`id` % {modulus} = {}", self.random.below(modulus))
    }

    async fn insert(&mut self, at: usize) {
        let rows = if self.random.one_in(6) { self.random.below(30) + 1 } else { self.random.below(3) + 1 };
        let table = self.tables[at].clone();
        // Some columns are left to their defaults.
        let sparing = self.random.one_in(3);
        let mut columns: Vec<&(String, Type)> = Vec::new();
        for column in &table.columns {
            if !(table.generated.contains(&column.0) || sparing && self.random.one_in(2)) {
                columns.push(column);
            }
        }
        let keys = table.key_columns();
        let names: Vec<String> =
            keys.iter().chain(columns.iter().copied()).map(|(name, _)| format!("`{name}`")).collect();
        let verb = *self.random.pick(&["INSERT", "INSERT", "INSERT IGNORE", "REPLACE", "UPSERT"]);
        // Over rows that are there already. With partial images MariaDB does not log the columns that a REPLACE sets to
        // their defaults.
        let says_all = self.whole_images || self.kind == Kind::MySql || !sparing;
        let first = match verb {
            "REPLACE" if says_all && self.random.one_in(2) => self.random.below(table.next + 1),
            "UPSERT" if self.random.one_in(2) => self.random.below(table.next + 1),
            _ => table.next,
        };
        let mut values = Vec::new();
        for id in first..first + rows {
            let mut fields = table.key_of(id);
            for (_, of) in &columns {
                let null = of.nullable && self.random.one_in(6);
                fields.push(if null { "NULL".to_owned() } else { of.literal(&mut self.random) });
            }
            values.push(format!("({})", fields.join(",")));
        }
        self.tables[at].next = table.next.max(first + rows);
        let (verb, behind) = match (verb, columns.first()) {
            ("UPSERT", Some((name, _))) => {
                ("INSERT", format!(" ON DUPLICATE KEY UPDATE `{name}` = VALUES(`{name}`)"))
            }
            ("UPSERT", None) => ("INSERT", String::new()),
            (verb, _) => (verb, String::new()),
        };
        let (name, names, values) = (&table.name, names.join(","), values.join(","));
        self.sql(&format!("{verb} INTO `{name}` ({names}) VALUES {values}{behind}")).await;
    }

    async fn update(&mut self, at: usize) {
        let table = self.tables[at].clone();
        let mut sets = Vec::new();
        for (name, of) in &table.columns {
            let often = if of.ddl == "JSON" { 1 } else { 4 };
            if !table.generated.contains(name) && self.random.one_in(often) {
                let value = match self.random.below(5) {
                    0 if of.nullable => "NULL".to_owned(),
                    1..=3 if of.ddl == "JSON" => self.step(name),
                    _ => of.literal(&mut self.random),
                };
                sets.push(format!("`{name}` = {value}"));
            }
        }
        let condition = self.condition();
        if !sets.is_empty() {
            self.sql(&format!("UPDATE IGNORE `{}` SET {} WHERE {condition}", table.name, sets.join(",")))
                .await;
        }
    }

    /// A change inside a JSON document, which may be logged as a step.
    fn step(&mut self, column: &str) -> String {
        let column = format!("`{column}`");
        let path = *self.random.pick(&[
            "$.k0",
            "$.\"kü1\"",
            "$[0]",
            "$[1]",
            "$.\"klong key 0\"",
            "$[2].k1",
            "$.k1[0]",
        ]);
        let value = *self.random.pick(&["1", "'text'", "CAST('[1, {\"a\": null}]' AS JSON)", "12.5", "TRUE"]);
        match self.random.below(6) {
            // Large beside a step, so that the step is what is logged.
            4 | 5 => {
                "JSON_OBJECT('k0', 1, 'kü1', '', 'k1', JSON_ARRAY(1, 2), 'pad', REPEAT('p', 400))".to_owned()
            }
            0 => format!("JSON_SET({column}, '{path}', {value})"),
            1 => format!("JSON_REPLACE({column}, '{path}', {value}, '$.k2', {value})"),
            2 => format!("JSON_REMOVE({column}, '{path}')"),
            _ => format!("JSON_SET({column}, '{path}', {value}, '$[0]', {value})"),
        }
    }

    /// Changes keys, many in one statement.
    async fn move_keys(&mut self, at: usize) {
        let table = self.tables[at].clone();
        let by = self.random.below(3) + 1;
        let (set, order) = match table.key {
            Key::None | Key::Int | Key::Pair | Key::Wide => (format!("`id` = `id` + {by}"), "`id` DESC"),
            Key::Text => ("`k` = CONCAT('x', `k`)".to_owned(), "`k`"),
        };
        self.tables[at].next += by;
        self.sql(&format!("UPDATE `{}` SET {set} ORDER BY {order} LIMIT 5", table.name)).await;
    }

    async fn definition(&mut self, at: usize) {
        let table = self.tables[at].clone();
        let name = table.name.clone();
        match self.random.below(9) {
            0 => {
                let of = self.random.pick(self.types).clone();
                let column = self.name("new ");
                let place = *self.random.pick(&["FIRST", "AFTER `id`", ""]);
                let sql = format!("ALTER TABLE `{name}` ADD COLUMN `{column}` {} NULL {place}", of.ddl);
                if self.define(&sql, Ddl::Added).await {
                    self.tables[at].columns.push((column, of));
                }
            }
            1 if table.columns.len() > 4 => {
                let (column, _) = self.random.pick(&table.columns).clone();
                let sql = format!("ALTER TABLE `{name}` DROP COLUMN `{column}`");
                if self.define(&sql, Ddl::Dropped(column.clone())).await {
                    self.tables[at].columns.retain(|(c, _)| *c != column);
                }
            }
            2 => {
                let index = self.random.below(table.columns.len());
                let (from, to) = (table.columns[index].0.clone(), self.name("renamed "));
                if table.generated.contains(&from) {
                    return;
                }
                let sql = format!("ALTER TABLE `{name}` RENAME COLUMN `{from}` TO `{to}`");
                if self.define(&sql, Ddl::Renamed(from, to.clone())).await {
                    self.tables[at].columns[index].0 = to;
                }
            }
            3 => {
                let (column, of) = self.random.pick(&table.columns).clone();
                if !table.generated.contains(&column) {
                    let sql = format!("ALTER TABLE `{name}` MODIFY COLUMN `{column}` {} NULL FIRST", of.ddl);
                    self.define(&sql, Ddl::Nothing).await;
                }
            }
            4 => {
                let to = self.name("moved ");
                let verb =
                    *self.random.pick(&["RENAME TABLE `{}` TO `{}`", "ALTER TABLE `{}` RENAME TO `{}`"]);
                let sql = verb.replacen("{}", &name, 1).replacen("{}", &to, 1);
                if self.define(&sql, Ddl::Moved(vec![(name, to.clone())])).await {
                    self.tables[at].name = to;
                }
            }
            5 => self.swap(at).await,
            6 => {
                self.define(&format!("TRUNCATE TABLE `{name}`"), Ddl::Emptied).await;
            }
            7 => {
                // The server writes its own text for DROP TABLE.
                self.must(&format!("DROP TABLE `{name}`")).await;
                self.ddl.insert(format!("DROP TABLE `{name}` /* generated by server */"), Ddl::Gone);
                self.tables.remove(at);
                let types = (0..COLUMNS).map(|_| self.random.pick(self.types).clone()).collect();
                let again = self.random.one_in(2);
                self.create(types, again.then_some(name)).await;
            }
            _ => {
                // As gh-ost does: a copy, filled, then swapped in with one statement.
                let ghost = format!("_{}_gho", self.name("g"));
                self.define(&format!("CREATE TABLE `{ghost}` LIKE `{name}`"), Ddl::Nothing).await;
                let names: Vec<String> = table
                    .all_columns()
                    .iter()
                    .filter(|(n, _)| !table.generated.contains(n))
                    .map(|(n, _)| format!("`{n}`"))
                    .collect();
                let names = names.join(",");
                self.sql(&format!("INSERT IGNORE INTO `{ghost}` ({names}) SELECT {names} FROM `{name}`"))
                    .await;
                let old = format!("_{}_del", self.name("g"));
                let sql = format!("RENAME TABLE `{name}` TO `{old}`, `{ghost}` TO `{name}`");
                let moves = vec![(name.clone(), old.clone()), (ghost, name.clone())];
                self.define(&sql, Ddl::Moved(moves)).await;
                self.must(&format!("DROP TABLE `{old}`")).await;
                self.ddl.insert(format!("DROP TABLE `{old}` /* generated by server */"), Ddl::Gone);
            }
        }
    }

    async fn swap(&mut self, at: usize) {
        let other = self.random.below(self.tables.len());
        if other == at {
            return;
        }
        let (a, b) = (self.tables[at].name.clone(), self.tables[other].name.clone());
        let between = self.name("swap");
        let sql = format!("RENAME TABLE `{a}` TO `{between}`, `{b}` TO `{a}`, `{between}` TO `{b}`");
        let moves = vec![(a.clone(), between.clone()), (b.clone(), a.clone()), (between, b.clone())];
        if self.define(&sql, Ddl::Moved(moves)).await {
            self.tables[at].name = b;
            self.tables[other].name = a;
        }
    }

    async fn select(&mut self) -> Vec<Vec<Vec<Option<String>>>> {
        let mut all = Vec::new();
        for table in self.tables.clone() {
            let columns: Vec<String> =
                table.all_columns().iter().map(|(name, of)| of.select(&format!("`{name}`"))).collect();
            let sql = format!("SELECT {} FROM `{}`", columns.join(", "), table.name);
            let rows: Vec<mysql_async::Row> = match self.conn.query(&sql).await {
                Ok(rows) => rows,
                Err(error) => panic!("{sql}: {error}"),
            };
            let text =
                |row: mysql_async::Row| row.unwrap().into_iter().map(mysql_async::from_value).collect();
            all.push(rows.into_iter().map(text).collect());
        }
        all
    }
}
