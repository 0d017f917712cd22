//! Kafka: on a dynamic quorum of its own controllers, or, up to 3.9, on ZooKeeper.

use super::base::directory;
use super::inputs::{Inputs, missing};
use super::jvm::{self, Jvm, Logging};
use super::kafka_node::Node;
use super::state::STOP_GATE_SECS;
use super::{
    File, Gate, Init, KafkaFormat, KafkaMark, KafkaMember, MemberChange, Part, Role, ServiceError, Turn,
    Unit, User, kafka_raise, kafka_security, paths, zookeeper_login,
};
use crate::inventory::model::{KafkaMode, KafkaRole};
use crate::lock::KafkaLock;
use minijinja::context;
use std::collections::BTreeSet;

/// After a clean stop a broker is there within seconds, also with many partitions.
const READY_SECS: u64 = 180;
/// One that was killed reads its logs first, one segment of a gigabyte after the other: as long as they get fewer, it is
/// waited for. A full disk is read in less than a day.
const RECOVERY_SECS: u64 = 24 * 3600;
/// Leadership moves and logs are flushed; after the default 90 s a kill would cost a log recovery.
const STOP_SECS: u32 = 180;
/// Two requests to the broker on the same host.
const CHANGE_SECS: u64 = 60;

pub(super) fn part(inputs: &Inputs<'_>, host: &str, parts: &mut Vec<Part>) -> Result<(), ServiceError> {
    let Some(role) = &inputs.inventory.kafka else { return Ok(()) };
    let Some(member) = role.nodes().find(|member| member.host == host) else { return Ok(()) };
    let lock = inputs.lock.kafka.as_ref().ok_or_else(|| missing("the Kafka cluster id".to_owned(), host))?;
    let node = Node::new(inputs, role, member, lock)?;
    let etc = format!("{}/kafka", paths::ETC);
    let config = format!("{etc}/server.properties");
    let cluster = &inputs.inventory.cluster;

    let mut part = Part::new(Role::Kafka, "kafka");
    part.users.push(User { name: "kafka".to_owned(), home: format!("{}/kafka", paths::DATA) });
    part.directories.push(directory(&etc, 0o755, "root"));
    part.directories.push(directory(&format!("{}/kafka", paths::LOG), 0o755, "kafka"));
    let data: Vec<String> = role.data_dirs.iter().map(|path| path.display().to_string()).collect();
    for path in &data {
        part.directories.push(directory(path, 0o750, "kafka"));
    }

    let settings = node.settings(&data)?;
    let render =
        |settings| inputs.templates.render("kafka/server.properties.j2", context! { cluster, settings });
    let lasting = Some(render(node.lasting(&settings))?);
    part.files.push(File { lasting, ..File::new(&config, render(settings)?) });
    if role.mode == KafkaMode::Kraft {
        part.files.push(File::new(
            format!("{etc}/tools-log4j2.properties"),
            inputs.templates.render("kafka/tools-log4j2.properties.j2", context! {})?,
        ));
    }

    let artifact = inputs.artifact(&format!("kafka-{}", role.version), host)?;
    let login = zookeeper_login::of_client(inputs, host, &mut part)?;
    let mut restart_on = jvm::add(
        inputs,
        host,
        &mut part,
        Jvm {
            service: "kafka",
            description: "Kafka",
            main: format!("kafka.Kafka {config}"),
            artifact: &artifact,
            jolokia_port: role.jolokia_port,
            heap: member.heap,
            heap_percent: "25",
            before: Vec::new(),
            options: login.as_deref().map(zookeeper_login::option).into_iter().collect(),
            writable: data.clone(),
            stop_timeout_secs: STOP_SECS,
            logging: if role.mode == KafkaMode::Kraft { Logging::Log4j2 } else { Logging::Reload4j },
        },
    )?;
    restart_on.push(config.clone());
    restart_on.extend(login);
    restart_on.extend(kafka_security::keys(inputs, role, host, &mut part)?);
    let mut reload_on = Vec::new();
    if node.broker {
        reload_on.push(config.clone());
        reload_on.extend(kafka_security::users(inputs, role, host, &mut part)?);
    }

    let first = data.first().ok_or_else(|| missing("kafka.data_dirs".to_owned(), host))?;
    let properties = format!("{first}/meta.properties");
    part.init = Some(match role.mode {
        KafkaMode::Kraft => Init::KafkaFormat(KafkaFormat {
            java: jvm::java(inputs),
            artifact: artifact.directory(),
            config: config.clone(),
            cluster_id: lock.cluster_id.clone(),
            initial_controllers: node.controller.then(|| node.initial_controllers()).transpose()?,
            controller: node.controller,
            marker: properties,
        }),
        KafkaMode::ZooKeeper => {
            let mark = format!("{first}/broker.id");
            part.files.push(File::new(&mark, format!("{}\n", node.id)));
            Init::KafkaMark(KafkaMark { mark, properties })
        }
    });
    let unit = "aesop-kafka.service".to_owned();
    part.units.push(Unit {
        name: unit.clone(),
        restart_on,
        reload_on,
        adopt: node.broker.then(|| adopt(inputs, role, host, &config)).transpose()?,
    });
    let jolokia = [
        "--jolokia",
        &format!("http://127.0.0.1:{}/jolokia/", role.jolokia_port),
        "--password-file",
        jvm::JOLOKIA_PASSWORD,
    ]
    .map(str::to_owned);
    let place = place(inputs, role, host)?;
    let words = |parts: &[&[String]]| parts.concat();
    let (test, ready) = if node.broker {
        ("kafka", "the broker runs unfenced and no partition is under-replicated")
    } else {
        ("kafka-controller", "the controller leads or follows")
    };
    part.gate = Some(Gate {
        unit: unit.clone(),
        test: words(&[&[test.to_owned()], &jolokia]),
        words: ready.to_owned(),
        timeout_secs: READY_SECS,
        patience_secs: if node.broker { RECOVERY_SECS } else { 0 },
        ..Gate::default()
    });
    part.turn = Some(Turn {
        stop: Gate {
            unit,
            test: words(&[&["kafka-stop".to_owned()], &jolokia, &place]),
            words: match role.mode {
                KafkaMode::Kraft => {
                    "no partition falls below min.insync.replicas, and the controllers keep a majority"
                }
                KafkaMode::ZooKeeper => "no partition falls below min.insync.replicas",
            }
            .to_owned(),
            timeout_secs: STOP_GATE_SECS,
            ..Gate::default()
        },
        rank: words(&[&["kafka".to_owned()], &place]),
        order: "one at a time, what is not ready first, the active controller last".to_owned(),
    });
    part.broker = Some(place_of(inputs, role, lock, &node)?);
    parts.push(part);
    Ok(())
}

