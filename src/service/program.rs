//! Relays and consumers: aesop's own programs.

use super::base::directory;
use super::inputs::{Inputs, join, missing};
use super::jvm::unit_path;
use super::{File, Gate, Link, Part, Role, ServiceError, Unit, kafka_security, paths};
use crate::secret::Secret;
use minijinja::context;
use relay::config::{ConsumedSource, ConsumerConfig, Mysql, RelayConfig, Sink, Source, ZooKeeper};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A relay connects to its sources, a consumer joins its group, within seconds.
const READY_SECS: u64 = 90;

/// Renders a configuration file and reads it back with the type of the program that will read it.
pub(super) fn config_file<T: Serialize + DeserializeOwned>(
    inputs: &Inputs<'_>,
    host: &str,
    template: &str,
    path: &str,
    config: &T,
) -> Result<File, ServiceError> {
    let text = inputs.templates.render_config(template, config)?;
    let parsed: Result<T, _> = serde_yaml::from_str(&text);
    parsed.map_err(|error| ServiceError::Config {
        path: path.to_owned(),
        host: host.to_owned(),
        message: error.to_string(),
        overridden: inputs.templates.overridden().iter().any(|name| name == template),
    })?;
    Ok(File::new(path, text))
}

/// The ensemble as aesop's programs reach it.
pub(super) fn zookeeper(inputs: &Inputs<'_>) -> Result<ZooKeeper, ServiceError> {
    Ok(ZooKeeper {
        servers: inputs.zookeeper_servers()?,
        session_timeout_ms: 10_000,
        auth_file: Some(PathBuf::from(ZOOKEEPER_AUTH)),
    })
}

const ZOOKEEPER_AUTH: &str = "/etc/aesop/secrets/zookeeper-auth";

/// The file behind [`zookeeper`].
pub(super) fn zookeeper_auth(inputs: &Inputs<'_>, host: &str) -> Result<File, ServiceError> {
    let password = inputs.secret("zookeeper.aesop_password", host)?;
    Ok(File::secret(ZOOKEEPER_AUTH, "aesop", &Secret::new(format!("aesop:{}\n", password.expose()))))
}

/// A source's connection, and the file with its password.
pub(super) fn mysql(
    inputs: &Inputs<'_>,
    host: &str,
    name: &str,
    server_id: u32,
) -> Result<(Mysql, Vec<File>), ServiceError> {
    let source = inputs.inventory.sources.get(name).ok_or_else(|| missing(format!("source {name}"), host))?;
    let path = format!("{}/mysql-{name}", paths::SECRETS);
    let password = match &source.mysql.password {
        Some(_) => {
            let password = inputs.secret(&format!("sources.{name}.mysql.password"), host)?;
            Some(File::secret(&path, "aesop", &Secret::new(format!("{}\n", password.expose()))))
        }
        None => None,
    };
    let ca = source.mysql.ca.as_ref();
    let ca = ca.map(|pem| File::new(format!("{}/mysql-{name}-ca.pem", paths::ETC), pem.as_bytes()));
    let place = |file: &File| PathBuf::from(&file.path);
    let mysql = Mysql {
        host: source.mysql.host.clone(),
        port: source.mysql.port,
        user: source.mysql.user.clone(),
        password_file: password.as_ref().map(place),
        ca: ca.as_ref().map(place),
        tls: source.mysql.tls,
        server_id,
    };
    Ok((mysql, password.into_iter().chain(ca).collect()))
}

/// A binary by its link, so that units need not name its hash.
pub(super) fn binary(
    inputs: &Inputs<'_>,
    host: &str,
    name: &str,
    part: &mut Part,
) -> Result<String, ServiceError> {
    let artifact = inputs.artifact(name, host)?;
    let path = format!("{}/{name}", paths::BIN);
    part.links.push(Link { path: path.clone(), target: format!("{}/{name}", artifact.directory()) });
    part.artifacts.push(artifact);
    Ok(path)
}

fn ready(unit: &str, port: u16, words: &str) -> Gate {
    Gate {
        unit: unit.to_owned(),
        test: ["http", "--url", &format!("http://127.0.0.1:{port}/healthz/ready")]
            .map(str::to_owned)
            .to_vec(),
        words: words.to_owned(),
        timeout_secs: READY_SECS,
        ..Gate::default()
    }
}

