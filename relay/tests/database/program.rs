//! The relay's program, and what it serves.

use crate::server::{self, PASSWORD, USER};
use relay::client::{StreamEvent, Subscription, subscribe};
use relay::config::Format;
use relay::format::{Formatter, RowContext};
use relay::wire::frame::StartFrom;
use relay::wire::{BlockItem, PartitionSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Nothing here takes as long.
pub(crate) const LIMIT: Duration = Duration::from_mins(2);

/// How it is to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings<'a> {
    /// Of the database, or of what stands before it.
    pub(crate) port: u16,
    pub(crate) tables: &'a str,
    pub(crate) from: &'a str,
    pub(crate) id: &'a str,
    pub(crate) server_id: u32,
    /// Port of ZooKeeper, if it has one.
    pub(crate) zookeeper: Option<u16>,
    /// Further lines.
    pub(crate) extra: &'a str,
    /// Further settings of the source.
    pub(crate) source: &'a str,
}

impl<'a> Settings<'a> {
    pub(crate) fn new(port: u16, tables: &'a str) -> Self {
        Self {
            port,
            tables,
            from: "earliest",
            id: "r1",
            server_id: 4100,
            zookeeper: None,
            extra: "",
            source: "",
        }
    }
}

/// The program, on a data directory of its own.
pub(crate) struct Relay {
    pub(crate) dir: PathBuf,
    pub(crate) address: String,
    http: String,
    process: Child,
}

impl Relay {
    pub(crate) fn start(dir: &Path, settings: &Settings<'_>) -> Self {
        let Settings { port, tables, from, id, server_id, zookeeper, extra, source } = settings;
        let free = || format!("127.0.0.1:{}", server::free_port());
        let (address, http, dir_name) = (free(), free(), dir.display());
        let zookeeper = zookeeper.map_or_else(String::new, |port| {
            format!("zookeeper: {{servers: ['127.0.0.1:{port}'], session_timeout_ms: 2000}}\n")
        });
        let text = format!(
            "cluster: c\nid: {id}\nlisten: {address}\nadvertise: {address}\nhttp_listen: {http}\ndata_dir: {dir_name}\n\
             {zookeeper}{extra}sources:\n  s:\n    mysql: {{host: 127.0.0.1, port: {port}, user: {USER}, password_file: \
             {dir_name}/password, server_id: {server_id}}}\n    tables: ['{tables}']\n    start: '{from}'\n{source}",
        );
        std::fs::write(dir.join("password"), PASSWORD).unwrap();
        std::fs::write(dir.join("relay.yml"), text).unwrap();
        Self { dir: dir.to_owned(), address, http, process: run(dir) }
    }

    /// With `kill -9`.
    pub(crate) fn end(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.process = run(&self.dir);
    }

    pub(crate) fn kill(&mut self) {
        self.end();
        self.start_again();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The most memory that it ever had, bytes; pages of its program included.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub(crate) fn signal(&self, name: &str) {
        let done = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status();
        assert!(done.expect("kill runs").success());
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("relay.log")).unwrap_or_default()
    }

    /// What its MBeans of this name say; a pattern for several.
    pub(crate) async fn bean(&self, name: &str) -> Option<String> {
        bean(&self.http, name).await
    }

    /// What its MBean of the source says.
    pub(crate) async fn metrics(&self) -> Option<String> {
        self.bean("aesop.relay:type=Source,name=s").await
    }

    /// Waits until the source says this.
    pub(crate) async fn says(&self, what: &str) {
        let said = async {
            while !self.metrics().await.is_some_and(|text| text.contains(what)) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let said = tokio::time::timeout(LIMIT, said).await;
        assert!(said.is_ok(), "the relay does not say {what:?}; its log:\n{}", self.log());
    }

    /// All messages of its log, once that has come to this place of the binlog.
    pub(crate) async fn lines(&self, file: &str, offset: u64) -> Vec<String> {
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

/// What the MBeans of this name say at an address.
pub(crate) async fn bean(http: &str, name: &str) -> Option<String> {
    let mut socket = TcpStream::connect(http).await.ok()?;
    let request = format!("GET /jolokia/read/{name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn run(dir: &Path) -> Child {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("relay.log")).unwrap();
    Command::new(env!("CARGO_BIN_EXE_aesop-relay"))
        .args(["run", "--config"])
        .arg(dir.join("relay.yml"))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("aesop-relay runs")
}
