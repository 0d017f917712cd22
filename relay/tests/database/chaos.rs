//! What goes wrong while a relay reads: it is killed, its connection is cut at any byte, the database restarts, its disk
//! fills up.

use crate::oracle::Disturber;
use crate::program::{LIMIT, Relay, Settings};
use crate::proxy::Proxy;
use crate::random::Random;
use crate::server::Server;
use futures_util::future::BoxFuture;
use mysql_async::prelude::Queryable;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

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
    let relay = Relay::start(dir.path(), &Settings { from: &from, ..Settings::new(proxy.port, "chaos.*") });
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
    let from = (number << 32 | offset).to_string();
    let relay =
        Relay::start(disk.0.path(), &Settings { from: &from, ..Settings::new(server.port, "full_disk.*") });
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
