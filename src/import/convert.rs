//! From a tree of Ansible's to an inventory of aesop's. cp-ansible's names are known: its groups `zookeeper`,
//! `kafka_broker`, `kafka_controller`, and its variables (docs/VARIABLES.md of that project).

use super::ImportError;
use super::security::security;
use super::tree::{Tree, scalar};
use serde_yaml::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

const ZOOKEEPER: [&str; 4] = ["zookeeper", "zookeepers", "zk", "zookeeper_servers"];
const KAFKA: [&str; 5] = ["kafka_broker", "kafka_brokers", "kafka", "brokers", "broker"];
const CONTROLLER: &str = "kafka_controller";
/// Variables that steer Ansible itself; an inventory without it has no use for them.
const OF_ANSIBLE: [&str; 5] = [
    "ansible_connection",
    "ansible_python_interpreter",
    "ansible_become_user",
    "ansible_become_method",
    "ansible_user_dir",
];

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The inventory, YAML.
    pub inventory: String,
    /// What is not in it, and what to do about it.
    pub left_out: Vec<String>,
}

/// Converts.
pub fn convert(file: &str, tree: &Tree, cluster: &str) -> Result<Imported, ImportError> {
    let find = |names: &[&'static str]| {
        names.iter().copied().find(|name| !tree.members(name).is_empty()).unwrap_or_default()
    };
    let (zookeeper, kafka) = (find(&ZOOKEEPER), find(&KAFKA));
    if zookeeper.is_empty() && kafka.is_empty() {
        return Err(ImportError::NoGroup(file.to_owned()));
    }
    let mut text = format!("# From {file}, by `aesop import ansible`.\ncluster: {cluster}\n");
    let members: Vec<String> =
        [zookeeper, kafka, CONTROLLER].iter().flat_map(|group| tree.members(group)).collect();
    let mut work = Work { tree, left_out: Vec::new(), hosts: BTreeMap::new(), names: names(&members) };
    for host in &members {
        work.host(host);
    }
    text.push_str(&work.ssh_and_hosts());
    if !zookeeper.is_empty() {
        text.push_str(&work.role("zookeeper", zookeeper, &ZOOKEEPER_VARS));
    }
    let mut known = BTreeSet::new();
    if !kafka.is_empty() {
        text.push_str(&work.role("kafka", kafka, &KAFKA_VARS));
        text.push_str(&work.controllers());
        let security = security(tree, &tree.members(kafka));
        text.push_str(&security.lines);
        security.left_out.into_iter().for_each(|what| work.leave(what));
        known = security.known;
    }
    work.rest(zookeeper, kafka, &known, &members.iter().map(String::as_str).collect());
    text.push_str(
        "# Still to be said, see `aesop init` and docs/inventory.md:\n# sources:    the databases to read\n# relays:     the hosts that read them\n# consumers:  the hosts that write to Kafka\n# monitor:    the host that watches and mails\n",
    );
    let left_out = work
        .left_out
        .into_iter()
        .map(|(what, hosts)| if hosts.is_empty() { what } else { format!("{}: {what}", hosts.join(", ")) });
    Ok(Imported { inventory: text, left_out: left_out.collect() })
}

struct Role {
    /// Map of the service's own settings.
    properties: &'static str,
    heap: &'static [&'static str],
    /// Setting or variable that names the data directory.
    data: &'static [&'static str],
    /// Settings that aesop decides itself.
    decided: &'static [&'static str],
    id: &'static [&'static str],
    port: (&'static str, &'static str),
}

const ZOOKEEPER_VARS: Role = Role {
    properties: "zookeeper_custom_properties",
    heap: &["zookeeper_custom_java_args", "zookeeper_heap"],
    data: &["dataDir", "zookeeper_data_dir"],
    decided: &[
        "clientPort",
        "dataLogDir",
        "server.",
        "admin.",
        "autopurge.",
        "initLimit",
        "syncLimit",
        "tickTime",
    ],
    id: &["zookeeper_id", "zk_id", "myid"],
    port: ("zookeeper_client_port", "client_port"),
};
const KAFKA_VARS: Role = Role {
    properties: "kafka_broker_custom_properties",
    heap: &["kafka_broker_custom_java_args", "kafka_heap", "kafka_heap_opts"],
    data: &["log.dirs", "kafka_data_dir", "kafka_log_dirs"],
    decided: &[
        "zookeeper.",
        "listener",
        "advertised.",
        "inter.broker.",
        "controller.",
        "process.roles",
        "ssl.",
        "sasl.",
        "confluent.",
        "broker.rack",
    ],
    id: &["broker_id", "kafka_broker_id", "node_id", "broker.id", "node.id"],
    port: ("kafka_broker_port", "port"),
};

