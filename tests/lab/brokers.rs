//! Brokers come and go under load.

use crate::cluster::wait;
use crate::load::{TOPIC, Writer};
use crate::quorum::{Quorum, Wish, rack};
use aesop::lab::HostSpec;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const THREE: [&str; 3] = ["k1", "k2", "k3"];
/// A topic with two replicas of each partition, one in each rack.
const RACKED: &str = "racked";
/// A topic with one replica of each partition.
const SINGLE: &str = "single";

/// A fourth broker joins by a line, gets its share of the partitions, and leaves emptied; nobody else is restarted.
pub(crate) fn a_broker_joins_and_leaves(quorum: &Quorum, wish: &mut Wish, writer: &Writer) {
    quorum.lab.add(&HostSpec::new("k4"), &|_| ()).expect("one more host");
    let pids = || THREE.map(|host| quorum.pid(host, "aesop-kafka"));
    let before = pids();
    wish.kafka = vec!["k1", "k2", "k3", "k4"];
    quorum.write(wish);
    let (_, plan) = quorum.aesop(&["plan", "--summary"]);
    let bootstrap = quorum.addresses(&THREE, 9092);
    let (leads, replicas) = spread(&bootstrap);
    // Six partitions of the load, and those that Kafka has made for itself.
    let (led, all) = (leads.values().sum::<usize>() / 4, replicas.values().sum::<usize>());
    let gets = format!("broker 4 (k4) gets {}; at most 50 MiB a second", all / 4);
    assert!(plan.stdout.contains(&gets), "{gets}: {}", plan.stdout);
    let said = seen_limited(&bootstrap, || quorum.apply(wish));
    assert!(said.stderr.contains("partitions have arrived"), "{}\n{}", said.stdout, said.stderr);
    let (leads, replicas) = spread(&bootstrap);
    assert_eq!((replicas.get(&4), replicas.values().sum()), (Some(&(all / 4)), all), "{replicas:?}");
    assert_eq!(leads.get(&4), Some(&led), "it leads its share: {leads:?}");
    assert_unlimited(&bootstrap);
    Quorum::create_topic(&bootstrap, RACKED, 8, 2);
    for (host, node) in wish.kafka.iter().zip(1..) {
        assert_eq!(quorum.setting(host, node, "broker.rack"), rack(host), "{host}");
    }
    assert_in_both_racks(&bootstrap);

    goes_on(writer);
    wish.kafka = THREE.to_vec();
    quorum.apply(wish);
    assert_all_on_three(&bootstrap);
    assert_eq!(brokers(&bootstrap), [1, 2, 3]);
    assert_unlimited(&bootstrap);
    assert_in_both_racks(&bootstrap);
    delete_topic(&bootstrap, RACKED);
    let left = quorum.host("k4").run(&["systemctl", "list-units", "--all", "--plain", "aesop-*"]);
    assert!(!left.expect("systemd answers").contains("aesop-kafka"), "k4 is as it was");
    assert_eq!(pids(), before, "nobody else is restarted");
    goes_on(writer);
}

/// A controller's disk is lost: refused until said so, then it copies all from the others and votes again.
pub(crate) fn a_lost_disk_is_filled_again(quorum: &Quorum, wish: &Wish, writer: &Writer) {
    let k3 = quorum.host("k3");
    k3.run(&["systemctl", "stop", "aesop-kafka"]).expect("k3's broker stops");
    k3.run(&["find", "/var/lib/aesop/kafka", "-mindepth", "1", "-delete"]).expect("its disk is empty");
    quorum.write(wish);
    let (code, said) = quorum.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("its disk was lost, replaced or not mounted"), "{}", said.stderr);
    goes_on(writer);
    let (code, said) = quorum.aesop(&["lost-disk", "k3", "kafka", "--confirm", "k3"]);
    assert_eq!(code, Some(0), "{}\n{}", said.stdout, said.stderr);
    let (code, said) = quorum.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(0), "{}\n{}", said.stdout, said.stderr);
    let quorum_of_its_own =
        !crate::quorum::view(quorum)["quorum"]["voters"].as_array().expect("voters").is_empty();
    let votes = said.stderr.contains("controller 3 votes");
    assert_eq!(votes, quorum_of_its_own, "{}\n{}", said.stdout, said.stderr);
    let (code, plan) = quorum.aesop(&["plan", "--exit-code"]);
    assert_eq!(code, Some(0), "a second plan is empty:\n{}\n{}", plan.stdout, plan.stderr);
    assert_all_on_three(&quorum.addresses(&THREE, 9092));
    goes_on(writer);
}

