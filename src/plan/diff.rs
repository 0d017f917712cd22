//! Diffs in the form that `git apply` takes, the same change on several hosts shown once.

use super::FileDiff;
use similar::TextDiff;
use std::fmt::Write as _;

/// Lines around a change.
const CONTEXT_LINES: usize = 3;

/// Hunks from one text to another.
pub(super) fn hunks(before: &str, after: &str) -> String {
    TextDiff::from_lines(before, after).unified_diff().context_radius(CONTEXT_LINES).to_string()
}

/// Joins equal changes of several hosts.
pub(super) fn group(diffs: Vec<FileDiff>) -> Vec<FileDiff> {
    let mut grouped: Vec<FileDiff> = Vec::new();
    for diff in diffs {
        let same = grouped.iter_mut().find(|other| {
            other.path == diff.path
                && changes(&other.hunks).eq(changes(&diff.hunks))
                && other.drift == diff.drift
                && other.secret == diff.secret
                && other.new == diff.new
        });
        match same {
            Some(other) => other.hosts.extend(diff.hosts),
            None => grouped.push(diff),
        }
    }
    grouped
}

/// The lines of hunks that change something, and where. What stands around them may differ from host to host: an id,
/// an address.
fn changes(hunks: &str) -> impl Iterator<Item = &str> {
    hunks.lines().filter(|line| !line.starts_with(' '))
}

/// The diffs as text, drift last. What is not part of a patch stands between them, where `git apply` passes over it.
pub fn render_diffs(diffs: &[FileDiff], with_new: bool) -> String {
    let shown = || diffs.iter().filter(|diff| with_new || !diff.new);
    let mut text: String = shown().filter(|diff| !diff.drift).map(render).collect();
    if shown().any(|diff| diff.drift) {
        text.push_str("# Drift: somebody changed these on the hosts since aesop wrote them.\n\n");
        text.extend(shown().filter(|diff| diff.drift).map(render));
    }
    text
}

fn render(diff: &FileDiff) -> String {
    let mut text = String::new();
    {
        let Some((first, others)) = diff.hosts.split_first() else { return text };
        if diff.secret {
            let kind = if diff.path.ends_with("crt") { "certificate" } else { "secret" };
            let what = if diff.new { format!("new {kind}") } else { format!("{kind} changed") };
            let _infallible = writeln!(text, "# {what}: {} on {}\n", diff.path, diff.hosts.join(", "));
            return text;
        }
        if !others.is_empty() {
            let _infallible = writeln!(text, "# the same on {}", others.join(", "));
        }
        let path = format!("{first}{}", diff.path);
        let _infallible = writeln!(text, "diff --git a/{path} b/{path}");
        let before = if diff.new {
            text.push_str("new file mode 100644\n");
            "/dev/null".to_owned()
        } else {
            format!("a/{path}")
        };
        if !diff.hunks.is_empty() {
            let _infallible = writeln!(text, "--- {before}\n+++ b/{path}\n{}", diff.hunks);
        }
    }
    text
}
