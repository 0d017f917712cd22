//! Brokers and ZooKeeper are restarted, upgraded, added and removed by editing the inventory, under load.

use crate::cluster::{PATIENCE, Said, wait};
use crate::load::{Counter, TOPIC, Writer};
use aesop::lab::{Host, HostSpec, Lab, LabSpec};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// What the inventory says.
#[derive(Clone)]
pub(crate) struct Wish {
    zookeeper: Vec<&'static str>,
    zookeeper_version: &'static str,
    pub(crate) kafka: Vec<&'static str>,
    kafka_version: &'static str,
    kafka_config: String,
}

/// Hosts with ZooKeeper and Kafka, and nothing else.
pub(crate) struct Quorum {
    pub(crate) lab: Lab,
    dir: TempDir,
}

impl Quorum {
    fn boot(hosts: &[&str]) -> Self {
        let spec = LabSpec::new(format!("quorum-{}", std::process::id()));
        let spec = hosts.iter().fold(spec, |spec, name| spec.host(HostSpec::new(*name)));
        let lab = Lab::create(&spec, &|_| ()).expect("the lab boots");
        Self { lab, dir: TempDir::new().expect("a temporary folder") }
    }

    pub(crate) fn host(&self, name: &str) -> Host {
        self.lab.host(name).expect("a host of the lab")
    }

    pub(crate) fn addresses(&self, hosts: &[&str], port: u16) -> String {
        hosts.iter().map(|name| format!("{}:{port}", self.host(name).address())).collect::<Vec<_>>().join(",")
    }

    fn inventory(&self) -> PathBuf {
        self.dir.path().join("quorum.yml")
    }

