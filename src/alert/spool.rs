//! Mails on disk until every recipient's server has answered: `new/<id>.eml` are the bytes, made once and never
//! again, `new/<id>.json` says to whom and how it went. `tmp/` is for files being written, `sent/` and `failed/`
//! keep the last ones for people who look.

use super::notify::{DeliveryError, Notify};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// First wait after a failed try; it doubles up to the longest.
const RETRY_FIRST_SECS: i64 = 5;
const RETRY_LONGEST_SECS: i64 = 300;
/// A mail that nobody took for two days is given up: its news is old.
const GIVE_UP: SignedDuration = SignedDuration::from_hours(48);
/// Mails kept in `sent/` and in `failed/`.
const KEPT: usize = 200;
/// Most deliveries tried in one round: a full spool must not hold up the next look at it for long.
const ROUND: usize = 20;

/// What went wrong with a file of the spool.
#[derive(Debug, thiserror::Error)]
#[error("mail spool: {path}")]
pub struct SpoolError {
    path: PathBuf,
    source: io::Error,
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, SpoolError> {
    result.map_err(|source| SpoolError { path: path.to_owned(), source })
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Envelope {
    from: String,
    created: Timestamp,
    recipients: Vec<Recipient>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recipient {
    address: String,
    outcome: Outcome,
    #[serde(default)]
    tries: u32,
    next_try: Timestamp,
    #[serde(default)]
    last_error: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Waiting,
    Delivered,
    Refused,
}

/// What waits.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SpoolStatus {
    /// Mails that somebody still has to get.
    pub waiting: usize,
    /// When the oldest of them was made.
    pub oldest: Option<Timestamp>,
    /// The last error of any of them.
    pub last_error: Option<String>,
    /// Mails refused for good among those kept.
    pub refused: usize,
    /// Why the newest of them was.
    pub last_refusal: Option<String>,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Spool {
    dir: PathBuf,
}

impl Spool {
    /// Makes the folders and clears what a crash left half-written.
    pub fn open(dir: &Path) -> Result<Self, SpoolError> {
        for name in ["tmp", "new", "sent", "failed"] {
            let path = dir.join(name);
            at(&path, fs::create_dir_all(&path))?;
        }
        let spool = Self { dir: dir.to_owned() };
        for path in spool.list("tmp")? {
            at(&path, fs::remove_file(&path))?;
        }
        Ok(spool)
    }

    /// Keeps a mail. It is on the disk when this returns. A mail of this id that is there already is left as it is:
    /// after a crash the same news is decided again.
    pub fn put(
        &self,
        id: &str,
        from: &str,
        to: &[String],
        mail: &[u8],
        now: Timestamp,
    ) -> Result<(), SpoolError> {
        let known = ["new", "sent", "failed"].iter().any(|folder| self.path(folder, id, "json").exists());
        if known {
            return Ok(());
        }
        let recipient = |address: &String| Recipient {
            address: address.clone(),
            outcome: Outcome::Waiting,
            tries: 0,
            next_try: now,
            last_error: None,
        };
        let envelope =
            Envelope { from: from.to_owned(), created: now, recipients: to.iter().map(recipient).collect() };
        // The envelope last: it makes the mail count.
        self.write("new", id, "eml", mail)?;
        self.write_envelope(id, &envelope)
    }

    /// Tries what is due, for each recipient in the order the mails were made: nobody reads that it is over before
    /// it began. Gives how many recipients got a mail now.
    pub async fn deliver(&self, notify: &dyn Notify, now: Timestamp) -> Result<usize, SpoolError> {
        let mut delivered = 0;
        let mut blocked = BTreeSet::new();
        let mut tries = 0;
        for (id, mut envelope) in self.waiting()? {
            let path = self.path("new", &id, "eml");
            let mail = at(&path, fs::read(&path))?;
            for index in 0..envelope.recipients.len() {
                let Some(recipient) = envelope.recipients.get_mut(index) else { break };
                if recipient.outcome != Outcome::Waiting || blocked.contains(&recipient.address) {
                    continue;
                }
                if recipient.next_try > now || tries >= ROUND {
                    blocked.insert(recipient.address.clone());
                    continue;
                }
                tries += 1;
                let result = notify.deliver(&envelope.from, &recipient.address, &mail).await;
                if matches!(result, Err(DeliveryError::Transient(_))) {
                    blocked.insert(recipient.address.clone());
                }
                delivered += usize::from(result.is_ok());
                recipient.after(result, &id, envelope.created, now);
                // After each one, so that a crash sends nobody a second copy of what others got.
                self.write_envelope(&id, &envelope)?;
            }
            self.finish(&id, &envelope)?;
        }
        Ok(delivered)
    }

    /// What waits now.
    pub fn status(&self) -> Result<SpoolStatus, SpoolError> {
        let waiting = self.waiting()?;
        let failed = self.list("failed")?;
        let recipients = waiting.iter().flat_map(|(_, envelope)| &envelope.recipients);
        Ok(SpoolStatus {
            waiting: waiting.len(),
            oldest: waiting.iter().map(|(_, envelope)| envelope.created).min(),
            last_error: recipients.filter_map(|r| r.last_error.clone()).next_back(),
            refused: failed.len() / 2,
            last_refusal: Self::last_refusal(failed),
        })
    }

    fn last_refusal(failed: Vec<PathBuf>) -> Option<String> {
        let envelopes = failed.into_iter().filter(|path| path.extension().is_some_and(|e| e == "json"));
        let newest = envelopes.max_by_key(|path| fs::metadata(path).and_then(|m| m.modified()).ok())?;
        let envelope: Envelope = serde_json::from_slice(&fs::read(newest).ok()?).ok()?;
        let refused = envelope.recipients.into_iter().find(|r| r.outcome == Outcome::Refused)?;
        Some(format!("{}: {}", refused.address, refused.last_error.unwrap_or_default()))
    }

    /// Mails in `new/`, oldest first.
    fn waiting(&self) -> Result<Vec<(String, Envelope)>, SpoolError> {
        let mut waiting = Vec::new();
        for path in self.list("new")? {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let Some(id) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let text = at(&path, fs::read(&path))?;
            match serde_json::from_slice::<Envelope>(&text) {
                Ok(envelope) => waiting.push((id.to_owned(), envelope)),
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "mail's envelope cannot be read");
                }
            }
        }
        waiting.sort_by(|(a, x), (b, y)| (x.created, a).cmp(&(y.created, b)));
        Ok(waiting)
    }

    /// Moves a mail that nobody waits for any more.
    fn finish(&self, id: &str, envelope: &Envelope) -> Result<(), SpoolError> {
        if envelope.recipients.iter().any(|r| r.outcome == Outcome::Waiting) {
            return Ok(());
        }
        let refused = envelope.recipients.iter().any(|r| r.outcome == Outcome::Refused);
        let folder = if refused { "failed" } else { "sent" };
        for extension in ["json", "eml"] {
            let (from, to) = (self.path("new", id, extension), self.path(folder, id, extension));
            at(&from, fs::rename(&from, &to))?;
        }
        self.prune(folder)
    }

    fn prune(&self, folder: &str) -> Result<(), SpoolError> {
        let mut files: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
        for path in self.list(folder)? {
            let modified = at(&path, fs::metadata(&path).and_then(|metadata| metadata.modified()))?;
            files.push((modified, path));
        }
        files.sort();
        let surplus = files.len().saturating_sub(KEPT * 2);
        for (_, path) in files.iter().take(surplus) {
            at(path, fs::remove_file(path))?;
        }
        Ok(())
    }

    fn list(&self, folder: &str) -> Result<Vec<PathBuf>, SpoolError> {
        let dir = self.dir.join(folder);
        let entries = at(&dir, fs::read_dir(&dir))?;
        entries.map(|entry| at(&dir, entry).map(|entry| entry.path())).collect()
    }

    fn path(&self, folder: &str, id: &str, extension: &str) -> PathBuf {
        self.dir.join(folder).join(format!("{id}.{extension}"))
    }

    fn write_envelope(&self, id: &str, envelope: &Envelope) -> Result<(), SpoolError> {
        let text = serde_json::to_vec_pretty(envelope).unwrap_or_default();
        self.write("new", id, "json", &text)
    }

    fn write(&self, folder: &str, id: &str, extension: &str, bytes: &[u8]) -> Result<(), SpoolError> {
        let path = self.path(folder, id, extension);
        at(&path, write_durably(&self.path("tmp", id, extension), &path, bytes))
    }
}

impl Recipient {
    fn after(&mut self, result: Result<(), DeliveryError>, id: &str, created: Timestamp, now: Timestamp) {
        self.tries = self.tries.saturating_add(1);
        match result {
            Ok(()) => {
                tracing::info!(to = %self.address, mail = id, "mail delivered");
                self.outcome = Outcome::Delivered;
            }
            Err(error) => {
                let given_up = now.duration_since(created) > GIVE_UP;
                if given_up || matches!(error, DeliveryError::Permanent(_)) {
                    self.outcome = Outcome::Refused;
                }
                tracing::warn!(to = %self.address, mail = id, %error, tries = self.tries, "mail not delivered");
                self.last_error = Some(error.to_string());
                self.next_try = now + SignedDuration::from_secs(self.wait_secs(id));
            }
        }
    }