#[derive(Default)]
struct HostLine {
    address: String,
    rack: Option<String>,
    ssh: BTreeMap<&'static str, String>,
}

struct Work<'a> {
    tree: &'a Tree,
    left_out: Vec<(String, Vec<String>)>,
    hosts: BTreeMap<String, HostLine>,
    /// What hosts are called here.
    names: BTreeMap<String, String>,
}

impl Work<'_> {
    fn leave(&mut self, what: impl Into<String>) {
        self.leave_of(None, what.into());
    }

    /// What is the same on several hosts is said once.
    fn leave_of(&mut self, host: Option<&str>, what: String) {
        let position = self.left_out.iter().position(|(known, _)| *known == what);
        let position = position.unwrap_or_else(|| {
            self.left_out.push((what, Vec::new()));
            self.left_out.len() - 1
        });
        if let (Some((_, hosts)), Some(host)) = (self.left_out.get_mut(position), host)
            && !hosts.iter().any(|known| known == host)
        {
            hosts.push(host.to_owned());
        }
    }

    fn name<'b>(&'b self, host: &'b str) -> &'b str {
        self.names.get(host).map_or(host, String::as_str)
    }

    /// How a host is reached.
    fn host(&mut self, name: &str) {
        let vars = self.tree.vars(name);
        let text = |key: &str| vars.get(key).map(scalar).filter(|value| !value.contains("{{"));
        let mut line = HostLine {
            address: text("ansible_host").unwrap_or_else(|| name.to_owned()),
            ..HostLine::default()
        };
        for (key, ours) in [
            ("ansible_user", "user"),
            ("ansible_ssh_user", "user"),
            ("ansible_port", "port"),
            ("ansible_ssh_port", "port"),
            ("ansible_ssh_private_key_file", "identity_file"),
            ("ansible_private_key_file", "identity_file"),
        ] {
            if let Some(value) = text(key) {
                line.ssh.insert(ours, value);
            }
        }
        if let Some(value) = text("ansible_become").filter(|value| matches!(value.as_str(), "false" | "no")) {
            let user = line.ssh.get("user").map(String::as_str);
            if user == Some("root") || value == "false" {
                line.ssh.insert("become", "false".to_owned());
            }
        }
        for key in ["ansible_ssh_common_args", "ansible_ssh_extra_args"] {
            if let Some(args) = text(key) {
                match jump(&args) {
                    Some(jump) => drop(line.ssh.insert("jump", jump)),
                    None => self.leave_of(
                        Some(name),
                        format!("`{key}` ({args}); say it in ~/.ssh/config, which aesop reads"),
                    ),
                }
            }
        }
        for key in ["ansible_become_pass", "ansible_become_password"] {
            if vars.contains_key(key) {
                self.leave_of(
                    Some(name),
                    format!("`{key}`; secrets are not copied: set `ssh.sudo_password: {{env: …}}`"),
                );
            }
        }
        for key in ["ansible_ssh_pass", "ansible_password"] {
            if vars.contains_key(key) {
                self.leave_of(
                    Some(name),
                    format!("`{key}`; aesop logs in with keys: add one to the host's authorized_keys"),
                );
            }
        }
        let properties = vars.get(KAFKA_VARS.properties);
        line.rack = text("broker_rack")
            .or_else(|| text("rack"))
            .or_else(|| properties.and_then(|map| map.get("broker.rack")).map(scalar));
        self.hosts.insert(name.to_owned(), line);
    }

    /// What all hosts share stands once, the rest with each.
    fn ssh_and_hosts(&self) -> String {
        let mut text = String::new();
        let mut shared: BTreeMap<&str, &String> = BTreeMap::new();
        if let Some(first) = self.hosts.values().next() {
            for (key, value) in &first.ssh {
                if self.hosts.values().all(|host| host.ssh.get(key) == Some(value)) {
                    shared.insert(key, value);
                }
            }
        }
        if !shared.is_empty() {
            let pairs: Vec<String> =
                shared.iter().map(|(key, value)| format!("{key}: {}", quoted(value))).collect();
            let _infallible = writeln!(text, "ssh: {{{}}}", pairs.join(", "));
        }
        text.push_str("hosts:\n");
        for (name, host) in &self.hosts {
            let mut pairs = vec![format!("address: {}", quoted(&host.address))];
            pairs.extend(host.rack.iter().map(|rack| format!("rack: {}", quoted(rack))));
            let own: Vec<String> = host
                .ssh
                .iter()
                .filter(|(key, _)| !shared.contains_key(**key))
                .map(|(key, value)| format!("{key}: {}", quoted(value)))
                .collect();
            if !own.is_empty() {
                pairs.push(format!("ssh: {{{}}}", own.join(", ")));
            }
            let _infallible = writeln!(text, "  {}: {{{}}}", quoted(self.name(name)), pairs.join(", "));
        }
        text
    }

    /// Controllers apart, as a key of Kafka.
    fn controllers(&mut self) -> String {
        let members = self.tree.members(CONTROLLER);
        if members.is_empty() {
            return String::new();
        }
        if members.len().is_multiple_of(2) {
            self.leave(format!(
                "group `{CONTROLLER}` has {} hosts; aesop wants an odd number: name them under `kafka.controllers`",
                members.len()
            ));
            return String::new();
        }
        let names: Vec<String> = members.iter().map(|host| quoted(self.name(host))).collect();
        format!("  controllers: [{}]\n", names.join(", "))
    }

    fn role(&mut self, name: &str, group: &str, role: &Role) -> String {
        let members = self.tree.members(group);
        let all: Vec<(String, Member)> =
            members.iter().map(|host| (host.clone(), self.member(host, role))).collect();
        let mut text = format!("{name}:\n");
        let first = all.first().map(|(_, member)| member.clone()).unwrap_or_default();
        let same = |wanted: fn(&Member) -> Option<&String>| {
            let value = wanted(&first)?;
            all.iter().all(|(_, member)| wanted(member) == Some(value)).then(|| value.clone())
        };
        let (heap, port) = (same(|member| member.heap.as_ref()), same(|member| member.port.as_ref()));
        let shared: BTreeMap<&String, &String> = first
            .config
            .iter()
            .filter(|(key, value)| all.iter().all(|(_, member)| member.config.get(*key) == Some(value)))
            .collect();
        text.push_str("  hosts:\n");
        for (host, member) in &all {
            let mut pairs = vec![format!("host: {}", quoted(self.name(host)))];
            if heap.is_none() {
                pairs.extend(member.heap.iter().map(|heap| format!("heap: {heap}")));
            }
            let own: Vec<String> = member
                .config
                .iter()
                .filter(|(key, _)| !shared.contains_key(key))
                .map(|(key, value)| format!("{key}: {}", quoted(value)))
                .collect();
            if !own.is_empty() {
                pairs.push(format!("config: {{{}}}", own.join(", ")));
            }
            let line =
                if pairs.len() == 1 { quoted(self.name(host)) } else { format!("{{{}}}", pairs.join(", ")) };
            let _infallible = writeln!(text, "    - {line}");
        }
        for (key, value) in [("heap", heap), (role.port.1, port)] {
            if let Some(value) = value {
                let _infallible = writeln!(text, "  {key}: {value}");
            }
        }
        if let Some(directory) = &first.data {
            if all.iter().all(|(_, member)| member.data.as_ref() == Some(directory)) {
                let line = if name == "kafka" {
                    let paths: Vec<String> = directory.split(',').map(|path| quoted(path.trim())).collect();
                    format!("  data_dirs: [{}]", paths.join(", "))
                } else {
                    format!("  data_dir: {}", quoted(directory))
                };
                let _infallible = writeln!(text, "{line}");
            } else {
                self.leave(format!(
                    "{name}: data directories differ from host to host; aesop has one setting for all"
                ));
            }
        }
        if !shared.is_empty() {
            text.push_str("  config:\n");
            for (key, value) in shared {
                let _infallible = writeln!(text, "    {key}: {}", quoted(value));
            }
        }
        text
    }

    fn member(&mut self, host: &str, role: &Role) -> Member {
        let vars = self.tree.vars(host);
        let mut member = Member::default();
        for key in role.heap {
            if let Some(value) = vars.get(*key).map(scalar) {
                match heap(&value) {
                    Some(heap) => member.heap = Some(heap),
                    None => {
                        self.leave_of(
                            Some(host),
                            format!("`{key}` ({value}); only -Xmx has a place: `heap`"),
                        );
                    }
                }
            }
        }
        member.port = vars.get(role.port.0).map(scalar);
        let properties = vars.get(role.properties).and_then(Value::as_mapping).cloned().unwrap_or_default();
        for (key, value) in &properties {
            let (Some(key), value) = (key.as_str(), scalar(value)) else { continue };
            if role.data.contains(&key) {
                member.data = Some(value);
            } else if role.id.contains(&key) {
                self.id(host, key, &value);
            } else if key == "broker.rack" {
                // Already with the host.
            } else if role.decided.iter().any(|start| key.starts_with(start)) {
                self.leave_of(Some(host), format!("`{key}` ({value}); aesop sets it itself"));
            } else if value.contains("{{") {
                self.leave_of(
                    Some(host),
                    format!("`{key}` is a template ({value}); write its value into `config`"),
                );
            } else {
                member.config.insert(key.to_owned(), value);
            }
        }
        for key in role.data {
            member.data = member.data.or_else(|| vars.get(*key).map(scalar));
        }
        for key in role.id {
            if let Some(value) = vars.get(*key).map(scalar) {
                self.id(host, key, &value);
            }
        }
        member
    }

    fn id(&mut self, host: &str, key: &str, value: &str) {
        self.leave_of(Some(host), format!("`{key}` ({value}); aesop assigns ids, keeps them in the lock file, and begins with empty data directories: it does not take over servers that others have deployed"
        ));
    }

    /// Groups and variables that nobody asked for.
    fn rest(
        &mut self,
        zookeeper: &str,
        kafka: &str,
        known: &BTreeSet<&'static str>,
        members: &BTreeSet<&str>,
    ) {
        let tree = self.tree;
        if tree.members(CONTROLLER).is_empty() && !zookeeper.is_empty() && !kafka.is_empty() {
            self.leave("its brokers keep their metadata in ZooKeeper; a new cluster of aesop's runs in KRaft mode (`version: 3.9.1` is the last on ZooKeeper), and aesop does not take over brokers that others have deployed");
        }
        for (name, group) in &tree.groups {
            let others: Vec<String> =
                tree.members(name).into_iter().filter(|host| !members.contains(host.as_str())).collect();
            if name != "all" && !others.is_empty() && group.children.is_empty() {
                self.leave(format!("group `{name}` ({}): it has no role in aesop", others.join(", ")));
            }
        }
        let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for host in members {
            for key in
                tree.vars(host).into_keys().filter(|key| !is_known(key) && !known.contains(key.as_str()))
            {
                seen.entry(key).or_default().insert((*host).to_owned());
            }
        }
        for (key, hosts) in seen {
            let advice = advice(&key);
            let whose = if hosts.len() == members.len() {
                "all hosts".to_owned()
            } else {
                hosts.into_iter().collect::<Vec<_>>().join(", ")
            };
            self.leave(format!("`{key}` of {whose}{advice}"));
        }
    }
}

