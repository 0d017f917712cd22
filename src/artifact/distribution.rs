//! Projects' own archives (`kafka_2.13-….tgz`, `apache-zookeeper-…-bin.tar.gz`): of one its jars are taken, so that it
//! lies on hosts as the jars from Maven do.

use super::{ArtifactError, Piece, Told, io, own, pinned, sha512};
use crate::inventory::model::FileOrigin;
use crate::service::sha256;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

/// How archives are taken apart. Another way makes other artifacts of the same archive.
const WAY: &str = "jars 1";
/// What an archive may unpack to: no project's is a tenth of it.
const UNPACKED_BYTES_MAX: u64 = 4 << 30;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// What it is called by content.
pub(super) fn id(cache: &Path, name: &str, archive: &FileOrigin) -> Result<String, ArtifactError> {
    Ok(called(name, &own::sum(cache, archive)?))
}

/// The same, where that is known without the archive.
pub(super) fn expected(name: &str, archive: &FileOrigin) -> Option<String> {
    Some(called(name, own::given_sum(archive)?))
}

fn called(name: &str, sum: &str) -> String {
    pinned::short(name, &sha256(format!("{WAY} {sum}").as_bytes()))
}

/// Gets its jars.
pub(super) fn fetch(
    cache: &Path,
    service: &'static str,
    version: &str,
    archive: &FileOrigin,
    told: Told<'_>,
) -> Result<Vec<Piece>, ArtifactError> {
    let name = format!("{service}-{version}.tar");
    let (file, sum) = own::get(cache, archive, &name, told)?;
    let unpacked = cache.join("unpacked");
    let folder = unpacked.join(called(&format!("{service}-{version}"), &sum));
    if !folder.is_dir() {
        std::fs::create_dir_all(&unpacked).map_err(io("cannot make", &unpacked))?;
        let aside = tempfile::tempdir_in(&unpacked).map_err(io("cannot make a folder in", &unpacked))?;
        let failed = |detail| ArtifactError::Distribution {
            file: file.clone(),
            service,
            version: version.to_owned(),
            detail,
        };
        let from = folder_of_jars(&file, service, version).map_err(failed)?;
        unpack(&file, &from, aside.path()).map_err(failed)?;
        std::fs::rename(aside.path(), &folder).map_err(io("cannot write", &folder))?;
    }
    pieces(&folder)
}

