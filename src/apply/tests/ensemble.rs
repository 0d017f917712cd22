//! ZooKeeper's members come, go, come back and move by editing the inventory.

use super::*;
use crate::plan::selection;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// ZooKeeper on hosts `z<n>` with these last bytes of their addresses, and a relay that uses it.
fn inventory(lab: &Lab, members: &[(&str, u8)]) -> Inventory {
    let mut hosts = String::new();
    for (name, byte) in members {
        writeln!(hosts, "  {name}: {{address: 10.0.0.{byte}}}").unwrap();
    }
    let names: Vec<&str> = members.iter().map(|(name, _)| *name).collect();
    let text = format!(
        "cluster: shop\nhosts:\n{hosts}  r1: {{address: 10.0.0.99}}\nzookeeper: {{hosts: [{}]}}\n\
         sources:\n  shop: {{mysql: {{host: 10.0.0.5, user: aesop}}, tables: ['shop.*']}}\nrelays: {{hosts: [r1]}}\n",
        names.join(", "),
    );
    let path = lab.folder.path().join("shop.yml");
    std::fs::write(&path, text).unwrap();
    crate::inventory::load(&path).unwrap()
}

const FIVE: [(&str, u8); 5] = [("z1", 1), ("z2", 2), ("z3", 3), ("z4", 4), ("z5", 5)];

impl Lab {
    /// Applies; there is nothing to do afterwards, and no promise was broken.
    async fn becomes(&self, inventory: &Inventory) {
        self.connect.meet();
        let plan = self.plan(inventory).await;
        assert_eq!(plan.refused, [""; 0]);
        let (_, report) = self.apply(inventory).await;
        assert!(report.is_success(), "{report:#?}\n{plan:#?}");
        assert_eq!(self.connect.broken(), [""; 0]);
        let rest = self.plan(inventory).await;
        assert!(rest.is_empty() && rest.refused.is_empty(), "{rest:#?}");
    }

    /// Ids of those with a vote, by the server of one host.
    fn voters(&self, host: &str) -> Vec<u32> {
        let known = self.connect.host(host).with(|state| state.ensemble.clone()).unwrap_or_default();
        crate::ensemble::members::parse(&known.members).into_keys().collect()
    }

    /// What the schedule says of a plan.
    async fn schedule(&self, inventory: &Inventory, wanted: Expect) {
        let mut text = String::new();
        for turn in self.plan(inventory).await.schedule() {
            let reason = turn.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            writeln!(text, "{} {} on {}{reason}", turn.verb, turn.unit, turn.hosts.join(", ")).unwrap();
        }
        wanted.assert_eq(&text);
    }

    async fn refused(&self, inventory: &Inventory) -> Vec<String> {
        self.plan(inventory).await.refused
    }
}

