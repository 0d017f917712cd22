//! Brokers come and go under load.

use crate::cluster::wait;
use crate::load::{TOPIC, Writer};
use crate::quorum::{Quorum, Wish};
use aesop::lab::HostSpec;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::BTreeMap;
use std::time::Duration;

const THREE: [&str; 3] = ["k1", "k2", "k3"];

/// A fourth broker joins by a line, gets its share of the partitions, and leaves emptied; nobody else is restarted.
pub(crate) fn a_broker_joins_and_leaves(quorum: &Quorum, wish: &mut Wish, writer: &Writer) {
    quorum.lab.add(&HostSpec::new("k4"), &|_| ()).expect("one more host");
    let pids = || THREE.map(|host| quorum.pid(host, "aesop-kafka"));
    let before = pids();
    wish.kafka = vec!["k1", "k2", "k3", "k4"];
    quorum.write(wish);
    let (_, plan) = quorum.aesop(&["plan", "--summary"]);
    assert!(plan.stdout.contains("broker 4 (k4) gets 4; at most 50 MiB a second"), "{}", plan.stdout);
    let said = quorum.apply(wish);
    assert!(said.stderr.contains("partitions have arrived"), "{}\n{}", said.stdout, said.stderr);
    let bootstrap = quorum.addresses(&THREE, 9092);
    let (leads, replicas) = spread(&bootstrap);
    assert_eq!((replicas.get(&4), replicas.values().sum::<usize>()), (Some(&4), 18), "{replicas:?}");
    assert_eq!(leads.get(&4), Some(&1), "of six partitions it leads its share: {leads:?}");
    assert_unlimited(&bootstrap);

    goes_on(writer);
    wish.kafka = THREE.to_vec();
    quorum.apply(wish);
    let (_, replicas) = spread(&bootstrap);
    assert_eq!(replicas, BTreeMap::from([(1, 6), (2, 6), (3, 6)]));
    assert_eq!(brokers(&bootstrap), [1, 2, 3]);
    assert_unlimited(&bootstrap);
    let left = quorum.host("k4").run(&["systemctl", "list-units", "--all", "--plain", "aesop-*"]);
    assert!(!left.expect("systemd answers").contains("aesop-kafka"), "k4 is as it was");
    assert_eq!(pids(), before, "nobody else is restarted");
    goes_on(writer);
}

/// More is written, and acknowledged.
fn goes_on(writer: &Writer) {
    let before = writer.acknowledged();
    wait("more records", || (writer.acknowledged() > before + 50).then_some(()));
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("a client")
}

/// How many partitions of the load each broker leads, and holds.
fn spread(bootstrap: &str) -> (BTreeMap<i32, usize>, BTreeMap<i32, usize>) {
    let metadata = consumer(bootstrap)
        .fetch_metadata(Some(TOPIC), Duration::from_secs(20))
        .expect("the cluster answers");
    let (mut leads, mut replicas) = (BTreeMap::new(), BTreeMap::new());
    for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        *leads.entry(partition.leader()).or_insert(0) += 1;
        for id in partition.replicas() {
            *replicas.entry(*id).or_insert(0) += 1;
        }
    }
    (leads, replicas)
}

fn brokers(bootstrap: &str) -> Vec<i32> {
    let metadata =
        consumer(bootstrap).fetch_metadata(None, Duration::from_secs(20)).expect("the cluster answers");
    let mut ids: Vec<i32> = metadata.brokers().iter().map(rdkafka::metadata::MetadataBroker::id).collect();
    ids.sort_unstable();
    ids
}

/// No limit of replication is left, neither at the topic nor at the brokers.
fn assert_unlimited(bootstrap: &str) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let topic = [ResourceSpecifier::Topic(TOPIC)];
    let brokers = brokers(bootstrap);
    let of_brokers: Vec<ResourceSpecifier<'_>> =
        brokers.iter().map(|id| ResourceSpecifier::Broker(*id)).collect();
    for resource in topic.iter().chain(&of_brokers) {
        let answer = runtime.block_on(admin.describe_configs([resource], &AdminOptions::new()));
        for described in answer.expect("the cluster answers") {
            let limits: Vec<_> = described
                .expect("settings")
                .entries
                .into_iter()
                .filter(|entry| entry.name.contains("replication.throttled") && !entry.is_default)
                .filter(|entry| entry.value.as_ref().is_some_and(|value| !value.is_empty()))
                .collect();
            assert!(limits.is_empty(), "{resource:?}: {limits:?}");
        }
    }
}
