//! Rows out of the ordinary: too large, in part, under tagged GTIDs.

use crate::program::{Relay, Settings};
use crate::server::{Kind, PASSWORD, Server, USER};
use crate::tail;
use base64::Engine as _;
use mysql_async::prelude::Queryable;
use relay::mysql::Finding;
use serde_json::{Value, json};

fn parsed(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn database(server: &Server, name: &str, table: &str) {
    server
        .run(&[
            &format!("DROP DATABASE IF EXISTS {name}"),
            &format!("CREATE DATABASE {name} CHARACTER SET utf8mb4"),
            &format!("CREATE TABLE {name}.{table}"),
        ])
        .await;
}

/// A row over the bound stops the source, or comes as its key, marked; those around it come whole.
pub(crate) async fn too_large_are_an_error_or_left_out(server: &Server) {
    database(server, "large", "t (id INT PRIMARY KEY, v LONGTEXT, secret INT, n INT)").await;
    let start = tail::end_of_binlog(server).await;
    server
        .run(&[
            "INSERT INTO large.t VALUES (1, 'small', 0, 1)",
            "INSERT INTO large.t VALUES (2, REPEAT('x', 200000), 0, 2), (3, 'small', 0, 3)",
            "UPDATE large.t SET id = 20, n = 4 WHERE id = 2",
            "DELETE FROM large.t WHERE id = 20",
        ])
        .await;
    // More than one packet of the protocol.
    server.run(&["INSERT INTO large.t VALUES (30, REPEAT('y', 40000000), 0, 5)"]).await;
    let args = ["--tables", "large.*", "--from", &start, "--exclude-columns", "large.t.secret"];
    let bound = |more: &[&str]| {
        let args: Vec<&str> =
            args.iter().chain(&["--max-row-bytes", "100000"]).chain(more).copied().collect();
        tail::try_lines(&server.url(), &args)
    };
    let error = bound(&[]).unwrap_err();
    assert!(error.contains("a row of large.t has 2000") && error.contains("oversize"), "{error}");
    assert!(error.contains("binlog.0"), "names the place: {error}");
    let messages = parsed(&bound(&["--oversize", "leave_out"]).unwrap());
    let seen: Vec<Value> = messages
        .iter()
        .map(|m| json!([m["op"], m["before"], m["after"], m["absent"], m["oversize_bytes"].is_u64()]))
        .collect();
    let absent = |images: &[&str]| -> Value {
        images
            .iter()
            .map(|image| ((*image).to_owned(), json!(["v", "n"])))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    assert_eq!(
        seen,
        [
            json!(["insert", null, {"id": 1, "v": "small", "n": 1}, null, false]),
            json!(["insert", null, {"id": 2}, absent(&["after"]), true]),
            json!(["insert", null, {"id": 3, "v": "small", "n": 3}, null, false]),
            json!(["delete", {"id": 2}, null, absent(&["before"]), true]),
            json!(["insert", null, {"id": 20}, absent(&["after"]), true]),
            json!(["delete", {"id": 20}, null, absent(&["before"]), true]),
            json!(["insert", null, {"id": 30}, absent(&["after"]), true]),
        ]
    );
    assert_eq!(messages[1]["key"], json!({"id": 2}));
    // Whole again, once the bound is raised: two packets of the protocol.
    let whole = parsed(
        &tail::try_lines(&server.url(), &[&args[..], &["--max-row-bytes", "90000000"]].concat()).unwrap(),
    );
    assert_eq!(whole.last().unwrap()["after"]["v"].as_str().unwrap().len(), 40_000_000);
}

/// Rows far above the bound pass by in little memory, however they were logged; those around them come whole.
pub(crate) async fn far_too_large_pass_by_in_little_memory(server: &Server) {
    const MEMORY: u64 = 256 << 20;
    const PIECE: u64 = 151_000_000;
    // Two values and their lengths, the key, a number, and the null bitmap.
    const ROW: u64 = 2 * (4 + PIECE) + 4 + 4 + 1;
    let large =
        |id: u32| format!("INSERT INTO huge.t VALUES (REPEAT('x', {PIECE}), REPEAT('y', {PIECE}), {id}, 0)");
    database(server, "huge", "t (a LONGBLOB, b LONGBLOB, id INT PRIMARY KEY, n INT) ENGINE=MyISAM").await;
    let start = tail::end_of_binlog(server).await;
    let compression = |on: u32| match server.kind {
        Kind::MySql => format!("SET SESSION binlog_transaction_compression = {on}"),
        Kind::MariaDb => format!("SET GLOBAL log_bin_compress = {on}"),
    };
    let mut conn = server.connect().await;
    for sql in [
        "INSERT INTO huge.t VALUES ('a', 'b', 1, 0)",
        &large(2),
        &compression(1),
        &large(3),
        "INSERT INTO huge.t VALUES ('a', REPEAT('b', 1000), 4, 0)",
        &compression(0),
        "UPDATE huge.t SET id = 20 WHERE id = 2",
        "INSERT INTO huge.t VALUES ('a', 'b', 5, 0)",
    ] {
        conn.query_drop(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    conn.disconnect().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        from: &start,
        source: "    max_row_bytes: 1000000\n    oversize: leave_out\n",
        ..Settings::new(server.port, "huge.*")
    };
    let relay = Relay::start(dir.path(), &settings);
    let (file, offset) = server.end().await;
    let messages = parsed(&relay.lines(&file, offset).await);
    let seen: Vec<Value> = messages
        .iter()
        .map(|m| json!([m["op"], m["key"]["id"], m["absent"].is_object(), m["oversize_bytes"]]))
        .collect();
    assert_eq!(
        seen,
        [
            json!(["insert", 1, false, null]),
            json!(["insert", 2, true, ROW]),
            json!(["insert", 3, true, ROW]),
            json!(["insert", 4, false, null]),
            json!(["delete", 2, true, 2 * ROW]),
            json!(["insert", 20, true, 2 * ROW]),
            json!(["insert", 5, false, null]),
        ]
    );
    let text = |text: &str| Value::from(base64::engine::general_purpose::STANDARD.encode(text));
    for (at, a, b) in [(0, "a", "b".to_owned()), (3, "a", "b".repeat(1000)), (6, "a", "b".to_owned())] {
        assert_eq!([&messages[at]["after"]["a"], &messages[at]["after"]["b"]], [&text(a), &text(&b)]);
    }
    let peak = relay.peak_memory();
    assert!(peak < MEMORY, "the relay took {peak} bytes");
    // It stops there where it may not go on, with the same little memory.
    let error = tail::try_lines(&server.url(), &["--tables", "huge.*", "--from", &start]).unwrap_err();
    let words = format!("a row of huge.t has {ROW} bytes");
    assert!(error.contains(&words) && error.contains("binlog.0"), "{error}");
    server.run(&["DROP DATABASE huge"]).await;
}

/// Steps of JSON documents need the old ones; a server that leaves them out is refused, with what mends it.
pub(crate) async fn json_steps_without_documents_are_refused(server: &Server) {
    database(server, "steps", "t (id INT PRIMARY KEY, a JSON, n INT, b JSON)").await;
    let start = tail::end_of_binlog(server).await;
    let mut conn = server.connect().await;
    let must = async |conn: &mut mysql_async::Conn, sql: &str| conn.query_drop(sql).await.unwrap();
    must(&mut conn, "SET SESSION binlog_row_value_options = 'PARTIAL_JSON'").await;
    let document =
        r#"{"a": [1, 2], "b": {"c": "x"}, "pad": "................................................"}"#;
    must(&mut conn, &format!("INSERT INTO steps.t VALUES (1, '{document}', 1, '{document}')")).await;
    must(
        &mut conn,
        "UPDATE steps.t SET b = JSON_REMOVE(JSON_SET(b, '$.b.c', 12.50, '$.\"new key\"', TRUE), '$.a[0]'), n = 2",
    )
    .await;
    must(&mut conn, "UPDATE steps.t SET id = 5, a = JSON_SET(a, '$.a[2]', NULL)").await;
    let lines = tail::lines(server, &start, "steps.*");
    let messages = parsed(&lines);
    let before: Value = serde_json::from_str(document).unwrap();
    assert_eq!(messages[1]["before"]["b"], before);
    let pad = &before["pad"];
    assert_eq!(messages[1]["after"]["b"], json!({"a": [2], "b": {"c": 12.50}, "pad": pad, "new key": true}));
    assert_eq!(messages[1]["after"]["a"], before);
    assert_eq!(messages[3]["after"]["a"]["a"], json!([1, 2, null]));
    assert_eq!(messages[3]["after"]["id"], 5);
    let late = tail::end_of_binlog(server).await;
    must(&mut conn, "SET SESSION binlog_row_image = 'MINIMAL'").await;
    must(&mut conn, "UPDATE steps.t SET a = JSON_SET(a, '$.b.c', 'y')").await;
    let error = tail::try_lines(&server.url(), &["--tables", "steps.*", "--from", &late]).unwrap_err();
    assert!(error.contains("steps.t: column a was updated in part"), "{error}");
    assert!(error.contains("SET GLOBAL binlog_row_image = 'FULL'"), "{error}");
    conn.disconnect().await.unwrap();
}

/// A start by a GTID set with tags begins with exactly what is not in it.
pub(crate) async fn tagged_gtids_are_a_start(server: &Server) {
    assert_eq!(server.kind, Kind::MySql);
    database(server, "tagged", "t (id INT PRIMARY KEY)").await;
    let mut conn = server.connect().await;
    let executed = "SELECT REPLACE(@@global.gtid_executed, '\n', '')";
    conn.query_drop("SET gtid_next = 'AUTOMATIC:blue'").await.unwrap();
    conn.query_drop("INSERT INTO tagged.t VALUES (1)").await.unwrap();
    let set: String = conn.query_first(executed).await.unwrap().unwrap();
    assert!(set.contains(":blue:1"), "{set}");
    conn.query_drop("INSERT INTO tagged.t VALUES (2)").await.unwrap();
    conn.query_drop("SET gtid_next = 'AUTOMATIC'").await.unwrap();
    conn.query_drop("INSERT INTO tagged.t VALUES (3)").await.unwrap();
    // Nothing is left, and the server says that it is at the end by heartbeats alone.
    let all: String = conn.query_first(executed).await.unwrap().unwrap();
    assert_eq!(tail::lines(server, &all, "tagged.*"), Vec::<String>::new());
    conn.disconnect().await.unwrap();
    let messages = parsed(&tail::lines(server, &set, "tagged.*"));
    let ids: Vec<&Value> = messages.iter().map(|m| &m["key"]["id"]).collect();
    assert_eq!(ids, [&json!(2), &json!(3)]);
    assert!(messages[0]["txn"]["id"].as_str().unwrap().ends_with(":blue:2"), "{}", messages[0]);
}

/// A user without the rights is refused with the statement that gives them.
pub(crate) async fn missing_rights_are_named(server: &Server) {
    // The account is not of every host, and what is told is for this one.
    server.run(&["CREATE USER IF NOT EXISTS poor@'127.0.0.%' IDENTIFIED BY 'poor'"]).await;
    let url = format!("mysql://poor:poor@127.0.0.1:{}/", server.port);
    let error = tail::try_lines(&url, &[]).unwrap_err();
    assert!(error.contains("user poor may not list the binlogs"), "{error}");
    let second = match server.kind {
        Kind::MySql => "REPLICATION CLIENT",
        Kind::MariaDb => "BINLOG MONITOR",
    };
    assert!(
        error.contains(&format!("GRANT REPLICATION SLAVE, {second} ON *.* TO 'poor'@'127.0.0.%'")),
        "{error}"
    );
    server.run(&[&format!("GRANT {second} ON *.* TO poor@'127.0.0.%'")]).await;
    let error = tail::try_lines(&url, &[]).unwrap_err();
    assert!(error.contains("user poor may not replicate: GRANT REPLICATION SLAVE"), "{error}");
    server.run(&["GRANT REPLICATION SLAVE ON *.* TO poor@'127.0.0.%'"]).await;
    assert_eq!(tail::try_lines(&url, &[]), Ok(Vec::new()));
    if server.kind == Kind::MariaDb {
        may_not_list_replicas(server).await;
    }
}

/// What the preflight warns of.
async fn warnings(server: &Server, user: &str, password: &str, tables: &[String]) -> Vec<Finding> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), password).unwrap();
    let mysql = relay::config::Mysql {
        host: "127.0.0.1".into(),
        port: server.port,
        user: user.into(),
        password_file: Some(file.path().to_owned()),
        tls: relay::config::Tls::Preferred,
        ca: None,
        server_id: 4111,
    };
    let metadata = relay::config::SchemaFrom::RowMetadata;
    relay::mysql::admin::check(&mysql, metadata, tables, &[4111]).await.unwrap().warnings
}

