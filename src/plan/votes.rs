//! Kafka's controllers: who comes gets a vote once it has caught up, who leaves loses its vote before it stops, one vote
//! after the other.

use super::Stage;
use super::brokers::{CHANGE_SECS, Cluster, HostFacts, Membership, list, member};
use crate::kafka::quorum::{Wish, endangered};
use crate::service::KafkaMember;
use std::collections::BTreeSet;

/// The service of the stage in which votes change.
const SERVICE: &str = "kafka controllers";

impl Cluster<'_> {
    /// Brings the votes to those that the inventory wants.
    pub(super) fn votes(&self, result: &mut Membership) {
        let (mut wish, demoted) = self.wish(result);
        let new = self.without_vote(&wish);
        if new.is_empty() && wish.leaving.is_empty() {
            return;
        }
        result.refused.extend(self.alive(&wish));
        result.refused.extend(self.absent(&wish));
        let waits = wish.leaving.iter().chain(new.iter().filter(|id| !self.lost_its_disk(**id))).next();
        if let (Some(_), Some(why)) = (waits, endangered(&self.view.quorum, &wish)) {
            result.refused.push(format!(
                "the controllers cannot become {}: {why}. Start what is down, or put them back under `kafka`",
                named(&wish.controllers)
            ));
        }
        result.demoted = demoted;
        let lost: Vec<i32> = new.iter().copied().filter(|id| self.lost_its_disk(*id)).collect();
        let new: Vec<i32> = new.into_iter().filter(|id| !lost.contains(id)).collect();
        self.vote_again(&lost, result);
        if new.is_empty() && wish.leaving.is_empty() {
            return;
        }
        let mut words: Vec<String> = new.iter().map(|id| self.gets(*id)).collect();
        words.extend(wish.leaving.iter().map(|id| format!("{} loses its vote", self.controller(*id))));
        words.push(format!("controllers are then {}", named(&wish.controllers)));
        let votes = |id: &i32| self.view.quorum.voters.iter().any(|voter| voter.id == *id);
        wish.controllers.retain(|id| votes(id) || new.contains(id));
        result.after.extend(self.vote_stage(&wish, words.join(", ")));
    }

    /// Controllers with new disks, by their ids, get the votes of those that are lost.
    fn vote_again(&self, lost: &[i32], result: &mut Membership) {
        if lost.is_empty() {
            return;
        }
        let voters = self.view.quorum.voters.iter().map(|voter| voter.id);
        let wished = |id: &i32| self.nodes.values().any(|node| node.id == *id && node.controller.is_some());
        let wish = Wish {
            controllers: voters.filter(wished).chain(lost.iter().copied()).collect(),
            leaving: BTreeSet::new(),
        };
        let words: Vec<String> = lost.iter().map(|id| self.gets(*id)).collect();
        result.before = self.vote_stage(&wish, words.join(", "));
    }

    /// Who should take over votes must be there.
    fn absent(&self, wish: &Wish) -> Vec<String> {
        let votes = |id: &&i32| self.view.quorum.voters.iter().any(|voter| voter.id == **id);
        let there = |id: &&i32| self.hosts.contains_key(self.host_of(**id));
        let absent =
            wish.controllers.iter().filter(|id| !wish.leaving.is_empty() && !votes(id) && !there(id));
        absent
            .map(|id| {
                format!(
                    "{} would have to lose their votes before {} gets one, whose host does not answer. Bring it up, then plan again",
                    named(&wish.leaving),
                    self.controller(*id)
                )
            })
            .collect()
    }

    /// The same where nobody can be asked yet: those that come are asked for once the cluster runs.
    pub(super) fn votes_unseen(&self, result: &mut Membership) {
        let facts = |host: &&str| self.hosts.get(*host).cloned().unwrap_or_default();
        let was =
            |facts: &HostFacts| facts.roles.as_deref().is_some_and(|roles| roles.contains("controller"));
        let controllers = |node: &KafkaMember| node.controller.is_some();
        for host in self.nodes.iter().filter(|(_, node)| !controllers(node)).map(|(host, _)| host) {
            if was(&facts(host)) {
                result.refused.push(format!(
                    "{host}: it would be a controller no more, and no broker answers the question who votes. Start Kafka (`aesop start kafka`), then plan again"
                ));
            }
        }
        let brokers =
            |facts: &HostFacts| facts.roles.as_deref().is_some_and(|roles| roles.contains("broker"));
        for (host, _) in self.nodes.iter().filter(|(_, node)| node.address.is_none()) {
            if brokers(&facts(host)) {
                result.refused.push(format!(
                    "{host}: it would be a broker no more, and no broker answers the question what it holds. Put {host} back under `kafka.hosts`, or start Kafka (`aesop start kafka`), then plan again"
                ));
            }
        }
        let comes = |host: &&str, node: &KafkaMember| {
            controllers(node) && self.hosts.contains_key(host) && !node.forming
        };
        let coming = self.nodes.iter().filter(|(host, node)| comes(host, node));
        // One that runs must restart before it can have a vote.
        let promoted = |facts: &HostFacts| facts.started && facts.roles.is_some() && !was(facts);
        let (starts, restarts): (Vec<_>, Vec<_>) = coming
            .map(|(host, node)| (facts(host), node.id))
            .filter(|(facts, _)| !facts.started || promoted(facts))
            .partition(|(facts, _)| !facts.started);
        let ids = |of: &[(HostFacts, i32)]| of.iter().map(|(_, id)| *id).collect::<BTreeSet<i32>>();
        let (starts, restarts) = (ids(&starts), ids(&restarts));
        let all: BTreeSet<i32> =
            self.nodes.values().filter(|node| controllers(node)).map(|node| node.id).collect();
        let stage = |controllers: BTreeSet<i32>, new: &BTreeSet<i32>| {
            let words: Vec<String> = new.iter().map(|id| self.gets(*id)).collect();
            let wish = Wish { controllers, leaving: BTreeSet::new() };
            (!new.is_empty()).then(|| self.vote_stage(&wish, words.join(", "))).flatten()
        };
        result.before = stage(&all - &restarts, &starts);
        result.after.extend(stage(all, &restarts));
    }

    fn vote_stage(&self, wish: &Wish, words: String) -> Option<Stage> {
        let wished = self.nodes.values().filter(|node| wish.controllers.contains(&node.id));
        let endpoints: Vec<String> =
            wished.filter_map(|node| Some(format!("{}@{}", node.id, node.controller.as_ref()?))).collect();
        let mut args = vec!["kafka-voters".to_owned()];
        args.extend(self.bootstrap());
        args.extend(["--controllers".to_owned(), endpoints.join(",")]);
        if !wish.leaving.is_empty() {
            args.extend(["--leaving".to_owned(), list(wish.leaving.iter())]);
        }
        let changes = u64::try_from(wish.controllers.len() + wish.leaving.len()).unwrap_or(1);
        self.stage(SERVICE, member(args, words, CHANGE_SECS * changes.max(1)))
    }

    /// Who should vote and who should not, and the hosts of those that stay as brokers.
    fn wish(&self, result: &mut Membership) -> (Wish, BTreeSet<String>) {
        let controllers: BTreeSet<i32> =
            self.nodes.values().filter(|node| node.controller.is_some()).map(|node| node.id).collect();
        let mut wish = Wish { controllers, leaving: BTreeSet::new() };
        let mut demoted = BTreeSet::new();
        let retired = self.retired();
        for voter in self.view.quorum.voters.iter().filter(|voter| !wish.controllers.contains(&voter.id)) {
            let id = voter.id;
            let node = self.nodes.iter().find(|(_, node)| node.id == id);
            match (node, retired.get(&id)) {
                (Some((host, _)), _) if self.hosts.contains_key(host) => {
                    demoted.insert((*host).to_owned());
                    wish.leaving.insert(id);
                }
                (Some((host, _)), _) => result.notes.push(format!(
                    "{host}: controller {id} keeps its vote until the host answers; if it is gone for good, take it out of the inventory and `aesop forget {host}`"
                )),
                (None, Some(host)) if self.goes(host) => drop(wish.leaving.insert(id)),
                // It is noted with its broker.
                (None, Some(_)) => {}
                (None, None) => result.notes.push(format!(
                    "controller {id} has a vote, and neither the inventory nor the lock file knows it; it keeps it. `kafka-metadata-quorum.sh` can take it away"
                )),
            }
        }
        (wish, demoted)
    }

    /// Controllers that have no vote, or had one with a disk that is lost.
    fn without_vote(&self, wish: &Wish) -> Vec<i32> {
        let quorum = &self.view.quorum;
        let waits = |id: &i32| {
            let votes = quorum.voters.iter().any(|voter| voter.id == *id);
            // Who is not there yet, and does not come by this plan, is waited for by the next.
            let comes = self.hosts.contains_key(self.host_of(*id));
            quorum.without_vote(*id).is_some() || self.accepted(*id) || !votes && comes
        };
        wish.controllers.iter().copied().filter(waits).collect()
    }

    /// Somebody has said that its disk is lost.
    fn accepted(&self, id: i32) -> bool {
        self.nodes.values().any(|node| node.id == id && node.lost_disk)
    }

    /// Of those without a vote: it has one with another disk.
    fn lost_its_disk(&self, id: i32) -> bool {
        let votes = self.view.quorum.voters.iter().any(|voter| voter.id == id);
        votes || self.accepted(id)
    }

    fn gets(&self, id: i32) -> String {
        if self.lost_its_disk(id) {
            format!("{} votes again, with its new disk", self.controller(id))
        } else {
            format!("{} gets a vote", self.controller(id))
        }
    }

    fn controller(&self, id: i32) -> String {
        format!("controller {id} ({})", self.host_of(id))
    }

    /// A controller that was given up must be gone.
    fn alive(&self, wish: &Wish) -> Vec<String> {
        let given_up = |id: &&i32| !self.known.contains(self.host_of(**id)) && self.view.quorum.lives(**id);
        // A broker that runs has been named already.
        let alone = |id: &&i32| !self.view.serves(**id);
        let alive = wish.leaving.iter().filter(given_up).filter(alone);
        alive
            .map(|id| {
                let host = self.host_of(*id);
                format!(
                    "controller {id} ({host}) takes part in the quorum, on a host that aesop was told to forget: {host} is not gone. Stop its controller there, or switch the host off, then plan again"
                )
            })
            .collect()
    }
}

fn named(ids: &BTreeSet<i32>) -> String {
    list(ids.iter()).replace(',', ", ")
}
