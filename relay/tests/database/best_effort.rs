//! `schema: best_effort`: a binlog that does not name columns, read while tables change.

use crate::lookback::Relay;
use crate::oracle::{self, Disturber};
use crate::selection;
use crate::server::{Kind, Server};
use crate::tail;
use crate::types::{self, Type};
use futures_util::future::BoxFuture;
use relay::wire::{PartitionSet, Selection};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nothing here takes as long.
const LIMIT: Duration = Duration::from_mins(1);
const DATABASE: &str = "best";

/// `aesop-relay tail`, which follows a server, and is stopped and started again.
struct Follower<'a> {
    server: &'a Server,
    dir: tempfile::TempDir,
    process: Option<Child>,
    statements: usize,
    marks: usize,
}

impl<'a> Follower<'a> {
    fn new(server: &'a Server) -> Self {
        Self { server, dir: tempfile::tempdir().unwrap(), process: None, statements: 0, marks: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn start(&mut self, from: Option<&str>) {
        let append =
            |name: &str| std::fs::OpenOptions::new().create(true).append(true).open(self.path(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_aesop-relay"));
        command
            .args([
                "tail",
                &self.server.url(),
                "--schema",
                "best_effort",
                "--tables",
                &format!("{DATABASE}.*"),
            ])
            .arg("--checkpoint")
            .arg(self.path("place"))
            .stdin(Stdio::null())
            .stdout(append("out"))
            .stderr(append("err"));
        if let Some(from) = from {
            command.args(["--from", from]);
        }
        self.process = Some(command.spawn().unwrap());
    }

    /// Ends it as an operator does: what was shown is in the checkpoint.
    async fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        Command::new("kill").arg(process.id().to_string()).status().unwrap();
        let status = tokio::task::spawn_blocking(move || process.wait().unwrap()).await.unwrap();
        assert!(status.success(), "{status}: {}", self.text("err"));
    }

    /// Waits for its end.
    async fn ended(&mut self) -> String {
        let mut process = self.process.take().unwrap();
        tokio::task::spawn_blocking(move || process.wait().unwrap()).await.unwrap();
        self.text("err")
    }

    /// Waits until a row is shown that is written now.
    async fn caught_up(&mut self) {
        self.marks += 1;
        let number = self.marks;
        self.server.run(&[&format!("INSERT INTO {DATABASE}.marks VALUES ({number})")]).await;
        let mark = format!("\"table\":\"marks\",\"key\":{{\"n\":{number}}}");
        let start = Instant::now();
        while !self.text("out").contains(&mark) {
            let ended = self.process.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < LIMIT, "{mark} does not come: {}", self.text("err"));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Follower<'_> {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

impl Disturber for Follower<'_> {
    fn after_statement(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            self.statements += 1;
            match self.statements % 25 {
                // The next statement is read by another process, which has what this one knew.
                20 => self.stop().await,
                21 => {
                    self.start(None);
                    self.caught_up().await;
                }
                _ => self.caught_up().await,
            }
            false
        })
    }

    fn types(&self, kind: Kind) -> Vec<Type> {
        let mut types = types::all(kind);
        types.extend(types::unnamed(kind));
        types
    }

    fn lines(&mut self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            if self.process.is_none() {
                self.start(None);
            }
            self.caught_up().await;
            self.stop().await;
            self.text("out").lines().map(str::to_owned).collect()
        })
    }
}

/// The oracle over a server whose binlog names no columns; then what cannot be known, which must stop the reader.
pub(crate) async fn rows_are_the_servers(kind: Kind, metadata: &str) {
    let server = Server::start(kind, 3, &format!("binlog_row_metadata = {metadata}")).await;
    let mut follower = Follower::new(&server);
    let start = tail::end_of_binlog(&server).await;
    let marks = [
        format!("CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4"),
        format!("CREATE TABLE {DATABASE}.marks (n INT PRIMARY KEY)"),
    ];
    let refused = tail::try_lines(&server.url(), &["--from", &start]).unwrap_err();
    assert!(refused.contains("binlog_row_metadata = 'FULL'"), "{refused}");
    server.run(&marks.each_ref().map(String::as_str)).await;
    follower.start(Some(&start));
    oracle::run_in(&server, DATABASE, oracle::seed(), &mut follower).await;
    unknown_columns_stop_it(&mut follower).await;
    renames_are_followed(&mut follower).await;
}

