//! What goes wrong while a relay reads: it is killed, its connection is cut at any byte, the database restarts, its disk
//! fills up.

use crate::oracle::Disturber;
use crate::random::Random;
use crate::server::{self, PASSWORD, Server, USER};
use futures_util::future::BoxFuture;
use mysql_async::prelude::Queryable;
use relay::client::{StreamEvent, Subscription, subscribe};
use relay::config::Format;
use relay::format::{Formatter, RowContext};
use relay::wire::frame::StartFrom;
use relay::wire::{BlockItem, PartitionSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Nothing here takes as long.
const LIMIT: Duration = Duration::from_mins(2);

/// Stands between relay and database, and cuts.
#[derive(Debug)]
struct Proxy {
    port: u16,
    /// Ends the connections there are.
    cut: Arc<Mutex<CancellationToken>>,
    /// Bytes after which the next connection ends by itself.
    budget: Arc<AtomicU64>,
    /// Connections that were made.
    made: Arc<AtomicU64>,
}

impl Proxy {
    async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self {
            port,
            cut: Arc::default(),
            budget: Arc::new(AtomicU64::new(u64::MAX)),
            made: Arc::default(),
        };
        let (cut, budget, made) =
            (Arc::clone(&proxy.cut), Arc::clone(&proxy.budget), Arc::clone(&proxy.made));
        tokio::spawn(async move {
            loop {
                let Ok((relay, _)) = listener.accept().await else { continue };
                made.fetch_add(1, Ordering::Relaxed);
                let (ended, budget) = (cut.lock().unwrap().clone(), budget.swap(u64::MAX, Ordering::Relaxed));
                tokio::spawn(async move {
                    let Ok(database) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    tokio::select! {
                        () = ended.cancelled() => {}
                        () = forward(relay, database, budget) => {}
                    }
                });
            }
        });
        proxy
    }

    fn cut(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }
}

