//! Kafka's brokers as one cluster: who comes gets partitions, who leaves is emptied, stopped and unregistered, and the
//! feature level follows the version. What moves is decided by what Kafka says now; the plan tells how much that is.

use super::step::{Action, Step};
use super::{Stage, Wave};
use crate::kafka::gate::{may_lose_disk, unavailable_without};
use crate::kafka::moves::{Move, Wish, gains, moves, only_on};
use crate::kafka::view::{Broker, View};
use crate::service::{Gate, HostState, KafkaFormat, KafkaMember, MemberChange, Role};
use std::collections::{BTreeMap, BTreeSet};

/// Moving partitions is waited for this long; Kafka goes on with it in any case, and so does the next apply.
const MOVE_SECS: u64 = 24 * 3600;
/// A few requests to brokers on the same network.
const CHANGE_SECS: u64 = 120;
/// Empty or not: Kafka knows at once.
const EMPTY_SECS: u64 = 30;
/// The unit of every broker.
pub(super) const UNIT: &str = "aesop-kafka.service";

/// What a plan knows of a host that has, or had, a broker.
#[derive(Clone, Debug, Default)]
pub(super) struct HostFacts {
    /// A broker was started there before.
    pub(super) started: bool,
    /// It runs.
    pub(super) active: bool,
    /// Its broker is to be removed.
    pub(super) leaves: bool,
    /// It will run another release, of which the feature level may differ.
    pub(super) new_release: Option<String>,
}

/// How a broker's storage is made: at first as it is, later only where somebody has said that its data is gone, and
/// the others have all of it.
pub(super) fn format(
    host: &str,
    format: &KafkaFormat,
    member: &KafkaMember,
    view: Option<&View>,
    started: bool,
    active: bool,
) -> Result<Vec<Step>, String> {
    let known = view.is_some_and(|view| view.brokers.contains_key(&member.id));
    if !started && !known {
        return Ok(vec![Step::plain(Action::FormatKafka(format.clone()))]);
    }
    let id = member.id;
    let gone = format!("{host}: {} is not there, and broker {id} has lived on this host", format.marker);
    if !member.lost_disk {
        return Err(format!(
            "{gone}: its disk was lost, replaced or not mounted. Mount it; or, if its data is gone for good, say so with `aesop lost-disk {host} kafka`: the next apply gives it an empty one, and it copies all from the other brokers"
        ));
    }
    if active {
        return Err(format!("{gone}; it runs still. Stop it first: `aesop stop kafka --on {host}`"));
    }
    let Some(view) = view else {
        return Err(format!(
            "{gone}, and no other broker answers the question whether they have all that it had. Start them first: `aesop start kafka`"
        ));
    };
    may_lose_disk(view, id).map_err(|error| {
        format!("{gone}: {error}. Bring its disk back, or wait until the others are in sync")
    })?;
    let others: Vec<&str> = view
        .brokers
        .iter()
        .filter(|(_, broker)| !broker.fenced)
        .map(|(_, broker)| broker.address.as_str())
        .collect();
    let test = ["kafka-lost", "--bootstrap", &others.join(","), "--node", &id.to_string()];
    let gate = Gate {
        unit: UNIT.to_owned(),
        test: test.map(str::to_owned).to_vec(),
        words: "the others have every partition in sync, and a majority of the controllers".to_owned(),
        timeout_secs: EMPTY_SECS,
    };
    // With its former vote it could vote twice: it begins without one.
    let anew = KafkaFormat { initial_controllers: None, ..format.clone() };
    let reason = Some("its disk was lost".to_owned());
    Ok(vec![Step::plain(Action::AwaitStop(gate)), Step::because(Action::FormatKafka(anew), reason)])
}

/// What comes of it.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Once all brokers run with what is new.
    pub(super) after: Vec<Stage>,
    /// Once all else runs, before anything is removed.
    pub(super) moves: Vec<Stage>,
    /// Before the broker on a host is stopped for good.
    pub(super) stop: BTreeMap<String, Step>,
    /// After brokers were stopped for good.
    pub(super) forget: Vec<Stage>,
    pub(super) refused: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// The cluster as it is wished and as it is.
struct Cluster<'a> {
    members: BTreeMap<&'a str, &'a KafkaMember>,
    hosts: &'a BTreeMap<&'a str, HostFacts>,
    /// Every host of the plan, whether it answered or not.
    known: BTreeSet<&'a str>,
    view: &'a View,
}

