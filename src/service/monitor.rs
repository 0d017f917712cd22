//! The agent of every host, the monitor and the lag report.

use super::base::directory;
use super::inputs::{Inputs, join, missing};
use super::jvm::{JOLOKIA_PASSWORD, unit_path};
use super::program::{config_file, mysql, zookeeper, zookeeper_auth};
use super::{File, Gate, Part, Role, ServiceError, Unit, paths, roles};
use crate::agent::config::{AgentConfig, Endpoint, Jvm, Listener};
use crate::inventory::model::{MonitorRole, SmtpTls};
use crate::monitor::config::{
    AlertConfig, EmailConfig, LagReportConfig, MailTls, MonitorConfig, MonitoredGroup, MonitoredHost,
};
use crate::secret::Secret;
use minijinja::context;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Both listen as soon as they have read their configuration.
const READY_SECS: u64 = 30;
const CERTIFICATE: &str = "/etc/aesop/agent.crt";
const AUTHORITY: &str = "/etc/aesop/ca.crt";
const PRIVATE_KEY: &str = "/etc/aesop/secrets/agent.key";
const TOKEN: &str = "/etc/aesop/secrets/agent-token";

fn listens(unit: &str, address: &str, port: u16) -> Gate {
    Gate {
        unit: unit.to_owned(),
        test: ["port", "--address", &join(address, port)].map(str::to_owned).to_vec(),
        words: "it listens".to_owned(),
        timeout_secs: READY_SECS,
        ..Gate::default()
    }
}

fn token(inputs: &Inputs<'_>, host: &str) -> Result<File, ServiceError> {
    let token = inputs.secret("monitor.agent_token", host)?;
    Ok(File::secret(TOKEN, "aesop", &Secret::new(format!("{}\n", token.expose()))))
}

/// The agent; `parts` are the host's other roles.
pub(super) fn agent(inputs: &Inputs<'_>, host: &str, parts: &mut Vec<Part>) -> Result<(), ServiceError> {
    let cluster = &inputs.inventory.cluster;
    let address = inputs.address(host)?;
    let port = inputs.inventory.agent_port;
    let mut part = Part::new(Role::Agent, "agent");
    let pair =
        inputs.certificates.hosts.get(host).ok_or_else(|| missing("the certificate".to_owned(), host))?;
    part.files.push(File::new(CERTIFICATE, pair.0.as_bytes()));
    part.files.push(File::secret(PRIVATE_KEY, "aesop", &pair.1));
    part.files.push(token(inputs, host)?);

    let mut jvms = Vec::new();
    let mut endpoints = Vec::new();
    let jvm = |service: &str, port: u16| Jvm {
        service: service.to_owned(),
        url: format!("http://127.0.0.1:{port}/jolokia/"),
        user: "aesop".to_owned(),
        password_file: PathBuf::from(JOLOKIA_PASSWORD),
    };
    let mut local_zookeeper = None;
    let mut certificates = Vec::new();
    for other in parts.iter() {
        let inventory = inputs.inventory;
        match other.role {
            Role::ZooKeeper => {
                jvms.extend(inventory.zookeeper.iter().map(|role| jvm("zookeeper", role.jolokia_port)));
                local_zookeeper =
                    inventory.zookeeper.as_ref().map(|role| format!("127.0.0.1:{}", role.client_port));
            }
            Role::Kafka => {
                jvms.extend(inventory.kafka.iter().map(|role| jvm("kafka", role.jolokia_port)));
                let secure = inventory.kafka.iter().filter(|role| role.tls.is_some());
                certificates.extend(secure.map(|role| {
                    // A controller apart has no other listener.
                    let port = if role.is_broker(host) { role.port } else { role.controller_port };
                    Listener { service: "kafka".to_owned(), address: join(address, port) }
                }));
            }
            Role::Relay => {
                endpoints.extend(inventory.relays.iter().map(|role| (&other.service, role.http_port)));
            }
            Role::Consumer => endpoints.extend(
                inventory
                    .consumers
                    .values()
                    .filter(|group| other.service == format!("consumer/{}", group.name))
                    .map(|group| (&other.service, group.http_port)),
            ),
            Role::Base | Role::Agent | Role::Monitor | Role::Extra => {}
        }
    }
    let endpoints = endpoints
        .into_iter()
        .map(|(service, port)| Endpoint { service: service.clone(), url: format!("http://127.0.0.1:{port}") })
        .collect();
    let unit = "aesop-agent.service";
    let mut units: Vec<String> =
        parts.iter().flat_map(|part| &part.units).map(|unit| unit.name.clone()).collect();
    units.push(unit.to_owned());
    let mut data: Vec<PathBuf> = vec![PathBuf::from("/")];
    let owned =
        |path: &&super::Directory| path.path.starts_with(paths::DATA) || !path.path.starts_with("/etc");
    data.extend(
        parts
            .iter()
            .filter(|part| part.role != Role::Extra)
            .flat_map(|part| part.directories.iter().filter(owned))
            .filter(|directory| !directory.path.starts_with(paths::LOG) && !directory.path.ends_with("/conf"))
            .map(|directory| PathBuf::from(&directory.path)),
    );
    let path = format!("{}/agent.yml", paths::ETC);
    let config = AgentConfig {
        cluster: cluster.clone(),
        host: host.to_owned(),
        listen: join(address, port),
        certificate: PathBuf::from(CERTIFICATE),
        private_key: PathBuf::from(PRIVATE_KEY),
        token_file: PathBuf::from(TOKEN),
        units,
        paths: data,
        jvms,
        zookeeper: local_zookeeper,
        certificates,
        endpoints,
    };
    part.files.push(config_file(inputs, host, "agent/agent.yml.j2", &path, &config)?);
    let values = context! {
        cluster,
        description => "Agent",
        command => format!("{} agent --config {path}", paths::AESOP),
        reload => false,
        writable => Vec::<String>::new(),
    };
    part.files
        .push(File::new(unit_path(unit), inputs.templates.render("systemd/program.service.j2", values)?));
    let mut restart_on: Vec<String> =
        [CERTIFICATE, PRIVATE_KEY, TOKEN, paths::AESOP].map(str::to_owned).to_vec();
    restart_on.extend([path, unit_path(unit)]);
    part.units.push(Unit { name: unit.to_owned(), restart_on, reload_on: Vec::new(), adopt: None });
    part.gate = Some(listens(unit, address, port));
    parts.push(part);
    Ok(())
}

