//! A network that drops everything: nobody ends the connection, and nothing comes any more.

use crate::program::{LIMIT, Relay, Settings};
use crate::proxy::Proxy;
use crate::server::{Kind, Server};
use std::sync::atomic::Ordering;
use std::time::Duration;

pub(crate) async fn a_dead_link_is_noticed(kind: Kind) {
    let server = Server::start(kind, 41, "").await;
    server.run(&["CREATE DATABASE dead", "CREATE TABLE dead.t (id INT PRIMARY KEY)"]).await;
    let proxy = Proxy::start(server.port).await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(dir.path(), &Settings::new(proxy.port, "dead.*"));
    server.run(&["INSERT INTO dead.t VALUES (1)"]).await;
    let (file, offset) = server.end().await;
    relay.lines(&file, offset).await;
    // Heartbeats have come.
    relay.says("\"TimeLagMs\":0").await;
    let made = proxy.made.load(Ordering::Relaxed);
    proxy.silence(true);
    server.run(&["INSERT INTO dead.t VALUES (2)"]).await;
    let again = async {
        while proxy.made.load(Ordering::Relaxed) == made {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, again).await.expect("the relay tries another connection");
    relay.says("silent for 15 s").await;
    proxy.silence(false);
    let (file, offset) = server.end().await;
    let lines = relay.lines(&file, offset).await;
    let rows: Vec<&String> = lines.iter().filter(|line| line.contains("\"op\":\"insert\"")).collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
}