/// A name with dots reads as an address: the first part will do where no two hosts share it.
fn names(members: &[String]) -> BTreeMap<String, String> {
    let short = |host: &str| host.split('.').next().unwrap_or(host).to_owned();
    let name = |host: &String| {
        let clash = members.iter().any(|other| other != host && short(other) == short(host));
        let number = short(host).parse::<u64>().is_ok();
        if clash || number { host.replace(['.', ':'], "-") } else { short(host) }
    };
    members.iter().map(|host| (host.clone(), name(host))).collect()
}

#[derive(Clone, Debug, Default)]
struct Member {
    heap: Option<String>,
    port: Option<String>,
    data: Option<String>,
    config: BTreeMap<String, String>,
}

fn is_known(key: &str) -> bool {
    let ours = |role: &Role| {
        key == role.properties
            || key == role.port.0
            || [role.heap, role.data, role.id].iter().any(|names| names.contains(&key))
    };
    let reach = [
        "ansible_host",
        "ansible_user",
        "ansible_ssh_user",
        "ansible_port",
        "ansible_ssh_port",
        "ansible_ssh_private_key_file",
        "ansible_private_key_file",
        "ansible_become",
        "ansible_ssh_common_args",
        "ansible_ssh_extra_args",
        "ansible_become_pass",
        "ansible_become_password",
        "ansible_ssh_pass",
        "ansible_password",
        "broker_rack",
        "rack",
    ];
    ours(&ZOOKEEPER_VARS) || ours(&KAFKA_VARS) || reach.contains(&key) || OF_ANSIBLE.contains(&key)
}