/// Plans it. `hosts` are those that answered.
pub(super) fn membership(
    desired: &BTreeMap<String, HostState>,
    hosts: &BTreeMap<&str, HostFacts>,
    view: Option<&View>,
) -> Membership {
    let members = members(desired);
    let mut result = Membership::default();
    let leaving: Vec<&str> = hosts.iter().filter(|(_, facts)| facts.leaves).map(|(host, _)| *host).collect();
    let started = hosts.values().any(|facts| facts.started);
    if members.is_empty() || !started {
        // It goes as a whole, or is only made now.
        return result;
    }
    let Some(view) = view else {
        let lost = leaving.iter().filter(|host| hosts.get(*host).is_some_and(|facts| facts.started));
        result.refused.extend(lost.map(|host| {
            format!(
                "{host}: its broker would be stopped with its replicas, and no broker answers the question where these could go. Start Kafka (`aesop start kafka`), then plan again; or put {host} back under `kafka.hosts`"
            )
        }));
        // They run once the plan is carried out, and can be asked then.
        let cluster = Cluster { members, hosts, known: BTreeSet::new(), view: &View::default() };
        cluster.feature(&mut result);
        let joins = hosts.iter().any(|(host, facts)| cluster.members.contains_key(host) && !facts.started);
        if joins && cluster.rebalances() {
            result.moves.extend(cluster.move_stage(&[], "brokers that hold too little get partitions"));
        }
        return result;
    };
    let known = desired.keys().map(String::as_str).collect();
    let cluster = Cluster { members, hosts, known, view };
    cluster.votes(&mut result);
    cluster.feature(&mut result);
    cluster.leave(&leaving, &mut result);
    result
}

fn members(desired: &BTreeMap<String, HostState>) -> BTreeMap<&str, &KafkaMember> {
    let parts = desired.iter().flat_map(|(host, state)| state.parts.iter().map(move |part| (host, part)));
    parts.filter_map(|(host, part)| Some((host.as_str(), part.broker.as_ref()?))).collect()
}

/// Names what restarts make unavailable, by what Kafka says now.
pub(super) fn name_unavailable(
    stages: &mut [Stage],
    desired: &BTreeMap<String, HostState>,
    view: Option<&View>,
) {
    let Some(view) = view else { return };
    let members = members(desired);
    let stages = stages.iter_mut().filter(|stage| stage.role == Role::Kafka && !stage.removes);
    for wave in stages.flat_map(|stage| &mut stage.waves) {
        for (host, steps) in &wave.steps {
            let restarts = steps.iter().any(|step| matches!(step.action(), Action::RestartUnit(_)));
            if let (true, Some(member)) = (restarts, members.get(host.as_str())) {
                wave.unavailable.insert(host.clone(), unavailable_without(view, member.id));
            }
        }
    }
}

