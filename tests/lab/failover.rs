//! A pair of MySQL servers changes places behind one address: nothing is lost, nothing comes twice, and a server that
//! lacks what was served is refused.

use aesop::lab::{DATABASE_PORT, DATABASE_USER, Host, HostKind, HostSpec, Lab, LabSpec};
use relay::client::{StreamEvent, Subscription, subscribe};
use relay::position::Position;
use relay::wire::frame::StartFrom;
use relay::wire::{BlockItem, PartitionSet};
use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

const PATIENCE: Duration = Duration::from_mins(1);

/// One row as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    position: Position,
    gtid: String,
    image: Vec<u8>,
}

pub(crate) fn a_failover_loses_and_doubles_nothing() {
    let spec = LabSpec::new(format!("t{}-failover", std::process::id()))
        .host(HostSpec::new("first").kind(HostKind::MySql97))
        .host(HostSpec::new("second").kind(HostKind::MySql97));
    let lab = Lab::create(&spec, &|_| ()).unwrap();
    let (first, second) = (lab.host("first").unwrap(), lab.host("second").unwrap());
    first.sql("CREATE DATABASE shop; CREATE TABLE shop.t (id INT PRIMARY KEY, v INT)").unwrap();
    // Other file numbers than the first one's.
    second.sql("FLUSH BINARY LOGS; FLUSH BINARY LOGS; FLUSH BINARY LOGS").unwrap();
    second
        .sql(&format!(
            "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{}', SOURCE_PORT = {DATABASE_PORT}, SOURCE_USER = '{DATABASE_USER}', \
             SOURCE_PASSWORD = '{}', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1, SOURCE_CONNECT_RETRY = 1, \
             SOURCE_RETRY_COUNT = 1000; START REPLICA",
            first.address(),
            lab.password()
        ))
        .unwrap();

    let address = Address::new(&first);
    let dir = tempfile::tempdir().unwrap();
    let mut relay = Relay::start(dir.path(), &address, &lab);
    let mut rows = Vec::new();
    insert(&first, 0..200);
    relay.follow(&mut rows, 200);

    // The second one stays behind, and takes over too early.
    wait("the second server follows", || count(&second) == 200);
    second.sql("STOP REPLICA").unwrap();
    insert(&first, 200..210);
    relay.follow(&mut rows, 210);
    first.kill_database().unwrap();
    address.moves_to(&second);
    wait("the server that is behind is refused", || {
        relay.metrics().contains("lacks transactions that were served")
    });
    assert_eq!(relay.epoch(), 1);

    // It catches up, and takes over. The relay is killed in between, and knows what it has served all the same.
    relay.kill();
    first.start_database().unwrap();
    second.sql("START REPLICA").unwrap();
    wait("the second server has everything", || count(&second) == 210);
    first.kill_database().unwrap();
    second.sql("STOP REPLICA; RESET REPLICA ALL").unwrap();
    insert(&second, 210..260);
    relay = Relay::start(dir.path(), &address, &lab);
    relay.follow(&mut rows, 260);
    assert_eq!(relay.epoch(), 2);

    // And on, over one more restart.
    relay.kill();
    relay = Relay::start(dir.path(), &address, &lab);
    insert(&second, 260..300);
    relay.follow(&mut rows, 300);

    let once: BTreeSet<&Seen> = rows.iter().collect();
    assert_eq!(once.len(), 300, "every row once");
    let gtids: BTreeSet<&str> = rows.iter().map(|row| row.gtid.as_str()).collect();
    assert_eq!(gtids.len(), 300, "every transaction once");
    let images: Vec<i32> = rows.iter().map(|row| id(&row.image)).collect();
    assert_eq!(images, (0..300).collect::<Vec<_>>(), "in commit order");
    assert_eq!(rows.iter().map(|row| row.position.epoch).collect::<BTreeSet<_>>(), BTreeSet::from([1, 2]));
    relay.kill();
    lab.down().unwrap();
}

fn insert(host: &Host, ids: std::ops::Range<i32>) {
    let statements: Vec<String> = ids.map(|id| format!("INSERT INTO shop.t VALUES ({id}, 1)")).collect();
    host.sql(&statements.join(";")).unwrap();
}

fn count(host: &Host) -> usize {
    host.sql("SELECT count(*) FROM shop.t").map_or(0, |text| text.trim().parse().unwrap_or(0))
}

/// Behind the bitmaps of columns and of NULLs.
fn id(image: &[u8]) -> i32 {
    i32::from_le_bytes(image[2..6].try_into().unwrap())
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "not within {} s: {what}", PATIENCE.as_secs());
        thread::sleep(Duration::from_millis(50));
    }
}

/// The source's address: it leads to one server, then to the other.
struct Address {
    local: SocketAddr,
    target: Arc<Mutex<(SocketAddr, Vec<TcpStream>)>>,
}

