//! One host: starting and stopping it, cutting it off, and working inside it.

use super::cgroup::Group;
use super::command::{Answer, Cmd, tail};
use super::prepare::{self, Folders};
use super::spec::HostKind;
use super::state::{self, HostState, State};
use super::{LabError, Result, net};
use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

/// How long a host may take to answer: it takes 2 s alone, longer when many boot on few processors.
const BOOT_WITHIN: Duration = Duration::from_secs(90);
/// How long a shutdown may take: services with a slow stop have systemd's 90 s.
const STOP_WITHIN: Duration = Duration::from_mins(2);
/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long one question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Writes its own pid to every file before `--`, then becomes the command after it.
const ENTER_CGROUPS: &str =
    "while [ \"$1\" != -- ]; do echo $$ > \"$1\" || exit 125; shift; done; shift; exec \"$@\"";
/// Runs `$@` below the cgroup whose file is `$1`, and again as long as it ends with 133: so systemd-nspawn asks
/// for a reboot. `$2` is the host's link, which outlives the run for a moment and would be in the way.
const KEEP: &str = r#"entry=$1 link=$2; shift 2
while :; do
    sh -c 'echo $$ > "$1" || exit 125; shift; exec "$@"' sh "$entry" "$@"
    [ $? = 133 ] || exit 0
    ip link delete "$link" 2>/dev/null
done"#;

/// A host of a lab.
#[derive(Clone, Debug)]
pub struct Host {
    pub(super) state: State,
    pub(super) host: HostState,
}

impl Host {
    pub(super) fn new(state: &State, host: HostState) -> Self {
        Self { state: State { hosts: Vec::new(), ..state.clone() }, host }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.host.name
    }

    /// What runs on it from the start.
    pub fn kind(&self) -> HostKind {
        self.host.kind
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.state.subnet.address(self.host.number)
    }

    /// Its `/` as this machine sees it, also while it is stopped.
    pub fn root(&self) -> PathBuf {
        self.folders().root()
    }

    /// On a mail host: the folder with one file for each mail, for all recipients.
    pub fn mailbox(&self) -> PathBuf {
        self.root().join("var/mail/lab/new")
    }

    pub(super) fn folders(&self) -> Folders {
        Folders::new(&self.state, &self.host.name)
    }

    pub(super) fn group(&self) -> Result<Group> {
        Group::host(&self.state.name, &self.host.name)
    }

    /// Whether anything runs on it.
    pub fn is_running(&self) -> Result<bool> {
        Ok(!self.group()?.is_empty())
    }

    /// Pids, on this machine, of all that runs on it.
    pub fn pids(&self) -> Result<Vec<u32>> {
        Ok(self.group()?.pids())
    }

    /// First boot: files, mounts, then [`boot`](Self::boot).
    pub(super) fn prepare_and_boot(&self) -> Result<()> {
        let folders = self.folders();
        {
            let _lab = state::lock_lab(&self.state.name)?;
            // A lab that was removed meanwhile gets no new mount.
            State::load(&self.state.name)?.host(self.name())?;
            prepare::mount_host(&folders, &self.host)?;
        }
        prepare::write_host(&self.state, &self.host, &folders)?;
        {
            let _lab = state::lock_lab(&self.state.name)?;
            prepare::write_directory(&State::load(&self.state.name)?)?;
        }
        self.boot()
    }

    /// Starts it if it is not running, and waits until it answers over ssh and its service is there.
    pub fn boot(&self) -> Result<()> {
        let mut child = {
            let _lab = state::lock_lab(&self.state.name)?;
            State::load(&self.state.name)?.host(self.name())?;
            if self.is_running()? { None } else { Some(self.spawn()?) }
        };
        let ready = self.wait_ready(child.as_mut());
        if let Some(mut child) = child {
            // Whoever starts a process must take its exit status, or it stays as a zombie.
            std::thread::spawn(move || drop(child.wait()));
        }
        ready
    }

