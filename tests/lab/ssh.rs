//! Hosts as people have them: odd login shells that talk, sudo that asks, other ports, IPv6, a jump host, few
//! sessions, no room. Nothing here needs Java, so these labs are quick.

use crate::cluster::Said;
use crate::secrets::{self, Watch};
use crate::site::{Site, write};
use aesop::lab::{Host, HostSpec, Sudo};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// A network of our own for the host that has IPv6 only.
const IPV6: &str = "fd5a:e50b::";
/// Holds the package manager's lock as dpkg does (`F_SETLK` with an `F_WRLCK`), and listens where it should not.
const IN_THE_WAY: &str = r#"use Socket;
my $lock = pack("ssx4qqix4", 1, 0, 0, 0, 0);
open(F, ">>", "/var/lib/dpkg/lock-frontend") or die;
fcntl(F, 6, $lock) or die;
socket(S, PF_INET, SOCK_STREAM, 0) or die;
bind(S, sockaddr_in(9199, INADDR_ANY)) or die;
listen(S, 1) or die;
sleep 1000;
"#;

/// Holds that lock until apt-get has come and waits for it.
const UNTIL_APT: &str = r#"my $lock = pack("ssx4qqix4", 1, 0, 0, 0, 0);
open(F, ">>", "/var/lib/dpkg/lock-frontend") or die;
fcntl(F, 6, $lock) or die;
open(G, ">", "/run/held") or die;
select(undef, undef, undef, 0.1) until system("pgrep -x apt-get >/dev/null") == 0;
"#;

fn sshd(host: &Host, settings: &str) {
    write(host, "/etc/ssh/sshd_config.d/00-test.conf", settings);
    host.run(&["systemctl", "restart", "ssh"]).expect("sshd takes its settings");
}

