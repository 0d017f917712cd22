//! Who belongs to ZooKeeper's ensemble and who should: which server founds it, joins, comes back or leaves, one after the
//! other.
//!
//! What counts is what ZooKeeper's servers keep themselves. A server that joins starts as a learner without a vote and
//! gets it once it has caught up; one that is empty, or at another place, loses its vote first. So no server ever votes
//! without the data that the others have acknowledged.

mod leaving;

use super::order::{Work, insert_before_turns};
use super::step::{Action, Step, UnitStart};
use super::{HostFacts, Observation, Observed, Stage, Wave};
use crate::ensemble::members::{Server, parse};
use crate::service::{EnsembleMember, Gate, HostState, MemberChange, Part, Role};
use leaving::Departing;
use std::collections::{BTreeMap, BTreeSet};

/// A learner copies what there is; a gate waits for others that are about to come back.
const CHANGE_SECS: u64 = 120;
/// A file is written.
const CONFIG_SECS: u64 = 30;
/// A try that is under way when the time is over ends by itself.
const GRACE_SECS: u64 = 45;

/// What a host is to the ensemble that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It belongs to it.
    Belongs,
    /// There is none, or none that ever had a quorum: it starts with the first members.
    Founds,
    /// It is new: it starts as a learner.
    Joins,
    /// A member that is empty, or has another place: it loses its vote, and joins again.
    Returns,
    /// The only member has another place.
    Moves,
}

/// A host that should have a member.
struct Wanted<'a> {
    member: &'a EnsembleMember,
    server: Server,
    /// It was reached.
    facts: Option<&'a HostFacts>,
}

/// The ensemble that is there, and the one that should be.
pub(super) struct Ensemble<'a> {
    /// Voters by `myid`, where any server knows of an ensemble, and whether it ever had a quorum.
    current: Option<(BTreeMap<u32, Server>, bool)>,
    wanted: BTreeMap<&'a str, Wanted<'a>>,
    ways: BTreeMap<&'a str, Way>,
    /// Hosts that should have no member, and have one.
    departing: BTreeMap<&'a str, Departing>,
    /// Those of them that are started once more.
    woken: BTreeSet<&'a str>,
}

impl<'a> Ensemble<'a> {
    /// None where the inventory has no ZooKeeper, or where the goal is not the inventory.
    pub(super) fn new(desired: &'a BTreeMap<String, HostState>, observed: &'a Observed) -> Option<Self> {
        let mut wanted = BTreeMap::new();
        for (host, state) in desired {
            let facts = match observed.hosts.get(host) {
                Some(Observation::Facts(facts)) => Some(facts.as_ref()),
                Some(Observation::Failed(_)) | None => None,
            };
            for part in state.parts.iter().filter(|part| part.role == Role::ZooKeeper) {
                let member = part.ensemble.as_ref()?;
                let server = Server::parse(&member.server)?;
                wanted.insert(host.as_str(), Wanted { member, server, facts });
            }
        }
        if wanted.is_empty() {
            return None;
        }
        let departing = leaving::departing(observed, |host| wanted.contains_key(host));
        let mut this = Self {
            current: current(observed),
            wanted,
            ways: BTreeMap::new(),
            departing,
            woken: BTreeSet::new(),
        };
        let ways = this.wanted.iter().filter(|(_, wanted)| wanted.facts.is_some());
        this.ways = ways.map(|(host, wanted)| (*host, this.way(wanted))).collect();
        this.woken = this.asleep_and_needed();
        Some(this)
    }

    fn way(&self, wanted: &Wanted<'_>) -> Way {
        let Some((members, had_quorum)) = &self.current else { return Way::Founds };
        match members.get(&wanted.member.id) {
            None => Way::Joins,
            Some(server) if server.same_place(&wanted.server) => match (wanted.is_empty(), had_quorum) {
                (false, _) => Way::Belongs,
                (true, false) => Way::Founds,
                (true, true) => Way::Returns,
            },
            Some(_) if members.len() == 1 => Way::Moves,
            Some(_) => Way::Returns,
        }
    }

    fn hosts(&self, way: Way) -> impl Iterator<Item = &'a str> + '_ {
        self.ways.iter().filter(move |(_, found)| **found == way).map(|(host, _)| *host)
    }

