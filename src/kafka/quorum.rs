//! Which vote changes next where controllers come and go, so that a majority of them is caught up at every step. Pure.

use super::gate::{CAUGHT_UP_MS, NotNow};
use super::view::{Quorum, Replica};
use std::collections::BTreeSet;

/// Who has asked its leader for more within this takes part, whether it is caught up or not.
const LIVES_MS: i64 = 10_000;

/// Who should have a vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Ids of the controllers.
    pub controllers: BTreeSet<i32>,
    /// Ids that lose their votes; a vote of whoever is in neither is left alone.
    pub leaving: BTreeSet<i32>,
}

/// The next change of votes. Kafka takes one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// All is as it is wished.
    Done,
    /// Nothing may be changed now, because of this.
    Wait(String),
    /// A vote goes.
    Remove(Replica),
    /// A replica that follows gets one.
    Add(Replica),
}

/// What is to be done next: votes of the dead go first, because they only make the majority larger; then those come that
/// follow and have caught up; then those go that still run, the active controller last.
pub fn next(quorum: &Quorum, wish: &Wish) -> Next {
    if quorum.leader.is_none() {
        return Next::Wait("no controller is active".to_owned());
    }
    let leaves = |voter: &&Replica| wish.leaving.contains(&voter.id);
    let dead = quorum.voters.iter().filter(leaves).find(|voter| !quorum.is_caught_up(voter));
    let former = || {
        quorum
            .voters
            .iter()
            .find(|voter| wish.controllers.contains(&voter.id) && quorum.without_vote(voter.id).is_some())
    };
    if let Some(voter) = dead.or_else(former) {
        return remove(quorum, voter);
    }
    let votes = |id: &i32| quorum.voters.iter().any(|voter| voter.id == *id);
    let mut waiting = None;
    for id in wish.controllers.iter().filter(|id| !votes(id)) {
        match quorum.without_vote(*id) {
            Some(observer) if quorum.is_caught_up(observer) => {
                return match may_add(quorum, *id) {
                    Ok(()) => Next::Add(observer.clone()),
                    Err(why) => Next::Wait(why.0),
                };
            }
            Some(_) => waiting = Some(format!("controller {id} has not caught up yet")),
            None => waiting = Some(format!("controller {id} does not follow the active one yet")),
        }
    }
    if let Some(why) = waiting {
        return Next::Wait(why);
    }
    let mut alive: Vec<&Replica> = quorum.voters.iter().filter(leaves).collect();
    alive.sort_by_key(|voter| quorum.leader == Some(voter.id));
    alive.first().map_or(Next::Done, |voter| remove(quorum, voter))
}

fn remove(quorum: &Quorum, voter: &Replica) -> Next {
    may_remove(quorum, voter).map_or_else(|why| Next::Wait(why.0), |()| Next::Remove(voter.clone()))
}

/// Whether a vote may be taken away: of those that stay a majority must be caught up.
pub fn may_remove(quorum: &Quorum, voter: &Replica) -> Result<(), NotNow> {
    let id = voter.id;
    let stays = |other: &&Replica| (other.id, &other.directory) != (id, &voter.directory);
    let stay = quorum.voters.iter().filter(stays).count();
    let caught_up = quorum.voters.iter().filter(stays).filter(|other| quorum.is_caught_up(other)).count();
    let needed = stay / 2 + 1;
    if quorum.leader.is_some() && caught_up >= needed {
        return Ok(());
    }
    Err(NotNow(format!(
        "controller {id} must keep its vote now: of the {stay} others {caught_up} are caught up, {needed} are needed"
    )))
}

/// Whether a controller that follows, and has caught up, may get a vote: with it a majority must be caught up.
pub fn may_add(quorum: &Quorum, id: i32) -> Result<(), NotNow> {
    let caught_up = 1 + quorum.voters.iter().filter(|voter| quorum.is_caught_up(voter)).count();
    let voters = quorum.voters.len() + 1;
    let needed = voters / 2 + 1;
    if quorum.leader.is_some() && caught_up >= needed {
        return Ok(());
    }
    Err(NotNow(format!(
        "controller {id} must not get a vote now: of then {voters} controllers {caught_up} are caught up, {needed} are needed"
    )))
}