/// A host is gone for good: its broker is forgotten from the surviving side.
pub(crate) fn a_dead_broker_is_forgotten(quorum: &Quorum, wish: &mut Wish, writer: &Writer) {
    quorum.lab.add(&HostSpec::new("k5"), &|_| ()).expect("one more host");
    wish.kafka = vec!["k1", "k2", "k3", "k5"];
    quorum.apply(wish);
    wish.kafka = THREE.to_vec();
    quorum.write(wish);
    let (code, said) = quorum.aesop(&["forget", "k5", "--yes"]);
    assert!(code == Some(1) && said.stderr.contains("k5 answers, so it is not gone"), "{}", said.stderr);
    let bootstrap = quorum.addresses(&THREE, 9092);
    Quorum::create_topic_on(&bootstrap, SINGLE, &[&[1], &[5], &[2], &[5], &[3], &[5], &[1], &[5]]);
    quorum.host("k5").kill().expect("k5 dies");
    goes_on(writer);
    let three = quorum.addresses(&THREE, 9092);
    wait("its session to end", || (brokers(&three) == [1, 2, 3]).then_some(()));
    let (code, said) = quorum.aesop(&["forget", "k5", "--yes"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("`aesop forget k5 --accept-data-loss`"), "{}", said.stderr);
    let (code, said) = quorum.aesop(&["forget", "k5", "--yes", "--accept-data-loss"]);
    assert_eq!(code, Some(0), "{}\n{}", said.stdout, said.stderr);
    let named = |text: &str| text.contains("is LOST whole, and begins anew with nothing; broker 5 (k5)");
    assert!(named(&said.stdout) || named(&said.stderr), "{}\n{}", said.stdout, said.stderr);
    assert_led(&bootstrap, SINGLE);
    delete_topic(&bootstrap, SINGLE);
    assert_all_on_three(&bootstrap);
    assert_eq!(brokers(&bootstrap), [1, 2, 3]);
    assert_unlimited(&bootstrap);
    quorum.apply(wish);
}

/// A controller on a host of its own takes the vote of a broker over, and is forgotten when its host is gone.
pub(crate) fn controllers_come_and_go(quorum: &Quorum, wish: &mut Wish, writer: &Writer) {
    quorum.lab.add(&HostSpec::new("k6"), &|_| ()).expect("one more host");
    let pids = || ["k1", "k2"].map(|host| quorum.pid(host, "aesop-kafka"));
    let before = pids();
    wish.controllers = vec!["k1", "k2", "k6"];
    let said = quorum.apply(wish);
    assert!(said.stderr.contains("controller 3 has no vote any more"), "{}\n{}", said.stdout, said.stderr);
    let apart = voters(quorum);
    assert!(apart.len() == 3 && !apart.contains(&3), "{apart:?}");
    assert_eq!(pids(), before, "who stays what it is is not restarted");
    assert_eq!(brokers(&quorum.addresses(&THREE, 9092)), [1, 2, 3], "a controller apart is no broker");
    goes_on(writer);

    quorum.host("k6").kill().expect("k6 dies");
    wait("the others to notice", || silent(quorum, 6).then_some(()));
    wish.controllers = THREE.to_vec();
    quorum.write(wish);
    let (code, said) = quorum.aesop(&["forget", "k6", "--yes"]);
    assert_eq!(code, Some(0), "{}\n{}", said.stdout, said.stderr);
    assert_eq!(voters(quorum), [1, 2, 3]);
    assert_eq!(pids(), before, "{}", said.stderr);
    goes_on(writer);
    quorum.apply(wish);
}

/// A controller has asked for nothing for so long that it counts as gone.
fn silent(quorum: &Quorum, id: i64) -> bool {
    const LIVES_MS: i64 = 10_000;
    let view = crate::quorum::view(quorum);
    let voters = view["quorum"]["voters"].as_array().expect("voters");
    let now = voters.iter().filter_map(|voter| voter["caught_up_ms"].as_i64()).max();
    let voter = voters.iter().find(|voter| voter["id"] == id).expect("its vote");
    now.expect("a clock") - voter["fetched_ms"].as_i64().expect("a time") >= LIVES_MS
}

/// One of three that are brokers and controllers stays a controller alone, and becomes a broker again.
pub(crate) fn a_broker_becomes_a_controller_alone(quorum: &Quorum, wish: &mut Wish, writer: &Writer) {
    let k4 = quorum.host("k4");
    k4.run(&["rm", "-rf", "/var/lib/aesop/kafka"]).expect("what it held before it left is of no use");
    let pids = || ["k1", "k2"].map(|host| quorum.pid(host, "aesop-kafka"));
    let before = pids();
    wish.kafka = vec!["k1", "k2", "k4"];
    let said = quorum.apply(wish);
    assert!(said.stderr.contains("partitions have arrived"), "{}\n{}", said.stdout, said.stderr);
    let bootstrap = quorum.addresses(&["k1", "k2"], 9092);
    let ids = brokers(&bootstrap);
    let apart = ids.len() == 3 && ids.starts_with(&[1, 2]) && !ids.contains(&3);
    assert!(apart, "k3 is registered as a broker no more: {ids:?}");
    let (_, replicas) = spread(&bootstrap);
    assert_eq!(replicas.keys().copied().collect::<Vec<_>>(), ids);
    assert_eq!(voters(quorum), [1, 2, 3], "it keeps its vote");
    let roles = "grep -qx process.roles=controller /etc/aesop/kafka/server.properties";
    quorum.host("k3").run(&["sh", "-c", roles]).expect("it is a controller alone");
    assert_eq!(pids(), before, "nobody else is restarted");
    goes_on(writer);

    wish.kafka = THREE.to_vec();
    quorum.apply(wish);
    assert_all_on_three(&bootstrap);
    assert_eq!((brokers(&bootstrap), voters(quorum)), (vec![1, 2, 3], vec![1, 2, 3]));
    assert_eq!(pids(), before, "nobody else is restarted");
    goes_on(writer);
}

/// A host is found at another address, under the same name and with its disk: everything of it stays.
pub(crate) fn a_host_changes_its_address(quorum: &Quorum, wish: &Wish, writer: &Writer) {
    let identity = || {
        let files = ["cat", "/var/lib/aesop/kafka/meta.properties", "/var/lib/aesop/zookeeper/myid"];
        quorum.host("k3").run(&files).expect("ids")
    };
    let (before, former) = (identity(), quorum.host("k3").address());
    let moved = quorum.lab.readdress("k3", 99).expect("another address");
    assert_ne!(moved.address(), former);
    goes_on(writer);
    quorum.apply(wish);
    assert_eq!(identity(), before);
    let bootstrap = quorum.addresses(&["k1", "k2"], 9092);
    assert_eq!((brokers(&bootstrap), voters(quorum)), (vec![1, 2, 3], vec![1, 2, 3]));
    assert_eq!(crate::quorum::voters(quorum, "k3"), [1, 2, 3], "its vote in ZooKeeper");
    assert_all_on_three(&bootstrap);
    let metadata = consumer(&bootstrap).fetch_metadata(None, Duration::from_secs(20)).expect("an answer");
    let third = metadata.brokers().iter().find(|broker| broker.id() == 3).expect("broker 3");
    assert_eq!(third.host(), moved.address().to_string(), "where clients are sent");
    for host in THREE {
        // With that one ZooKeeper was founded, and it is never read again.
        let search = format!("grep -rlF --exclude=first.dynamic {former} /etc/aesop || true");
        let found = quorum.host(host).run(&["sh", "-c", &search]).expect("a search");
        assert_eq!(found.trim(), "", "{host} knows the former address still");
    }
    goes_on(writer);
}

/// Ids of the controllers that have a vote, by the word of a broker.
fn voters(quorum: &Quorum) -> Vec<i64> {
    let view = crate::quorum::view(quorum);
    let voters = view["quorum"]["voters"].as_array().expect("voters").iter();
    let mut ids: Vec<i64> = voters.map(|voter| voter["id"].as_i64().expect("an id")).collect();
    ids.sort_unstable();
    ids
}

/// More is written, and acknowledged.
fn goes_on(writer: &Writer) {
    let before = writer.acknowledged();
    wait("more records", || (writer.acknowledged() > before + 50).then_some(()));
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("a client")
}

/// Each of the first three holds every partition.
fn assert_all_on_three(bootstrap: &str) {
    let (leads, replicas) = spread(bootstrap);
    let all = leads.values().sum();
    assert_eq!(replicas, BTreeMap::from([(1, all), (2, all), (3, all)]));
}

/// How many partitions each broker leads, and holds; of topics that stay.
pub(crate) fn spread(bootstrap: &str) -> (BTreeMap<i32, usize>, BTreeMap<i32, usize>) {
    let metadata =
        consumer(bootstrap).fetch_metadata(None, Duration::from_secs(20)).expect("the cluster answers");
    let (mut leads, mut replicas) = (BTreeMap::new(), BTreeMap::new());
    let stays = metadata.topics().iter().filter(|topic| ![RACKED, SINGLE].contains(&topic.name()));
    for partition in stays.flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        *leads.entry(partition.leader()).or_insert(0) += 1;
        for id in partition.replicas() {
            *replicas.entry(*id).or_insert(0) += 1;
        }
    }
    (leads, replicas)
}

