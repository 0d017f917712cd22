//! When a member is ready, and when one may stop. Pure.

use super::members::Server;
use super::words::Standing;
use std::collections::BTreeMap;

/// Members by `myid`, each with how it stands.
pub type Members = BTreeMap<u32, (Server, Standing)>;

/// Whether a member is ready: it follows or observes, or it leads and has all voting followers in sync.
pub fn ready(members: &Members, myid: u32) -> Result<(), String> {
    let voters = members.values().filter(|(server, _)| server.votes).count();
    match members.get(&myid).map(|(_, standing)| standing) {
        Some(Standing::Leading { synced }) if synced + 1 < voters => {
            Err(format!("it leads, and {synced} of {} followers are in sync", voters.saturating_sub(1)))
        }
        Some(Standing::Leading { .. } | Standing::Following | Standing::Observing) => Ok(()),
        Some(Standing::Waiting(said)) => Err(format!("ZooKeeper has no quorum yet: {said}")),
        Some(Standing::Down(why)) => Err(format!("ZooKeeper does not answer: {why}")),
        None => Err(format!("server.{myid} is not among the members that this server knows")),
    }
}

/// Whether a member may stop: the others must be a majority, with one leader that has all of them in sync. One that
/// takes no part takes nothing away.
pub fn may_stop(members: &Members, myid: u32) -> Result<(), String> {
    let mine = members.get(&myid);
    let Some((server, standing)) = mine else { return Ok(()) };
    if !server.votes || !standing.serves() {
        return Ok(());
    }
    let voters: Vec<_> = members.iter().filter(|(_, (server, _))| server.votes).collect();
    if voters.len() == 1 {
        // There is nobody else: it is away until it is back.
        return Ok(());
    }
    let refuse = |why: String| Err(format!("server.{myid} must not stop now: {why}"));
    let leaders: Vec<usize> = voters
        .iter()
        .filter_map(|(_, (_, standing))| match standing {
            Standing::Leading { synced } => Some(*synced),
            Standing::Following | Standing::Observing | Standing::Waiting(_) | Standing::Down(_) => None,
        })
        .collect();
    let &[synced] = leaders.as_slice() else {
        return refuse(format!("{} members say that they lead", leaders.len()));
    };
    let away: Vec<String> = voters
        .iter()
        .filter(|(id, (_, standing))| **id != myid && !standing.serves())
        .map(|(id, (server, _))| format!("server.{id} ({})", server.host))
        .collect();
    if !away.is_empty() {
        return refuse(format!("{} is not in the quorum", away.join(", ")));
    }
    if synced + 1 < voters.len() {
        return refuse(format!("{synced} of {} followers are in sync with the leader", voters.len() - 1));
    }
    Ok(())
}

/// Whether a server may become a member with a vote: there is one leader, the server has caught up, and with it a
/// majority of the voters serves.
pub fn may_join(members: &Members, joiner: &Standing) -> Result<(), String> {
    one_leader(members)?;
    match joiner {
        Standing::Leading { .. } | Standing::Following | Standing::Observing => {}
        Standing::Waiting(said) => return Err(format!("it has not caught up yet: {said}")),
        Standing::Down(why) => return Err(format!("it does not answer: {why}")),
    }
    let voters = members.values().filter(|(server, _)| server.votes).count() + 1;
    let serving = serving(members, None) + 1;
    if serving * 2 > voters {
        return Ok(());
    }
    Err(format!("{serving} of {voters} members would serve, which is no majority"))
}

/// Whether a member may lose its vote: there is one leader, and the others are a majority of what is left.
pub fn may_leave(members: &Members, myid: u32) -> Result<(), String> {
    one_leader(members)?;
    let voters = members.iter().filter(|(id, (server, _))| server.votes && **id != myid).count();
    let serving = serving(members, Some(myid));
    if voters == 0 {
        return Err("nobody else has a vote".to_owned());
    }
    if serving * 2 > voters {
        return Ok(());
    }
    Err(format!("{serving} of {voters} other members serve, which is no majority"))
}

fn one_leader(members: &Members) -> Result<(), String> {
    let leaders =
        members.values().filter(|(_, standing)| matches!(standing, Standing::Leading { .. })).count();
    if leaders == 1 { Ok(()) } else { Err(format!("{leaders} members say that they lead")) }
}

