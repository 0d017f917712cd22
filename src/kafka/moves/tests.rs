use super::*;
use crate::kafka::view::Broker;
use proptest::prelude::*;

/// A cluster: brokers 1 to n with their racks, topics of a replication factor, spread by `seed`.
fn cluster(racks: &[u8], topics: &[(usize, usize)], seed: usize) -> View {
    let brokers: Vec<i32> = (1..).take(racks.len()).collect();
    let mut view = View::default();
    for (id, rack) in brokers.iter().zip(racks) {
        let rack = (*rack > 0).then(|| format!("rack {rack}"));
        view.brokers.insert(*id, Broker { address: format!("b{id}:9092"), rack, fenced: false });
    }
    for (topic, (partitions, factor)) in topics.iter().enumerate() {
        for index in 0..*partitions {
            let first = (seed + topic * 3 + index * 7) % brokers.len();
            let replicas: Vec<i32> = brokers.iter().cycle().skip(first).take(*factor).copied().collect();
            view.partitions.push(Partition {
                topic: format!("t{topic}"),
                index: i32::try_from(index).unwrap(),
                leader: replicas.first().copied(),
                in_sync: replicas.iter().copied().collect(),
                replicas,
            });
        }
    }
    view
}

fn done(view: &View, moves: &[Move]) -> View {
    let mut view = view.clone();
    for change in moves {
        let is = |p: &&mut Partition| p.topic == change.topic && p.index == change.index;
        let partition = view.partitions.iter_mut().find(is).unwrap();
        assert_eq!(partition.replicas, change.from);
        partition.replicas.clone_from(&change.to);
    }
    view
}

fn held(view: &View, id: i32) -> usize {
    view.on(id).count()
}

fn racks_of(view: &View, replicas: &[i32]) -> usize {
    // A broker without one stands for itself.
    let rack = |id: &i32| view.brokers[id].rack.clone().unwrap_or_else(|| format!("of {id}"));
    replicas.iter().map(rack).collect::<BTreeSet<_>>().len()
}

