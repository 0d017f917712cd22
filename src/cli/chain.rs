//! Lines that each carry a hash of themselves and of the hash before: what is changed, put in or taken out later does
//! not fit what follows. A log that is cut off at its end, or written anew as a whole, still fits: copies elsewhere tell.

use crate::service::sha256;

/// The hash of a line behind the one with `before`, which is empty for the first.
pub(super) fn link(before: &str, line: &str) -> String {
    sha256(format!("{before}\n{line}\n").as_bytes())
}

/// A line of a log taken apart: what was written, and its hash; none where it is older than hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Linked<'a> {
    pub(super) line: &'a str,
    pub(super) hash: Option<&'a str>,
}

impl<'a> Linked<'a> {
    /// `… #<hash>`, as hosts write it.
    pub(super) fn of_host(text: &'a str) -> Self {
        Self::part(text, " #", "")
            .map_or(Self { line: text, hash: None }, |(line, hash)| Self { line, hash: Some(hash) })
    }

    pub(super) fn part(text: &'a str, before: &str, after: &str) -> Option<(&'a str, &'a str)> {
        let (line, hash) = text.strip_suffix(after)?.rsplit_once(before)?;
        (hash.len() == HASH_LENGTH && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .then_some((line, hash))
    }
}

/// Hexadecimal digits of a SHA-256.
const HASH_LENGTH: usize = 64;

/// The number, from 1, of the first line that does not fit what is above it. `whole`: the first line is the log's first.
pub(super) fn broken<'a>(lines: impl Iterator<Item = Linked<'a>>, whole: bool) -> Option<usize> {
    let mut before = whole.then_some("");
    for (index, Linked { line, hash }) in lines.enumerate() {
        match (before, hash) {
            // Behind a line with a hash each has one.
            (Some(before), None) if !before.is_empty() => return Some(index + 1),
            (_, None) => before = Some(""),
            (Some(before), Some(hash)) if link(before, line) != hash => return Some(index + 1),
            (_, Some(hash)) => before = Some(hash),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(lines: &[&str]) -> Vec<String> {
        let mut before = String::new();
        let mut link = |line: &&str| {
            before = link(&before, line);
            format!("{line} #{before}")
        };
        lines.iter().map(&mut link).collect()
    }

    fn first_broken(lines: &[String]) -> Option<usize> {
        broken(lines.iter().map(|line| Linked::of_host(line)), true)
    }

    #[test]
    fn every_change_inside_is_found() {
        let good = log(&["one", "two", "three", "four"]);
        assert_eq!(first_broken(&good), None);
        let mut changed = good.clone();
        changed[1] = changed[1].replace("two", "too");
        assert_eq!(first_broken(&changed), Some(2));
        let mut removed = good.clone();
        removed.remove(1);
        assert_eq!(first_broken(&removed), Some(2));
        let mut swapped = good.clone();
        swapped.swap(1, 2);
        assert_eq!(first_broken(&swapped), Some(2));
        let mut added = good.clone();
        added.insert(2, "three and a half".to_owned());
        assert_eq!(first_broken(&added), Some(3));
        let headless: Vec<String> = good.iter().skip(1).cloned().collect();
        assert_eq!(first_broken(&headless), Some(1));
        assert_eq!(broken(headless.iter().map(|line| Linked::of_host(line)), false), None);
    }

    #[test]
    fn lines_older_than_hashes_come_first() {
        let mut lines = vec!["old".to_owned()];
        lines.extend(log(&["one", "two"]));
        assert_eq!(first_broken(&lines), None);
    }
}
