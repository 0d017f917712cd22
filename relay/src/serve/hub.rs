//! What a relay serves, and to whom.

use super::lookback::LookBack;
use crate::config::Limits;
use crate::event::Executed;
use crate::log::Log;
use crate::position::Position;
use crate::telemetry::Registry;
use crate::wire::frame::{Hello, StartFrom};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;

/// Which server a source is, and its epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `server_uuid` (MariaDB: `server_id` in decimal); empty until known.
    pub server_uuid: String,
    /// The epoch in force; 0 until known.
    pub epoch: u32,
    /// What binlog file names begin with.
    pub file_base: String,
    /// Where the former epoch ends, and the GTIDs of all up to there; none where that is not known.
    pub crossing: Option<(Position, String)>,
}

/// A source as it is served.
#[derive(Debug)]
pub struct Served {
    /// Its event log.
    pub log: Log,
    look_back: Option<Arc<dyn LookBack>>,
    identity: Mutex<Identity>,
    /// See [`Served::set_read`].
    read: Mutex<Arc<[Executed]>>,
}

impl Served {
    /// A source with this log.
    pub fn new(log: Log) -> Self {
        Self { log, look_back: None, identity: Mutex::default(), read: Mutex::default() }
    }

    /// Reads again what the log no longer has.
    #[must_use]
    pub fn looking_back(mut self, look_back: Arc<dyn LookBack>) -> Self {
        self.look_back = Some(look_back);
        self
    }

    pub(super) fn look_back(&self) -> Option<&dyn LookBack> {
        self.look_back.as_deref()
    }

    /// Which server it is.
    pub fn identity(&self) -> Identity {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where a stream really begins. A place behind the end of the former epoch is the beginning of this one; a log that
    /// still has that end needs no help.
    pub(super) fn begin(&self, from: StartFrom) -> StartFrom {
        let Identity { epoch, crossing, .. } = self.identity();
        let (StartFrom::Position { position, .. }, Some((end, gtids))) = (&from, crossing) else {
            return from;
        };
        let lowest = self.log.state().lowest;
        let beyond = lowest.is_none_or(|lowest| *position < lowest.position);
        if position.epoch < epoch && *position >= end && beyond { StartFrom::Gtid(gtids) } else { from }
    }

    /// Says what was executed before some places of the log, oldest first: who asks for what is not in a GTID set is served
    /// from the log only where it is known that nothing of that is older.
    pub fn set_read(&self, read: &[Executed]) {
        let mut known = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if **known != *read {
            *known = read.into();
        }
    }

    pub(super) fn read(&self) -> Arc<[Executed]> {
        Arc::clone(&self.read.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says which server it is.
    pub fn set_identity(&self, identity: Identity) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
    }
}

/// Source, group, member; and of which process, where it says so.
type StreamKey = (String, String, String, Option<u128>);

/// All sources of a relay and the streams that are open.
#[derive(Debug)]
pub struct Hub {
    cluster: String,
    sources: RwLock<BTreeMap<String, Arc<Served>>>,
    registry: Registry,
    limits: Limits,
    streams: Mutex<HashMap<StreamKey, CancellationToken>>,
}

/// The right of a connection to be its member's stream.
#[derive(Debug)]
pub(super) struct Seat<'a> {
    hub: &'a Hub,
    key: StreamKey,
    /// Another process has streams under the same name.
    pub(super) has_namesake: bool,
    /// Cancelled when a newer connection takes over.
    pub(super) replaced: CancellationToken,
}

impl Hub {
    /// A relay of this cluster with these sources, its streams seen in `registry`.
    pub fn new(cluster: &str, sources: BTreeMap<String, Served>, registry: Registry) -> Self {
        let (limits, streams) = (Limits::default(), Mutex::default());
        let hub = Self { cluster: cluster.to_owned(), sources: RwLock::default(), registry, limits, streams };
        for (name, served) in sources {
            hub.add(name, served);
        }
        hub
    }

    /// With other limits than the usual ones.
    #[must_use]
    pub fn limiting(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves one more.
    pub fn add(&self, name: String, served: Served) {
        self.sources.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::new(served));
    }

    /// A source by name.
    pub fn source(&self, name: &str) -> Option<Arc<Served>> {
        self.sources.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(super) fn cluster(&self) -> &str {
        &self.cluster
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Takes the member's seat; whoever of its process had it must go. Another process of that name keeps its own: it is a
    /// stranger, or a member whose host vanished, and gone soon. Who may write is settled in `ZooKeeper`.
    pub(super) fn take_seat(&self, hello: &Hello) -> Seat<'_> {
        let key = (hello.source.clone(), hello.group.clone(), hello.member.clone(), hello.process);
        let replaced = CancellationToken::new();
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let is_namesake = |other: &StreamKey| {
            (&other.0, &other.1, &other.2) == (&key.0, &key.1, &key.2) && other.3 != key.3
        };
        let has_namesake = streams.keys().any(is_namesake);
        if let Some(older) = streams.insert(key.clone(), replaced.clone()) {
            older.cancel();
        }
        Seat { hub: self, key, has_namesake, replaced }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        // A seat that was taken over is its successor's.
        if !self.replaced.is_cancelled() {
            self.hub.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        }
    }
}