/// Why a wish cannot be carried out from here, if all that come do come.
pub fn endangered(quorum: &Quorum, wish: &Wish) -> Option<String> {
    let mut quorum = quorum.clone();
    let now = quorum.now();
    let known: BTreeSet<i32> = quorum.voters.iter().map(|voter| voter.id).collect();
    quorum.observers.retain(|observer| known.contains(&observer.id));
    quorum.observers.iter_mut().for_each(|observer| observer.caught_up_ms = now);
    quorum.observers.extend(wish.controllers.difference(&known).map(|id| Replica {
        id: *id,
        caught_up_ms: now,
        fetched_ms: now,
        ..Replica::default()
    }));
    loop {
        match next(&quorum, wish) {
            Next::Done => return None,
            Next::Wait(why) => return Some(why),
            Next::Add(replica) => {
                quorum.observers.retain(|observer| *observer != replica);
                quorum.voters.push(replica);
            }
            Next::Remove(replica) => {
                quorum.voters.retain(|voter| *voter != replica);
                if quorum.leader == Some(replica.id) {
                    quorum.leader =
                        quorum.voters.iter().find(|voter| quorum.is_caught_up(voter)).map(|v| v.id);
                }
            }
        }
    }
}

impl Quorum {
    /// The active controller's clock.
    fn now(&self) -> i64 {
        let leader =
            self.voters.iter().chain(&self.observers).find(|replica| Some(replica.id) == self.leader);
        let all = self.voters.iter().chain(&self.observers).map(|replica| replica.caught_up_ms);
        leader.map(|leader| leader.caught_up_ms).or_else(|| all.max()).unwrap_or(-1)
    }

    /// The active controller, or one that was caught up with it a moment ago.
    pub fn is_caught_up(&self, replica: &Replica) -> bool {
        let at = replica.caught_up_ms;
        Some(replica.id) == self.leader || at >= 0 && self.now() - at < CAUGHT_UP_MS
    }

