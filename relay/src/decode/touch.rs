//! Which tables a statement may have changed: rather too many than too few.

use super::query::{Name, Words};
use crate::schema::{TableName, Touch};

/// Statements of others that begin so concern no table's definition.
const HARMLESS: [&str; 20] = [
    "",
    "SAVEPOINT",
    "RELEASE",
    "GRANT",
    "REVOKE",
    "ANALYZE",
    "OPTIMIZE",
    "REPAIR",
    "CHECK",
    "FLUSH",
    "INSERT",
    "UPDATE",
    "DELETE",
    "REPLACE",
    "LOAD",
    "WITH",
    "BEGIN",
    "COMMIT",
    "START",
    "TRUNCATE",
];

/// What a statement of a session in `database` may have done; none where it cannot have changed a table's definition.
/// In its text U+FFFD stands for what could not be read.
pub fn touch(text: &str, database: &str) -> Option<Touch> {
    let sql = text.as_bytes();
    if text.contains(char::REPLACEMENT_CHARACTER) && !is_harmless(sql) {
        // Names cannot be told.
        return Some(Touch::Everything);
    }
    let mut words = Words::new(sql);
    let verb = words.keyword();
    match verb.as_str() {
        "CREATE" | "ALTER" | "DROP" | "RENAME" => definition(&verb, words, database),
        // SET STATEMENT … FOR ALTER TABLE …
        "SET" => (words.keyword() == "STATEMENT").then_some(Touch::Everything),
        "XA" | "ROLLBACK" => None,
        "" => (!sql.trim_ascii().is_empty()).then_some(Touch::Everything),
        other => (!HARMLESS.contains(&other)).then_some(Touch::Everything),
    }
}

fn is_harmless(sql: &[u8]) -> bool {
    let verb = Words::new(sql).keyword();
    matches!(verb.as_str(), "XA" | "ROLLBACK") || (!verb.is_empty() && HARMLESS.contains(&verb.as_str()))
}

fn definition(verb: &str, mut words: Words<'_>, database: &str) -> Option<Touch> {
    loop {
        match words.keyword().as_str() {
            "OR" | "REPLACE" | "ONLINE" | "OFFLINE" | "IGNORE" | "UNIQUE" | "FULLTEXT" | "SPATIAL" => {}
            "TABLE" | "TABLES" => {
                words.skip(&["IF", "NOT", "EXISTS"]);
                let touched = match verb {
                    "RENAME" => renamed(words, database),
                    "DROP" => dropped(words, database),
                    "ALTER" => altered(words, database),
                    _ => whole(words.name(), database).map(|name| Touch::Changed(vec![name])),
                };
                return Some(touched.unwrap_or(Touch::Everything));
            }
            "DATABASE" | "SCHEMA" if verb == "DROP" => {
                words.skip(&["IF", "EXISTS"]);
                return Some(words.name().table.map_or(Touch::Everything, Touch::Database));
            }
            "INDEX" => {
                let name = whole(words.after_on(), database);
                return Some(name.map_or(Touch::Everything, |name| Touch::Changed(vec![name])));
            }
            // Databases that come or change, views, accounts, routines, temporary tables.
            _ => return None,
        }
    }
}

fn whole(name: Name, database: &str) -> Option<TableName> {
    let table = name.table?;
    Some(TableName::new(name.database.unwrap_or_else(|| database.to_owned()), table))
}

fn dropped(mut words: Words<'_>, database: &str) -> Option<Touch> {
    let mut names = Vec::new();
    loop {
        names.push(whole(words.name(), database)?);
        if !words.comma() {
            return Some(Touch::Changed(names));
        }
    }
}

fn renamed(mut words: Words<'_>, database: &str) -> Option<Touch> {
    let mut pairs = Vec::new();
    loop {
        let from = whole(words.name(), database)?;
        // MariaDB's WAIT n and NOWAIT.
        for _ in 0..3 {
            if words.skipped("TO") {
                let to = whole(words.name(), database)?;
                pairs.push((from, to));
                break;
            }
            words.identifier()?;
        }
        match (words.comma(), words.at_end()) {
            (true, _) => {}
            (false, true) if !pairs.is_empty() => return Some(Touch::Renamed(pairs)),
            _ => return None,
        }
    }
}

