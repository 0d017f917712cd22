//! Kafka in KRaft mode with a dynamic quorum.

use super::base::directory;
use super::inputs::{Inputs, join, missing};
use super::jvm::{self, Jvm};
use super::state::STOP_GATE_SECS;
use super::{
    File, Gate, Init, KafkaFormat, KafkaMember, MemberChange, Part, Role, ServiceError, Turn, Unit, User,
    dynamic_setting, kafka_security, paths,
};
use crate::inventory::model::{KafkaMode, KafkaRole, Member};
use crate::lock::KafkaLock;
use minijinja::context;
use std::collections::BTreeMap;

/// A broker that recovers its logs needs long; the gate gives up before a person would.
const READY_SECS: u64 = 180;
/// Leadership moves and logs are flushed; after the default 90 s a kill would cost a log recovery.
const STOP_SECS: u32 = 180;
/// Two requests to the broker on the same host.
const CHANGE_SECS: u64 = 60;

pub(super) fn part(inputs: &Inputs<'_>, host: &str, parts: &mut Vec<Part>) -> Result<(), ServiceError> {
    let Some(role) = &inputs.inventory.kafka else { return Ok(()) };
    let Some(member) = role.members.iter().find(|member| member.host == host) else { return Ok(()) };
    if role.mode == KafkaMode::ZooKeeper {
        let message = "kafka.mode: zookeeper is not carried out yet; use `mode: kraft` with Kafka 4";
        return Err(ServiceError::Unsupported(message.to_owned()));
    }
    let lock = inputs.lock.kafka.as_ref().ok_or_else(|| missing("the Kafka cluster id".to_owned(), host))?;
    let etc = format!("{}/kafka", paths::ETC);
    let config = format!("{etc}/server.properties");
    let tools_log = format!("{etc}/tools-log4j2.properties");
    let cluster = &inputs.inventory.cluster;

    let mut part = Part::new(Role::Kafka, "kafka");
    part.users.push(User { name: "kafka".to_owned(), home: format!("{}/kafka", paths::DATA) });
    part.directories.push(directory(&etc, 0o755, "root"));
    part.directories.push(directory(&format!("{}/kafka", paths::LOG), 0o755, "kafka"));
    let data: Vec<String> = role.data_dirs.iter().map(|path| path.display().to_string()).collect();
    for path in &data {
        part.directories.push(directory(path, 0o750, "kafka"));
    }

    let settings = settings(inputs, role, member, lock, &data)?;
    let render = |settings: &BTreeMap<String, String>| {
        inputs.templates.render("kafka/server.properties.j2", context! { cluster, settings })
    };
    let lasting = settings.iter().filter(|(name, _)| !dynamic_setting(name));
    let lasting = lasting.map(|(name, value)| (name.clone(), value.clone())).collect();
    let lasting = Some(render(&lasting)?);
    part.files.push(File { lasting, ..File::new(&config, render(&settings)?) });
    part.files.push(File::new(
        &tools_log,
        inputs.templates.render("kafka/tools-log4j2.properties.j2", context! {})?,
    ));

    let artifact = inputs.artifact(&format!("kafka-{}", role.version), host)?;
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
            options: Vec::new(),
            writable: data.clone(),
            stop_timeout_secs: STOP_SECS,
        },
    )?;
    restart_on.push(config.clone());
    restart_on.extend(kafka_security::keys(inputs, role, host, &mut part)?);
    let mut reload_on = vec![config.clone()];
    reload_on.extend(kafka_security::users(inputs, role, host, &mut part)?);

    let first = data.first().ok_or_else(|| missing("kafka.data_dirs".to_owned(), host))?;
    part.init = Some(Init::KafkaFormat(KafkaFormat {
        java: jvm::java(inputs),
        artifact: artifact.directory(),
        config: config.clone(),
        cluster_id: lock.cluster_id.clone(),
        initial_controllers: is_controller(lock, host)
            .then(|| initial_controllers(inputs, role, lock))
            .transpose()?,
        controller: is_controller(lock, host),
        marker: format!("{first}/meta.properties"),
    }));
    let unit = "aesop-kafka.service".to_owned();
    part.units.push(Unit {
        name: unit.clone(),
        restart_on,
        reload_on,
        adopt: Some(adopt(inputs, role, host, &config)?),
    });
    let jolokia = [
        "--jolokia",
        &format!("http://127.0.0.1:{}/jolokia/", role.jolokia_port),
        "--password-file",
        jvm::JOLOKIA_PASSWORD,
    ]
    .map(str::to_owned);
    let node = node(inputs, role, host)?;
    let words = |parts: &[&[String]]| parts.concat();
    part.gate = Some(Gate {
        unit: unit.clone(),
        test: words(&[&["kafka".to_owned()], &jolokia]),
        words: "the broker runs unfenced and no partition is under-replicated".to_owned(),
        timeout_secs: READY_SECS,
    });
    part.turn = Some(Turn {
        stop: Gate {
            unit,
            test: words(&[&["kafka-stop".to_owned()], &jolokia, &node]),
            words: "no partition falls below min.insync.replicas, and the controllers keep a majority"
                .to_owned(),
            timeout_secs: STOP_GATE_SECS,
        },
        rank: words(&[&["kafka".to_owned()], &node]),
        order: "one at a time, what is not ready first, the active controller last".to_owned(),
    });
    part.broker = Some(broker(inputs, role, host, lock)?);
    parts.push(part);
    Ok(())
}

