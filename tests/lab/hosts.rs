//! The lab itself: hosts that boot, fail in every way a test may ask for, and leave nothing behind.

use aesop::lab::{self, Host, HostKind, HostSpec, Lab, LabError, LabSpec, Sudo};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const MAIL: &str = "Subject: it works\r\n\r\nyes\r\n.";
/// For what takes milliseconds alone and longer beside other tests.
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn answer_over_ssh() {
    let lab = lab("ssh", &["a", "b"]);
    for name in ["a", "b"] {
        let host = lab.host(name).unwrap();
        assert_eq!(ssh(&lab, &host, &["hostname"]), Ok(name.to_owned()));
        assert_eq!(ssh(&lab, &host, &["sudo", "-n", "id", "-un"]), Ok("root".to_owned()));
        // Hosts know each other by name.
        let other = if name == "a" { "b" } else { "a" };
        let probe = format!("exec 3<>/dev/tcp/{other}/22 && head -c 4 <&3");
        assert_eq!(ssh(&lab, &host, &["bash", "-c", &format!("'{probe}'")]), Ok("SSH-".to_owned()));
        assert_eq!(host.run(&["systemctl", "is-system-running"]).unwrap().trim(), "running");
    }
    lab.down().unwrap();
}

pub(crate) fn differ_in_what_sudo_allows() {
    let spec = LabSpec::new(name("sudo"))
        .host(HostSpec::new("asks").sudo(Sudo::Password))
        .host(HostSpec::new("never").sudo(Sudo::None));
    let lab = Lab::create(&spec, &|_| ()).unwrap();
    let (asks, never) = (lab.host("asks").unwrap(), lab.host("never").unwrap());
    let error = ssh(&lab, &asks, &["sudo", "-n", "id"]).unwrap_err();
    assert!(error.contains("password is required"), "{error}");
    let script = format!("'echo {} | sudo -S -p \"\" id -un'", lab.password());
    assert_eq!(ssh(&lab, &asks, &["sh", "-c", &script]), Ok("root".to_owned()));
    let script = format!("'echo {} | sudo -S -p \"\" id -un'", lab.password());
    ssh(&lab, &never, &["sh", "-c", &script]).unwrap_err();
}

/// Without a cgroup for each host in every hierarchy, the stop on one host leaves or kills the other's processes.
pub(crate) fn stop_their_own_services_only() {
    let lab = lab("units", &["a", "b"]);
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    let unit = "[Service]\nType=forking\nExecStart=/bin/sh -c 'for i in 1 2 3; do sleep 100000 & done'\n";
    for host in [&a, &b] {
        host.run_with_stdin(&["tee", "/etc/systemd/system/forks.service"], unit.as_bytes()).unwrap();
        host.run(&["systemctl", "start", "forks"]).unwrap();
        // The unit is up when its shell has ended; what it forked may not have become `sleep` yet.
        crate::cluster::wait("three sleepers", || (sleepers(host).len() == 3).then_some(()));
    }
    let before = sleepers(&b);
    a.run(&["systemctl", "stop", "forks"]).unwrap();
    assert_eq!(sleepers(&a), BTreeSet::new(), "the stopped unit's processes are gone");
    assert_eq!(sleepers(&b), before, "the other host's are alive");
    b.run(&["systemctl", "stop", "forks"]).unwrap();
    assert_eq!(sleepers(&b), BTreeSet::new());
}

pub(crate) fn can_be_cut_off_and_frozen() {
    let lab = lab("cut", &["a", "b"]);
    let (a, b) = (lab.host("a").unwrap(), lab.host("b").unwrap());
    assert!(greets(&a));
    a.cut().unwrap();
    assert!(!greets(&a), "nobody reaches a host that is cut off");
    assert!(greets(&b));
    assert_eq!(a.run(&["hostname"]).unwrap().trim(), "a", "it runs on");
    a.uncut().unwrap();
    until("the link is back", || greets(&a));

    let beat = "while :; do date +%s%N > /beat; sleep 0.02; done";
    a.run(&["systemd-run", "--unit=beat", "sh", "-c", beat]).unwrap();
    let read = || fs::read_to_string(a.root().join("beat")).unwrap_or_default();
    until("it beats", || !read().is_empty());
    a.freeze().unwrap();
    let (still, start) = (read(), Instant::now());
    while start.elapsed() < Duration::from_millis(300) {
        assert_eq!(read(), still, "nothing moves on a frozen host");
        thread::yield_now();
    }
    assert!(!greets(&a));
    a.thaw().unwrap();
    until("it beats again", || read() != still);
    until("it answers again", || greets(&a));
}

