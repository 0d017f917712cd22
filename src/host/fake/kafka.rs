//! A Kafka cluster of brokers in memory: who is registered, who holds what, and what it would have lost.

use crate::inventory::model::KafkaMode;
use crate::kafka::gate::{may_lose_disk, may_stop_broker, may_stop_controller};
use crate::kafka::moves::{self, Move, moves};
use crate::kafka::quorum::{Next, Wish, next};
use crate::kafka::raise::Raise;
use crate::kafka::view::{Broker, Feature, Moving, Partition, Quorum, Replica, Throttled, View};
use std::collections::{BTreeMap, BTreeSet};

/// The unit of every broker.
pub(super) const UNIT: &str = "aesop-kafka.service";

/// What a broker's host says of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    pub(super) id: i32,
    pub(super) address: String,
    pub(super) rack: Option<String>,
    /// The highest `metadata.version` that it knows.
    pub(super) level: i16,
    pub(super) controller: bool,
    pub(super) broker: bool,
    pub(super) mode: KafkaMode,
    /// It has no storage.
    pub(super) empty: bool,
    /// `min.insync.replicas` in its file.
    pub(super) min_in_sync: usize,
}

/// The cluster.
#[derive(Clone, Debug, Default)]
pub struct FakeKafka {
    /// Everything that it says of itself.
    pub view: View,
    /// It answers when it is asked.
    pub speaks: bool,
    /// `min.insync.replicas` that all brokers were told; none: each goes by its file.
    pub told_min_in_sync: Option<usize>,
    /// Brokers that do not stop cleanly the next time, and read their logs then.
    pub killed: BTreeSet<i32>,
    /// Brokers that are at that.
    pub recovering: BTreeSet<i32>,
    /// The highest in a file of a broker that was started.
    min_in_sync: Option<usize>,
    /// What no cluster should live through.
    pub faults: Vec<String>,
    mode: KafkaMode,
    /// Partitions that lost what was acknowledged last, as somebody had accepted.
    pub lost: BTreeSet<String>,
    levels: BTreeMap<i32, i16>,
    /// Controllers with the directory that their vote is for.
    pub voters: BTreeMap<i32, usize>,
    /// Which directory each node has, counted over all that were made.
    directories: BTreeMap<i32, usize>,
    /// Controllers that run.
    pub controllers: BTreeSet<i32>,
    formats: usize,
    /// With which directory each broker was seen last.
    held: BTreeMap<i32, Option<usize>>,
}

impl FakeKafka {
    /// Makes a topic, spread over the brokers that run.
    pub fn create_topic(&mut self, name: &str, partitions: usize, factor: usize, min_in_sync: usize) {
        let brokers: Vec<i32> = self.up().collect();
        for (index, number) in (0..partitions).zip(0..) {
            let replicas: Vec<i32> = brokers.iter().cycle().skip(index).take(factor).copied().collect();
            self.view.partitions.push(Partition {
                topic: name.to_owned(),
                index: number,
                leader: replicas.first().copied(),
                in_sync: replicas.iter().copied().collect(),
                replicas,
            });
        }
        self.view.min_in_sync.insert(name.to_owned(), min_in_sync);
    }