/// What reading does not need is said, with the statement that is then missing no more.
async fn may_not_list_replicas(server: &Server) {
    let warned = async || {
        let warnings = warnings(server, "poor", "poor", &[]).await;
        warnings.into_iter().find(|finding| finding.problem.contains("may not list its replicas"))
    };
    let remedy = warned().await.expect("it is said").remedy;
    assert_eq!(remedy, "GRANT REPLICATION MASTER ADMIN ON *.* TO 'poor'@'127.0.0.%'");
    server.run(&[&remedy]).await;
    assert_eq!(warned().await, None);
}

/// Rows that a foreign key changes by itself are in no binlog, and that is said; MySQL 9.7 logs them.
pub(crate) async fn cascades_are_logged_or_warned_of(server: &Server) {
    database(server, "tree", "p (id INT PRIMARY KEY)").await;
    let child = "(id INT PRIMARY KEY, p INT, FOREIGN KEY (p) REFERENCES tree.p (id) ON DELETE";
    let start = tail::end_of_binlog(server).await;
    server
        .run(&[
            &format!("CREATE TABLE tree.c {child} CASCADE)"),
            &format!("CREATE TABLE tree.s {child} SET NULL)"),
            &format!("CREATE TABLE tree.r {child} RESTRICT)"),
            "INSERT INTO tree.p VALUES (1)",
            "INSERT INTO tree.c VALUES (1, 1)",
            "INSERT INTO tree.s VALUES (1, 1)",
            "DELETE FROM tree.p",
        ])
        .await;
    let messages = parsed(&tail::lines(server, &start, "tree.*"));
    let changed = |op: &str, table: &str| messages.iter().any(|m| m["op"] == op && m["table"] == table);
    assert!(changed("delete", "p"));
    let logged = server.kind == Kind::MySql;
    assert_eq!((changed("delete", "c"), changed("update", "s")), (logged, logged), "{messages:?}");
    for (tables, warned) in [("tree.*", !logged), ("other.*", false)] {
        let warnings = warnings(server, USER, PASSWORD, &[tables.to_owned()]).await;
        let about = |finding: &Finding| finding.problem.contains("rows of tree.c, tree.s change");
        assert_eq!(warnings.iter().any(about), warned, "{warnings:?}");
    }
    server.run(&["DROP DATABASE tree"]).await;
}