    /// What must not be done, and what a person should know.
    pub(super) fn judge(&self, refused: &mut Vec<String>, notes: &mut Vec<String>) {
        match &self.current {
            None => self.judge_founding(refused),
            Some((members, _)) => self.judge_members(members, refused, notes),
        }
    }

    fn judge_founding(&self, refused: &mut Vec<String>) {
        let names = |hosts: Vec<&str>| hosts.join(", ");
        let away = self.wanted.iter().filter(|(_, wanted)| wanted.facts.is_none()).map(|(host, _)| *host);
        let away: Vec<&str> = away.collect();
        let deployed = self.wanted.iter().filter(|(_, wanted)| wanted.member.deployed);
        let deployed: Vec<&str> = deployed.map(|(host, _)| *host).collect();
        if self.ways.is_empty() {
            return;
        }
        if self.wanted.values().any(|wanted| wanted.member.lived) {
            let place = if deployed.is_empty() { "hosts that left".to_owned() } else { names(deployed) };
            refused.push(format!(
                "ZooKeeper was deployed to {place}, and no host that answered has its data: starting it now would start it with nothing. Bring a host with the data back, or mount its disk; where the data is lost, `aesop lost-disk` for each of its hosts says so, and ZooKeeper starts anew: checkpoints are gone, consumers begin where `start` says"
            ));
        } else if !away.is_empty() {
            refused.push(format!(
                "ZooKeeper would be started for the first time without {}, which did not answer and may have data; bring it back, or take it out of `zookeeper.hosts`",
                names(away)
            ));
        }
    }

    fn judge_members(
        &self,
        members: &BTreeMap<u32, Server>,
        refused: &mut Vec<String>,
        notes: &mut Vec<String>,
    ) {
        let (mut lost, mut moved) = (Vec::new(), Vec::new());
        for host in self.hosts(Way::Returns).chain(self.hosts(Way::Moves)) {
            let Some(wanted) = self.wanted.get(host) else { continue };
            let id = wanted.member.id;
            if self.returns(host) && self.runner(Some(host)).is_none() {
                refused.push(format!(
                    "{host}: server.{id} of ZooKeeper must leave and join again, and no other member answered that could let it; bring one back"
                ));
            }
            if wanted.is_empty() {
                lost.push(host);
                if wanted.member.deployed {
                    refused.push(format!(
                        "{host}: server.{id} of ZooKeeper has nothing in {} any more, and the ensemble counts on what it acknowledged. Mount its disk if it is only away; if it is lost, say so with `aesop lost-disk {host}`: the next apply takes its vote away, lets it copy all from the others as a learner, and gives the vote back",
                        wanted.member.data_dir
                    ));
                }
            } else if members.get(&id).is_some_and(|server| server.host != wanted.server.host) {
                moved.push(host);
            }
        }
        let away = lost.len() + moved.len();
        let alone = members.len() == 1 && lost.is_empty();
        if away * 2 >= members.len() && away > 0 && !alone {
            lost.extend(moved);
            refused.push(format!(
                "{} of {} members of ZooKeeper are empty or at another address at once ({}), and the others are no majority that could let them in again; bring some of them back as they were, and change one after the other",
                away,
                members.len(),
                lost.join(", ")
            ));
        }
        let after = self.wanted.len();
        let changes = self.ways.values().any(|way| *way == Way::Joins) || self.leaving().next().is_some();
        if changes && after.is_multiple_of(2) {
            notes.push(format!(
                "ZooKeeper with {after} members stands the loss of no more of them than with {}",
                after - 1
            ));
        }
    }