impl Address {
    fn new(host: &Host) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let local = listener.local_addr().unwrap();
        let target = Arc::new(Mutex::new((Self::of(host), Vec::new())));
        let shared = Arc::clone(&target);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut target = shared.lock().unwrap();
                let Ok(server) = TcpStream::connect(target.0) else { continue };
                target.1.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                for (mut from, mut to) in
                    [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
                {
                    thread::spawn(move || {
                        io::copy(&mut from, &mut to).ok();
                        to.shutdown(std::net::Shutdown::Both).ok();
                    });
                }
            }
        });
        Self { local, target }
    }

    fn of(host: &Host) -> SocketAddr {
        SocketAddr::new(host.address().into(), DATABASE_PORT)
    }

    fn moves_to(&self, host: &Host) {
        let mut target = self.target.lock().unwrap();
        target.0 = Self::of(host);
        for socket in target.1.drain(..) {
            socket.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

/// A relay without ZooKeeper, and the place up to which its rows were seen.
struct Relay {
    process: Child,
    dir: std::path::PathBuf,
    listen: SocketAddr,
    http: SocketAddr,
}

impl Relay {
    fn start(dir: &Path, address: &Address, lab: &Lab) -> Self {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (listen, http) = (free(), free());
        fs::write(dir.join("password"), lab.password()).unwrap();
        let config = format!(
            "{{cluster: c, id: r1, listen: \"{listen}\", advertise: \"{listen}\", http_listen: \"{http}\", data_dir: {dir}, sources: \
             {{shop: {{mysql: {{host: 127.0.0.1, port: {port}, user: {DATABASE_USER}, password_file: {dir}/password, server_id: 4001}}, \
             tables: [\"shop.*\"], start: earliest}}}}}}",
            dir = dir.display(),
            port = address.local.port(),
        );
        fs::write(dir.join("relay.yml"), config).unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_aesop")).with_file_name("aesop-relay");
        let log = fs::File::options().create(true).append(true).open(dir.join("relay.log")).unwrap();
        let process = Command::new(program)
            .args(["run", "--config"])
            .arg(dir.join("relay.yml"))
            .stderr(log)
            .stdout(Stdio::null())
            .spawn()
            .expect("aesop-relay is built: cargo build --workspace --bins");
        let relay = Self { process, dir: dir.to_owned(), listen, http };
        wait("the relay listens", || TcpStream::connect(listen).is_ok());
        relay
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn epoch(&self) -> u64 {
        let text = fs::read(self.dir.join("shop/epoch.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()["number"].as_u64().unwrap()
    }

    fn metrics(&self) -> String {
        use std::io::{Read as _, Write as _};
        let mut text = String::new();
        let mut read = || -> io::Result<()> {
            let mut socket = TcpStream::connect(self.http)?;
            socket.write_all(
                b"GET /jolokia/read/aesop.relay:name=shop,type=Source HTTP/1.0\r\nhost: x\r\n\r\n",
            )?;
            socket.read_to_string(&mut text).map(drop)
        };
        read().ok();
        text
    }

    /// Streams the rows of `shop.t` behind the last one seen until there are `wanted`.
    fn follow(&self, rows: &mut Vec<Seen>, wanted: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let follow = self.stream(rows, wanted);
        let done = runtime.block_on(async { tokio::time::timeout(PATIENCE, follow).await });
        let log = || fs::read_to_string(self.dir.join("relay.log")).unwrap_or_default();
        assert!(done.is_ok(), "{} rows of {wanted} came; the relay says\n{}", rows.len(), log());
        assert_eq!(rows.len(), wanted);
    }

    async fn stream(&self, rows: &mut Vec<Seen>, wanted: usize) {
        while rows.len() < wanted {
            let from = match rows.last() {
                Some(last) => StartFrom::Position { position: last.position, rows: 1 },
                None => StartFrom::Earliest,
            };
            let subscription = Subscription {
                address: self.listen.to_string(),
                cluster: "c".into(),
                source: "shop".into(),
                group: "g".into(),
                member: "m".into(),
                from,
                partitions: PartitionSet::all(4),
                credit_bytes: 1 << 20,
            };
            let Ok(mut stream) = subscribe(subscription).await else { continue };
            while rows.len() < wanted {
                let Ok(event) = stream.next().await else { break };
                let StreamEvent::Block(block) = event else { continue };
                rows.extend(block.items().filter_map(|item| match item {
                    BlockItem::Row { txn, change, .. } if !change.schema.columns.is_empty() => Some(Seen {
                        position: txn.start.position,
                        gtid: txn.start.gtid.clone().unwrap_or_default(),
                        image: change.after.to_vec(),
                    }),
                    _ => None,
                }));
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