/// What holds of every plan of moves.
fn check(view: &View, wish: &Wish, moves: &[Move]) -> View {
    let after = done(view, moves);
    for change in moves {
        let set: BTreeSet<i32> = change.to.iter().copied().collect();
        let was =
            Partition { topic: change.topic.clone(), replicas: change.from.clone(), ..Partition::default() };
        let raised = wish.raise.as_ref().and_then(|raise| raise.wants(&was));
        let wanted =
            raised.map_or(change.from.len(), |wanted| wanted.min(wish.members.len()).max(change.from.len()));
        assert_eq!(set.len(), wanted, "{change}: so many replicas, each on another broker");
        assert_eq!(set.len(), change.to.len(), "{change}");
        assert!(set.is_disjoint(&wish.leaving), "{change}");
        for id in change.adding() {
            assert!(wish.members.contains(&id), "{change}");
        }
    }
    let again = super::moves(&after, wish).unwrap();
    assert_eq!(again, [], "what is done gives nothing more to do");
    after
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn who_leaves_is_emptied_and_nothing_else_moves(
        racks in prop::collection::vec(0..3_u8, 2..7), topics in prop::collection::vec((1..8_usize, 1..4_usize), 1..5),
        seed in 0..50_usize, out in 1..3_usize,
    ) {
        let topics: Vec<_> = topics.into_iter().map(|(n, factor)| (n, factor.min(racks.len()))).collect();
        let view = cluster(&racks, &topics, seed);
        let all: Vec<i32> = view.brokers.keys().copied().collect();
        let (leaving, members) = all.split_at(out.min(all.len() - 1));
        let wish = Wish {
            members: members.iter().copied().collect(), leaving: leaving.iter().copied().collect(), ..Wish::default()
        };
        let highest = view.partitions.iter().map(|p| p.replicas.len()).max().unwrap();
        match moves(&view, &wish) {
            Err(error) => prop_assert!(highest > members.len(), "{error}"),
            Ok(found) => {
                let after = check(&view, &wish, &found);
                for id in leaving {
                    prop_assert_eq!(held(&after, *id), 0);
                }
                let moved: usize = found.iter().map(|change| change.adding().count()).sum();
                let had: usize = leaving.iter().map(|id| held(&view, *id)).sum();
                prop_assert_eq!(moved, had, "no more than what has to");
                // No single replica that moved would have been better off elsewhere.
                for change in &found {
                    for id in change.adding() {
                        for other in members.iter().filter(|other| !change.to.contains(other)) {
                            let swapped: Vec<i32> =
                                change.to.iter().map(|x| if *x == id { *other } else { *x }).collect();
                            prop_assert!(
                                held(&after, *other) + 1 >= held(&after, id)
                                    || racks_of(&view, &swapped) < racks_of(&view, &change.to),
                                "{}: {} would be better than {}", change, other, id
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn who_comes_gets_its_share_and_takes_no_more_than_that(
        racks in prop::collection::vec(0..3_u8, 1..6), topics in prop::collection::vec((1..12_usize, 1..4_usize), 1..5),
        seed in 0..50_usize, come in 1..3_usize,
    ) {
        let topics: Vec<_> = topics.into_iter().map(|(n, factor)| (n, factor.min(racks.len()))).collect();
        let mut view = cluster(&racks, &topics, seed);
        let old: BTreeSet<i32> = view.brokers.keys().copied().collect();
        for id in (100..).take(come) {
            let rack = racks.first().filter(|rack| **rack > 0).map(|rack| format!("rack {rack}"));
            view.brokers.insert(id, Broker { rack, ..Broker::default() });
        }
        let wish = Wish { members: view.brokers.keys().copied().collect(), fill: true, ..Wish::default() };
        let found = moves(&view, &wish).unwrap();
        let after = check(&view, &wish, &found);
        let total: usize = view.partitions.iter().map(|p| p.replicas.len()).sum();
        let share = total / view.brokers.len();
        let mut needed = 0;
        for id in (100..).take(come) {
            prop_assert!(held(&after, id) <= share);
            if racks.iter().all(|rack| *rack == 0) {
                prop_assert_eq!(held(&after, id), share, "{:?}", found);
            }
            needed += held(&after, id);
        }
        let moved: usize = found.iter().map(|change| change.adding().filter(|id| *id >= 100).count()).sum();
        prop_assert_eq!(moved, needed);
        for change in &found {
            prop_assert!(racks_of(&view, &change.to) >= racks_of(&view, &change.from), "{}", change);
            for id in change.adding() {
                prop_assert!(id >= 100 || held(&view, id) * 2 < share, "{} goes to one that had enough", change);
            }
        }
        for id in old {
            prop_assert!(held(&after, id) * 2 >= share || held(&after, id) >= held(&view, id));
        }
    }

    #[test]
    fn raised_defaults_cost_as_few_copies_as_will_do(
        racks in prop::collection::vec(0..3_u8, 1..7), topics in prop::collection::vec((1..8_usize, 1..4_usize), 1..5),
        seed in 0..50_usize, former in 1..3_usize, old in 1..3_usize,
    ) {
        // Topics are on the first brokers, as when there were no others.
        let old = old.min(racks.len());
        let topics: Vec<_> = topics.into_iter().map(|(n, factor)| (n, factor.min(old))).collect();
        let mut view = cluster(&racks[..old], &topics, seed);
        view.brokers = cluster(&racks, &[], seed).brokers;
        let raise = Raise { former, replicas: 3, ..Raise::default() };
        let wish = Wish {
            members: view.brokers.keys().copied().collect(), raise: Some(raise.clone()), ..Wish::default()
        };
        let found = moves(&view, &wish).unwrap();
        let after = check(&view, &wish, &found);
        let most = 3.min(racks.len());
        for (before, after) in view.partitions.iter().zip(&after.partitions) {
            let follows = before.replicas.len() >= former;
            let wanted = if follows { before.replicas.len().max(most) } else { before.replicas.len() };
            prop_assert_eq!(after.replicas.len(), wanted);
            let kept = before.replicas.iter().all(|id| after.replicas.contains(id));
            prop_assert!(kept, "{}: nothing is taken away", before);
            // No more racks could be had by as many copies.
            let have = racks_of(&view, &before.replicas);
            let all: Vec<i32> = view.brokers.keys().copied().collect();
            let others = racks_of(&view, &all) - have;
            prop_assert_eq!(racks_of(&view, &after.replicas), have + others.min(wanted - before.replicas.len()));
        }
        // Where racks are no matter, those that come get alike.
        if racks.iter().all(|rack| *rack == 0) {
            let come: Vec<usize> = view.brokers.keys().skip(old).map(|id| held(&after, *id)).collect();
            let (least, highest) = (come.iter().min(), come.iter().max());
            prop_assert!(highest.zip(least).is_none_or(|(most, least)| most - least <= 1), "{:?}", come);
        }
        // Broken off while part of it is on its way: the rest, and nothing twice.
        let (started, left) = found.split_at(found.len() / 2);
        let partly = arrived(&view, started);
        let again = moves(&partly, &wish).unwrap();
        let copies = |moves: &[Move]| moves.iter().map(|change| change.adding().count()).sum::<usize>();
        prop_assert_eq!(copies(&again), copies(left));
    }
}

#[test]
fn who_comes_leads_its_share_of_what_one_broker_had_alone() {
    let mut view = cluster(&[0], &[(9, 1)], 0);
    view.brokers.extend([(2, Broker::default()), (3, Broker::default())]);
    let raise = Some(Raise { former: 1, replicas: 3, ..Raise::default() });
    let members = view.brokers.keys().copied().collect();
    let wish = Wish { members, fill: true, raise, ..Wish::default() };
    let after = done(&view, &moves(&view, &wish).unwrap());
    let led = |id: i32| after.partitions.iter().filter(|p| p.replicas.first() == Some(&id)).count();
    assert_eq!((1..=3).map(led).collect::<Vec<_>>(), [3, 3, 3]);
    assert_eq!(moves(&after, &wish), Ok(Vec::new()));
}

#[test]
fn a_fourth_broker_takes_a_quarter_leaders_included() {
    let mut view = cluster(&[0, 0, 0], &[(12, 3)], 0);
    view.brokers.insert(4, Broker::default());
    let wish = Wish { members: view.brokers.keys().copied().collect(), fill: true, ..Wish::default() };
    let found = moves(&view, &wish).unwrap();
    assert_eq!(gains(&found), BTreeMap::from([(4, 9)]));
    let after = done(&view, &found);
    let led = |id: i32| after.partitions.iter().filter(|p| p.replicas.first() == Some(&id)).count();
    assert_eq!((1..=4).map(led).collect::<Vec<_>>(), [3, 3, 3, 3]);
    assert_eq!((1..=4).map(|id| held(&after, id)).collect::<Vec<_>>(), [9, 9, 9, 9]);
}

#[test]
fn what_is_on_its_way_is_not_moved_again() {
    use crate::kafka::view::Moving;
    let mut view = cluster(&[0, 0, 0], &[(4, 3)], 0);
    view.brokers.insert(4, Broker::default());
    let wish = Wish { members: view.brokers.keys().copied().collect(), fill: true, ..Wish::default() };
    let found = moves(&view, &wish).unwrap();
    view.moving = found
        .iter()
        .map(|m| Moving {
            topic: m.topic.clone(),
            index: m.index,
            target: m.to.clone(),
            adding: m.adding().collect(),
        })
        .collect();
    assert_eq!(moves(&view, &wish), Ok(Vec::new()));
}

#[test]
fn partitions_that_only_the_dead_have_are_named() {
    let mut view = cluster(&[0, 0, 0], &[(1, 2), (1, 1)], 0);
    view.partitions[0].replicas = vec![1, 2];
    view.partitions[0].in_sync = BTreeSet::from([1]);
    view.partitions[1].replicas = vec![3];
    view.partitions[1].in_sync = BTreeSet::from([3]);
    assert_eq!(only_on(&view, &BTreeSet::from([1])), ["t0-0"]);
    assert_eq!(only_on(&view, &BTreeSet::from([2])), [""; 0]);
    assert_eq!(only_on(&view, &BTreeSet::from([3])), ["t1-0"]);
}
