//! Real database servers, straight from the lab's images: a chroot in a mount and process namespace of its own, its
//! data in memory. All of it goes when the server is killed, or this process is.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// The account that may do everything.
pub(crate) const USER: &str = "admin";
/// Its password.
pub(crate) const PASSWORD: &str = "secret";
/// A server that is not up by then will not come.
const UP_WITHIN: Duration = Duration::from_mins(1);
/// First of the ports that tests listen at, and how many there are.
const LOWEST_PORT: u16 = 20_000;
const PORTS: u16 = 12_000;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    MySql,
    MariaDb,
}

impl Kind {
    /// Name of the lab's image begins like this.
    fn image_prefix(self) -> &'static str {
        match self {
            Self::MySql => "mysql97-",
            Self::MariaDb => "base-",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::MySql => "/usr/sbin/mysqld",
            Self::MariaDb => "/usr/sbin/mariadbd",
        }
    }

    fn config(self) -> &'static str {
        match self {
            Self::MySql => {
                "gtid_mode = ON\nenforce_gtid_consistency = ON\nmysqlx = OFF\nperformance_schema = OFF\n\
                 innodb_redo_log_capacity = 32M\n"
            }
            // As MySQL does by itself.
            Self::MariaDb => "sync_binlog = 1\n",
        }
    }
}

/// An authority that vouches for test servers.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    /// A server's certificate and key.
    fn certificate(&self) -> [String; 2] {
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        [params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem()]
    }
}

/// A running server. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) port: u16,
    /// The authority of its certificate, which is for 127.0.0.1 only; PEM.
    pub(crate) authority: String,
    process: Child,
    /// What it says.
    log: std::fs::File,
}

/// Mounts, configuration, then the server. The shell stays: it is the first process of the namespace, and dies with
/// `unshare`, which ends all others. The server itself would not: changing its user clears that signal.
const START: &str = r#"
set -e
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o "lowerdir=$1,upperdir=/mnt/upper,workdir=/mnt/work" /mnt/root
mount -t proc proc /mnt/root/proc
mount --rbind /dev /mnt/root/dev
mkdir -p /mnt/root/run/mysqld
printf '%s' "$3" > /mnt/root/etc/test.cnf
printf '%s' "$4" > /mnt/root/etc/test.sql
printf '%s' "$5" > /mnt/root/etc/test-ca.pem
printf '%s' "$6" > /mnt/root/etc/test-cert.pem
printf '%s' "$7" > /mnt/root/etc/test-key.pem
chroot /mnt/root chown mysql: /run/mysqld
# SHUTDOWN is a clean end, and restarts it; so does kill -9. It ends with 1 where it cannot run.
while :; do
    code=0
    chroot /mnt/root /usr/bin/eatmydata "$2" --defaults-file=/etc/test.cnf || code=$?
    [ "$code" != 1 ] || exit 1
done
"#;

