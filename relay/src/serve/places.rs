//! Who may connect, and how many: no host takes the places of all others.

use crate::config::Limits;
use crate::telemetry::{Bean, Counter, Gauge, ObjectName, Registry};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Refusals come in thousands where they come at all: one line of the log stands for those of this time.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// The places for connections.
#[derive(Debug)]
pub(super) struct Places {
    limits: Limits,
    taken: Mutex<Taken>,
    numbers: Numbers,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_peer: HashMap<IpAddr, usize>,
    said: Option<Instant>,
    unsaid: u64,
}

#[derive(Debug)]
struct Numbers {
    _bean: Bean,
    open: Gauge,
    accepted: Counter,
    refused: Counter,
    cut: Counter,
}

/// One of them; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("the relay has {0} connections and takes no more (limits.connections)")]
    All(usize),
    #[error("the relay has {0} connections of this address and takes no more (limits.connections_per_peer)")]
    Peer(usize),
}

impl Places {
    pub(super) fn new(limits: &Limits, registry: &Registry) -> Arc<Self> {
        let bean = registry.bean(ObjectName::new("aesop.relay", &[("type", "Server")]));
        let (open, accepted) = (bean.gauge("ConnectionsOpen"), bean.counter("ConnectionsTotal"));
        let (refused, cut) = (bean.counter("ConnectionsRefusedTotal"), bean.counter("ConnectionsCutTotal"));
        let numbers = Numbers { _bean: bean, open, accepted, refused, cut };
        Arc::new(Self { limits: limits.clone(), taken: Mutex::default(), numbers })
    }

    /// A place for a connection from this address.
    pub(super) fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Full> {
        let mut taken = self.taken();
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or(0);
        if taken.all >= self.limits.connections {
            return Err(self.refuse(&mut taken, peer, Full::All(self.limits.connections)));
        }
        if of_peer >= self.limits.connections_per_peer {
            return Err(self.refuse(&mut taken, peer, Full::Peer(self.limits.connections_per_peer)));
        }
        taken.all += 1;
        taken.by_peer.insert(peer, of_peer + 1);
        self.numbers.accepted.add(1);
        self.numbers.open.add(1);
        Ok(Place { places: Arc::clone(self), peer })
    }

    fn refuse(&self, taken: &mut Taken, peer: IpAddr, full: Full) -> Full {
        self.numbers.refused.add(1);
        taken.unsaid += 1;
        if taken.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            tracing::warn!(%peer, refused = taken.unsaid, "{full}");
            (taken.said, taken.unsaid) = (Some(Instant::now()), 0);
        }
        full
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long a client may take for what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patience {
    /// In which it takes nothing.
    pub(super) idle: Duration,
    /// In all, beyond that: slow lines need it.
    pub(super) more: Duration,
}

impl Place {
    /// For so many bytes.
    pub(super) fn patience(&self, bytes: usize) -> Patience {
        /// Bytes in a millisecond: slower lines are none.
        const SLOWEST: u64 = 256;
        Patience {
            idle: Duration::from_secs(self.places.limits.stuck_secs),
            more: Duration::from_millis(u64::try_from(bytes).unwrap_or(u64::MAX) / SLOWEST),
        }
    }

    /// Counts a client that was cut off for what it did, or did not.
    pub(super) fn cut(&self) {
        self.places.numbers.cut.add(1);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all = taken.all.saturating_sub(1);
        if let Some(of_peer) = taken.by_peer.get_mut(&self.peer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
        self.places.numbers.open.add(-1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_has_its_share_and_gives_it_back() {
        let limits = Limits { connections: 3, connections_per_peer: 2, ..Limits::default() };
        let places = Places::new(&limits, &Registry::default());
        let peer = |last| IpAddr::from([10, 0, 0, last]);
        let first = places.take(peer(1)).unwrap();
        let _second = places.take(peer(1)).unwrap();
        assert_eq!(places.take(peer(1)).unwrap_err(), Full::Peer(2));
        let _third = places.take(peer(2)).unwrap();
        assert_eq!(places.take(peer(3)).unwrap_err(), Full::All(3));
        drop(first);
        assert!(places.take(peer(1)).is_ok());
        assert_eq!(places.numbers.open.get(), 2);
        assert_eq!((places.numbers.refused.get(), places.taken().by_peer.len()), (2, 2));
    }
}
