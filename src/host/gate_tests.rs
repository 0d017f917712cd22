//! The waiting of `execute.sh`, with stubs for what it calls and a clock of its own.

use super::EXECUTE;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::path::Path;
use std::process::Command;

/// What each call of `aesop ready` says and ends with, the last one again and again; whether a process runs at the first
/// look, the second, and so on.
struct Case {
    answers: &'static [(&'static str, i32)],
    /// Fields behind the test: patience and `down`.
    rest: &'static str,
    pids: &'static [u32],
}

/// How it ended, in words; the notes; how many seconds went by.
fn gate(case: &Case) -> (String, Vec<String>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let stub = |name: &str, text: String| {
        std::fs::write(path(name), format!("#!/bin/sh\n{text}\n")).unwrap();
        let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o755);
        std::fs::set_permissions(path(name), mode).unwrap();
    };
    let lines = |file: &str, all: Vec<String>| std::fs::write(path(file), all.join("\n") + "\n").unwrap();
    // The n-th call has the n-th line, the last line stands for all that follow.
    let pick = |file: &str| {
        let (all, count) = (path(file), path(&format!("{file}.count")));
        format!(
            "echo >>{count}; n=$(wc -l <{count}); most=$(wc -l <{all}); [ \"$n\" -le \"$most\" ] || n=$most\nline=$(sed -n \"${{n}}p\" {all})"
        )
    };
    lines("answers", case.answers.iter().map(|(said, code)| format!("{code} {said}")).collect());
    lines("pids", case.pids.iter().map(u32::to_string).collect());
    // Each try takes 50 s by its clock.
    std::fs::write(path("clock"), "1000").unwrap();
    let clock = path("clock");
    stub("date", format!("cat {clock}"));
    stub("journalctl", "echo its log".to_owned());
    stub(
        "aesop",
        format!(
            "echo $(($(cat {clock}) + 50)) >{clock}.new; mv {clock}.new {clock}\n{}\necho \"${{line#* }}\" >&2; exit ${{line%% *}}",
            pick("answers")
        ),
    );
    stub(
        "systemctl",
        format!(
            "case $* in *MainPID*) {}; echo $line ;; *NRestarts*) echo 0 ;; *ActiveState*) echo active ;; esac",
            pick("pids")
        ),
    );
    let script = EXECUTE
        .replace("/opt/aesop/bin/aesop", &path("aesop"))
        .replace("PATH=/usr/local/sbin", &format!("PATH={}:/usr/local/sbin", folder.path().display()));
    assert_ne!(script, EXECUTE);
    let steps = format!("gate|aesop-kafka.service|180|kafka --x|{}\n", case.rest);
    let output = Command::new("/bin/sh").args(["-c", &script]).env("I", steps).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let decoded = |text: &str| String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
    let notes = text.lines().filter_map(|line| line.strip_prefix("note|0|")).map(decoded).collect();
    let end = text.lines().find(|line| !line.starts_with("note|")).unwrap_or_default();
    let end = end
        .strip_prefix("failed|0|")
        .map_or_else(|| end.to_owned(), |why| format!("failed: {}", decoded(why)));
    let now: u64 = std::fs::read_to_string(Path::new(&clock)).unwrap().trim().parse().unwrap();
    (end, notes, now - 1000)
}

const RUNS: &[u32] = &[7];

#[test]
fn what_is_ready_passes_and_what_is_not_fails_in_time() {
    let (end, notes, secs) = gate(&Case { answers: &[("not yet", 1), ("", 0)], rest: "0|", pids: RUNS });
    assert_eq!((end.as_str(), notes.len(), secs), ("done|0", 0, 100));
    let (end, notes, secs) = gate(&Case { answers: &[("not yet", 1)], rest: "0|", pids: RUNS });
    assert_eq!((end.as_str(), notes.len(), secs), ("failed: not yet\nits log", 0, 200));
}

#[test]
fn what_gets_on_is_waited_for_and_says_so_each_minute() {
    let answers: &[(&str, i32)] = &[
        ("error: 9 left", 4),
        ("error: 8 left", 4),
        ("error: 7 left", 4),
        ("error: 6 left", 4),
        ("error: 5 left", 4),
        ("", 0),
    ];
    let (end, notes, secs) = gate(&Case { answers, rest: "86400|", pids: RUNS });
    assert_eq!((end.as_str(), secs), ("done|0", 300));
    assert_eq!(notes, ["9 left", "7 left", "5 left"]);
}

#[test]
fn what_gets_on_no_more_fails_in_time_from_then() {
    let answers = &[("error: 9 left", 4), ("error: 8 left", 4)];
    let (end, _, secs) = gate(&Case { answers, rest: "86400|", pids: RUNS });
    assert_eq!((end.as_str(), secs), ("failed: error: 8 left\nits log", 300));
    // Nor is anything waited for without end, or where nobody said that it may take long.
    let answers: Vec<(&str, i32)> =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|said| (said, 4)).to_vec();
    let answers: &'static [(&str, i32)] = answers.leak();
    let (end, _, secs) = gate(&Case { answers, rest: "300|", pids: RUNS });
    assert!(end.starts_with("failed: ") && secs == 450, "{end} {secs}");
    let (end, notes, secs) = gate(&Case { answers, rest: "0|", pids: RUNS });
    assert!(end.starts_with("failed: ") && notes.is_empty() && secs == 200, "{end} {secs}");
}

#[test]
fn what_does_not_run_need_not_ask_whether_it_may_stop() {
    let answers = &[("it must not stop now", 1)];
    let (end, _, secs) = gate(&Case { answers, rest: "0|down", pids: &[7, 7, 0] });
    assert_eq!((end.as_str(), secs), ("done|0", 100));
    let (end, ..) = gate(&Case { answers, rest: "0|down", pids: RUNS });
    assert_eq!(end, "failed: it must not stop now\nits log");
    let (end, ..) = gate(&Case { answers, rest: "0|", pids: &[0] });
    assert_eq!(end, "failed: it must not stop now\nits log");
}
