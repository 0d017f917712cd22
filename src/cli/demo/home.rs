//! The demo's folder, outside the checkout: its inventory, keys, lock file and secrets, and how to reach what runs.

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const INVENTORY: &str = include_str!("../../../inventory/demo.yml");
/// How often the mailbox is looked at.
const MAIL_POLL: Duration = Duration::from_millis(200);

/// The folder.
#[derive(Clone, Debug)]
pub(super) struct Home {
    dir: PathBuf,
}

/// How to reach the running demo, for shells and for `aesop demo` itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Env {
    pub(super) kafka_bootstrap: String,
    pub(super) zookeeper: String,
    pub(super) mysql_host: String,
    pub(super) mysql_port: u16,
    pub(super) mysql_user: String,
    pub(super) mysql_password: String,
    pub(super) mailbox: String,
    pub(super) ssh_user: String,
    pub(super) ssh_key: String,
    pub(super) ssh_known_hosts: String,
    pub(super) inventory: String,
    pub(super) monitor_url: String,
    pub(super) relay_hosts: String,
    pub(super) consumer_hosts: String,
}

impl Env {
    /// Shell assignments, quoted where they must be.
    pub(super) fn shell(&self) -> String {
        let port = self.mysql_port.to_string();
        let all: [(&str, &str); 14] = [
            ("KAFKA_BOOTSTRAP", &self.kafka_bootstrap),
            ("ZOOKEEPER", &self.zookeeper),
            ("MYSQL_HOST", &self.mysql_host),
            ("MYSQL_PORT", &port),
            ("MYSQL_USER", &self.mysql_user),
            ("MYSQL_PASSWORD", &self.mysql_password),
            ("MAILBOX", &self.mailbox),
            ("SSH_USER", &self.ssh_user),
            ("SSH_KEY", &self.ssh_key),
            ("SSH_KNOWN_HOSTS", &self.ssh_known_hosts),
            ("INVENTORY", &self.inventory),
            ("MONITOR_URL", &self.monitor_url),
            ("RELAY_HOSTS", &self.relay_hosts),
            ("CONSUMER_HOSTS", &self.consumer_hosts),
        ];
        all.iter().fold(String::new(), |mut text, (name, value)| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "_./:,@%+-".contains(c);
            // Writing to a String cannot fail.
            let _ok = if value.chars().all(plain) {
                writeln!(text, "{name}={value}")
            } else {
                writeln!(text, "{name}='{}'", value.replace('\'', r"'\''"))
            };
            text
        })
    }
}

impl Home {
    /// Below aesop's cache folder.
    pub(super) fn find() -> Self {
        Self { dir: crate::lab::cache_dir().join("demo") }
    }

    /// The demo's copy of `inventory/demo.yml`.
    pub(super) fn inventory(&self) -> PathBuf {
        self.dir.join("demo.yml")
    }

    /// Where the lab's key and known hosts are copied to.
    pub(super) fn ssh(&self) -> PathBuf {
        self.dir.join("ssh")
    }

    /// Writes the inventory, `known_hosts` and the key.
    pub(super) fn prepare(&self, key: &Path, known_hosts: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make {}", self.dir.display()))?;
        fs::write(self.inventory(), INVENTORY)?;
        self.prepare_ssh(key, known_hosts)
    }

    /// Writes `known_hosts` and the key.
    pub(super) fn prepare_ssh(&self, key: &Path, known_hosts: &Path) -> anyhow::Result<()> {
        fs::create_dir_all(self.ssh())?;
        copy(key, &self.ssh().join("id_ed25519"))?;
        copy(known_hosts, &self.ssh().join("known_hosts"))
    }

    /// Makes and keeps the password of the user that relays read with.
    pub(super) fn write_reader_password(&self) -> anyhow::Result<String> {
        let password = uuid::Uuid::new_v4().simple().to_string();
        let path = self.dir.join("shop.password");
        fs::write(&path, format!("{password}\n"))?;
        owner_only(&path)?;
        Ok(password)
    }

    /// Marks the demo as running.
    pub(super) fn write_env(&self, env: &Env) -> anyhow::Result<()> {
        let path = self.dir.join("env.json");
        fs::write(&path, serde_json::to_vec_pretty(env)?)?;
        owner_only(&path)
    }

    /// How to reach the running demo.
    pub(super) fn running(&self) -> anyhow::Result<Env> {
        let path = self.dir.join("env.json");
        let bytes = fs::read(&path).context("the demo is not running; start it with `aesop demo`")?;
        serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; `aesop demo down` removes the demo", path.display()))
    }

    /// Removes the folder.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.dir.display()))
            }
            _ => Ok(()),
        }
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::copy(from, to).with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    owner_only(to)
}

fn owner_only(path: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("cannot protect {}", path.display()))
}

/// Waits for a mail whose subject has `word` in it, and returns it as a person would read it.
pub(super) async fn mail(mailbox: &Path, word: &str, patience: Duration) -> anyhow::Result<String> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(text) = newest_mail(mailbox, word)? {
            return Ok(text);
        }
        anyhow::ensure!(Instant::now() < deadline, "no mail about {word} came to {}", mailbox.display());
        tokio::time::sleep(MAIL_POLL).await;
    }
}

fn newest_mail(mailbox: &Path, word: &str) -> anyhow::Result<Option<String>> {
    let mut files: Vec<_> = match fs::read_dir(mailbox) {
        Ok(entries) => entries.filter_map(Result::ok).map(|entry| entry.path()).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", mailbox.display())),
    };
    files.sort();
    for path in files.iter().rev() {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mail = mailparse::parse_mail(&bytes).with_context(|| format!("{} is no mail", path.display()))?;
        let header =
            |name| mailparse::MailHeaderMap::get_first_value(&mail.headers[..], name).unwrap_or_default();
        let subject = header("Subject");
        if subject.to_lowercase().contains(word) {
            let text = mail.parts().find(|part| part.ctype.mimetype == "text/plain");
            let body = text.map(mailparse::ParsedMail::get_body).transpose()?.unwrap_or_default();
            let body = body.lines().fold(String::new(), |text, line| text + "  | " + line + "\n");
            return Ok(Some(format!("  {}\n  | Subject: {subject}\n  |\n{body}", path.display())));
        }
    }
    Ok(None)
}
