//! The member: joins the group, leads it if it must, takes partitions over and gives them back, starts and
//! ends the engine, and stores checkpoints.

mod checkpoint;
mod follow;

use super::engine::{Engine, Parts};
use super::shared::Mode;
use super::status::{MemberState, Snapshot, Status};
use crate::group::Lease;
use crate::sink::Failure;
use crate::zk::types::MemberNode;
use crate::zk::{self, Changed, Group, GroupView, Owned, Session, Zk};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

/// Between two looks at acknowledgements, lease and releases.
const TICK: Duration = Duration::from_millis(100);
/// Between two refreshes of what telemetry shows.
const PUBLISH_PERIOD: Duration = Duration::from_millis(250);
/// First and longest pause after a failed delivery.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// Everything is looked at again after this long even if no watch fired.
const RECHECK: Duration = Duration::from_secs(5);
/// How long a clean stop may spend on the last checkpoint and on leaving.
const LEAVE_TIMEOUT: Duration = Duration::from_millis(1500);

/// Why a member stops for good.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// ZooKeeper refuses for good.
    #[error(transparent)]
    ZooKeeper(#[from] zk::Error),
    /// The sink cannot work as configured.
    #[error(transparent)]
    Sink(#[from] Failure),
}

/// Why a session's loop ends.
enum Leave {
    /// The session is gone: join again with the next.
    SessionLost,
    /// Told to stop.
    Shutdown,
}

/// A member of a group.
pub(in crate::consumer) struct Member {
    parts: Parts,
    zk: Zk,
    group: Group,
    status: Arc<Status>,
    /// Where each source begins.
    starts: BTreeMap<String, String>,
    generation: u64,
    held: BTreeMap<u32, Owned>,
    releasing: BTreeMap<u32, Instant>,
    engine: Option<Engine>,
    /// No engine before this moment.
    resume_at: Instant,
    failures: u32,
    members_since: Instant,
    members: BTreeSet<String>,
    checkpointed: Instant,
    published: Instant,
}

impl Member {
    pub(in crate::consumer) fn new(parts: Parts, zk: Zk, status: Arc<Status>) -> Self {
        let group = zk.group(&parts.config.group);
        let starts =
            parts.config.sources.iter().map(|(name, source)| (name.clone(), source.start.clone())).collect();
        let now = Instant::now();
        Self {
            parts,
            zk,
            group,
            status,
            starts,
            generation: 1,
            held: BTreeMap::new(),
            releasing: BTreeMap::new(),
            engine: None,
            resume_at: now,
            failures: 0,
            members_since: now,
            members: BTreeSet::new(),
            checkpointed: now,
            published: now,
        }
    }

    /// Runs until `shutdown`, through any number of sessions.
    pub(in crate::consumer) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), MemberError> {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            self.status.set_state(MemberState::Joining);
            let session = tokio::select! {
                session = self.zk.connected() => session,
                () = &mut shutdown => return Ok(()),
            };
            let joined = tokio::select! {
                joined = self.join(session) => joined,
                () = &mut shutdown => return Ok(()),
            };
            match joined {
                Ok(true) => {}
                Ok(false) => {
                    tokio::time::sleep(TICK).await;
                    continue;
                }
                Err(error) if error.is_transient() => {
                    self.status.note(&error.to_string());
                    tokio::time::sleep(FIRST_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            let leave = self.serve(session, &mut shutdown).await?;
            match leave {
                Leave::Shutdown => {
                    self.leave().await;
                    return Ok(());
                }
                Leave::SessionLost => {
                    warn!("session lost: all partitions are given up, joining again");
                    self.drop_everything().await;
                }
            }
        }
    }

    /// Enters the group; waits while another session holds our name. False when the session is gone meanwhile.
    async fn join(&mut self, session: Session) -> zk::Result<bool> {
        let config = &self.parts.config;
        self.generation = self.group.prepare(config.partitions).await?;
        let node = MemberNode {
            http: config.http_listen.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            joined_at_us: now_us(),
        };
        let sent = loop {
            let sent = Instant::now();
            if self.group.join(&config.id, &node).await? {
                break sent;
            }
            let reason =
                format!("member {} is still in the group: another process, or this one's past", config.id);
            self.status.note(&reason);
            tokio::time::sleep(FIRST_PAUSE).await;
            if self.zk.session().borrow().incarnation != session.incarnation {
                return Ok(false);
            }
        };
        if self.zk.session().borrow().incarnation != session.incarnation {
            return Ok(false);
        }
        self.parts.shared.set_lease(Some(Lease::new(session.timeout, sent)));
        self.members_since = Instant::now();
        self.status.clear_note();
        self.status.set_state(MemberState::Standby);
        info!(group = config.group, member = config.id, "joined");
        Ok(true)
    }

    /// The life of one session.
    async fn serve(
        &mut self,
        session: Session,
        shutdown: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Leave, MemberError> {
        let _heartbeat = AbortOnDropHandle::new(tokio::spawn(heartbeat(
            self.zk.clone(),
            self.group.clone(),
            Arc::clone(&self.parts.shared),
            session,
        )));
        let mut sessions = self.zk.session();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen: Option<(GroupView, Changed)> = None;
        let mut seen_at = Instant::now();
        loop {
            let current = *sessions.borrow_and_update();
            if current.incarnation != session.incarnation || current.state == zk::State::None {
                return Ok(Leave::SessionLost);
            }
            if let zk::State::Disconnected { since } = current.state {
                self.parts.shared.with_lease(|lease| lease.disconnect(since));
            }
            self.parts.shared.collect();
            self.supervise().await?;
            if current.is_connected() {
                if seen.is_none() || seen_at.elapsed() > RECHECK {
                    match self.bounded(self.group.observe()).await {
                        Ok(view) => {
                            seen = Some(view);
                            seen_at = Instant::now();
                        }
                        Err(error) => self.tolerate(error)?,
                    }
                }
                if let Some((view, _)) = &seen {
                    self.act(view).await?;
                }
                self.checkpoint_if_due().await?;
                self.finish_releases().await?;
            }
            if self.published.elapsed() >= PUBLISH_PERIOD {
                self.published = Instant::now();
                self.publish(seen.as_ref().map(|(view, _)| view));
            }
            let changed = async {
                match &mut seen {
                    Some((_, changed)) => changed.wait().await,
                    None => std::future::pending().await,
                }
            };
            let fired = tokio::select! {
                () = changed => true,
                _ = tick.tick() => false,
                _ = sessions.changed() => false,
                () = &mut *shutdown => return Ok(Leave::Shutdown),
            };
            if fired {
                seen = None;
            }
        }
    }

    /// Starts the engine where it should run, and ends it where it must not.
    async fn supervise(&mut self) -> Result<(), MemberError> {
        let shared = Arc::clone(&self.parts.shared);
        if let Some(failure) = shared.take_failure() {
            warn!(
                reason = failure.reason,
                definite = failure.definite,
                "delivery failed, going back to the checkpoints"
            );
            self.status.note(&failure.reason);
            self.pause();
            self.end_engine(Mode::Halt).await;
        }
        if !shared.lease_holds() {
            if self.engine.is_some() {
                warn!("no word from zookeeper: stopped sending until it answers");
                self.status.note("no word from zookeeper: stopped sending until it answers");
                self.end_engine(Mode::Halt).await;
            }
            return Ok(());
        }
        let wanted = self.wanted();
        match &self.engine {
            Some(engine) => engine.want(wanted),
            None if wanted.is_empty() || Instant::now() < self.resume_at => {}
            None => match Engine::start(&self.parts, wanted) {
                Ok(engine) => self.engine = Some(engine),
                Err(failure) if failure.definite => return Err(failure.into()),
                Err(failure) => {
                    self.status.note(&failure.reason);
                    self.pause();
                }
            },
        }
        Ok(())
    }

    fn pause(&mut self) {
        let pause = MAX_PAUSE.min(FIRST_PAUSE * 2u32.saturating_pow(self.failures.min(8)));
        self.failures = self.failures.saturating_add(1);
        self.resume_at = Instant::now() + pause;
    }

    async fn end_engine(&mut self, mode: Mode) {
        if let Some(engine) = self.engine.take() {
            engine.end(mode).await;
            // What it failed with while ending is no news.
            drop(self.parts.shared.take_failure());
        }
    }

    fn wanted(&self) -> BTreeSet<u32> {
        self.held.keys().filter(|partition| !self.releasing.contains_key(partition)).copied().collect()
    }

    /// Goes on after what may pass; a definite error ends the member.
    fn tolerate(&self, error: zk::Error) -> Result<(), MemberError> {
        if error.is_transient() {
            warn!(%error, "zookeeper");
            self.status.note(&error.to_string());
            Ok(())
        } else {
            Err(error.into())
        }
    }

    /// Waits for ZooKeeper, but not beyond the lease: then it is time to stop sending.
    async fn bounded<T>(&self, request: impl Future<Output = zk::Result<T>>) -> zk::Result<T> {
        let timeout = self.zk.session().borrow().timeout / 5;
        let mut deadline = Instant::now() + timeout;
        if let Some(lease) = self.parts.shared.lease_deadline() {
            deadline = deadline.min(lease.max(Instant::now() + TICK));
        }
        match tokio::time::timeout_at(deadline.into(), request).await {
            Ok(result) => result,
            Err(_) => Err(self.zk.slow()),
        }
    }

    fn publish(&self, view: Option<&GroupView>) {
        let lanes = self.parts.shared.lanes();
        let (status, in_flight) = (lanes.status(), lanes.in_flight());
        drop(lanes);
        let me = self.parts.config.id.as_str();
        let assignment = view.and_then(|view| view.assignment.as_ref());
        self.status.publish(&Snapshot {
            leader: view.is_some_and(|view| view.leader.as_deref() == Some(me)),
            generation: assignment.map(|assignment| assignment.generation),
            held: self.held.keys().copied().collect(),
            delivering: self.engine.is_some() || self.held.is_empty(),
            lanes: status,
            in_flight,
            source_errors: self.parts.shared.source_errors(),
        });
    }

    /// The session is gone, and with it every owner node.
    async fn drop_everything(&mut self) {
        self.parts.shared.set_lease(None);
        self.end_engine(Mode::Halt).await;
        let partitions: Vec<u32> = self.held.keys().copied().collect();
        for partition in partitions {
            self.forget(partition);
        }
        self.releasing.clear();
        self.publish(None);
    }

    /// A clean stop: wait for what is out, checkpoint, give back, leave.
    async fn leave(&mut self) {
        self.status.set_state(MemberState::Leaving);
        self.end_engine(Mode::Drain).await;
        let bye = async {
            if let Err(error) = self.store_checkpoints(None).await {
                warn!(%error, "last checkpoint not stored");
            }
            for owned in self.held.values() {
                if let Err(error) = self.group.release(owned).await {
                    warn!(%error, partition = owned.partition, "not given back");
                }
            }
            if let Err(error) = self.group.leave(&self.parts.config.id).await {
                warn!(%error, "not left");
            }
        };
        if tokio::time::timeout(LEAVE_TIMEOUT, bye).await.is_err() {
            warn!("zookeeper does not answer: the session's end will give the partitions back");
        }
        info!("left");
    }
}

/// Proves to ourselves that the servers still hear this session, for the lease.
async fn heartbeat(zk: Zk, group: Group, shared: Arc<super::shared::Shared>, session: Session) {
    let same = || zk.session().borrow().incarnation == session.incarnation;
    loop {
        let sent = Instant::now();
        if !same() {
            return;
        }
        let answered = tokio::time::timeout(session.timeout / 5, group.heartbeat()).await;
        if matches!(answered, Ok(Ok(()))) && same() {
            shared.with_lease(|lease| lease.confirm(sent));
        }
        tokio::time::sleep(session.timeout / 10).await;
    }
}

fn now_us() -> i64 {
    jiff::Timestamp::now().as_microsecond()
}