    /// Makes what a host does for ZooKeeper what its way needs. `start` is its unit's.
    pub(super) fn prepare(&self, host: &str, part: &Part, start: UnitStart, active: bool, work: &mut Work) {
        let (Some(way), Some(wanted)) = (self.ways.get(host), self.wanted.get(host)) else { return };
        let known = self.current.as_ref().map(|(members, _)| members);
        let (Some(known), false) = (known, *way == Way::Belongs) else { return };
        let EnsembleMember { id, data_dir, .. } = wanted.member;
        let mut servers = known.clone();
        let founds = *way == Way::Founds;
        if !founds {
            servers.insert(*id, Server { votes: *way == Way::Moves, ..wanted.server.clone() });
        }
        let others: Vec<String> = known.keys().filter(|other| *other != id).map(u32::to_string).collect();
        let others = others.join(", ");
        let words = match way {
            Way::Founds | Way::Belongs => format!("server.{id} starts with the first members"),
            Way::Moves => format!("server.{id} starts at {}", wanted.server),
            Way::Joins | Way::Returns => {
                format!("server.{id} starts without a vote and copies what server.{others} have")
            }
        };
        // Where it never ran as a member, data that lies there is not of this ensemble's life.
        let record = wanted.facts.and_then(|facts| facts.records.get(&start.unit));
        let mut args = words_of(&["zookeeper-config", "--data-dir", data_dir]);
        if *way == Way::Joins && record.is_none() {
            args.push("--set-aside".to_owned());
        }
        for (id, server) in &servers {
            args.extend(["--server".to_owned(), format!("{id}={server}")]);
        }
        if founds && active {
            return;
        }
        let change =
            MemberChange { args, words, timeout_secs: CONFIG_SECS, membership: !founds, from_start: false };
        work.prepare.push(Step::plain(Action::ChangeMember(change)));
        if founds {
            return;
        }
        let gate = if *way == Way::Moves { part.gate.clone() } else { learner(part, &wanted.server) };
        let gate = gate.map(|gate| Step::plain(Action::AwaitReady(gate)));
        let action = if active { Action::RestartUnit } else { Action::StartUnit };
        let reason = if *way == Way::Moves { "its place changes" } else { "it has no vote there yet" };
        let reason = active.then(|| reason.to_owned());
        work.restart.clear();
        work.start = vec![Step::because(action(start.clone()), reason)];
        work.confirm = gate.iter().cloned().collect();
        work.confirm.push(Step::plain(Action::RecordReady(start)));
        work.gate = gate;
        work.put_back.clear();
        work.turn = None;
    }

    /// Whether a host's work waits until its member has lost its vote.
    pub(super) fn returns(&self, host: &str) -> bool {
        self.ways.get(host) == Some(&Way::Returns)
    }

    /// Puts the changes of members into the stages: those who come before any restart, those who go when nobody uses
    /// them any more.
    pub(super) fn arrange(
        &self,
        stages: &mut Vec<Stage>,
        works: &BTreeMap<&str, &Work>,
        returning: &BTreeMap<&str, Work>,
    ) {
        let Some((members, _)) = &self.current else { return };
        let mut voters: BTreeSet<u32> = members.keys().copied().collect();
        let mut waves = self.wait_for_woken(works);
        waves.extend(self.dead_leave(&mut voters));
        let mut ready: BTreeSet<&str> = self.hosts(Way::Belongs).chain(self.hosts(Way::Moves)).collect();
        let gates = |ready: &BTreeSet<&str>| -> BTreeMap<String, Vec<Step>> {
            let gates = ready.iter().filter_map(|host| {
                let gate = works.get(host)?.gate.clone()?;
                Some(((*host).to_owned(), vec![gate]))
            });
            gates.collect()
        };
        for (host, work) in returning {
            let (Some(wanted), Some(runner)) = (self.wanted.get(host), self.runner(Some(host))) else {
                continue;
            };
            ready.remove(host);
            voters.remove(&wanted.member.id);
            let leave = self.leave(runner, wanted.member.id, &wanted.server, &voters);
            waves.push(Wave { gates: gates(&ready), ..Wave::of(leave) });
            let steps = [&work.prepare, &work.start, &work.confirm].into_iter().flatten().cloned().collect();
            waves.push(Wave::of(BTreeMap::from([((*host).to_owned(), steps)])));
            voters.insert(wanted.member.id);
            waves.push(Wave { gates: gates(&ready), ..Wave::of(join(host, wanted, &voters, work)) });
            ready.insert(host);
        }
        for host in self.hosts(Way::Joins) {
            let (Some(wanted), Some(work)) = (self.wanted.get(host), works.get(host)) else { continue };
            voters.insert(wanted.member.id);
            waves.push(Wave { gates: gates(&ready), ..Wave::of(join(host, wanted, &voters, work)) });
            ready.insert(host);
        }
        if !waves.is_empty() {
            let role = Role::ZooKeeper;
            let members = self.ways.keys().map(|host| (*host).to_owned()).collect();
            let joins = Stage { role, service: role.word().to_owned(), removes: false, members, waves };
            if let Some(stage) = insert_before_turns(stages, joins) {
                stage.waves.splice(0..0, self.wake());
            }
        }
    }

