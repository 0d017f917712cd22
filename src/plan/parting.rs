//! Brokers that stop being brokers: with their hosts, or because they are to be controllers alone. The latter are emptied
//! while they still serve, restart only then, one at a time and with their votes, and are unregistered at once.

use super::Stage;
use super::brokers::{Cluster, EMPTY_SECS, Membership, UNIT};
use super::step::{Action, Step};
use crate::kafka::moves::{arrived, only_on};
use crate::kafka::view::{Partition, View};
use crate::service::{Gate, KafkaMember};
use std::collections::BTreeSet;

impl Cluster<'_> {
    /// Brokers that have stopped, and hold nothing, are forgotten.
    pub(super) fn unregister(&self, out: &BTreeSet<i32>) -> Option<Stage> {
        let out: Vec<i32> = out.iter().copied().collect();
        let names: Vec<String> = out.iter().map(|id| self.named(*id)).collect();
        let stage = || self.unregister_stage(&out, format!("{} is unregistered", names.join(", ")));
        (!out.is_empty()).then(stage).flatten()
    }

    /// Nodes that are brokers no more and stay controllers: registered still, by the hosts that answer.
    pub(super) fn parting(&self, result: &mut Membership) -> BTreeSet<i32> {
        let registered =
            |node: &KafkaMember| node.address.is_none() && self.view.brokers.contains_key(&node.id);
        let mut parting = BTreeSet::new();
        for (host, node) in self.nodes.iter().filter(|(_, node)| registered(node)) {
            if let Some(facts) = self.hosts.get(host) {
                // One that is down starts as a controller with the others: its vote may be needed.
                let gate = facts.active.then(|| ((*host).to_owned(), self.empty_gate(node.id, true)));
                result.parting.extend(gate);
                parting.insert(node.id);
            } else {
                result.notes.push(format!(
                    "{host}: broker {} is emptied and leaves once the host answers; if it is gone for good, take it out of `kafka.controllers` too and `aesop forget {host}`",
                    node.id
                ));
            }
        }
        parting
    }

    /// Empties them before they restart; gives the cluster as it is then.
    pub(super) fn empty_first(
        &self,
        parting: &BTreeSet<i32>,
        result: &mut Membership,
    ) -> Result<View, String> {
        let view = self.view;
        if !parting.iter().any(|id| view.on(*id).next().is_some()) {
            return Ok(view.clone());
        }
        // They restart as brokers only once their votes are gone, which is after that.
        let demoted = result.demoted.iter().filter_map(|host| self.nodes.get(host.as_str()));
        let late = demoted.map(|node| node.id).filter(|id| !self.view.brokers.contains_key(id)).collect();
        let changes = self.moves(view, parting, &late)?;
        let out: Vec<i32> = parting.iter().copied().collect();
        if self.rebalances() {
            result.emptied = self.move_stage(&out, &self.words(&out, &changes));
        }
        Ok(arrived(view, &changes))
    }

    /// What leaves must be gone, or go in good order, and not be the last to have a partition.
    pub(super) fn refuse(&self, out: &BTreeSet<i32>, result: &mut Membership) {
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
        let given_up = self.given_up(out);
        let lost = only_on(self.view, &given_up);
        let mut kept = only_on(self.view, &dead);
        kept.retain(|partition| !lost.contains(partition));
        let names = |ids: &BTreeSet<i32>| ids.iter().map(|id| self.named(*id)).collect::<Vec<_>>().join(", ");
        if let Some(first) = kept.first() {
            let remedy = match dead.iter().map(|id| self.host_of(*id)).find(|host| !self.known.contains(host))
            {
                Some(gone) => format!(
                    "Bring it back with its disk; or give up what nobody else has, with `aesop forget {gone} --accept-data-loss`"
                ),
                None => "Start it, then apply".to_owned(),
            };
            result.refused.push(format!(
                "{} is down and alone has what was last acknowledged of {first}{}. {remedy}",
                names(&dead),
                more(kept.len())
            ));
        }
        let others = |partition: &Partition| partition.replicas.iter().any(|id| self.view.serves(*id));
        let of = |behind: bool| {
            let all = self.view.partitions.iter();
            let all =
                all.filter(|partition| lost.contains(&partition.to_string()) && others(partition) == behind);
            all.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let fates = [
            (of(false), "is LOST whole, and begins anew with nothing"),
            (of(true), "LOSES what was written last: a broker that is behind leads it from then on"),
        ];
        let fates = fates.into_iter().filter(|(partitions, _)| !partitions.is_empty());
        result.notes.extend(
            fates.map(|(partitions, fate)| format!("{partitions} {fate}; {} alone had it", names(&given_up))),
        );
    }

    /// Brokers whose hosts somebody has given up with all that nobody else has.
    fn given_up(&self, out: &BTreeSet<i32>) -> BTreeSet<i32> {
        let given_up = |host: &str| self.members.values().any(|member| member.given_up.contains(host));
        out.iter().copied().filter(|id| !self.view.serves(*id) && given_up(self.host_of(*id))).collect()
    }

    /// Whether something is lost with brokers that were given up.
    pub(super) fn loses(&self, out: &[i32]) -> bool {
        let given_up = self.given_up(&out.iter().copied().collect());
        !only_on(self.view, &given_up).is_empty()
    }

    /// It stops for good, or as a broker, only once nothing is on it.
    pub(super) fn empty_gate(&self, id: i32, keeps_vote: bool) -> Step {
        let mut test = vec!["kafka-empty".to_owned()];
        test.extend(self.bootstrap());
        test.extend(["--node".to_owned(), id.to_string()]);
        test.extend(keeps_vote.then(|| "--keeps-vote".to_owned()));
        let vote = if keeps_vote || self.on_zookeeper() { "" } else { ", and it has no vote" };
        let words = format!("no partition has a replica on it{vote}");
        Step::plain(Action::AwaitStop(Gate {
            unit: UNIT.to_owned(),
            test,
            words,
            timeout_secs: EMPTY_SECS,
            ..Gate::default()
        }))
    }
}

fn more(count: usize) -> String {
    if count > 1 { format!(" and {} more", count - 1) } else { String::new() }
}
