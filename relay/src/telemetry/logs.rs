//! Logs of the two programs, to stderr: journald adds the time.

use std::io::{Stderr, Write as _};
use tracing_subscriber::EnvFilter;

/// The filter, in tracing's syntax: `info`, `relay=debug`.
const FILTER: &str = "AESOP_LOG";
/// `text` or `json`.
const FORMAT: &str = "AESOP_LOG_FORMAT";

/// Sets up logging once, by `AESOP_LOG` and `AESOP_LOG_FORMAT`, or `default_filter` as text.
pub fn init(default_filter: &str) {
    init_at(default_filter, std::io::stderr);
}

/// As [`init`], where a line of progress stands on the terminal: lines of the log are written over it.
pub fn init_over_progress(default_filter: &str) {
    init_at(default_filter, || {
        let mut stderr = std::io::stderr();
        // What cannot be written is not missed.
        drop(stderr.write_all(b"\r\x1b[K"));
        stderr
    });
}

fn init_at(default_filter: &str, place: fn() -> Stderr) {
    let filter = EnvFilter::try_from_env(FILTER).unwrap_or_else(|_| EnvFilter::new(default_filter));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(place);
    let json = std::env::var(FORMAT).is_ok_and(|format| format == "json");
    // A second call, as in a test, leaves the first one's.
    let set = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init()
    };
    if let Err(error) = set {
        tracing::debug!(%error, "logging was set up before");
    }
}