async fn forward(relay: TcpStream, database: TcpStream, mut budget: u64) {
    let (mut from_relay, mut to_relay) = relay.into_split();
    let (mut from_database, mut to_database) = database.into_split();
    let up = tokio::io::copy(&mut from_relay, &mut to_database);
    let down = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let most = usize::try_from(budget).unwrap_or(usize::MAX).min(buffer.len());
            match from_database.read(&mut buffer[..most]).await {
                Ok(read) if read > 0 => {
                    budget -= u64::try_from(read).unwrap();
                    if to_relay.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}

/// The program, on a data directory of its own.
pub(crate) struct Relay {
    dir: PathBuf,
    address: String,
    process: Child,
}

impl Relay {
    fn start(dir: &Path, port: u16, tables: &str, from: &str) -> Self {
        let (address, http) = (format!("127.0.0.1:{}", server::free_port()), server::free_port());
        let text = format!(
            "cluster: c\nid: r1\nlisten: {address}\nadvertise: {address}\nhttp_listen: 127.0.0.1:{http}\ndata_dir: {0}\n\
             sources:\n  s:\n    mysql: {{host: 127.0.0.1, port: {port}, user: {USER}, password_file: {0}/password, \
             server_id: 4100}}\n    tables: ['{tables}']\n    start: '{from}'\n",
            dir.display()
        );
        std::fs::write(dir.join("password"), PASSWORD).unwrap();
        std::fs::write(dir.join("relay.yml"), text).unwrap();
        Self { dir: dir.to_owned(), address, process: run(dir) }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.process = run(&self.dir);
    }

    /// All messages of its log, once that has come to this place of the binlog.
    async fn lines(&self, file: &str, offset: u64) -> Vec<String> {
        loop {
            let all = self.try_lines(file, offset);
            match tokio::time::timeout(LIMIT, all).await.expect("the relay catches up in time") {
                Some(lines) => return lines,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn try_lines(&self, file: &str, offset: u64) -> Option<Vec<String>> {
        let mut stream = subscribe(Subscription {
            address: self.address.clone(),
            cluster: "c".into(),
            source: "s".into(),
            group: "g".into(),
            member: "m".into(),
            from: StartFrom::Earliest,
            partitions: PartitionSet::all(1),
            credit_bytes: 8 << 20,
        })
        .await
        .ok()?;
        let mut lines = Vec::new();
        loop {
            match stream.next().await.ok()? {
                StreamEvent::Covered(covered)
                    if covered.file_name == file && covered.position.offset >= offset =>
                {
                    return Some(lines);
                }
                StreamEvent::Covered(_) => {}
                StreamEvent::Block(block) => {
                    for item in block.items() {
                        let BlockItem::Row { txn, row, change } = item else { continue };
                        // As consumers deliver it: a changed key is a row that goes and a row that comes.
                        let both = [change.old_row(), change.new_row()];
                        let changes =
                            if change.changes_key() { &both[..] } else { std::slice::from_ref(&change) };
                        for change in changes {
                            let context = RowContext {
                                source: "s",
                                txn,
                                row,
                                change: *change,
                                server_uuid: "",
                                snapshot: false,
                            };
                            let mut json = Vec::new();
                            Formatter::new(Format::Aesop).value(&context, &mut json).unwrap();
                            lines.push(String::from_utf8(json).unwrap());
                        }
                    }
                }
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn run(dir: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_aesop-relay"))
        .args(["run", "--config"])
        .arg(dir.join("relay.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("aesop-relay runs")
}

/// Disturbs a relay while the oracle's statements run.
struct Chaos<'a> {
    server: &'a Server,
    random: Random,
    proxy: Proxy,
    relay: Relay,
    done: usize,
    kills: usize,
}

impl Disturber for Chaos<'_> {
    fn after_statement(&mut self) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            self.done += 1;
            if self.random.one_in(70) {
                let made = self.proxy.made.load(Ordering::Relaxed);
                if self.random.one_in(3) {
                    // Somewhere in the next connection: in the login, in an event, between two.
                    let budget = u64::try_from(self.random.below(30_000)).unwrap();
                    self.proxy.budget.store(budget, Ordering::Relaxed);
                }
                if self.random.one_in(4) {
                    self.relay.kill();
                    self.kills += 1;
                } else {
                    self.proxy.cut();
                }
                // The next one hits a relay that reads again, or is about to.
                let again = async {
                    while self.proxy.made.load(Ordering::Relaxed) == made {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                };
                tokio::time::timeout(LIMIT, again).await.expect("the relay connects again");
            }
            let restart = self.done % 1000 == 500;
            if restart {
                self.server.restart().await;
            }
            restart
        })
    }

    fn lines(&mut self) -> BoxFuture<'_, Vec<String>> {
        Box::pin(async move {
            let (file, offset) = self.server.end().await;
            self.relay.lines(&file, offset).await
        })
    }
}

/// The oracle, through a relay that is killed, over a connection that is cut, of a database that restarts.
pub(crate) async fn nothing_is_lost_or_doubled(server: &Server) {
    let (file, offset) = server.end().await;
    let number: u64 = file.rsplit_once('.').unwrap().1.parse().unwrap();
    let from = (number << 32 | offset).to_string();
    let dir = tempfile::tempdir().unwrap();
    let proxy = Proxy::start(server.port).await;
    let relay = Relay::start(dir.path(), proxy.port, "chaos.*", &from);
    let seed = crate::oracle::seed();
    let mut chaos = Chaos { server, random: Random::new(seed), proxy, relay, done: 0, kills: 0 };
    crate::oracle::run_disturbed(server, "chaos", seed, &mut chaos).await;
    let connections = chaos.proxy.made.load(Ordering::Relaxed);
    assert!(connections > 5, "{connections} connections, {} kills", chaos.kills);
}

/// A file system in memory, of some size.
struct Small(tempfile::TempDir);

impl Small {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "small", &dir.path().display().to_string()]);
        Self(dir)
    }

    fn grow(&self, size: &str) {
        mount(&["-o", &format!("remount,size={size}"), &self.0.path().display().to_string()]);
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(self.0.path()).status().ok();
    }
}

fn mount(args: &[&str]) {
    assert!(Command::new("mount").args(args).status().expect("mount runs").success(), "mount {args:?}");
}

/// The log's disk is full: reading waits, and goes on from the right place when there is room.
pub(crate) async fn a_full_disk_only_delays(server: &Server) {
    server
        .run(&[
            "DROP DATABASE IF EXISTS full_disk",
            "CREATE DATABASE full_disk",
            "CREATE TABLE full_disk.t (id INT PRIMARY KEY, v MEDIUMTEXT)",
        ])
        .await;
    let (file, offset) = server.end().await;
    let number: u64 = file.rsplit_once('.').unwrap().1.parse().unwrap();
    let disk = Small::new("4m");
    let relay = Relay::start(disk.0.path(), server.port, "full_disk.*", &(number << 32 | offset).to_string());
    let mut conn = server.connect().await;
    for id in 0..100 {
        // Each twentieth is larger than what is left at that time, and than a block.
        let bytes = if id % 20 == 19 { 3_000_000 } else { 20_000 };
        conn.query_drop(format!("INSERT INTO full_disk.t VALUES ({id}, REPEAT('x', {bytes}))"))
            .await
            .unwrap();
    }
    conn.disconnect().await.unwrap();
    let waiting = async {
        // Said in its metrics, by source.
        loop {
            let text = relay.metrics().await.unwrap_or_default();
            if text.lines().any(|line| line.contains("os error 28") || line.contains("No space left")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.expect("a full disk is told");
    disk.grow("64m");
    let (file, offset) = server.end().await;
    let lines = relay.lines(&file, offset).await;
    let id = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["key"]["id"].as_i64();
    assert_eq!(lines.iter().filter_map(id).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
}

impl Relay {
    /// What its MBeans say.
    async fn metrics(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.dir.join("relay.yml")).ok()?;
        let address = text.lines().find_map(|line| line.strip_prefix("http_listen: "))?;
        let mut socket = TcpStream::connect(address).await.ok()?;
        let request = "GET /jolokia/read/aesop.relay:type=Source,name=s HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        socket.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.ok()?;
        Some(answer)
    }
}