pub(super) fn relay(inputs: &Inputs<'_>, host: &str, parts: &mut Vec<Part>) -> Result<(), ServiceError> {
    let Some(role) = &inputs.inventory.relays else { return Ok(()) };
    let Some(member) = role.members.iter().find(|member| member.host == host) else { return Ok(()) };
    let cluster = &inputs.inventory.cluster;
    let mut part = Part::new(Role::Relay, "relay");
    let data = role.data_dir.display().to_string();
    part.directories.push(directory(&data, 0o750, "aesop"));
    let mut restart_on = Vec::new();
    let mut sources = BTreeMap::new();
    for name in &member.sources {
        let server_id = inputs
            .lock
            .server_id(host, name)
            .ok_or_else(|| missing(format!("the server_id for source {name}"), host))?;
        let (mysql, files) = mysql(inputs, host, name, server_id)?;
        let source =
            inputs.inventory.sources.get(name).ok_or_else(|| missing(format!("source {name}"), host))?;
        restart_on.extend(files.iter().map(|file| file.path.clone()));
        part.files.extend(files);
        sources.insert(
            name.clone(),
            Source {
                mysql,
                tables: source.tables.clone(),
                exclude_columns: source.exclude_columns.clone(),
                start: source.start.clone(),
                max_row_bytes: source.max_row_bytes,
                oversize: source.oversize,
                hidden_changes: source.hidden_changes,
                schema: source.schema,
            },
        );
    }
    let auth = zookeeper_auth(inputs, host)?;
    restart_on.push(auth.path.clone());
    part.files.push(auth);
    let path = format!("{}/relay.yml", paths::ETC);
    let config = RelayConfig {
        cluster: cluster.clone(),
        id: host.to_owned(),
        listen: format!("{}:{}", inputs.any(host)?, role.port),
        advertise: join(inputs.address(host)?, role.port),
        http_listen: format!("127.0.0.1:{}", role.http_port),
        data_dir: role.data_dir.clone(),
        retention: role.retention.clone(),
        zookeeper: Some(zookeeper(inputs)?),
        limits: role.limits.clone(),
        sources,
    };
    part.files.push(config_file(inputs, host, "relay/relay.yml.j2", &path, &config)?);

    let binary = binary(inputs, host, "aesop-relay", &mut part)?;
    let unit = "aesop-relay.service";
    let values = context! {
        cluster,
        description => "Relay",
        command => format!("{binary} run --config {path}"),
        reload => false,
        writable => [data],
    };
    part.files
        .push(File::new(unit_path(unit), inputs.templates.render("systemd/program.service.j2", values)?));
    restart_on.extend([path, binary, unit_path(unit)]);
    part.units.push(Unit { name: unit.to_owned(), restart_on, reload_on: Vec::new(), adopt: None });
    part.gate = Some(ready(unit, role.http_port, "it reads its sources and accepts consumers"));
    parts.push(part);
    Ok(())
}

pub(super) fn consumers(inputs: &Inputs<'_>, host: &str, parts: &mut Vec<Part>) -> Result<(), ServiceError> {
    for (name, group) in &inputs.inventory.consumers {
        if !group.hosts.iter().any(|member| member == host) {
            continue;
        }
        let cluster = &inputs.inventory.cluster;
        let mut part = Part::new(Role::Consumer, format!("consumer/{name}"));
        let auth = zookeeper_auth(inputs, host)?;
        let path = format!("{}/consumer-{name}.yml", paths::ETC);
        let mut restart_on = vec![auth.path.clone()];
        part.files.push(auth);
        let mut sources = BTreeMap::new();
        for source in &group.sources {
            let start = inputs.inventory.sources.get(source).map(|source| source.start.clone());
            let start = start.ok_or_else(|| missing(format!("source {source}"), host))?;
            sources.insert(source.clone(), ConsumedSource { start, select: group.select.clone() });
        }
        let mut sink = group.sink.clone();
        let own = inputs.inventory.kafka.as_ref().filter(|_| sink.bootstrap.is_empty());
        for member in own.iter().flat_map(|kafka| &kafka.members) {
            let port = own.map_or(0, |kafka| kafka.port);
            sink.bootstrap.push(join(inputs.address(&member.host)?, port));
        }
        let files = kafka_security::sink(inputs, host, group, own, &mut sink)?;
        restart_on.extend(files.iter().map(|file| file.path.clone()));
        part.files.extend(files);
        let config = ConsumerConfig {
            cluster: cluster.clone(),
            group: name.clone(),
            id: host.to_owned(),
            http_listen: format!("127.0.0.1:{}", group.http_port),
            zookeeper: zookeeper(inputs)?,
            partitions: group.partitions,
            sources,
            sink: Sink { kafka: sink },
        };
        part.files.push(config_file(inputs, host, "consumer/consumer.yml.j2", &path, &config)?);
        let binary = binary(inputs, host, "aesop-consumer", &mut part)?;
        let template = "aesop-consumer@.service";
        let values = context! {
            cluster,
            description => "Consumer of group %i",
            command => format!("{binary} run --config {}/consumer-%i.yml", paths::ETC),
            reload => false,
            writable => Vec::<String>::new(),
        };
        let text = inputs.templates.render("systemd/program.service.j2", values)?;
        part.files.push(File::new(unit_path(template), text));
        let unit = format!("aesop-consumer@{name}.service");
        restart_on.extend([path, binary, unit_path(template)]);
        part.units.push(Unit { name: unit.clone(), restart_on, reload_on: Vec::new(), adopt: None });
        part.gate =
            Some(ready(&unit, group.http_port, "it is a member of its group and its assignment is stable"));
        parts.push(part);
    }
    Ok(())
}
