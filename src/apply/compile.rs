//! Steps to the lines of `execute.sh`.

use super::archive::{Archive, Staged};
use super::{ApplyError, Contents};
use crate::host::Body;
use crate::plan::{Action, Step};
use crate::service::{MemberChange, paths};
use bytes::Bytes;
use std::fmt::Write as _;
use std::time::Duration;

/// For what is not waiting: files, users, starts.
const WORK_LIMIT: Duration = Duration::from_mins(2);
/// For `apt-get`, which may wait for another one and must download.
const PACKAGES_LIMIT: Duration = Duration::from_mins(15);
/// A link of 1 MB/s is slow but honest.
const SEND_BYTES_PER_SECOND: u64 = 1_000_000;
/// Stopping a broker may take its whole stop timeout.
const RESTART_LIMIT: Duration = Duration::from_mins(4);

/// What an apply does on hosts besides the steps of its plan: bookkeeping of its own, nothing of the cluster's.
#[derive(Debug)]
pub(super) enum Upkeep {
    /// Takes the lock, or says that its holder lives.
    Lock { id: String, operator: String, stale_secs: u64, generation: u64, operation: String },
    /// Says that its holder lives, where it is still held.
    Touch(String),
    /// Gives the lock back.
    Unlock(String),
    /// Appends a line to the host's audit log.
    Audit(String),
    /// Tells the monitor that a service is about to be touched.
    Downtime { name: String, host: String, service: String, seconds: u64, reason: String },
    /// Tells it that this is over.
    DowntimeEnd(String),
    /// Leaves a copy of the lock file where it differs from the one that is there, for the day when the controller's is
    /// lost.
    KeepIds { generation: u64, lock: Bytes },
}

/// One call: lines, bytes, and which line ends which step.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) lines: String,
    pub(super) bodies: Vec<Body>,
    /// For each line the step that it ends.
    pub(super) ends: Vec<Option<usize>>,
    pub(super) timeout: Duration,
    pub(super) bytes: u64,
    /// Files of the run of steps that is being added.
    archive: Archive,
}

impl Script {
    pub(super) fn new() -> Self {
        Self { timeout: WORK_LIMIT, ..Self::default() }
    }

    /// Adds bookkeeping. With [`Script::steps`] it is the only way into a script: what changes a cluster is a step, and
    /// only a plan has steps.
    pub(super) fn upkeep(&mut self, upkeep: &Upkeep) -> Result<(), ApplyError> {
        match upkeep {
            Upkeep::Lock { id, operator, stale_secs, generation, operation } => {
                let (stale, generation) = (stale_secs.to_string(), generation.to_string());
                self.line(&["lock", id, operator, &stale, &generation, operation])
            }
            Upkeep::Touch(id) => self.line(&["touch", id]),
            Upkeep::Unlock(id) => self.line(&["unlock", id]),
            Upkeep::Audit(text) => self.line(&["audit", text]),
            Upkeep::Downtime { name, host, service, seconds, reason } => {
                self.line(&["downtime", paths::DOWNTIMES, name, host, service, &seconds.to_string(), reason])
            }
            Upkeep::DowntimeEnd(name) => self.line(&["downtime-end", paths::DOWNTIMES, name]),
            Upkeep::KeepIds { generation, lock } => {
                self.line(&["ids", &generation.to_string()])?;
                self.bodies.push(Body::Text(lock.clone()));
                Ok(())
            }
        }
    }

    fn line(&mut self, fields: &[&str]) -> Result<(), ApplyError> {
        // The program reads lines and parts them at bars; nothing else needs escaping.
        if let Some(bad) = fields.iter().find(|field| field.contains(['|', '\n', '\\'])) {
            return Err(ApplyError::Unsafe((*bad).to_owned()));
        }
        let _infallible = writeln!(self.lines, "{}", fields.join("|"));
        self.ends.push(None);
        Ok(())
    }

    fn end(&mut self, step: usize) {
        if let Some(last) = self.ends.last_mut() {
            *last = Some(step);
        }
    }