/// fish, csh and bash, all of them talking on both outputs; `MaxSessions` 2; another port; sudo that asks; noexec
/// /tmp; IPv6 behind a jump host; a password where sudo asks for none. They are deployed to, and the second plan is empty.
pub(crate) fn hosts_as_they_are_are_worked_on() {
    let plain = |name: &str| HostSpec::new(name);
    let hosts = vec![plain("fish"), plain("csh").sudo(Sudo::Password), plain("bash")];
    let site = Site::new("ssh", hosts);
    let (fish, csh, bash) = (site.host("fish"), site.host("csh"), site.host("bash"));

    fish.run(&["usermod", "--shell", "/usr/bin/fish", "deploy"]).expect("fish");
    fish.run(&["mkdir", "-p", "/etc/fish"]).expect("a folder");
    write(&fish, "/etc/fish/config.fish", "echo 'done|0'\necho 'Welcome, {$USER}!' >&2\n");
    sshd(&fish, "MaxSessions 2\n");
    fish.run(&["mount", "-t", "tmpfs", "-o", "noexec", "none", "/tmp"]).expect("noexec /tmp");

    csh.run(&["usermod", "--shell", "/bin/tcsh", "deploy"]).expect("csh");
    write(&csh, "/etc/csh.cshrc", "echo 'aesop is not what this says'\n");
    sshd(&csh, "Port 2222\n");
    let key = csh.run(&["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).expect("its key");
    append(&site.lab.known_hosts(), &format!("[{}]:2222 {key}", csh.address()));

    write(&bash, "/etc/bash.bashrc", "echo \"Today's tip: $(date)\"; echo tip >&2; read -t 0 line\n");
    let device = bash.run(&["sh", "-c", "ip -o -4 route show | head -n 1"]).expect("a route");
    let device =
        device.split_whitespace().skip_while(|word| *word != "dev").nth(1).expect("a device").to_owned();
    let (ours, theirs) = (format!("{IPV6}1"), format!("{IPV6}11"));
    let inside =
        ["ip", "-6", "address", "add", &format!("{theirs}/64"), "dev", &device, "nodad"].map(str::to_owned);
    bash.run(&inside).expect("an IPv6 address");
    let jump = fish.run(&["sh", "-c", "ip -o -4 route show | head -n 1"]).expect("a route");
    let jump = jump.split_whitespace().skip_while(|word| *word != "dev").nth(1).expect("a device").to_owned();
    fish.run(&["ip", "-6", "address", "add", &format!("{ours}/64"), "dev", &jump, "nodad"])
        .expect("IPv6 there too");
    let key = bash.run(&["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).expect("its key");
    append(&site.lab.known_hosts(), &format!("{theirs} {key}"));

    let with = |known_hosts: &str| {
        site.inventory(&format!(
            "cluster: site
ssh: {{user: deploy, known_hosts: {known_hosts}}}
hosts:
  fish: {{address: {fish}, ssh: {{sudo_password: {{env: LAB_PASSWORD}}}}}}
  csh: {{address: {csh}, ssh: {{port: 2222, sudo_password: {{env: LAB_PASSWORD}}}}}}
  bash: {{address: \"{theirs}\", ssh: {{jump: deploy@{fish}}}}}
zookeeper: {{hosts: [fish], heap: 96m}}
monitor: {{hosts: [csh, bash]}}
",
            fish = site.address("fish"),
            csh = site.address("csh"),
        ));
    };
    init_finds_out_what_it_can(&site);
    keys_are_learnt_only_where_that_is_said(&site, &with);
    let watch = Watch::start();
    site.ok(&["apply", "--yes", "--on", "fish,csh"]);
    // The jump host's two sessions are busy with its own forwarding only while it is used.
    site.ok(&["apply", "--yes", "--on", "bash"]);
    bash.run(&["systemctl", "is-active", "aesop-monitor", "aesop-agent"]).expect("its units run");
    let plan = site.ok(&["plan", "--exit-code", "--on", "bash"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
    let plan = site.ok(&["plan", "--exit-code", "--on", "fish,csh"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
    fish.run(&["systemctl", "is-active", "aesop-zookeeper", "aesop-agent"]).expect("its units run");
    csh.run(&["systemctl", "is-active", "aesop-monitor", "aesop-agent"]).expect("its units run");
    let arguments = "a b'c\"d$e;f";
    let said = site.ok(&["exec", "--format", "json", "--", "printf", "%s", arguments]);
    let answers: BTreeMap<String, serde_json::Value> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("one object a line"))
        .map(|answer: serde_json::Value| (answer["host"].as_str().expect("a host").to_owned(), answer))
        .collect();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["bash", "csh", "fish"]);
    for answer in answers.values() {
        // Before it stands what its shell talks of.
        let stdout = answer["stdout"].as_str().expect("text");
        assert!(stdout.ends_with(arguments), "arguments arrive as given: {answer}");
        assert!(answer["status"] == 0 && answer["stderr"].is_string(), "{answer}");
    }
    let said = site.ok(&["exec", "--", "cat"]);
    for words in [site.lab.password(), "aesop-begins"] {
        assert!(!said.stdout.contains(words), "no command sees a password: {}", said.stdout);
    }
    let password = [site.lab.password().to_owned()];
    watch.saw_none_of(&password);
    for host in [&fish, &csh, &bash] {
        secrets::are_readable_by_their_owners_only(host, &password);
    }
    a_key_that_only_an_agent_has_will_do(&site);
}

/// An alias with another port, an address, one that nobody answers at; the inventory it makes reaches them.
fn init_finds_out_what_it_can(site: &Site) {
    let (fish, csh) = (site.address("fish"), site.address("csh"));
    let config = site.ssh.path().join("config");
    let before = fs::read_to_string(&config).expect("a file");
    let alias = format!("Host tropical\n  HostName {csh}\n  Port 2222\n  User deploy\n");
    fs::write(&config, alias + &before).expect("a file");
    let nobody = site.lab.subnet().address(250);
    let folder = site.file("made");
    let hosts = ["tropical".to_owned(), format!("deploy@{fish}"), format!("deploy@{nobody}")];
    let mut args = vec!["init", &folder];
    args.extend(hosts.iter().map(String::as_str));
    let made = site.program(env!("CARGO_BIN_EXE_aesop"), &args).output().expect("unshare runs");
    let (success, said) = (made.status.success(), Said::from(made));
    assert!(success, "{}\n{}", said.stdout, said.stderr);
    fs::write(&config, before).expect("as it was");
    let file = said.stdout.trim();
    let text = fs::read_to_string(file).expect("an inventory");
    let key = site.lab.ssh_key().display().to_string();
    let line = |start: &str| {
        let found = text.lines().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start:?} in\n{text}\n{}", said.stderr)).to_owned()
    };
    let tropical = line(&format!(
        "  tropical: {{address: {csh}, ssh: {{port: 2222, identity_file: {key}}}}}   # debian "
    ));
    assert!(tropical.contains(" GiB of memory, sudo: a password is required"), "{tropical}");
    let fish = line(&format!("  fish: {{address: {fish}, ssh: {{identity_file: {key}}}}}   # debian "));
    assert!(fish.ends_with(" GiB of memory"), "{fish}");
    assert!(line(&format!("  {nobody}: ")).contains("# not asked: "), "{text}");
    assert!(text.contains("  user: deploy\n"), "{text}");
    let exec = ["-i", file, "exec", "--on", "fish", "--", "true"];
    let checked = site.program(env!("CARGO_BIN_EXE_aesop"), &exec).output().expect("unshare runs");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// An unknown key is told with how to add it, that of a jump host as the jump host's; `accept_new` adds it, and takes no
/// changed one.
fn keys_are_learnt_only_where_that_is_said(site: &Site, with: &dyn Fn(&str)) {
    let (fish, csh) = (site.address("fish"), site.address("csh"));
    let all = fs::read_to_string(site.lab.known_hosts()).expect("known hosts");
    let is_of = |line: &str, address: &str| {
        let names = line.split(' ').next().unwrap_or_default();
        names.split(',').any(|name| name == address || name == format!("[{address}]:2222"))
    };
    let (theirs, others): (Vec<&str>, Vec<&str>) =
        all.lines().partition(|line| is_of(line, &fish) || is_of(line, &csh));
    assert!(theirs.len() >= 2, "{all}");
    fs::write(site.lab.known_hosts(), others.join("\n") + "\n").expect("known hosts");
    with("strict");
    let refused = |host: &str, words: &[String]| {
        let (code, said) = site.aesop(&["exec", "--on", host, "--", "true"]);
        assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
        for words in words {
            assert!(said.stderr.contains(words), "no {words:?} in\n{}", said.stderr);
        }
    };
    refused("csh", &[format!("ssh-keyscan -p 2222 {csh} >> ~/.ssh/known_hosts")]);
    let jump = format!("its jump host deploy@{fish}: its host key is unknown");
    refused("bash", &[jump, format!("ssh-keyscan -p 22 {fish} >> ~/.ssh/known_hosts")]);
    with("accept_new");
    site.ok(&["exec", "--on", "fish,csh", "--", "true"]);
    with("strict");
    site.ok(&["exec", "--", "true"]);
    let fish = theirs.iter().find(|line| is_of(line, &fish)).and_then(|line| line.split_once(' '));
    let (_, another) = fish.expect("a key");
    fs::write(site.lab.known_hosts(), format!("[{csh}]:2222 {another}\n")).expect("known hosts");
    with("accept_new");
    refused("csh", &["its host key has CHANGED".to_owned()]);
    fs::write(site.lab.known_hosts(), all).expect("known hosts");
    with("strict");
}

/// No file names a key: without an agent that has it nobody gets in, with it everything is as before.
fn a_key_that_only_an_agent_has_will_do(site: &Site) {
    let config = format!("Host *\n  UserKnownHostsFile {}\n", site.lab.known_hosts().display());
    fs::write(site.ssh.path().join("config"), config).expect("a file");
    let hosts = ["exec", "--on", "fish,csh", "--", "hostname"];
    let (code, said) = site.aesop(&hosts);
    assert!(code == Some(1) && said.stderr.contains("was not let in"), "{}\n{}", said.stdout, said.stderr);
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("agent").display().to_string();
    let mut agent = Command::new("ssh-agent")
        .args(["-D", "-a", &socket])
        .stdout(Stdio::null())
        .spawn()
        .expect("an agent");
    crate::cluster::wait("the agent's socket", || Path::new(&socket).exists().then_some(()));
    let add = Command::new("ssh-add").arg(site.lab.ssh_key()).env("SSH_AUTH_SOCK", &socket).output();
    let answers = site.aesop_with(&socket, &hosts);
    let plan = site.aesop_with(&socket, &["plan", "--exit-code", "--on", "fish,csh"]);
    agent.kill().expect("the agent ends");
    agent.wait().expect("the agent has ended");
    assert!(add.as_ref().is_ok_and(|output| output.status.success()), "{add:?}");
    for (code, said) in [answers, plan] {
        assert_eq!(code, Some(0), "{}\n{}", said.stdout, said.stderr);
    }
}

fn append(path: &Path, line: &str) {
    let text = fs::read_to_string(path).expect("known hosts");
    fs::write(path, format!("{text}{}\n", line.trim_end())).expect("known hosts");
}

/// A changed key, a full and a read-only disk, a taken port, a held package lock: named, with what to do, and
/// nothing is changed there.
pub(crate) fn a_host_that_cannot_be_worked_on_says_why() {
    let names = ["changed", "full", "frozen", "taken"];
    let site = Site::new("why", names.map(HostSpec::new).to_vec());
    let inventory: String =
        names.iter().map(|name| format!("  {name}: {{address: {}}}\n", site.address(name))).collect();
    let known = fs::read_to_string(site.lab.known_hosts()).expect("known hosts");
    let other = known.lines().find(|line| line.contains(&site.address("full"))).expect("a key");
    let other = other.split_once(' ').expect("host and key").1;
    fs::write(site.file("known_hosts"), format!("{} {other}\n", site.address("changed"))).expect("a file");
    site.inventory(&format!(
        "cluster: why
ssh: {{user: deploy}}
hosts:
{}zookeeper: {{hosts: [taken, full]}}
java: {{package: another-java}}
monitor: {{hosts: [changed, full, frozen, taken], port: 9199}}
",
        inventory.replace(
            &format!("{{address: {}}}", site.address("changed")),
            &format!("{{address: {}, ssh: {{known_hosts: ./known_hosts}}}}", site.address("changed")),
        )
    ));
    let (full, frozen, taken) = (site.host("full"), site.host("frozen"), site.host("taken"));
    full.small_disk("/opt", 16).expect("a small disk");
    full.fill_disk("/opt").expect("a full disk");
    frozen.small_disk("/etc/aesop", 16).expect("a disk");
    frozen.run(&["mount", "-o", "remount,ro", "/etc/aesop"]).expect("a read-only disk");
    write(&taken, "/root/in-the-way.pl", IN_THE_WAY);
    taken.run(&["rm", "/usr/bin/java"]).expect("a host without Java");
    taken
        .run(&["systemd-run", "--unit=in-the-way", "perl", "/root/in-the-way.pl"])
        .expect("a program that is in the way");
    crate::cluster::wait("the lock and the port to be taken", || {
        taken.run(&["ss", "-Hltn"]).ok()?.contains(":9199").then_some(())
    });

    let (code, said) = site.aesop(&["check", "--hosts"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    for words in [
        "its host key has CHANGED",
        "ssh-keygen -f",
        "disk: 0 MiB are free on /opt",
        "read-only: /etc/aesop, where /etc/aesop is, is mounted read-only",
        "packages: perl (pid",
        "ports: port 9199, which monitor wants, is taken by perl",
    ] {
        assert!(said.stdout.contains(words), "no {words:?} in\n{}", said.stdout);
    }
    let json = site.aesop(&["check", "--hosts", "--format", "json"]).1;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["ok"], false);

    let (code, said) = site.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(1));
    assert!(said.stderr.contains("is taken by perl"), "{}", said.stderr);
    for host in [&full, &frozen, &taken] {
        assert!(host.run(&["ls", "/var/lib/aesop"]).is_err(), "nothing was changed on {}", host.name());
    }
    a_held_package_lock_is_waited_for(&site, &taken);
}

/// Whom an apply waits for it says; then it installs, which fails here for want of the package.
fn a_held_package_lock_is_waited_for(site: &Site, host: &Host) {
    host.run(&["systemctl", "stop", "in-the-way"]).expect("it ends");
    host.run(&["sh", "-c", "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*"]).expect("no archive");
    write(host, "/root/until-apt.pl", UNTIL_APT);
    host.run(&["systemd-run", "perl", "/root/until-apt.pl"]).expect("it begins");
    crate::cluster::wait("the lock to be held", || host.run(&["ls", "/run/held"]).ok());
    site.inventory(&format!(
        "cluster: why
ssh: {{user: deploy}}
hosts: {{taken: {{address: {}}}}}
zookeeper: {{hosts: [taken], heap: 96m}}
java: {{package: another-java}}
",
        site.address("taken")
    ));
    let (code, said) = site.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    for words in ["waiting two minutes at most for perl (pid ", "another-java"] {
        assert!(said.stderr.contains(words), "no {words:?} in\n{}", said.stderr);
    }
    assert!(!said.stderr.contains("Could not get lock"), "{}", said.stderr);
}

/// Stop, start, restart and reboot go through plans: what they do is seen on the host itself.
pub(crate) fn services_are_stopped_started_and_hosts_rebooted() {
    let site = Site::new("turns", ["a", "b"].map(HostSpec::new).to_vec());
    site.inventory(&format!(
        "cluster: turns
ssh: {{user: deploy}}
hosts:
  a: {{address: {}}}
  b: {{address: {}}}
zookeeper: {{hosts: [a], heap: 96m}}
monitor: {{hosts: [b]}}
",
        site.address("a"),
        site.address("b"),
    ));
    let a = site.host("a");
    site.ok(&["apply", "--yes"]);
    let state = |unit: &str| {
        let state = a.answer(&["systemctl", "show", "-P", "ActiveState", unit]).expect("systemctl");
        state.stdout.trim().to_owned()
    };
    let pid = || a.run(&["systemctl", "show", "-P", "MainPID", "aesop-zookeeper"]).expect("its pid");
    let before = pid();
    site.ok(&["restart", "zookeeper", "--yes"]);
    assert_ne!(pid(), before, "another process");
    site.ok(&["stop", "zookeeper", "--yes", "--on", "a"]);
    assert_eq!(state("aesop-zookeeper"), "inactive");
    assert_eq!(state("aesop-agent"), "active", "only what was named");
    let again = site.ok(&["stop", "zookeeper", "--yes"]);
    assert!(again.stderr.contains("Nothing to stop"), "{}", again.stderr);
    site.ok(&["start", "--yes"]);
    assert_eq!(state("aesop-zookeeper"), "active");
    let logs = site.ok(&["logs", "zookeeper", "-n", "5"]);
    assert!(
        logs.stdout.lines().count() >= 5 && logs.stdout.lines().all(|line| line.starts_with("a: ")),
        "{}",
        logs.stdout
    );
    a_reader_that_goes_ends_what_follows(&site, &a);
    let boot = || a.run(&["stat", "-c", "%Y.%Z", "/run/systemd"]).expect("systemd's folder");
    let before = boot();
    site.ok(&["reboot", "--yes", "--on", "a"]);
    assert_ne!(boot(), before);
    assert_eq!(state("aesop-zookeeper"), "active");
    site.ok(&["status"]);
}

/// As with `aesop logs -f | head -n 1`: the next line that is written somewhere ends it, well.
fn a_reader_that_goes_ends_what_follows(site: &Site, host: &Host) {
    let mut logs = site
        .command(&["logs", "-f", "-n", "1", "agent"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("aesop runs");
    let mut line = String::new();
    BufReader::new(logs.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    assert!(line.contains(": "), "{line}");
    let status = crate::cluster::wait("the end of logs -f", || {
        let again = "systemctl reset-failed aesop-agent; systemctl restart aesop-agent";
        host.run(&["sh", "-c", again]).expect("it writes to its log");
        logs.try_wait().expect("its state")
    });
    let said = logs.wait_with_output().expect("it has ended");
    assert!(
        status.success() && said.stderr.is_empty(),
        "{status}: {}",
        String::from_utf8_lossy(&said.stderr)
    );
}