/// Each partition of the topic has a replica in each of the two racks.
fn assert_in_both_racks(bootstrap: &str) {
    let of = |id: &i32| id % 2;
    let partitions = wait("the topic", || {
        let metadata = consumer(bootstrap).fetch_metadata(Some(RACKED), Duration::from_secs(20)).ok()?;
        let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        let replicas: Vec<Vec<i32>> = partitions.map(|partition| partition.replicas().to_vec()).collect();
        (replicas.len() == 8).then_some(replicas)
    });
    for replicas in &partitions {
        let racks: BTreeSet<i32> = replicas.iter().map(of).collect();
        assert_eq!((replicas.len(), racks.len()), (2, 2), "{partitions:?}");
    }
}

/// Each partition of a topic has a leader.
fn assert_led(bootstrap: &str, topic: &str) {
    wait("a leader of each partition", || {
        let metadata = consumer(bootstrap).fetch_metadata(Some(topic), Duration::from_secs(20)).ok()?;
        let partitions = metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions);
        let leaders: Vec<i32> = partitions.map(rdkafka::metadata::MetadataPartition::leader).collect();
        (leaders.len() == 8 && leaders.iter().all(|id| [1, 2, 3].contains(id))).then_some(())
    });
}

fn delete_topic(bootstrap: &str, name: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
    let deleted = tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(admin.delete_topics(&[name], &AdminOptions::new()))
        .expect("the cluster answers");
    assert!(deleted.iter().all(Result::is_ok), "{deleted:?}");
}

