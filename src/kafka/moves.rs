//! Which partitions move where when brokers come and go. Pure.
//!
//! As few replicas move as will do: what leaves a broker for good, and what fills one that holds less than half of its
//! share. A replica is replaced in its place, so that the preferred leaders move along; racks are never worse than before.
//! Where defaults are raised, replicas come to those that are there.

use super::raise::Raise;
use super::view::{Partition, Throttled, View};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A partition's former and new brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Topic.
    pub topic: String,
    /// Its number.
    pub index: i32,
    /// Brokers that hold it.
    pub from: Vec<i32>,
    /// Brokers that will.
    pub to: Vec<i32>,
}

impl Move {
    /// Brokers that get it.
    pub fn adding(&self) -> impl Iterator<Item = i32> + '_ {
        self.to.iter().copied().filter(|id| !self.from.contains(id))
    }

    /// It has more replicas afterwards.
    pub fn raises(&self) -> bool {
        self.to.len() > self.from.len()
    }
}

/// Who holds partitions afterwards.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Brokers that may take partitions.
    pub members: BTreeSet<i32>,
    /// Brokers that keep none.
    pub leaving: BTreeSet<i32>,
    /// Whether members that hold too little get more.
    pub fill: bool,
    /// Topics that get more replicas, as far as there are members.
    pub raise: Option<Raise>,
}

/// Fewer brokers stay than a partition has replicas.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{partition} has {replicas} replicas and only {brokers} brokers could hold them")]
pub struct TooFew {
    partition: String,
    replicas: usize,
    brokers: usize,
}

/// What moves. Where nothing has to, nothing does: what comes out of it, done, gives no moves again.
pub fn moves(view: &View, wish: &Wish) -> Result<Vec<Move>, TooFew> {
    let mut place = Place::new(view, &wish.members);
    place.drain(&wish.leaving)?;
    place.even_out(&view.settled(), &wish.leaving);
    if let Some(raise) = &wish.raise {
        place.raise(raise);
    }
    if wish.fill {
        // What was filled first may be able to give to what could not be.
        while place.fill() {}
    }
    let before = view.settled();
    let changed =
        before.iter().zip(&place.partitions).filter(|(before, now)| before.replicas != now.replicas);
    Ok(changed
        .map(|(before, now)| Move {
            topic: now.topic.clone(),
            index: now.index,
            from: before.replicas.clone(),
            to: now.replicas.clone(),
        })
        .collect())
}

/// The cluster once these, and all that is on its way, have arrived.
pub fn arrived(view: &View, moves: &[Move]) -> View {
    let partitions = view.settled();
    let mut view = View { partitions, moving: Vec::new(), throttled: Throttled::default(), ..view.clone() };
    for change in moves {
        let is = |p: &&mut Partition| p.topic == change.topic && p.index == change.index;
        if let Some(partition) = view.partitions.iter_mut().find(is) {
            partition.in_sync = change.to.iter().copied().collect();
            partition.replicas.clone_from(&change.to);
        }
    }
    view
}

/// How many replicas go to which broker.
pub fn gains(moves: &[Move]) -> BTreeMap<i32, usize> {
    let mut gains = BTreeMap::new();
    for id in moves.iter().flat_map(Move::adding) {
        *gains.entry(id).or_insert(0) += 1;
    }
    gains
}

/// Partitions whose in-sync replicas are all on `brokers`: with these they are gone.
pub fn only_on(view: &View, brokers: &BTreeSet<i32>) -> Vec<String> {
    let lost = |partition: &&Partition| {
        partition.replicas.iter().any(|id| brokers.contains(id)) && partition.in_sync.is_subset(brokers)
    };
    view.partitions.iter().filter(lost).map(ToString::to_string).collect()
}

/// Replicas in their places, and how much each broker has.
struct Place {
    partitions: Vec<Partition>,
    racks: BTreeMap<i32, String>,
    members: BTreeSet<i32>,
    held: BTreeMap<i32, usize>,
    led: BTreeMap<i32, usize>,
    of_topic: BTreeMap<(i32, String), usize>,
}

