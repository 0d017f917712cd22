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

/// A relay with this configuration, which listens somewhere else.
struct Running {
    listen: std::net::SocketAddr,
    http: std::net::SocketAddr,
    shutdown: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), RunError>>,
}

fn running(dir: &Path, text: &str) -> Running {
    // Nobody listens on a port that was just given back.
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (listen, http, database) = (free(), free(), free());
    let text = text
        .replace("listen: 127.0.0.1:1", &format!("listen: {listen}"))
        .replace("127.0.0.1:2", &http.to_string())
        .replace("data_dir: /d", &format!("data_dir: {}", dir.display()))
        .replace("host: db", &format!("host: 127.0.0.1, port: {}", database.port()));
    let path = dir.join("relay.yml");
    std::fs::write(&path, text).unwrap();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(run(load(&path).unwrap(), shutdown.clone()));
    Running { listen, http, shutdown, task }
}

impl Running {
    /// Waits until the relay says this of its readiness.
    async fn says(&self, what: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let said = async {
            loop {
                if let Ok(mut socket) = tokio::net::TcpStream::connect(self.http).await {
                    let request = b"GET /healthz/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
                    socket.write_all(request).await.unwrap();
                    let mut answer = String::new();
                    socket.read_to_string(&mut answer).await.unwrap();
                    if answer.contains(what) {
                        return answer;
                    }
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), said).await.unwrap()
    }

    async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(2), self.task).await.unwrap().unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_relay_without_its_database_serves_says_what_it_waits_for_and_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let relay = running(dir.path(), GOOD);
    assert!(relay.says("source shop is not connected yet").await.starts_with("HTTP/1.1 503"));
    relay.end().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_stops_its_source_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("shop")).unwrap();
    std::fs::write(dir.path().join("shop/log"), "not a directory").unwrap();
    let other = GOOD.lines().last().unwrap().replace("shop", "other");
    let relay = running(dir.path(), &format!("{GOOD}{other}\n"));
    let answer = relay.says("source shop has stopped: its event log cannot be opened").await;
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("shop/log"), "{answer}");
    let open = |source: &str| {
        crate::client::subscribe(crate::client::Subscription {
            address: relay.listen.to_string(),
            cluster: "c".into(),
            source: source.into(),
            group: "g".into(),
            member: "m".into(),
            from: crate::wire::frame::StartFrom::Earliest,
            partitions: crate::wire::PartitionSet::all(1),
            credit_bytes: 1,
        })
    };
    // Another relay may have it.
    assert!(open("shop").await.unwrap_err().is_transient());
    drop(open("other").await.unwrap());
    relay.end().await;
}
