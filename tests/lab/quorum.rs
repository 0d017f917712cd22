//! Brokers and ZooKeeper are restarted, upgraded, added and removed by editing the inventory, under load.

use crate::client;
use crate::cluster::{PATIENCE, Said, wait};
use crate::load::{Counter, Follower, PARTITIONS, TOPIC, Writer};
use crate::program;
use aesop::agent::ProbeAnswer;
use aesop::clock::{Clock, SystemClock};
use aesop::lab::{Host, HostSpec, Lab, LabSpec};
use aesop::probe::Sample;
use aesop::rule::{RuleSet, Store};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use tempfile::TempDir;

/// What the inventory says.
#[derive(Clone)]
pub(crate) struct Wish {
    zookeeper: Vec<&'static str>,
    zookeeper_version: &'static str,
    pub(crate) kafka: Vec<&'static str>,
    /// `kafka.controllers`; where there are none the key is left out.
    pub(crate) controllers: Vec<&'static str>,
    kafka_version: &'static str,
    kafka_config: String,
    /// Further lines below `kafka`.
    kafka_security: &'static str,
    zookeeper_peer_port: u16,
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
            let rack = rack(host.name());
            writeln!(text, "  {}: {{address: {}, rack: {rack}}}", host.name(), host.address()).unwrap();
        }
        let members = |names: &[&str], heap: &str| {
            names.iter().map(|name| format!("{{host: {name}, heap: {heap}}}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(
            text,
            "zookeeper: {{version: {}, peer_port: {}, hosts: [{}]}}",
            wish.zookeeper_version,
            wish.zookeeper_peer_port,
            members(&wish.zookeeper, "96m"),
        )
        .unwrap();
        if !wish.kafka.is_empty() {
            let (version, config) = (wish.kafka_version, &wish.kafka_config);
            let hosts = members(&wish.kafka, "320m");
            let controllers = match wish.controllers.join(", ") {
                names if names.is_empty() => names,
                names => format!("controllers: [{names}], heap: 320m, "),
            };
            writeln!(
                text,
                "kafka: {{version: {version}, {controllers}hosts: [{hosts}], config: {{{config}}}{}}}",
                wish.kafka_security,
            )
            .unwrap();
        }
        fs::write(self.inventory(), text).expect("the inventory is written");
    }

    pub(crate) fn aesop(&self, args: &[&str]) -> (Option<i32>, Said) {
        let output = program::aesop(&self.inventory(), args);
        (output.status.code(), Said::from(output))
    }

    /// Applies; afterwards there is nothing left to do.
    pub(crate) fn apply(&self, wish: &Wish) -> Said {
        self.write(wish);
        program::apply(|args| self.aesop(args))
    }

    pub(crate) fn pid(&self, host: &str, unit: &str) -> String {
        self.host(host).run(&["systemctl", "show", "-P", "MainPID", unit]).expect("a pid").trim().to_owned()
    }

    /// What a broker says that it goes by.
    pub(crate) fn setting(&self, host: &str, node: i32, name: &str) -> String {
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

    /// Makes a topic.
    pub(crate) fn create_topic(bootstrap: &str, name: &str, partitions: i32, factor: i32) {
        create(bootstrap, &NewTopic::new(name, partitions, TopicReplication::Fixed(factor)));
    }

    /// Makes a topic with the replicas of each partition on these brokers.
    pub(crate) fn create_topic_on(bootstrap: &str, name: &str, brokers: &[&[i32]]) {
        let partitions = i32::try_from(brokers.len()).expect("not so many");
        create(bootstrap, &NewTopic::new(name, partitions, TopicReplication::Variable(brokers)));
    }
}

fn create(bootstrap: &str, topic: &NewTopic<'_>) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap).create().expect("an admin client");
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let made = tokio::runtime::Runtime::new()
        .expect("a runtime")
        .block_on(admin.create_topics([topic], &options))
        .expect("the cluster answers");
    for topic in made {
        topic.expect("the topic is made");
    }
}

/// Two racks: hosts with odd and even numbers.
pub(crate) fn rack(host: &str) -> &'static str {
    let even = |digit: u8| digit.is_ascii_digit() && (digit - b'0').is_multiple_of(2);
    if host.bytes().last().is_some_and(even) { "even" } else { "odd" }
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
        controllers: Vec::new(),
        kafka_version: "4.1.1",
        kafka_config: String::new(),
        kafka_security: "",
        zookeeper_peer_port: 2888,
    };
    quorum.apply(&wish);
    let (bootstrap, servers) = (quorum.addresses(&all, 9092), quorum.addresses(&all, 2181));
    Quorum::create_topic(&bootstrap, TOPIC, PARTITIONS, 3);
    let (writer, counter) = (Writer::start(&bootstrap), Counter::start(&servers));
    let reader = Follower::start(&bootstrap);
    let all_go_on = || crate::load::all_go_on(&writer, &reader, &counter);
    all_go_on();

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
    all_go_on();

    settings_are_taken_in_without_a_restart(&quorum, &mut wish);
    crate::brokers::a_broker_joins_and_leaves(&quorum, &mut wish, &writer);
    crate::brokers::a_dead_broker_is_forgotten(&quorum, &mut wish, &writer);
    crate::brokers::a_lost_disk_is_filled_again(&quorum, &wish, &writer);
    crate::brokers::controllers_come_and_go(&quorum, &mut wish, &writer);
    crate::brokers::a_broker_becomes_a_controller_alone(&quorum, &mut wish, &writer);
    crate::brokers::a_host_changes_its_address(&quorum, &wish, &writer);
    a_broker_that_is_needed_is_not_stopped(&quorum, &mut wish);
    all_go_on();
    let written = writer.settle();
    reader.settle(&written);
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
    // The minimum is for all brokers alike.
    let values = [
        ("num.io.threads: 6", ["6", "2"]),
        ("num.io.threads: 5, min.insync.replicas: 1", ["5", "1"]),
        ("", ["8", "2"]),
    ];
    for (config, expected) in values {
        config.clone_into(&mut wish.kafka_config);
        quorum.apply(wish);
        assert_eq!(pids(), before, "{config}");
        for (host, node) in all.iter().zip(1..) {
            let found =
                ["num.io.threads", "min.insync.replicas"].map(|name| quorum.setting(host, node, name));
            assert_eq!(found, expected, "{host}");
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

/// Kafka 3.9, which keeps its metadata in ZooKeeper: both are upgraded, a broker joins and leaves, a disk is lost, a
/// broker dies, while one writes and another reads.
pub(crate) fn kafka_on_zookeeper_under_load() {
    let all = ["k1", "k2", "k3"];
    let quorum = Quorum::boot(&all);
    let mut wish = Wish {
        zookeeper: all.to_vec(),
        zookeeper_version: "3.9.3",
        kafka: all.to_vec(),
        controllers: Vec::new(),
        kafka_version: "3.9.0",
        kafka_config: String::new(),
        kafka_security: "",
        zookeeper_peer_port: 2888,
    };
    quorum.apply(&wish);
    let (bootstrap, servers) = (quorum.addresses(&all, 9092), quorum.addresses(&all, 2181));
    Quorum::create_topic(&bootstrap, TOPIC, PARTITIONS, 3);
    let (writer, counter) = (Writer::start(&bootstrap), Counter::start(&servers));
    let reader = Follower::start(&bootstrap);
    let goes_on = || crate::load::all_go_on(&writer, &reader, &counter);
    goes_on();

    // ZooKeeper restarts first, under Kafka's feet.
    wish.zookeeper_version = "3.9.4";
    let brokers = || all.map(|host| quorum.pid(host, "aesop-kafka"));
    let before = brokers();
    quorum.apply(&wish);
    assert_eq!(brokers(), before, "brokers stay where ZooKeeper restarts");
    goes_on();
    let controller = controller(&quorum);
    wish.kafka_version = "3.9.1";
    quorum.apply(&wish);
    let order = order(&quorum, &all, "aesop-kafka");
    assert_eq!(order.last(), Some(&controller), "the controller goes last: {order:?}");
    for host in all {
        let command = quorum.host(host).run(&["pgrep", "-af", "kafka.Kafka"]).expect("a broker");
        assert!(command.contains("kafka-3.9.1"), "{command}");
    }
    goes_on();
    wish.kafka_version = "4.2.0";
    quorum.write(&wish);
    let (code, said) = quorum.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("Kafka keeps its metadata in ZooKeeper"), "{}", said.stderr);
    wish.kafka_version = "3.9.1";

    nothing_is_alarming(&quorum, &all);
    settings_are_taken_in_without_a_restart(&quorum, &mut wish);
    crate::brokers::a_broker_joins_and_leaves(&quorum, &mut wish, &writer);
    goes_on();
    if std::env::var_os("AESOP_LONG").is_some() {
        crate::brokers::a_dead_broker_is_forgotten(&quorum, &mut wish, &writer);
        crate::brokers::a_lost_disk_is_filled_again(&quorum, &wish, &writer);
        a_broker_that_is_needed_is_not_stopped(&quorum, &mut wish);
    }
    goes_on();
    let written = writer.settle();
    reader.settle(&written);
    if std::env::var_os("AESOP_LONG").is_some() {
        tls_and_users_come_while_kafka_stands(&quorum, &mut wish, &written);
    }
    counter.settle(&servers);
    quorum.lab.down().expect("the lab goes");
}

/// What was written stays; strangers stay out from then on, those of ZooKeeper too. Brokers that restart lose nothing.
fn tls_and_users_come_while_kafka_stands(quorum: &Quorum, wish: &mut Wish, written: &BTreeSet<u64>) {
    let (code, said) = quorum.aesop(&["stop", "kafka", "--yes"]);
    assert_eq!(code, Some(0), "{}\n{}", said.stdout, said.stderr);
    let password = quorum.dir.path().join("reader.password");
    fs::write(&password, "reader-secret\n").expect("a file");
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600)).expect("its mode");
    wish.kafka_security = ", tls: {}, sasl: {users: {reader: {file: reader.password}}}";
    quorum.apply(wish);
    let bootstrap = quorum.addresses(&wish.kafka, 9092);
    let authority = quorum.dir.path().join("quorum.secrets/kafka-tls/ca.crt").display().to_string();
    let reader = client::reader(&authority, "reader-secret");
    wait("the user", || client::is_let_in(&bootstrap, &reader).then_some(()));
    client::strangers_stay_out(&bootstrap, &authority);
    client::zookeeper_gives_strangers_nothing(&quorum.addresses(&wish.zookeeper, 2181));
    let found: BTreeSet<u64> = crate::load::numbers(&bootstrap, &reader, written.len()).into_iter().collect();
    assert_eq!(found, *written);
    "queued.max.requests: 300".clone_into(&mut wish.kafka_config);
    let before = wish.kafka.iter().map(|host| quorum.pid(host, "aesop-kafka")).collect::<Vec<_>>();
    quorum.apply(wish);
    let after = wish.kafka.iter().map(|host| quorum.pid(host, "aesop-kafka"));
    assert!(before.into_iter().zip(after).all(|(before, after)| before != after), "a rolling restart");
    assert!(client::is_let_in(&bootstrap, &reader));
}