    pub(crate) fn write(&self, wish: &Wish) {
        let mut text = format!(
            "cluster: quorum\nssh: {{user: deploy, identity_file: {}, known_hosts: {}}}\nhosts:\n",
            self.lab.ssh_key().display(),
            self.lab.known_hosts().display(),
        );
        for host in self.lab.hosts().expect("hosts") {
            writeln!(text, "  {}: {{address: {}}}", host.name(), host.address()).unwrap();
        }
        let members = |names: &[&str], heap: &str| {
            names.iter().map(|name| format!("{{host: {name}, heap: {heap}}}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(
            text,
            "zookeeper: {{version: {}, hosts: [{}]}}\nkafka: {{version: {}, hosts: [{}], config: {{{}}}}}",
            wish.zookeeper_version,
            members(&wish.zookeeper, "96m"),
            wish.kafka_version,
            members(&wish.kafka, "320m"),
            wish.kafka_config,
        )
        .unwrap();
        fs::write(self.inventory(), text).expect("the inventory is written");
    }

    pub(crate) fn aesop(&self, args: &[&str]) -> (Option<i32>, Said) {
        let output = Command::new(env!("CARGO_BIN_EXE_aesop"))
            .arg("-i")
            .arg(self.inventory())
            .args(args)
            .stdin(std::process::Stdio::null())
            .output()
            .expect("aesop runs");
        (output.status.code(), Said::from(output))
    }

    /// Applies; afterwards there is nothing left to do.
    pub(crate) fn apply(&self, wish: &Wish) -> Said {
        self.write(wish);
        let started = std::time::Instant::now();
        let (code, said) = self.aesop(&["apply", "--yes"]);
        assert_eq!(code, Some(0), "apply:\n{}\n{}", said.stdout, said.stderr);
        let (code, plan) = self.aesop(&["plan", "--exit-code"]);
        assert_eq!(code, Some(0), "a second plan is empty:\n{}\n{}", plan.stdout, plan.stderr);
        eprintln!("    applied in {:.0} s", started.elapsed().as_secs_f64());
        said
    }

    pub(crate) fn pid(&self, host: &str, unit: &str) -> String {
        self.host(host).run(&["systemctl", "show", "-P", "MainPID", unit]).expect("a pid").trim().to_owned()
    }

    /// What a broker says that it goes by.
    fn setting(&self, host: &str, node: i32, name: &str) -> String {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", self.addresses(&[host], 9092))
            .create()
            .expect("an admin client");
        let described = tokio::runtime::Runtime::new()
            .expect("a runtime")
            .block_on(admin.describe_configs([&ResourceSpecifier::Broker(node)], &AdminOptions::new()))
            .expect("the cluster answers");
        let described = described.into_iter().next().expect("one broker").expect("its settings");
        described.get(name).and_then(|entry| entry.value.clone()).expect("the setting")
    }

    /// Makes the topic that the writer writes to.
    fn create_topic(bootstrap: &str, partitions: i32) {
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
        let topic = NewTopic::new(TOPIC, partitions, TopicReplication::Fixed(3));
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let made = tokio::runtime::Runtime::new()
            .expect("a runtime")
            .block_on(admin.create_topics([&topic], &options))
            .expect("the cluster answers");
        for topic in made {
            topic.expect("the topic is made");
        }
    }
}

/// Hosts in the order in which a unit was last started, by the kernel's clock, which lab hosts share.
fn order(quorum: &Quorum, hosts: &[&str], unit: &str) -> Vec<String> {
    let mut starts: Vec<(u64, String)> = hosts
        .iter()
        .map(|host| {
            let show = ["systemctl", "show", "-P", "ActiveEnterTimestampMonotonic", unit];
            let at = quorum.host(host).run(&show).expect("a time");
            (at.trim().parse().expect("microseconds"), (*host).to_owned())
        })
        .collect();
    starts.sort();
    starts.into_iter().map(|(_, host)| host).collect()
}

/// Versions are raised one member at a time, whoever leads last, and nothing that was acknowledged is lost.
pub(crate) fn members_are_upgraded_under_load() {
    let quorum = Quorum::boot(&["k1", "k2", "k3"]);
    let all = ["k1", "k2", "k3"];
    let mut wish = Wish {
        zookeeper: all.to_vec(),
        zookeeper_version: "3.9.3",
        kafka: all.to_vec(),
        kafka_version: "4.1.1",
        kafka_config: String::new(),
    };
    quorum.apply(&wish);
    let (bootstrap, servers) = (quorum.addresses(&all, 9092), quorum.addresses(&all, 2181));
    Quorum::create_topic(&bootstrap, 6);
    let (writer, counter) = (Writer::start(&bootstrap), Counter::start(&servers));
    wait("records and counts", || (writer.acknowledged() > 50 && counter.value() > 50).then_some(()));

    wish.zookeeper_version = "3.9.4";
    wish.kafka_version = "4.2.0";
    let leader = zookeeper_leader(&quorum, &all);
    let said = quorum.apply(&wish);
    assert!(said.stderr.contains("metadata.version is "), "{}\n{}", said.stdout, said.stderr);
    let order = order(&quorum, &all, "aesop-zookeeper");
    assert_eq!(order.last(), Some(&leader), "the leader goes last: {order:?}");
    for host in all {
        let command = quorum.host(host).run(&["pgrep", "-af", "kafka.Kafka"]).expect("a broker");
        assert!(command.contains("kafka-4.2.0"), "{command}");
    }
    let (before_records, before_counts) = (writer.acknowledged(), counter.value());
    wait("records and counts after it", || {
        (writer.acknowledged() > before_records + 50 && counter.value() > before_counts + 50).then_some(())
    });

    settings_are_taken_in_without_a_restart(&quorum, &mut wish);
    crate::brokers::a_broker_joins_and_leaves(&quorum, &mut wish, &writer);
    a_broker_that_is_needed_is_not_stopped(&quorum, &mut wish);
    writer.settle();
    counter.settle(&servers);
    quorum.lab.down().expect("the lab goes");
}

fn zookeeper_leader(quorum: &Quorum, hosts: &[&str]) -> String {
    let leads = |host: &&&str| {
        let words = "exec 3<>/dev/tcp/127.0.0.1/2181; printf srvr >&3; cat <&3";
        let answer = quorum.host(host).run(&["bash", "-c", words]).unwrap_or_default();
        answer.contains("Mode: leader")
    };
    (*hosts.iter().find(leads).expect("a leader")).to_owned()
}

/// What Kafka can take in while it runs is told to it, and taken back, without a restart.
fn settings_are_taken_in_without_a_restart(quorum: &Quorum, wish: &mut Wish) {
    let all = ["k1", "k2", "k3"];
    let pids = || all.map(|host| quorum.pid(host, "aesop-kafka"));
    let before = pids();
    for (config, value) in [("num.io.threads: 6", "6"), ("num.io.threads: 5", "5"), ("", "8")] {
        config.clone_into(&mut wish.kafka_config);
        quorum.apply(wish);
        assert_eq!(pids(), before, "{config}");
        for (host, node) in all.iter().zip(1..) {
            assert_eq!(quorum.setting(host, node, "num.io.threads"), value, "{host}");
        }
    }
}

/// With one broker away every partition is at its minimum: the others are not touched, and apply says why.
fn a_broker_that_is_needed_is_not_stopped(quorum: &Quorum, wish: &mut Wish) {
    quorum.host("k3").run(&["systemctl", "stop", "aesop-kafka"]).expect("k3's broker stops");
    "queued.max.requests: 400".clone_into(&mut wish.kafka_config);
    quorum.write(wish);
    let before = ["k1", "k2"].map(|host| quorum.pid(host, "aesop-kafka"));
    let (code, said) = quorum.aesop(&["apply", "--yes", "--on", "k1,k2"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("must not stop now: "), "{}", said.stderr);
    assert_eq!(["k1", "k2"].map(|host| quorum.pid(host, "aesop-kafka")), before, "{}", said.stderr);
    quorum.apply(wish);
}
