//! `tail --from snapshot`: all rows as they are at one place, then what changes from there on, while others write.

use crate::fold::{Ddl, Fold};
use crate::random::Random;
use crate::server::{Kind, Server};
use crate::tail;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nothing here takes as long.
const LIMIT: Duration = Duration::from_mins(2);
const DATABASE: &str = "snap";
/// Rows of each table before the first snapshot.
const ROWS: u32 = 5_000;
const TABLES: [(&str, &str); 4] = [
    ("a_plain", "id INT PRIMARY KEY, n BIGINT, v VARCHAR(200)) ENGINE=InnoDB"),
    ("b_unlogged", "id INT PRIMARY KEY, n BIGINT, v VARCHAR(200)) ENGINE=MyISAM"),
    ("c_keyless", "id INT, n BIGINT, v VARCHAR(200), INDEX (id)) ENGINE=InnoDB"),
    ("d_last", "v VARCHAR(200), n BIGINT, id INT PRIMARY KEY) ENGINE=InnoDB"),
];

async fn create(server: &Server) {
    server
        .run(&[&format!("DROP DATABASE IF EXISTS {DATABASE}"), &format!("CREATE DATABASE {DATABASE}")])
        .await;
    for (table, definition) in TABLES {
        let insert = |from: u32| {
            let rows: Vec<String> =
                (from..from + 1000).map(|id| format!("({id}, 0, REPEAT('x', {}))", id % 200)).collect();
            format!("INSERT INTO {DATABASE}.{table} (id, n, v) VALUES {}", rows.join(","))
        };
        let mut statements = vec![format!("CREATE TABLE {DATABASE}.{table} ({definition}")];
        statements.extend((0..ROWS / 1000).map(|batch| insert(batch * 1000)));
        server.run(&statements.iter().map(String::as_str).collect::<Vec<_>>()).await;
    }
}

/// Writes until it is told to stop. Each number is given once, so that no row equals another one.
async fn write(mut conn: Conn, seed: u64, stop: Arc<AtomicBool>, serial: Arc<AtomicU64>) {
    let mut random = Random::new(seed);
    while !stop.load(Ordering::Relaxed) {
        let n = serial.fetch_add(1, Ordering::Relaxed) + 1;
        let (table, _) = *random.pick(&TABLES);
        let id = random.below(usize::try_from(ROWS).unwrap() * 11 / 10);
        let sql = match random.below(6) {
            0 => format!("DELETE FROM {DATABASE}.{table} WHERE id = {id}"),
            1 => format!("INSERT IGNORE INTO {DATABASE}.{table} (id, n, v) VALUES ({id}, {n}, 'new')"),
            2 => format!("UPDATE IGNORE {DATABASE}.{table} SET id = id + 7, n = {n} WHERE id = {id}"),
            3 => format!(
                "START TRANSACTION; UPDATE {DATABASE}.a_plain SET n = {n} WHERE id BETWEEN {id} AND {id} + 20; \
                 UPDATE {DATABASE}.d_last SET n = {n} WHERE id BETWEEN {id} AND {id} + 20; COMMIT"
            ),
            // Tables come now and then; were it more often, no snapshot could begin.
            4 if random.one_in(100) => {
                format!("CREATE TABLE {DATABASE}.x{n} (id INT PRIMARY KEY) AS SELECT {n} AS id")
            }
            _ => format!("UPDATE {DATABASE}.{table} SET n = {n} WHERE id = {id}"),
        };
        match conn.query_drop(&sql).await {
            Ok(()) => {}
            // A deadlock with the other writer.
            Err(mysql_async::Error::Server(_)) => conn.query_drop("ROLLBACK").await.unwrap(),
            Err(error) => panic!("{sql}: {error}"),
        }
    }
    conn.disconnect().await.unwrap();
}

/// The snapshot and what follows, taken while others write, is what `SELECT` says in the end, and no image contradicts
/// the one before; a checkpoint goes on from there.
pub(crate) async fn goes_on_where_it_was_taken(server: &Server) {
    create(server).await;
    let (stop, serial) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut writers = Vec::new();
    for seed in [1, 2, 3] {
        let conn = server.connect().await;
        writers.push(tokio::spawn(write(conn, seed, Arc::clone(&stop), Arc::clone(&serial))));
    }
    let dir = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let place = dir.path().join(format!("place{round}"));
        let from = ["--from", "snapshot"];
        let mut lines = lines(server, &place, &from).await;
        let read = lines.iter().filter(|line| line.starts_with("{\"op\":\"read\"")).count();
        assert!(read > usize::try_from(ROWS).unwrap(), "{read} rows");
        let last: Value = serde_json::from_str(&lines[read - 1]).unwrap();
        assert_eq!([&last["txn"]["rows"], &last["row"]], [&Value::from(read), &Value::from(read - 1)]);
        assert_eq!(last["txn"]["last"], true);
        if round == 2 {
            stop.store(true, Ordering::Relaxed);
            for writer in writers.drain(..) {
                writer.await.unwrap();
            }
        }
        let more = self::lines(server, &place, &[]).await;
        assert!(!more.is_empty(), "nothing was written since");
        lines.extend(more);
        let mut fold = Fold::default();
        let place = last["scn"].as_u64().unwrap();
        for (number, line) in lines.iter().enumerate() {
            fold.push(line, |_| Ddl::Nothing).unwrap();
            let message: Value = serde_json::from_str(line).unwrap();
            let scn = message["scn"].as_u64().unwrap();
            assert!(if number < read { scn == place } else { scn > place }, "{place}: {line}");
        }
        if round == 2 {
            compare(server, &fold).await;
        }
    }
}