    /// Doubling, with a spread by the mail's name so that a server that comes back is not asked by all at once.
    fn wait_secs(&self, id: &str) -> i64 {
        let doublings = self.tries.saturating_sub(1).min(10);
        let wait = (RETRY_FIRST_SECS << doublings).min(RETRY_LONGEST_SECS);
        let spread = id.bytes().fold(0i64, |sum, byte| (sum * 31 + i64::from(byte)) % 20);
        wait + wait * spread / 100
    }
}

/// Writes to `temporary`, syncs, renames to `path`, syncs the folder.
pub(crate) fn write_durably(temporary: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(temporary, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::BoxFuture;
    use std::sync::Mutex;

    /// Answers as told and keeps what it was given.
    #[derive(Debug, Default)]
    struct Fake {
        down: std::sync::atomic::AtomicBool,
        taken: Mutex<Vec<(String, Vec<u8>)>>,
    }

    impl Notify for Fake {
        fn deliver<'a>(
            &'a self,
            _from: &'a str,
            to: &'a str,
            mail: &'a [u8],
        ) -> BoxFuture<'a, Result<(), DeliveryError>> {
            Box::pin(async move {
                if self.down.load(std::sync::atomic::Ordering::SeqCst) {
                    return Err(DeliveryError::Transient("connection refused".to_owned()));
                }
                if to.starts_with("bad") {
                    return Err(DeliveryError::Permanent("550 no such user".to_owned()));
                }
                self.taken.lock().unwrap().push((to.to_owned(), mail.to_vec()));
                Ok(())
            })
        }
    }

