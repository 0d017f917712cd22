//! The executor.

use super::compile::{Script, Upkeep};
use super::guard::Touched;
use super::outcome::{Failed, Outcome, decode, outcome};
use super::prepare::{PrepareError, Prepared};
use super::report::{Failure, Report};
use super::session::{Session, observe};
use super::{ApplyError, ApplyEvent, Contents, Events, Options, audit, reboot};
use crate::clock::{Clock, SystemClock};
use crate::host::{Call, Command, Connect};
use crate::inventory::model::Inventory;
use crate::plan::{Action, Change, Plan, Stage, Step, Wave};
use crate::service::{HostState, Part, Role, paths, users_of};
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// `aesop turn` gives up before.
const RANK_LIMIT: Duration = Duration::from_secs(15);

/// Observes, plans and applies without asking; what demos and tests call. The plan comes back with the report.
pub async fn run(
    inventory: &Inventory,
    prepared: &Prepared,
    connect: &dyn Connect,
    options: &Options,
    events: Events,
) -> Result<(Plan, Report), PrepareError> {
    let (session, observed) = observe(connect, &prepared.hosts, &prepared.desired, options.parallel).await;
    let plan = crate::plan::plan(&inventory.cluster, &prepared.desired, &observed);
    prepared.save_lock()?;
    let contents = prepared.contents(&prepared.desired, &plan, &events).await?;
    let report = execute(&plan, &prepared.desired, &contents, &session, options, &events).await;
    session.close().await;
    prepared.settle(&prepared.desired, &report)?;
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
pub(super) struct Progress {
    pub(super) report: Report,
    /// Hosts that get no further steps.
    pub(super) out: BTreeSet<String>,
    /// Hosts that have the generation, and their lock back.
    pub(super) left: BTreeSet<String>,
    /// Failed members by role.
    pub(super) failed: BTreeMap<Role, BTreeSet<String>>,
}

pub(super) struct Run<'a> {
    pub(super) plan: &'a Plan,
    pub(super) desired: &'a BTreeMap<String, HostState>,
    pub(super) contents: &'a Contents,
    pub(super) session: &'a Session,
    pub(super) options: &'a Options,
    pub(super) events: &'a Events,
    /// Names this apply in the locks.
    pub(super) id: String,
    pub(super) progress: Mutex<Progress>,
}

fn changes_members(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step.action(), Action::ChangeMember(change) if change.membership))
}

