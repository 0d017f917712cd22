//! Hosts over OpenSSH, so that `~/.ssh/config`, the agent, jump hosts and `known_hosts` mean what they always mean.

use super::error::{classify, unreachable};
use super::shell::{Answer, BEGIN, BOOTSTRAP, Program, Shell};
use super::{Call, Command, Connect, EXECUTE, Host, HostError, OBSERVE, OnLine, Output, jump};
use crate::inventory::model;
use crate::secret::Secret;
use futures_util::future::BoxFuture;
use openssh::{ControlPersist, KnownHosts, Session, SessionBuilder, Stdio};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{Mutex, Semaphore};

/// Time for a connection, including the jump host.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent connection is tested this often, and given up after three tests.
const ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// sshd allows 10 sessions a connection; one is the idle shell's, and two are left for people.
const CHANNELS: usize = 7;
/// A master whose parent was killed ends after this.
const PERSIST_SECS: usize = 60;
/// Of standard error the end is kept: it holds the cause.
const STDERR_BYTES: usize = 8 * 1024;
/// Standard output that is kept is bounded.
const STDOUT_BYTES: u64 = 64 << 20;

/// How folders of control sockets are called; the number of the process that made one follows, so that the next can
/// tell whose are left over.
const CONTROL_PREFIX: &str = "aesop-ssh-";

/// Runs its arguments, once it has read a password away that sudo did not ask for: the command must not see it.
const RUN: &str = r#"IFS=: read -r a b; [ "$a" = aesop-begins ] || read -r a; exec "$@""#;

/// Connects by SSH.
#[derive(Debug, Default)]
pub struct SshConnect {
    base: PathBuf,
    sudo_passwords: BTreeMap<String, Secret>,
}

impl SshConnect {
    /// For the hosts of an inventory, whose folder relative paths start from, with the sudo passwords of those
    /// that ask for one, by host name.
    pub fn new(inventory: &model::Inventory, sudo_passwords: BTreeMap<String, Secret>) -> Self {
        sweep(&std::env::temp_dir(), &|pid| Path::new("/proc").join(pid.to_string()).exists());
        let folder = inventory.path.parent().unwrap_or(Path::new(""));
        let base = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self { base, sudo_passwords }
    }
}

impl Connect for SshConnect {
    fn connect<'a>(&'a self, host: &'a model::Host) -> BoxFuture<'a, Result<Arc<dyn Host>, HostError>> {
        Box::pin(async move {
            let password = self.sudo_passwords.get(&host.name).cloned();
            let connected: Arc<dyn Host> = Arc::new(SshHost::connect(host, &self.base, password).await?);
            Ok(connected)
        })
    }
}

/// A command that runs on the host.
type Child = openssh::Child<Arc<Session>>;

/// A shell on the host that runs programs.
#[derive(Debug)]
struct SshShell {
    child: Child,
    ends: Shell<openssh::ChildStdin, openssh::ChildStdout>,
    /// The end of its standard error.
    stderr: tokio::task::JoinHandle<String>,
}

impl SshShell {
    fn new(mut child: Child) -> Option<Self> {
        let (stdin, stdout) = (child.stdin().take()?, child.stdout().take()?);
        let stderr = tokio::spawn(tail(child.stderr().take()));
        Some(Self { child, ends: Shell::new(stdin, stdout), stderr })
    }
}

/// A connection.
#[derive(Debug)]
pub struct SshHost {
    name: String,
    user: String,
    become_root: bool,
    sudo_password: Option<Secret>,
    /// How it was reached.
    about: model::Host,
    base: PathBuf,
    session: Mutex<Option<Arc<Session>>>,
    /// For the next program.
    idle: Mutex<Option<SshShell>>,
    channels: Semaphore,
    // Keeps the control sockets' directory until the master has ended.
    control: tempfile::TempDir,
}

impl SshHost {
    async fn connect(
        host: &model::Host,
        base: &Path,
        sudo_password: Option<Secret>,
    ) -> Result<Self, HostError> {
        let control = tempfile::Builder::new()
            .prefix(&format!("{CONTROL_PREFIX}{}-", std::process::id()))
            .tempdir()
            .map_err(|error| local(host, "make a directory for the SSH control socket", &error))?;
        let session = open(host, base, control.path()).await?;
        Ok(Self {
            name: host.name.clone(),
            user: host.ssh.user.clone().unwrap_or_else(|| "the SSH user".to_owned()),
            become_root: host.ssh.become_root,
            sudo_password,
            about: host.clone(),
            base: base.to_owned(),
            session: Mutex::new(Some(Arc::new(session))),
            idle: Mutex::new(None),
            channels: Semaphore::new(CHANNELS),
            control,
        })
    }