/// What the agents measure on hosts that are well raises no alert, and says how Kafka stands with ZooKeeper.
fn nothing_is_alarming(quorum: &Quorum, hosts: &[&str]) {
    let rules = RuleSet::built_in().expect("the rules");
    let about = ["kafka_", "zookeeper_", "service_", "probe_"];
    // Each rule waits for a while before it fires; so does this.
    wait("rules that hold for nothing", || {
        let mut store = Store::default();
        for host in hosts {
            store.replace(host, measured(quorum, host));
        }
        let rules =
            rules.rules().iter().filter(|rule| about.iter().any(|start| rule.name.starts_with(start)));
        let holds: Vec<_> = rules.flat_map(|rule| rule.when.holds_for(&store, SystemClock.now())).collect();
        (!holds.is_empty()).then(|| eprintln!("    {holds:?}"));
        holds.is_empty().then_some(())
    });
}

/// What the agent's probes on a host say.
fn measured(quorum: &Quorum, host: &str) -> Vec<Sample> {
    let probe = ["/opt/aesop/bin/aesop", "--format", "json", "probe", "--config", "/etc/aesop/agent.yml"];
    let said = quorum.host(host).run(&probe).expect("probes that all answer");
    let answer: ProbeAnswer = serde_json::from_str(&said).expect("samples");
    let lost = answer.samples.iter().find(|sample| sample.name == "kafka_zookeeper_lost");
    assert_eq!(lost.map(|sample| sample.value), Some(0.0), "{host}: {said}");
    answer.samples.into_iter().map(|sample| sample.label("host", host)).collect()
}