    /// Adds all steps of a host. Files that follow one another travel as one archive, are written aside first and put
    /// in place together, before the first step that might read them: a program started for each would take most of
    /// the time.
    pub(super) fn steps(
        &mut self,
        host: &str,
        steps: &[Step],
        contents: &Contents,
    ) -> Result<(), ApplyError> {
        let mut pending: Vec<usize> = Vec::new();
        let mut units: Vec<&str> = Vec::new();
        for (number, step) in steps.iter().enumerate() {
            if let Action::EnableUnit(unit) = step.action() {
                units.push(unit);
                let next = steps.get(number + 1).map(Step::action);
                if matches!(next, Some(Action::EnableUnit(_))) {
                    continue;
                }
                if !pending.is_empty() {
                    self.commit(&mut pending)?;
                }
                // One program enables all of them; the last stands for them.
                self.line(&["enable", &units.join(" ")])?;
                self.end(number);
                units.clear();
                continue;
            }
            if !matches!(step.action(), Action::WriteFile { .. }) && !pending.is_empty() {
                self.commit(&mut pending)?;
            }
            self.step(host, step.action(), steps.get(number + 1).map(Step::action), contents)?;
            if matches!(step.action(), Action::WriteFile { .. }) {
                pending.push(number);
            } else {
                self.end(number);
            }
        }
        if pending.is_empty() { Ok(()) } else { self.commit(&mut pending) }
    }

    fn commit(&mut self, pending: &mut Vec<usize>) -> Result<(), ApplyError> {
        let archive = std::mem::take(&mut self.archive).pack()?;
        self.line(&["commit", &archive.len().to_string()])?;
        self.bytes += u64::try_from(archive.len()).unwrap_or(u64::MAX);
        self.bodies.push(Body::Bytes(archive));
        // All of them end here; the last stands for them.
        if let Some(last) = pending.last() {
            self.end(*last);
        }
        pending.clear();
        Ok(())
    }

