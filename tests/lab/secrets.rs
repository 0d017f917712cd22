//! Secrets are looked for where nobody may find them: in process lists at all times while something runs, in files that
//! others than their owner can read, in journals, in what was printed.

use crate::cluster::wait;
use aesop::lab::Host;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// A process that lives for less than this may be missed; what is started over and over is not.
const EVERY: Duration = Duration::from_millis(40);
/// Shorter lines of a secret file say nothing.
const LINE_CHARS: usize = 16;
/// Secrets on the host, as root alone can read them; grep takes them from there, so that it does not tell them itself.
const PATTERNS: &str = "/root/secrets-to-look-for";

/// What processes of this machine and of the hosts have shown, all of them, all the time.
pub(crate) struct Watch {
    seen: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins; the hosts share this machine's kernel, so that one look is enough for all.
    pub(crate) fn start() -> Self {
        let (seen, stop) = (Arc::new(Mutex::new(BTreeSet::new())), Arc::new(AtomicBool::new(false)));
        let (theirs, end) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            let mut on_host = BTreeMap::new();
            while !end.load(Ordering::SeqCst) {
                look(&theirs, &mut on_host);
                thread::sleep(EVERY);
            }
        });
        let watch = Self { seen, stop, thread: Some(thread) };
        watch.proves_that_it_sees();
        watch
    }

    fn proves_that_it_sees(&self) {
        let canary = format!("canary-{}", std::process::id());
        let mut process = Command::new("sh")
            .args(["-c", "read -r line", &canary])
            .stdin(Stdio::piped())
            .spawn()
            .expect("a process");
        wait("the canary to be seen", || {
            (!self.told(std::slice::from_ref(&canary)).is_empty()).then_some(())
        });
        drop(process.stdin.take());
        process.wait().expect("it ends");
    }

    /// Secrets that were told, each with where.
    fn told(&self, secrets: &[String]) -> Vec<String> {
        let seen = self.seen.lock().expect("no look failed");
        let texts = seen.iter().map(|bytes| String::from_utf8_lossy(bytes).replace('\0', " "));
        texts.filter(|text| secrets.iter().any(|secret| text.contains(secret.as_str()))).collect()
    }

    /// Ends; no process has shown one of these.
    pub(crate) fn saw_none_of(mut self, secrets: &[String]) {
        self.end();
        let told = self.told(secrets);
        assert!(told.is_empty(), "in process lists: {told:#?}");
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it ends");
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

/// Notes every command line, and the environments of the hosts' processes: here the tests themselves give secrets so.
fn look(seen: &Mutex<BTreeSet<Vec<u8>>>, on_host: &mut BTreeMap<u32, bool>) {
    let names = fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.file_name());
    let pids: BTreeSet<u32> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
    on_host.retain(|pid, _| pids.contains(pid));
    for pid in pids {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let there = *on_host
            .entry(pid)
            .or_insert_with(|| String::from_utf8_lossy(&read("cgroup")).contains("/aesop-lab/"));
        let mut found = vec![read("cmdline")];
        found.extend(there.then(|| read("environ")));
        seen.lock().expect("no look failed").extend(found.into_iter().filter(|text| !text.is_empty()));
    }
}

/// What aesop has generated beside an inventory: passwords and tokens, and lines of private keys.
pub(crate) fn generated(folder: &Path) -> Vec<String> {
    let mut secrets = Vec::new();
    for entry in fs::read_dir(folder).expect("generated secrets").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        if path.is_dir() {
            secrets.extend(generated(&path));
            continue;
        }
        let text = fs::read_to_string(&path).expect("a secret");
        let mut public = false;
        for line in text.lines() {
            // Certificates are for everybody.
            public = (public || line.starts_with("-----BEGIN CERTIFICATE")) && !line.starts_with("-----END");
            if !public && !line.starts_with("-----") && line.len() >= LINE_CHARS {
                secrets.push(line.to_owned());
            }
        }
    }
    secrets
}

/// Nobody but the owner can read one of these in a file of the host, and no journal has one.
pub(crate) fn are_readable_by_their_owners_only(host: &Host, secrets: &[String]) {
    let script = format!(
        "umask 077; cat >{PATTERNS}
find /etc /opt /var /run /tmp /root /home /srv -xdev -type f -perm /044 -size -4096k ! -path '/var/lib/mysql/*' \
-exec grep -lsFf {PATTERNS} {{}} + || true
! journalctl --quiet --no-pager | grep -qFf {PATTERNS} || echo a journal
rm {PATTERNS}"
    );
    let found = host.run_with_stdin(&["sh", "-c", &script], lines(secrets).as_bytes()).expect("a search");
    assert_eq!(found.trim(), "", "{} tells a secret", host.name());
}

/// The same of the folder with the inventory, but for what the user has put there.
pub(crate) fn are_closed_here(folder: &Path, secrets: &[String]) {
    for entry in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry")) {
        let path = entry.path();
        let mode = entry.metadata().expect("its mode").permissions().mode();
        if path.is_dir() {
            are_closed_here(&path, secrets);
        } else if mode & 0o044 != 0 {
            let text = fs::read(&path).expect("a file");
            is_not_told(&String::from_utf8_lossy(&text), secrets, &path.display().to_string());
        }
    }
}

/// A text has none of them.
pub(crate) fn is_not_told(text: &str, secrets: &[String], place: &str) {
    let line = text.lines().find(|line| secrets.iter().any(|secret| line.contains(secret.as_str())));
    assert_eq!(line, None, "a secret in {place}");
}

fn lines(secrets: &[String]) -> String {
    secrets.iter().map(|secret| format!("{secret}\n")).collect()
}