fn advice(key: &str) -> &'static str {
    let says = |words: &[&str]| words.iter().any(|word| key.contains(word));
    if key.starts_with("(all of") {
        ": it is encrypted with ansible-vault; secrets are not copied"
    } else if says(&["ssl", "tls", "keystore", "truststore"]) {
        ": TLS for ZooKeeper is not supported yet; for Kafka `ssl_enabled` alone is taken over, as `kafka.tls`, with certificates of aesop's own (your own: docs/inventory.md)"
    } else if says(&["sasl", "kerberos", "password", "secret"]) {
        ": secrets are not copied; users of Kafka are said under `kafka.sasl.users`, each with {env: …} or {file: …}"
    } else if says(&["version"]) {
        ": versions are Apache's here, `kafka.version` and `zookeeper.version`"
    } else if says(&["custom_listeners"]) {
        ": aesop makes one listener for clients and brokers, `kafka.port`"
    } else {
        ": nothing here stands for it"
    }
}

/// `-J host` and `-o ProxyJump=host`.
fn jump(args: &str) -> Option<String> {
    let args = args.replace(['"', '\''], "");
    let words: Vec<&str> = args.split_whitespace().collect();
    let found = words.iter().enumerate().find_map(|(at, word)| {
        let value = word.trim_start_matches("-o").strip_prefix("ProxyJump=");
        value.or_else(|| (*word == "-J").then(|| words.get(at + 1).copied()).flatten())
    })?;
    // Anything beside it would be lost.
    let rest = words.iter().filter(|word| !word.contains(found) && !matches!(**word, "-o" | "-J"));
    (rest.count() == 0).then(|| found.to_owned())
}