impl Cluster<'_> {
    /// The member through which the cluster is told.
    fn first(&self) -> Option<(&str, &KafkaMember)> {
        let reached =
            || self.members.iter().filter_map(|(host, member)| Some((*host, *member, self.hosts.get(host)?)));
        let first = reached().find(|(.., facts)| facts.active).or_else(|| reached().next());
        first.map(|(host, member, _)| (host, member))
    }

    fn rebalances(&self) -> bool {
        self.members.values().all(|member| member.rebalance)
    }

    fn host_of(&self, id: i32) -> &str {
        let (retired, mut members) =
            (self.members.values().flat_map(|member| &member.retired), self.members.iter());
        let found = members.find(|(_, member)| member.id == id).map(|(host, _)| *host);
        let mut retired = retired.filter(|(other, _)| **other == id).map(|(_, host)| host.as_str());
        found.or_else(|| retired.next()).unwrap_or("?")
    }

    fn named(&self, id: i32) -> String {
        format!("broker {id} ({})", self.host_of(id))
    }

    fn bootstrap(&self) -> [String; 2] {
        let addresses: Vec<&str> = self.members.values().map(|member| member.address.as_str()).collect();
        ["--bootstrap".to_owned(), addresses.join(",")]
    }

    fn ids(&self) -> [String; 2] {
        ["--members".to_owned(), list(self.members.values().map(|member| &member.id))]
    }

    fn stage(&self, service: &str, change: MemberChange) -> Option<Stage> {
        let (host, _) = self.first()?;
        let steps = BTreeMap::from([(host.to_owned(), vec![Step::plain(Action::ChangeMember(change))])]);
        Some(Stage {
            role: Role::Kafka,
            service: service.to_owned(),
            removes: false,
            members: BTreeSet::from([host.to_owned()]),
            waves: vec![Wave::of(steps)],
        })
    }

    /// A controller that began anew gets its vote back; the one that it had on its former disk goes.
    fn votes(&self, result: &mut Membership) {
        let waits = |member: &KafkaMember| {
            let quorum = &self.view.quorum;
            member.controller.is_some() && (member.lost_disk || quorum.without_vote(member.id).is_some())
        };
        let names: Vec<String> = self
            .members
            .values()
            .filter(|member| waits(member))
            .map(|member| self.named(member.id))
            .collect();
        if names.is_empty() {
            return;
        }
        let controllers: Vec<String> = self
            .members
            .values()
            .filter_map(|member| Some(format!("{}@{}", member.id, member.controller.as_ref()?)))
            .collect();
        let mut args = vec!["kafka-voters".to_owned()];
        args.extend(self.bootstrap());
        args.extend(["--controllers".to_owned(), controllers.join(",")]);
        let words = format!("{} votes again, with its new disk", names.join(", "));
        result.after.extend(self.stage("kafka controllers", member(args, words, CHANGE_SECS)));
    }

    /// The feature level follows once every broker runs what is new; that way there is no return.
    fn feature(&self, result: &mut Membership) {
        let release = self.hosts.values().find_map(|facts| facts.new_release.clone());
        let behind = self.view.feature.filter(|feature| feature.finalized < feature.supported);
        let to = match (release, behind) {
            (Some(release), _) => format!("what Kafka {release} brings"),
            (None, Some(feature)) => format!("{} (it is {})", feature.supported, feature.finalized),
            (None, None) => return,
        };
        result.after.extend(self.feature_stage(&to));
        result.notes.push(
            "kafka: metadata.version is raised at the end, and there is no way back to an older version of Kafka after that"
                .to_owned(),
        );
    }

    fn feature_stage(&self, to: &str) -> Option<Stage> {
        let args = [&["kafka-features".to_owned()], &self.bootstrap()[..], &self.ids()[..]].concat();
        let words = format!("metadata.version is raised to {to}, for good");
        self.stage("kafka feature level", member(args, words, CHANGE_SECS))
    }

    /// Those that left the inventory and are registered still, and what the others get.
    fn leave(&self, leaving: &[&str], result: &mut Membership) {
        let retired: BTreeMap<i32, &str> = self
            .members
            .values()
            .flat_map(|member| &member.retired)
            .filter(|(id, _)| self.view.brokers.contains_key(id))
            .map(|(id, host)| (*id, host.as_str()))
            .collect();
        let unknown = leaving.iter().filter(|host| {
            self.hosts.get(*host).is_some_and(|facts| facts.started)
                && !self.members.values().any(|member| member.retired.values().any(|name| name == *host))
        });
        result.refused.extend(unknown.map(|host| {
            format!(
                "{host}: its broker would leave the cluster by this; brokers leave by the inventory only: take {host} out of `kafka.hosts` and apply"
            )
        }));
        let mut out = BTreeSet::new();
        for (id, host) in retired {
            if self.hosts.contains_key(host) || !self.known.contains(host) {
                out.insert(id);
            } else {
                result.notes.push(format!(
                    "{host}: broker {id} leaves once the host answers; if it is gone for good, `aesop forget {host}`"
                ));
            }
        }
        self.refuse(&out, result);
        let changes = match self.moves(&out) {
            Ok(changes) => changes,
            Err(why) => return result.refused.push(why),
        };
        let had = out.iter().any(|id| self.view.on(*id).next().is_some());
        if !self.rebalances() && had {
            result.refused.extend(out.iter().map(|id| {
                format!("{} holds replicas and would leave, and `kafka.rebalance` is `never`: move them yourself, or set it to `auto`", self.named(*id))
            }));
            return;
        }
        if self.rebalances() {
            let unfinished = !self.view.moving.is_empty() || !self.view.throttled.is_empty();
            if !changes.is_empty() || unfinished || had {
                let out: Vec<i32> = out.iter().copied().collect();
                result.moves.extend(self.move_stage(&out, &self.words(&out, &changes)));
            }
        } else {
            let empty = self.members.values().filter(|member| !self.view.brokers.contains_key(&member.id));
            result.notes.extend(empty.map(|member| {
                format!("{} joins without partitions: `kafka.rebalance` is `never`", self.named(member.id))
            }));
        }
        for host in leaving {
            let id = out.iter().find(|id| self.host_of(**id) == *host);
            result.stop.extend(id.map(|id| ((*host).to_owned(), self.empty_gate(*id))));
        }
        if !out.is_empty() {
            let out: Vec<i32> = out.into_iter().collect();
            let names: Vec<String> = out.iter().map(|id| self.named(*id)).collect();
            let words = format!("{} is unregistered", names.join(", "));
            result.forget.extend(self.change(&out, true, words));
        }
    }

    /// What leaves must be replaceable: not a controller, and not the last to have a partition.
    fn refuse(&self, out: &BTreeSet<i32>, result: &mut Membership) {
        let votes = |id: &&i32| self.view.quorum.voters.iter().any(|voter| voter.id == **id);
        result.refused.extend(out.iter().filter(votes).map(|id| {
            format!(
                "{} is a controller, and this version cannot change the controllers of a cluster. Put {} back under `kafka.hosts`",
                self.named(*id),
                self.host_of(*id)
            )
        }));
        let alive =
            out.iter().filter(|id| self.view.serves(**id) && !self.known.contains(self.host_of(**id)));
        result.refused.extend(alive.map(|id| {
            format!(
                "{} takes part in the cluster, on a host that aesop was told to forget: {} is not gone. Stop its broker there, or switch the host off, then plan again",
                self.named(*id),
                self.host_of(*id)
            )
        }));
        let dead: BTreeSet<i32> = out.iter().copied().filter(|id| !self.view.serves(*id)).collect();
        let lost = only_on(self.view, &dead);
        if let Some(first) = lost.first() {
            let names: Vec<String> = dead.iter().map(|id| self.named(*id)).collect();
            result.refused.push(format!(
                "{} is down and alone has what was last acknowledged of {first}{}. Start it, then apply",
                names.join(", "),
                more(lost.len())
            ));
        }
    }

    /// What moves, as far as it can be known now.
    fn moves(&self, out: &BTreeSet<i32>) -> Result<Vec<Move>, String> {
        let mut view = self.view.clone();
        let mut members = BTreeSet::new();
        for (host, member) in &self.members {
            // Who comes with this plan is there by then.
            if self.hosts.contains_key(host) {
                let rack = member.rack.clone();
                view.brokers.entry(member.id).or_insert_with(|| Broker { rack, ..Broker::default() });
                members.insert(member.id);
            } else if view.serves(member.id) {
                members.insert(member.id);
            }
        }
        let wish = Wish { members, leaving: out.clone(), fill: self.rebalances() };
        moves(&view, &wish).map_err(|error| {
            let names: Vec<String> = out.iter().map(|id| self.named(*id)).collect();
            format!(
                "{} cannot leave: {error}. Keep it under `kafka.hosts`, or add another broker first",
                names.join(", ")
            )
        })
    }

    fn words(&self, out: &[i32], changes: &[Move]) -> String {
        if changes.is_empty() && out.is_empty() {
            return "partitions that are on their way arrive, and replication is no longer limited"
                .to_owned();
        }
        let mut words: Vec<String> = out
            .iter()
            .map(|id| {
                let replicas = changes.iter().filter(|change| change.from.contains(id)).count();
                format!("{} is emptied of {replicas} replicas", self.named(*id))
            })
            .collect();
        let got = gains(changes);
        words.extend(got.iter().map(|(id, count)| format!("{} gets {count}", self.named(*id))));
        words.join(", ")
    }

    fn move_stage(&self, out: &[i32], words: &str) -> Option<Stage> {
        let throttle = self.throttle();
        self.change(out, false, format!("{words}; at most {} MiB a second at each broker", throttle >> 20))
    }

    fn throttle(&self) -> u64 {
        self.members.values().map(|member| member.throttle).min().unwrap_or(0)
    }

    fn change(&self, out: &[i32], unregister: bool, words: String) -> Option<Stage> {
        let mut args = vec!["kafka-brokers".to_owned()];
        args.extend(self.bootstrap());
        args.extend(self.ids());
        args.extend(["--throttle".to_owned(), self.throttle().to_string()]);
        if !out.is_empty() {
            args.extend(["--leaving".to_owned(), list(out.iter())]);
        }
        args.extend((self.rebalances() && !unregister).then(|| "--fill".to_owned()));
        args.extend(unregister.then(|| "--unregister".to_owned()));
        let service = if unregister { "kafka members" } else { "kafka partitions" };
        self.stage(service, member(args, words, MOVE_SECS))
    }

    /// It stops for good only once nothing is on it.
    fn empty_gate(&self, id: i32) -> Step {
        let mut test = vec!["kafka-empty".to_owned()];
        test.extend(self.bootstrap());
        test.extend(["--node".to_owned(), id.to_string()]);
        let words = "no partition has a replica on it".to_owned();
        Step::plain(Action::AwaitStop(Gate { unit: UNIT.to_owned(), test, words, timeout_secs: EMPTY_SECS }))
    }
}

fn member(args: Vec<String>, words: String, timeout_secs: u64) -> MemberChange {
    MemberChange { args, words, timeout_secs, membership: true, from_start: false }
}

fn list<'a>(ids: impl Iterator<Item = &'a i32>) -> String {
    ids.map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn more(count: usize) -> String {
    if count > 1 { format!(" and {} more", count - 1) } else { String::new() }
}