    /// The argument vector as it runs on the host.
    fn argv(&self, command: &Command) -> Vec<String> {
        let mut argv: Vec<String> = Vec::new();
        if self.become_root {
            let sudo: &[&str] = match self.password() {
                Some(_) => &["sudo", "-S", "-p", "", "--"],
                None => &["sudo", "-n", "--"],
            };
            argv.extend(sudo.iter().map(|&word| word.to_owned()));
        }
        match command {
            Command::Observe(_) | Command::Execute(..) => {
                argv.extend(["/bin/sh", "-c", BOOTSTRAP].map(str::to_owned));
            }
            Command::Argv(words) | Command::Follow(words) => {
                if self.password().is_some() {
                    argv.extend(["/bin/sh", "-c", RUN, "sh"].map(str::to_owned));
                }
                argv.extend(words.iter().cloned());
            }
        }
        argv
    }

    /// What sudo may ask for. Whether it does is up to the host: it may have a rule or a ticket.
    fn password(&self) -> Option<&Secret> {
        self.sudo_password.as_ref().filter(|_| self.become_root)
    }

    /// What goes to stdin: a password that [`RUN`] reads away.
    fn head(&self) -> Vec<u8> {
        let password = self.password().map(|password| format!("{}\n{BEGIN}:0\n", password.expose()));
        password.unwrap_or_default().into_bytes()
    }

    async fn run(&self, call: Call, on_line: OnLine<'_>) -> Result<Output, HostError> {
        tracing::debug!(host = self.name, "round trip");
        let _channel = self.channels.acquire().await.map_err(|_closed| self.lost())?;
        let (text, lines, bodies) = match &call.command {
            Command::Observe(questions) => (OBSERVE, questions, &[][..]),
            Command::Execute(steps, bodies) => (EXECUTE, steps, bodies.as_slice()),
            Command::Argv(_) => return self.command(&call.command, on_line, STDOUT_BYTES).await,
            Command::Follow(_) => return self.command(&call.command, on_line, u64::MAX).await,
        };
        let password = self.password().map(Secret::expose);
        let program = Program { password, text, lines, bodies };
        let idle = self.idle.lock().await.take();
        if let Some(mut shell) = idle {
            match self.ask(&mut shell, &program, on_line).await? {
                Answer::NotBegun => tracing::debug!(host = self.name, "the idle shell has ended"),
                answer @ (Answer::Good(_) | Answer::Ended(_)) => return self.settle(shell, answer).await,
            }
        }
        let mut shell = SshShell::new(self.spawn(&call.command).await?).ok_or_else(|| self.lost())?;
        let answer = self.ask(&mut shell, &program, on_line).await?;
        self.settle(shell, answer).await
    }

    async fn ask(
        &self,
        shell: &mut SshShell,
        program: &Program<'_>,
        on_line: OnLine<'_>,
    ) -> Result<Answer, HostError> {
        shell.ends.run(program, on_line).await.map_err(|error| HostError::Local {
            host: self.name.clone(),
            what: "send".to_owned(),
            detail: error.to_string(),
        })
    }

    /// Keeps a shell for the next program, or learns why it ended.
    async fn settle(&self, shell: SshShell, answer: Answer) -> Result<Output, HostError> {
        let stdout = match answer {
            Answer::Good(stdout) => {
                self.idle.lock().await.get_or_insert(shell);
                return Ok(Output { status: Some(0), stdout, stderr: String::new() });
            }
            Answer::Ended(stdout) => stdout,
            Answer::NotBegun => Vec::new(),
        };
        let SshShell { child, ends, stderr } = shell;
        drop(ends);
        let stderr = stderr.await.unwrap_or_default();
        self.output(child, stdout, stderr).await
    }

    /// A command of its own, of whose output no more than `keep` bytes are kept; all: it is told and not kept.
    async fn command(&self, command: &Command, on_line: OnLine<'_>, keep: u64) -> Result<Output, HostError> {
        let mut child = self.spawn(command).await?;
        let (stdin, stdout, stderr) = (child.stdin().take(), child.stdout().take(), child.stderr().take());
        let head = self.head();
        // A command that reads nothing may have ended before its password came.
        let (_sent, stdout, stderr) =
            tokio::join!(send(stdin, &head), lines(stdout, on_line, keep), tail(stderr));
        self.output(child, stdout.map_err(|_cause| self.lost())?, stderr).await
    }