impl Run<'_> {
    pub(super) fn progress<T>(&self, f: impl FnOnce(&mut Progress) -> T) -> T {
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
        let mut stop = self.blocked(stage.role).or_else(|| self.in_use(stage));
        let mut left: Vec<&Wave> = stage.waves.iter().collect();
        while let Some(wave) = self.next(&mut left, stop.is_some()).await {
            if let Some(reason) = &stop {
                self.skip(stage, wave, reason).await;
                continue;
            }
            let failed = self.wave(stage, wave).await;
            if let (false, true) = (failed.is_empty(), stage.stops_at_a_failure()) {
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
        let mut parts = self.desired.values().flat_map(|state| &state.parts);
        let needs = parts.find(|part| part.role == role).map_or(&[][..], Part::needs);
        self.progress(|progress| {
            needs.iter().find_map(|needed| {
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

    /// Why members must not leave: others did not come, or somebody may know no others yet.
    fn in_use(&self, stage: &Stage) -> Option<String> {
        let steps = || stage.waves.iter().flat_map(|wave| wave.steps.values());
        if !stage.removes || !steps().any(|steps| changes_members(steps)) {
            return None;
        }
        let mut users = users_of(self.desired, stage.role);
        users.insert(stage.role);
        self.progress(|progress| {
            let failed = |role: &Role| progress.failed.get(role).is_some_and(|hosts| !hosts.is_empty());
            let role = users.into_iter().find(failed)?;
            let hosts = progress.failed.get(&role).into_iter().flatten().cloned().collect::<Vec<_>>();
            Some(format!(
                "{role} failed on {}; members of {} stay until all is well",
                hosts.join(", "),
                stage.service
            ))
        })
    }

    /// The next wave. Where members take turns, those that are left are asked whose turn it is: leaders move while
    /// others restart.
    async fn next<'w>(&self, left: &mut Vec<&'w Wave>, stopped: bool) -> Option<&'w Wave> {
        let turns = left.iter().take_while(|wave| wave.turn.is_some()).count();
        let mut at = 0;
        if turns > 1 && !stopped {
            let ranks = left.iter().take(turns).map(|wave| self.rank(wave));
            let ranks = futures_util::future::join_all(ranks).await;
            at = (0..turns).min_by_key(|index| ranks.get(*index).copied()).unwrap_or(0);
        }
        (at < left.len()).then(|| left.remove(at))
    }

    /// What the host of a turn says; a host that cannot say is left where the plan has it, before those that lead.
    async fn rank(&self, wave: &Wave) -> u8 {
        const NOBODY_KNOWS: u8 = 2;
        let (Some(turn), Some(host)) = (&wave.turn, wave.steps.keys().next()) else { return NOBODY_KNOWS };
        let Some(connection) = self.session.host(host).map(Arc::clone) else { return NOBODY_KNOWS };
        let mut argv = vec![paths::AESOP.to_owned(), "turn".to_owned()];
        argv.extend(turn.rank.iter().cloned());
        let call = Call { command: Command::Argv(argv), timeout: RANK_LIMIT };
        let output = connection.as_ref().call(call, &|_| ()).await;
        let said = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
        said.and_then(|text| text.trim().parse().ok()).unwrap_or(NOBODY_KNOWS)
    }

    /// Runs a wave; returns the hosts that failed.
    async fn wave(&self, stage: &Stage, wave: &Wave) -> Vec<String> {
        let touched: Vec<Touched> =
            wave.steps.iter().filter_map(|(host, steps)| Touched::of(stage, wave, host, steps)).collect();
        self.downtime(&touched, true).await;
        let failed = self.work(stage, wave).await;
        // What failed is the monitor's business from now on.
        self.downtime(&touched, false).await;
        failed
    }

    async fn work(&self, stage: &Stage, wave: &Wave) -> Vec<String> {
        let mut failed = self.hosts(stage, &wave.steps, &wave.put_back).await;
        if failed.is_empty() {
            let service = format!("{} ready test", stage.service);
            let tests = Stage { service, members: BTreeSet::new(), waves: Vec::new(), ..*stage };
            failed = self.hosts(&tests, &wave.gates, &BTreeMap::new()).await;
        }
        failed
    }

    async fn hosts(
        &self,
        stage: &Stage,
        steps: &BTreeMap<String, Vec<Step>>,
        put_back: &BTreeMap<String, Vec<Step>>,
    ) -> Vec<String> {
        let working = futures_util::stream::iter(steps.iter().map(|(host, steps)| async move {
            let put_back = put_back.get(host).map_or(&[][..], Vec::as_slice);
            (host, self.host(stage, host, steps, put_back).await)
        }));
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

    async fn host(&self, stage: &Stage, host: &str, steps: &[Step], put_back: &[Step]) -> bool {
        if self.progress(|progress| progress.out.contains(host)) {
            self.left_out(stage, host, steps.len(), "an earlier step failed on this host").await;
            // What comes after a change of members rests on it.
            return !changes_members(steps);
        }
        if stage.service == Stage::GENERATION && self.has_failed(host) {
            self.left_out(stage, host, steps.len(), "a generation that is not whole is not kept").await;
            return true;
        }
        if stage.service == Stage::GENERATION && self.progress(|progress| progress.left.contains(host)) {
            return true;
        }
        let started = SystemClock.instant();
        let parting = self.parting(stage, host);
        let with_notes = [steps, parting.unwrap_or_default()].concat();
        let steps = with_notes.as_slice();
        let script = self.script(&stage.service, host, steps).and_then(|mut script| {
            parting.map_or(Ok(()), |_| self.add_unlock(&mut script, "done")).map(|()| script)
        });
        let script = match script {
            Ok(script) => script,
            Err(error) => {
                let step = Failed::hard("prepare");
                self.fail(host, stage.role, &stage.service, &step, &error.to_string()).await;
                return false;
            }
        };
        self.say(ApplyEvent::HostStarted {
            host: host.to_owned(),
            service: stage.service.clone(),
            steps: steps.len(),
            bytes: script.bytes,
            step: steps.first().map(|step| step.action().to_string()).unwrap_or_default(),
        })
        .await;
        let timeout = script.timeout;
        let outcome = match reboot::position(steps) {
            Some(at) => self.around_reboot(&stage.service, host, steps, at).await,
            None => self.call(host, &stage.service, script, steps, timeout).await,
        };
        self.count(host, steps, &outcome);
        match outcome.failure {
            None => {
                if parting.is_some() {
                    self.progress(|progress| progress.left.insert(host.to_owned()));
                }
                let event = ApplyEvent::HostDone {
                    host: host.to_owned(),
                    service: stage.service.clone(),
                    elapsed: started.elapsed(),
                };
                self.say(event).await;
                true
            }
            Some((number, error)) => {
                let action = steps.get(number).map(Step::action);
                let step = Failed {
                    words: action.map(ToString::to_string).unwrap_or_default(),
                    // What may not stop yet is not removed either.
                    only_not_ready: !outcome.lost
                        && !stage.removes
                        && matches!(action, Some(Action::AwaitReady(_) | Action::AwaitStop(_))),
                };
                // A member that may not stop runs on as it is: there is nothing to put back.
                let tried =
                    !outcome.lost && matches!(action, Some(Action::AwaitReady(_) | Action::Adopt { .. }));
                let error = if tried {
                    format!("{}\n{}", error.trim_end(), self.put_back(stage, host, steps, put_back).await)
                } else {
                    error
                };
                self.fail(host, stage.role, &stage.service, &step, &error).await;
                false
            }
        }
    }

    pub(super) fn script(&self, service: &str, host: &str, steps: &[Step]) -> Result<Script, ApplyError> {
        let mut script = Script::new();
        script.upkeep(&self.lock_line())?;
        let (operator, generation) = (&self.options.operator, self.plan.generation);
        let (version, words) = (crate::lock::VERSION, audit::words(steps));
        let text = format!("{operator} aesop {version} generation {generation} {service}: {words}");
        script.upkeep(&Upkeep::Audit(text))?;
        script.steps(host, steps, self.contents)?;
        Ok(script)
    }

    pub(super) fn has_failed(&self, host: &str) -> bool {
        self.progress(|progress| progress.report.hosts.get(host).is_some_and(|counts| counts.failed > 0))
    }

    fn count(&self, host: &str, steps: &[Step], outcome: &Outcome) {
        self.progress(|progress| {
            let counts = progress.report.hosts.entry(host.to_owned()).or_default();
            for step in steps.iter().take(outcome.done) {
                match step.change() {
                    Change::Nothing => counts.ok += 1,
                    Change::Add
                    | Change::Alter
                    | Change::Restart
                    | Change::Stop
                    | Change::Reboot
                    | Change::Remove => {
                        counts.changed += 1;
                    }
                }
            }
            if outcome.failure.is_some() {
                counts.skipped += steps.len().saturating_sub(outcome.done + 1);
            }
        });
    }

    /// Notes a failure. A service that does not become ready leaves the host's other services alone; after any
    /// other failure the host gets no further steps.
    pub(super) async fn fail(&self, host: &str, role: Role, service: &str, step: &Failed, error: &str) {
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
    pub(super) async fn call(
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
        outcome(host, &ends, steps.len(), output)
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
                        step: steps.get(number)?.action().to_string(),
                        number: number + 1,
                        steps: steps.len(),
                        next: steps.get(number + 1).map(|step| step.action().to_string()),
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