pub(super) fn monitor(inputs: &Inputs<'_>, host: &str, parts: &mut Vec<Part>) -> Result<(), ServiceError> {
    let Some(role) = &inputs.inventory.monitor else { return Ok(()) };
    if !role.hosts.iter().any(|member| member == host) {
        return Ok(());
    }
    let cluster = &inputs.inventory.cluster;
    let data = format!("{}/monitor", paths::DATA);
    let mut part = Part::new(Role::Monitor, "monitor");
    part.directories.push(directory(&data, 0o750, "aesop"));
    part.directories.push(directory(paths::DOWNTIMES, 0o750, "aesop"));
    part.files.push(File::new(AUTHORITY, inputs.certificates.authority.as_bytes()));
    part.files.push(token(inputs, host)?);
    part.files.push(zookeeper_auth(inputs, host)?);
    let mut sources = BTreeMap::new();
    for name in inputs.inventory.sources.keys() {
        // The monitor only asks; it never replicates, so it needs no id of its own.
        let (mysql, files) = mysql(inputs, host, name, 0)?;
        part.files.extend(files);
        sources.insert(name.clone(), mysql);
    }
    let email = email(inputs, host, role, &mut part)?;
    let rules = role.rules.as_ref().map(|text| {
        let path = format!("{}/rules.yml", paths::ETC);
        part.files.push(File::new(&path, text.as_bytes()));
        PathBuf::from(path)
    });
    let mut restart_on: Vec<String> = part.files.iter().map(|file| file.path.clone()).collect();

    let path = format!("{}/monitor.yml", paths::ETC);
    let config = MonitorConfig {
        cluster: cluster.clone(),
        host: host.to_owned(),
        listen: format!("{}:{}", inputs.any(host)?, role.port),
        interval_secs: role.interval.as_secs(),
        data_dir: PathBuf::from(&data),
        ca_certificate: PathBuf::from(AUTHORITY),
        token_file: PathBuf::from(TOKEN),
        hosts: watched(inputs)?,
        zookeeper: zookeeper(inputs)?,
        sources,
        groups: inputs
            .inventory
            .consumers
            .iter()
            .map(|(name, group)| {
                let group = MonitoredGroup {
                    sources: group.sources.clone(),
                    partitions: group.partitions,
                    hosts: group.hosts.clone(),
                };
                (name.clone(), group)
            })
            .collect(),
        email,
        lag_report: LagReportConfig {
            high_secs: role.lag_report.high.as_secs(),
            medium_secs: role.lag_report.medium.as_secs(),
            to: role.lag_report.to.clone(),
        },
        rules,
        url: Some(format!("http://{}", join(inputs.address(host)?, role.port))),
        alerts: AlertConfig::default(),
    };
    part.files.push(config_file(inputs, host, "monitor/monitor.yml.j2", &path, &config)?);
    units(inputs, &mut part, role, &data, &path, &mut restart_on)?;
    part.gate = Some(listens("aesop-monitor.service", "127.0.0.1", role.port));
    parts.push(part);
    Ok(())
}