    fn up(&self) -> impl Iterator<Item = i32> + '_ {
        self.view.brokers.iter().filter(|(_, broker)| !broker.fenced).map(|(id, _)| *id)
    }

    /// Brokers that the cluster knows: ZooKeeper forgets who is down and holds nothing.
    pub fn registered(&self) -> BTreeMap<i32, Broker> {
        let forgets = self.mode == KafkaMode::ZooKeeper;
        let holds = |id: i32| self.view.on(id).next().is_some();
        let mut brokers = self.view.brokers.clone();
        brokers.retain(|id, broker| !forgets || !broker.fenced || holds(*id));
        brokers
    }

    /// What it says; nothing where no broker runs.
    pub(super) fn said(&self) -> Option<View> {
        self.up().next().filter(|_| self.speaks)?;
        let mut view = self.view.clone();
        let supported = self.up().filter_map(|id| self.levels.get(&id).copied()).min();
        view.feature =
            view.feature.zip(supported).map(|(feature, supported)| Feature { supported, ..feature });
        view.quorum = self.quorum();
        view.brokers = self.registered();
        if self.mode == KafkaMode::ZooKeeper {
            // Any broker may be the controller.
            view.quorum.leader = self.up().next();
        }
        Some(view)
    }

    /// The controllers as they would describe themselves.
    fn quorum(&self) -> Quorum {
        const NOW: i64 = 1_000_000;
        let replica = |(id, directory): (&i32, &usize)| {
            let lives = self.controllers.contains(id) && self.directories.get(id) == Some(directory);
            // A later directory is the one that it lives with.
            let at = if lives { NOW } else { i64::try_from(*directory).unwrap_or_default() };
            let directory = directory.to_string();
            Replica { id: *id, directory, fetched_ms: at, caught_up_ms: at, ..Replica::default() }
        };
        let waits = |(id, directory): &(&i32, &usize)| {
            self.controllers.contains(id) && self.voters.get(id) != Some(directory)
        };
        let alive = self.voting();
        Quorum {
            leader: alive.iter().next().copied().filter(|_| alive.len() * 2 > self.voters.len()),
            voters: self.voters.iter().map(replica).collect(),
            observers: self.directories.iter().filter(waits).map(replica).collect(),
        }
    }

    /// Controllers that run with the disk that their vote is for.
    fn voting(&self) -> BTreeSet<i32> {
        let votes = |(id, directory): &(&i32, &usize)| {
            self.controllers.contains(id) && self.directories.get(id) == Some(directory)
        };
        self.voters.iter().filter(votes).map(|(id, _)| *id).collect()
    }

    /// A controller goes down, or comes up; where the others had a majority they must keep it.
    fn control(&mut self, node: &Node, up: bool, planned: bool) {
        let majority = |kafka: &Self| kafka.voting().len() * 2 > kafka.voters.len();
        let had = majority(self) && self.voters.len() > 1;
        self.controllers.remove(&node.id);
        if planned && had && !majority(self) {
            self.faults.push(format!("the controllers have no majority without {}", node.id));
        }
        if up && node.controller {
            self.controllers.insert(node.id);
        } else if up && self.voters.contains_key(&node.id) {
            self.faults.push(format!("controller {} is none any more and has a vote", node.id));
        }
    }

    /// The votes that a node is formatted with: all of the first controllers have the same.
    fn format(&mut self, node: &Node, initial: &str) {
        self.formats += 1;
        self.directories.insert(node.id, self.formats);
        let ids: BTreeSet<i32> =
            initial.split(',').filter_map(|voter| voter.split_once('@')?.0.parse().ok()).collect();
        if !ids.contains(&node.id) {
            return;
        }
        if self.voters.is_empty() {
            // Those that are formatted later have directory ids that are known already.
            self.voters = ids.iter().map(|id| (*id, usize::MAX)).collect();
        }
        if self.voters.get(&node.id) == Some(&usize::MAX) {
            self.voters.insert(node.id, self.formats);
        } else {
            self.faults.push(format!("controller {} founds a second quorum", node.id));
        }
    }

    /// A broker came up, or went.
    pub(super) fn turn(&mut self, node: &Node, up: bool) {
        self.control(node, up, false);
        if !node.broker && !self.view.brokers.contains_key(&node.id) {
            return;
        }
        // What was a broker and is none any more is registered until somebody unregisters it.
        let (serves, up) = (self.view.serves(node.id), up && node.broker);
        if let (true, false, Some(partition)) = (serves, node.broker, self.view.on(node.id).next()) {
            self.faults.push(format!("broker {} became a controller alone with {partition}", node.id));
        }
        // What came back empty while the others trusted it to have something.
        let known = self.held.insert(node.id, self.directories.get(&node.id).copied());
        if let (true, Some(known)) = (up, known)
            && known != self.directories.get(&node.id).copied()
        {
            let alone = self.view.partitions.iter().filter(|p| p.in_sync == BTreeSet::from([node.id]));
            self.faults.extend(alone.map(|partition| format!("{partition} is lost")));
        }
        let broker = Broker { address: node.address.clone(), rack: node.rack.clone(), fenced: !up };
        self.view.brokers.insert(node.id, broker);
        self.levels.insert(node.id, node.level);
        self.mode = node.mode;
        let known = *self.min_in_sync.get_or_insert(node.min_in_sync);
        if node.mode == KafkaMode::Kraft {
            // From 4.1 on the first controller tells all what its file says.
            self.told_min_in_sync.get_or_insert(known);
        } else if up && self.told_min_in_sync.is_none() && node.min_in_sync > known {
            self.min_in_sync = Some(node.min_in_sync);
            self.go_by(node.min_in_sync);
        }
        if node.mode == KafkaMode::Kraft {
            let finalized = Feature { finalized: node.level, supported: node.level };
            self.view.feature.get_or_insert(finalized);
        }
        let alive: BTreeSet<i32> = self.up().collect();
        for partition in self.view.partitions.iter_mut().filter(|p| p.replicas.contains(&node.id)) {
            if up {
                // Whoever has a leader to copy from is in sync at once here.
                let comes = partition.leader.is_some() || partition.in_sync.contains(&node.id);
                partition.in_sync.extend(comes.then_some(node.id));
            } else if partition.in_sync.len() > 1 {
                partition.in_sync.remove(&node.id);
            }
            partition.leader = partition
                .replicas
                .iter()
                .copied()
                .find(|id| alive.contains(id) && partition.in_sync.contains(id));
        }
    }

    /// The minimum of topics that do not say it themselves.
    fn go_by(&mut self, minimum: usize) {
        let own = &self.view.own_min_in_sync;
        for (_, needed) in self.view.min_in_sync.iter_mut().filter(|(topic, _)| !own.contains(*topic)) {
            *needed = minimum;
        }
        self.check_writes(|_| true, "a higher minimum of in-sync replicas");
    }

    /// Whoever wants all acknowledgements can write to every partition of these that is led.
    fn check_writes(&mut self, about: impl Fn(&Partition) -> bool, when: &str) {
        for partition in self.view.partitions.iter().filter(|p| p.leader.is_some() && about(p)) {
            let needed = self.view.min_in_sync.get(&partition.topic).copied().unwrap_or(1);
            if partition.in_sync.len() < needed.min(partition.replicas.len()) {
                self.faults.push(format!("{partition} takes no writes: {when}"));
            }
        }
    }

    /// A line of the executor's program. None: whoever sent it died in the middle.
    pub(super) fn told(
        &mut self,
        node: Option<&Node>,
        line: &str,
        fuse: &mut Option<usize>,
    ) -> Option<Result<(), String>> {
        let fields: Vec<&str> = line.split('|').collect();
        if let (["start" | "restart", UNIT], Some(node)) = (fields.as_slice(), node)
            && node.mode == KafkaMode::ZooKeeper
            && node.empty
        {
            // It makes what it lacks, and asks nobody.
            self.formats += 1;
            self.directories.insert(node.id, self.formats);
        }
        match (fields.as_slice(), node) {
            (["start", UNIT], Some(node)) => self.turn(node, true),
            (["restart" | "retire", UNIT], Some(node)) if self.controllers.contains(&node.id) => {
                self.control(node, false, true);
                return self.told(Some(node), line, fuse);
            }
            (["restart", UNIT], Some(node)) => {
                if self.recovering.contains(&node.id) {
                    self.faults.push(format!("broker {} was restarted while it read its logs", node.id));
                }
                if self.killed.remove(&node.id) {
                    self.recovering.insert(node.id);
                }
                if let (true, Err(why)) = (self.view.serves(node.id), may_stop_broker(&self.view, node.id)) {
                    self.faults.push(why.to_string());
                }
                self.turn(node, true);
            }
            (["halt", UNIT], Some(node)) => self.turn(node, false),
            (["retire", UNIT], Some(node)) => {
                if self.voters.contains_key(&node.id) {
                    self.faults.push(format!("controller {} left with its vote", node.id));
                }
                if self.view.on(node.id).next().is_some() {
                    self.faults.push(format!("broker {} left with replicas", node.id));
                }
                self.turn(node, false);
            }
            (["kafka-format", _, _, _, _, initial, ..], Some(node)) => self.format(node, initial),
            (["gate", UNIT, _, test, ..], Some(node)) => return Some(self.gate(test, node)),
            (["member", _, args], node) => {
                let args: Vec<&str> = args.split(' ').collect();
                match args.first() {
                    Some(&"kafka-brokers") => return self.brokers(&args, fuse),
                    Some(&"kafka-voters") => return self.votes(&args, fuse),
                    Some(&"kafka-settings") if !args.contains(&"min.insync.replicas") => {
                        let file = node.map(|node| node.min_in_sync);
                        let now = self.told_min_in_sync.or(self.min_in_sync);
                        if let Some(minimum) = file.filter(|_| now != file) {
                            self.told_min_in_sync = Some(minimum);
                            self.go_by(minimum);
                        }
                    }
                    Some(&"kafka-features") => {
                        if let Some(said) = self.said().and_then(|view| view.feature) {
                            self.view.feature = Some(Feature { finalized: said.supported, ..said });
                        }
                    }
                    _ => {}
                }
            }
            _ => {}
        }
        Some(Ok(()))
    }

    fn gate(&self, test: &str, node: &Node) -> Result<(), String> {
        if ["kafka-stop", "kafka --"].iter().any(|start| test.starts_with(start))
            && self.recovering.contains(&node.id)
        {
            return Err(format!("broker {} reads its logs", node.id));
        }
        // One that says nothing says nothing of its quorum either.
        if test.starts_with("kafka-stop") && self.speaks && self.controllers.contains(&node.id) {
            may_stop_controller(&self.quorum(), node.id).map_err(|error| error.to_string())?;
        }
        if test.starts_with("kafka-stop") && self.view.serves(node.id) {
            may_stop_broker(&self.view, node.id).map_err(|error| error.to_string())?;
        }
        if test.starts_with("kafka-lost")
            && let Some(view) = self.said()
        {
            may_lose_disk(&view, node.id).map_err(|error| error.to_string())?;
        }
        let empty = test.strip_prefix("kafka-empty").and_then(|test| value(test, "--node"));
        let id: Option<i32> = empty.and_then(|id| id.parse().ok());
        let keeps_vote = test.ends_with("--keeps-vote");
        if let Some(id) = id.filter(|id| !keeps_vote && self.voters.contains_key(id)) {
            return Err(format!("controller {id} has a vote"));
        }
        match id.and_then(|id| self.view.on(id).next()) {
            Some(partition) => Err(format!("broker {} holds {partition}", node.id)),
            None => Ok(()),
        }
    }

    /// As `aesop member kafka-voters` does it; whoever waits for it may die before each change.
    fn votes(&mut self, args: &[&str], fuse: &mut Option<usize>) -> Option<Result<(), String>> {
        let given = |name: &str| args.iter().position(|arg| *arg == name).and_then(|at| args.get(at + 1));
        let ids = |name: &str| -> BTreeSet<i32> {
            let words = given(name).into_iter().flat_map(|words| words.split(','));
            words.filter_map(|word| word.split('@').next()?.parse().ok()).collect()
        };
        let wish = Wish { controllers: ids("--controllers"), leaving: ids("--leaving") };
        loop {
            burn(fuse)?;
            match next(&self.quorum(), &wish) {
                Next::Done => return Some(Ok(())),
                Next::Wait(why) => return Some(Err(why)),
                Next::Remove(replica) => {
                    self.voters.remove(&replica.id);
                }
                Next::Add(replica) => {
                    let directory = replica.directory.parse().unwrap_or_default();
                    self.voters.insert(replica.id, directory);
                }
            }
            if self.voting().len() * 2 <= self.voters.len() {
                self.faults.push("the controllers lost their majority by a change of votes".to_owned());
            }
        }
    }

    /// As `aesop member kafka-brokers` does it; whoever waits for it may die at each of its steps, Kafka goes on.
    fn brokers(&mut self, args: &[&str], fuse: &mut Option<usize>) -> Option<Result<(), String>> {
        let ids = |name: &str| -> BTreeSet<i32> {
            let given = args.iter().position(|arg| *arg == name).and_then(|at| args.get(at + 1));
            given.into_iter().flat_map(|ids| ids.split(',')).filter_map(|id| id.parse().ok()).collect()
        };
        let has = |name: &str| args.contains(&name);
        let leaving = ids("--leaving");
        if has("--accept-loss") {
            burn(fuse)?;
            self.give_up(&leaving);
        }
        self.arrive();
        let members: BTreeSet<i32> =
            ids("--members").into_iter().filter(|id| self.view.serves(*id)).collect();
        let given = |name: &str| args.iter().position(|arg| *arg == name).and_then(|at| args.get(at + 1));
        let raise: Option<Raise> = given("--raise").and_then(|text| serde_json::from_str(text).ok());
        let wish =
            moves::Wish { members, leaving: leaving.clone(), fill: has("--fill"), raise: raise.clone() };
        let changes = match moves(&self.view, &wish) {
            Ok(changes) => changes,
            Err(error) => return Some(Err(error.to_string())),
        };
        if let Some(raise) = raise.as_ref().filter(|_| changes.iter().any(Move::raises)) {
            burn(fuse)?;
            if raise.raises_in_sync() && self.told_min_in_sync.is_none() {
                self.told_min_in_sync = Some(raise.former_in_sync);
                self.go_by(raise.former_in_sync);
            }
        }
        if !changes.is_empty() {
            burn(fuse)?;
            self.view.throttled = Throttled {
                brokers: changes.iter().flat_map(Move::adding).collect(),
                topics: changes.iter().map(|change| change.topic.clone()).collect(),
            };
            burn(fuse)?;
            let moving = changes.iter().map(|change| Moving {
                topic: change.topic.clone(),
                index: change.index,
                target: change.to.clone(),
                adding: change.adding().collect(),
            });
            self.view.moving = moving.collect();
            for change in &changes {
                let is = |p: &&mut Partition| p.topic == change.topic && p.index == change.index;
                if let Some(partition) = self.view.partitions.iter_mut().find(is) {
                    partition.replicas.extend(change.adding());
                }
            }
            let raised = |p: &Partition| {
                let is = |change: &&Move| p.topic == change.topic && p.index == change.index;
                changes.iter().filter(|change| change.raises()).any(|change| is(&change))
            };
            self.check_writes(raised, "copies are on their way");
            burn(fuse)?;
            if has("--accept-loss") {
                self.give_up(&leaving);
            }
            self.arrive();
        }
        burn(fuse)?;
        self.view.throttled = Throttled::default();
        if let Some(raise) = raise.as_ref().filter(|_| has("--in-sync")) {
            burn(fuse)?;
            if let Err(why) = self.finish(raise) {
                return Some(Err(why));
            }
        }
        if has("--unregister") {
            burn(fuse)?;
            for id in leaving {
                if self.view.serves(id) {
                    return Some(Err(format!("broker {id} still takes part")));
                }
                self.view.brokers.remove(&id);
            }
        }
        Some(Ok(()))
    }

    /// The minimum of in-sync replicas follows what was raised.
    fn finish(&mut self, raise: &Raise) -> Result<(), String> {
        if let Some(short) = self.view.partitions.iter().find(|partition| raise.wants(partition).is_some()) {
            return Err(format!("{short} should have more replicas"));
        }
        if let Some(behind) = raise.behind(&self.view).first() {
            return Err(format!("{behind} has too few replicas in sync"));
        }
        if raise.raises_in_sync() && self.told_min_in_sync.is_some_and(|told| told < raise.in_sync) {
            self.told_min_in_sync = Some(raise.in_sync);
            self.go_by(raise.in_sync);
        }
        let own = raise.own_minimum(&self.view);
        self.view.min_in_sync.extend(own);
        self.check_writes(|_| true, "a topic's own minimum");
        Ok(())
    }

    /// A replica that lives leads what only brokers had that are gone.
    fn give_up(&mut self, gone: &BTreeSet<i32>) {
        let alive: BTreeSet<i32> = self.up().collect();
        let dead: BTreeSet<i32> = gone - &alive;
        let waits = |p: &&mut Partition| p.leader.is_none() && p.in_sync.is_subset(&dead);
        for partition in self.view.partitions.iter_mut().filter(waits) {
            partition.leader = partition.replicas.iter().copied().find(|id| alive.contains(id));
            partition.in_sync = partition.leader.into_iter().collect();
            self.lost.extend(partition.leader.map(|_| partition.to_string()));
        }
    }

    fn arrive(&mut self) {
        for moving in std::mem::take(&mut self.view.moving) {
            let is = |p: &&mut Partition| p.topic == moving.topic && p.index == moving.index;
            let Some(partition) = self.view.partitions.iter_mut().find(is) else { continue };
            if partition.leader.is_none() {
                self.faults.push(format!("{partition} has nobody to copy from"));
            }
            partition.in_sync = moving.target.iter().copied().collect();
            partition.leader = moving.target.first().copied();
            partition.replicas = moving.target;
        }
    }
}

fn burn(fuse: &mut Option<usize>) -> Option<()> {
    if let Some(left) = fuse {
        *left = left.checked_sub(1)?;
    }
    Some(())
}

fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split(' ').skip_while(|word| *word != name).nth(1)
}