    fn step(
        &mut self,
        host: &str,
        action: &Action,
        next: Option<&Action>,
        contents: &Contents,
    ) -> Result<(), ApplyError> {
        match action {
            Action::InstallPackages(packages) => {
                self.timeout += PACKAGES_LIMIT;
                self.line(&["packages", &packages.join(" ")])
            }
            Action::CreateUser { name, home } => self.line(&["user", name, home]),
            Action::SetDirectory { path, mode, owner, group, .. } => {
                self.line(&["directory", mode, owner, group, path])
            }
            Action::SendArtifact(artifact) => {
                let pieces = contents
                    .pieces
                    .get(&artifact.id)
                    .ok_or_else(|| ApplyError::NoContent(artifact.name.clone()))?;
                self.line(&["artifact", &artifact.id])?;
                let mut sums = String::new();
                for piece in pieces {
                    let mode = if piece.executable { "755" } else { "644" };
                    self.line(&["part", &artifact.id, &piece.bytes.to_string(), mode, &piece.name])?;
                    self.bodies.push(Body::File(piece.path.clone()));
                    self.bytes += piece.bytes;
                    let _infallible = writeln!(sums, "{}  {}", piece.sha512, piece.name);
                }
                self.line(&["part", &artifact.id, &sums.len().to_string(), "644", "SHA512SUMS"])?;
                self.bodies.push(Body::Bytes(Bytes::from(sums)));
                let sent: u64 = pieces.iter().map(|piece| piece.bytes).sum();
                self.timeout += Duration::from_secs(sent / SEND_BYTES_PER_SECOND);
                self.line(&["artifact-end", &artifact.id])
            }
            Action::SetLink { path, target, .. } => self.line(&["link", path, target]),
            Action::WriteFile { path, mode, owner, group, sha256, .. } => {
                let key = (host.to_owned(), path.clone());
                let (known, bytes) =
                    contents.files.get(&key).ok_or_else(|| ApplyError::NoContent(path.clone()))?;
                if *known != sha256.hex {
                    return Err(ApplyError::Stale { host: host.to_owned(), path: path.clone() });
                }
                self.archive.add(Staged { path, mode, owner, group, bytes: bytes.clone() })?;
                self.line(&["file", mode, owner, group, path])
            }
            Action::FormatKafka(format) => self.line(&[
                "kafka-format",
                &format.java,
                &format.artifact,
                &format.config,
                &format.cluster_id,
                // A controller that joins those that are there has no vote yet.
                format.initial_controllers.as_deref().unwrap_or(if format.controller { "-" } else { "" }),
                &format.marker,
            ]),
            Action::ApplySysctl(path) => self.line(&["sysctl", path]),
            Action::ReloadSystemd => self.line(&["daemon-reload"]),
            Action::EnableUnit(unit) => self.line(&["enable", unit]),
            Action::StartUnit(start) => self.unit(&["start", &start.unit], start),
            Action::RestartUnit(start) => {
                self.timeout += RESTART_LIMIT;
                match next {
                    // One program restarts it, and the gate looks at what became of it.
                    Some(Action::AwaitReady(gate))
                        if gate.test.first().is_some_and(|test| test == "units") =>
                    {
                        self.timeout += Duration::from_secs(gate.timeout_secs);
                        self.unit(&["restart", &start.unit, &gate.timeout_secs.to_string()], start)
                    }
                    _ => self.unit(&["restart", &start.unit], start),
                }
            }
            Action::ReloadUnit(start) => self.unit(&["reload", &start.unit], start),
            Action::AwaitStop(gate) | Action::AwaitReady(gate) => {
                self.timeout += Duration::from_secs(gate.timeout_secs.max(gate.patience_secs));
                let (limit, patience) = (gate.timeout_secs.to_string(), gate.patience_secs.to_string());
                let down = if gate.or_down { "down" } else { "" };
                self.line(&["gate", &gate.unit, &limit, &gate.test.join(" "), &patience, down])
            }
            Action::ChangeMember(change) => self.member(change),
            Action::Adopt { start, change } => {
                self.member(change)?;
                self.line(&["started", &start.unit, &start.restart, &start.reload])
            }
            Action::RecordReady(start) => self.line(&["ready", &start.unit, &start.restart, &start.reload]),
            Action::HaltUnit(unit) => {
                self.timeout += RESTART_LIMIT;
                self.line(&["halt", unit])
            }
            Action::RebootHost(_) => self.line(&["reboot"]),
            Action::StopUnit(unit) => {
                self.timeout += RESTART_LIMIT;
                self.line(&["retire", unit])
            }
            Action::Remove(path) => self.line(&["remove", path]),
            Action::RemoveDirectory(path) => self.line(&["rmdir", path]),
            Action::RemoveArtifact(id) => self.line(&["artifact-remove", id]),
            Action::RemoveData(path) => self.line(&["remove-data", path]),
            Action::PutBack(paths) => self.line(&["putback", &paths.join(" ")]),
            Action::RecordManifest(manifest) => {
                self.line(&["manifest"])?;
                self.bodies.push(Body::Text(Bytes::from(manifest.to_string())));
                Ok(())
            }
            Action::RecordGeneration { generation, keep, artifacts } => {
                let snapshot = contents.snapshots.get(host).cloned().unwrap_or_default();
                let keep = keep.to_string();
                self.line(&["generation", &generation.to_string(), &keep, &artifacts.join(" ")])?;
                self.bytes += u64::try_from(snapshot.len()).unwrap_or(u64::MAX);
                self.bodies.push(Body::Text(snapshot));
                Ok(())
            }
        }
    }

    fn member(&mut self, change: &MemberChange) -> Result<(), ApplyError> {
        self.timeout += Duration::from_secs(change.timeout_secs);
        self.line(&["member", &change.timeout_secs.to_string(), &change.args.join(" ")])
    }

    /// Noted only after it happened: a break between the two costs a second restart, never a missed one.
    fn unit(&mut self, fields: &[&str], start: &crate::plan::UnitStart) -> Result<(), ApplyError> {
        self.line(fields)?;
        self.line(&["started", &start.unit, &start.restart, &start.reload])
    }
}
