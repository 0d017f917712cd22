//! The lists of jars that are part of the program.

use super::ArtifactError;
use crate::service::{ServiceError, sha256};

/// Names and lists. A new version is a new line here and a new file.
const LISTS: &[(&str, &str)] = &[
    ("kafka-3.9.0", include_str!("pinned/kafka-3.9.0.txt")),
    ("kafka-3.9.1", include_str!("pinned/kafka-3.9.1.txt")),
    ("kafka-4.1.1", include_str!("pinned/kafka-4.1.1.txt")),
    ("kafka-4.2.0", include_str!("pinned/kafka-4.2.0.txt")),
    ("zookeeper-3.9.3", include_str!("pinned/zookeeper-3.9.3.txt")),
    ("zookeeper-3.9.4", include_str!("pinned/zookeeper-3.9.4.txt")),
    ("jolokia-2.6.0", include_str!("pinned/jolokia-2.6.0.txt")),
];
/// The first characters of a hash are unique enough for a folder's name, and short enough to read.
const ID_CHARACTERS: usize = 24;

/// A jar by its Maven coordinates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jar {
    /// Group.
    pub group: String,
    /// Artifact.
    pub artifact: String,
    /// Version.
    pub version: String,
    /// Classifier.
    pub classifier: Option<String>,
    /// SHA-512.
    pub sha512: String,
}

impl Jar {
    /// Its file name.
    pub fn file(&self) -> String {
        let classifier = self.classifier.as_ref().map(|text| format!("-{text}")).unwrap_or_default();
        format!("{}-{}{classifier}.jar", self.artifact, self.version)
    }
}

/// Versions of `kafka` or `zookeeper` that can be installed.
pub fn known_versions(service: &str) -> Vec<&'static str> {
    LISTS.iter().filter_map(|(name, _)| name.strip_prefix(service)?.strip_prefix('-')).collect()
}

/// The jars of an artifact; none where it is one of aesop's own binaries.
pub(super) fn set(name: &str) -> Result<Option<Vec<Jar>>, ArtifactError> {
    if name.starts_with("aesop") {
        return Ok(None);
    }
    if let Some((_, list)) = LISTS.iter().find(|(known, _)| *known == name) {
        return Ok(Some(parse(list)));
    }
    let (service, version) = name.split_once('-').unwrap_or((name, ""));
    Err(ArtifactError::Version(ServiceError::Version {
        name: if service == "kafka" { "kafka" } else { "zookeeper" },
        version: version.to_owned(),
        known: known_versions(service).join(", "),
    }))
}

fn parse(list: &str) -> Vec<Jar> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (coordinates, sha512) = line.split_once(' ')?;
            let mut fields = coordinates.split(':').map(str::to_owned);
            Some(Jar {
                group: fields.next()?,
                artifact: fields.next()?,
                version: fields.next()?,
                classifier: fields.next(),
                sha512: sha512.to_owned(),
            })
        })
        .collect()
}

/// The id of a set: its name and the hash of all that is in it.
pub(super) fn id(name: &str, jars: &[Jar]) -> String {
    let lines: Vec<String> = jars.iter().map(|jar| format!("{} {}\n", jar.file(), jar.sha512)).collect();
    short(name, &sha256(lines.concat().as_bytes()))
}

pub(super) fn short(name: &str, hash: &str) -> String {
    format!("{name}-{}", hash.get(..ID_CHARACTERS).unwrap_or(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_every_list_is_a_jar_with_a_checksum() {
        for (name, list) in LISTS {
            let jars = parse(list);
            assert_eq!(jars.len(), list.lines().filter(|line| !line.starts_with('#')).count(), "{name}");
            let mut files: Vec<String> = jars.iter().map(Jar::file).collect();
            files.sort();
            files.dedup();
            assert_eq!(files.len(), jars.len(), "{name} has a file twice");
            for jar in jars {
                assert_eq!(jar.sha512.len(), 128, "{}", jar.file());
            }
        }
    }

    #[test]
    fn an_unknown_version_names_those_that_are_known() {
        let error = set("kafka-9.9.9").unwrap_err().to_string();
        assert_eq!(
            error,
            "kafka 9.9.9 is not among the versions that aesop can install (3.9.0, 3.9.1, 4.1.1, 4.2.0)"
        );
    }
}