/// What a plan must know to move partitions, whatever else the broker is told by its files.
fn broker(
    inputs: &Inputs<'_>,
    role: &KafkaRole,
    host: &str,
    lock: &KafkaLock,
) -> Result<KafkaMember, ServiceError> {
    let id = |id: u32| i32::try_from(id).map_err(|_| missing("a node.id within its bounds".to_owned(), host));
    let node = inputs.lock.node_id(host).ok_or_else(|| missing("node.id".to_owned(), host))?;
    let address = inputs.address(host)?;
    let retired = lock.nodes.retired.iter().map(|(node, host)| Ok((id(*node)?, host.clone())));
    Ok(KafkaMember {
        id: id(node)?,
        address: kafka_security::admin(role, address),
        rack: inputs.inventory.hosts.get(host).and_then(|host| host.rack.clone()),
        controller: is_controller(lock, host).then(|| join(address, role.controller_port)),
        retired: retired.collect::<Result<_, ServiceError>>()?,
        rebalance: role.rebalance,
        throttle: role.rebalance_throttle,
        lost_disk: lock.lost_disks.contains(host),
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
    Ok(MemberChange {
        from_start: role.sasl.is_some(),
        args,
        words: "the broker takes in what changed (no restart)".to_owned(),
        timeout_secs: CHANGE_SECS,
        membership: false,
    })
}

/// The node and where its cluster is reached, as `aesop` on the host takes them.
fn node(inputs: &Inputs<'_>, role: &KafkaRole, host: &str) -> Result<[String; 4], ServiceError> {
    let id = inputs.lock.node_id(host).ok_or_else(|| missing("node.id".to_owned(), host))?;
    let brokers =
        role.members.iter().map(|member| Ok(kafka_security::admin(role, inputs.address(&member.host)?)));
    let brokers = brokers.collect::<Result<Vec<_>, ServiceError>>()?;
    Ok(["--bootstrap".to_owned(), brokers.join(","), "--node".to_owned(), id.to_string()])
}

fn is_controller(lock: &KafkaLock, host: &str) -> bool {
    lock.controllers.iter().any(|controller| controller == host)
}

fn controllers<'a>(
    inputs: &'a Inputs<'_>,
    lock: &'a KafkaLock,
) -> Result<Vec<(&'a str, &'a str)>, ServiceError> {
    lock.controllers.iter().map(|host| Ok((host.as_str(), inputs.address(host)?))).collect()
}

/// `id@host:port:directory,…`: the same text on every controller.
fn initial_controllers(
    inputs: &Inputs<'_>,
    role: &KafkaRole,
    lock: &KafkaLock,
) -> Result<String, ServiceError> {
    let mut voters = Vec::new();
    for (host, address) in controllers(inputs, lock)? {
        let id = inputs.lock.node_id(host).ok_or_else(|| missing("node.id".to_owned(), host))?;
        let directory =
            lock.directory_ids.get(host).ok_or_else(|| missing("the directory id".to_owned(), host))?;
        voters.push(format!("{id}@{}:{directory}", join(address, role.controller_port)));
    }
    Ok(voters.join(","))
}

fn settings(
    inputs: &Inputs<'_>,
    role: &KafkaRole,
    member: &Member,
    lock: &KafkaLock,
    data: &[String],
) -> Result<BTreeMap<String, String>, ServiceError> {
    let host = &member.host;
    let id = inputs.lock.node_id(host).ok_or_else(|| missing("node.id".to_owned(), host))?;
    let address = inputs.address(host)?;
    let bootstrap: Vec<String> = controllers(inputs, lock)?
        .into_iter()
        .map(|(_, address)| join(address, role.controller_port))
        .collect();
    let controller = is_controller(lock, host);
    let replication = lock.replication_factor.to_string();
    let in_sync = lock.min_insync_replicas.to_string();

    let mut settings: BTreeMap<String, String> = [
        ("process.roles", if controller { "broker,controller" } else { "broker" }),
        ("node.id", &id.to_string()),
        ("controller.quorum.bootstrap.servers", &bootstrap.join(",")),
        ("log.dirs", &data.join(",")),
        ("default.replication.factor", &replication),
        ("min.insync.replicas", &in_sync),
        ("offsets.topic.replication.factor", &replication),
        ("transaction.state.log.replication.factor", &replication),
        ("transaction.state.log.min.isr", &in_sync),
        ("share.coordinator.state.topic.replication.factor", &replication),
        ("share.coordinator.state.topic.min.isr", &in_sync),
        ("unclean.leader.election.enable", "false"),
        ("auto.create.topics.enable", "false"),
        ("num.partitions", "6"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    if let Some(rack) = inputs.inventory.hosts.get(host).and_then(|host| host.rack.as_ref()) {
        settings.insert("broker.rack".to_owned(), rack.clone());
    }
    settings.extend(kafka_security::listeners(role, address, controller));
    settings.extend(role.config.clone());
    settings.extend(member.config.clone());
    Ok(settings)
}
