//! The steps of `execute.sh` by themselves, on a state folder of their own, with stubs for what would change this machine.

use super::EXECUTE;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with stubs, and with a `state` that steps work on.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.path("state")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A program that notes that it was called, and then does this.
    fn stub(&self, name: &str, text: &str) {
        let log = self.path("log");
        let text = format!("#!/bin/sh\necho \"{name} $*\" >>{}\n{text}\n", log.display());
        std::fs::write(self.path(name), text).unwrap();
        std::fs::set_permissions(self.path(name), PermissionsExt::from_mode(0o755)).unwrap();
    }

    /// What the program says; a failure in words.
    fn run(&self, steps: &str, texts: &[&str]) -> String {
        let folder = self.0.path().display();
        let script = EXECUTE
            .replace("state=/var/lib/aesop/state", &format!("state={folder}/state"))
            .replace("PATH=/usr/local/sbin", &format!("PATH={folder}:/usr/local/sbin"));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).env("I", steps);
        for (number, text) in (1..).zip(texts) {
            command.env(format!("T{number}"), text);
        }
        let said = String::from_utf8(command.output().unwrap().stdout).unwrap();
        match said.lines().find_map(|line| line.strip_prefix("failed|")) {
            Some(failed) => {
                let (number, why) = failed.split_once('|').unwrap();
                format!("{number}: {}", String::from_utf8(STANDARD.decode(why).unwrap()).unwrap())
            }
            None => said.lines().collect::<Vec<_>>().join(" "),
        }
    }

    /// What was called since the last look.
    fn log(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let _none = std::fs::remove_file(self.path("log"));
        log.lines().map(str::to_owned).collect()
    }

    fn state(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("state").join(name)).unwrap_or_default()
    }
}

#[test]
fn a_host_knows_what_will_be_there_before_its_first_change() {
    let place = Place::new();
    place.stub(
        "rm",
        &format!("cat {}/manifest >>{}", place.path("state").display(), place.path("log").display()),
    );
    assert_eq!(place.run("manifest\nremove|/nowhere/x", &["a|b|file|/x|-\n"]), "done|0 done|1");
    assert_eq!(place.log(), ["rm -f /nowhere/x /nowhere/x.aesop-new", "a|b|file|/x|-"]);
}

#[test]
fn what_one_call_notes_takes_one_fsync_and_is_there_whole() {
    let place = Place::new();
    place.stub("sync", "");
    let steps = "started|a.service|r|l\nready|a.service|r|l\nmanifest\ngeneration|7|2|x y";
    assert_eq!(place.run(steps, &["m\n", "it's\n"]), "done|0 done|1 done|2 done|3");
    assert_eq!(place.log().len(), 1);
    let noted = ["units/a.service", "manifest", "generation", "generations/7", "generations/7.artifacts"];
    assert_eq!(noted.map(|name| place.state(name)), ["r|l|1\n", "m\n", "7\n", "it's\n", "x y\n"]);
    let mode = |name: &str| place.path("state").join(name).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(["manifest", "generations", "generations/7"].map(mode), [0o600, 0o700, 0o600]);
    for generation in ["8", "9", "9"] {
        place.run(&format!("generation|{generation}|2|"), &["s"]);
    }
    assert_eq!(
        ["7", "7.artifacts", "8", "9"].map(|name| place.state(&format!("generations/{name}"))),
        ["", "", "s", "s"]
    );
}

#[test]
fn a_call_that_fails_keeps_what_it_had_noted() {
    let place = Place::new();
    let said = place.run("ready|a.service|r|l\nnonsense|", &[]);
    assert_eq!(
        (said.as_str(), place.state("units/a.service").as_str()),
        ("1: unknown step nonsense", "r|l|1\n")
    );
    // A full disk is the failure of the step that could not be kept.
    place.stub("sync", "echo no space >&2; exit 1");
    assert_eq!(place.run("manifest\nremove|/nowhere/x", &["new\n"]), "1: sync: no space");
    assert_eq!(place.state("manifest"), "");
}

#[test]
fn a_copy_of_the_ids_is_written_where_it_differs() {
    let place = Place::new();
    place.stub("sync", "");
    for (generation, ids, syncs) in
        [(1, "one\ntwo\n", 1), (2, "one\ntwo\n", 0), (3, "one\n", 1), (4, "one\ntwo\n", 1)]
    {
        assert_eq!(place.run(&format!("ids|{generation}"), &[ids]), "done|0");
        assert_eq!(place.log().len(), syncs, "generation {generation}");
    }
    assert_eq!(place.state("cluster.lock"), "# generation 4\none\ntwo\n");
}