impl Server {
    /// Starts a server with further lines of configuration, and waits until it answers.
    pub(crate) async fn start(kind: Kind, server_id: u32, extra: &str) -> Self {
        let image = image(kind).unwrap_or_else(|| {
            panic!(
                "no image {}* in {}: the lab makes them: cargo test --test lab hosts::bring_databases_and_mail",
                kind.image_prefix(),
                images().display()
            )
        });
        let port = free_port();
        let config = format!(
            "[mysqld]\nuser = mysql\ndatadir = /var/lib/mysql\nsocket = /run/mysqld/mysqld.sock\n\
             pid_file = /run/mysqld/mysqld.pid\nbind_address = 127.0.0.1\nport = {port}\nskip_name_resolve = ON\n\
             server_id = {server_id}\nlog_bin = binlog\nbinlog_format = ROW\nbinlog_row_image = FULL\n\
             binlog_row_metadata = FULL\ninnodb_buffer_pool_size = 64M\ninit_file = /etc/test.sql\n\
             max_allowed_packet = 256M\nssl_ca = /etc/test-ca.pem\nssl_cert = /etc/test-cert.pem\n\
             ssl_key = /etc/test-key.pem\n{}{extra}\n",
            kind.config()
        );
        let grants = format!(
            "CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;\n"
        );
        let image = image.display().to_string();
        let authority = Authority::new();
        let [cert, key] = authority.certificate();
        let args = [image, kind.program().to_owned(), config, grants, authority.pem.clone(), cert, key];
        let log = tempfile::tempfile().expect("a temporary file");
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
            .args(["--pid", "--fork", "--kill-child", "sh", "-c", START, "sh"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.try_clone().expect("a second handle"));
        let process = spawn(command);
        let mut server = Self { kind, port, authority: authority.pem, process, log };
        server.wait().await;
        server
    }

    async fn wait(&mut self) {
        let start = Instant::now();
        loop {
            match self.try_connect(USER, PASSWORD).await {
                Ok(conn) => return drop(conn.disconnect().await),
                Err(error) => {
                    let ended = self.process.try_wait().expect("a child can be asked");
                    let hopeless = ended.is_some() || start.elapsed() > UP_WITHIN;
                    let kind = self.kind;
                    assert!(!hopeless, "{kind:?} does not come up ({error}): {}", self.words());
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn words(&mut self) -> String {
        let mut words = Vec::new();
        self.log.seek(SeekFrom::Start(0)).expect("a file can be read again");
        self.log.read_to_end(&mut words).expect("a file can be read");
        String::from_utf8_lossy(&words).into_owned()
    }

    async fn try_connect(&self, user: &str, password: &str) -> mysql_async::Result<Conn> {
        Conn::new(
            OptsBuilder::default()
                .ip_or_hostname("127.0.0.1")
                .tcp_port(self.port)
                .user(Some(user))
                .pass(Some(password))
                .prefer_socket(false)
                .max_allowed_packet(Some(256 << 20)),
        )
        .await
    }

    /// A session of the account that may do everything.
    pub(crate) async fn connect(&self) -> Conn {
        self.try_connect(USER, PASSWORD).await.expect("the server takes connections")
    }

    /// Runs statements, each of which must succeed.
    pub(crate) async fn run(&self, statements: &[&str]) {
        let mut conn = self.connect().await;
        for statement in statements {
            if let Err(error) = conn.query_drop(*statement).await {
                panic!("{statement}: {error}");
            }
        }
        conn.disconnect().await.ok();
    }

    /// Restarts it; other sessions are lost.
    pub(crate) async fn restart(&self) {
        // The answer may be lost with the server.
        self.connect().await.query_drop("SHUTDOWN").await.ok();
        let start = Instant::now();
        for wanted in [false, true] {
            while self.try_connect(USER, PASSWORD).await.is_ok() != wanted {
                assert!(start.elapsed() < UP_WITHIN, "{:?} does not restart", self.kind);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// Ends it with `kill -9`; it starts again.
    pub(crate) async fn crash(&self) {
        let before = self.pid();
        assert!(Command::new("kill").args(["-9", &before.to_string()]).status().unwrap().success());
        let start = Instant::now();
        while self.try_pid().is_none_or(|pid| pid == before)
            || self.try_connect(USER, PASSWORD).await.is_err()
        {
            assert!(start.elapsed() < UP_WITHIN, "{:?} does not start again", self.kind);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn pid(&self) -> u32 {
        self.try_pid().expect("the server runs")
    }

    /// Of the server among the descendants of what was started.
    fn try_pid(&self) -> Option<u32> {
        let mut parents = vec![self.process.id()];
        while let Some(parent) = parents.pop() {
            let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
            for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()) {
                let name = std::fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
                if self.kind.program().ends_with(name.trim())
                    && !name.trim().is_empty()
                    && name.trim() != "sh"
                {
                    return Some(child);
                }
                parents.push(child);
            }
        }
        None
    }

    /// File and offset where the binlog ends now.
    pub(crate) async fn end(&self) -> (String, u64) {
        let mut conn = self.connect().await;
        let sql = match self.kind {
            Kind::MySql => "SHOW BINARY LOG STATUS",
            Kind::MariaDb => "SHOW MASTER STATUS",
        };
        let row: mysql_async::Row = conn.query_first(sql).await.unwrap().expect("the server has a binlog");
        conn.disconnect().await.unwrap();
        (row.get(0).unwrap(), row.get(1).unwrap())
    }

    /// `mysql://…` for `aesop-relay tail`.
    pub(crate) fn url(&self) -> String {
        format!("mysql://{USER}:{PASSWORD}@127.0.0.1:{}/", self.port)
    }
}

/// Starts what `setpriv --pdeathsig` ends together with this process. The kernel sends the signal when the thread that
/// started it ends: one that never does.
pub(crate) fn spawn(mut command: Command) -> Child {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sender.send(command.spawn()).ok();
        loop {
            std::thread::park();
        }
    });
    receiver.recv().unwrap().expect("setpriv and unshare (util-linux) run")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub(crate) fn free_port() -> u16 {
    // Counted up from a place of this process: a port that is free now, but was handed out a moment ago, is another
    // test's. And below those that the kernel gives to whoever connects: a client of a server that is down could take
    // the server's own.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 200).expect("below 200") * 60;
    for _ in 0..PORTS {
        let port = LOWEST_PORT + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free from {LOWEST_PORT} on");
}

fn images() -> PathBuf {
    cache().join("lab")
}

/// Where aesop keeps what it has made and fetched.
pub(crate) fn cache() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("AESOP_CACHE").unwrap_or_else(|| {
        let home = || variable("HOME").unwrap_or_else(|| PathBuf::from("/root")).join(".cache");
        variable("XDG_CACHE_HOME").unwrap_or_else(home).join("aesop")
    })
}

/// The newest image of a kind that the lab has made.
fn image(kind: Kind) -> Option<PathBuf> {
    let newest = |path: &Path| path.metadata().and_then(|m| m.modified()).ok();
    std::fs::read_dir(images())
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            name.starts_with(kind.image_prefix())
                && path.join(kind.program().trim_start_matches('/')).exists()
        })
        .max_by_key(|path| newest(path))
}

/// Why no server can be run here.
pub(crate) fn why_not() -> Option<&'static str> {
    if !cfg!(target_os = "linux") {
        return Some("it needs Linux");
    }
    let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root =
        own.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().nth(2) == Some("0"));
    if root { None } else { Some("it needs root") }
}
