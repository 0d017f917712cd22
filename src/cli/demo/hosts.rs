//! The demo's hosts: what `inventory/demo.yml` names, a database server and a mail server.

use super::home::{Env, Home};
use crate::lab::shop::Server;
use crate::lab::{self, HostKind, HostSpec, Lab, LabSpec, Progress, SSH_USER, Subnet};
use anyhow::Context as _;

/// Name of the demo's lab.
const LAB: &str = "demo";
/// The network of `inventory/demo.yml`.
const NETWORK: &str = "10.209.77.0/24";
/// Hosts of `inventory/demo.yml` and what they are, by the last number of their address.
const HOSTS: [(&str, HostKind, u8); 9] = [
    ("kafka1", HostKind::Plain, 11),
    ("kafka2", HostKind::Plain, 12),
    ("kafka3", HostKind::Plain, 13),
    ("relay1", HostKind::Plain, 21),
    ("consumer1", HostKind::Plain, 31),
    ("consumer2", HostKind::Plain, 32),
    ("monitor1", HostKind::Plain, 41),
    ("db1", HostKind::MariaDb, 51),
    ("mail1", HostKind::Mail, 61),
];

/// The booted hosts.
#[derive(Debug)]
pub(super) struct Hosts {
    lab: Lab,
    /// The database server, as its administrator reaches it.
    pub(super) database: Server,
}

impl Hosts {
    /// Boots all hosts. They stay when this program ends.
    pub(super) async fn boot(
        home: &Home,
        say: impl Fn(String) + Send + Sync + 'static,
    ) -> anyhow::Result<Self> {
        let home = home.clone();
        tokio::task::spawn_blocking(move || {
            let say = |progress: &Progress| say(progress.to_string());
            if let Some(reason) = lab::why_not() {
                anyhow::bail!("the demo cannot run here: {reason}");
            }
            lab::ensure_packages(&say)?;
            let network: Subnet = NETWORK.parse()?;
            let spec = HOSTS
                .iter()
                .fold(LabSpec::new(LAB).subnet(network).persistent(), |spec, (name, kind, number)| {
                    spec.host(HostSpec::new(*name).kind(*kind).number(*number))
                });
            let lab = Lab::create(&spec, &say)?;
            home.prepare(&lab.ssh_key(), &lab.known_hosts())?;
            let database = Server {
                host: lab.host("db1")?.address().to_string(),
                port: lab::DATABASE_PORT,
                user: lab::DATABASE_USER.to_owned(),
                password: lab.password().to_owned(),
            };
            Ok(Self { lab, database })
        })
        .await?
    }

    /// How to reach all of it.
    pub(super) fn env(&self, home: &Home) -> anyhow::Result<Env> {
        let address = |name: &str| anyhow::Ok(self.lab.host(name)?.address().to_string());
        let all = |names: &[&str], suffix: &str, separator: &str| {
            let list: anyhow::Result<Vec<String>> =
                names.iter().map(|name| Ok(address(name)? + suffix)).collect();
            anyhow::Ok(list?.join(separator))
        };
        let brokers = ["kafka1", "kafka2", "kafka3"];
        Ok(Env {
            kafka_bootstrap: all(&brokers, ":9092", ",")?,
            zookeeper: all(&brokers, ":2181", ",")?,
            mysql_host: self.database.host.clone(),
            mysql_port: self.database.port,
            mysql_user: self.database.user.clone(),
            mysql_password: self.database.password.clone(),
            mailbox: self.lab.host("mail1")?.mailbox().display().to_string(),
            ssh_user: SSH_USER.to_owned(),
            ssh_key: home.ssh().join("id_ed25519").display().to_string(),
            ssh_known_hosts: home.ssh().join("known_hosts").display().to_string(),
            inventory: home.inventory().display().to_string(),
            monitor_url: format!("http://{}:9199/", address("monitor1")?),
            relay_hosts: address("relay1")?,
            consumer_hosts: all(&["consumer1", "consumer2"], "", " ")?,
        })
    }
}

/// Adds a plain host to the running demo; returns its address.
pub(super) async fn add(home: &Home, name: String) -> anyhow::Result<String> {
    let home = home.clone();
    tokio::task::spawn_blocking(move || {
        let lab = Lab::attach(LAB).context("the demo is not running; start it with `aesop demo`")?;
        let host = lab.add(&HostSpec::new(name), &|_: &Progress| ())?;
        home.prepare_ssh(&lab.ssh_key(), &lab.known_hosts())?;
        Ok(host.address().to_string())
    })
    .await?
}

/// Removes the demo's lab, if there is one.
pub(super) async fn down() -> anyhow::Result<()> {
    tokio::task::spawn_blocking(|| {
        if lab::list().iter().any(|summary| summary.name == LAB) {
            lab::down(LAB)?;
        }
        anyhow::Ok(())
    })
    .await?
}
