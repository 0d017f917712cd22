//! Golden cases: every folder below tests/cases is one run of the real binary.
//!
//! `cmd` holds the command line, one a line; a line may begin with `NAME=value` words. All other files but
//! `stdout`, `stderr` and `code` are copied into an empty folder, where the commands run one after the other until
//! one fails. Their output together must be `stdout` and `stderr`, the exit code of the last `code`; a file that is
//! missing means empty, or 0. A file `after/<path>` is compared with what the commands left at that path.
//! `UPDATE_EXPECT=1` writes them anew. To add a case, add files.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const EXPECTED: [&str; 3] = ["stdout", "stderr", "code"];
const AFTER: &str = "after";

#[test]
fn cases() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let failures = check_all(&root, std::env::var_os("UPDATE_EXPECT").is_some());
    assert!(failures.is_empty(), "{}\nUPDATE_EXPECT=1 accepts the output", failures.join("\n"));
}

/// A case that expects what does not happen fails, and so do an empty and a misspelt one.
#[test]
fn a_wrong_case_fails() {
    let root = tempfile::tempdir().unwrap();
    let case = |name: &str, files: &[(&str, &str)]| {
        for (file, text) in files {
            let path = root.path().join(name).join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    };
    case("wrong-code", &[("cmd", "aesop check -i none.yml\n"), ("code", "0\n")]);
    case("wrong-stdout", &[("cmd", "aesop completions bash"), ("stdout", "nothing\n")]);
    case("wrong-program", &[("cmd", "cat /etc/passwd")]);
    case("wrong-after", &[("cmd", "aesop completions bash"), ("after/file", "text")]);
    fs::create_dir_all(root.path().join("without-command")).unwrap();
    let failures = check_all(root.path(), false);
    assert_eq!(failures.len(), 5, "{failures:#?}");
}

fn check_all(root: &Path, update: bool) -> Vec<String> {
    let mut names: Vec<PathBuf> = fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    assert!(!names.is_empty(), "no cases in {}", root.display());
    let mut failures = Vec::new();
    for case in names {
        if let Err(failure) = check(&case, update) {
            failures.push(format!("--- {}\n{failure}", case.file_name().unwrap().to_string_lossy()));
        }
    }
    failures
}

fn check(case: &Path, update: bool) -> Result<(), String> {
    let script = fs::read_to_string(case.join("cmd")).map_err(|error| format!("cmd: {error}"))?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    copy(case, folder.path(), true);
    let mut actual = [String::new(), String::new(), "0\n".to_owned()];
    for line in script.lines().filter(|line| !line.trim().is_empty()) {
        let code = run(line, folder.path(), &mut actual)?;
        actual[2] = format!("{code}\n");
        if code != 0 {
            break;
        }
    }
    let mut failure = String::new();
    for (name, text) in EXPECTED.iter().zip(&actual) {
        let default = if *name == "code" { "0\n" } else { "" };
        compare(&case.join(name), name, text, default, update, &mut failure);
    }
    for (relative, path) in files(&case.join(AFTER)) {
        let text =
            fs::read_to_string(folder.path().join(&relative)).unwrap_or_else(|error| format!("({error})"));
        compare(&path, &relative.to_string_lossy(), &text, "", update, &mut failure);
    }
    if failure.is_empty() { Ok(()) } else { Err(failure) }
}

fn compare(file: &Path, name: &str, actual: &str, default: &str, update: bool, failure: &mut String) {
    let expected = fs::read_to_string(file).unwrap_or_else(|_| default.to_owned());
    if expected == actual {
        return;
    }
    if !update {
        writeln!(failure, "{name}, expected:\n{expected}{name}, actual:\n{actual}").unwrap();
    } else if actual == default && name != AFTER {
        fs::remove_file(file).unwrap();
    } else {
        fs::write(file, actual).unwrap();
    }
}

fn run(line: &str, folder: &Path, output: &mut [String; 3]) -> Result<i32, String> {
    let words = split(line);
    let settings = words.iter().take_while(|word| word.contains('=')).count();
    let (settings, words) = words.split_at(settings);
    let Some((program, arguments)) = words.split_first() else { return Err(format!("no command: {line}")) };
    if program != "aesop" {
        return Err(format!("a case runs aesop, not {program}"));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_aesop"));
    command.args(arguments).current_dir(folder).env_clear().env("HOME", folder).env("COLUMNS", "100");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(settings.iter().filter_map(|setting| setting.split_once('=')));
    let result = command.output().map_err(|error| error.to_string())?;
    let shown = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes)
            .replace(&*folder.to_string_lossy(), "[DIR]")
            .replace(env!("CARGO_PKG_VERSION"), "[VERSION]")
    };
    output[0].push_str(&shown(&result.stdout));
    output[1].push_str(&shown(&result.stderr));
    result.status.code().ok_or_else(|| format!("killed: {}", result.status))
}

/// Words, with single and double quotes.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in line.trim().chars() {
        match (quote, c) {
            (Some(q), c) if q == c => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ' ') if !word.is_empty() => words.push(std::mem::take(&mut word)),
            (None, ' ') => {}
            (_, c) => word.push(c),
        }
    }
    words.push(word);
    words
}

/// All files below `folder` with their paths relative to it.
fn files(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = PathBuf::from(path.file_name().unwrap());
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(relative, path)| (name.join(relative), path)));
        } else {
            found.push((name, path));
        }
    }
    found.sort();
    found
}

fn copy(case: &Path, to: &Path, top: bool) {
    for (relative, path) in files(case) {
        let first = relative.iter().next().unwrap().to_string_lossy();
        if top && (first == "cmd" || first == AFTER || EXPECTED.contains(&&*first)) {
            continue;
        }
        let target = to.join(&relative);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, &target).unwrap();
        // Version control keeps no modes, and secrets that others can read are refused.
        if relative.iter().any(|part| part.to_string_lossy().ends_with(".secrets")) {
            fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
        }
    }
}
