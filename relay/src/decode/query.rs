//! Telling statements apart: just enough to follow transactions and to report DDL. It cannot fail; what it does
//! not know is [`Statement::Other`].

/// What a statement in the binlog means to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// BEGIN, START TRANSACTION.
    Begin,
    /// XA START of this branch.
    XaStart(String),
    /// COMMIT.
    Commit,
    /// ROLLBACK of everything.
    Rollback,
    /// SAVEPOINT of this name.
    Savepoint(String),
    /// ROLLBACK TO the savepoint of this name: rows behind it that are already read did not happen.
    RollbackTo(String),
    /// XA COMMIT of this branch.
    XaCommit(String),
    /// XA ROLLBACK of this branch.
    XaRollback(String),
    /// TRUNCATE TABLE.
    Truncate(Name),
    /// CREATE, ALTER, DROP, RENAME of tables, indexes and databases.
    Ddl {
        /// The first table named, or just a database.
        name: Name,
        /// More tables may be named.
        several: bool,
    },
    /// CREATE TABLE … SELECT as a statement: rows we never see.
    Filled(Name),
    /// INSERT, UPDATE, DELETE, REPLACE, LOAD DATA as a statement, a call of a function that changes something: rows
    /// we never see.
    Dml,
    /// All else: accounts, views, routines, maintenance, temporary tables.
    Other,
}

/// A table, maybe with its database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name {
    /// Database, where given.
    pub database: Option<String>,
    /// Table, where one is named.
    pub table: Option<String>,
}

/// Of a session's `sql_mode`, what decides where text in quotes ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoting {
    /// `ANSI_QUOTES` is off: `"` begins text, not a name.
    pub double_is_text: bool,
    /// `NO_BACKSLASH_ESCAPES` is off.
    pub backslash_escapes: bool,
}

impl Quoting {
    const ANSI_QUOTES: u64 = 1 << 2;
    const NO_BACKSLASH_ESCAPES: u64 = 1 << 20;

    /// From the bits of `sql_mode`, the same on MySQL and MariaDB.
    pub fn of_sql_mode(mode: u64) -> Self {
        Self {
            double_is_text: mode & Self::ANSI_QUOTES == 0,
            backslash_escapes: mode & Self::NO_BACKSLASH_ESCAPES == 0,
        }
    }
}

/// Classifies a statement. Without the session's quoting what stands behind a doubtful quote counts as seen.
pub fn classify(sql: &[u8], quoting: Option<Quoting>) -> Statement {
    // The statements seen once for each transaction, without any parsing.
    match sql {
        b"BEGIN" => return Statement::Begin,
        b"COMMIT" => return Statement::Commit,
        _ => {}
    }
    let mut words = Words::with_quoting(sql, quoting);
    if !words.skip_settings() {
        return Statement::Dml;
    }
    let first = words.keyword();
    match first.as_str() {
        "BEGIN" => Statement::Begin,
        "START" if words.keyword() == "TRANSACTION" => Statement::Begin,
        "COMMIT" => Statement::Commit,
        "SAVEPOINT" => Statement::Savepoint(words.identifier().unwrap_or_default()),
        "ROLLBACK" => {
            words.skip(&["WORK"]);
            if !words.skipped("TO") {
                return Statement::Rollback;
            }
            words.skip(&["SAVEPOINT"]);
            Statement::RollbackTo(words.identifier().unwrap_or_default())
        }
        "XA" => {
            let verb = words.keyword();
            let branch = || branch_name(words.rest);
            match verb.as_str() {
                "START" | "BEGIN" => Statement::XaStart(branch()),
                "COMMIT" => Statement::XaCommit(branch()),
                "ROLLBACK" => Statement::XaRollback(branch()),
                _ => Statement::Other,
            }
        }
        "TRUNCATE" => {
            words.skip(&["TABLE"]);
            Statement::Truncate(words.name())
        }
        "DELETE" => emptied(words).map_or(Statement::Dml, Statement::Truncate),
        // Those that read are logged only where a function that they call changes something.
        "INSERT" | "UPDATE" | "REPLACE" | "LOAD" | "WITH" | "SELECT" | "DO" | "CALL" | "VALUES" | "TABLE" => {
            Statement::Dml
        }
        "" if words.rest.starts_with(b"(") => Statement::Dml,
        "CREATE" | "ALTER" | "DROP" | "RENAME" => definition(&first, words),
        _ => Statement::Other,
    }
}

/// The table whose rows are all gone: what a server writes for a MEMORY table that its restart has emptied.
fn emptied(mut words: Words<'_>) -> Option<Name> {
    words.skip(&["FROM"]);
    let name = words.name();
    (name.table.is_some() && words.at_end()).then_some(name)
}

