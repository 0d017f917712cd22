//! Two relays, by mistake, with one `server_id`. MariaDB ends the connection of one for the other, in turn; MySQL goes by
//! another number, which each relay makes for itself.

use crate::program::{LIMIT, Relay, Settings};
use crate::server::{Kind, Server};
use std::time::Duration;

pub(crate) async fn two_relays_with_one_number(kind: Kind) {
    let server = Server::start(kind, 61, "").await;
    server.run(&["CREATE DATABASE clash", "CREATE TABLE clash.t (id INT PRIMARY KEY)"]).await;
    let (dir1, dir2) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = Settings::new(server.port, "clash.*");
    let first = Relay::start(dir1.path(), &settings);
    let second = Relay::start(dir2.path(), &Settings { id: "r2", ..settings });
    let remedy = "server_id 4100: give one of them another server_id";
    if kind == Kind::MariaDb {
        let told = async {
            while ![&first, &second].iter().all(|relay| relay.log().contains(remedy)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let told = tokio::time::timeout(LIMIT, told).await;
        assert!(told.is_ok(), "{remedy} is not said:\n{}\n{}", first.log(), second.log());
    }
    // Both get on all the same.
    for id in 0..20 {
        server.run(&[&format!("INSERT INTO clash.t VALUES ({id})")]).await;
    }
    let (file, offset) = server.end().await;
    for relay in [&first, &second] {
        let lines = relay.lines(&file, offset).await;
        assert_eq!(lines.iter().filter(|line| line.contains("\"op\":\"insert\"")).count(), 20);
        if kind == Kind::MySql {
            assert!(relay.metrics().await.unwrap().contains("\"DisconnectsTotal\":0"));
            assert!(!relay.log().contains(remedy));
        }
    }
}