/// What a plan must know to move partitions and votes, whatever else the node is told by its files.
fn place_of(
    inputs: &Inputs<'_>,
    role: &KafkaRole,
    lock: &KafkaLock,
    node: &Node<'_>,
) -> Result<KafkaMember, ServiceError> {
    let host = node.host;
    let id = |id: u32| i32::try_from(id).map_err(|_| missing("a node.id within its bounds".to_owned(), host));
    let retired = lock.nodes.retired.iter().map(|(node, host)| Ok((id(*node)?, host.clone())));
    Ok(KafkaMember {
        id: id(node.id)?,
        address: node.broker.then(|| kafka_security::admin(role, node.address)),
        mode: role.mode,
        rack: inputs.inventory.hosts.get(host).and_then(|host| host.rack.clone()),
        controller: node.controller.then(|| node.endpoint(node.address)),
        retired: retired.collect::<Result<_, ServiceError>>()?,
        rebalance: role.rebalance,
        throttle: role.rebalance_throttle,
        lost_disk: lock.lost_disks.contains(host),
        given_up: BTreeSet::new(),
        forming: !lock.formed,
        raise: kafka_raise::raise(inputs, role, lock)?,
    })
}

/// How a running broker takes in what it can.
fn adopt(
    inputs: &Inputs<'_>,
    role: &KafkaRole,
    host: &str,
    config: &str,
) -> Result<MemberChange, ServiceError> {
    let id = inputs.lock.node_id(host).ok_or_else(|| missing("node.id".to_owned(), host))?;
    let address = kafka_security::admin(role, inputs.address(host)?);
    let record = format!("{}/kafka-settings", paths::STATE);
    let args = [
        "kafka-settings",
        "--bootstrap",
        &address,
        "--node",
        &id.to_string(),
        "--file",
        config,
        "--record",
        &record,
    ];
    let mut args = args.map(str::to_owned).to_vec();
    if role.sasl.is_some() {
        let users = format!("{}/kafka-users", paths::STATE);
        args.extend(["--users", paths::KAFKA_USERS, "--users-record", &users].map(str::to_owned));
    }
    if inputs.lock.kafka.as_ref().is_some_and(|lock| kafka_raise::holds_minimum(role, lock)) {
        args.extend(["--except".to_owned(), kafka_raise::MIN_IN_SYNC.to_owned()]);
    }
    Ok(MemberChange {
        from_start: role.sasl.is_some(),
        args,
        words: "the broker takes in what changed (no restart)".to_owned(),
        timeout_secs: CHANGE_SECS,
        membership: false,
    })
}

/// The node and where its cluster is reached, as `aesop` on the host takes them.
fn place(inputs: &Inputs<'_>, role: &KafkaRole, host: &str) -> Result<[String; 4], ServiceError> {
    let id = inputs.lock.node_id(host).ok_or_else(|| missing("node.id".to_owned(), host))?;
    let brokers =
        role.members.iter().map(|member| Ok(kafka_security::admin(role, inputs.address(&member.host)?)));
    let brokers = brokers.collect::<Result<Vec<_>, ServiceError>>()?;
    Ok(["--bootstrap".to_owned(), brokers.join(","), "--node".to_owned(), id.to_string()])
}