fn pieces(folder: &Path) -> Result<Vec<Piece>, ArtifactError> {
    let entries = std::fs::read_dir(folder).map_err(io("cannot read", folder))?;
    let mut pieces = Vec::new();
    for entry in entries {
        let path = entry.map_err(io("cannot read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = path.metadata().map_err(io("cannot read", &path))?.len();
        pieces.push(Piece { name, sha512: sha512(&path)?, path, bytes, executable: false });
    }
    pieces.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(pieces)
}

/// The folder in an archive that has the service's own jar: all that it needs is beside it.
fn folder_of_jars(file: &Path, service: &str, version: &str) -> Result<PathBuf, String> {
    let ours = |name: &str| {
        let rest = name.strip_prefix(service)?.strip_suffix(".jar")?;
        // `zookeeper-3.9.4.jar`, `kafka_2.13-4.2.0.jar`; not `zookeeper-jute-3.9.4.jar`.
        let (scala, found) = rest.rsplit_once('-')?;
        let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit() || "._".contains(c));
        (digits(scala) && digits(found)).then(|| found.to_owned())
    };
    let mut others = Vec::new();
    let mut archive = open(file)?;
    for entry in archive.entries().map_err(|error| unreadable(&error))? {
        let entry = entry.map_err(|error| unreadable(&error))?;
        let path = entry.path().map_err(|error| unreadable(&error))?.into_owned();
        match path.file_name().and_then(|name| ours(name.to_str()?)) {
            Some(found) if found == version => return Ok(path.parent().unwrap_or(Path::new("")).to_owned()),
            Some(found) => others.push(found),
            None => {}
        }
    }
    Err(match others.first() {
        Some(found) => {
            format!("it has {service} {found}; write `version: {found}`, or take the other archive")
        }
        None => {
            format!("it has no jar of {service}; take the binary archive of the project, not its sources")
        }
    })
}

/// The jars of one folder of an archive into a folder of ours, by their bare names.
fn unpack(file: &Path, from: &Path, to: &Path) -> Result<(), String> {
    let mut left = UNPACKED_BYTES_MAX;
    let mut archive = open(file)?;
    for entry in archive.entries().map_err(|error| unreadable(&error))? {
        let mut entry = entry.map_err(|error| unreadable(&error))?;
        let path = entry.path().map_err(|error| unreadable(&error))?.into_owned();
        let jar = path.extension().is_some_and(|extension| extension == "jar");
        let (Some(name), true) = (path.file_name(), jar && path.parent() == Some(from)) else { continue };
        if !entry.header().entry_type().is_file() {
            return Err(format!("{} is no plain file", path.display()));
        }
        let size = entry.size();
        left = left.checked_sub(size).ok_or("it unpacks to more than 4 GiB")?;
        let target = to.join(name);
        let mut out = File::create(&target).map_err(|error| format!("{}: {error}", target.display()))?;
        std::io::copy(&mut entry, &mut out).map_err(|error| unreadable(&error))?;
        out.sync_all().map_err(|error| format!("{}: {error}", target.display()))?;
    }
    Ok(())
}

fn open(file: &Path) -> Result<tar::Archive<Box<dyn Read>>, String> {
    let mut opened = File::open(file).map_err(|error| error.to_string())?;
    let mut magic = [0; GZIP.len()];
    opened.read_exact(&mut magic).map_err(|error| unreadable(&error))?;
    opened.rewind().map_err(|error| error.to_string())?;
    let opened = std::io::BufReader::new(opened);
    let reader: Box<dyn Read> =
        if magic == GZIP { Box::new(flate2::read::MultiGzDecoder::new(opened)) } else { Box::new(opened) };
    Ok(tar::Archive::new(reader))
}

fn unreadable(error: &std::io::Error) -> String {
    format!("it is no tar archive, plain or with gzip: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    /// An archive with these files, as a project packs it.
    fn archive(folder: &Path, gzip: bool, files: &[&str]) -> FileOrigin {
        let mut builder = tar::Builder::new(Vec::new());
        for name in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o644);
            header.set_size(u64::try_from(name.len()).unwrap());
            builder.append_data(&mut header, name, name.as_bytes()).unwrap();
        }
        let bytes = builder.into_inner().unwrap();
        let path = folder.join("archive.tgz");
        if gzip {
            let mut encoder = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
            std::io::Write::write_all(&mut encoder, &bytes).unwrap();
            encoder.finish().unwrap();
        } else {
            std::fs::write(&path, bytes).unwrap();
        }
        FileOrigin::File { path, sha512: None }
    }

    fn fetched(
        folder: &Path,
        service: &'static str,
        version: &str,
        from: &FileOrigin,
    ) -> Result<String, String> {
        let pieces = fetch(&folder.join("cache"), service, version, from, &|_, _| ());
        let pieces = pieces.map_err(|error| error.to_string())?;
        let names: Vec<String> = pieces.into_iter().map(|piece| piece.name).collect();
        Ok(names.join(" "))
    }

    #[test]
    fn jars_beside_the_services_own_are_taken() {
        for gzip in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let zookeeper = archive(
                folder.path(),
                gzip,
                &[
                    "z/README.md",
                    "z/lib/zookeeper-jute-3.9.4.jar",
                    "z/lib/zookeeper-3.9.4.jar",
                    "z/docs/x.jar",
                    "z/lib/LICENSE",
                ],
            );
            let found = fetched(folder.path(), "zookeeper", "3.9.4", &zookeeper).unwrap();
            assert_eq!(found, "zookeeper-3.9.4.jar zookeeper-jute-3.9.4.jar");
            // Twice is the same, from the folder that is there.
            assert_eq!(fetched(folder.path(), "zookeeper", "3.9.4", &zookeeper).unwrap(), found);
            let kafka = archive(
                folder.path(),
                gzip,
                &["k/libs/a.jar", "k/libs/kafka_2.13-4.2.0.jar", "k/bin/kafka.sh"],
            );
            assert_eq!(
                fetched(folder.path(), "kafka", "4.2.0", &kafka).unwrap(),
                "a.jar kafka_2.13-4.2.0.jar"
            );
        }
    }

    #[test]
    fn what_is_no_such_archive_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = |version, from: &FileOrigin| fetched(folder.path(), "kafka", version, from).unwrap_err();
        let other = archive(folder.path(), true, &["k/libs/kafka_2.13-4.1.1.jar"]);
        assert!(error("4.2.0", &other).contains("it has kafka 4.1.1; write `version: 4.1.1`"));
        let sources = archive(folder.path(), true, &["k/build.gradle"]);
        assert!(error("4.2.0", &sources).contains("it has no jar of kafka"));
        let path = folder.path().join("text");
        std::fs::write(&path, "x".repeat(2000)).unwrap();
        assert!(error("4.2.0", &FileOrigin::File { path, sha512: None }).contains("it is no tar archive"));
    }

    #[test]
    fn its_id_is_known_without_it_where_its_checksum_is() {
        let folder = tempfile::tempdir().unwrap();
        let here = archive(folder.path(), true, &["k/libs/kafka_2.13-4.2.0.jar"]);
        let sha512 = own::sum(folder.path(), &here).unwrap();
        let there = FileOrigin::Url { url: "https://example.com/kafka.tgz".to_owned(), sha512 };
        assert_eq!(expected("kafka-4.2.0", &there), Some(id(folder.path(), "kafka-4.2.0", &here).unwrap()));
        assert_eq!(expected("kafka-4.2.0", &here), None);
    }
}
