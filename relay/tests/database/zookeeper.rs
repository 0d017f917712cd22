//! A ZooKeeper server, from the jars that aesop pins and the lab has fetched.

use crate::program::LIMIT;
use crate::server;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ZooKeeper {
    pub(crate) port: u16,
    process: Child,
    _dir: tempfile::TempDir,
}

impl ZooKeeper {
    pub(crate) async fn start() -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), server::free_port());
        let text = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\ntickTime=500\n",
            dir.path().display()
        );
        let config = dir.path().join("zoo.cfg");
        std::fs::write(&config, text).unwrap();
        let classpath: Vec<String> = jars().iter().map(|jar| jar.display().to_string()).collect();
        let mut command = Command::new("setpriv");
        command
            .args([
                "--pdeathsig",
                "KILL",
                "java",
                "-Xmx64m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
            ])
            .arg(classpath.join(":"))
            .arg("org.apache.zookeeper.server.ZooKeeperServerMain")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let zookeeper = Self { port, process: server::spawn(command), _dir: dir };
        let up = async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(LIMIT, up).await.expect("ZooKeeper comes up");
        zookeeper
    }
}

impl Drop for ZooKeeper {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn jars() -> Vec<PathBuf> {
    let list = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/artifact/pinned/zookeeper-3.9.4.txt");
    let list = std::fs::read_to_string(list).unwrap();
    let lines = list.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| {
            let (coordinates, sum) = line.split_once(' ').unwrap();
            let name = coordinates.split(':').skip(1).collect::<Vec<_>>().join("-");
            let jar = server::cache().join("artifacts/sha512").join(sum).join(format!("{name}.jar"));
            let found = jar.exists();
            assert!(found, "no {}: the lab fetches it: cargo test --test lab", jar.display());
            jar
        })
        .collect()
}
