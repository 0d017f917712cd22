//! Artifacts of the user's own: one file, from this machine or from an address. A download that was cut goes on
//! where it ended, in this run or in the next; what comes is checked and kept by content.

use super::{ArtifactError, Piece, Told, binary, io, pinned, sha512};
use crate::inventory::model::{ExtraArtifact, FileOrigin};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, RANGE};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that says nothing for so long has gone.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Tries in a row that bring nothing at all; one that brings something is no failure.
const FRUITLESS_MAX: u32 = 3;
/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// What it is called by content.
pub(super) fn id(cache: &Path, artifact: &ExtraArtifact) -> Result<String, ArtifactError> {
    Ok(pinned::short(&artifact.name, &sum(cache, &artifact.origin)?))
}

/// The same, where that is known without the file.
pub(super) fn expected(artifact: &ExtraArtifact) -> Option<String> {
    Some(pinned::short(&artifact.name, given_sum(&artifact.origin)?))
}

pub(super) fn given_sum(origin: &FileOrigin) -> Option<&str> {
    match origin {
        FileOrigin::Url { sha512, .. } => Some(sha512),
        FileOrigin::File { sha512, .. } => sha512.as_deref(),
    }
}

/// SHA-512 of a file, as it must be and, where it is on this machine, is.
pub(super) fn sum(cache: &Path, origin: &FileOrigin) -> Result<String, ArtifactError> {
    match origin {
        FileOrigin::Url { sha512, .. } => Ok(sha512.clone()),
        FileOrigin::File { path, sha512 } => {
            let got = binary::hash(cache, path)?;
            match sha512 {
                Some(expected) if *expected != got => {
                    Err(ArtifactError::OwnChecksum { file: path.clone(), expected: expected.clone(), got })
                }
                _ => Ok(got),
            }
        }
    }
}

/// Gets its file.
pub(super) fn fetch(
    cache: &Path,
    artifact: &ExtraArtifact,
    told: Told<'_>,
) -> Result<Vec<Piece>, ArtifactError> {
    let ExtraArtifact { name, origin, executable, .. } = artifact;
    let (path, sha512) = get(cache, origin, name, told)?;
    let bytes = path.metadata().map_err(io("cannot read", &path))?.len();
    Ok(vec![Piece { name: name.clone(), path, bytes, sha512, executable: *executable }])
}

/// A file that is or comes here, and its SHA-512.
pub(super) fn get(
    cache: &Path,
    origin: &FileOrigin,
    name: &str,
    told: Told<'_>,
) -> Result<(PathBuf, String), ArtifactError> {
    let sum = sum(cache, origin)?;
    let path = match origin {
        FileOrigin::File { path, .. } => path.clone(),
        FileOrigin::Url { url, .. } => download(cache, url, name, &sum, told)?,
    };
    Ok((path, sum))
}

fn download(
    cache: &Path,
    url: &str,
    name: &str,
    expected: &str,
    told: Told<'_>,
) -> Result<PathBuf, ArtifactError> {
    let target = super::cached(cache, expected, name);
    let folder = target.parent().unwrap_or(cache).to_owned();
    let parts = cache.join("partial");
    for folder in [&folder, &parts] {
        std::fs::create_dir_all(folder).map_err(io("cannot make", folder))?;
    }
    let part = parts.join(expected);
    let mut options = File::options();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&part)
        .map_err(io("cannot write", &part))?;
    // Two of us would write into one another.
    file.lock().map_err(io("cannot lock", &part))?;
    if target.is_file() {
        return Ok(target);
    }
    let runtime = tokio::runtime::Handle::current();
    runtime.block_on(whole(url, &mut file, &part, told))?;
    file.sync_all().map_err(io("cannot write", &part))?;
    let got = sha512(&part)?;
    if got != expected {
        let _kept = std::fs::remove_file(&part);
        return Err(ArtifactError::UrlChecksum { url: url.to_owned(), expected: expected.to_owned(), got });
    }
    std::fs::rename(&part, &target).map_err(io("cannot write", &target))?;
    Ok(target)
}

/// Goes on until the server has sent all, or sends nothing any more.
async fn whole(url: &str, file: &mut File, part: &Path, told: Told<'_>) -> Result<(), ArtifactError> {
    let failed = |detail: String| ArtifactError::Download { url: url.to_owned(), detail };
    let client =
        reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
    let client = client.map_err(|error| failed(error.to_string()))?;
    let mut fruitless = 0;
    loop {
        let before = file.seek(SeekFrom::End(0)).map_err(io("cannot read", part))?;
        match some(&client, url, file, before, told).await {
            Ok(()) => return Ok(()),
            Err(Cut::Definite(detail)) => return Err(failed(detail)),
            Err(Cut::Write(error)) => return Err(io("cannot write", part)(error)),
            Err(Cut::Transient(detail)) => {
                let after = file.seek(SeekFrom::End(0)).map_err(io("cannot read", part))?;
                fruitless = if after > before { 0 } else { fruitless + 1 };
                if fruitless == FRUITLESS_MAX {
                    return Err(failed(detail));
                }
                tracing::info!(url, bytes = after, detail, "the download was cut; it goes on from there");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Why a try ended early.
enum Cut {
    /// Another try may do better.
    Transient(String),
    /// It will not.
    Definite(String),
    /// Our own disk.
    Write(std::io::Error),
}

/// One request, for what comes after the first `have` bytes.
async fn some(
    client: &reqwest::Client,
    url: &str,
    file: &mut File,
    have: u64,
    told: Told<'_>,
) -> Result<(), Cut> {
    let transient = |error: reqwest::Error| Cut::Transient(crate::probe::jolokia::root_cause(&error));
    let mut request = client.get(url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let mut answer = request.send().await.map_err(transient)?;
    let goes_on = answer
        .headers()
        .get(CONTENT_RANGE)
        .and_then(|range| range.to_str().ok())
        .is_some_and(|range| range.starts_with(&format!("bytes {have}-")));
    match answer.status() {
        StatusCode::PARTIAL_CONTENT if goes_on => {}
        StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
            // From the start: a server that knows no ranges, or what lies here is no part of what it has.
            file.set_len(0).and_then(|()| file.rewind()).map_err(Cut::Write)?;
            if answer.status() != StatusCode::OK {
                return Err(Cut::Transient(format!("the server does not go on at byte {have}")));
            }
        }
        status if status.is_server_error() => {
            return Err(Cut::Transient(format!("the server says {status}")));
        }
        status => return Err(Cut::Definite(format!("the server says {status}"))),
    }
    let mut here = file.stream_position().map_err(Cut::Write)?;
    let all = answer.content_length().map(|rest| here + rest);
    while let Some(bytes) = answer.chunk().await.map_err(transient)? {
        file.write_all(&bytes).map_err(Cut::Write)?;
        here += u64::try_from(bytes.len()).unwrap_or(0);
        told(here, all);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
