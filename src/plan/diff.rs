//! Diffs in the form that `git apply` takes, the same change on several hosts shown once.

use super::{FileDiff, HostFacts, Manifest, Stat};
use crate::service::File;
use similar::TextDiff;
use std::fmt::Write as _;

/// Lines around a change.
const CONTEXT_LINES: usize = 3;

/// A host sends no more of a file; what is cut has no hunks.
const CONTENT_BYTES: usize = 256 << 10;

/// What changes of a file, in content or mode; none where its owner alone does, which patches do not know.
pub(super) fn change(
    host: &str,
    file: &File,
    facts: &HostFacts,
    same_content: bool,
    drift: bool,
) -> Option<FileDiff> {
    let stat = facts.stats.get(&file.path);
    let old_mode = stat.and_then(mode_of);
    let mode = Some(format!("{:o}", file.mode));
    if same_content && (old_mode.is_none() || old_mode == mode) {
        return None;
    }
    let secret = !same_content && (file.secret || is_opaque(&file.content));
    let before = facts.contents.get(&file.path).filter(|_| old_mode.is_some());
    let hunks = if same_content || secret {
        String::new()
    } else {
        hunks(before.map_or("", String::as_str), &String::from_utf8_lossy(&file.content))
    };
    let (path, hosts) = (file.path.clone(), vec![host.to_owned()]);
    Some(FileDiff { path, hosts, new: stat.is_none(), drift, secret, old_mode, mode, hunks })
}

/// Files that go. Of what others than its owner may not read a host sends no content.
pub(super) fn removals(host: &str, facts: &HostFacts, wanted: &Manifest) -> Vec<FileDiff> {
    let removal = |path: &String| {
        let old_mode = Some(mode_of(facts.stats.get(path)?)?);
        let shown = |text: &&String| text.len() < CONTENT_BYTES && !is_opaque(text.as_bytes());
        let content = facts.contents.get(path).filter(shown);
        let (secret, hunks) = (content.is_none(), content.map_or_else(String::new, |text| hunks(text, "")));
        let (path, hosts) = (path.clone(), vec![host.to_owned()]);
        Some(FileDiff { path, hosts, new: false, drift: false, secret, old_mode, mode: None, hunks })
    };
    facts.manifest.files_without(wanted).filter_map(removal).collect()
}

/// What is no file is replaced, and has no patch of its own.
fn mode_of(stat: &Stat) -> Option<String> {
    stat.kind.starts_with("regular").then(|| stat.mode.clone())
}

/// Nobody reads the difference of two certificates.
fn is_opaque(content: &[u8]) -> bool {
    content.starts_with(b"-----BEGIN")
}

/// Hunks from one text to another.
fn hunks(before: &str, after: &str) -> String {
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
                && other.old_mode == diff.old_mode
                && other.mode == diff.mode
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
/// `whole`: of files that come and go too.
pub fn render_diffs(diffs: &[FileDiff], whole: bool) -> String {
    let shown = || diffs.iter().filter(|diff| whole || (!diff.new && diff.mode.is_some()));
    let mut text: String = shown().filter(|diff| !diff.drift).map(render).collect();
    if shown().any(|diff| diff.drift) {
        text.push_str("# Drift: somebody changed these on the hosts since aesop wrote them.\n\n");
        text.extend(shown().filter(|diff| diff.drift).map(render));
    }
    text
}

fn render(diff: &FileDiff) -> String {
    let mut text = String::new();
    let Some((first, others)) = diff.hosts.split_first() else { return text };
    if diff.secret {
        let kind = if diff.path.ends_with("crt") { "certificate" } else { "secret" };
        let what = match (&diff.mode, diff.new) {
            (None, _) => "removed and not shown".to_owned(),
            (Some(_), true) => format!("new {kind}"),
            (Some(_), false) => format!("{kind} changed"),
        };
        let _infallible = writeln!(text, "# {what}: {} on {}\n", diff.path, diff.hosts.join(", "));
        return text;
    }
    if !others.is_empty() {
        let _infallible = writeln!(text, "# the same on {}", others.join(", "));
    }
    let path = format!("{first}{}", diff.path);
    let _infallible = writeln!(text, "diff --git a/{path} b/{path}");
    let (mut before, mut after) = (format!("a/{path}"), format!("b/{path}"));
    let _infallible = match (&diff.old_mode, &diff.mode) {
        (None, Some(mode)) => {
            "/dev/null".clone_into(&mut before);
            writeln!(text, "new file mode {}", git_mode(mode))
        }
        (Some(mode), None) => {
            "/dev/null".clone_into(&mut after);
            writeln!(text, "deleted file mode {}", git_mode(mode))
        }
        (Some(old), Some(new)) if old != new => {
            writeln!(text, "old mode {}\nnew mode {}", git_mode(old), git_mode(new))
        }
        (Some(_), Some(_)) | (None, None) => Ok(()),
    };
    if diff.hunks.is_empty() {
        text.push('\n');
    } else {
        let _infallible = writeln!(text, "--- {before}\n+++ {after}\n{}", diff.hunks);
    }
    text
}

/// Of a regular file.
fn git_mode(mode: &str) -> String {
    format!("10{mode:0>4}")
}