/// Two changes with a row between, unseen: its columns are not made up.
async fn unknown_columns_stop_it(follower: &mut Follower<'_>) {
    let server = follower.server;
    follower.start(None);
    server
        .run(&[
            &format!("CREATE TABLE {DATABASE}.twice (id INT PRIMARY KEY, a INT, b INT)"),
            &format!("INSERT INTO {DATABASE}.twice VALUES (1, 2, 3)"),
        ])
        .await;
    follower.caught_up().await;
    follower.stop().await;
    server
        .run(&[
            &format!("INSERT INTO {DATABASE}.twice VALUES (2, 3, 4)"),
            &format!("ALTER TABLE {DATABASE}.twice RENAME COLUMN a TO c, RENAME COLUMN b TO a"),
            &format!("INSERT INTO {DATABASE}.twice VALUES (3, 4, 5)"),
            &format!("ALTER TABLE {DATABASE}.twice RENAME COLUMN c TO d"),
            &format!("INSERT INTO {DATABASE}.twice VALUES (4, 5, 6)"),
        ])
        .await;
    follower.start(None);
    let error = follower.ended().await;
    assert!(error.contains(&format!("what columns {DATABASE}.twice had there cannot be known")), "{error}");
    assert!(error.contains("binlog.0") && error.contains("take a snapshot"), "{error}");
    let out = follower.text("out");
    let rows: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|message: &Value| message["table"] == "twice" && message["op"] == "insert")
        .map(|message| message["after"].clone())
        .collect();
    assert_eq!(
        rows,
        [serde_json::json!({"id": 1, "a": 2, "b": 3}), serde_json::json!({"id": 2, "a": 3, "b": 4})],
        "the row before the first change is known, the one behind it is not shown"
    );
    // Behind those rows it goes on.
    let place = tail::end_of_binlog(server).await;
    follower.start(Some(&place));
    follower.caught_up().await;
    follower.stop().await;
}

/// A table that was renamed while nobody read keeps its columns on both sides.
async fn renames_are_followed(follower: &mut Follower<'_>) {
    let server = follower.server;
    server
        .run(&[
            &format!("CREATE TABLE {DATABASE}.ghost (id INT PRIMARY KEY, x INT)"),
            &format!("INSERT INTO {DATABASE}.ghost VALUES (1, 2)"),
            &format!("RENAME TABLE {DATABASE}.ghost TO {DATABASE}.real_one"),
            &format!("INSERT INTO {DATABASE}.real_one VALUES (2, 3)"),
        ])
        .await;
    follower.start(None);
    follower.caught_up().await;
    follower.stop().await;
    let out = follower.text("out");
    for row in ["\"after\":{\"id\":1,\"x\":2}", "\"after\":{\"id\":2,\"x\":3}"] {
        assert!(out.contains(row), "{row}");
    }
}

/// FULL metadata does not tell a UUID from BINARY(16); best effort does.
pub(crate) async fn types_are_told(server: &Server) {
    server.run(&["DROP DATABASE IF EXISTS told", "CREATE DATABASE told"]).await;
    let start = tail::end_of_binlog(server).await;
    server
        .run(&[
            "CREATE TABLE told.t (u UUID PRIMARY KEY, a INET6, b BINARY(16), c INET4, d BINARY(4))",
            "INSERT INTO told.t VALUES ('123e4567-e89b-12d3-a456-426655440000', 'fe80::1', 'x', '10.0.0.1', 'y')",
        ])
        .await;
    let args = ["--from", &start, "--tables", "told.*"];
    let rows = |more: &[&str]| -> Vec<Value> {
        let lines = tail::try_lines(&server.url(), &[&args[..], more].concat()).unwrap();
        lines
            .iter()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|m: &Value| m["op"] == "insert")
            .collect()
    };
    let (bytes, told) = (rows(&[]), rows(&["--schema", "best_effort"]));
    assert_eq!(bytes[0]["after"]["b"], told[0]["after"]["b"]);
    assert_eq!(bytes[0]["after"]["c"], "CgAAAQ==");
    assert_eq!(told[0]["key"]["u"], "123e4567-e89b-12d3-a456-426655440000");
    assert_eq!(told[0]["after"]["a"], "fe80::1");
    assert_eq!(told[0]["after"]["c"], "10.0.0.1");
    assert_eq!(told[0]["after"]["d"], "eQAAAA==");
    through_a_relay(server).await;
}

/// The relay remembers as `tail` does, and its consumers read what it has told them.
async fn through_a_relay(server: &Server) {
    server.run(&["DROP DATABASE IF EXISTS back", "CREATE DATABASE back"]).await;
    let relay = Relay::start_with(server, "best_effort").await;
    server
        .run(&[
            "CREATE TABLE back.t (id INT PRIMARY KEY, u UUID, a INET6)",
            "INSERT INTO back.t VALUES (1, '017f22e2-79b0-7cc3-98c4-dc0c0c07398f', '::1')",
        ])
        .await;
    let (file, end) = server.end().await;
    let stream = selection::open(&relay, PartitionSet::all(4), Selection::default()).await;
    let messages = selection::messages(stream, &file, end).await;
    let rows: Vec<&Value> = messages.iter().filter(|m| m["op"] == "insert").map(|m| &m["after"]).collect();
    assert_eq!(
        rows,
        [&serde_json::json!({"id": 1, "u": "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", "a": "::1"})]
    );
    relay.end().await;
}
