//! From what is written to what it means: fills in defaults, resolves references and reports whatever cannot be.

mod artifact;
mod extra;
mod flow;
mod host;
mod role;
mod security;
mod watch;

use super::defaults as d;
use super::fault::{At, Faults};
use super::model::{Inventory, Java, SecretRef};
use super::raw::Raw;
use super::value::{Scalar, SecretSource};
use host::Hosts;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reads a file that the inventory names.
pub(super) type Read<'a> = &'a dyn Fn(&Path) -> std::io::Result<String>;

/// The model of `raw`. Means nothing when `faults` is not empty afterwards.
pub(super) fn validate(raw: &Raw, path: &Path, read: Read<'_>, faults: &mut Faults<'_>) -> Inventory {
    let mut check = Check { raw, faults, hosts: Hosts::default(), path, read };
    check.name(&At::top("cluster"), "cluster", &raw.cluster);
    check.declared_hosts();
    let zookeeper = check.zookeeper();
    let kafka = check.kafka();
    let sources = check.sources();
    let relays = check.relays(&sources);
    let consumers = check.consumers(&sources, relays.as_ref());
    let monitor = check.monitor();
    check.extra_hosts();
    check.needs(zookeeper.is_some());
    let agent_port = check.agent();
    let java = check.java();
    let jolokia = check.artifact(&At::top("jolokia"), raw.jolokia.as_ref());
    check.ports_and_directories();
    let mut inventory = Inventory {
        path: path.to_owned(),
        cluster: raw.cluster.clone(),
        hosts: check.hosts.by_name().clone(),
        zookeeper,
        kafka,
        sources,
        relays,
        consumers,
        monitor,
        java,
        jolokia,
        agent_port,
        extras: BTreeMap::new(),
    };
    inventory.extras = check.extras(&inventory);
    inventory
}

/// What all parts of the validation share.
struct Check<'a, 'f> {
    raw: &'a Raw,
    faults: &'a mut Faults<'f>,
    hosts: Hosts,
    path: &'a Path,
    read: Read<'a>,
}

/// Names become parts of unit names, znodes, topics and mails.
const NAME_LENGTH_MAX: usize = 48;

impl Check<'_, '_> {
    /// The name of a cluster, source or group.
    fn name(&mut self, at: &At, what: &str, name: &str) {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let wrong = if name.is_empty() {
            "is empty"
        } else if name.len() > NAME_LENGTH_MAX {
            "is longer than 48 characters"
        } else if !name.chars().all(allowed) || name.starts_with('-') || name.ends_with('-') {
            "has characters that a name cannot have"
        } else {
            return;
        };
        let help = format!("a {what}'s name has lower-case letters, digits and `-` inside");
        self.faults.add_key(at, format!("the name `{name}` of a {what} {wrong}"), help);
    }

    /// `cluster` needs its hosts, its relays their ZooKeeper.
    fn needs(&mut self, zookeeper: bool) {
        let raw = self.raw;
        if !zookeeper && raw.zookeeper.is_none() {
            let uses = [
                ("relays", raw.relays.is_some()),
                ("consumers", !raw.consumers.is_empty()),
                ("monitor", raw.monitor.is_some()),
                ("kafka", raw.kafka.as_ref().is_some_and(role::on_zookeeper)),
            ];
            for (key, used) in uses {
                if used {
                    let help = "add `zookeeper: {hosts: […]}`; one host is enough to begin with".to_owned();
                    self.faults.add_key(
                        &At::top(key),
                        format!("`{key}` cannot do without ZooKeeper, and there is none"),
                        help,
                    );
                }
            }
        }
        if self.hosts.is_empty() && self.faults.is_empty() {
            let help = "add a role, for instance `zookeeper: {hosts: [10.0.0.11]}`".to_owned();
            self.faults.add(&At::default(), "the inventory has no hosts", help);
        }
    }

    fn agent(&mut self) -> u16 {
        let given = self.raw.agent.as_ref().and_then(|agent| agent.port);
        let at = At::top("agent").key("port");
        let port = self.port(&at, given, d::AGENT_PORT);
        self.hosts.claim_port_everywhere(port, "the agent", &at);
        port
    }

