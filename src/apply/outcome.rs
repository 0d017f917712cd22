//! What a call did, read from the lines that the host sent back.

use crate::host::{HostError, Output};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What a call did on a host.
pub(super) struct Outcome {
    /// Steps done.
    pub(super) done: usize,
    pub(super) failure: Option<(usize, String)>,
    /// The host itself is in trouble, not one of its services.
    pub(super) lost: bool,
}

impl Outcome {
    pub(super) fn lost(error: String) -> Self {
        Self { done: 0, failure: Some((0, error)), lost: true }
    }
}

/// The step that failed.
pub(super) struct Failed {
    pub(super) words: String,
    pub(super) only_not_ready: bool,
}

impl Failed {
    pub(super) fn hard(words: &str) -> Self {
        Self { words: words.to_owned(), only_not_ready: false }
    }
}

pub(super) fn outcome(
    host: &str,
    ends: &[Option<usize>],
    steps: usize,
    output: Result<Output, HostError>,
) -> Outcome {
    let output = match output {
        Ok(output) => output,
        Err(error) => return Outcome::lost(error.to_string()),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut lines_done, mut failure) = (0, None);
    for line in text.lines() {
        match line.split_once('|') {
            Some(("done", number)) => lines_done = number.parse::<usize>().map_or(lines_done, |n| n + 1),
            Some(("failed", rest)) => failure = rest.split_once('|').map(|(_, detail)| decode(detail)),
            _ => {}
        }
    }
    let done = ends.iter().take(lines_done).filter_map(|end| *end).max().map_or(0, |last| last + 1);
    if lines_done == ends.len() && output.status == Some(0) {
        return Outcome { done: steps, failure: None, lost: false };
    }
    // Files that are written aside end with their commit; the line tells which one it was.
    let at = ends.iter().skip(lines_done).find_map(|end| *end).unwrap_or(done);
    let lost = failure.is_none();
    let detail = failure.unwrap_or_else(|| {
        let said = output.stderr.trim();
        format!("the host stopped answering in the middle{}{said}", if said.is_empty() { "" } else { ": " })
    });
    Outcome { done, failure: Some((at, format!("{host}: {detail}"))), lost }
}

pub(super) fn decode(base64: &str) -> String {
    STANDARD
        .decode(base64.trim())
        .map_or_else(|_| base64.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}