async fn lines(server: &Server, place: &Path, more: &[&str]) -> Vec<String> {
    let (url, tables) = (server.url(), format!("{DATABASE}.*"));
    let args: Vec<String> = ["--tables", &tables, "--checkpoint", place.to_str().unwrap()]
        .iter()
        .chain(more)
        .map(|arg| (*arg).to_owned())
        .collect();
    let read = tokio::task::spawn_blocking(move || {
        tail::try_lines(&url, &args.iter().map(String::as_str).collect::<Vec<_>>())
    });
    tokio::time::timeout(LIMIT, read).await.unwrap().unwrap().unwrap()
}

async fn compare(server: &Server, fold: &Fold) {
    let mut conn = server.connect().await;
    let tables: Vec<String> = conn.query(format!("SHOW TABLES FROM {DATABASE}")).await.unwrap();
    assert!(tables.len() > TABLES.len(), "no table came");
    for table in tables {
        let columns = if table.starts_with('x') { "id, id, ''" } else { "id, n, v" };
        let sql = format!("SELECT {columns} FROM {DATABASE}.{table}");
        let mut theirs: Vec<(i64, i64, String)> = conn.query(sql).await.unwrap();
        let folded = fold.tables.get(&table).cloned().unwrap_or_default();
        let mut ours: Vec<(i64, i64, String)> = folded
            .rows()
            .map(|row| {
                let id = row["id"].as_i64().unwrap();
                let n = row.get("n").map_or(id, |n| n.as_i64().unwrap());
                let v = row.get("v").map_or("", |v| v.as_str().unwrap());
                (id, n, v.to_owned())
            })
            .collect();
        theirs.sort();
        ours.sort();
        assert!(ours == theirs, "{table}: {} rows, SELECT has {}", ours.len(), theirs.len());
    }
    conn.disconnect().await.unwrap();
}

