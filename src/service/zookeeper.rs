//! ZooKeeper: an ensemble that can be reconfigured from its first start on.

use super::base::directory;
use super::inputs::{Inputs, missing};
use super::jvm::{self, Jvm, Logging};
use super::state::STOP_GATE_SECS;
use super::{
    EnsembleMember, File, Gate, Part, Role, ServiceError, Turn, Unit, User, ZOOKEEPER_UNIT, paths,
    zookeeper_login,
};
use crate::ensemble::members::Server;
use crate::inventory::model::ZooKeeperRole;
use crate::secret::Secret;
use base64::Engine;
use minijinja::context;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// A quorum forms within seconds; a follower that copies a large snapshot takes longer.
const READY_SECS: u64 = 90;
/// It closes its sessions and its log at once.
const STOP_SECS: u32 = 30;
/// The admin server, on loopback. Its default 8080 is everybody's.
const ADMIN_PORT: &str = "2182";

pub(super) fn part(inputs: &Inputs<'_>, host: &str, parts: &mut Vec<Part>) -> Result<(), ServiceError> {
    let Some(role) = &inputs.inventory.zookeeper else { return Ok(()) };
    let Some(member) = role.members.iter().find(|member| member.host == host) else { return Ok(()) };
    let myid = inputs.lock.myid(host).ok_or_else(|| missing("myid".to_owned(), host))?;
    let data = role.data_dir.display().to_string();
    let conf = format!("{data}/conf");
    let etc = format!("{}/zookeeper", paths::ETC);
    let cluster = &inputs.inventory.cluster;

    let mut part = Part::new(Role::ZooKeeper, "zookeeper");
    part.users.push(User { name: "zookeeper".to_owned(), home: data.clone() });
    part.directories.push(directory(&etc, 0o755, "root"));
    part.directories.push(directory(&format!("{}/zookeeper", paths::LOG), 0o755, "zookeeper"));
    part.directories.push(directory(&data, 0o750, "zookeeper"));
    part.directories.push(directory(&conf, 0o750, "zookeeper"));

    let mut settings = settings(role, &data);
    settings.extend(zookeeper_login::settings(inputs.inventory));
    settings.extend(member.config.clone());
    let zoo_cfg = format!("{etc}/zoo.cfg");
    let prepare = format!("{etc}/prepare.sh");
    part.files.push(File::new(
        &zoo_cfg,
        inputs.templates.render("zookeeper/zoo.cfg.j2", context! { cluster, settings })?,
    ));
    part.files.push(File::new(
        &prepare,
        inputs.templates.render("zookeeper/prepare.sh.j2", context! { data_dir => &data })?,
    ));
    part.files
        .push(File { once: true, ..File::new(format!("{etc}/first.dynamic"), first_members(inputs, role)?) });
    let (owner, group) = ("zookeeper".to_owned(), "zookeeper".to_owned());
    part.files.push(File { owner, group, ..File::new(format!("{data}/myid"), format!("{myid}\n")) });

    let options_path = format!("{}/zookeeper.options", paths::SECRETS);
    let options = super_user(inputs.secret("zookeeper.super_password", host)?);
    part.files.push(File::secret(&options_path, "zookeeper", &options));
    let super_file = format!("{}/zookeeper-super", paths::SECRETS);
    let password = inputs.secret("zookeeper.super_password", host)?;
    part.files.push(File::secret(&super_file, "root", &Secret::new(format!("{}\n", password.expose()))));

    let artifact = inputs.artifact(&format!("zookeeper-{}", role.version), host)?;
    let mut options = vec![format!("@{options_path}")];
    let login = zookeeper_login::of_server(inputs, host, &mut part)?;
    options.extend(login.as_deref().map(zookeeper_login::option));
    let logback = role.artifact.is_some().then(|| format!("{etc}/logback.xml"));
    if let Some(path) = &logback {
        // ZooKeeper's own archive logs with another library than the jars from Maven.
        options.push(format!("-Dlogback.configurationFile={path}"));
        part.files.push(File::new(path, inputs.templates.render("zookeeper/logback.xml.j2", context! {})?));
    }
    let mut restart_on = jvm::add(
        inputs,
        host,
        &mut part,
        Jvm {
            service: "zookeeper",
            description: "ZooKeeper",
            main: format!("org.apache.zookeeper.server.quorum.QuorumPeerMain {conf}/zoo.cfg"),
            artifact: &artifact,
            jolokia_port: role.jolokia_port,
            heap: member.heap,
            heap_percent: "12.5",
            before: vec![format!("/bin/sh {prepare}")],
            options,
            writable: vec![data.clone()],
            stop_timeout_secs: STOP_SECS,
            logging: Logging::Log4j2,
        },
    )?;
    restart_on.extend([zoo_cfg, prepare, options_path]);
    restart_on.extend(logback);
    restart_on.extend(login);
    let unit = ZOOKEEPER_UNIT.to_owned();
    part.units.push(Unit { name: unit.clone(), restart_on, reload_on: Vec::new(), adopt: None });
    let test = |name: &str| [name, "--data-dir", &data].map(str::to_owned).to_vec();
    part.gate = Some(Gate {
        unit: unit.clone(),
        test: test("zookeeper"),
        words: "it leads or follows, and the leader has all followers in sync".to_owned(),
        timeout_secs: READY_SECS,
        ..Gate::default()
    });
    part.turn = Some(Turn {
        stop: Gate {
            unit,
            test: test("zookeeper-stop"),
            words: "a majority stays and all followers are in sync".to_owned(),
            timeout_secs: STOP_GATE_SECS,
            ..Gate::default()
        },
        rank: test("zookeeper"),
        order: "one at a time, what is not ready first, the leader last".to_owned(),
    });
    let address = inputs.address(host)?.to_owned();
    let server = Server {
        host: address,
        peer_port: role.peer_port,
        election_port: role.election_port,
        votes: true,
        client_port: role.client_port,
    };
    part.ensemble = Some(EnsembleMember {
        id: myid,
        server: server.to_string(),
        data_dir: data,
        super_file,
        deployed: inputs.lock.ensemble.contains(host),
        lived: !inputs.lock.ensemble.is_empty(),
    });
    parts.push(part);
    Ok(())
}