impl Place {
    fn new(view: &View, members: &BTreeSet<i32>) -> Self {
        let racks = view.brokers.iter().filter_map(|(id, broker)| Some((*id, broker.rack.clone()?)));
        let mut place = Self {
            partitions: view.settled(),
            racks: racks.collect(),
            members: members.clone(),
            held: members.iter().map(|id| (*id, 0)).collect(),
            led: BTreeMap::new(),
            of_topic: BTreeMap::new(),
        };
        for partition in view.settled() {
            for (position, id) in partition.replicas.iter().enumerate() {
                place.count(&partition.topic, position, *id, true);
            }
        }
        place
    }

    fn count(&mut self, topic: &str, position: usize, id: i32, more: bool) {
        let change = |count: &mut usize| *count = if more { *count + 1 } else { count.saturating_sub(1) };
        change(self.held.entry(id).or_insert(0));
        change(self.of_topic.entry((id, topic.to_owned())).or_insert(0));
        if position == 0 {
            change(self.led.entry(id).or_insert(0));
        }
    }

    fn held(&self, id: i32) -> usize {
        self.held.get(&id).copied().unwrap_or(0)
    }

    fn led(&self, id: i32) -> usize {
        self.led.get(&id).copied().unwrap_or(0)
    }

    fn of_topic(&self, id: i32, topic: &str) -> usize {
        self.of_topic.get(&(id, topic.to_owned())).copied().unwrap_or(0)
    }

    /// How many of the other replicas of a partition stand in the rack of `id`.
    fn crowd(&self, at: usize, position: usize, id: i32) -> usize {
        let (Some(rack), Some(partition)) = (self.racks.get(&id), self.partitions.get(at)) else { return 0 };
        let others = partition.replicas.iter().enumerate().filter(|(index, _)| *index != position);
        others.filter(|(_, other)| self.racks.get(other) == Some(rack)).count()
    }

    /// Replaces a replica.
    fn put(&mut self, at: usize, position: usize, id: i32) {
        let Some(partition) = self.partitions.get_mut(at) else { return };
        let topic = partition.topic.clone();
        let Some(slot) = partition.replicas.get_mut(position) else { return };
        let former = std::mem::replace(slot, id);
        self.count(&topic, position, former, false);
        self.count(&topic, position, id, true);
    }

    /// Members that do not hold a partition yet.
    fn free(&self, at: usize) -> Vec<i32> {
        let replicas = self.partitions.get(at).map_or(&[][..], |partition| &partition.replicas);
        self.members.iter().copied().filter(|id| !replicas.contains(id)).collect()
    }

    fn drain(&mut self, leaving: &BTreeSet<i32>) -> Result<(), TooFew> {
        for at in 0..self.partitions.len() {
            let Some(partition) = self.partitions.get(at).cloned() else { continue };
            for (position, id) in partition.replicas.iter().enumerate() {
                if !leaving.contains(id) {
                    continue;
                }
                let lead = |candidate: i32| if position == 0 { self.led(candidate) } else { 0 };
                let best = self.free(at).into_iter().min_by_key(|candidate| {
                    let topic = self.of_topic(*candidate, &partition.topic);
                    let crowd = self.crowd(at, position, *candidate);
                    (crowd, self.held(*candidate), lead(*candidate), topic, *candidate)
                });
                let best = best.ok_or_else(|| TooFew {
                    partition: partition.to_string(),
                    replicas: partition.replicas.len(),
                    brokers: self.members.len(),
                })?;
                self.put(at, position, best);
            }
        }
        Ok(())
    }

    /// What left a broker may go to a better one than the first that was found: which was the least loaded was
    /// known only at the end. Nothing else moves.
    fn even_out(&mut self, before: &[Partition], leaving: &BTreeSet<i32>) {
        loop {
            let mut better = None;
            for (at, was) in before.iter().enumerate() {
                for (position, id) in was.replicas.iter().enumerate() {
                    let now = self.partitions.get(at).and_then(|partition| partition.replicas.get(position));
                    let (true, Some(now)) = (leaving.contains(id), now) else { continue };
                    let free = self.free(at).into_iter().filter(|other| {
                        self.held(*other) + 1 < self.held(*now)
                            && self.crowd(at, position, *other) <= self.crowd(at, position, *now)
                    });
                    better =
                        better.or(free.min_by_key(|other| self.held(*other)).map(|to| (at, position, to)));
                }
            }
            let Some((at, position, to)) = better else { return };
            self.put(at, position, to);
        }
    }

