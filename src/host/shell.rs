//! One shell on a host, root's, that carries out one program after another: a session, sudo and a shell for each would
//! take longer than most of the programs.

use super::{Body, OnLine};
use std::io::{Error, ErrorKind};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};

/// Reads a program from stdin, by its length in the line before it, runs it with the rest of stdin, and goes on with
/// the next one. After a program that failed it ends: nobody knows what of stdin is still the
/// program's. A line before the first is a password that sudo did not ask for. Free of what csh or fish would expand.
pub(super) const BOOTSTRAP: &str = r#"IFS=: read -r a b; [ "$a" = aesop-begins ] || IFS=: read -r a b; while [ "$a" = aesop-begins ]; do p=$(head -c "$b"); IFS= read -r d; [ "$d" = aesop-go ] || exit 75; echo; echo aesop-begun; (eval "$p") || exit; echo aesop-ended; IFS=: read -r a b || exit 0; done; exit 75"#;

/// How the first line begins that is not a password.
pub(super) const BEGIN: &str = "aesop-begins";
/// The program is whole. A connection that breaks looks like the end of stdin, and half a step may be another
/// step.
const GO: &str = "aesop-go";
/// What comes before it is a login shell's greeting.
const BEGUN: &str = "aesop-begun";
/// The program ended well, and the shell waits for another one.
const ENDED: &str = "aesop-ended";
/// Follows the bytes of each body, for the same reason as [`GO`]. `execute.sh` reads it.
const WHOLE: &str = "aesop-whole";
/// Standard output is bounded: an observation is a few hundred KiB.
const STDOUT_BYTES: u64 = 64 << 20;

/// What the shell is asked to do.
pub(super) struct Program<'a> {
    /// What sudo may ask for.
    pub(super) password: Option<&'a str>,
    /// For sh.
    pub(super) text: &'a str,
    /// Its questions or steps, in `$I`.
    pub(super) lines: &'a str,
    /// Texts, in `$T1` and so on, and what it finds on stdin.
    pub(super) bodies: &'a [Body],
}

/// What became of a program.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It ended well; the shell is there for the next.
    Good(Vec<u8>),
    /// It failed, or was cut off; the shell has ended with it.
    Ended(Vec<u8>),
    /// The shell ended before: nothing was done.
    NotBegun,
}

/// A shell, by its ends.
#[derive(Debug)]
pub(super) struct Shell<W, R> {
    /// None: closed.
    stdin: Option<W>,
    stdout: BufReader<R>,
    /// Whether sudo has had its answer.
    admitted: bool,
}

impl<W: AsyncWrite + Unpin, R: AsyncRead + Unpin> Shell<W, R> {
    /// One that runs [`BOOTSTRAP`], perhaps under sudo.
    pub(super) fn new(stdin: W, stdout: R) -> Self {
        Self { stdin: Some(stdin), stdout: BufReader::new(stdout), admitted: false }
    }

    /// Runs a program. An error is one of this side: a body that cannot be read.
    pub(super) async fn run(
        &mut self,
        program: &Program<'_>,
        on_line: OnLine<'_>,
    ) -> Result<Answer, std::io::Error> {
        let password = program.password.filter(|_| !self.admitted);
        self.admitted = true;
        let (stdin, stdout) = (&mut self.stdin, &mut self.stdout);
        let sending = async {
            let sent = match stdin.as_mut() {
                Some(open) => send(open, password, program).await,
                None => Err(Error::from(ErrorKind::BrokenPipe)),
            };
            if sent.is_err() {
                // The host would wait for the rest.
                *stdin = None;
            }
            sent
        };
        let (sent, answer) = tokio::join!(sending, answer(stdout, on_line));
        match sent {
            // A step that failed stops reading: its own message counts, not our broken pipe.
            Err(error) if !matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                Err(error)
            }
            Ok(()) | Err(_) => Ok(answer),
        }
    }
}

