//! Kafka's brokers as one cluster: who comes gets partitions, who leaves is emptied, stopped and unregistered, and the
//! feature level follows the version. What moves is decided by what Kafka says now; the plan tells how much that is.
//! Who of them votes as a controller is decided in [`super::votes`].

use super::step::{Action, Step};
use super::{Observation, Observed, Stage, Wave};
use crate::inventory::model::KafkaMode;
use crate::kafka::view::View;
use crate::service::{HostState, KafkaMember, MemberChange, Role};
use std::collections::{BTreeMap, BTreeSet};

/// A few requests to brokers on the same network.
pub(super) const CHANGE_SECS: u64 = 120;
/// Empty or not: Kafka knows at once.
pub(super) const EMPTY_SECS: u64 = 30;
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
    /// `process.roles` in its file, where that will be another one.
    pub(super) roles: Option<String>,
}

/// What comes of it.
#[derive(Debug, Default)]
pub(super) struct Membership {
    /// Once what is stopped or new has started, before anything restarts: a vote that is dead lets nobody stop.
    pub(super) before: Option<Stage>,
    /// Once what is new has started, before those that are there restart: what is on one alone is copied first.
    pub(super) copies: Option<Stage>,
    /// The cluster after that.
    pub(super) copied: Option<View>,
    /// Once all others run with what is new, before brokers restart as controllers alone.
    pub(super) emptied: Option<Stage>,
    /// Once all brokers run with what is new.
    pub(super) after: Vec<Stage>,
    /// Once all else runs, before anything is removed.
    pub(super) moves: Vec<Stage>,
    /// Before the broker on a host is stopped for good.
    pub(super) stop: BTreeMap<String, Step>,
    /// Before the broker on a host restarts as a controller alone, which it does once all others have.
    pub(super) parting: BTreeMap<String, Step>,
    /// Hosts that are controllers no more: they restart once their votes are gone.
    pub(super) demoted: BTreeSet<String>,
    /// After brokers were stopped for good.
    pub(super) forget: Vec<Stage>,
    pub(super) refused: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// The cluster as it is wished and as it is.
pub(super) struct Cluster<'a> {
    /// Brokers and controllers.
    pub(super) nodes: BTreeMap<&'a str, &'a KafkaMember>,
    /// Brokers.
    pub(super) members: BTreeMap<&'a str, &'a KafkaMember>,
    pub(super) hosts: &'a BTreeMap<&'a str, HostFacts>,
    /// Every host of the plan, whether it answered or not.
    pub(super) known: BTreeSet<&'a str>,
    pub(super) view: &'a View,
}

/// Plans it. `hosts` are those that answered.
pub(super) fn membership(
    desired: &BTreeMap<String, HostState>,
    hosts: &BTreeMap<&str, HostFacts>,
    view: Option<&View>,
) -> Membership {
    let nodes = nodes(desired);
    let members: BTreeMap<&str, &KafkaMember> =
        nodes.iter().filter(|(_, node)| node.address.is_some()).map(|(host, node)| (*host, *node)).collect();
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
        let cluster = Cluster { nodes, members, hosts, known: BTreeSet::new(), view: &View::default() };
        cluster.votes_unseen(&mut result);
        cluster.feature(&mut result);
        let joins = hosts.iter().any(|(host, facts)| cluster.members.contains_key(host) && !facts.started);
        if (joins || cluster.raise().is_some()) && cluster.rebalances() {
            let words = cluster.with_raise("brokers that hold too little get partitions".to_owned(), None);
            result.moves.extend(cluster.last_move_stage(&[], &words));
        }
        return result;
    };
    let known = desired.keys().map(String::as_str).collect();
    let cluster = Cluster { nodes, members, hosts, known, view };
    cluster.votes(&mut result);
    cluster.leave(&leaving, &mut result);
    cluster.feature(&mut result);
    result
}

pub(super) fn nodes(desired: &BTreeMap<String, HostState>) -> BTreeMap<&str, &KafkaMember> {
    let parts = desired.iter().flat_map(|(host, state)| state.parts.iter().map(move |part| (host, part)));
    parts.filter_map(|(host, part)| Some((host.as_str(), part.broker.as_ref()?))).collect()
}

/// Whether there may be a cluster that somebody has written to: it answers, a node of it was ready once, or a host that
/// may have one cannot be asked.
pub(super) fn lives(desired: &BTreeMap<String, HostState>, observed: &Observed) -> bool {
    let has = |state: &HostState| state.parts.iter().any(|part| part.role == Role::Kafka);
    observed.kafka.is_some()
        || desired.iter().any(|(host, state)| match observed.hosts.get(host) {
            Some(Observation::Facts(facts)) => facts.records.get(UNIT).is_some_and(|record| record.ready),
            // One that left may have had a node as well.
            Some(Observation::Failed(_)) | None => has(state) || state.parts.is_empty(),
        })
}