pub(crate) fn come_back_after_every_end() {
    let lab = lab("ends", &["a"]);
    let a = lab.host("a").unwrap();
    let mark = "/root/written-before";
    let boots = || a.run(&["stat", "-c", "%Y.%Z", "/run/systemd"]).unwrap();
    a.run(&["touch", mark]).unwrap();
    for end in [Host::kill, Host::stop] {
        end(&a).unwrap();
        assert!(!a.is_running().unwrap());
        assert!(!greets(&a));
        let error = a.run(&["true"]).unwrap_err().to_string();
        assert_eq!(error, "host a is not running; boot it first");
        a.boot().unwrap();
        a.run(&["test", "-e", mark]).unwrap();
    }
    let (before, pids) = (boots(), a.pids().unwrap());
    a.reboot().unwrap();
    assert_ne!(boots(), before);
    let survivors: Vec<u32> = a.pids().unwrap().into_iter().filter(|pid| pids.contains(pid)).collect();
    // The one that starts systemd-nspawn again.
    assert!(survivors.len() <= 1, "{survivors:?}");
    assert_eq!(ssh(&lab, &a, &["hostname"]), Ok("a".to_owned()));
}

pub(crate) fn can_have_a_full_disk() {
    let lab = lab("disk", &["a"]);
    let a = lab.host("a").unwrap();
    a.run(&["install", "-d", "-o", "deploy", "/srv/data"]).unwrap();
    a.run(&["sh", "-c", "echo kept > /srv/data/file"]).unwrap();
    let error = a.fill_disk("/srv/data").unwrap_err().to_string();
    assert_eq!(error, "host a: /srv/data is no small disk; make it one first");
    a.small_disk("/srv/data", 16).unwrap();
    assert_eq!(a.run(&["cat", "/srv/data/file"]).unwrap(), "kept\n");
    assert_eq!(a.run(&["stat", "-c", "%U", "/srv/data"]).unwrap(), "deploy\n");
    a.run(&["sh", "-c", "echo more > /srv/data/more"]).unwrap();
    a.fill_disk("/srv/data").unwrap();
    let write = ["dd", "if=/dev/zero", "of=/srv/data/new", "bs=4096", "count=1"];
    let full = a.answer(&write).unwrap();
    assert!(full.stderr.contains("No space left on device"), "{full:?}");
    a.run(&["dd", "if=/dev/zero", "of=/root/new", "bs=4096", "count=1"]).unwrap();
    a.free_disk("/srv/data").unwrap();
    a.run(&write).unwrap();
    a.kill().unwrap();
    a.boot().unwrap();
    assert!(!a.answer(&["test", "-e", "/srv/data/new"]).unwrap().ok());
    a.small_disk("/srv/data", 16).unwrap();
    a.run(&["test", "-e", "/srv/data/new"]).unwrap();
    let traces = Traces::of(&lab);
    assert!(traces.left().iter().any(|trace| trace.starts_with("loop ")), "the check sees loop devices");
    lab.down().unwrap();
    traces.assert_none();
}

pub(crate) fn are_added_and_removed() {
    let lab = lab("grow", &["a"]);
    let b = lab.add(&HostSpec::new("b-with-a-long-name-for-a-link").number(50), &|_| ()).unwrap();
    assert_eq!(ssh(&lab, &b, &["hostname"]), Ok("b-with-a-long-name-for-a-link".to_owned()));
    assert_eq!(b.address().octets()[3], 50);
    let error = lab.add(&HostSpec::new("a"), &|_| ()).unwrap_err().to_string();
    assert_eq!(error, format!("lab {} has a host a already", lab.name()));
    let pids = b.pids().unwrap();
    lab.remove(b.name()).unwrap();
    assert!(pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists() || zombie(*pid)));
    assert!(!greets(&b));
    assert!(matches!(lab.host(b.name()), Err(LabError::NoHost { .. })));
    assert_eq!(lab.hosts().unwrap().len(), 1);
    // Another host may have the address: its key is another one, and known.
    let c = lab.add(&HostSpec::new("c").number(50), &|_| ()).unwrap();
    assert_eq!(ssh(&lab, &c, &["hostname"]), Ok("c".to_owned()));
}