    async fn spawn(&self, command: &Command) -> Result<Child, HostError> {
        let session = self.session.lock().await.clone().ok_or_else(|| self.lost())?;
        let argv = self.argv(command);
        let (program, args) = argv.split_first().ok_or_else(|| self.lost())?;
        let mut command = session.arc_command(program.clone());
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().await.map_err(|_cause| self.lost())
    }

    /// How a command ended that has said all.
    async fn output(&self, child: Child, stdout: Vec<u8>, stderr: String) -> Result<Output, HostError> {
        let status = child.wait().await.map_err(|_cause| self.lost())?.code();
        match self.sudo_refusal(&stderr) {
            Some(refusal) => Err(refusal),
            None => Ok(Output { status, stdout, stderr }),
        }
    }

    fn lost(&self) -> HostError {
        HostError::Lost { host: self.name.clone() }
    }

    fn sudo_refusal(&self, stderr: &str) -> Option<HostError> {
        // The login shell's words, where there is none; sudo's own of a command that is not there look alike.
        let absent =
            ["sudo: not found", "sudo: command not found", "sudo: Command not found", "command: sudo"];
        let refused = ["password", "not allowed", "incorrect"];
        let line = stderr.lines().find(|line| {
            line.contains("is not in the sudoers file")
                || absent.iter().any(|words| line.contains(words))
                || (line.starts_with("sudo: ") && refused.iter().any(|word| line.contains(word)))
        })?;
        Some(HostError::NoSudo {
            host: self.name.clone(),
            user: self.user.clone(),
            detail: line.trim().to_owned(),
        })
    }
}

impl Host for SshHost {
    fn call<'a>(&'a self, call: Call, on_line: OnLine<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
        Box::pin(async move {
            let limit = call.timeout;
            match tokio::time::timeout(limit, self.run(call, on_line)).await {
                Ok(output) => output,
                Err(_elapsed) => Err(HostError::TimedOut { host: self.name.clone(), limit }),
            }
        })
    }

    fn reconnect(&self) -> BoxFuture<'_, Result<(), HostError>> {
        Box::pin(async move {
            let session = open(&self.about, &self.base, self.control.path()).await?;
            drop(self.idle.lock().await.take());
            // The former one's master ends by itself: nobody answers it any more.
            drop(self.session.lock().await.replace(Arc::new(session)));
            Ok(())
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            drop(self.idle.lock().await.take());
            let Some(session) = self.session.lock().await.take() else { return };
            if let Ok(session) = Arc::try_unwrap(session)
                && let Err(error) = session.close().await
            {
                tracing::debug!(host = self.name, %error, "ssh master did not end cleanly");
            }
        })
    }
}

fn local(host: &model::Host, what: &str, error: &dyn std::fmt::Display) -> HostError {
    HostError::Local { host: host.name.clone(), what: what.to_owned(), detail: error.to_string() }
}

/// Connects, with sockets in the folder `control`.
async fn open(host: &model::Host, base: &Path, control: &Path) -> Result<Session, HostError> {
    let mut builder = SessionBuilder::default();
    builder
        .connect_timeout(CONNECT_TIMEOUT)
        .server_alive_interval(ALIVE_INTERVAL)
        .control_directory(control)
        .control_persist(
            NonZeroUsize::new(PERSIST_SECS).map_or(ControlPersist::Forever, ControlPersist::IdleFor),
        )
        .known_hosts_check(match host.ssh.known_hosts {
            model::KnownHosts::Strict | model::KnownHosts::File(_) => KnownHosts::Strict,
            model::KnownHosts::AcceptNew => KnownHosts::Add,
        });
    if let model::KnownHosts::File(path) = &host.ssh.known_hosts {
        builder.user_known_hosts_file(base.join(home(path)));
    }
    if let Some(user) = &host.ssh.user {
        builder.user(user.clone());
    }
    if let Some(port) = host.ssh.port {
        builder.port(port);
    }
    if let Some(identity) = &host.ssh.identity_file {
        builder.keyfile(base.join(home(identity)));
    }
    if let Some(jump) = &host.ssh.jump {
        builder.jump_hosts([jump]);
    }
    tracing::debug!(host = host.name, "round trip");
    match builder.connect_mux(&host.address).await {
        Ok(session) => Ok(session),
        Err(openssh::Error::Connect(cause)) => {
            let said = cause.to_string();
            Err(match host.ssh.jump.as_deref().filter(|_| jump::ended(&said)) {
                Some(jumps) => unreachable(host, jump::explain(host, jumps, control).await),
                None => classify(host, &said),
            })
        }
        Err(error) => Err(local(host, "start the ssh client", &chain(&error))),
    }
}