    /// Whether a node with a vote runs: it leads, or has asked for more a moment ago.
    pub fn lives(&self, id: i32) -> bool {
        let fetched = |voter: &Replica| voter.fetched_ms >= 0 && self.now() - voter.fetched_ms < LIVES_MS;
        self.voters.iter().any(|voter| voter.id == id && (self.leader == Some(id) || fetched(voter)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Voters and observers as `id` (caught up) or `-id` (not since long); the leader is always caught up.
    fn quorum(leader: Option<i32>, voters: &[i32], observers: &[i32]) -> Quorum {
        let replica = |id: &i32| Replica {
            id: id.abs(),
            directory: format!("d{}", id.abs()),
            log_end: 9,
            caught_up_ms: if *id < 0 { 50_000 } else { 100_000 },
            fetched_ms: if *id < 0 { 50_000 } else { 100_000 },
        };
        Quorum {
            leader,
            voters: voters.iter().map(replica).collect(),
            observers: observers.iter().map(replica).collect(),
        }
    }

    fn wish(controllers: &[i32], leaving: &[i32]) -> Wish {
        Wish {
            controllers: controllers.iter().copied().collect(),
            leaving: leaving.iter().copied().collect(),
        }
    }

    fn told(next: &Next) -> String {
        match next {
            Next::Done => "done".to_owned(),
            Next::Wait(why) => format!("wait: {why}"),
            Next::Remove(replica) => format!("-{}", replica.id),
            Next::Add(replica) => format!("+{}", replica.id),
        }
    }

    #[test]
    fn one_vote_after_the_other_and_never_without_a_majority() {
        type Case =
            (Option<i32>, &'static [i32], &'static [i32], &'static [i32], &'static [i32], &'static str);
        // leader, voters, observers, wished, leaving, next
        let table: &[Case] = &[
            (Some(1), &[1, 2, 3], &[], &[1, 2, 3], &[], "done"),
            (None, &[1, 2, 3], &[], &[1, 2, 3], &[], "wait: no controller is active"),
            // Who comes, comes before who goes.
            (Some(1), &[1, 2, 3], &[4], &[1, 2, 4], &[3], "+4"),
            (Some(1), &[1, 2, 3, 4], &[], &[1, 2, 4], &[3], "-3"),
            (Some(1), &[1, 2, 4], &[3], &[1, 2, 4], &[3], "done"),
            (
                Some(1),
                &[1, 2, 3],
                &[],
                &[1, 2, 4],
                &[3],
                "wait: controller 4 does not follow the active one yet",
            ),
            (Some(1), &[1, 2, 3], &[-4], &[1, 2, 4], &[3], "wait: controller 4 has not caught up yet"),
            // Of two that come the one that is there goes first.
            (Some(1), &[1], &[3], &[1, 2, 3], &[], "+3"),
            // The dead go before anybody comes.
            (Some(1), &[1, 2, -3], &[4], &[1, 2, 4], &[3], "-3"),
            (Some(1), &[1, 2], &[4], &[1, 2, 4], &[3], "+4"),
            // The active one goes last.
            (Some(1), &[1, 2, 3], &[], &[3], &[1, 2], "-2"),
            (Some(1), &[1, 3], &[], &[3], &[1], "-1"),
            // Nobody in neither list is touched.
            (Some(1), &[1, 2, 3, 9], &[], &[1, 2, 3], &[], "done"),
            // With 3 gone the other two are needed, and one of them is behind.
            (
                Some(1),
                &[1, -2, 3],
                &[],
                &[1, 2],
                &[3],
                "wait: controller 3 must keep its vote now: of the 2 others 1 are caught up, 2 are needed",
            ),
            (
                Some(1),
                &[1, -2, -3],
                &[4],
                &[1, 2, 3, 4],
                &[],
                "wait: controller 4 must not get a vote now: of then 4 controllers 2 are caught up, 3 are needed",
            ),
            (Some(1), &[1, -2], &[4], &[1, 2, 4], &[], "+4"),
            (Some(1), &[1], &[], &[2], &[1], "wait: controller 2 does not follow the active one yet"),
            (
                Some(1),
                &[1],
                &[],
                &[],
                &[1],
                "wait: controller 1 must keep its vote now: of the 0 others 0 are caught up, 1 are needed",
            ),
        ];
        for (leader, voters, observers, controllers, leaving, expected) in table {
            let found = told(&next(&quorum(*leader, voters, observers), &wish(controllers, leaving)));
            assert_eq!(found, *expected, "{leader:?} {voters:?} {observers:?} {controllers:?} {leaving:?}");
        }
    }

    #[test]
    fn a_disk_that_was_lost_gives_its_vote_back_first() {
        let mut lost = quorum(Some(1), &[1, 2, -3], &[]);
        lost.observers = quorum(Some(1), &[3], &[]).voters;
        lost.observers[0].directory = "new".to_owned();
        let Next::Remove(former) = next(&lost, &wish(&[1, 2, 3], &[])) else { panic!("{lost:?}") };
        assert_eq!(former.directory, "d3");
        lost.voters.pop();
        let Next::Add(replica) = next(&lost, &wish(&[1, 2, 3], &[])) else { panic!("{lost:?}") };
        assert_eq!(replica.directory, "new");
    }

    #[test]
    fn what_cannot_be_carried_out_is_known_beforehand() {
        type Case = (&'static [i32], &'static [i32], &'static [i32], Option<&'static str>);
        // voters, wished, leaving, why not
        let table: &[Case] = &[
            (&[1, 2, 3], &[4, 5, 6], &[1, 2, 3], None),
            (&[1], &[1, 2, 3], &[], None),
            (&[1, 2, -3], &[1], &[2, 3], None),
            (&[1, 2, -3], &[1, 2, 4], &[3], None),
            (&[1, -2, 3], &[2], &[1, 3], Some("controller 3 must keep its vote now")),
            (&[1, -2, 3, 4, -5], &[1, 2, 5], &[3, 4], Some("controller 3 must keep its vote now")),
        ];
        for (voters, controllers, leaving, expected) in table {
            let found = endangered(&quorum(Some(1), voters, &[]), &wish(controllers, leaving));
            let as_expected = match (&found, expected) {
                (Some(found), Some(expected)) => found.starts_with(expected),
                (None, None) => true,
                _ => false,
            };
            assert!(as_expected, "{voters:?} {controllers:?} {leaving:?}: {found:?}");
        }
    }

    #[test]
    fn who_asks_for_more_lives() {
        let quorum = quorum(Some(1), &[1, -2, 3], &[4]);
        let lives: Vec<i32> = (1..5).filter(|id| quorum.lives(*id)).collect();
        assert_eq!(lives, [1, 3], "2 is dead, 4 has no vote");
    }
}
