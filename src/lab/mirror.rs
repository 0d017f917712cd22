//! The archives that systems are installed from: those this machine is set up to use.

use super::{LabError, Result};
use std::fs;
use std::path::Path;

/// Whose packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Archive {
    Debian,
    Ubuntu,
}

impl Archive {
    /// Overrides what apt's sources say.
    fn variable(self) -> &'static str {
        match self {
            Self::Debian => "AESOP_LAB_MIRROR",
            Self::Ubuntu => "AESOP_LAB_UBUNTU_MIRROR",
        }
    }

    /// Suites that tell it from others.
    fn suites(self) -> &'static [&'static str] {
        match self {
            Self::Debian => &[
                "stable",
                "testing",
                "unstable",
                "sid",
                "bullseye",
                "bookworm",
                "trixie",
                "forky",
                "oldstable",
            ],
            Self::Ubuntu => &["jammy", "noble", "plucky", "questing", "resolute"],
        }
    }
}

/// The address of an archive: what the variable says, or the first one in `/etc/apt`.
pub(super) fn archive(archive: Archive) -> Result<String> {
    let variable = archive.variable();
    if let Ok(mirror) = std::env::var(variable) {
        return Ok(mirror);
    }
    let found = source_files().iter().find_map(|text| find(text, archive.suites()));
    found.ok_or_else(|| {
        LabError::Unsupported(format!(
            "no {archive:?} archive in /etc/apt/sources.list or /etc/apt/sources.list.d; set {variable} to the address of a mirror"
        ))
    })
}

fn source_files() -> Vec<String> {
    let apt = Path::new("/etc/apt");
    let listed = fs::read_dir(apt.join("sources.list.d")).into_iter().flatten().flatten();
    let mut paths: Vec<_> = listed.map(|entry| entry.path()).collect();
    paths.sort();
    paths.insert(0, apt.join("sources.list"));
    paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// The first archive with such suites in a file of either form: `deb address suite …` or `URIs:` with `Suites:`.
fn find(text: &str, suites: &[&str]) -> Option<String> {
    let one_line = text.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| word.starts_with('['));
        let kind = words.next()?;
        let mut words =
            words.skip_while(|word| word.starts_with('[') || word.ends_with(']') || word.contains('='));
        let (address, suite) = (words.next()?, words.next()?);
        (kind == "deb" && suites.contains(&suite) && usable(address)).then(|| address.to_owned())
    });
    one_line.or_else(|| text.split("\n\n").find_map(|stanza| find_stanza(stanza, suites)))
}

fn find_stanza(stanza: &str, suites: &[&str]) -> Option<String> {
    let field = |name: &str| {
        stanza.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    let enabled = field("Enabled").is_none_or(|value| value != "no");
    let theirs = field("Suites")?.split_whitespace().any(|suite| suites.contains(&suite));
    let address = field("URIs")?.split_whitespace().find(|address| usable(address))?;
    (enabled && theirs).then(|| address.to_owned())
}

fn usable(address: &str) -> bool {
    ["http://", "https://", "file:/"].iter().any(|scheme| address.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_sources_are_read() {
        let find = |text| find(text, Archive::Debian.suites());
        let ubuntu = "deb http://archive.example/ubuntu noble main\n";
        assert_eq!(
            super::find(ubuntu, Archive::Ubuntu.suites()).as_deref(),
            Some("http://archive.example/ubuntu")
        );
        assert_eq!(find(ubuntu), None);
        let deb822 = "Types: deb\n# note\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\nTypes: deb\nURIs: http://mirror.example/security\nSuites: bookworm-security\n";
        assert_eq!(find(deb822).as_deref(), Some("http://mirror.example/debian"));
        let other_first = "Types: deb\nURIs: https://tools.example/apt\nSuites: nodistro\n\nTypes: deb\nURIs: file:/srv/debian\nSuites: trixie\n";
        assert_eq!(find(other_first).as_deref(), Some("file:/srv/debian"));
        let lines = "# deb http://old.example/debian bookworm main\ndeb-src http://src.example/debian sid main\ndeb [arch=amd64 signed-by=/k.gpg] https://mirror.example/debian bookworm main\n";
        assert_eq!(find(lines).as_deref(), Some("https://mirror.example/debian"));
        assert_eq!(find("Types: deb\nURIs: http://m.example/d\nSuites: sid\nEnabled: no\n"), None);
    }
}
