//! Runs `aesop` as its user does: the built program, an inventory, no terminal.

use crate::cluster::Said;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

/// Runs `aesop` with an inventory.
pub(crate) fn aesop(inventory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_aesop"))
        .arg("-i")
        .arg(inventory)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("aesop runs")
}

/// Applies by `run`, which runs `aesop`; afterwards there is nothing left to do.
pub(crate) fn apply(run: impl Fn(&[&str]) -> (Option<i32>, Said)) -> Said {
    let started = Instant::now();
    let (code, said) = run(&["apply", "--yes"]);
    assert_eq!(code, Some(0), "apply:\n{}\n{}", said.stdout, said.stderr);
    let (code, plan) = run(&["plan", "--exit-code"]);
    assert_eq!(code, Some(0), "a second plan is empty:\n{}\n{}", plan.stdout, plan.stderr);
    eprintln!("    applied in {:.0} s", started.elapsed().as_secs_f64());
    said
}

/// A program, its arguments still to be given, with a folder in place of the user's `~/.ssh`, which only this process
/// sees so.
pub(crate) fn with_ssh(folder: &Path, program: &str) -> Command {
    let home = std::env::home_dir().expect("a home").join(".ssh");
    fs::create_dir_all(&home).expect("~/.ssh");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-c", r#"mount --bind "$1" "$2" && shift 2 && exec "$@""#, "-"])
        .arg(folder)
        .arg(home)
        .arg(program)
        .stdin(Stdio::null());
    command
}