/// The host of the active controller, by the word of a broker.
fn controller(quorum: &Quorum) -> String {
    let view = view(quorum);
    let id = view["quorum"]["leader"].as_u64().expect("a controller");
    format!("k{id}")
}

/// What a broker says of the cluster.
pub(crate) fn view(quorum: &Quorum) -> serde_json::Value {
    let bootstrap = quorum.addresses(&["k1"], 9092);
    let said = quorum.host("k1").run(&["/opt/aesop/bin/aesop", "view", "kafka", "--bootstrap", &bootstrap]);
    serde_json::from_str(&said.expect("a view")).expect("JSON")
}

const SERVERS: [&str; 5] = ["z1", "z2", "z3", "z4", "z5"];

/// Members of ZooKeeper come and go by editing the inventory, while a counter counts; nothing acknowledged is lost. Beside
/// it one broker becomes three under a writer.
pub(crate) fn zookeeper_grows_and_shrinks_under_load() {
    zookeeper_changes_beside("4.2.0");
}

/// The same with brokers that keep their metadata there. It takes long: each change of ZooKeeper restarts them all.
pub(crate) fn zookeeper_changes_under_kafka() {
    if std::env::var_os("AESOP_LONG").is_some() {
        zookeeper_changes_beside("3.9.1");
    } else {
        eprintln!("    left out: AESOP_LONG is not set");
    }
}

