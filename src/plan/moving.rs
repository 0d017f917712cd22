//! The stages in which partitions move: what moves is told by what Kafka says now, and decided anew by the same rules when
//! it is done.

use super::Stage;
use super::brokers::{Cluster, list, member};
use crate::kafka::moves::{Move, Wish, gains, moves};
use crate::kafka::view::{Broker, View};
use std::collections::BTreeSet;

/// Moving partitions is waited for this long; Kafka goes on with it in any case, and so does the next apply.
const MOVE_SECS: u64 = 24 * 3600;

impl Cluster<'_> {
    /// What moves, as far as it can be known now. `late` are no brokers yet, and will not be by then.
    pub(super) fn moves(
        &self,
        view: &View,
        out: &BTreeSet<i32>,
        late: &BTreeSet<i32>,
    ) -> Result<Vec<Move>, String> {
        let mut view = view.clone();
        let mut members = BTreeSet::new();
        for (host, member) in self.members.iter().filter(|(_, member)| !late.contains(&member.id)) {
            // Who comes with this plan is there by then.
            if self.hosts.contains_key(host) {
                let rack = member.rack.clone();
                view.brokers.entry(member.id).or_insert_with(|| Broker { rack, ..Broker::default() });
                members.insert(member.id);
            } else if view.serves(member.id) {
                members.insert(member.id);
            }
        }
        let raise = self.raise().cloned().filter(|_| self.rebalances());
        let wish = Wish { members, leaving: out.clone(), fill: self.rebalances(), raise };
        moves(&view, &wish).map_err(|error| {
            let names: Vec<String> = out.iter().map(|id| self.named(*id)).collect();
            format!(
                "{} cannot leave: {error}. Keep it under `kafka.hosts`, or add another broker first",
                names.join(", ")
            )
        })
    }

    pub(super) fn words(&self, out: &[i32], changes: &[Move]) -> String {
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

    pub(super) fn move_stage(&self, out: &[i32], words: &str) -> Option<Stage> {
        self.throttled("kafka partitions", self.move_args(out, false), words)
    }

    /// The same at the end, when everybody who comes is there.
    pub(super) fn last_move_stage(&self, out: &[i32], words: &str) -> Option<Stage> {
        let mut args = self.move_args(out, false);
        args.extend(self.raise().map(|_| "--in-sync".to_owned()));
        self.throttled("kafka partitions", args, words)
    }

    fn throttled(&self, service: &str, args: Vec<String>, words: &str) -> Option<Stage> {
        let words = format!("{words}; at most {} MiB a second at each broker", self.throttle() >> 20);
        self.stage(service, member(args, words, MOVE_SECS))
    }

    fn throttle(&self) -> u64 {
        self.members.values().map(|member| member.throttle).min().unwrap_or(0)
    }

    pub(super) fn unregister_stage(&self, out: &[i32], words: String) -> Option<Stage> {
        self.stage("kafka members", member(self.move_args(out, true), words, MOVE_SECS))
    }

    fn move_args(&self, out: &[i32], unregister: bool) -> Vec<String> {
        let mut args = vec!["kafka-brokers".to_owned()];
        args.extend(self.bootstrap());
        args.extend(self.ids());
        args.extend(["--throttle".to_owned(), self.throttle().to_string()]);
        if !out.is_empty() {
            args.extend(["--leaving".to_owned(), list(out.iter())]);
        }
        args.extend((!unregister && self.loses(out)).then(|| "--accept-loss".to_owned()));
        args.extend((self.rebalances() && !unregister).then(|| "--fill".to_owned()));
        args.extend(unregister.then(|| "--unregister".to_owned()));
        if let (Some(raise), false) = (self.raise(), unregister) {
            // Without a blank, and without what a shell would take: names of topics and numbers.
            args.extend(["--raise".to_owned(), serde_json::to_string(raise).unwrap_or_default()]);
        }
        args
    }
}