fn watched(inputs: &Inputs<'_>) -> Result<BTreeMap<String, MonitoredHost>, ServiceError> {
    let mut hosts = BTreeMap::new();
    for (name, roles) in roles(inputs.inventory) {
        let agent = format!("https://{}", join(inputs.address(&name)?, inputs.inventory.agent_port));
        hosts.insert(name, MonitoredHost { agent, roles });
    }
    Ok(hosts)
}

fn email(
    inputs: &Inputs<'_>,
    host: &str,
    role: &MonitorRole,
    part: &mut Part,
) -> Result<Option<EmailConfig>, ServiceError> {
    let Some(email) = &role.email else { return Ok(None) };
    let password_file = match email.smtp.password {
        Some(_) => {
            let password = inputs.secret("monitor.email.smtp.password", host)?;
            let path = format!("{}/smtp-password", paths::SECRETS);
            part.files.push(File::secret(&path, "aesop", &Secret::new(format!("{}\n", password.expose()))));
            Some(PathBuf::from(path))
        }
        None => None,
    };
    let ca =
        email.smtp.ca.as_ref().map(|pem| File::new(format!("{}/smtp-ca.pem", paths::ETC), pem.as_bytes()));
    let ca_certificate = ca.as_ref().map(|file| PathBuf::from(&file.path));
    part.files.extend(ca);
    Ok(Some(EmailConfig {
        host: email.smtp.host.clone(),
        port: email.smtp.port,
        tls: match email.smtp.tls {
            SmtpTls::None => MailTls::None,
            SmtpTls::Starttls => MailTls::Starttls,
            SmtpTls::Implicit => MailTls::Implicit,
        },
        user: email.smtp.user.clone(),
        password_file,
        ca_certificate,
        from: email.from.clone(),
        to: email.to.clone(),
    }))
}

fn units(
    inputs: &Inputs<'_>,
    part: &mut Part,
    role: &MonitorRole,
    data: &str,
    config: &str,
    restart_on: &mut Vec<String>,
) -> Result<(), ServiceError> {
    let cluster = &inputs.inventory.cluster;
    let monitor = "aesop-monitor.service";
    let values = context! {
        cluster,
        description => "Monitor",
        command => format!("{} monitor --config {config}", paths::AESOP),
        reload => true,
        writable => [data.to_owned()],
    };
    let text = inputs.templates.render("systemd/program.service.j2", values)?;
    part.files.push(File::new(unit_path(monitor), text));
    restart_on.extend([paths::AESOP.to_owned(), unit_path(monitor)]);
    // A new host is a reload and no restart: alerts keep their state and nothing is missed.
    part.units.push(Unit {
        name: monitor.to_owned(),
        restart_on: std::mem::take(restart_on),
        reload_on: vec![config.to_owned()],
        adopt: None,
    });
    let (service, timer) = ("aesop-lag-report.service", "aesop-lag-report.timer");
    let values = context! { cluster, writable => [data.to_owned()] };
    part.files.push(File::new(
        unit_path(service),
        inputs.templates.render("systemd/lag-report.service.j2", values)?,
    ));
    let values = context! { cluster, on_calendar => &role.lag_report.on_calendar };
    part.files
        .push(File::new(unit_path(timer), inputs.templates.render("systemd/lag-report.timer.j2", values)?));
    part.units.push(Unit {
        name: timer.to_owned(),
        restart_on: vec![unit_path(timer)],
        reload_on: Vec::new(),
        adopt: None,
    });
    Ok(())
}
