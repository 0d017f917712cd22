//! The executor.

use super::compile::Script;
use super::prepare::{PrepareError, Prepared};
use super::report::{Failure, Report};
use super::session::{Session, observe};
use super::{ApplyEvent, Contents, Events, Options};
use crate::clock::{Clock, SystemClock};
use crate::host::{Call, Command, Connect, HostError};
use crate::inventory::model::Inventory;
use crate::plan::{Action, Change, Plan, Stage, Step, Wave};
use crate::service::{HostState, Role, paths};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A lock that nobody has touched for so long belongs to an apply that died.
const LOCK_STALE: Duration = Duration::from_mins(2);
/// A downtime that nobody ends: longer than the slowest restart with its ready test.
const DOWNTIME: Duration = Duration::from_mins(10);
/// How often locks are touched. It keeps idle connections up as well.
const HEARTBEAT: Duration = Duration::from_secs(20);
const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// Observes, plans and applies without asking; what demos and tests call. The plan comes back with the report.
pub async fn run(
    inventory: &Inventory,
    prepared: &Prepared,
    connect: &dyn Connect,
    options: &Options,
    events: Events,
) -> Result<(Plan, Report), PrepareError> {
    let (session, observed) = observe(connect, inventory, &prepared.desired, options.parallel).await;
    let plan = crate::plan::plan(&inventory.cluster, &prepared.desired, &observed);
    prepared.save_lock()?;
    let contents = prepared.contents(&plan, &events).await?;
    let report = execute(&plan, &prepared.desired, &contents, &session, options, &events).await;
    session.close().await;
    Ok((plan, report))
}

/// Carries out a plan over open connections.
pub async fn execute(
    plan: &Plan,
    desired: &BTreeMap<String, HostState>,
    contents: &Contents,
    session: &Session,
    options: &Options,
    events: &Events,
) -> Report {
    let run = Run {
        plan,
        desired,
        contents,
        session,
        options,
        events,
        id: uuid::Uuid::new_v4().to_string(),
        progress: Mutex::new(Progress::default()),
    };
    run.all().await
}

#[derive(Default)]
struct Progress {
    report: Report,
    /// Hosts that get no further steps.
    out: BTreeSet<String>,
    /// Failed members by role.
    failed: BTreeMap<Role, BTreeSet<String>>,
}

struct Run<'a> {
    plan: &'a Plan,
    desired: &'a BTreeMap<String, HostState>,
    contents: &'a Contents,
    session: &'a Session,
    options: &'a Options,
    events: &'a Events,
    /// Names this apply in the locks.
    id: String,
    progress: Mutex<Progress>,
}

/// What a call did on a host.
struct Outcome {
    /// Steps done.
    done: usize,
    failure: Option<(usize, String)>,
    /// The host itself is in trouble, not one of its services.
    lost: bool,
}

impl Outcome {
    fn lost(error: String) -> Self {
        Self { done: 0, failure: Some((0, error)), lost: true }
    }
}

/// The step that failed.
struct Failed {
    words: String,
    only_not_ready: bool,
}

impl Failed {
    fn hard(words: &str) -> Self {
        Self { words: words.to_owned(), only_not_ready: false }
    }
}

