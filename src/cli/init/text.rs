//! The inventory to start from: the example, with the hosts that were given in the place of its own.

use super::ask::Found;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Members of a quorum to begin with: one may fail.
const QUORUM: usize = 3;
/// Each relay reads every source.
const RELAYS: usize = 2;

/// Which hosts carry what: the first ones what is a quorum, the others the rest, all of them all where they are few.
struct Roles<'a> {
    quorum: &'a [String],
    relays: &'a [String],
    consumers: &'a [String],
    monitor: &'a [String],
}

impl<'a> Roles<'a> {
    fn new(hosts: &'a [String]) -> Self {
        let quorum = hosts.get(..QUORUM).or_else(|| hosts.get(..1)).unwrap_or_default();
        let rest = hosts.get(quorum.len()..).filter(|rest| !rest.is_empty()).unwrap_or(hosts);
        let relays = rest.get(..RELAYS).unwrap_or(rest);
        let consumers = rest.get(relays.len()..).filter(|rest| !rest.is_empty()).unwrap_or(rest);
        let monitor = rest.last().map_or(&[][..], std::slice::from_ref);
        Self { quorum, relays, consumers, monitor }
    }

    fn of(&self, section: &str) -> Option<&'a [String]> {
        match section {
            "zookeeper" | "kafka" => Some(self.quorum),
            "relays" => Some(self.relays),
            "consumers" => Some(self.consumers),
            "monitor" => Some(self.monitor),
            _ => None,
        }
    }
}

/// The example with these hosts.
pub(super) fn with_hosts(example: &str, found: &[Found]) -> String {
    let names = names(found);
    let roles = Roles::new(&names);
    let users: BTreeSet<&str> = found.iter().filter_map(|found| found.host.ssh.user.as_deref()).collect();
    let common = users.first().copied().filter(|_| users.len() == 1);
    let (mut text, mut section) = (String::new(), "");
    for line in example.lines() {
        if let Some((key, _)) = line.split_once(':').filter(|_| line.starts_with(|c: char| c.is_alphabetic()))
        {
            section = key;
        }
        let key = line.trim_start().split(':').next().unwrap_or_default();
        let comment = line.split_once('#').map(|(_, words)| format!("   #{words}")).unwrap_or_default();
        let _infallible = match (section, key, line) {
            ("ssh", "user", _) => match common {
                Some(user) => writeln!(text, "  user: {}", scalar(user)),
                None => Ok(()),
            },
            ("ssh", "become", _) if common == Some("root") => {
                writeln!(text, "  become: false                   # root needs no sudo")
            }
            ("hosts", "hosts", _) => {
                let lines = found.iter().zip(&names).map(|(found, name)| entry(found, name, common));
                writeln!(text, "{line}\n{}", lines.collect::<Vec<_>>().join("\n"))
            }
            ("hosts", _, _) if line.starts_with(' ') => Ok(()),
            // Of a list of lines.
            ("kafka", _, _) if line.starts_with("    - ") => Ok(()),
            (_, "hosts", _) if line.starts_with(' ') => {
                let indent = line.len() - line.trim_start().len();
                let hosts = roles.of(section).unwrap_or_default().join(", ");
                writeln!(text, "{:indent$}hosts: [{hosts}]{comment}", "")
            }
            _ => writeln!(text, "{line}"),
        };
    }
    text
}

/// What hosts are called; two of one name go by their addresses. A name has no colons.
fn names(found: &[Found]) -> Vec<String> {
    let same = |name: &str| found.iter().filter(|found| found.host.name == name).count() > 1;
    let name = |found: &Found| {
        let name = if same(&found.host.name) { &found.host.address } else { &found.host.name };
        let parts: Vec<&str> = name.split(':').filter(|part| !part.is_empty()).collect();
        scalar(&parts.join("-"))
    };
    found.iter().map(name).collect()
}

/// The line of a host, with what was found out about it behind it.
fn entry(found: &Found, name: &str, common: Option<&str>) -> String {
    let ssh = &found.host.ssh;
    let mut settings = Vec::new();
    if common.is_none() {
        settings.extend(ssh.user.as_ref().map(|user| format!("user: {}", scalar(user))));
        settings.extend((!ssh.become_root).then(|| "become: false".to_owned()));
    }
    settings.extend(ssh.port.map(|port| format!("port: {port}")));
    let file = ssh.identity_file.as_ref();
    settings.extend(file.map(|file| format!("identity_file: {}", scalar(&file.display().to_string()))));
    settings.extend(ssh.jump.as_ref().map(|jump| format!("jump: {}", scalar(jump))));
    let ssh = if settings.is_empty() { String::new() } else { format!(", ssh: {{{}}}", settings.join(", ")) };
    let words = match &found.words {
        Ok(words) => words.clone(),
        Err(why) => format!("not asked: {why}"),
    };
    let words = words.replace(['\n', '\r'], " ");
    format!("  {name}: {{address: {}{ssh}}}   # {words}", scalar(&found.host.address))
}

