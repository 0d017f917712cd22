//! Local commands as argument vectors, with errors that name the command, its status and the end of its stderr.

use super::{LabError, Result};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::process::{Command, Stdio};
use tempfile::tempfile;

/// Lines of a failed command's output that an error quotes: enough for the reason, short enough to read.
const TAIL_LINES: usize = 12;

/// What a command on a host answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Its stdout, invalid UTF-8 replaced.
    pub stdout: String,
    /// Its stderr, invalid UTF-8 replaced.
    pub stderr: String,
}

impl Answer {
    /// Whether it ended with 0.
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }
}

/// A command to run.
#[derive(Debug)]
pub(super) struct Cmd {
    argv: Vec<OsString>,
    envs: Vec<(&'static str, OsString)>,
    stdin: Vec<u8>,
    remedy: String,
}

impl Cmd {
    pub(super) fn new(program: impl AsRef<OsStr>) -> Self {
        let argv = vec![program.as_ref().to_owned()];
        Self { argv, envs: Vec::new(), stdin: Vec::new(), remedy: "see its message".to_owned() }
    }

    pub(super) fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.argv.push(arg.as_ref().to_owned());
        self
    }

    pub(super) fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.argv.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(super) fn env(mut self, name: &'static str, value: impl AsRef<OsStr>) -> Self {
        self.envs.push((name, value.as_ref().to_owned()));
        self
    }

    pub(super) fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    /// What the reader of an error should do.
    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }

    fn line(&self) -> String {
        self.argv.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// The command as std knows it; for callers that keep the child.
    pub(super) fn to_std(&self) -> Command {
        let mut argv = self.argv.iter();
        let mut command = Command::new(argv.next().map_or(OsStr::new("false"), OsString::as_os_str));
        command.args(argv).envs(self.envs.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// Runs it, whatever its exit code. Through files and not pipes: what it leaves running in the background
    /// would hold a pipe open, and us with it.
    pub(super) fn answer(&self) -> Result<Answer> {
        let run = || {
            let (mut stdin, mut stdout, mut stderr) = (tempfile()?, tempfile()?, tempfile()?);
            stdin.write_all(&self.stdin)?;
            stdin.rewind()?;
            let mut command = self.to_std();
            command.stdin(stdin).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?);
            let code = command.status()?.code();
            Ok(Answer { code, stdout: text(&mut stdout)?, stderr: text(&mut stderr)? })
        };
        run().map_err(|source| LabError::Start { command: self.line(), remedy: self.remedy.clone(), source })
    }

    /// Runs it and returns its stdout; an exit code other than 0 is an error.
    pub(super) fn run(&self) -> Result<String> {
        let answer = self.answer()?;
        if answer.ok() {
            return Ok(answer.stdout);
        }
        let said = if answer.stderr.trim().is_empty() { &answer.stdout } else { &answer.stderr };
        Err(LabError::Failed {
            command: self.line(),
            status: answer.code.map_or("a signal".to_owned(), |code| format!("exit code {code}")),
            remedy: self.remedy.clone(),
            tail: tail(said),
        })
    }
}

fn text(file: &mut File) -> std::io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a text.
pub(super) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_command_status_stderr_and_remedy() {
        let error = Cmd::new("sh")
            .args(["-c", "echo first; echo the reason >&2; exit 3"])
            .remedy("do this")
            .run()
            .unwrap_err();
        expect_test::expect![[r"
            `sh -c echo first; echo the reason >&2; exit 3` ended with exit code 3; do this
            the reason"]]
        .assert_eq(&error.to_string());
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Cmd::new("aesop-no-such-program").remedy("install it").run().unwrap_err();
        expect_test::expect!["cannot start `aesop-no-such-program`; install it"]
            .assert_eq(&error.to_string());
    }

    #[test]
    fn stdin_reaches_the_command() {
        assert_eq!(Cmd::new("cat").stdin(b"abc").run().unwrap(), "abc");
    }

    #[test]
    fn what_a_command_leaves_running_does_not_hold_us() {
        let answer = Cmd::new("sh").args(["-c", "sleep 30 & echo $!"]).answer().unwrap();
        let kill = Cmd::new("kill").arg(answer.stdout.trim()).run();
        assert!(kill.is_ok(), "it ended before we did");
    }

    #[test]
    fn a_tail_is_short() {
        let text: String = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(tail(&text).lines().count(), TAIL_LINES);
        assert!(tail(&text).ends_with("99"));
    }
}