    /// The host whose server carries out a change of another: one that stays as it is, rather than one that comes.
    fn runner(&self, but: Option<&str>) -> Option<&'a str> {
        let ways = [Way::Belongs, Way::Moves, Way::Returns, Way::Joins, Way::Founds];
        let found = ways.into_iter().find_map(|way| {
            // Those that come run, as learners, by the time when others leave.
            let comes = but.is_none() || way == Way::Joins;
            let runs = |host: &str| comes || !self.wanted.get(host).is_none_or(Wanted::is_empty);
            self.hosts(way).find(|host| Some(*host) != but && runs(host))
        });
        // Who leaves is there until the end.
        found.or_else(|| self.departing.keys().next().copied())
    }

    fn leave(
        &self,
        runner: &str,
        id: u32,
        server: &Server,
        voters: &BTreeSet<u32>,
    ) -> BTreeMap<String, Vec<Step>> {
        // All have the same directory.
        let Some(of) = self.wanted.get(runner).or_else(|| self.wanted.values().next()) else {
            return BTreeMap::new();
        };
        let words = format!(
            "server.{id} ({}) loses its vote, once the others are a majority without it; members are then {}",
            server.host,
            list(voters)
        );
        BTreeMap::from([(
            runner.to_owned(),
            vec![change("zookeeper-leave", of.member, &["--id".to_owned(), id.to_string()], words)],
        )])
    }
}

impl Wanted<'_> {
    /// Its server has never run, or what it had is gone.
    fn is_empty(&self) -> bool {
        self.facts.is_none_or(|facts| facts.ensemble.is_none())
    }
}

/// The newest that any server knows; learners and observers have no vote.
fn current(observed: &Observed) -> Option<(BTreeMap<u32, Server>, bool)> {
    let facts = observed.hosts.values().filter_map(|observation| match observation {
        Observation::Facts(facts) => facts.ensemble.as_ref(),
        Observation::Failed(_) => None,
    });
    let newest = facts.max_by_key(|fact| fact.version)?;
    let mut members = parse(&newest.members);
    members.retain(|_, server| server.votes);
    Some((members, newest.version > 0))
}

/// When a server without a vote has caught up.
fn learner(part: &Part, server: &Server) -> Option<Gate> {
    let gate = part.gate.clone()?;
    let test = words_of(&["zookeeper-learner", "--address", &server.client()]);
    Some(Gate { test, words: "it follows the leader and serves".to_owned(), ..gate })
}

fn join(host: &str, wanted: &Wanted<'_>, voters: &BTreeSet<u32>, work: &Work) -> BTreeMap<String, Vec<Step>> {
    let id = wanted.member.id;
    let words =
        format!("server.{id} ({host}) gets a vote, once it has caught up; members are then {}", list(voters));
    let server = ["--server".to_owned(), format!("{id}={}", wanted.server)];
    let mut steps = vec![change("zookeeper-join", wanted.member, &server, words)];
    steps.extend(work.gate.clone());
    BTreeMap::from([(host.to_owned(), steps)])
}

fn change(verb: &str, of: &EnsembleMember, rest: &[String], words: String) -> Step {
    let timeout = CHANGE_SECS.to_string();
    let mut args = words_of(&[verb, "--data-dir", &of.data_dir, "--super-file", &of.super_file]);
    args.extend(["--timeout".to_owned(), timeout]);
    args.extend_from_slice(rest);
    let timeout_secs = CHANGE_SECS + GRACE_SECS;
    Step::plain(Action::ChangeMember(MemberChange {
        args,
        words,
        timeout_secs,
        membership: true,
        from_start: false,
    }))
}

fn words_of(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn list(ids: &BTreeSet<u32>) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