/// Text as YAML, in quotes where it needs them.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-/@".contains(c);
    let number =
        text.chars().all(|c| c.is_ascii_digit() || "._-".contains(c)) && text.matches('.').count() < 3;
    if text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/') && text.chars().all(plain) && !number
    {
        text.to_owned()
    } else {
        serde_json::Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::model::{Host, Inventory, Ssh};
    use std::path::Path;

    fn found(name: &str, address: &str, words: Result<&str, &str>) -> Found {
        let ssh = Ssh { user: Some("deploy".to_owned()), ..Ssh::default() };
        let host = Host { name: name.to_owned(), address: address.to_owned(), rack: None, ssh };
        Found { host, words: words.map(str::to_owned).map_err(str::to_owned) }
    }

    fn read(text: &str) -> Inventory {
        let read = |path: &Path| std::fs::read_to_string(path);
        crate::inventory::parse("shop.yml".as_ref(), text.as_bytes(), &read)
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    #[test]
    fn any_number_of_hosts_gives_an_inventory_with_all_roles() {
        for count in 1..=9 {
            let hosts: Vec<Found> = (1..=count)
                .map(|n| found(&format!("n{n}"), &format!("10.0.0.{n}"), Ok("debian 12")))
                .collect();
            let text = with_hosts(super::super::EXAMPLE, &hosts);
            let inventory = read(&text);
            let wanted: BTreeSet<String> = hosts.iter().map(|found| found.host.name.clone()).collect();
            assert_eq!(inventory.hosts.keys().cloned().collect::<BTreeSet<_>>(), wanted, "{text}");
            let members = inventory.kafka.as_ref().unwrap().members.len();
            assert_eq!(members, if count < 3 { 1 } else { 3 });
            assert_eq!(inventory.monitor.as_ref().unwrap().hosts.len(), 1);
            let consumers = &inventory.consumers["kafka-json"];
            assert!(!consumers.hosts.is_empty() && !inventory.relays.unwrap().members.is_empty());
            assert!(inventory.hosts.values().all(|host| host.ssh.user.as_deref() == Some("deploy")));
        }
    }

    #[test]
    fn what_was_found_out_stands_beside_each_host() {
        let mut odd = found("fd00::7", "fd00::7", Err("fd00::7: no answer\nat all"));
        odd.host.ssh.port = Some(2222);
        odd.host.ssh.user = Some("root".to_owned());
        odd.host.ssh.become_root = false;
        odd.host.ssh.jump = Some("me@bastion:22".to_owned());
        odd.host.ssh.identity_file = Some("~/.ssh/my key".into());
        let hosts = [found("n1", "10.0.0.1", Ok("debian 12, 4.0 GiB of memory")), odd];
        let text = with_hosts(super::super::EXAMPLE, &hosts);
        for line in [
            "  n1: {address: 10.0.0.1, ssh: {user: deploy}}   # debian 12, 4.0 GiB of memory",
            "  fd00-7: {address: \"fd00::7\", ssh: {user: root, become: false, port: 2222, identity_file: \"~/.ssh/my key\", jump: \"me@bastion:22\"}}   # not asked: fd00::7: no answer at all",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
        }
        let inventory = read(&text);
        let odd = &inventory.hosts["fd00-7"];
        assert_eq!((odd.address.as_str(), odd.ssh.port, odd.ssh.become_root), ("fd00::7", Some(2222), false));
        assert_eq!(odd.ssh, hosts[1].host.ssh);
    }

    #[test]
    fn two_of_one_name_go_by_their_addresses() {
        let hosts = [found("debian", "10.0.0.1", Ok("")), found("debian", "10.0.0.2", Ok(""))];
        let inventory = read(&with_hosts(super::super::EXAMPLE, &hosts));
        assert_eq!(inventory.hosts.keys().collect::<Vec<_>>(), ["10.0.0.1", "10.0.0.2"]);
    }
}
