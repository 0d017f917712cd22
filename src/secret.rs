//! Secret values: where they come from, and a type that keeps them out of Debug, Display and serialization.

use crate::inventory::model::SecretRef;
use std::fmt;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Bytes that never appear in output, logs, plans or errors. Read them with [`Secret::expose`], only to hand
/// them to what needs them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// No password is longer; what is, is the wrong file.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// A password manager that has not answered by then waits for somebody who is not there.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);
/// Only the owner.
const FILE_MODE: u32 = 0o600;
/// Only the owner.
const DIRECTORY_MODE: u32 = 0o700;

/// A secret that cannot be had. Names the inventory's key, the place and the remedy, never a value.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the secret {key}: {problem}")]
pub struct SecretError {
    /// The key in the inventory, `sources.shop.mysql.password`.
    pub key: String,
    /// What is wrong and what to do.
    pub problem: Problem,
}

/// What is wrong with a secret.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Not set.
    #[error("the environment variable {0} is not set; export it before you call aesop")]
    EnvMissing(String),
    /// Set, not UTF-8.
    #[error("the environment variable {0} is not valid UTF-8")]
    EnvNotText(String),
    /// Unreadable.
    #[error("{}: {error}; create the file, or make it readable for the user who calls aesop", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Readable by too many.
    #[error("{0} can be read by others; run `chmod 600 {0}`")]
    Open(String),
    /// Larger than a secret is.
    #[error("{0} is larger than 64 KiB, which no password is; is it the right file?")]
    TooLarge(String),
    /// Nothing in it.
    #[error("{0} gives an empty secret")]
    Empty(String),
    /// Not a line of text.
    #[error("{0} gives something that is not one line of text")]
    NotALine(String),
    /// The command could not be started.
    #[error("`{program}` cannot be run: {error}")]
    Start {
        /// argv\[0\].
        program: String,
        /// Why.
        error: io::Error,
    },
    /// It said no.
    #[error("`{program}` failed ({status}); run it by hand to see why")]
    Failed {
        /// argv\[0\].
        program: String,
        /// Exit status.
        status: String,
    },
    /// It hangs.
    #[error("`{0}` gave no answer within 60 s; does it wait for a passphrase?")]
    Timeout(String),
}

/// Finds secrets. Relative paths start at the inventory's folder.
#[derive(Clone, Debug)]
pub struct Resolver {
    base: PathBuf,
    generated: PathBuf,
}

impl Resolver {
    /// For the inventory at `inventory`; generated secrets lie in `<stem>.secrets/` beside it.
    pub fn new(inventory: &Path) -> Self {
        let base = inventory.parent().map(Path::to_owned).unwrap_or_default();
        Self { base, generated: inventory.with_extension("secrets") }
    }

    /// The folder of generated secrets.
    pub fn directory(&self) -> &Path {
        &self.generated
    }

    /// The secret behind `reference`; `key` is its name in the inventory, for errors. A generated secret is made
    /// when it is asked for the first time.
    pub fn resolve(&self, key: &str, reference: &SecretRef) -> Result<Secret, SecretError> {
        let secret = match reference {
            SecretRef::Env(name) => from_env(name),
            SecretRef::File(path) => {
                let path = self.base.join(expand_home(path));
                read_line(&path)
            }
            SecretRef::Command(argv) => from_command(argv, &self.base),
            SecretRef::Generated(name) => self.generated(name),
        };
        secret.map_err(|problem| SecretError { key: key.to_owned(), problem })
    }

    fn generated(&self, name: &str) -> Result<Secret, Problem> {
        let path = self.generated.join(name);
        let failed = |error| Problem::File { path: path.clone(), error };
        if !path.try_exists().map_err(failed)? {
            self.generate(&path).map_err(failed)?;
        }
        let mode = path.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Problem::Open(path.display().to_string()));
        }
        read_line(&path)
    }

    /// Makes a secret, whole or not at all: two aesops at once end with one value.
    fn generate(&self, path: &Path) -> io::Result<()> {
        if !self.generated.is_dir() {
            DirBuilder::new().mode(DIRECTORY_MODE).recursive(true).create(&self.generated)?;
        }
        let ignore = self.generated.join(".gitignore");
        if !ignore.exists() {
            std::fs::write(ignore, "*\n")?;
        }
        let hex = random_bytes()?.map(|byte| format!("{byte:02x}")).concat();
        let mut file = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(FILE_MODE))
            .tempfile_in(&self.generated)?;
        writeln!(file, "{hex}")?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error.error),
            Ok(_) => File::open(&self.generated)?.sync_all(),
        }
    }
}