    fn spawn(&self) -> Result<Child> {
        let (folders, group) = (self.folders(), self.group()?);
        prepare::mount_host(&folders, &self.host)?;
        let link = net::link_name(&self.host.machine);
        // Left by the last run, whose end the kernel may still be tidying up after.
        net::remove_link(&link)?;
        group.make()?;
        let console = File::create(folders.console()).map_err(LabError::file("create", folders.console()))?;
        let errors = console.try_clone().map_err(LabError::file("open", folders.console()))?;
        // A session of its own: what ends our terminal does not end the lab.
        let mut command =
            Cmd::new("setsid").args(["sh", "-c", ENTER_CGROUPS, "sh"]).args(group.keeper_files());
        command = command.args(["--", "sh", "-c", KEEP, "sh"]).arg(group.entry_file()).arg(&link).args([
            "systemd-nspawn",
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--settings=no",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=read-only",
        ]);
        command = command
            .arg(format!("--network-bridge={}", self.state.bridge()))
            .arg(format!("--machine={}", self.host.machine))
            .arg(format!("--hostname={}", self.host.name))
            .arg(format!("--directory={}", folders.root().display()));
        if self.host.images.mysql.is_some() {
            command = command.arg(format!("--bind={}:/{}", folders.mysql().display(), prepare::MYSQL_ROOT));
        }
        // For its first process, whose arguments are a container's kernel parameters: from 256 on, systemd otherwise
        // refuses the hybrid cgroups that this machine may have.
        command = command.arg("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1");
        let mut command = command.to_std();
        command.stdout(console).stderr(errors).current_dir("/");
        command.spawn().map_err(|source| LabError::Start {
            command: "systemd-nspawn".to_owned(),
            remedy: "install systemd-container".to_owned(),
            source,
        })
    }