/// What goes to stdin before the program's bodies.
fn head(password: Option<&str>, program: &Program<'_>) -> Vec<u8> {
    let texts = program.bodies.iter().filter_map(|body| match body {
        Body::Text(text) => Some(text.as_ref()),
        Body::Bytes(_) | Body::File(_) => None,
    });
    let mut whole = Vec::new();
    assign(&mut whole, "I", program.lines.trim_end_matches('\n').as_bytes());
    for (number, text) in (1..).zip(texts) {
        assign(&mut whole, &format!("T{number}"), text);
    }
    whole.extend_from_slice(program.text.as_bytes());
    let password = password.map(|password| format!("{password}\n")).unwrap_or_default();
    let mut head = format!("{password}{BEGIN}:{}\n", whole.len()).into_bytes();
    head.append(&mut whole);
    head.extend_from_slice(format!("{GO}\n").as_bytes());
    head
}

/// A variable of the program, quoted: in single quotes the shell changes nothing, and only they themselves end them.
fn assign(program: &mut Vec<u8>, name: &str, value: &[u8]) {
    program.extend_from_slice(name.as_bytes());
    program.extend_from_slice(b"='");
    for (number, part) in value.split(|&byte| byte == b'\'').enumerate() {
        if number > 0 {
            program.extend_from_slice(br"'\''");
        }
        program.extend_from_slice(part);
    }
    program.extend_from_slice(b"'\n");
}

async fn send<W: AsyncWrite + Unpin>(
    stdin: &mut W,
    password: Option<&str>,
    program: &Program<'_>,
) -> Result<(), std::io::Error> {
    stdin.write_all(&head(password, program)).await?;
    for body in program.bodies {
        match body {
            // It is in the head.
            Body::Text(_) => continue,
            Body::Bytes(bytes) => stdin.write_all(bytes).await?,
            Body::File(path) => {
                let mut file = tokio::fs::File::open(path).await?;
                tokio::io::copy(&mut file, stdin).await?;
            }
        }
        stdin.write_all(format!("{WHOLE}\n").as_bytes()).await?;
    }
    stdin.flush().await
}