/// 16 bytes from the operating system.
pub fn random_bytes() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn from_env(name: &str) -> Result<Secret, Problem> {
    match std::env::var(name) {
        Ok(value) => one_line(&value, || format!("the environment variable {name}")),
        Err(std::env::VarError::NotPresent) => Err(Problem::EnvMissing(name.to_owned())),
        Err(std::env::VarError::NotUnicode(_)) => Err(Problem::EnvNotText(name.to_owned())),
    }
}

fn read_line(path: &Path) -> Result<Secret, Problem> {
    let failed = |error| Problem::File { path: path.to_owned(), error };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    text(bytes, || path.display().to_string())
}

fn text(bytes: Vec<u8>, place: impl Fn() -> String) -> Result<Secret, Problem> {
    if u64::try_from(bytes.len()).is_ok_and(|len| len > SECRET_BYTES_MAX) {
        return Err(Problem::TooLarge(place()));
    }
    let value = String::from_utf8(bytes).map_err(|_| Problem::NotALine(place()))?;
    one_line(&value, place)
}

/// Cuts the final newline. Line breaks inside would end up as extra lines in somebody's configuration file.
fn one_line(value: &str, place: impl Fn() -> String) -> Result<Secret, Problem> {
    let line = value.strip_suffix('\n').unwrap_or(value);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Problem::Empty(place()));
    }
    if line.chars().any(char::is_control) {
        return Err(Problem::NotALine(place()));
    }
    Ok(Secret::new(line))
}

fn from_command(argv: &[String], directory: &Path) -> Result<Secret, Problem> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(Problem::Empty("the empty command".to_owned()));
    };
    let start = |error| Problem::Start { program: program.clone(), error };
    let mut command = Command::new(program);
    // What it says on stderr might quote the secret, and so goes nowhere.
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    if !directory.as_os_str().is_empty() {
        command.current_dir(directory);
    }
    let mut child = command.spawn().map_err(start)?;
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let mut stdout = child.stdout.take();
    std::thread::spawn(move || {
        // Nobody listens any more after the timeout.
        let _late = sender.send(bounded(stdout.as_mut()));
    });
    let Ok(answer) = receiver.recv_timeout(COMMAND_TIMEOUT) else {
        // It is either gone already or ends now; the error is the same.
        let _gone = child.kill();
        let _reaped = child.wait();
        return Err(Problem::Timeout(program.clone()));
    };
    let status = child.wait().map_err(start)?;
    if !status.success() {
        return Err(Problem::Failed { program: program.clone(), status: status.to_string() });
    }
    text(answer, || format!("`{program}`"))
}

fn bounded(from: Option<&mut impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What was read before an error is judged like a shorter answer.
        let _cut_short = from.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes);
    }
    bytes
}

