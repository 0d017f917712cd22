//! Statements in the binlog: definitions with their text as it was meant, whatever the session's character set and mode;
//! rows that were changed by a statement alone are a definite error, wherever the statement was run.

use crate::server::{Kind, Server};
use crate::tail;
use mysql_async::Conn;
use mysql_async::prelude::Queryable as _;
use serde_json::Value;

async fn run(conn: &mut Conn, statements: &[&[u8]]) {
    for statement in statements {
        let done = conn.query_drop(*statement).await;
        done.unwrap_or_else(|error| panic!("{}: {error}", String::from_utf8_lossy(statement)));
    }
}

pub(crate) async fn are_told_as_they_were_meant(server: &Server, kind: Kind) {
    server
        .run(&[
            "DROP DATABASE IF EXISTS said",
            "CREATE DATABASE said",
            "CREATE TABLE said.t (id INT PRIMARY KEY)",
        ])
        .await;
    let start = tail::end_of_binlog(server).await;
    let mut conn = server.connect().await;
    run(
        &mut conn,
        &[
            b"SET NAMES latin1",
            b"CREATE TABLE said.`t\xe4` (id INT PRIMARY KEY) COMMENT 'gr\xfc\xdfe'",
            b"INSERT INTO said.`t\xe4` VALUES (1)",
            b"DROP TABLE said.`t\xe4`",
            b"SET NAMES gbk",
            b"ALTER TABLE said.t COMMENT '\x95\x5c'",
            b"SET NAMES utf8mb4",
            b"SET sql_mode = 'ANSI_QUOTES'",
            b"--\nALTER TABLE \"said\".\"t\" ADD a INT",
            b"/* a note */ CREATE TABLE \"said\".\"q\"\"x\" (id INT PRIMARY KEY) AS SELECT 7 id",
        ],
    )
    .await;
    if kind == Kind::MariaDb {
        run(&mut conn, &[b"SET STATEMENT max_statement_time = 10 FOR ALTER TABLE said.t ADD s INT"]).await;
    }
    run(&mut conn, &[b"TRUNCATE TABLE said.t"]).await;
    let lines = tail::lines(server, &start, "said.*");
    let messages: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told: Vec<String> = messages
        .iter()
        .map(|m| format!("{} {}", m["op"].as_str().unwrap(), m["table"].as_str().unwrap()))
        .collect();
    let mut expected =
        vec!["ddl tä", "insert tä", "ddl tä", "ddl t", "ddl t", "ddl q\"x", "insert q\"x", "truncate t"];
    if kind == Kind::MariaDb {
        expected.insert(7, "ddl t");
    }
    assert_eq!(told, expected, "{lines:#?}");
    let sql = |index: usize| messages[index].to_string();
    assert!(sql(0).contains("grüße"), "{}", sql(0));
    assert!(sql(2).contains("tä"), "{}", sql(2));
    assert!(sql(3).contains('昞'), "{}", sql(3));
}

pub(crate) async fn that_hide_rows_are_an_error(server: &Server, kind: Kind) {
    server
        .run(&[
            "DROP DATABASE IF EXISTS hidden",
            "DROP DATABASE IF EXISTS beside",
            "CREATE DATABASE hidden",
            "CREATE DATABASE beside",
            "CREATE TABLE hidden.t (id INT PRIMARY KEY)",
            "CREATE TABLE beside.t (id INT PRIMARY KEY, note VARCHAR(20))",
            "CREATE TABLE beside.u (id INT PRIMARY KEY)",
            "SET GLOBAL log_bin_trust_function_creators = 1",
            "CREATE FUNCTION beside.f(n INT) RETURNS INT BEGIN INSERT INTO hidden.t VALUES (n); RETURN n; END",
            "CREATE TRIGGER beside.r AFTER INSERT ON beside.u FOR EACH ROW INSERT INTO hidden.t VALUES (NEW.id)",
        ])
        .await;
    let mut cases = vec![
        ("hidden", "INSERT INTO t VALUES (1)", true),
        ("beside", "INSERT INTO hidden.t VALUES (2)", true),
        ("beside", "/* x */ UPDATE `hidden` . `t` SET id = 3 WHERE id = 2", true),
        ("beside", "SELECT f(4)", true),
        ("beside", "DO f(5)", true),
        ("beside", "CREATE TABLE hidden.made AS SELECT 1 AS id", true),
        ("beside", "INSERT INTO t VALUES (1, 'hidden.t')", false),
        ("beside", "CREATE TABLE made AS SELECT 1 AS id", false),
    ];
    match kind {
        // It says which databases a statement writes to.
        Kind::MySql => cases.push(("beside", "INSERT INTO u VALUES (6)", true)),
        Kind::MariaDb => cases.push((
            "beside",
            "SET STATEMENT max_statement_time = 10 FOR INSERT INTO hidden.t VALUES (7)",
            true,
        )),
    }
    for (database, statement, hides) in cases {
        let start = tail::end_of_binlog(server).await;
        let mut conn = server.connect().await;
        let session = format!("USE {database}");
        run(
            &mut conn,
            &[b"SET SESSION binlog_format = 'STATEMENT'", session.as_bytes(), statement.as_bytes()],
        )
        .await;
        let read = tail::try_lines(&server.url(), &["--from", &start, "--tables", "hidden.*"]);
        match (read, hides) {
            (Ok(lines), false) => assert_eq!(lines, [""; 0], "{statement}"),
            (Err(error), true) => {
                assert!(error.contains("logged as a statement"), "{statement}: {error}");
                assert!(error.contains("binlog."), "names the place: {error}");
                let args = ["--from", &start, "--tables", "hidden.*", "--hidden-changes", "leave_out"];
                let lines = tail::try_lines(&server.url(), &args).unwrap();
                let definitions = lines.iter().filter(|line| line.contains("\"ddl\"")).count();
                assert_eq!(lines.len(), definitions, "{statement}: {lines:?}");
            }
            (read, _) => panic!("{statement}: {read:?}"),
        }
    }
}