impl Run<'_> {
    fn progress<T>(&self, f: impl FnOnce(&mut Progress) -> T) -> T {
        f(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn say(&self, event: ApplyEvent) {
        // Whoever renders may have gone away; the work goes on.
        let _gone = self.events.send(event).await;
    }

    async fn all(&self) -> Report {
        self.progress(|progress| {
            for (host, why) in &self.plan.unreachable {
                progress.report.hosts.entry(host.clone()).or_default().unreachable = true;
                progress.out.insert(host.clone());
                let roles = self.desired.get(host).into_iter().flat_map(|state| &state.parts);
                for part in roles {
                    progress.failed.entry(part.role).or_default().insert(host.clone());
                }
                progress.report.failures.push(Failure {
                    host: host.clone(),
                    service: "host".to_owned(),
                    step: "connect".to_owned(),
                    error: why.clone(),
                });
            }
        });
        let hosts: Vec<&str> = self.plan.hosts().into_iter().collect();
        self.progress(|progress| {
            for host in &hosts {
                progress.report.hosts.entry((*host).to_owned()).or_default();
            }
        });
        if self.lock(&hosts).await {
            let work = async {
                for stage in &self.plan.stages {
                    self.stage(stage).await;
                }
            };
            tokio::select! {
                () = work => {}
                () = self.heartbeat(&hosts) => {}
            }
        } else {
            self.skip_all().await;
        }
        self.unlock(&hosts).await;
        self.progress(|progress| std::mem::take(&mut progress.report))
    }

    /// Takes the lock on every host; a lock that somebody holds stops all of it.
    async fn lock(&self, hosts: &[&str]) -> bool {
        let locked = futures_util::stream::iter(hosts.iter().map(|host| async move {
            let mut script = Script::new();
            let added = self.lock_line(&mut script);
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
    async fn heartbeat(&self, hosts: &[&str]) {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            let beats = hosts.iter().filter(|host| !self.progress(|progress| progress.out.contains(**host)));
            let beats = futures_util::stream::iter(beats.map(|host| async move {
                let mut script = Script::new();
                if self.lock_line(&mut script).is_ok() {
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

    fn lock_line(&self, script: &mut Script) -> Result<(), super::ApplyError> {
        script.line(&[
            "lock",
            &self.id,
            &self.options.operator,
            &LOCK_STALE.as_secs().to_string(),
            &self.plan.rests_on.to_string(),
        ])
    }

    async fn unlock(&self, hosts: &[&str]) {
        let unlocked = futures_util::stream::iter(hosts.iter().map(|host| async move {
            let mut script = Script::new();
            let result =
                if self.progress(|progress| progress.out.contains(*host)) { "failed" } else { "done" };
            let audit = format!("{} generation {} {result}", self.options.operator, self.plan.generation);
            if script.line(&["audit", &audit]).and_then(|()| script.line(&["unlock", &self.id])).is_ok() {
                let outcome = self.call(host, "unlock", script, &[], LOCK_LIMIT).await;
                if let Some((_, error)) = outcome.failure {
                    tracing::warn!(host, error, "lock is left to expire");
                }
            }
        }));
        unlocked.buffer_unordered(self.options.parallel.max(1)).collect::<()>().await;
    }

    async fn skip_all(&self) {
        for stage in &self.plan.stages {
            for wave in &stage.waves {
                self.skip(stage, wave, "the lock was not free on every host").await;
            }
        }
    }

    async fn stage(&self, stage: &Stage) {
        let hosts: Vec<String> = stage
            .waves
            .iter()
            .flat_map(|wave| wave.steps.keys())
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        self.say(ApplyEvent::StageStarted { role: stage.role, service: stage.service.clone(), hosts }).await;
        let mut stop = self.blocked(stage.role);
        for wave in &stage.waves {
            if let Some(reason) = &stop {
                self.skip(stage, wave, reason).await;
                continue;
            }
            let failed = self.wave(stage, wave).await;
            if let (false, true) = (failed.is_empty(), stage.role.rolling()) {
                stop = Some(format!(
                    "{} failed on {}; the others keep running as they are",
                    stage.service,
                    failed.join(", ")
                ));
            }
        }
    }

    /// Why a role cannot be brought up: one that it needs has lost its majority.
    fn blocked(&self, role: Role) -> Option<String> {
        self.progress(|progress| {
            role.needs().iter().find_map(|needed| {
                let members = self
                    .desired
                    .values()
                    .filter(|state| state.parts.iter().any(|part| part.role == *needed))
                    .count();
                let failed = progress.failed.get(needed).map_or(0, BTreeSet::len);
                (members > 0 && failed * 2 >= members)
                    .then(|| format!("{role} needs {needed}, which is not ready"))
            })
        })
    }

    /// Runs a wave; returns the hosts that failed.
    async fn wave(&self, stage: &Stage, wave: &Wave) -> Vec<String> {
        let touched: Vec<&String> = wave
            .steps
            .iter()
            .filter(|(_, steps)| {
                steps.iter().any(|step| matches!(step.action, Action::StartUnit(_) | Action::RestartUnit(_)))
            })
            .map(|(host, _)| host)
            .collect();
        self.downtime(stage, &touched, "downtime").await;
        let failed = self.work(stage, wave).await;
        // What failed is the monitor's business from now on.
        self.downtime(stage, &touched, "downtime-end").await;
        failed
    }

    /// Tells the monitor which service is about to be touched where, or that it is over. The work does not depend
    /// on it: a monitor that is not there mails nothing.
    async fn downtime(&self, stage: &Stage, hosts: &[&String], verb: &str) {
        let monitors = self
            .desired
            .iter()
            .filter(|(_, state)| state.parts.iter().any(|part| part.role == Role::Monitor))
            .map(|(name, _)| name);
        for monitor in monitors.filter(|_| !hosts.is_empty()) {
            let mut script = Script::new();
            let added: Result<(), super::ApplyError> = hosts.iter().try_for_each(|host| {
                let name = format!("apply-{host}-{}", stage.service.replace('/', "-"));
                let seconds = DOWNTIME.as_secs().to_string();
                script.line(&[verb, paths::DOWNTIMES, &name, host, &stage.service, &seconds])
            });
            if added.is_ok() {
                let outcome = self.call(monitor, "downtime", script, &[], LOCK_LIMIT).await;
                if let Some((_, error)) = outcome.failure {
                    tracing::debug!(monitor, error, "downtime not announced");
                }
            }
        }
    }

    async fn work(&self, stage: &Stage, wave: &Wave) -> Vec<String> {
        let mut failed = self.hosts(stage, &wave.steps).await;
        if failed.is_empty() {
            let service = format!("{} ready test", stage.service);
            let tests = Stage { role: stage.role, service, members: BTreeSet::new(), waves: Vec::new() };
            failed = self.hosts(&tests, &wave.gates).await;
        }
        failed
    }

    async fn hosts(&self, stage: &Stage, steps: &BTreeMap<String, Vec<Step>>) -> Vec<String> {
        let working = futures_util::stream::iter(
            steps.iter().map(|(host, steps)| async move { (host, self.host(stage, host, steps).await) }),
        );
        let mut failed = Vec::new();
        let mut working = working.buffer_unordered(self.options.parallel.max(1));
        while let Some((host, good)) = working.next().await {
            if !good {
                failed.push(host.clone());
            }
        }
        failed.sort();
        failed
    }

    async fn host(&self, stage: &Stage, host: &str, steps: &[Step]) -> bool {
        if self.progress(|progress| progress.out.contains(host)) {
            self.left_out(stage, host, steps.len(), "an earlier step failed on this host").await;
            return true;
        }
        let started = SystemClock.instant();
        let mut script = Script::new();
        let compiled = self
            .lock_line(&mut script)
            .and_then(|()| {
                let audit = format!(
                    "{} generation {} {}: {} steps",
                    self.options.operator,
                    self.plan.generation,
                    stage.service,
                    steps.len()
                );
                script.line(&["audit", &audit])
            })
            .and_then(|()| script.steps(host, steps, self.contents));
        if let Err(error) = compiled {
            self.fail(host, stage.role, &stage.service, &Failed::hard("prepare"), &error.to_string()).await;
            return false;
        }
        self.say(ApplyEvent::HostStarted {
            host: host.to_owned(),
            service: stage.service.clone(),
            steps: steps.len(),
            bytes: script.bytes,
            step: steps.first().map(|step| step.action.to_string()).unwrap_or_default(),
        })
        .await;
        let timeout = script.timeout;
        let outcome = self.call(host, &stage.service, script, steps, timeout).await;
        self.count(host, steps, &outcome);
        match outcome.failure {
            None => {
                let event = ApplyEvent::HostDone {
                    host: host.to_owned(),
                    service: stage.service.clone(),
                    elapsed: started.elapsed(),
                };
                self.say(event).await;
                true
            }
            Some((number, error)) => {
                let action = steps.get(number).map(|step| &step.action);
                let step = Failed {
                    words: action.map(ToString::to_string).unwrap_or_default(),
                    only_not_ready: !outcome.lost && matches!(action, Some(Action::AwaitReady(_))),
                };
                self.fail(host, stage.role, &stage.service, &step, &error).await;
                false
            }
        }
    }

    fn count(&self, host: &str, steps: &[Step], outcome: &Outcome) {
        self.progress(|progress| {
            let counts = progress.report.hosts.entry(host.to_owned()).or_default();
            for step in steps.iter().take(outcome.done) {
                match step.action.change() {
                    Change::Nothing => counts.ok += 1,
                    Change::Add | Change::Alter | Change::Restart => counts.changed += 1,
                }
            }
            if outcome.failure.is_some() {
                counts.skipped += steps.len().saturating_sub(outcome.done + 1);
            }
        });
    }

    /// Notes a failure. A service that does not become ready leaves the host's other services alone; after any
    /// other failure the host gets no further steps.
    async fn fail(&self, host: &str, role: Role, service: &str, step: &Failed, error: &str) {
        self.progress(|progress| {
            progress.report.hosts.entry(host.to_owned()).or_default().failed += 1;
            if !step.only_not_ready {
                progress.out.insert(host.to_owned());
            }
            progress.failed.entry(role).or_default().insert(host.to_owned());
            progress.report.failures.push(Failure {
                host: host.to_owned(),
                service: service.to_owned(),
                step: step.words.clone(),
                error: error.to_owned(),
            });
        });
        let event = ApplyEvent::HostFailed {
            host: host.to_owned(),
            service: service.to_owned(),
            error: error.to_owned(),
        };
        self.say(event).await;
    }

    async fn skip(&self, stage: &Stage, wave: &Wave, reason: &str) {
        for (host, steps) in &wave.steps {
            self.left_out(stage, host, steps.len(), reason).await;
        }
    }

    async fn left_out(&self, stage: &Stage, host: &str, steps: usize, reason: &str) {
        self.progress(|progress| {
            progress.report.hosts.entry(host.to_owned()).or_default().skipped += steps;
        });
        let (host, service) = (host.to_owned(), stage.service.clone());
        self.say(ApplyEvent::Skipped { host, service, reason: reason.to_owned() }).await;
    }

    /// One call on a host. Progress is told as lines come in; the result is read from all of them at the end.
    async fn call(
        &self,
        host: &str,
        service: &str,
        script: Script,
        steps: &[Step],
        timeout: Duration,
    ) -> Outcome {
        let Some(connection) = self.session.host(host).map(Arc::clone) else {
            return Outcome::lost(format!("{host}: there is no connection"));
        };
        let Script { lines, bodies, ends, .. } = script;
        let on_line = |line: &str| self.line(host, service, &ends, steps, line);
        let call = Call { command: Command::Execute(lines, bodies), timeout };
        let output = connection.as_ref().call(call, &on_line).await;
        outcome(host, &ends, steps, output)
    }

    fn line(&self, host: &str, service: &str, ends: &[Option<usize>], steps: &[Step], line: &str) {
        let event = match line.split_once('|') {
            Some(("done", number)) => {
                let ended =
                    number.parse::<usize>().ok().and_then(|number| ends.get(number).copied().flatten());
                ended.and_then(|number| {
                    Some(ApplyEvent::StepDone {
                        host: host.to_owned(),
                        service: service.to_owned(),
                        step: steps.get(number)?.action.to_string(),
                        number: number + 1,
                        steps: steps.len(),
                        next: steps.get(number + 1).map(|step| step.action.to_string()),
                    })
                })
            }
            Some(("note", rest)) => rest.split_once('|').map(|(_, text)| ApplyEvent::Note {
                host: host.to_owned(),
                text: decode(text).replace('\n', "; "),
            }),
            _ => None,
        };
        if let Some(event) = event {
            // Progress only: a full channel loses a line of it, never a result.
            let _full = self.events.try_send(event);
        }
    }
}

fn outcome(
    host: &str,
    ends: &[Option<usize>],
    steps: &[Step],
    output: Result<crate::host::Output, HostError>,
) -> Outcome {
    let output = match output {
        Ok(output) => output,
        Err(error) => return Outcome::lost(error.to_string()),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut lines_done, mut failure) = (0, None);
    for line in text.lines() {
        match line.split_once('|') {
            Some(("done", number)) => lines_done = number.parse::<usize>().map_or(lines_done, |n| n + 1),
            Some(("failed", rest)) => failure = rest.split_once('|').map(|(_, detail)| decode(detail)),
            _ => {}
        }
    }
    let done = ends.iter().take(lines_done).filter_map(|end| *end).max().map_or(0, |last| last + 1);
    if lines_done == ends.len() && output.status == Some(0) {
        return Outcome { done: steps.len(), failure: None, lost: false };
    }
    // Files that are written aside end with their commit; the line tells which one it was.
    let at = ends.iter().skip(lines_done).find_map(|end| *end).unwrap_or(done);
    let lost = failure.is_none();
    let detail = failure.unwrap_or_else(|| {
        let said = output.stderr.trim();
        format!("the host stopped answering in the middle{}{said}", if said.is_empty() { "" } else { ": " })
    });
    Outcome { done, failure: Some((at, format!("{host}: {detail}"))), lost }
}

fn decode(base64: &str) -> String {
    STANDARD
        .decode(base64.trim())
        .map_or_else(|_| base64.to_owned(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}