/// Whether a statement that changes rows may change some of a wanted database, run in one that is not: it names one, or
/// what it calls may. What its triggers do besides is not told.
pub fn may_change(sql: &[u8], quoting: Option<Quoting>, is_wanted: impl Fn(&str) -> bool) -> bool {
    let mut words = Words::with_quoting(sql, quoting);
    if !words.skip_settings() {
        return true;
    }
    let mut look = words;
    let verb = look.keyword();
    if verb.is_empty() || matches!(verb.as_str(), "SELECT" | "DO" | "CALL" | "VALUES" | "TABLE") {
        return true;
    }
    // A server with lower_case_table_names takes any case.
    let is_wanted = |name: &str| is_wanted(name) || is_wanted(&name.to_lowercase());
    while !words.at_end() {
        let first = words.rest.first().copied().unwrap_or_default();
        if first == b'\'' {
            if words.quoted(first).is_none() {
                return true;
            }
            continue;
        }
        let mut look = words;
        let name = look.identifier();
        if look.punctuation() == Some(b'.') && name.is_some_and(|name| is_wanted(&name)) {
            return true;
        }
        match first {
            b'`' | b'"' if words.quoted(first).is_none() => return true,
            b'`' | b'"' => {}
            byte if is_word(byte) => drop(words.bare()),
            _ => drop(words.advance(1)),
        }
    }
    false
}

/// A branch's name as the server writes it, `X'…',X'…',1`, without blanks and what may follow it.
fn branch_name(bytes: &[u8]) -> String {
    let name = String::from_utf8_lossy(bytes).to_uppercase();
    let name = name.split("ONE").next().unwrap_or_default();
    name.split_whitespace().collect()
}

fn definition(verb: &str, mut words: Words<'_>) -> Statement {
    loop {
        match words.keyword().as_str() {
            // OR REPLACE, ONLINE, IGNORE, UNIQUE INDEX and the like.
            "OR" | "REPLACE" | "ONLINE" | "OFFLINE" | "IGNORE" | "UNIQUE" | "FULLTEXT" | "SPATIAL" => {}
            "TABLE" | "TABLES" => {
                words.skip(&["IF", "NOT", "EXISTS"]);
                let name = words.name();
                if verb == "CREATE" && is_filled(words) {
                    return Statement::Filled(name);
                }
                let several = verb == "RENAME" || (verb == "DROP" && words.punctuation() == Some(b','));
                return Statement::Ddl { name, several };
            }
            "DATABASE" | "SCHEMA" => {
                words.skip(&["IF", "NOT", "EXISTS"]);
                let name = words.name();
                return Statement::Ddl { name: Name { database: name.table, table: None }, several: false };
            }
            "INDEX" => return Statement::Ddl { name: words.after_on(), several: false },
            // TEMPORARY tables are never replicated as rows; the rest has no rows.
            _ => return Statement::Other,
        }
    }
}

/// Whether a new table, whose name has been read, comes with rows of a query.
fn is_filled(mut words: Words<'_>) -> bool {
    // An ordinary definition has none of these words outside of quotes but VALUES, for partitions.
    if words.has("SELECT") || words.has("TABLE") {
        return true;
    }
    // VALUES ROW(1), VALUES (1); of partitions: VALUES LESS THAN, VALUES IN.
    while words.find("VALUES") == Some(true) {
        let mut next = words;
        if next.punctuation() == Some(b'(') || next.skipped("ROW") {
            return true;
        }
    }
    false
}

/// A statement, word by word.
#[derive(Clone, Copy)]
pub(crate) struct Words<'a> {
    rest: &'a [u8],
    quoting: Option<Quoting>,
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}

impl<'a> Words<'a> {
    pub(crate) fn new(sql: &'a [u8]) -> Self {
        Self { rest: sql, quoting: None }
    }

    /// From what a statement is for on: `SET STATEMENT … FOR` is left out.
    pub(crate) fn of_meant(sql: &'a [u8]) -> Self {
        let mut words = Self::new(sql);
        words.skip_settings();
        words
    }

    /// Goes behind MariaDB's `SET STATEMENT name = value, … FOR`, where that stands; false where it has no end, or
    /// another behind it.
    fn skip_settings(&mut self) -> bool {
        let mut look = *self;
        if !(look.skipped("SET") && look.skipped("STATEMENT")) {
            return true;
        }
        let found = look.find("FOR") == Some(true);
        *self = look;
        let mut next = look;
        found && !next.skipped("SET")
    }