    fn wait_ready(&self, mut child: Option<&mut Child>) -> Result<()> {
        let ssh = self.address().to_string();
        self.wait(&format!("ssh on {ssh} does not answer"), BOOT_WITHIN, || {
            let ended = child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_))));
            if ended { Err(()) } else { Ok(self.greets(22)) }
        })?;
        match self.host.kind.service() {
            Some((unit, port)) => {
                self.wait(&format!("{unit} does not answer"), BOOT_WITHIN, || Ok(self.greets(port)))
            }
            None => Ok(()),
        }
    }

    /// Whether what listens there speaks first, as ssh, SMTP and MySQL servers do once they are ready.
    fn greets(&self, port: u16) -> bool {
        let address = SocketAddr::from((self.address(), port));
        let Ok(mut stream) = TcpStream::connect_timeout(&address, ANSWER_WITHIN) else { return false };
        let mut byte = [0];
        stream.set_read_timeout(Some(ANSWER_WITHIN)).is_ok()
            && stream.read(&mut byte).is_ok_and(|read| read == 1)
    }

    /// Waits until `done` says so; its `Err` means that it never will.
    fn wait(&self, what: &str, within: Duration, mut done: impl FnMut() -> Result<bool, ()>) -> Result<()> {
        let start = Instant::now();
        loop {
            match done() {
                Ok(true) => return Ok(()),
                Ok(false) if start.elapsed() < within => std::thread::sleep(ASK_EVERY),
                _ => break,
            }
        }
        let console = fs::read(self.folders().console()).unwrap_or_default();
        Err(LabError::Timeout {
            host: self.host.name.clone(),
            what: what.to_owned(),
            secs: start.elapsed().as_secs(),
            tail: tail(&String::from_utf8_lossy(&console)),
        })
    }

    /// Shuts it down in order and waits for the end.
    pub fn stop(&self) -> Result<()> {
        self.thaw()?;
        self.run(&["systemctl", "--no-block", "poweroff"])?;
        let group = self.group()?;
        self.wait("it is not down", STOP_WITHIN, || Ok(group.is_empty()))
    }

    /// Ends all its processes at once, as a power cut does, except that what was written stays written.
    pub fn kill(&self) -> Result<()> {
        self.group()?.kill()
    }

    /// Stops all its processes where they stand; the kernel goes on answering for its sockets.
    pub fn freeze(&self) -> Result<()> {
        self.group()?.freeze(true)
    }

    /// Lets them go on.
    pub fn thaw(&self) -> Result<()> {
        self.group()?.freeze(false)
    }

    /// Restarts it in order and waits until it answers again.
    pub fn reboot(&self) -> Result<()> {
        let group = self.group()?;
        let before = group.init();
        self.run(&["systemctl", "--no-block", "reboot"])?;
        self.wait("it does not come back", STOP_WITHIN, || {
            let now = group.init();
            if group.is_empty() { Err(()) } else { Ok(now.is_some() && now != before) }
        })?;
        self.wait_ready(None)
    }

    /// Cuts it off from everybody.
    pub fn cut(&self) -> Result<()> {
        net::set_link(&net::link_name(&self.host.machine), false)
    }

    /// Ends [`cut`](Self::cut).
    pub fn uncut(&self) -> Result<()> {
        net::set_link(&net::link_name(&self.host.machine), true)
    }

    /// Runs a command on it as root, not over the network; fails unless it ends with 0. Returns its stdout.
    pub fn run<S: AsRef<str>>(&self, argv: &[S]) -> Result<String> {
        self.command(argv, &[])?.run()
    }

    /// Runs a command on it as root, whatever its exit code.
    pub fn answer<S: AsRef<str>>(&self, argv: &[S]) -> Result<Answer> {
        self.command(argv, &[])?.answer()
    }

    /// Runs a command on it as root with this stdin.
    pub fn run_with_stdin<S: AsRef<str>>(&self, argv: &[S], stdin: &[u8]) -> Result<String> {
        self.command(argv, stdin)?.run()
    }

    fn command<S: AsRef<str>>(&self, argv: &[S], stdin: &[u8]) -> Result<Cmd> {
        let gone = || LabError::Spec(format!("host {} is not running; boot it first", self.host.name));
        let init = self.group()?.init().ok_or_else(gone)?;
        // Into the cgroups of the host's init, so that what the command leaves behind dies with the host.
        let enter = Cmd::new("sh").args(["-c", ENTER_CGROUPS, "sh"]).args(self.group()?.entrances(init)?);
        Ok(enter
            .args(["--", "nsenter", "--target", &init.to_string()])
            .args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"])
            .args([
                "env",
                "-i",
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "HOME=/root",
            ])
            .args(["LANG=C.UTF-8"])
            .args(argv.iter().map(AsRef::as_ref))
            .stdin(stdin)
            .remedy(format!("that was on lab host {}", self.host.name)))
    }

    /// The unit of its database.
    fn database(&self) -> Result<&'static str> {
        match (self.host.kind, self.host.kind.service()) {
            (HostKind::MariaDb | HostKind::MySql97, Some((unit, _))) => Ok(unit),
            _ => Err(LabError::Spec(format!("host {} has no database", self.host.name))),
        }
    }

    /// Shuts the database server down in order.
    pub fn stop_database(&self) -> Result<()> {
        self.run(&["systemctl", "stop", self.database()?]).map(drop)
    }

    /// Kills the database server; it does not come back by itself.
    pub fn kill_database(&self) -> Result<()> {
        let unit = self.database()?;
        self.run(&["systemctl", "kill", "--signal=KILL", unit])?;
        self.wait("its database does not end", STOP_WITHIN, || {
            let state = self.answer(&["systemctl", "is-active", unit]).map_err(drop)?;
            Ok(matches!(state.stdout.trim(), "failed" | "inactive"))
        })
    }

    /// Starts the database server and waits until it answers.
    pub fn start_database(&self) -> Result<()> {
        self.run(&["systemctl", "start", self.database()?])?;
        self.wait("its database does not answer", BOOT_WITHIN, || Ok(self.greets(super::DATABASE_PORT)))
    }

    /// Stops and starts the database server.
    pub fn restart_database(&self) -> Result<()> {
        self.stop_database()?;
        self.start_database()
    }

    /// Runs SQL on its database as its root; rows come as lines, columns with tabs between them, no heading.
    pub fn sql(&self, statements: &str) -> Result<String> {
        self.database()?;
        let client: &[&str] = match self.host.kind {
            HostKind::MySql97 => {
                &["chroot", "/opt/mysql97", "mysql", "--socket=/var/lib/mysql/mysqld.sock", "--user=root"]
            }
            HostKind::Plain | HostKind::MariaDb | HostKind::Mail => &["mariadb"],
        };
        let mut argv = client.to_vec();
        argv.extend(["--batch", "--skip-column-names", "--default-character-set=utf8mb4"]);
        self.run_with_stdin(&argv, statements.as_bytes())
    }
}
