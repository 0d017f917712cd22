//! What stderr is told while `tail` reads.

use super::PROGRESS_EVERY;
use crate::mysql::{State, StatusCell, snapshot};
use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// What stderr is told while reading goes on.
pub(super) enum Progress {
    /// No terminal: nothing but the log.
    None,
    /// One line, written over the last one, and when it was written for a snapshot.
    Line(Option<Instant>),
    /// Rows come on the same terminal: a line where the state is another than this one.
    States(Option<&'static str>),
}

impl Progress {
    /// As the terminals are; sets up the log too, which says what goes wrong.
    pub(super) fn here(writes_to_stdout: bool) -> Self {
        let rows_on_terminal = writes_to_stdout && std::io::stdout().is_terminal();
        let progress = match (std::io::stderr().is_terminal(), rows_on_terminal) {
            (false, _) => Self::None,
            (true, false) => Self::Line(None),
            (true, true) => Self::States(None),
        };
        if matches!(progress, Self::Line(_)) {
            crate::telemetry::init_logs_over_progress("warn");
        } else {
            crate::telemetry::init_logs("warn");
        }
        progress
    }

    pub(super) fn show(&mut self, status: &StatusCell) {
        let s = status.get();
        let state = match s.state {
            State::Connecting => "connecting",
            State::Streaming if s.caught_up => "caught up",
            State::Streaming => "reading",
            State::Stopped => "stopped",
        };
        let line = match self {
            Self::None => return,
            Self::States(said) if *said == Some(state) => return,
            Self::States(said) => {
                *said = Some(state);
                format!("{state}\n")
            }
            Self::Line(_) => {
                let error = s.last_error.map(|e| format!(" · {e}")).unwrap_or_default();
                format!(
                    "\r\x1b[K{state} · {} transactions · {} rows · {} MiB · {}:{}{error}",
                    s.transactions_total,
                    s.rows_total,
                    s.bytes_read_total >> 20,
                    s.file_name,
                    s.end_offset
                )
            }
        };
        // Who cannot be told misses nothing else.
        drop(std::io::stderr().write_all(line.as_bytes()));
    }

    /// As [`Progress::show`], of a snapshot.
    pub(super) fn show_snapshot(&mut self, now: &snapshot::Progress) {
        let (tables, read) = now.tables;
        let line = match self {
            Self::None => return,
            Self::States(said) if *said == Some("snapshot") => return,
            Self::States(said) => {
                *said = Some("snapshot");
                "reading a snapshot\n".to_owned()
            }
            Self::Line(Some(at)) if at.elapsed() < PROGRESS_EVERY && read < tables => return,
            Self::Line(told) => {
                *told = Some(Instant::now());
                format!("\r\x1b[Ksnapshot · {read} of {tables} tables · {} · {} rows", now.table, now.rows)
            }
        };
        drop(std::io::stderr().write_all(line.as_bytes()));
    }

    pub(super) fn end(&mut self, status: &StatusCell) {
        self.show(status);
        if matches!(self, Self::Line(_)) {
            drop(std::io::stderr().write_all(b"\n"));
        }
    }
}