/// ALTER TABLE: the table, and where it goes.
fn altered(mut words: Words<'_>, database: &str) -> Option<Touch> {
    let name = whole(words.name(), database)?;
    let mut first = words;
    if first.skipped("RENAME") {
        let is_part = ["COLUMN", "INDEX", "KEY"].iter().any(|part| {
            let mut look = first;
            look.skipped(part)
        });
        if !is_part {
            first.skip(&["TO", "AS"]);
            let to = whole(first.name(), database)?;
            if first.at_end() {
                return Some(Touch::Renamed(vec![(name, to)]));
            }
        }
    }
    // A new name among other things is taken as every name that follows a RENAME.
    let mut names = vec![name];
    while words.find("RENAME")? {
        words.skip(&["TO", "AS", "="]);
        if let Some(name) = whole(words.name(), database) {
            names.push(name);
        }
    }
    Some(Touch::Changed(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(database: &str, table: &str) -> TableName {
        TableName::new(database, table)
    }

    fn changed(names: &[(&str, &str)]) -> Touch {
        Touch::Changed(names.iter().map(|(d, t)| table(d, t)).collect())
    }

    #[test]
    fn definitions_name_their_tables() {
        let renamed = |pairs: &[(&str, &str)]| {
            Some(Touch::Renamed(pairs.iter().map(|(a, b)| (table("d", a), table("d", b))).collect()))
        };
        for (sql, expected) in [
            ("CREATE TABLE t (a int)", Some(changed(&[("d", "t")]))),
            ("create or replace table if not exists `s`.`t` like u", Some(changed(&[("s", "t")]))),
            ("ALTER TABLE t ADD c int", Some(changed(&[("d", "t")]))),
            ("ALTER TABLE t ADD c ENUM('a rename to b', 'x')", Some(changed(&[("d", "t")]))),
            ("ALTER TABLE t ADD c int, RENAME TO s.u", Some(changed(&[("d", "t"), ("s", "u")]))),
            ("ALTER TABLE t RENAME COLUMN a TO b", Some(changed(&[("d", "t"), ("d", "COLUMN")]))),
            ("ALTER TABLE t RENAME u", renamed(&[("t", "u")])),
            ("ALTER TABLE t RENAME AS `u` /* x */", renamed(&[("t", "u")])),
            ("RENAME TABLE a TO b, c TO d", renamed(&[("a", "b"), ("c", "d")])),
            ("RENAME TABLES IF EXISTS a WAIT 5 TO b", renamed(&[("a", "b")])),
            ("RENAME TABLE a TO b WHATEVER", Some(Touch::Everything)),
            (
                "DROP TABLE IF EXISTS `a`,`s`.`b` /* generated by server */",
                Some(changed(&[("d", "a"), ("s", "b")])),
            ),
            ("DROP DATABASE IF EXISTS x", Some(Touch::Database("x".into()))),
            ("DROP INDEX `PRIMARY` ON t", Some(changed(&[("d", "t")]))),
            ("SET STATEMENT max_statement_time=0 FOR ALTER TABLE t ADD c int", Some(Touch::Everything)),
            ("FROB TABLE t", Some(Touch::Everything)),
            ("/* unfinished", Some(Touch::Everything)),
            ("ALTER TABLE `unfinished", Some(Touch::Everything)),
            ("ALTER TABLE t ADD c int DEFAULT 'unfinished", Some(Touch::Everything)),
            ("CREATE DATABASE x", None),
            ("CREATE TEMPORARY TABLE t (a int)", None),
            ("CREATE USER 'a'@'b' IDENTIFIED BY 'secret'", None),
            ("GRANT ALL ON *.* TO x", None),
            ("TRUNCATE t", None),
            ("SAVEPOINT `a`", None),
            ("BEGIN", None),
        ] {
            assert_eq!(touch(sql, "d"), expected, "{sql}");
        }
        assert_eq!(touch("ALTER TABLE t\u{fffd} ADD c int", "d"), Some(Touch::Everything));
    }

    proptest! {
        #[test]
        fn arbitrary_definitions_never_panic(tail in ".{0,60}") {
            for head in ["CREATE ", "ALTER TABLE ", "DROP TABLE IF ", "RENAME TABLE ", "SET ", "DROP SCHEMA "] {
                touch(&format!("{head}{tail}"), "d");
            }
        }
    }
}
