//! Jars through the machine's own Maven client, which knows the site's mirrors and proxies. One call fetches a
//! whole list, in parallel; what comes is checked against the list and kept by content.

use super::pinned::Jar;
use super::{ArtifactError, Piece, io, sha512};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// Of the client's output the end names the cause.
const DETAIL_LINES: usize = 6;

/// One at a time: clients that share a local repository may read what another has half written. One fetches in parallel
/// by itself.
static CLIENT: Mutex<()> = Mutex::new(());

fn cached(cache: &Path, jar: &Jar) -> PathBuf {
    super::cached(cache, &jar.sha512, &jar.file())
}

pub(super) fn fetch(cache: &Path, name: &str, jars: &[Jar]) -> Result<Vec<Piece>, ArtifactError> {
    let missing: Vec<&Jar> = jars.iter().filter(|jar| !cached(cache, jar).is_file()).collect();
    if !missing.is_empty() {
        download(cache, name, &missing)?;
    }
    jars.iter()
        .map(|jar| {
            let path = cached(cache, jar);
            let bytes = path.metadata().map_err(io("cannot read", &path))?.len();
            Ok(Piece { name: jar.file(), path, bytes, sha512: jar.sha512.clone(), executable: false })
        })
        .collect()
}

fn download(cache: &Path, name: &str, jars: &[&Jar]) -> Result<(), ArtifactError> {
    std::fs::create_dir_all(cache).map_err(io("cannot make", cache))?;
    let work = tempfile::Builder::new()
        .prefix("maven")
        .tempdir_in(cache)
        .map_err(io("cannot make a folder in", cache))?;
    let out = work.path().join("jars");
    let pom = work.path().join("pom.xml");
    std::fs::write(&pom, project(jars)).map_err(io("cannot write", &pom))?;
    let mut command = Command::new("mvn");
    command
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("dependency:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", out.display()))
        .stdin(Stdio::null());
    if let Some(repository) = std::env::var_os("AESOP_MAVEN_REPOSITORY").filter(|value| !value.is_empty()) {
        let settings = work.path().join("settings.xml");
        std::fs::write(&settings, mirror(&repository.to_string_lossy()))
            .map_err(io("cannot write", &settings))?;
        command.arg("-s").arg(&settings);
    }
    let failed = |detail: String| ArtifactError::Maven { name: name.to_owned(), detail };
    let one = CLIENT.lock().unwrap_or_else(PoisonError::into_inner);
    let output = command.output().map_err(|error| {
        if error.kind() == std::io::ErrorKind::NotFound {
            ArtifactError::NoMaven { name: name.to_owned() }
        } else {
            failed(error.to_string())
        }
    })?;
    drop(one);
    if !output.status.success() {
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("ERROR")).take(DETAIL_LINES).collect();
        return Err(failed(lines.join("\n")));
    }
    for jar in jars {
        keep(cache, &out.join(jar.file()), jar)?;
    }
    Ok(())
}

/// Checks a jar and moves it into the cache.
fn keep(cache: &Path, file: &Path, jar: &Jar) -> Result<(), ArtifactError> {
    let got = sha512(file)?;
    if got != jar.sha512 {
        forget(jar);
        return Err(ArtifactError::Checksum { file: jar.file(), expected: jar.sha512.clone(), got });
    }
    let target = cached(cache, jar);
    let folder = target.parent().unwrap_or(cache);
    std::fs::create_dir_all(folder).map_err(io("cannot make", folder))?;
    std::fs::rename(file, &target).map_err(io("cannot write", &target))
}

/// Removes a damaged file from the client's own cache too; without that the next run would take it again.
fn forget(jar: &Jar) {
    let Some(home) = std::env::home_dir() else { return };
    let folder =
        home.join(".m2/repository").join(jar.group.replace('.', "/")).join(&jar.artifact).join(&jar.version);
    if let Err(error) = std::fs::remove_file(folder.join(jar.file())) {
        tracing::debug!(jar = jar.file(), %error, "no damaged file to remove from the local repository");
    }
}

/// A throw-away project that wants exactly these jars and nothing that they would bring along.
fn project(jars: &[&Jar]) -> String {
    let mut pom = String::from(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>aesop</groupId><artifactId>fetch</artifactId><version>1</version><packaging>pom</packaging>\
         <dependencies>\n",
    );
    for jar in jars {
        let classifier = jar
            .classifier
            .as_ref()
            .map(|text| format!("<classifier>{text}</classifier>"))
            .unwrap_or_default();
        let _infallible = writeln!(
            pom,
            "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version>{classifier}\
             <exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>",
            jar.group, jar.artifact, jar.version
        );
    }
    pom.push_str("</dependencies></project>\n");
    pom
}

/// Settings that send every request to one repository: a mirror, or a folder as `file:///…`.
fn mirror(url: &str) -> String {
    let url = url.replace('&', "&amp;").replace('<', "&lt;");
    format!(
        "<settings><mirrors><mirror><id>aesop</id><mirrorOf>*</mirrorOf><url>{url}</url></mirror></mirrors></settings>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_checksum_names_file_and_both_sums() {
        let cache = tempfile::tempdir().unwrap();
        let jar = Jar {
            group: "g.never".into(),
            artifact: "a".into(),
            version: "1".into(),
            classifier: None,
            sha512: "00".into(),
        };
        let file = cache.path().join("a-1.jar");
        std::fs::write(&file, "not a jar").unwrap();
        let error = keep(cache.path(), &file, &jar).unwrap_err().to_string();
        assert!(error.starts_with("a-1.jar has the wrong checksum: expected sha512 00, got "), "{error}");
        assert!(!cached(cache.path(), &jar).exists());
    }
}