#[test]
fn a_lock_is_touched_in_its_place_and_by_its_holder_alone() {
    let place = Place::new();
    place.stub("date", "echo 1000 2026-01-01T00:00:00Z");
    assert_eq!(place.run("lock|id|Ann|120|0|apply", &[]), "done|0");
    assert_eq!(place.state("lock/owner"), "id|Ann|1000\n");
    let owner = place.path("state/lock/owner");
    let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(5);
    let touched = |steps: &str| {
        std::fs::File::options().write(true).open(&owner).unwrap().set_modified(long_ago).unwrap();
        place.run(steps, &[]);
        owner.metadata().unwrap().modified().unwrap() != long_ago
    };
    assert!(touched("touch|id") && touched("lock|id|Ann|120|0|apply"));
    assert!(!touched("touch|other"));
    assert_eq!(place.state("lock/owner"), "id|Ann|1000\n");
    assert_eq!(place.run("unlock|other", &[]), "done|0");
    assert!(owner.exists());
    place.run("unlock|id", &[]);
    assert!(!owner.exists());
}

/// A systemd whose one unit has this main process.
fn systemd(place: &Place, pid: u32, active: &str) {
    let limit = place.path("limit");
    let limit = limit.display();
    place.stub(
        "systemctl",
        &format!(
            "case $* in
              *reset-failed*) rm -f {limit} ;;
              *Result*) [ ! -e {limit} ] || echo start-limit-hit ;;
              *MainPID,*) [ -e {limit} ] || printf 'MainPID={pid}\\nActiveState={active}\\nJob=\\n' ;;
              is-active*) [ -e {limit} ] && echo failed || echo {active} ;;
              restart* | start*) [ ! -e {limit} ] ;;
            esac"
        ),
    );
    place.stub("journalctl", "echo its log");
}

const RESTART: &str = "restart|a.service|60\nstarted|a.service|r|l\ngate|a.service|60|units a.service|0|";

#[test]
fn a_unit_that_runs_takes_two_questions_to_systemd() {
    let place = Place::new();
    systemd(&place, std::process::id(), "active");
    assert_eq!(place.run(RESTART, &[]), "done|0 done|1 done|2");
    let asked: Vec<String> = place.log();
    assert_eq!(asked, ["systemctl restart a.service", "systemctl show -p MainPID,ActiveState,Job a.service"]);
}

#[test]
fn a_unit_in_its_start_limit_may_try_the_new_configuration() {
    let place = Place::new();
    systemd(&place, std::process::id(), "active");
    std::fs::write(place.path("limit"), "").unwrap();
    assert_eq!(place.run(RESTART, &[]), "done|0 done|1 done|2");
    assert!(place.log().contains(&"systemctl start a.service".to_owned()));
}

#[test]
fn a_unit_that_takes_long_to_stop_has_the_time_that_it_allows_itself() {
    let place = Place::new();
    let pid = std::process::id();
    let stops = place.path("stops");
    std::fs::write(&stops, "xx").unwrap();
    let stops = stops.display();
    // Each wait is over before it has stopped, twice; then it is active.
    place.stub(
        "timeout",
        &format!(
            "[ -s {stops} ] || exit 0; left=$(cat {stops}); printf %s \"${{left#x}}\" >{stops}; exit 124"
        ),
    );
    place.stub(
        "systemctl",
        &format!("case $* in *MainPID,*) printf 'MainPID={pid}\\nActiveState=active\\nJob=\\n' ;; *) echo deactivating ;; esac"),
    );
    assert_eq!(place.run(RESTART, &[]), "done|0 done|1 done|2");
    let waits: Vec<String> = place.log().into_iter().filter(|line| line.starts_with("timeout")).collect();
    let [first, others @ ..] = waits.as_slice() else { panic!("{waits:?}") };
    assert_eq!(first, "timeout 60 systemctl restart a.service");
    assert_eq!(others, ["timeout 60 systemctl start a.service"; 2]);
}

#[test]
fn a_unit_whose_process_died_in_its_first_moment_is_not_up() {
    let place = Place::new();
    let mut child = Command::new("/bin/sh").args(["-c", "sleep 0.1"]).spawn().unwrap();
    systemd(&place, child.id(), "active");
    // It has ended and nobody has asked for its end yet: systemd has the last word, and says what it is by then.
    let asked = |said: &str| -> usize {
        assert_eq!(place.run(RESTART, &[]), said);
        place.log().iter().filter(|line| line.contains("is-active")).count()
    };
    assert_eq!(asked("done|0 done|1 done|2"), 1);
    child.wait().unwrap();
    assert_eq!(asked("done|0 done|1 done|2"), 1);
    systemd(&place, child.id(), "failed");
    assert!(place.run(RESTART, &[]).starts_with("2: a.service does not stay up: it is failed\nits log"));
    assert!(!Path::new("/proc").join(child.id().to_string()).exists());
}

#[test]
fn a_unit_without_a_main_process_is_asked_of_systemd() {
    let place = Place::new();
    systemd(&place, 0, "active");
    assert_eq!(place.run(RESTART, &[]), "done|0 done|1 done|2");
    assert!(place.log().contains(&"systemctl is-active a.service".to_owned()));
}
