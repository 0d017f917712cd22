//! `aesop-relay tail`, the program, on a server.

use crate::server::Server;
use std::process::Command;

/// The place where the server's binlog ends now, as `--from` takes it.
pub(crate) async fn end_of_binlog(server: &Server) -> String {
    let (file, offset) = server.end().await;
    let number: u64 = file.rsplit_once('.').unwrap().1.parse().unwrap();
    (number << 32 | offset).to_string()
}

/// Everything from `from` on up to now, one message a line. Panics with the program's words when it fails.
pub(crate) fn lines(server: &Server, from: &str, tables: &str) -> Vec<String> {
    match try_lines(&server.url(), &["--from", from, "--tables", tables]) {
        Ok(lines) => lines,
        Err(error) => panic!("{error}"),
    }
}

/// As [`lines`], with the program's own words when it fails.
pub(crate) fn try_lines(url: &str, args: &[&str]) -> Result<Vec<String>, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_aesop-relay"))
        .args(["tail", url, "--until-caught-up"])
        .args(args)
        .output()
        .expect("aesop-relay runs");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = String::from_utf8(output.stdout).expect("messages are UTF-8");
    Ok(text.lines().map(str::to_owned).collect())
}