/// Killed again and again while it appends to a file: with what came twice taken once, the file is what `SELECT` says, and
/// no line of it is torn.
pub(crate) async fn a_file_is_whole_after_crashes(server: &Server) {
    create(server).await;
    let dir = tempfile::tempdir().unwrap();
    let (place, file) = (dir.path().join("place"), dir.path().join("rows"));
    let command = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aesop-relay"));
        command
            .args(["tail", &server.url(), "--tables", "snap.a_plain,snap.d_last", "--checkpoint"])
            .arg(&place)
            .arg("--output")
            .arg(&file)
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command
    };
    let ended = |more: &[&str]| {
        let output = command(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    ended(&["--from", "snapshot", "--until-caught-up"]);
    let (stop, serial) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let conn = server.connect().await;
    let writer = tokio::spawn(write(conn, 4, Arc::clone(&stop), Arc::clone(&serial)));
    for kill in 0..8_u64 {
        let before = std::fs::metadata(&file).unwrap().len();
        let mut tail = command(&[]).spawn().unwrap();
        let start = Instant::now();
        while std::fs::metadata(&file).unwrap().len() < before + 1 + kill * 40_000 {
            assert!(start.elapsed() < LIMIT, "nothing comes");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tail.kill().unwrap();
        tail.wait().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    writer.await.unwrap();
    ended(&["--until-caught-up"]);
    let mut fold = relay::format::fold::Fold::default();
    for line in std::fs::read_to_string(&file).unwrap().lines() {
        fold.push(line).unwrap();
    }
    let mut conn = server.connect().await;
    for table in ["a_plain", "d_last"] {
        let sql = format!("SELECT id, n, v FROM {DATABASE}.{table}");
        let mut theirs: Vec<(i64, i64, String)> = conn.query(sql).await.unwrap();
        let mut ours: Vec<(i64, i64, String)> = fold
            .table(&format!("{DATABASE}.{table}"))
            .map(|(_, row)| {
                let v = row["v"].as_str().unwrap().to_owned();
                (row["id"].as_i64().unwrap(), row["n"].as_i64().unwrap(), v)
            })
            .collect();
        theirs.sort();
        ours.sort();
        assert!(ours == theirs, "{table}: {} rows, SELECT has {}", ours.len(), theirs.len());
    }
}

/// What keeps a snapshot from being taken is said, with what to do; one that was not finished is no place to go on from.
pub(crate) async fn says_what_is_in_its_way(server: &Server) {
    create(server).await;
    let args = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aesop-relay"));
        command
            .args(["tail", &server.url(), "--tables", &format!("{DATABASE}.*"), "--from", "snapshot"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    };
    // Somebody uses a table that must be locked, and takes time.
    let (uses, lets_go) = match server.kind {
        Kind::MySql => {
            let change = format!("START TRANSACTION; UPDATE {DATABASE}.a_plain SET n = 1 WHERE id = 1");
            (change, "COMMIT")
        }
        Kind::MariaDb => (format!("LOCK TABLES {DATABASE}.b_unlogged WRITE"), "UNLOCK TABLES"),
    };
    let mut other = server.connect().await;
    other.query_drop(uses).await.unwrap();
    let busy = args(&["--until-caught-up"]).spawn().unwrap();
    let mut conn = server.connect().await;
    let start = Instant::now();
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO LIKE 'LOCK TABLES%{DATABASE}%'"
    );
    while conn.query_first::<u64, _>(&waiting).await.unwrap() == Some(0) {
        assert!(start.elapsed() < LIMIT, "nobody waits for the lock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Past the lock's own time.
    while conn.query_first::<u64, _>(&waiting).await.unwrap() != Some(0) {
        assert!(start.elapsed() < LIMIT, "the lock is not given up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    other.query_drop(lets_go).await.unwrap();
    let output = tokio::task::spawn_blocking(move || busy.wait_with_output().unwrap()).await.unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && words.contains("a table is in use"), "{words}");
    let read = String::from_utf8(output.stdout).unwrap().lines().count();
    assert_eq!(read, usize::try_from(ROWS).unwrap() * TABLES.len());
    // Killed while it is under way: nobody reads what it says, so it waits.
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("place");
    let keep = ["--checkpoint", place.to_str().unwrap()];
    let mut half = args(&keep).spawn().unwrap();
    while !std::fs::read_to_string(&place).is_ok_and(|text| text.contains("snapshot_unfinished")) {
        assert!(start.elapsed() < LIMIT, "no checkpoint");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    half.kill().unwrap();
    half.wait().unwrap();
    let error = tail::try_lines(&server.url(), &keep).unwrap_err();
    assert!(error.contains("was not finished") && error.contains("--from snapshot"), "{error}");
    // Without the right to lock tables.
    server
        .run(&[
            "DROP USER IF EXISTS 'reader'@'%'",
            "CREATE USER 'reader'@'%' IDENTIFIED BY 'secret'",
            match server.kind {
                Kind::MySql => "GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'reader'@'%'",
                Kind::MariaDb => "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO 'reader'@'%'",
            },
            &format!("GRANT SELECT ON {DATABASE}.* TO 'reader'@'%'"),
        ])
        .await;
    let url = server.url().replace("admin:", "reader:");
    let tables = format!("{DATABASE}.*");
    let from = ["--from", "snapshot", "--tables", &tables];
    let error = tail::try_lines(&url, &from).unwrap_err();
    let remedy = format!("GRANT SELECT, LOCK TABLES ON `{DATABASE}`.* TO 'reader'@'%'");
    assert!(error.contains(&remedy), "{error}");
    server.run(&[&remedy]).await;
    let lines = tail::try_lines(&url, &from).unwrap();
    assert_eq!(lines.len(), usize::try_from(ROWS).unwrap() * TABLES.len());
    // A row over the bound; and one that is left out but for its key, which is not its first column.
    server.run(&[&format!("ALTER TABLE {DATABASE}.d_last MODIFY v LONGTEXT")]).await;
    server.run(&[&format!("UPDATE {DATABASE}.d_last SET v = REPEAT('y', 40000000) WHERE id = 5")]).await;
    let only = format!("{DATABASE}.d_last");
    let bound = ["--from", "snapshot", "--tables", &only, "--max-row-bytes", "100000"];
    let error = tail::try_lines(&server.url(), &bound).unwrap_err();
    assert!(error.contains("a row of snap.d_last has 4000") && error.contains("oversize"), "{error}");
    let lines = tail::try_lines(&server.url(), &[&bound[..], &["--oversize", "leave_out"]].concat()).unwrap();
    let cut: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|message| message["oversize_bytes"].is_u64())
        .collect();
    assert_eq!(lines.len(), usize::try_from(ROWS).unwrap());
    assert_eq!(cut.len(), 1);
    assert_eq!([&cut[0]["key"]["id"], &cut[0]["after"]["id"]], [&Value::from(5); 2]);
}
