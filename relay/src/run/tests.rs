use super::*;
use expect_test::{Expect, expect};

fn check(text: &str, expected: &Expect) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("relay.yml");
    std::fs::write(&path, text).unwrap();
    let error = anyhow::Error::from(load(&path).unwrap_err());
    let dir = format!("{}/", dir.path().display());
    expected.assert_eq(&format!("{error:#}").replace(&dir, ""));
}

const GOOD: &str = "\
cluster: c
id: r1
listen: 127.0.0.1:1
advertise: 127.0.0.1:1
http_listen: 127.0.0.1:2
data_dir: /d
sources:
  shop: {mysql: {host: db, user: u, server_id: 7}, start: earliest}
";

#[test]
fn configuration_errors_name_file_key_and_remedy() {
    check(
        &GOOD.replace("listen:", "lisen:"),
        &expect![
            "relay.yml: unknown field `lisen`, expected one of `cluster`, `id`, `listen`, `advertise`, `http_listen`, `data_dir`, `retention`, `zookeeper`, `limits`, `sources` at line 3 column 1"
        ],
    );
    check(
        &GOOD.replace("earliest", "newest"),
        &expect![[
            r#"relay.yml: sources.shop.start: "newest" is no start: give earliest, latest, a time like 2026-11-22T15:00:00Z, an SCN or a GTID set"#
        ]],
    );
    check(
        &GOOD.replace("  shop:", "  ../shop:"),
        &expect![
            "relay.yml: sources.../shop: a name is a directory's and a znode's name, without / and without a leading dot"
        ],
    );
    check(
        &GOOD.split("  shop").next().unwrap().replace("sources:", "sources: {}"),
        &expect!["relay.yml: sources: there is none; name at least one MySQL server"],
    );
    let error = load(Path::new("/nowhere/relay.yml")).unwrap_err();
    expect!["/nowhere/relay.yml: No such file or directory (os error 2); give the path of relay.yml"]
        .assert_eq(&format!("{:#}", anyhow::Error::from(error)));
}

#[tokio::test]
async fn a_relay_without_its_database_serves_says_what_it_waits_for_and_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    // Nobody listens on a port that was just given back.
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (listen, http, database) = (free(), free(), free());
    let text = GOOD
        .replace("listen: 127.0.0.1:1", &format!("listen: {listen}"))
        .replace("127.0.0.1:2", &http.to_string())
        .replace("data_dir: /d", &format!("data_dir: {}", dir.path().display()))
        .replace("host: db", &format!("host: 127.0.0.1, port: {}", database.port()));
    let path = dir.path().join("relay.yml");
    std::fs::write(&path, text).unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(load(&path).unwrap(), shutdown.clone()));
    let waiting = async {
        loop {
            if let Ok(mut socket) = tokio::net::TcpStream::connect(http).await {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let request = b"GET /healthz/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
                socket.write_all(request).await.unwrap();
                let mut answer = String::new();
                socket.read_to_string(&mut answer).await.unwrap();
                if answer.contains("source shop is not connected yet") {
                    assert!(answer.starts_with("HTTP/1.1 503"));
                    return;
                }
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap();
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(2), running).await.unwrap().unwrap().unwrap();
}