fn brokers(bootstrap: &str) -> Vec<i32> {
    let metadata =
        consumer(bootstrap).fetch_metadata(None, Duration::from_secs(20)).expect("the cluster answers");
    let mut ids: Vec<i32> = metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id).collect();
    ids.sort_unstable();
    ids
}

/// While it works, replication is limited: the rate at brokers, and which replicas of the topic.
fn seen_limited<T>(bootstrap: &str, work: impl FnOnce() -> T) -> T {
    let (done, seen) = (AtomicBool::new(false), Mutex::new(BTreeSet::new()));
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                seen.lock().expect("nobody panicked").extend(limits(bootstrap).unwrap_or_default());
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        // Also where it panics, or the scope would wait without end.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::SeqCst);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let seen = seen.into_inner().expect("nobody panicked");
    let rate = (50 << 20).to_string();
    for side in ["leader", "follower"] {
        let at_broker = (format!("{side}.replication.throttled.rate"), rate.clone());
        assert!(seen.contains(&at_broker), "{at_broker:?} was not seen: {seen:?}");
        let of_topic = format!("{side}.replication.throttled.replicas");
        assert!(seen.iter().any(|(name, _)| *name == of_topic), "{of_topic} was not seen: {seen:?}");
    }
    result
}

/// No limit of replication is left, neither at the topic nor at the brokers.
pub(crate) fn assert_unlimited(bootstrap: &str) {
    let limits = limits(bootstrap).expect("the cluster answers");
    assert!(limits.is_empty(), "{limits:?}");
}

/// Limits of replication at the topic and at the brokers; none where one of them does not say.
fn limits(bootstrap: &str) -> Option<BTreeSet<(String, String)>> {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let topic = [ResourceSpecifier::Topic(TOPIC)];
    let brokers = brokers(bootstrap);
    let of_brokers: Vec<ResourceSpecifier<'_>> =
        brokers.iter().map(|id| ResourceSpecifier::Broker(*id)).collect();
    let mut found = BTreeSet::new();
    for resource in topic.iter().chain(&of_brokers) {
        let answer = runtime.block_on(admin.describe_configs([resource], &AdminOptions::new()));
        for described in answer.ok()? {
            let entries = described.ok()?.entries.into_iter();
            let limits =
                entries.filter(|entry| entry.name.contains("replication.throttled") && !entry.is_default);
            let set =
                limits.filter_map(|entry| Some((entry.name, entry.value.filter(|value| !value.is_empty())?)));
            found.extend(set);
        }
    }
    Some(found)
}