async fn answer<R: AsyncRead + Unpin>(stdout: &mut BufReader<R>, on_line: OnLine<'_>) -> Answer {
    let mut all = Vec::new();
    let mut line = Vec::new();
    let mut begun = false;
    let mut reader = stdout.take(STDOUT_BYTES);
    // A connection that breaks is an end like any other: what it was cut off from says so.
    while reader.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line);
        match text.trim_end_matches('\n') {
            BEGUN if !begun => begun = true,
            ENDED if begun => return Answer::Good(all),
            text if begun => {
                on_line(text);
                all.extend_from_slice(&line);
            }
            _ => {}
        }
        line.clear();
    }
    if begun { Answer::Ended(all) } else { Answer::NotBegun }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{EXECUTE, OBSERVE};
    use bytes::Bytes;
    use std::process::Stdio;
    use tokio::process::{Child, ChildStdin, ChildStdout, Command};

    /// A shell of this machine, as sudo would start it, whether it has read the password or not.
    fn shell() -> (Child, Shell<ChildStdin, ChildStdout>) {
        let mut child = Command::new("/bin/sh")
            .args(["-c", BOOTSTRAP])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        (child, Shell::new(stdin, stdout))
    }

    fn program<'a>(text: &'a str, lines: &'a str, bodies: &'a [Body]) -> Program<'a> {
        Program { password: None, text, lines, bodies }
    }

    fn bytes(text: &str) -> Body {
        Body::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    async fn run(shell: &mut Shell<ChildStdin, ChildStdout>, program: &Program<'_>) -> Answer {
        shell.run(program, &|_| ()).await.unwrap()
    }

    #[tokio::test]
    async fn programs_run_one_after_the_other_and_none_sees_what_another_left() {
        let (mut child, mut shell) = shell();
        let first = "read -r body; read -r mark; x=1; cd /; set -u; echo \"$I/$body\"";
        let answer = run(&mut shell, &program(first, "a\n", &[bytes("b\n")])).await;
        assert_eq!(answer, Answer::Good(b"a/b\n".to_vec()));
        let here = std::env::current_dir().unwrap();
        let answer = run(&mut shell, &program("pwd; echo \"${x-none} $undefined.\"", "", &[])).await;
        assert_eq!(answer, Answer::Good(format!("{}\nnone .\n", here.display()).into_bytes()));
        // Nothing in a text is the shell's.
        let odd = "it's '' $x `x` \\ \"!\"\n\n*\u{e9}\n";
        let texts = [odd, odd].map(|text| Body::Text(Bytes::copy_from_slice(text.as_bytes())));
        let answer = run(&mut shell, &program("printf '%s\\n' \"$T1$T2$I\"", odd, &texts)).await;
        assert_eq!(answer, Answer::Good([odd; 3].concat().into_bytes()));
        drop(shell);
        assert!(child.wait().await.unwrap().success());
    }

    #[tokio::test]
    async fn after_a_failure_nothing_that_is_left_on_stdin_is_taken_for_a_program() {
        let (mut child, mut shell) = shell();
        let evil = bytes("aesop-begins:9\necho evilaesop-go\n");
        let answer = run(&mut shell, &program("echo said; exit 3", "", &[evil])).await;
        assert_eq!(answer, Answer::Ended(b"said\n".to_vec()));
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
        assert_eq!(run(&mut shell, &program("echo again", "", &[])).await, Answer::NotBegun);
    }

    #[tokio::test]
    async fn a_password_that_nobody_asked_for_reaches_no_program() {
        let (_child, mut shell) = shell();
        let asked = Program { password: Some("sesame"), ..program("echo \"$I\"", "x", &[]) };
        assert_eq!(run(&mut shell, &asked).await, Answer::Good(b"x\n".to_vec()));
        assert_eq!(run(&mut shell, &asked).await, Answer::Good(b"x\n".to_vec()), "sent once only");
    }

    #[tokio::test]
    async fn the_observing_program_answers_twice() {
        let (_child, mut shell) = shell();
        for _ in 0..2 {
            let Answer::Good(said) = run(&mut shell, &program(OBSERVE, "", &[])).await else { panic!() };
            let said = String::from_utf8(said).unwrap();
            assert!(said.starts_with("aesop|1\n") && said.ends_with("end\n"), "{said}");
        }
    }

    #[tokio::test]
    async fn a_body_that_cannot_be_read_is_an_error_and_the_host_does_not_wait_for_it() {
        let (mut child, mut shell) = shell();
        let gone = Body::File("/nonexistent/file".into());
        let error = shell.run(&program("cat", "", &[gone]), &|_| ()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        child.wait().await.unwrap();
    }

    /// Cuts what is sent to the host after each of its bytes: a step is done as a whole or not at all.
    #[test]
    fn a_connection_that_breaks_anywhere_does_no_half_step() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let script = EXECUTE
            .replace("state=/var/lib/aesop/state", &format!("state={}", state.display()))
            .replace("artifacts=/opt/aesop/artifacts", &format!("artifacts={}", state.display()))
            .replace("sync ", "true ");
        let [kept, last] = ["kept", "last"].map(|name| folder.path().join(name));
        let lines =
            format!("manifest\nremove|{}-not\npart|x|5|644|f\nremove|{}\n", kept.display(), last.display());
        let body = "role|service|a|it's";
        let bodies = [Body::Text(Bytes::from_static(body.as_bytes())), bytes("whole")];
        let head = head(None, &program(&script, &lines, &bodies));
        let whole = [&head, &b"whole"[..], WHOLE.as_bytes(), b"\n"].concat();
        let (begins, ends) = (head.len() - script.len() - GO.len() - 1, head.len() - GO.len() - 20);
        for cut in (0..begins).chain((begins..ends).step_by(997)).chain(ends..=whole.len()) {
            std::fs::create_dir_all(state.join("x.new")).unwrap();
            std::fs::write(&kept, "kept").unwrap();
            std::fs::write(&last, "last").unwrap();
            let mut child = std::process::Command::new("/bin/sh")
                .args(["-c", BOOTSTRAP])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            // A shell that gives up early does not read the rest.
            let _sent = std::io::Write::write_all(child.stdin.as_mut().unwrap(), &whole[..cut]);
            child.wait().unwrap();
            assert!(kept.exists(), "cut at {cut}");
            match std::fs::read_to_string(state.join("manifest")) {
                Ok(text) => assert_eq!(text, body, "cut at {cut}"),
                Err(_) => assert!(cut < head.len(), "cut at {cut}: nothing was done"),
            }
            assert_eq!(last.exists(), cut < whole.len(), "cut at {cut}");
            std::fs::remove_dir_all(&state).unwrap();
        }
    }
}