#[test]
fn members_come_before_anybody_needs_them_and_go_when_nobody_does() {
    block_on(async {
        let lab = Lab::new();
        lab.becomes(&inventory(&lab, &FIVE[..1])).await;
        let three = inventory(&lab, &FIVE[..3]);
        lab.schedule(
            &three,
            expect![[r#"
                member zookeeper on z2: server.2 starts without a vote and copies what server.1 have
                start aesop-zookeeper.service on z2, z3
                member zookeeper on z3: server.3 starts without a vote and copies what server.1 have
                member zookeeper on z2: server.2 (z2) gets a vote, once it has caught up; members are then 1, 2
                member zookeeper on z3: server.3 (z3) gets a vote, once it has caught up; members are then 1, 2, 3
                restart aesop-relay.service on r1: /etc/aesop/relay.yml changed
                start aesop-agent.service on z2, z3
            "#]],
        )
        .await;
        lab.clear_logs(&three);
        lab.becomes(&three).await;
        lab.connect.host("z1").with(|state| {
            assert!(!state.log.iter().any(|line| line.starts_with("restart")), "{:?}", state.log);
        });
        let other = inventory(&lab, &[FIVE[1], FIVE[3], FIVE[4]]);
        lab.schedule(
            &other,
            expect![[r#"
                member zookeeper on z4: server.4 starts without a vote and copies what server.1, 2, 3 have
                start aesop-zookeeper.service on z4, z5
                member zookeeper on z5: server.5 starts without a vote and copies what server.1, 2, 3 have
                member zookeeper on z4: server.4 (z4) gets a vote, once it has caught up; members are then 1, 2, 3, 4
                member zookeeper on z5: server.5 (z5) gets a vote, once it has caught up; members are then 1, 2, 3, 4, 5
                restart aesop-relay.service on r1: /etc/aesop/relay.yml changed
                start aesop-agent.service on z4, z5
                stop aesop-agent.service on z1, z3
                member zookeeper on z2: server.1 (10.0.0.1) loses its vote, once the others are a majority without it; members are then 2, 3, 4, 5
                member zookeeper on z2: server.3 (10.0.0.3) loses its vote, once the others are a majority without it; members are then 2, 4, 5
                stop aesop-zookeeper.service on z1
                stop aesop-zookeeper.service on z3
            "#]],
        )
        .await;
        lab.becomes(&other).await;
        lab.plan(&other).await;
        assert_eq!(lab.voters("z4"), [2, 4, 5]);
    });
}

#[test]
fn an_ensemble_grows_shrinks_and_is_replaced_whole() {
    block_on(async {
        let lab = Lab::new();
        let steps: [(&[usize], &[u32]); 6] = [
            (&[1], &[1]),
            (&[1, 2, 3], &[1, 2, 3]),
            (&[1, 2, 3, 4, 5], &[1, 2, 3, 4, 5]),
            (&[3, 4, 5], &[3, 4, 5]),
            // Who comes back is somebody new: an id never comes back.
            (&[1, 5], &[5, 6]),
            (&[2], &[7]),
        ];
        for (hosts, ids) in steps {
            let members: Vec<(&str, u8)> = hosts.iter().map(|number| FIVE[number - 1]).collect();
            lab.becomes(&inventory(&lab, &members)).await;
            assert_eq!(lab.voters(members[0].0), ids);
        }
    });
}

#[test]
fn who_leaves_and_is_down_goes_first_or_is_started_where_nothing_goes_without_it() {
    block_on(async {
        let lab = Lab::new();
        let three = inventory(&lab, &FIVE[..3]);
        lab.becomes(&three).await;
        let stop = |host: &str| {
            lab.connect.host(host).with(|state| state.active.remove("aesop-zookeeper.service"));
        };
        // Nobody else may restart while a member that is down has a vote.
        stop("z3");
        let edited = inventory(&lab, &[FIVE[0], ("z2", 12)]);
        lab.schedule(
            &edited,
            expect![[r#"
                start aesop-zookeeper.service on z3: it leaves, and without it there is no majority that could let it go
                member zookeeper on z1: server.2 (10.0.0.12) loses its vote, once the others are a majority without it; members are then 1, 3
                member zookeeper on z2: server.2 starts without a vote and copies what server.1, 3 have
                restart aesop-zookeeper.service on z2: it has no vote there yet
                member zookeeper on z2: server.2 (z2) gets a vote, once it has caught up; members are then 1, 2, 3
                restart aesop-relay.service on r1: /etc/aesop/relay.yml changed
                restart aesop-agent.service on z2: /etc/aesop/agent.crt, /etc/aesop/secrets/agent.key, /etc/aesop/agent.yml changed
                stop aesop-agent.service on z3
                member zookeeper on z1: server.3 (10.0.0.3) loses its vote, once the others are a majority without it; members are then 1, 2
                stop aesop-zookeeper.service on z3
            "#]],
        )
        .await;
        lab.becomes(&edited).await;
        // Two that need each other.
        stop("z2");
        let one = inventory(&lab, &FIVE[..1]);
        lab.schedule(&one, expect![[r#"
            start aesop-zookeeper.service on z2: it leaves, and without it there is no majority that could let it go
            restart aesop-relay.service on r1: /etc/aesop/relay.yml changed
            stop aesop-agent.service on z2
            member zookeeper on z1: server.2 (10.0.0.12) loses its vote, once the others are a majority without it; members are then 1
            stop aesop-zookeeper.service on z2
        "#]]).await;
        lab.becomes(&one).await;
        assert_eq!(lab.voters("z1"), [1]);
    });
}

#[test]
fn a_lost_disk_is_refused_until_somebody_says_so() {
    block_on(async {
        let lab = Lab::new();
        let three = inventory(&lab, &FIVE[..3]);
        lab.becomes(&three).await;
        lab.connect.host("z2").with(|state| {
            state.ensemble = None;
            state.files.remove("/var/lib/aesop/zookeeper/myid");
            state.active.remove("aesop-zookeeper.service");
        });
        let refused = lab.refused(&three).await;
        expect![[r#"
            [
                "z2: server.2 of ZooKeeper has nothing in /var/lib/aesop/zookeeper any more, and the ensemble counts on what it acknowledged. Mount its disk if it is only away; if it is lost, say so with `aesop lost-disk z2`: the next apply takes its vote away, lets it copy all from the others as a learner, and gives the vote back",
            ]
        "#]]
        .assert_debug_eq(&refused);
        lose(&lab, &three, &["z2"]);
        // A command that does nothing there does not take it back.
        let prepared = lab.prepare(&three);
        prepared.settle(&prepared.desired, &Report::default()).unwrap();
        lab.becomes(&three).await;
        assert_eq!(lab.voters("z2"), [1, 2, 3]);
        // It counts again.
        lab.connect.host("z2").with(|state| state.ensemble = None);
        assert_eq!(lab.refused(&three).await.len(), 1);

        // Two of three: nobody is left who could let them in.
        lab.connect.host("z1").with(|state| state.ensemble = None);
        lose(&lab, &three, &["z1", "z2"]);
        let refused = lab.refused(&three).await;
        assert!(refused[0].starts_with("2 of 3 members of ZooKeeper are empty"), "{refused:#?}");

        // All of them: it starts anew only when that was said of all.
        lab.connect.host("z3").with(|state| state.ensemble = None);
        let refused = lab.refused(&three).await;
        assert!(refused[0].starts_with("ZooKeeper was deployed to z3, and no host"), "{refused:#?}");
        lose(&lab, &three, &["z3"]);
        assert_eq!(lab.refused(&three).await, [""; 0]);
    });
}

/// What `aesop lost-disk` does.
fn lose(lab: &Lab, inventory: &Inventory, hosts: &[&str]) {
    let path = crate::lock::path_for(&inventory.path);
    let mut lock = crate::lock::Lock::load(&path, &inventory.cluster).unwrap();
    for host in hosts {
        lock.lose_disk(host, "zookeeper");
    }
    lock.save(&path).unwrap();
    lab.connect.meet();
}

#[test]
fn nothing_is_founded_beside_hosts_that_cannot_be_asked() {
    block_on(async {
        let lab = Lab::new();
        let one = inventory(&lab, &FIVE[..1]);
        lab.connect.host("z2").with(|state| state.unreachable = true);
        let two = inventory(&lab, &FIVE[..3]);
        let refused = lab.refused(&two).await;
        assert!(refused[0].contains("for the first time without z2, which did not answer"), "{refused:#?}");
        lab.connect.host("z2").with(|state| state.unreachable = false);
        let one = Inventory { path: one.path.clone(), ..inventory(&lab, &FIVE[..1]) };
        lab.becomes(&one).await;
        // The only one that knows is away: the others must not begin without it, whether it stays or goes.
        lab.connect.host("z1").with(|state| state.unreachable = true);
        for members in [&FIVE[..3], &FIVE[1..3]] {
            let refused = lab.refused(&inventory(&lab, members)).await;
            assert!(refused[0].contains("no host that answered has its data"), "{members:?} {refused:#?}");
        }
    });
}

#[test]
fn a_member_that_moves_keeps_its_id() {
    block_on(async {
        let lab = Lab::new();
        let alone = inventory(&lab, &FIVE[..1]);
        lab.becomes(&alone).await;
        // Alone it has nobody to ask.
        lab.becomes(&inventory(&lab, &[("z1", 11)])).await;
        let three = [("z1", 11), FIVE[1], FIVE[2]];
        lab.becomes(&inventory(&lab, &three)).await;
        let moved = inventory(&lab, &[("z1", 11), ("z2", 12), FIVE[2]]);
        lab.schedule(
            &moved,
            expect![[r#"
                member zookeeper on z1: server.2 (10.0.0.12) loses its vote, once the others are a majority without it; members are then 1, 3
                member zookeeper on z2: server.2 starts without a vote and copies what server.1, 3 have
                restart aesop-zookeeper.service on z2: it has no vote there yet
                member zookeeper on z2: server.2 (z2) gets a vote, once it has caught up; members are then 1, 2, 3
                restart aesop-relay.service on r1: /etc/aesop/relay.yml changed
                restart aesop-agent.service on z2: /etc/aesop/agent.crt, /etc/aesop/secrets/agent.key, /etc/aesop/agent.yml changed
            "#]],
        )
        .await;
        lab.becomes(&moved).await;
        let known = lab.connect.host("z3").with(|state| state.ensemble.clone().unwrap());
        assert!(known.members.contains("server.2=10.0.0.12:"), "{known:?}");

        let all = inventory(&lab, &[("z1", 21), ("z2", 22), ("z3", 23)]);
        let refused = lab.refused(&all).await;
        assert!(refused[0].starts_with("3 of 3 members of ZooKeeper are empty or at another address"));
    });
}

#[test]
fn members_stay_until_all_who_use_them_know_the_others() {
    block_on(async {
        let lab = Lab::new();
        lab.becomes(&inventory(&lab, &FIVE[..3])).await;
        let fewer = inventory(&lab, &FIVE[2..5]);
        lab.connect.host("r1").with(|state| state.fails = vec!["gate|aesop-relay".to_owned()]);
        let (report, skipped) = lab.apply_in_part(&fewer).await;
        assert!(!report.is_success());
        let reason = "relay failed on r1; members of zookeeper stay until all is well";
        assert!(skipped.contains(&("zookeeper".to_owned(), reason.to_owned())), "{skipped:#?}");
        lab.plan(&fewer).await;
        assert_eq!(lab.voters("z3"), [1, 2, 3, 4, 5], "{report:#?}");
        for host in ["z1", "z2"] {
            lab.connect.host(host).with(|state| assert!(state.active.contains("aesop-zookeeper.service")));
        }
        lab.connect.host("r1").with(|state| state.fails.clear());
        lab.becomes(&fewer).await;
        assert_eq!(lab.voters("z3"), [3, 4, 5]);
    });
}

#[test]
fn a_dead_member_leaves_without_being_asked() {
    block_on(async {
        let lab = Lab::new();
        lab.becomes(&inventory(&lab, &FIVE[..3])).await;
        lab.connect.host("z1").with(|state| {
            state.unreachable = true;
            state.active.clear();
        });
        lab.connect.meet();
        let next = inventory(&lab, &FIVE[1..4]);
        let (_, report) = lab.apply(&next).await;
        let failed: Vec<&str> = report.failures.iter().map(|failure| failure.host.as_str()).collect();
        assert_eq!(failed, ["z1"], "{report:#?}");
        assert_eq!(lab.connect.broken(), [""; 0]);
        lab.plan(&next).await;
        assert_eq!(lab.voters("z2"), [2, 3, 4]);
    });
}

#[test]
fn a_selection_takes_all_who_have_to_do_with_it() {
    block_on(async {
        let lab = Lab::new();
        lab.becomes(&inventory(&lab, &FIVE[..3])).await;
        let next = inventory(&lab, &FIVE[1..4]);
        let prepared = lab.prepare(&next);
        let (_, observed) = observe(&lab.connect, &prepared.hosts, &prepared.desired, 4).await;
        let plan = plan(&next.cluster, &prepared.desired, &observed);
        let refused = |hosts: &[&str]| {
            let selected: BTreeSet<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            selection(&plan, &prepared.desired, &observed, &selected)
        };
        for few in [&["z4"][..], &["z1"], &["z1", "z2", "z4"], &["r1"]] {
            let words = "--on would change members of ZooKeeper, or who knows them, on";
            assert!(refused(few).iter().any(|line| line.starts_with(words)), "{few:?}");
        }
        assert_eq!(refused(&["z1", "z2", "z4", "r1"]), [""; 0]);
    });
}

/// What happens before the next edit of the inventory is applied, and how far into it aesop dies.
#[derive(Clone, Debug)]
struct Edit {
    /// Numbers of hosts, 1 to 6, each with the last byte of its address.
    members: BTreeSet<usize>,
    /// One of them moves.
    moves: Option<usize>,
    /// One of those that are there loses its disk.
    loses: Option<usize>,
    deaths: Vec<usize>,
}

fn edit() -> impl Strategy<Value = Edit> {
    let members = prop::collection::btree_set(1..7_usize, 1..6);
    let one = || prop::option::weighted(0.3, any::<prop::sample::Index>());
    (members, one(), one(), prop::collection::vec(0..200_usize, 0..3)).prop_map(
        |(members, moves, loses, deaths)| Edit {
            members,
            moves: moves.map(|index| index.index(6)),
            loses: loses.map(|index| index.index(6)),
            deaths,
        },
    )
}

fn becomes_whatever_the_inventory_says(edits: Vec<Edit>) {
    block_on(async {
        let lab = Lab::new();
        let mut bytes = [1_u8, 2, 3, 4, 5, 6];
        let mut there: Vec<usize> = Vec::new();
        for edit in edits {
            // What takes more than a minority away is refused: another test.
            let few = there.len() > 2;
            let lost = edit.loses.filter(|_| few).map(|index| there[index % there.len()]);
            let stays = |number: &&usize| Some(**number) != lost && edit.members.contains(number);
            let stay: Vec<usize> = there.iter().filter(stays).copied().collect();
            let both = lost.is_some() && there.len() < 5;
            if let Some(index) = edit.moves.filter(|_| few && !both && !stay.is_empty()) {
                bytes[stay[index % stay.len()] - 1] += 10;
            }
            let name = |number: &usize| format!("z{number}");
            if let Some(lost) = lost {
                lab.connect.host(&name(&lost)).with(|state| {
                    state.ensemble = None;
                    state.active.remove("aesop-zookeeper.service");
                });
            }
            let names: Vec<String> = edit.members.iter().map(name).collect();
            let members =
                names.iter().zip(&edit.members).map(|(name, number)| (name.as_str(), bytes[number - 1]));
            let next = inventory(&lab, &members.collect::<Vec<_>>());
            let lost: Vec<String> = lost.iter().map(name).collect();
            lose(&lab, &next, &lost.iter().map(String::as_str).collect::<Vec<_>>());
            for lines in edit.deaths {
                lab.connect.dies_after(Some(lines));
                lab.apply(&next).await;
                lab.connect.dies_after(None);
                // Leases end, also where a host was emptied and forgotten before the death.
                for host in (1..7).map(|number| name(&number)).chain(["r1".to_owned()]) {
                    lab.connect.host(&host).with(|state| state.lock = None);
                }
            }
            lab.becomes(&next).await;
            let wanted: BTreeSet<u32> = {
                let lock = lab.prepare(&next).lock;
                names.iter().filter_map(|name| lock.myid(name)).collect()
            };
            assert_eq!(lab.voters(&names[0]).into_iter().collect::<BTreeSet<_>>(), wanted);
            there = edit.members.into_iter().collect();
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn an_ensemble_becomes_whatever_the_inventory_says_with_a_quorum_at_every_step(
        edits in prop::collection::vec(edit(), 1..6),
    ) {
        becomes_whatever_the_inventory_says(edits);
    }
}

/// What chance has found.
#[test]
fn an_ensemble_that_was_replaced_halfway_goes_on() {
    let edit = |members: &[usize], moves, loses, deaths: &[usize]| Edit {
        members: members.iter().copied().collect(),
        moves,
        loses,
        deaths: deaths.to_vec(),
    };
    for edits in [
        vec![
            edit(&[1], None, None, &[]),
            edit(&[2, 3, 4], Some(0), None, &[20, 8]),
            edit(&[2, 3], None, None, &[]),
        ],
        vec![edit(&[2, 3], None, None, &[]), edit(&[1, 4, 5], None, Some(0), &[11, 33])],
    ] {
        becomes_whatever_the_inventory_says(edits);
    }
}
