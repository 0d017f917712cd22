//! Artifacts to this machine, several at once.

use super::{ApplyEvent, Events};
use crate::artifact::{ArtifactError, Piece, Store, merge};
use crate::clock::{Clock, SystemClock};
use crate::service::ArtifactRef;
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// At once: enough for a slow mirror, few for a site's proxy.
const FETCHES: usize = 4;
/// How often a download says how far it is.
const TELL: Duration = Duration::from_millis(500);

/// Gets all of `wanted`, by id. What fails does not stop the others: all failures are told at once.
pub async fn fetch_all(
    store: &Store,
    wanted: BTreeSet<ArtifactRef>,
    events: &Events,
) -> Result<BTreeMap<String, Vec<Piece>>, ArtifactError> {
    let fetching = futures_util::stream::iter(wanted.into_iter().map(|artifact| async move {
        let id = artifact.id.clone();
        (id, fetch(store.clone(), artifact, events.clone()).await)
    }));
    let fetched: Vec<_> = fetching.buffer_unordered(FETCHES).collect().await;
    let mut pieces = BTreeMap::new();
    let mut failures = Vec::new();
    for (id, result) in fetched {
        match result {
            Ok(files) => drop(pieces.insert(id, files)),
            Err(error) => failures.push(error),
        }
    }
    merge(failures).map_or(Ok(pieces), Err)
}

async fn fetch(store: Store, artifact: ArtifactRef, events: Events) -> Result<Vec<Piece>, ArtifactError> {
    let name = artifact.name.clone();
    // Whoever renders may have gone away; the work goes on.
    let _gone = events.send(ApplyEvent::Fetching { artifact: name.clone() }).await;
    let started = SystemClock.instant();
    let teller = events.clone();
    let fetching = tokio::task::spawn_blocking(move || {
        let last = Mutex::new(SystemClock.instant());
        let told = |bytes: u64, total: Option<u64>| {
            let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= TELL {
                *last = SystemClock.instant();
                let artifact = artifact.name.clone();
                // Progress only: a full channel loses a line of it.
                let _full = teller.try_send(ApplyEvent::FetchProgress { artifact, bytes, total });
            }
        };
        store.fetch(&artifact, &told)
    });
    let fetched = fetching.await.unwrap_or_else(|panic| {
        Err(ArtifactError::Maven { name: name.clone(), detail: panic.to_string() })
    })?;
    let bytes = fetched.iter().map(|piece| piece.bytes).sum();
    let done = ApplyEvent::Fetched { artifact: name, bytes, elapsed: started.elapsed() };
    let _gone = events.send(done).await;
    Ok(fetched)
}
