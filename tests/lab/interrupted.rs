//! Applies that meet each other, and applies that die: hosts end as the inventory says all the same. What is applied is
//! small, so that it can die at each of its steps.

use crate::cluster::{Said, wait};
use crate::site::Site;
use aesop::lab::{Host, HostSpec};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Instant;

const HOSTS: [&str; 2] = ["one", "two"];
/// Every event is too much for each change; `make test-long` takes all.
const STRIDE: usize = 4;

/// The whole story.
pub(crate) fn applies_exclude_each_other_and_are_finished_wherever_they_die() {
    let site = Site::new("interrupted", HOSTS.map(HostSpec::new).to_vec());
    let started = Instant::now();
    two_at_once_do_not_mix(&site);
    what_changed_behind_a_plan_is_not_overwritten(&site);
    eprintln!("    locks after {:.0} s", started.elapsed().as_secs_f64());
    killed_at_every_boundary_they_are_finished(&site);
    eprintln!("    killed applies after {:.0} s", started.elapsed().as_secs_f64());
}

/// An inventory with an extra on both hosts whose file and program say `level`; none: without it.
fn inventory(site: &Site, level: Option<&str>) {
    let hosts: String =
        HOSTS.iter().map(|name| format!("  {name}: {{address: {}}}\n", site.address(name))).collect();
    let mut text = format!("cluster: site\nssh: {{user: deploy}}\nhosts:\n{hosts}");
    if let Some(level) = level {
        // What it runs with is what it read when it began.
        let program = format!(
            "#!/bin/sh\necho '{level} runs' | cat - /etc/mine/main >/run/mine/started-with\nexec sleep infinity\n"
        );
        fs::write(site.file("run.sh"), program).expect("an artifact");
        fs::write(site.file("main.j2"), "level {{ vars.level }} on {{ host.name }}\n").expect("a template");
        // Who waits here holds the apply, and with it the lock.
        let unit = "[Service]\nUser=mine\nRuntimeDirectory=mine\n\
                    ExecStartPre=/bin/sh -c 'while [ -e /var/tmp/wait ]; do sleep 0.1; done'\n\
                    ExecStart=/opt/mine/run\n[Install]\nWantedBy=multi-user.target\n";
        fs::write(site.file("mine.service"), unit).expect("a unit");
        text += &format!(
            "extras:
  mine:
    hosts: [\"*\"]
    vars: {{level: {level}}}
    users: [mine]
    directories: {{/opt/mine: {{}}, /etc/mine: {{mode: 750, owner: mine}}}}
    files: {{/etc/mine/main: {{template: main.j2, owner: mine, mode: 640}}}}
    artifacts: {{/opt/mine/run: {{file: run.sh, executable: true}}}}
    units: {{mine.service: {{file: mine.service}}}}
"
        );
    }
    site.inventory(&text);
}

/// Nothing is left to do, and the units run what is on the disk; or nothing is there any more.
fn hosts_are_as_they_should_be(site: &Site, level: Option<&str>, when: &str) {
    let (code, plan) = site.aesop(&["plan", "--exit-code"]);
    assert_eq!(code, Some(0), "{when}: something is left to do:\n{}\n{}", plan.stdout, plan.stderr);
    for name in HOSTS {
        let host = site.host(name);
        let Some(level) = level else {
            let left = "ls -d /etc/mine /opt/mine /run/mine /etc/systemd/system/mine.service 2>/dev/null; systemctl is-active mine; true";
            let left = host.run(&["sh", "-c", left]).expect("a look");
            assert_eq!(left.trim(), "inactive", "{when}: {name}");
            continue;
        };
        let runs = format!("{level} runs\nlevel {level} on {name}\n");
        wait(&format!("{when}: {name} to run with {runs:?}"), || {
            let found = host.run(&["cat", "/etc/mine/main", "/run/mine/started-with"]).ok()?;
            (found == format!("level {level} on {name}\n{runs}")).then_some(())
        });
    }
}

/// Makes the unit of one host wait, or lets it go on.
fn hold(host: &Host, hold: bool) {
    let argv = if hold { ["touch", "/var/tmp/wait"] } else { ["rm", "/var/tmp/wait"] };
    host.run(&argv).expect("a file");
}

fn two_at_once_do_not_mix(site: &Site) {
    inventory(site, Some("first"));
    let one = site.host("one");
    hold(&one, true);
    let first = site
        .command(&["apply", "--yes"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("aesop runs");
    wait("the first apply to start its unit", || {
        let state = one.answer(&["systemctl", "show", "-P", "ActiveState", "mine"]).ok()?;
        (state.stdout.trim() == "activating").then_some(())
    });
    let owner = one.run(&["cat", "/var/lib/aesop/state/lock/owner"]).expect("the lock");
    let operator = owner.split('|').nth(1).expect("who holds it");
    // It would change other things: what is on the disk of the hosts must stay the first one's.
    inventory(site, Some("second"));
    let (code, said) = site.aesop(&["apply", "--yes", "--format", "json"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    for words in [
        format!("another apply holds the lock: {operator}, since "),
        "if it has died, the lock is free in ".to_owned(),
        "the lock was not free on every host".to_owned(),
    ] {
        assert!(said.stdout.contains(&words), "no {words:?} in\n{}", said.stdout);
    }
    assert_eq!(one.run(&["cat", "/var/lib/aesop/state/lock/owner"]).expect("the lock"), owner);
    inventory(site, Some("first"));
    hold(&one, false);
    let first = first.wait_with_output().expect("it ends");
    let (success, said) = (first.status.success(), Said::from(first));
    assert!(success, "{}\n{}", said.stdout, said.stderr);
    hosts_are_as_they_should_be(site, Some("first"), "after two at once");
    let lock = ["test", "!", "-e", "/var/lib/aesop/state/lock"];
    for name in HOSTS {
        site.host(name).run(&lock).expect("the lock is given back");
    }
}

/// A plan that is looked at for long while somebody else applies, and one that was saved before.
fn what_changed_behind_a_plan_is_not_overwritten(site: &Site) {
    inventory(site, Some("third"));
    let saved = site.file("plan.json");
    site.ok(&["plan", "-o", &saved]);
    let line = format!("{} -i {} apply", env!("CARGO_BIN_EXE_aesop"), site.file("site.yml"));
    // With a terminal, as it asks.
    let mut asking = site
        .program("script", &["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut output = asking.stdout.take().expect("its output");
    let mut said = Vec::new();
    while !String::from_utf8_lossy(&said).contains("Only `yes` is taken: ") {
        let mut byte = [0];
        assert!(output.read(&mut byte).expect("output") == 1, "{}", String::from_utf8_lossy(&said));
        said.extend(byte);
    }
    site.ok(&["apply", "--yes"]);
    asking.stdin.take().expect("its input").write_all(b"yes\n").expect("an answer");
    output.read_to_end(&mut said).expect("output");
    let said = String::from_utf8_lossy(&said);
    assert!(!asking.wait().expect("it ends").success(), "{said}");
    let generation = site.host("one").run(&["cat", "/var/lib/aesop/state/generation"]).expect("a number");
    let generation: u64 = generation.trim().parse().expect("a number");
    let words =
        format!("generation {generation} is on this host, the plan rests on {}: plan again", generation - 1);
    assert!(said.contains(&words), "no {words:?} in\n{said}");
    let (code, said) = site.aesop(&["apply", "--yes", &saved]);
    assert!(
        code == Some(1) && said.stderr.contains("one: its generation has changed"),
        "{}\n{}",
        said.stdout,
        said.stderr
    );
    hosts_are_as_they_should_be(site, Some("third"), "after the refusals");
    inventory(site, None);
    site.ok(&["apply", "--yes"]);
    hosts_are_as_they_should_be(site, None, "before the first kill");
}

/// What comes, changes and goes is killed after one event more each time, until it ends before.
fn killed_at_every_boundary_they_are_finished(site: &Site) {
    let stride = if std::env::var_os("AESOP_LONG").is_some() { 1 } else { STRIDE };
    let (mut kills, mut left) = (0, [true; 3]);
    for round in 0.. {
        let levels = [Some(format!("{round}-made")), Some(format!("{round}-changed")), None];
        for (kind, level) in levels.iter().enumerate() {
            let level = level.as_deref();
            inventory(site, level);
            // Each kind of change begins elsewhere, so that no place is left out by all three.
            let after = 1 + round * stride + kind % stride;
            let when = format!("{level:?} killed after {after} events");
            if left[kind] && killed_after(site, after) {
                kills += 1;
                for name in HOSTS {
                    what_was_sent_ends_and_the_lease_too(&site.host(name), &when);
                }
                let resumed = site.ok(&["resume", "--yes"]).stderr;
                if resumed.contains("Nothing was broken off") {
                    // It had said what it would do, and begun nothing.
                    assert_eq!(after, 1, "{resumed}");
                    site.ok(&["apply", "--yes"]);
                }
            } else {
                left[kind] = false;
                site.ok(&["apply", "--yes"]);
            }
            hosts_are_as_they_should_be(site, level, &when);
        }
        if left == [false; 3] {
            break;
        }
    }
    eprintln!("    {kills} applies were killed");
    assert!(kills > 3 * 3, "{kills}: it ended too soon");
}

/// Applies and kills it with −9 once it has said so many lines; false where it ended before.
fn killed_after(site: &Site, events: usize) -> bool {
    let mut apply = site
        .command(&["apply", "--yes", "--format", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("aesop runs");
    let mut lines = BufReader::new(apply.stdout.take().expect("its output")).lines();
    let seen = lines.by_ref().take(events).map(|line| line.expect("a line")).collect::<Vec<_>>();
    let ended =
        seen.len() < events || seen.last().is_some_and(|line| line.contains("\"event\":\"finished\""));
    if !ended {
        apply.kill().expect("killed");
    }
    let output = apply.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!ended || output.status.success(), "{}\n{said}", seen.join("\n"));
    !ended
}

/// What was under way on the host when its sender died has ended, and time has passed.
fn what_was_sent_ends_and_the_lease_too(host: &Host, when: &str) {
    wait(&format!("{when}: the end of what was sent to {}", host.name()), || {
        let running = host.answer(&["pgrep", "-f", "[a]esop-begins"]).ok()?;
        (!running.ok()).then_some(())
    });
    the_lease_ends(host);
}

/// As if a dead apply had died long ago.
pub(crate) fn the_lease_ends(host: &Host) {
    let touch =
        "[ ! -e /var/lib/aesop/state/lock/owner ] || touch -d '-5 minutes' /var/lib/aesop/state/lock/owner";
    host.run(&["sh", "-c", touch]).expect("touched");
}