    /// Adds replicas where the raised defaults want more. What is copied in any case may as well be led by whoever
    /// leads least: else the first broker would lead all that it had alone.
    fn raise(&mut self, raise: &Raise) {
        for at in 0..self.partitions.len() {
            let Some(partition) = self.partitions.get(at).cloned() else { continue };
            let Some(wanted) = raise.wants(&partition) else { continue };
            for position in partition.replicas.len()..wanted {
                let best = self.free(at).into_iter().min_by_key(|id| {
                    let topic = self.of_topic(*id, &partition.topic);
                    (self.crowd(at, position, *id), self.held(*id), topic, *id)
                });
                let Some(best) = best else { break };
                self.add(at, best);
            }
            self.spread_leads(at);
        }
    }

    /// Adds a replica behind the others.
    fn add(&mut self, at: usize, id: i32) {
        let Some(partition) = self.partitions.get_mut(at) else { return };
        let (topic, position) = (partition.topic.clone(), partition.replicas.len());
        partition.replicas.push(id);
        self.count(&topic, position, id, true);
    }

    fn spread_leads(&mut self, at: usize) {
        let Some(replicas) = self.partitions.get(at).map(|partition| partition.replicas.clone()) else {
            return;
        };
        let least = replicas.iter().enumerate().min_by_key(|(position, id)| (self.led(**id), *position));
        let (Some((position, to)), Some(from)) = (least, replicas.first()) else { return };
        if self.led(*from) > self.led(*to) + 1 {
            *self.led.entry(*to).or_insert(0) += 1;
            self.led.entry(*from).and_modify(|count| *count = count.saturating_sub(1));
            if let Some(partition) = self.partitions.get_mut(at) {
                partition.replicas.swap(0, position);
            }
        }
    }

    /// Gives to members that hold less than half of their share, from those that hold most. Says whether it did.
    fn fill(&mut self) -> bool {
        let brokers = self.members.len().max(1);
        let share = self.members.iter().map(|id| self.held(*id)).sum::<usize>() / brokers;
        let lead_share = self.partitions.len() / brokers;
        let poor: BTreeSet<i32> =
            self.members.iter().copied().filter(|id| self.held(*id) * 2 < share).collect();
        let mut done = false;
        let mut open = poor.clone();
        while let Some(to) = open.iter().copied().min_by_key(|id| (self.held(*id), *id)) {
            let wants_lead = self.led(to) < lead_share;
            let gift = if self.held(to) < share { self.gift(to, &poor, share, wants_lead) } else { None };
            match gift {
                Some((at, position)) => {
                    self.put(at, position, to);
                    done = true;
                }
                None => drop(open.remove(&to)),
            }
        }
        done
    }

    /// The best replica to give to a broker: of the most loaded that can spare it.
    fn gift(&self, to: i32, poor: &BTreeSet<i32>, share: usize, wants_lead: bool) -> Option<(usize, usize)> {
        let all = self.partitions.iter().enumerate();
        let slots =
            all.filter(|(_, partition)| !partition.replicas.contains(&to)).flat_map(|(at, partition)| {
                partition
                    .replicas
                    .iter()
                    .enumerate()
                    .map(move |(position, id)| (at, position, *id, partition))
            });
        let spare = slots.filter(|(at, position, id, _)| {
            let held = self.held(*id);
            self.members.contains(id)
                && !poor.contains(id)
                && held > self.held(to) + 1
                && (held - 1) * 2 >= share
                && self.crowd(*at, *position, to) <= self.crowd(*at, *position, *id)
        });
        let best = spare.min_by_key(|(at, position, id, partition)| {
            let leads_well = (*position == 0) == (wants_lead && self.led(*id) > self.led(to));
            let held = std::cmp::Reverse(self.held(*id));
            let other_lead = std::cmp::Reverse(self.led(*id));
            (held, !leads_well, self.of_topic(to, &partition.topic), other_lead, *at, *position)
        });
        best.map(|(at, position, ..)| (at, position))
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}: {:?} to {:?}", self.topic, self.index, self.from, self.to)
    }
}

#[cfg(test)]
mod tests;