    fn now(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn to(list: &[&str]) -> Vec<String> {
        list.iter().map(|address| (*address).to_owned()).collect()
    }

    #[tokio::test]
    async fn one_refused_recipient_costs_the_others_nothing_and_nobody_gets_two() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let fake = Fake::default();
        spool.put("a", "f@x", &to(&["one@x", "bad@x", "two@x"]), b"mail", now(0)).unwrap();
        assert_eq!(spool.deliver(&fake, now(0)).await.unwrap(), 2);
        let taken = fake.taken.lock().unwrap().clone();
        assert_eq!(taken, [("one@x".to_owned(), b"mail".to_vec()), ("two@x".to_owned(), b"mail".to_vec())]);
        let status = spool.status().unwrap();
        assert_eq!((status.waiting, status.refused), (0, 1));
        assert_eq!(status.last_refusal.as_deref(), Some("bad@x: 550 no such user"));
        // The same news decided again after a crash.
        spool.put("a", "f@x", &to(&["one@x"]), b"mail", now(9)).unwrap();
        assert_eq!(spool.deliver(&fake, now(99)).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn mails_wait_on_disk_while_the_server_is_down_and_go_out_once_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let fake = Fake::default();
        fake.down.store(true, std::sync::atomic::Ordering::SeqCst);
        spool.put("b", "f@x", &to(&["one@x"]), b"first", now(0)).unwrap();
        spool.put("a", "f@x", &to(&["one@x"]), b"second", now(1)).unwrap();
        spool.deliver(&fake, now(1)).await.unwrap();
        let status = spool.status().unwrap();
        assert_eq!((status.waiting, status.oldest), (2, Some(now(0))));
        assert_eq!(status.last_error.as_deref(), Some("connection refused"));
        // A restart, with a file that a crash left half-written.
        std::fs::write(dir.path().join("tmp/x.eml"), "half").unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        fake.down.store(false, std::sync::atomic::Ordering::SeqCst);
        assert_eq!(spool.deliver(&fake, now(2)).await.unwrap(), 0, "the first one waits for its next try");
        assert_eq!(spool.deliver(&fake, now(20)).await.unwrap(), 2);
        let mails: Vec<Vec<u8>> = fake.taken.lock().unwrap().iter().map(|(_, mail)| mail.clone()).collect();
        assert_eq!(mails, [b"first".to_vec(), b"second".to_vec()]);
        assert_eq!(spool.status().unwrap().waiting, 0);
        assert!(spool.list("tmp").unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_mail_is_given_up_after_two_days() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path()).unwrap();
        let fake = Fake::default();
        fake.down.store(true, std::sync::atomic::Ordering::SeqCst);
        spool.put("a", "f@x", &to(&["one@x"]), b"mail", now(0)).unwrap();
        for hour in 0..=49 {
            spool.deliver(&fake, now(hour * 3600)).await.unwrap();
        }
        let status = spool.status().unwrap();
        assert_eq!((status.waiting, status.refused), (0, 1));
    }

    #[test]
    fn waits_double_up_to_five_minutes_and_a_fifth() {
        let mut recipient = Recipient {
            address: "a@x".to_owned(),
            outcome: Outcome::Waiting,
            tries: 0,
            next_try: now(0),
            last_error: None,
        };
        let mut waits = Vec::new();
        for _ in 0..9 {
            recipient.tries += 1;
            waits.push(recipient.wait_secs(""));
        }
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }
}
