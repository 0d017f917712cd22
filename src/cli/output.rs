//! Printing. Data goes to stdout, everything else to stderr.

use super::{Format, Globals, diagnostic};
use serde::Serialize;
use std::fmt::Display;
use std::io::{IsTerminal, Write};

/// Stdout could not be written: whoever read it went away, or the disk behind it is full.
#[derive(Debug, thiserror::Error)]
#[error("stdout was closed")]
pub struct Closed;

/// The terminal, or what stands in for it.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    format: Format,
    color: bool,
    color_stderr: bool,
}

impl Output {
    pub(super) fn new(globals: &Globals) -> Self {
        Self {
            format: globals.format,
            color: globals.color.enabled(std::io::stdout().is_terminal()),
            color_stderr: globals.color.enabled(std::io::stderr().is_terminal()),
        }
    }

    /// Whether `--format json` was given.
    pub fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Whether stdout takes colours. Colour is never the only sign.
    pub fn color(self) -> bool {
        self.color
    }

    /// A line of data, or several.
    pub fn data(self, text: impl Display) -> anyhow::Result<()> {
        self.raw(format_args!("{text}\n"))
    }

    /// Data without a final newline.
    pub fn raw(self, text: impl Display) -> anyhow::Result<()> {
        let mut stdout = std::io::stdout().lock();
        match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Err(Closed.into()),
            Err(error) => Err(anyhow::Error::new(error).context("cannot write to stdout")),
            Ok(()) => Ok(()),
        }
    }

    /// A value as JSON on stdout.
    pub fn json(self, value: &impl Serialize) -> anyhow::Result<()> {
        self.data(serde_json::to_string_pretty(value)?)
    }

    /// One of many values, each on a line of its own.
    pub fn json_line(self, value: &impl Serialize) -> anyhow::Result<()> {
        self.data(serde_json::to_string(value)?)
    }

    /// A line for people on stderr.
    pub fn note(self, text: impl Display) {
        // Nothing is left to tell it to when stderr is gone.
        let _closed = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// An error with its causes, on stderr.
    pub fn error(self, error: &anyhow::Error) {
        self.note(diagnostic::render(error, self.color_stderr));
    }

    /// A warning on stderr.
    pub fn warning(self, text: impl Display) {
        self.note(diagnostic::label("warning", text, self.color_stderr));
    }
}