/// Removes what killed processes left behind. Their masters end by themselves.
fn sweep(folder: &Path, alive: &dyn Fn(u32) -> bool) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner =
            name.to_str().and_then(|name| name.strip_prefix(CONTROL_PREFIX)?.split_once('-')?.0.parse().ok());
        if owner.is_some_and(|owner| !alive(owner)) {
            // Another user's stays.
            let _kept = std::fs::remove_dir_all(entry.path());
        }
    }
}

async fn send(stdin: Option<openssh::ChildStdin>, head: &[u8]) -> Result<(), std::io::Error> {
    let Some(mut stdin) = stdin else { return Ok(()) };
    stdin.write_all(head).await?;
    stdin.shutdown().await
}

async fn lines(
    stdout: Option<openssh::ChildStdout>,
    on_line: OnLine<'_>,
    keep: u64,
) -> Result<Vec<u8>, std::io::Error> {
    let mut all = Vec::new();
    let Some(stdout) = stdout else { return Ok(all) };
    let mut reader = BufReader::new(stdout.take(keep));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).await? > 0 {
        on_line(String::from_utf8_lossy(&line).trim_end_matches('\n'));
        if keep == u64::MAX {
            line.clear();
        } else {
            all.append(&mut line);
        }
    }
    Ok(all)
}

async fn tail(stderr: Option<openssh::ChildStderr>) -> String {
    let mut kept = Vec::new();
    let Some(mut stderr) = stderr else { return String::new() };
    let mut chunk = [0_u8; 4096];
    while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let excess = kept.len().saturating_sub(STDERR_BYTES);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// `~/` is the user's home, as in the shell.
fn home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::home_dir()) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path.to_owned(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Host, Ssh};

    fn with_password() -> SshHost {
        SshHost {
            name: "k1".to_owned(),
            user: "deploy".to_owned(),
            become_root: true,
            sudo_password: Some(Secret::new("sesame")),
            about: Host {
                name: "k1".to_owned(),
                address: "10.0.0.11".to_owned(),
                rack: None,
                ssh: Ssh::default(),
            },
            base: PathBuf::new(),
            session: Mutex::new(None),
            idle: Mutex::new(None),
            channels: Semaphore::new(1),
            control: tempfile::tempdir().unwrap(),
        }
    }

    /// What a command prints that runs as its host would run it, sudo put aside: it has read the password, or not.
    fn said(command: &Command, sudo_asks: bool) -> String {
        let host = with_password();
        let (argv, head) = (host.argv(command), host.head());
        let (sudo, inner) = argv.split_at(5);
        assert_eq!(sudo, ["sudo", "-S", "-p", "", "--"]);
        let asked = if sudo_asks { "sesame\n".len() } else { 0 };
        let mut child = std::process::Command::new(&inner[0])
            .args(&inner[1..])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut stdin, &head[asked..]).unwrap();
        drop(stdin);
        String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
    }

    #[test]
    fn a_password_that_nobody_asked_for_reaches_no_command() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        for sudo_asks in [true, false] {
            assert_eq!(said(&Command::Argv(words(&["cat"])), sudo_asks), "");
            assert_eq!(said(&Command::Follow(words(&["cat"])), sudo_asks), "");
            let print = words(&["printf", "%s|", "a b'c", "$d", ""]);
            assert_eq!(said(&Command::Argv(print), sudo_asks), "a b'c|$d||");
        }
    }

    #[test]
    fn a_command_that_is_not_there_is_no_matter_of_sudo() {
        let host = with_password();
        for line in [
            "sudo: a password is required",
            "deploy is not in the sudoers file.",
            "Sorry, user deploy is not allowed to execute '/bin/sh' as root on k1.\nsudo: 1 incorrect password attempt",
            "bash: line 1: sudo: command not found",
            "sh: 1: sudo: not found",
            "sudo: Command not found.",
            "fish: Unknown command: sudo",
        ] {
            assert!(host.sudo_refusal(line).is_some(), "{line}");
        }
        for line in
            ["sudo: no-such-program: command not found", "sh: 1: exec: no-such-program: not found", ""]
        {
            assert_eq!(host.sudo_refusal(line), None, "{line}");
        }
    }

    #[test]
    fn only_what_dead_processes_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["aesop-ssh-7-abc", "aesop-ssh-8-abc", "aesop-sshxyz", "aesop-ssh-x-abc", "else"];
        for name in names {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        sweep(folder.path(), &|pid| pid == 8);
        let left = names.into_iter().filter(|name| folder.path().join(name).exists());
        assert_eq!(left.collect::<Vec<_>>(), names[1..]);
    }
}
