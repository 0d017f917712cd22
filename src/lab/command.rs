//! Local commands as argument vectors, with errors that name the command, its status and the end of its stderr.

use super::{LabError, Result};
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::process::{Command, Output, Stdio};

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

    fn started(&self, source: std::io::Error) -> LabError {
        LabError::Start { command: self.line(), remedy: self.remedy.clone(), source }
    }

    /// The command as std knows it; for callers that keep the child.
    pub(super) fn to_std(&self) -> Command {
        let mut argv = self.argv.iter();
        let mut command = Command::new(argv.next().map_or(OsStr::new("false"), OsString::as_os_str));
        command.args(argv).envs(self.envs.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    fn raw(&self) -> Result<Output> {
        let mut command = self.to_std();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| self.started(error))?;
        std::thread::scope(|scope| {
            if let Some(mut stdin) = child.stdin.take() {
                // A command that does not read its stdin closes the pipe: no failure of ours.
                scope.spawn(move || stdin.write_all(&self.stdin).ok());
            }
            child.wait_with_output().map_err(|error| self.started(error))
        })
    }

    /// Runs it, whatever its exit code.
    pub(super) fn answer(&self) -> Result<Answer> {
        let output = self.raw()?;
        Ok(Answer {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
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
    fn a_tail_is_short() {
        let text: String = (0..100).map(|n| n.to_string()).collect::<Vec<_>>().join("\n");
        assert_eq!(tail(&text).lines().count(), TAIL_LINES);
        assert!(tail(&text).ends_with("99"));
    }
}