fn zookeeper_changes_beside(kafka_version: &'static str) {
    let quorum = Quorum::boot(&SERVERS);
    let mut wish = Wish {
        zookeeper: vec!["z1"],
        zookeeper_version: "3.9.4",
        kafka: vec!["z1"],
        controllers: Vec::new(),
        kafka_version,
        kafka_config: String::new(),
        kafka_security: "",
        zookeeper_peer_port: 2887,
    };
    quorum.apply(&wish);
    let servers = quorum.addresses(&SERVERS, 2181);
    let counter = Counter::start(&servers);
    let counts_on = |counter: &Counter| {
        let before = counter.value();
        wait("counts", || (counter.value() > before + 50).then_some(()));
    };
    counts_on(&counter);
    let load = crate::raising::Load::start(&quorum);

    // Alone it has nobody to ask for another place.
    wish.zookeeper_peer_port = 2888;
    quorum.apply(&wish);
    counts_on(&counter);
    let first = quorum.pid("z1", "aesop-zookeeper");

    wish.zookeeper = vec!["z1", "z2", "z3"];
    wish.kafka = wish.zookeeper.clone();
    quorum.write(&wish);
    let (_, plan) = quorum.aesop(&["plan", "--summary"]);
    for words in ["server.2 (z2) gets a vote", "members are then 1, 2, 3"] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
    }
    crate::raising::assert_planned(&plan);
    quorum.apply(&wish);
    crate::raising::assert_raised(&quorum, &wish);
    load.goes_on();
    assert_eq!(voters(&quorum, "z1"), [1, 2, 3]);
    assert_eq!(quorum.pid("z1", "aesop-zookeeper"), first, "who is there is not restarted");
    counts_on(&counter);

    an_interrupted_change_is_resumed(&quorum, &mut wish);
    counts_on(&counter);

    // Those who began it go, with all that they have ever led.
    wish.zookeeper = vec!["z3", "z4", "z5"];
    quorum.apply(&wish);
    assert_eq!(voters(&quorum, "z5"), [3, 4, 5]);
    for host in ["z1", "z2"] {
        let active = quorum.host(host).run(&["sh", "-c", "systemctl is-active aesop-zookeeper || true"]);
        assert_ne!(active.expect("a state").trim(), "active", "{host} has stopped");
    }
    counts_on(&counter);

    a_lost_disk_is_refused_until_said_so(&quorum, &wish);
    counts_on(&counter);

    // Another place for each of them, under the same name: they keep their ids.
    wish.zookeeper_peer_port = 2889;
    quorum.apply(&wish);
    assert_eq!(voters(&quorum, "z3"), [3, 4, 5]);
    counts_on(&counter);
    load.goes_on();
    load.settle();
    counter.settle(&quorum.addresses(&["z3", "z4", "z5"], 2181));
    quorum.lab.down().expect("the lab goes");
}