pub(crate) fn bring_databases_and_mail() {
    let spec = LabSpec::new(name("kinds"))
        .host(HostSpec::new("maria").kind(HostKind::MariaDb))
        .host(HostSpec::new("my").kind(HostKind::MySql97))
        .host(HostSpec::new("mail").kind(HostKind::Mail));
    let lab = Lab::create(&spec, &|_| ()).unwrap();
    for (name, version) in [("maria", "10.11."), ("my", "9.7.")] {
        let host = lab.host(name).unwrap();
        let settings =
            "SELECT @@version, @@log_bin, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata";
        let said = host.sql(settings).unwrap();
        assert!(said.starts_with(version) && said.ends_with("\t1\tROW\tFULL\tFULL\n"), "{said}");
        host.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT); INSERT INTO d.t VALUES (1)").unwrap();
        host.kill_database().unwrap();
        host.sql("SELECT 1").unwrap_err();
        host.start_database().unwrap();
        assert_eq!(host.sql("SELECT a FROM d.t").unwrap(), "1\n");
        host.restart_database().unwrap();
        assert_eq!(host.sql("SELECT count(*) FROM mysql.user WHERE user = 'admin'").unwrap(), "1\n");
    }
    let mail = lab.host("mail").unwrap();
    mail.sql("SELECT 1").unwrap_err();
    let mut smtp = TcpStream::connect((mail.address(), lab::SMTP_PORT)).unwrap();
    let mut reader = BufReader::new(smtp.try_clone().unwrap());
    let mut replies = String::new();
    for line in
        ["", "HELO me", "MAIL FROM:<a@example.com>", "RCPT TO:<ops@example.com>", "DATA", MAIL, "QUIT"]
    {
        if !line.is_empty() {
            smtp.write_all(format!("{line}\r\n").as_bytes()).unwrap();
        }
        reader.read_line(&mut replies).unwrap();
    }
    let mails = || fs::read_dir(mail.mailbox()).map_or_else(|_| Vec::new(), |dir| dir.flatten().collect());
    until(&format!("the mail is in the mailbox; the server said\n{replies}"), || mails().len() == 1);
    assert!(fs::read_to_string(mails()[0].path()).unwrap().contains("Subject: it works"));
}

pub(crate) fn leave_nothing_behind() {
    let lab = lab("nothing", &["a", "b"]);
    lab.host("a").unwrap().small_disk("/srv", 16).unwrap();
    let traces = Traces::of(&lab);
    let kinds: BTreeSet<String> =
        traces.left().iter().filter_map(|trace| Some(trace.split_once(' ')?.0.to_owned())).collect();
    assert_eq!(
        kinds,
        ["cgroup", "file", "link", "loop", "mount", "process"].map(str::to_owned).into(),
        "it can see"
    );
    lab.down().unwrap();
    traces.assert_none();
}