impl Cluster<'_> {
    /// The member through which the cluster is told.
    fn first(&self) -> Option<(&str, &KafkaMember)> {
        let reached =
            || self.members.iter().filter_map(|(host, member)| Some((*host, *member, self.hosts.get(host)?)));
        let first = reached().find(|(.., facts)| facts.active).or_else(|| reached().next());
        first.map(|(host, member, _)| (host, member))
    }

    /// Nobody has a vote.
    pub(super) fn on_zookeeper(&self) -> bool {
        self.members.values().any(|member| member.mode == KafkaMode::ZooKeeper)
    }

    pub(super) fn rebalances(&self) -> bool {
        self.members.values().all(|member| member.rebalance)
    }

    pub(super) fn host_of(&self, id: i32) -> &str {
        let (retired, mut nodes) =
            (self.nodes.values().flat_map(|member| &member.retired), self.nodes.iter());
        let found = nodes.find(|(_, member)| member.id == id).map(|(host, _)| *host);
        let mut retired = retired.filter(|(other, _)| **other == id).map(|(_, host)| host.as_str());
        found.or_else(|| retired.next()).unwrap_or("?")
    }

    pub(super) fn named(&self, id: i32) -> String {
        format!("broker {id} ({})", self.host_of(id))
    }

    /// Ids that were taken out of the inventory and are registered, or vote, still; with their hosts.
    pub(super) fn retired(&self) -> BTreeMap<i32, &str> {
        let votes = |id: &i32| self.view.quorum.voters.iter().any(|voter| voter.id == *id);
        self.members
            .values()
            .flat_map(|member| &member.retired)
            .filter(|(id, _)| self.view.brokers.contains_key(id) || votes(id))
            .map(|(id, host)| (*id, host.as_str()))
            .collect()
    }

    /// Whether what is retired can go: its host answers, or was given up.
    pub(super) fn goes(&self, host: &str) -> bool {
        self.hosts.contains_key(host) || !self.known.contains(host)
    }

    pub(super) fn bootstrap(&self) -> [String; 2] {
        let addresses: Vec<&str> =
            self.members.values().filter_map(|member| member.address.as_deref()).collect();
        ["--bootstrap".to_owned(), addresses.join(",")]
    }

    pub(super) fn ids(&self) -> [String; 2] {
        ["--members".to_owned(), list(self.members.values().map(|member| &member.id))]
    }

    pub(super) fn stage(&self, service: &str, change: MemberChange) -> Option<Stage> {
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

    /// The feature level follows once every broker runs what is new; that way there is no return. On ZooKeeper brokers
    /// speak as their files say, and all releases that can be there speak alike.
    fn feature(&self, result: &mut Membership) {
        if self.on_zookeeper() {
            return;
        }
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
        for (id, host) in self.retired() {
            if self.goes(host) {
                out.insert(id);
            } else {
                let what = if self.view.brokers.contains_key(&id) { "broker" } else { "controller" };
                result.notes.push(format!(
                    "{host}: {what} {id} leaves once the host answers; if it is gone for good, `aesop forget {host}`"
                ));
            }
        }
        for host in leaving {
            let id = out.iter().find(|id| self.host_of(**id) == *host);
            result.stop.extend(id.map(|id| ((*host).to_owned(), self.empty_gate(*id, false))));
        }
        // A controller apart has nothing but its vote.
        out.retain(|id| self.view.brokers.contains_key(id));
        let parting = self.parting(result);
        let all = &out | &parting;
        self.refuse(&all, result);
        let found = self.empty_first(&parting, result).and_then(|view| {
            let changes = self.moves(&view, &out, &BTreeSet::new())?;
            Ok((view, changes))
        });
        let (view, changes) = match found {
            Ok(found) => found,
            Err(why) => return result.refused.push(why),
        };
        let had = out.iter().any(|id| view.on(*id).next().is_some());
        let holds = all.iter().any(|id| self.view.on(*id).next().is_some());
        if !self.rebalances() && holds {
            result.refused.extend(all.iter().map(|id| {
                format!("{} holds replicas and would leave, and `kafka.rebalance` is `never`: move them yourself, or set it to `auto`", self.named(*id))
            }));
            return;
        }
        if self.rebalances() {
            let unfinished = !view.moving.is_empty() || !view.throttled.is_empty();
            if !changes.is_empty() || unfinished || had || self.raise().is_some() {
                let out: Vec<i32> = out.iter().copied().collect();
                let words = if all.is_empty() && self.copy_first(&changes, result) {
                    self.afterwards()
                } else {
                    self.with_raise(self.words(&out, &changes), Some(&view))
                };
                result.moves.extend(self.last_move_stage(&out, &words));
            }
        } else {
            let empty = self.members.values().filter(|member| !self.view.brokers.contains_key(&member.id));
            result.notes.extend(empty.map(|member| {
                format!("{} joins without partitions: `kafka.rebalance` is `never`", self.named(member.id))
            }));
            result.notes.extend(self.not_raised());
        }
        // Before the feature level: what they were registered with counts as long as they are.
        result.after.extend(self.unregister(&parting));
        result.forget.extend(self.unregister(&out));
    }
}

pub(super) fn member(args: Vec<String>, words: String, timeout_secs: u64) -> MemberChange {
    MemberChange { args, words, timeout_secs, membership: true, from_start: false }
}

pub(super) fn list<'a>(ids: impl Iterator<Item = &'a i32>) -> String {
    ids.map(ToString::to_string).collect::<Vec<_>>().join(",")
}