/// Ids of those that have a vote by the word of a host's server.
pub(crate) fn voters(quorum: &Quorum, host: &str) -> Vec<u32> {
    let conf = "/var/lib/aesop/zookeeper/conf";
    let script = format!("cat \"$(sed -n 's/^dynamicConfigFile=//p' {conf}/zoo.cfg)\"");
    let text = quorum.host(host).run(&["sh", "-c", &script]).unwrap_or_default();
    let servers = text.lines().filter(|line| line.contains(":participant"));
    let ids = servers.filter_map(|line| line.strip_prefix("server.")?.split_once('=')?.0.parse().ok());
    let mut ids: Vec<u32> = ids.collect();
    ids.sort_unstable();
    ids
}

/// Aesop is killed once the fourth member has its vote, and the fifth has not.
fn an_interrupted_change_is_resumed(quorum: &Quorum, wish: &mut Wish) {
    wish.zookeeper = SERVERS.to_vec();
    quorum.write(wish);
    let mut apply = Command::new(env!("CARGO_BIN_EXE_aesop"))
        .arg("-i")
        .arg(quorum.inventory())
        .args(["apply", "--yes"])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("aesop runs");
    wait("a fourth member", || (voters(quorum, "z1").len() >= 4).then_some(()));
    apply.kill().expect("killed");
    apply.wait().expect("it ends");
    for host in SERVERS {
        let lease = "[ ! -e /var/lib/aesop/state/lock/owner ] || touch -d '-5 minutes' /var/lib/aesop/state/lock/owner";
        quorum.host(host).run(&["sh", "-c", lease]).expect("touched");
    }
    let (code, said) = quorum.aesop(&["resume", "--yes"]);
    assert_eq!(code, Some(0), "{}\n{}", said.stdout, said.stderr);
    assert_eq!(voters(quorum, "z5"), [1, 2, 3, 4, 5]);
    let (code, plan) = quorum.aesop(&["plan", "--exit-code"]);
    assert_eq!(code, Some(0), "{}\n{}", plan.stdout, plan.stderr);
}

/// Empty, it must not vote: what it acknowledged could be outvoted.
fn a_lost_disk_is_refused_until_said_so(quorum: &Quorum, wish: &Wish) {
    let host = quorum.host("z5");
    host.run(&["systemctl", "stop", "aesop-zookeeper"]).expect("it stops");
    host.run(&["sh", "-c", "rm -rf /var/lib/aesop/zookeeper/*"]).expect("the disk is empty");
    let (code, said) = quorum.aesop(&["apply", "--yes"]);
    assert_eq!(code, Some(1), "{}\n{}", said.stdout, said.stderr);
    assert!(said.stderr.contains("`aesop lost-disk z5`"), "{}", said.stderr);
    let (code, said) = quorum.aesop(&["lost-disk", "z5", "--confirm", "z5"]);
    assert_eq!(code, Some(0), "{}", said.stderr);
    quorum.apply(wish);
    assert_eq!(voters(quorum, "z5"), [3, 4, 5]);
}