/// The process that made the lab is killed; the next one that makes a lab removes it.
pub(crate) fn leave_nothing_behind_when_their_creator_is_killed() {
    let name = name("orphan");
    let mut creator = Command::new(env!("CARGO_BIN_EXE_aesop"))
        .args(["lab", "up", &name, "a", "b", "--hold"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It says so when all hosts are up.
    let mut ready = String::new();
    BufReader::new(creator.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let traces = Traces::of(&Lab::attach(&name).unwrap());
    assert!(!traces.left().is_empty());
    creator.kill().unwrap();
    creator.wait().unwrap();
    assert!(traces.left().iter().any(|trace| trace.starts_with("process ")), "the hosts outlive it for now");
    let stale = |name: &str| lab::list().iter().any(|lab| lab.name == name && lab.stale);
    assert!(stale(&name));
    let next = lab("next", &["a"]);
    traces.assert_none();
    assert!(!stale(&name));
    drop(next);

    // A persistent one stays, until anybody says down.
    let mut kept = lab("kept", &["a"]);
    let (name, traces) = (kept.name().to_owned(), Traces::of(&kept));
    kept.persist().unwrap();
    drop(kept);
    lab::clean_stale(&|_| ()).unwrap();
    assert!(greets(&Lab::attach(&name).unwrap().host("a").unwrap()));
    lab::down(&name).unwrap();
    traces.assert_none();
    assert!(matches!(lab::down(&name), Err(LabError::NoLab(_))));
}

/// Unique among the runs on this machine, and its own in this one.
fn name(test: &str) -> String {
    format!("t{}-{test}", std::process::id())
}

fn lab(test: &str, hosts: &[&str]) -> Lab {
    let spec = hosts.iter().fold(LabSpec::new(name(test)), |spec, host| spec.host(HostSpec::new(*host)));
    Lab::create(&spec, &|_| ()).unwrap()
}

/// Stdout, or stderr of a failure, of a command on a host as its user.
fn ssh(lab: &Lab, host: &Host, argv: &[&str]) -> Result<String, String> {
    let output = Command::new("ssh")
        .args([
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "ConnectTimeout=10",
            "-F",
            "none",
        ])
        .arg("-o")
        .arg(format!("UserKnownHostsFile={}", lab.known_hosts().display()))
        .arg("-i")
        .arg(lab.ssh_key())
        .arg(format!("{}@{}", lab::SSH_USER, host.address()))
        .args(argv)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Whether its sshd speaks.
fn greets(host: &Host) -> bool {
    let within = Duration::from_millis(500);
    let Ok(stream) = TcpStream::connect_timeout(&(host.address(), 22).into(), within) else { return false };
    stream.set_read_timeout(Some(within)).unwrap();
    BufReader::new(stream).read_line(&mut String::new()).is_ok_and(|read| read > 0)
}

fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < SOON, "not within {} s: {what}", SOON.as_secs());
        thread::sleep(Duration::from_millis(10));
    }
}

fn sleepers(host: &Host) -> BTreeSet<u32> {
    let sleeps =
        |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sleep\n");
    let machine = machine_id(host);
    all_pids().into_iter().filter(sleeps).filter(|pid| machine_of(*pid) == machine).collect()
}

fn all_pids() -> Vec<u32> {
    let names = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).collect()
}

/// The id of the host that a process runs on: this machine's, or a lab host's.
fn machine_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/root/etc/machine-id")).unwrap_or_default()
}

fn machine_id(host: &Host) -> String {
    fs::read_to_string(host.root().join("etc/machine-id")).unwrap()
}

fn zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// What a lab has on this machine, found without the lab's own means.
struct Traces {
    lab: String,
    dir: String,
    bridge: String,
    machines: Vec<String>,
}

impl Traces {
    fn of(lab: &Lab) -> Self {
        let dir = lab.work_dir().to_str().unwrap().to_owned();
        let machines = lab.hosts().unwrap().iter().map(machine_id).collect();
        Self { lab: lab.name().to_owned(), dir, bridge: lab.bridge(), machines }
    }

    /// Each as its kind and name.
    fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let mark = format!("/aesop-lab/{}", self.lab);
        for pid in all_pids().into_iter().filter(|pid| !zombie(*pid)) {
            let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            if cgroups.lines().any(|line| line.contains(&mark)) || self.machines.contains(&machine_of(pid)) {
                left.push(format!("process {pid}"));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        left.extend(
            mounts.lines().filter(|line| line.contains(&self.dir)).map(|line| format!("mount {line}")),
        );
        let id = self.bridge.rsplit('-').next().unwrap();
        for name in names("/sys/class/net") {
            if name == self.bridge || name.starts_with(&format!("vb-{id}-")) {
                left.push(format!("link {name}"));
            }
        }
        let tops = names("/sys/fs/cgroup").into_iter().map(|name| format!("/sys/fs/cgroup/{name}"));
        for top in tops.chain(["/sys/fs/cgroup".to_owned()]) {
            let group = format!("{top}{mark}");
            left.extend(Path::new(&group).exists().then(|| format!("cgroup {group}")));
        }
        for device in names("/sys/block") {
            let file =
                fs::read_to_string(format!("/sys/block/{device}/loop/backing_file")).unwrap_or_default();
            left.extend(file.starts_with(&self.dir).then(|| format!("loop {device} {file}")));
        }
        let files = [self.dir.clone(), format!("/run/aesop-lab/{}.json", self.lab)];
        left.extend(
            files.into_iter().filter(|file| Path::new(file).exists()).map(|file| format!("file {file}")),
        );
        for machine in names("/run/systemd/nspawn/propagate") {
            left.extend(machine.starts_with(&format!("{id}-")).then(|| format!("file {machine}")));
        }
        left
    }

    fn assert_none(&self) {
        assert_eq!(self.left(), Vec::<String>::new());
    }
}

fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