fn settings(role: &ZooKeeperRole, data: &str) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, String> = [
        ("tickTime", "2000"),
        ("initLimit", "10"),
        ("syncLimit", "5"),
        ("dataDir", data),
        ("maxClientCnxns", "200"),
        // A single server that runs as an ensemble of one can grow by reconfiguration.
        ("standaloneEnabled", "false"),
        ("reconfigEnabled", "true"),
        ("4lw.commands.whitelist", "srvr,mntr"),
        ("admin.enableServer", "true"),
        ("admin.serverAddress", "127.0.0.1"),
        ("admin.serverPort", ADMIN_PORT),
        ("autopurge.snapRetainCount", "5"),
        ("autopurge.purgeInterval", "6"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect();
    settings.extend(role.config.clone());
    settings
}

/// The members at the first start; from then on ZooKeeper keeps them itself.
fn first_members(inputs: &Inputs<'_>, role: &ZooKeeperRole) -> Result<String, ServiceError> {
    let mut servers = Vec::new();
    for member in &role.members {
        let id = inputs.lock.myid(&member.host).ok_or_else(|| missing("myid".to_owned(), &member.host))?;
        let address = inputs.address(&member.host)?;
        let address = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        servers.push(context! { id, address });
    }
    let values = context! {
        servers,
        peer_port => role.peer_port,
        election_port => role.election_port,
        client_port => role.client_port,
    };
    Ok(inputs.templates.render("zookeeper/dynamic.j2", values)?)
}

/// The super user's digest, for membership changes. In a file for the JVM, so that no process list shows it.
fn super_user(password: &Secret) -> Secret {
    let digest = Sha256::digest(format!("super:{}", password.expose()).as_bytes());
    let digest = base64::engine::general_purpose::STANDARD.encode(digest);
    Secret::new(format!(
        "-Dzookeeper.DigestAuthenticationProvider.digestAlg=SHA-256\n\
         -Dzookeeper.DigestAuthenticationProvider.superDigest=super:{digest}\n"
    ))
}
