//! What protects hosts and people while an apply works: the lock on each host, and the downtime that the monitor
//! is told of.

use super::compile::{Script, Upkeep};
use super::execute::Run;
use super::outcome::{Failed, Outcome};
use super::{ApplyError, reboot};
use crate::plan::{Action, Stage, Step, Wave};
use crate::service::Role;
use futures_util::StreamExt;
use std::time::Duration;

/// A lock that nobody has touched for so long belongs to an apply that died.
pub const LOCK_STALE: Duration = Duration::from_mins(2);
const LOCK_LIMIT: Duration = Duration::from_secs(30);
/// A downtime that nobody ends: longer than the slowest restart with its ready test.
const DOWNTIME: Duration = Duration::from_mins(10);
/// The same for a reboot: the boot, and then the ready tests of all that is on the host.
const REBOOT_DOWNTIME: Duration = Duration::from_mins(45);
/// How often locks are touched. It keeps idle connections up as well.
const HEARTBEAT: Duration = Duration::from_secs(20);

impl Run<'_> {
    /// Takes the lock on every host; a lock that somebody holds stops all of it.
    pub(super) async fn lock(&self, hosts: &[&str]) -> bool {
        let locked = futures_util::stream::iter(hosts.iter().map(|host| async move {
            let mut script = Script::new();
            let (generation, lock) = (self.plan.generation, self.contents.lock.clone());
            // Ids are spent before the first change, so every copy of them is older than what rests on them.
            let added = script
                .upkeep(&self.lock_line())
                .and_then(|()| script.upkeep(&Upkeep::KeepIds { generation, lock }));
            let outcome = match added {
                Ok(()) => self.call(host, "lock", script, &[], LOCK_LIMIT).await,
                Err(error) => Outcome::lost(error.to_string()),
            };
            (*host, outcome)
        }));
        let mut free = true;
        let mut locked = locked.buffer_unordered(self.options.parallel.max(1));
        while let Some((host, outcome)) = locked.next().await {
            if let Some((_, error)) = outcome.failure {
                free = false;
                self.fail(host, Role::Base, "lock", &Failed::hard("take the lock"), &error).await;
            }
        }
        free
    }

    /// Touches the locks as long as there is work. Never ends by itself.
    pub(super) async fn heartbeat(&self, hosts: &[&str]) {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let works = |host: &&&str| {
                self.progress(|progress| !progress.out.contains(**host) && !progress.left.contains(**host))
            };
            let beats = hosts.iter().filter(works);
            let beats = futures_util::stream::iter(beats.map(|host| async move {
                let mut script = Script::new();
                if script.upkeep(&Upkeep::Touch(self.id.clone())).is_ok() {
                    let outcome = self.call(host, "lock", script, &[], LOCK_LIMIT).await;
                    if let Some((_, error)) = outcome.failure {
                        // The next step on that host says it better.
                        tracing::debug!(host, error, "lock not touched");
                    }
                }
            }));
            beats.buffer_unordered(self.options.parallel.max(1)).collect::<()>().await;
        }
    }

    pub(super) fn lock_line(&self) -> Upkeep {
        Upkeep::Lock {
            id: self.id.clone(),
            operator: self.options.operator.clone(),
            stale_secs: LOCK_STALE.as_secs(),
            generation: self.plan.rests_on,
            operation: self.options.operation.clone(),
        }
    }

    /// Gives back the locks that no host's last call gave back.
    pub(super) async fn unlock(&self, hosts: &[&str]) {
        let held = hosts.iter().filter(|host| !self.progress(|progress| progress.left.contains(**host)));
        let unlocked = futures_util::stream::iter(held.map(|host| async move {
            let mut script = Script::new();
            let failed = self.progress(|progress| progress.out.contains(*host));
            if self.add_unlock(&mut script, if failed { "failed" } else { "done" }).is_ok() {
                let outcome = self.call(host, "unlock", script, &[], LOCK_LIMIT).await;
                if let Some((_, error)) = outcome.failure {
                    tracing::warn!(host, error, "lock is left to expire");
                }
            }
        }));
        unlocked.buffer_unordered(self.options.parallel.max(1)).collect::<()>().await;
    }

    pub(super) fn add_unlock(&self, script: &mut Script, result: &str) -> Result<(), ApplyError> {
        let (operator, generation) = (&self.options.operator, self.plan.generation);
        let version = crate::lock::VERSION;
        script
            .upkeep(&Upkeep::Audit(format!("{operator} aesop {version} generation {generation} {result}")))?;
        script.upkeep(&Upkeep::Unlock(self.id.clone()))
    }

    /// Tells the monitor what is about to be touched, or that it is over. The work does not depend on it: a monitor
    /// that is not there mails nothing.
    pub(super) async fn downtime(&self, touched: &[Touched], begins: bool) {
        let monitors = self
            .desired
            .iter()
            .filter(|(_, state)| state.parts.iter().any(|part| part.role == Role::Monitor))
            .map(|(name, _)| name);
        // A monitor that this very plan starts has nobody to mail yet.
        let starting = |monitor: &&String| {
            self.plan.steps().any(|(host, step)| {
                host == monitor.as_str()
                    && matches!(step.action(), Action::StartUnit(start) if start.unit == "aesop-monitor.service")
            })
        };
        for monitor in monitors.filter(|monitor| !touched.is_empty() && !starting(monitor)) {
            let mut script = Script::new();
            let added: Result<(), ApplyError> = touched.iter().try_for_each(|touched| {
                script.upkeep(&if begins { touched.begins() } else { touched.ends() })
            });
            if added.is_ok() {
                let outcome = self.call(monitor, "downtime", script, &[], LOCK_LIMIT).await;
                if let Some((_, error)) = outcome.failure {
                    tracing::debug!(monitor, error, "downtime not announced");
                }
            }
        }
    }
}

/// What the monitor is told of before it is touched.
pub(super) struct Touched {
    /// Of its file there.
    name: String,
    host: String,
    /// `*`: all of the host.
    service: String,
    lasts: Duration,
}

impl Touched {
    /// What these steps take down for a while; none: nothing.
    pub(super) fn of(stage: &Stage, wave: &Wave, host: &str, steps: &[Step]) -> Option<Self> {
        let starts = |step: &Step| matches!(step.action(), Action::StartUnit(_) | Action::RestartUnit(_));
        let (service, lasts) = if wave.returned || reboot::position(steps).is_some() {
            ("*".to_owned(), REBOOT_DOWNTIME)
        } else if steps.iter().any(starts) {
            (stage.service.clone(), DOWNTIME)
        } else {
            return None;
        };
        let name = format!("apply-{host}-{}", stage.service.replace('/', "-"));
        Some(Self { name, host: host.to_owned(), service, lasts })
    }

    fn begins(&self) -> Upkeep {
        Upkeep::Downtime {
            name: self.name.clone(),
            host: self.host.clone(),
            service: self.service.clone(),
            seconds: self.lasts.as_secs(),
            reason: "aesop apply".to_owned(),
        }
    }

    fn ends(&self) -> Upkeep {
        Upkeep::DowntimeEnd(self.name.clone())
    }
}
