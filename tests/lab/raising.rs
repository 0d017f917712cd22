//! One broker becomes three under load: Kafka's defaults are raised, and its topics follow.

use crate::brokers::spread;
use crate::cluster::{Said, wait};
use crate::load::{Follower, PARTITIONS, TOPIC, Writer};
use crate::quorum::{Quorum, Wish};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::BTreeMap;
use std::time::Duration;

/// The first broker's hosts, and those that come.
const BROKERS: [&str; 3] = ["z1", "z2", "z3"];
/// A topic that somebody makes afterwards without saying how many replicas it has.
const LATER: &str = "later";
/// What groups have read.
const OFFSETS: &str = "__consumer_offsets";

/// Who writes and who reads all the time.
pub(crate) struct Load {
    writer: Writer,
    reader: Follower,
}

impl Load {
    /// With one broker all topics have one replica, those of Kafka's own too.
    pub(crate) fn start(quorum: &Quorum) -> Self {
        let first = quorum.addresses(&["z1"], 9092);
        Quorum::create_topic(&first, TOPIC, PARTITIONS, -1);
        let group: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &first)
            .set("group.id", "somebody")
            .create()
            .expect("a client");
        wait("the topic of what groups have read", || {
            // Whoever asks what a group has read makes it.
            let mut wanted = rdkafka::TopicPartitionList::new();
            wanted.add_partition(TOPIC, 0);
            group.committed_offsets(wanted, Duration::from_secs(5)).ok()
        });
        let (_, replicas) = spread(&first);
        assert_eq!(replicas.keys().copied().collect::<Vec<_>>(), [1], "all is on the one broker");
        let bootstrap = quorum.addresses(&BROKERS, 9092);
        let load = Self { writer: Writer::start(&bootstrap), reader: Follower::start(&first) };
        load.goes_on();
        load
    }

    /// More is written, and read.
    pub(crate) fn goes_on(&self) {
        let (written, read) = (self.writer.acknowledged(), self.reader.read());
        wait("records written and read", || {
            (self.writer.acknowledged() > written + 50 && self.reader.read() > read + 50).then_some(())
        });
    }

    /// Nothing acknowledged is lost, and no error reached the producer.
    pub(crate) fn settle(self) {
        let written = self.writer.settle();
        self.reader.settle(&written);
    }
}

/// The plan says who follows, and what is raised last.
pub(crate) fn assert_planned(plan: &Said) {
    for words in [
        "kafka defaults raised: replication factor 1 to 3, min.insync.replicas 1 to 2",
        "__consumer_offsets, load get 3 replicas instead of 1: broker 2 (z2) gets 56, broker 3 (z3) gets 56; at most 50 MiB",
        "then min.insync.replicas is 2 instead of 1",
    ] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
    }
}

/// Every partition is on all three, more than one must have what is acknowledged, and leaders are spread.
pub(crate) fn assert_raised(quorum: &Quorum, wish: &Wish) {
    let bootstrap = quorum.addresses(&BROKERS, 9092);
    let (leads, replicas) = spread(&bootstrap);
    let all: usize = leads.values().sum();
    assert_eq!((all, replicas), (56, BTreeMap::from([(1, all), (2, all), (3, all)])));
    assert!(leads.values().all(|leads| leads.abs_diff(all / 3) <= 1), "{leads:?}");
    for (host, node) in wish.kafka.iter().zip(1..) {
        let settings = ["default.replication.factor", "min.insync.replicas"];
        assert_eq!(settings.map(|name| quorum.setting(host, node, name)), ["3", "2"], "{host}");
    }
    Quorum::create_topic(&bootstrap, LATER, 1, -1);
    let (_, replicas) = spread(&bootstrap);
    assert_eq!(replicas.values().sum::<usize>(), 3 * (all + 1), "a new topic has three replicas");
    for topic in [TOPIC, OFFSETS, LATER] {
        assert_eq!(minimum(&bootstrap, topic), "2", "{topic}");
    }
    crate::brokers::assert_unlimited(&bootstrap);
}

/// How many replicas of a topic must have what is acknowledged.
fn minimum(bootstrap: &str, topic: &str) -> String {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
    let described = tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(admin.describe_configs([&ResourceSpecifier::Topic(topic)], &AdminOptions::new()))
        .expect("the cluster answers");
    let described = described.into_iter().next().expect("one topic").expect("its settings");
    described.get("min.insync.replicas").and_then(|entry| entry.value.clone()).expect("the setting")
}