/// The `-Xmx` of JVM options, or a size by itself.
fn heap(text: &str) -> Option<String> {
    let size = match text.split_whitespace().find_map(|word| word.strip_prefix("-Xmx")) {
        Some(size) => size,
        None if !text.contains(['-', ' ']) => text,
        None => return None,
    };
    let (number, unit) = size.split_at_checked(size.len().checked_sub(1)?)?;
    (number.parse::<u64>().is_ok() && matches!(unit, "g" | "G" | "m" | "M")).then(|| size.to_lowercase())
}

/// As YAML reads it back as text, or as the number or boolean that it is.
fn quoted(text: &str) -> String {
    let plain = !text.is_empty()
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || "/~".contains(c))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "._/-~@".contains(c));
    let words = ["null", "yes", "no", "on", "off"];
    if plain && !words.contains(&text.to_lowercase().as_str()) {
        text.to_owned()
    } else {
        serde_json::Value::String(text.to_owned()).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heaps_and_jumps() {
        assert_eq!(heap("-Xms4g -Xmx4G -XX:+UseG1GC").as_deref(), Some("4g"));
        assert_eq!(heap("512m").as_deref(), Some("512m"));
        assert_eq!(heap("-XX:+UseG1GC"), None);
        assert_eq!(jump("-o ProxyJump=ops@gate:22").as_deref(), Some("ops@gate:22"));
        assert_eq!(jump("'-oProxyJump=gate'").as_deref(), Some("gate"));
        assert_eq!(jump("-J gate -o ControlMaster=no"), None, "the second would be lost");
    }
}