    fn with_quoting(sql: &'a [u8], quoting: Option<Quoting>) -> Self {
        Self { rest: sql, quoting }
    }

    fn advance(&mut self, by: usize) -> &'a [u8] {
        let (head, tail) = self.rest.split_at_checked(by).unwrap_or((self.rest, &[]));
        self.rest = tail;
        head
    }

    /// Skips blanks and comments. The text of `/*!80000 … */` counts as text: its opening is skipped.
    fn blanks(&mut self) {
        loop {
            let before = self.rest.len();
            self.rest = self.rest.trim_ascii_start();
            if self.rest.starts_with(b"/*!") || self.rest.starts_with(b"/*M!") {
                let open = if self.rest.starts_with(b"/*!") { 3 } else { 4 };
                self.advance(open);
                let digits = self.rest.iter().take_while(|b| b.is_ascii_digit()).count();
                self.advance(digits);
            } else if self.rest.starts_with(b"/*") {
                let end = memchr::memmem::find(self.rest, b"*/").map_or(self.rest.len(), |at| at + 2);
                self.advance(end);
            } else if self.rest.starts_with(b"*/") {
                self.advance(2);
            } else if self.rest.starts_with(b"#") || self.is_dashes() {
                let end = memchr::memchr(b'\n', self.rest).map_or(self.rest.len(), |at| at + 1);
                self.advance(end);
            }
            if self.rest.len() == before {
                return;
            }
        }
    }

    /// Two dashes begin a comment where a blank or nothing follows.
    fn is_dashes(&self) -> bool {
        self.rest.strip_prefix(b"--").is_some_and(|rest| rest.first().is_none_or(|byte| *byte <= b' '))
    }

    fn bare(&mut self) -> &'a [u8] {
        let len = self.rest.iter().take_while(|b| is_word(**b)).count();
        self.advance(len)
    }

    /// The next word in capitals; empty at anything else, which is then not consumed.
    pub(crate) fn keyword(&mut self) -> String {
        self.blanks();
        String::from_utf8_lossy(self.bare()).to_ascii_uppercase()
    }

    /// Skips these words where they stand.
    pub(super) fn skip(&mut self, words: &[&str]) {
        for word in words {
            let mark = *self;
            if self.keyword() != *word {
                *self = mark;
            }
        }
    }

    /// Skips this word; whether it stood there.
    pub(crate) fn skipped(&mut self, word: &str) -> bool {
        let mark = *self;
        let is_there = self.keyword() == word;
        if !is_there {
            *self = mark;
        }
        is_there
    }

    /// Skips a comma; whether one stood there.
    pub(super) fn comma(&mut self) -> bool {
        let is_there = self.punctuation() == Some(b',');
        if is_there {
            self.advance(1);
        }
        is_there
    }

    pub(super) fn at_end(&mut self) -> bool {
        self.blanks();
        self.rest.is_empty()
    }

    /// Goes behind the next such word outside of quotes and comments; false at the end, none where a quote does not
    /// end.
    pub(crate) fn find(&mut self, word: &str) -> Option<bool> {
        while !self.at_end() {
            match self.rest.first() {
                Some(quote @ (b'\'' | b'"' | b'`')) => self.quoted(*quote)?,
                Some(byte) if is_word(*byte) => {
                    if self.bare().eq_ignore_ascii_case(word.as_bytes()) {
                        return Some(true);
                    }
                }
                _ => drop(self.advance(1)),
            }
        }
        Some(false)
    }

    /// Whether a backslash takes the meaning of what follows it, in these quotes; none where the session's mode is
    /// not known.
    fn escapes(&self, quote: u8) -> Option<bool> {
        match (quote, self.quoting) {
            (b'`', _) => Some(false),
            (b'"', Some(quoting)) => Some(quoting.double_is_text && quoting.backslash_escapes),
            (_, quoting) => quoting.map(|quoting| quoting.backslash_escapes),
        }
    }

    /// Whether such a word comes, outside of quotes and comments.
    fn has(mut self, word: &str) -> bool {
        self.find(word) == Some(true)
    }

    /// Skips what is in quotes; none where it does not end, or a backslash makes it unclear where.
    fn quoted(&mut self, quote: u8) -> Option<()> {
        self.advance(1);
        let escapes = self.escapes(quote);
        loop {
            if escapes == Some(false) {
                let at = memchr::memchr(quote, self.rest)?;
                self.advance(at + 1);
                return Some(());
            }
            let at = memchr::memchr2(quote, b'\\', self.rest)?;
            if self.rest.get(at) == Some(&quote) {
                self.advance(at + 1);
                return Some(());
            }
            if escapes.is_none() && self.rest.get(at + 1) == Some(&quote) {
                return None;
            }
            self.advance(at + 2);
        }
    }

    fn punctuation(&mut self) -> Option<u8> {
        self.blanks();
        self.rest.first().copied().filter(|b| !is_word(*b))
    }

    /// A bare or quoted identifier.
    pub(super) fn identifier(&mut self) -> Option<String> {
        self.blanks();
        let quote = *self.rest.first()?;
        if !matches!(quote, b'`' | b'"') {
            let word = self.bare();
            return (!word.is_empty()).then(|| String::from_utf8_lossy(word).into_owned());
        }
        self.advance(1);
        let mut name = Vec::new();
        loop {
            let at = memchr::memchr(quote, self.rest)?;
            name.extend_from_slice(self.advance(at));
            self.advance(1);
            if self.rest.first() != Some(&quote) {
                return Some(String::from_utf8_lossy(&name).into_owned());
            }
            // A doubled quote stands for one.
            name.push(quote);
            self.advance(1);
        }
    }

    /// `table` or `database.table`.
    pub(super) fn name(&mut self) -> Name {
        let Some(first) = self.identifier() else { return Name::default() };
        if self.punctuation() == Some(b'.') {
            self.advance(1);
            return Name { database: Some(first), table: self.identifier() };
        }
        Name { database: None, table: Some(first) }
    }

    /// The name behind the next ON: `CREATE INDEX i ON t`.
    pub(super) fn after_on(&mut self) -> Name {
        // IF NOT EXISTS, the index's name, USING BTREE.
        for _ in 0..8 {
            match self.identifier() {
                Some(word) if word.eq_ignore_ascii_case("ON") => return self.name(),
                Some(_) => {}
                None => break,
            }
        }
        Name::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn name(database: Option<&str>, table: &str) -> Name {
        Name { database: database.map(str::to_owned), table: Some(table.to_owned()) }
    }

    fn plain(sql: &[u8]) -> Statement {
        classify(sql, None)
    }

    const ORDINARY: Option<Quoting> = Some(Quoting { double_is_text: true, backslash_escapes: true });

    #[test]
    fn transactions() {
        assert_eq!(plain(b"BEGIN"), Statement::Begin);
        assert_eq!(plain(b"begin /* x */"), Statement::Begin);
        assert_eq!(plain(b"START TRANSACTION"), Statement::Begin);
        assert_eq!(plain(b"COMMIT"), Statement::Commit);
        assert_eq!(plain(b"ROLLBACK"), Statement::Rollback);
        assert_eq!(plain(b"ROLLBACK WORK"), Statement::Rollback);
        let name = || "a `b".to_owned();
        assert_eq!(plain(b"ROLLBACK TO `a ``b`"), Statement::RollbackTo(name()));
        assert_eq!(plain(b"rollback work to savepoint \"a `b\""), Statement::RollbackTo(name()));
        assert_eq!(plain(b"SAVEPOINT `a ``b`"), Statement::Savepoint(name()));
        assert_eq!(plain(b"XA START X'61',X'',1"), Statement::XaStart("X'61',X'',1".to_owned()));
        assert_eq!(plain(b"XA COMMIT X'61', X'',1 ONE PHASE"), Statement::XaCommit("X'61',X'',1".to_owned()));
        assert_eq!(plain(b"XA COMMIT X'61',X'',1"), Statement::XaCommit("X'61',X'',1".to_owned()));
    }

    #[test]
    fn definitions() {
        let ddl = |name, several| Statement::Ddl { name, several };
        for (sql, expected) in [
            ("CREATE TABLE t (a int)", ddl(name(None, "t"), false)),
            ("create table if not exists `s`.`t` (a int)", ddl(name(Some("s"), "t"), false)),
            ("ALTER TABLE s.t ADD c int", ddl(name(Some("s"), "t"), false)),
            ("ALTER TABLE \"s\" . \"t\"\"x\" ADD c int", ddl(name(Some("s"), "t\"x"), false)),
            ("/* gh-ost */ alter /*!80000 ignore */ table `a``b` drop c", ddl(name(None, "a`b"), false)),
            ("DROP TABLE IF EXISTS `t` /* generated by server */", ddl(name(None, "t"), false)),
            ("DROP TABLE a, b", ddl(name(None, "a"), true)),
            ("RENAME TABLE a TO b, c TO d", ddl(name(None, "a"), true)),
            ("CREATE UNIQUE INDEX i USING BTREE ON s.t (a)", ddl(name(Some("s"), "t"), false)),
            ("DROP INDEX i ON t", ddl(name(None, "t"), false)),
            (
                "CREATE DATABASE IF NOT EXISTS shop",
                ddl(Name { database: Some("shop".into()), table: None }, false),
            ),
            ("TRUNCATE t", Statement::Truncate(name(None, "t"))),
            ("truncate table s.t", Statement::Truncate(name(Some("s"), "t"))),
            ("# note\n-- another\nTRUNCATE t", Statement::Truncate(name(None, "t"))),
            ("CREATE USER 'a'@'b' IDENTIFIED BY 'secret'", Statement::Other),
            ("CREATE TEMPORARY TABLE t (a int)", Statement::Other),
            ("CREATE DEFINER=`r`@`h` TRIGGER x AFTER INSERT ON t FOR EACH ROW SET a=1", Statement::Other),
            ("INSERT INTO t VALUES (1)", Statement::Dml),
            ("--\ninsert t VALUES (1)", Statement::Dml),
            ("SELECT `f`(1)", Statement::Dml),
            ("DO f()", Statement::Dml),
            ("(SELECT f())", Statement::Dml),
            ("SET STATEMENT max_statement_time=0, x='for' FOR INSERT INTO t VALUES (1)", Statement::Dml),
            ("SET STATEMENT x=1 FOR ALTER TABLE s.t ADD c int", ddl(name(Some("s"), "t"), false)),
            ("SET STATEMENT x=1 FOR SET STATEMENT x=1 FOR ALTER TABLE t ADD c int", Statement::Dml),
            ("SET STATEMENT", Statement::Dml),
            ("SET PASSWORD = 'x'", Statement::Other),
            ("DELETE FROM `s`.`t` /* generated by server */", Statement::Truncate(name(Some("s"), "t"))),
            ("DELETE FROM t WHERE note = '/* generated by server */'", Statement::Dml),
            ("CREATE TABLE t AS SELECT * FROM u", Statement::Filled(name(None, "t"))),
            ("create table s.t (a int comment 'x') (select 1 a)", Statement::Filled(name(Some("s"), "t"))),
            ("CREATE TABLE t TABLE u", Statement::Filled(name(None, "t"))),
            ("CREATE TABLE t VALUES ROW(1)", Statement::Filled(name(None, "t"))),
            (
                "CREATE TABLE t (a int COMMENT 'select') PARTITION BY LIST (a) (PARTITION p VALUES IN (1))",
                ddl(name(None, "t"), false),
            ),
            ("CREATE TABLE t (`select` int) /* select */", ddl(name(None, "t"), false)),
            ("--x", Statement::Other),
            ("/* unfinished", Statement::Other),
            ("", Statement::Other),
            ("ALTER TABLE `unfinished", ddl(Name::default(), false)),
        ] {
            assert_eq!(plain(sql.as_bytes()), expected, "{sql}");
        }
    }

    #[test]
    fn quotes_end_as_the_session_has_them() {
        let sql = r"CREATE TABLE t (a int COMMENT 'it\'s select')".as_bytes();
        let ddl = || Statement::Ddl { name: name(None, "t"), several: false };
        assert_eq!(classify(sql, ORDINARY), ddl());
        // What cannot be told is a definition like any other: nothing stops for it.
        assert_eq!(classify(sql, None), ddl());
        let sql = br"CREATE TABLE t (a int COMMENT 'x\') SELECT 1 a, 'b' c";
        let none = Some(Quoting { double_is_text: true, backslash_escapes: false });
        assert_eq!(classify(sql, none), Statement::Filled(name(None, "t")));
    }

    #[test]
    fn what_a_statement_may_change() {
        let wanted = |name: &str| name == "shop";
        for (sql, expected) in [
            ("INSERT INTO t VALUES ('shop.t')", false),
            ("INSERT INTO shop.t VALUES (1)", true),
            ("update other.t, `shop` . t set a = 1", true),
            ("UPDATE \"SHOP\".t SET a = 1", true),
            ("DELETE FROM other.shop", false),
            ("SELECT other.f()", true),
            ("SET STATEMENT x=1 FOR DO 1", true),
            ("INSERT INTO t VALUES ('unfinished", true),
            (r"INSERT INTO t VALUES ('\'', '\\', 1.5)", false),
        ] {
            assert_eq!(may_change(sql.as_bytes(), ORDINARY, wanted), expected, "{sql}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            plain(&bytes);
            may_change(&bytes, None, |_| false);
        }

        #[test]
        fn arbitrary_definitions_never_panic(tail in ".{0,40}") {
            for head in ["CREATE ", "ALTER TABLE ", "DROP TABLE IF ", "CREATE INDEX ", "XA "] {
                plain(format!("{head}{tail}").as_bytes());
            }
        }
    }
}