    fn java(&mut self) -> Java {
        let Some(java) = &self.raw.java else { return Java::Package(d::JAVA_PACKAGE.to_owned()) };
        let at = At::top("java");
        match (&java.package, &java.home) {
            (Some(package), None) => {
                let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
                if package.len() < 2 || !package.chars().all(allowed) {
                    let help = "as in `openjdk-17-jre-headless`".to_owned();
                    self.faults.add(&at.key("package"), "this is not the name of a Debian package", help);
                }
                Java::Package(package.clone())
            }
            (None, Some(home)) => Java::Home(self.directory(&at.key("home"), home)),
            _ => {
                let help = "write `{package: openjdk-17-jre-headless}` or `{home: /opt/java}`".to_owned();
                self.faults.add(&at, "`java` has exactly one of `package` and `home`", help);
                Java::Package(String::new())
            }
        }
    }

    /// A port that was given, or its default.
    fn port(&mut self, at: &At, given: Option<u16>, default: u16) -> u16 {
        if given == Some(0) {
            self.faults.add(at, "a port is a number from 1 to 65535", None);
        }
        given.unwrap_or(default)
    }

    /// An absolute path without surprises.
    fn directory(&mut self, at: &At, text: &str) -> PathBuf {
        let path = Path::new(text);
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let steps = path.components().count();
        if !path.is_absolute()
            || !text.chars().all(plain)
            || text.split('/').any(|step| step == ".." || step == ".")
        {
            let help = "an absolute path of letters, digits, `.`, `_` and `-`".to_owned();
            self.faults.add(at, format!("`{text}` cannot be a directory of a service"), help);
        } else if steps < 3 {
            let help =
                format!("a directory of its own below it, as in `{}/aesop`", text.trim_end_matches('/'));
            self.faults.add(at, format!("`{text}` belongs to the system"), help);
        }
        path.components().collect()
    }

    /// The role has a host at least.
    fn some_hosts(&mut self, at: &At, count: usize) {
        if count == 0 {
            self.faults.add(
                at,
                "there are no hosts in this list",
                "add an address, or remove the role".to_owned(),
            );
        }
    }

    fn not_yet(&mut self, at: &At, what: &str, instead: &str) {
        self.faults.add(at, format!("{what} is not supported yet"), instead.to_owned());
    }
}

/// A secret, or the one that aesop generates.
fn secret_or_generated(given: Option<&SecretSource>, name: &str) -> SecretRef {
    given.map_or_else(|| SecretRef::Generated(name.to_owned()), |source| source.0.clone())
}

fn secret(given: Option<&SecretSource>) -> Option<SecretRef> {
    given.map(|source| source.0.clone())
}

impl Check<'_, '_> {
    /// Settings of a service, those that aesop writes itself refused.
    fn config(
        &mut self,
        at: &At,
        config: &BTreeMap<String, Scalar>,
        own: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        for (key, value) in config {
            let at = at.key(key);
            let taken = own.iter().find(|(name, _)| match name.strip_suffix('*') {
                Some(prefix) => key.starts_with(prefix),
                None => key == name,
            });
            let lower = key.to_ascii_lowercase();
            if let Some((_, instead)) = taken {
                let help = match *instead {
                    "" => "remove it".to_owned(),
                    key if key.starts_with('`') => format!("use {key}"),
                    why => why.to_owned(),
                };
                self.faults.add_key(&at, format!("`{key}` is set by aesop"), help);
            } else if lower.contains("password") || lower.contains("jaas") || lower.ends_with("secret") {
                let help = "`config` is shown in plans; there is no other place for it yet".to_owned();
                self.faults.add_key(&at, format!("`{key}` is a secret, which `config` cannot hold"), help);
            } else if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
                self.faults.add_key(&at, format!("`{key}` is not the name of a setting"), None);
            } else if value.0.chars().any(char::is_control) {
                self.faults.add(&at, "a setting is one line", None);
            }
        }
        config.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect()
    }
}