fn expand_home(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolver() -> (tempfile::TempDir, Resolver) {
        let folder = tempfile::tempdir().unwrap();
        let resolver = Resolver::new(&folder.path().join("shop.yml"));
        (folder, resolver)
    }

    fn fails(resolver: &Resolver, reference: &SecretRef) -> String {
        let error = resolver.resolve("sources.shop.mysql.password", reference).unwrap_err();
        let text = error.to_string();
        let rest = text.strip_prefix("cannot read the secret sources.shop.mysql.password: ").unwrap();
        rest.replace(&*resolver.base.to_string_lossy(), "[DIR]")
    }

    fn command(argv: &[&str]) -> SecretRef {
        SecretRef::Command(argv.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "Secret(…)");
    }

    #[test]
    fn a_file_gives_its_line() {
        let (folder, resolver) = resolver();
        for (text, secret) in
            [("hunter2\n", "hunter2"), ("hunter2", "hunter2"), (" a b \r\n", " a b "), ("é\n", "é")]
        {
            std::fs::write(folder.path().join("pw"), text).unwrap();
            let found = resolver.resolve("k", &SecretRef::File("pw".into())).unwrap();
            assert_eq!(found.expose(), secret);
        }
    }

    #[test]
    fn a_command_gives_its_output() {
        let (_folder, resolver) = resolver();
        let found = resolver.resolve("k", &command(&["printf", "%s\\n", "a b;c"])).unwrap();
        assert_eq!(found.expose(), "a b;c");
    }

    #[test]
    fn a_generated_secret_is_made_once_and_for_the_owner_only() {
        let (folder, resolver) = resolver();
        let reference = SecretRef::Generated("agent-token".to_owned());
        let first = resolver.resolve("k", &reference).unwrap();
        assert_eq!(resolver.resolve("k", &reference).unwrap(), first);
        assert_eq!(first.expose().len(), 32);
        assert!(first.expose().chars().all(|c| c.is_ascii_hexdigit()));
        let other = resolver.resolve("k", &SecretRef::Generated("other".to_owned())).unwrap();
        assert_ne!(other, first);
        let secrets = folder.path().join("shop.secrets");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&secrets), mode(&secrets.join("agent-token"))), (0o700, 0o600));
        assert_eq!(std::fs::read_to_string(secrets.join(".gitignore")).unwrap(), "*\n");
        std::fs::set_permissions(secrets.join("agent-token"), std::fs::Permissions::from_mode(0o644))
            .unwrap();
        expect_test::expect!["[DIR]/shop.secrets/agent-token can be read by others; run `chmod 600 [DIR]/shop.secrets/agent-token`"]
            .assert_eq(&fails(&resolver, &reference));
    }

    #[test]
    fn two_at_once_end_with_one_value() {
        let (_folder, resolver) = resolver();
        let reference = SecretRef::Generated("token".to_owned());
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (resolver, reference) = (resolver.clone(), reference.clone());
                std::thread::spawn(move || resolver.resolve("k", &reference).unwrap())
            })
            .collect();
        let values: Vec<Secret> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(values.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn errors_name_the_key_the_place_and_the_remedy_and_no_value() {
        let (folder, resolver) = resolver();
        let write = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.path().join(name), bytes).unwrap();
            SecretRef::File(name.into())
        };
        let lines = [
            fails(&resolver, &SecretRef::Env("AESOP_TEST_NOT_SET".to_owned())),
            fails(&resolver, &SecretRef::File("missing".into())),
            fails(&resolver, &SecretRef::File(".".into())),
            fails(&resolver, &write("empty", b"\n")),
            fails(&resolver, &write("lines", b"hunter2\nhunter2\n")),
            fails(&resolver, &write("binary", b"hunter2\xff")),
            fails(&resolver, &write("large", &vec![b'x'; 70_000])),
            fails(&resolver, &command(&["/no/such/program"])),
            fails(&resolver, &command(&["sh", "-c", "echo hunter2; echo hunter2 >&2; exit 3"])),
            fails(&resolver, &command(&["true"])),
            fails(&resolver, &command(&[])),
        ];
        let text = lines.join("\n");
        assert!(!text.contains("hunter2"), "{text}");
        expect_test::expect![[r#"
            the environment variable AESOP_TEST_NOT_SET is not set; export it before you call aesop
            [DIR]/missing: No such file or directory (os error 2); create the file, or make it readable for the user who calls aesop
            [DIR]/.: Is a directory (os error 21); create the file, or make it readable for the user who calls aesop
            [DIR]/empty gives an empty secret
            [DIR]/lines gives something that is not one line of text
            [DIR]/binary gives something that is not one line of text
            [DIR]/large is larger than 64 KiB, which no password is; is it the right file?
            `/no/such/program` cannot be run: No such file or directory (os error 2)
            `sh` failed (exit status: 3); run it by hand to see why
            `true` gives an empty secret
            the empty command gives an empty secret"#]].assert_eq(&text);
    }
}