/// Voters that serve, but for one.
fn serving(members: &Members, but: Option<u32>) -> usize {
    let counts = |id: &u32, server: &Server, standing: &Standing| {
        server.votes && standing.serves() && Some(*id) != but
    };
    members.iter().filter(|(id, (server, standing))| counts(id, server, standing)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    const L: fn(usize) -> Standing = |synced| Standing::Leading { synced };
    const F: Standing = Standing::Following;
    const O: Standing = Standing::Observing;

    fn waiting() -> Standing {
        Standing::Waiting("not serving".to_owned())
    }

    fn down() -> Standing {
        Standing::Down("connection refused".to_owned())
    }

    fn members(standings: Vec<Standing>) -> Members {
        standings
            .into_iter()
            .zip(1..)
            .map(|(standing, id)| {
                let votes = standing != O;
                let server = Server {
                    host: format!("zk{id}"),
                    peer_port: 2888,
                    election_port: 3888,
                    votes,
                    client_port: 2181,
                };
                (id, (server, standing))
            })
            .collect()
    }

    #[test]
    fn a_member_may_stop_only_from_a_whole_ensemble() {
        let table: Vec<(Vec<Standing>, u32, bool)> = vec![
            (vec![L(0)], 1, true),
            (vec![L(2), F, F], 1, true),
            (vec![L(2), F, F], 2, true),
            // A follower that is not in sync: nobody else may go.
            (vec![L(1), F, F], 2, false),
            (vec![L(1), F, F], 1, false),
            // One is away: it may be restarted, no other.
            (vec![L(1), F, down()], 3, true),
            (vec![L(1), F, down()], 2, false),
            (vec![L(1), F, down()], 1, false),
            (vec![L(1), F, waiting()], 3, true),
            (vec![L(1), F, waiting()], 1, false),
            // No quorum: those that take no part may be restarted.
            (vec![waiting(), waiting(), down()], 1, true),
            (vec![waiting(), waiting(), down()], 3, true),
            // An election, or two who think that they lead.
            (vec![F, F, F], 1, false),
            (vec![L(2), L(2), F], 3, false),
            (vec![L(4), F, F, F, F], 5, true),
            (vec![L(3), F, F, F, down()], 2, false),
            (vec![L(3), F, F, F, down()], 5, true),
            // Observers have no say, and may go.
            (vec![L(2), F, F, O], 4, true),
            (vec![L(2), F, F, O], 2, true),
            // Two members: one may go, the quorum is gone until it is back.
            (vec![L(1), F], 2, true),
            (vec![L(1), F], 1, true),
            // Not a member.
            (vec![L(2), F, F], 9, true),
        ];
        for (standings, myid, may) in table {
            let verdict = may_stop(&members(standings.clone()), myid);
            assert_eq!(verdict.is_ok(), may, "{standings:?}, stop {myid}: {verdict:?}");
        }
        let error = may_stop(&members(vec![L(1), F, down()]), 2).unwrap_err();
        assert_eq!(error, "server.2 must not stop now: server.3 (zk3) is not in the quorum");
    }

    #[test]
    fn a_learner_becomes_a_member_once_it_has_caught_up() {
        let table: Vec<(Vec<Standing>, Standing, bool)> = vec![
            (vec![L(0)], F, true),
            (vec![L(0)], O, true),
            (vec![L(0)], waiting(), false),
            (vec![L(0)], down(), false),
            (vec![L(1), F], F, true),
            (vec![L(2), F, F], F, true),
            // One that is down is no hindrance as long as a majority of the new members serves.
            (vec![L(1), F, down()], F, true),
            (vec![L(1), F, F, down(), down()], F, true),
            (vec![L(1), F, waiting(), down(), down()], F, false),
            // No leader, or two.
            (vec![waiting(), waiting(), down()], F, false),
            (vec![F, F, F], F, false),
            (vec![L(1), L(1), F], F, false),
            // Observers have no vote.
            (vec![L(0), O, O], F, true),
        ];
        for (standings, joiner, may) in table {
            let verdict = may_join(&members(standings.clone()), &joiner);
            assert_eq!(verdict.is_ok(), may, "{standings:?}, {joiner:?}: {verdict:?}");
        }
    }

    #[test]
    fn a_member_leaves_only_a_majority_behind() {
        let table: Vec<(Vec<Standing>, u32, bool)> = vec![
            (vec![L(0)], 1, false),
            (vec![L(1), F], 1, true),
            (vec![L(1), F], 2, true),
            (vec![L(2), F, F], 1, true),
            // Who is down goes first; who is needed stays.
            (vec![L(1), F, down()], 3, true),
            (vec![L(1), F, down()], 2, false),
            (vec![L(1), F, down()], 1, false),
            (vec![L(2), F, F, down(), down()], 5, true),
            (vec![L(2), F, F, down(), down()], 3, false),
            (vec![L(4), F, F, F, F], 2, true),
            (vec![waiting(), waiting(), down()], 3, false),
            (vec![L(1), L(1), F], 3, false),
            // It has left already.
            (vec![L(2), F, F], 9, true),
        ];
        for (standings, myid, may) in table {
            let verdict = may_leave(&members(standings.clone()), myid);
            assert_eq!(verdict.is_ok(), may, "{standings:?}, {myid} leaves: {verdict:?}");
        }
    }

    #[test]
    fn a_member_is_ready_in_a_quorum() {
        let table: Vec<(Vec<Standing>, u32, bool)> = vec![
            (vec![L(0)], 1, true),
            (vec![L(2), F, F], 1, true),
            (vec![L(1), F, F], 1, false),
            (vec![L(1), F, F], 2, true),
            (vec![L(2), F, F, O], 1, true),
            (vec![L(2), F, F, O], 4, true),
            (vec![waiting(), F, F], 1, false),
            (vec![down(), F, F], 1, false),
            (vec![L(2), F, F], 4, false),
        ];
        for (standings, myid, good) in table {
            let verdict = ready(&members(standings.clone()), myid);
            assert_eq!(verdict.is_ok(), good, "{standings:?}, {myid}: {verdict:?}");
        }
    }
}
