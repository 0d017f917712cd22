//! Hosts: names, addresses, who runs where, and what two services on one host must not share.

use super::{Check, secret};
use crate::inventory::defaults as d;
use crate::inventory::error::{either, nearest};
use crate::inventory::fault::At;
use crate::inventory::model::{Host, KnownHosts, Ssh};
use crate::inventory::raw;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Hosts so far, and what they have to give only once.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    by_name: BTreeMap<String, Host>,
    ports: Vec<Claim<u16>>,
    directories: Vec<Claim<PathBuf>>,
}

#[derive(Clone, Debug)]
struct Claim<T> {
    host: String,
    what: T,
    service: String,
    at: At,
}

impl Hosts {
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub(super) fn by_name(&self) -> &BTreeMap<String, Host> {
        &self.by_name
    }

    pub(super) fn claim_port(&mut self, host: &str, port: u16, service: &str, at: &At) {
        let claim = Claim { host: host.to_owned(), what: port, service: service.to_owned(), at: at.clone() };
        self.ports.push(claim);
    }

    pub(super) fn claim_port_everywhere(&mut self, port: u16, service: &str, at: &At) {
        let hosts: Vec<String> = self.by_name.keys().cloned().collect();
        for host in hosts {
            self.claim_port(&host, port, service, at);
        }
    }

    pub(super) fn claim_directory(&mut self, host: &str, directory: PathBuf, service: &str, at: &At) {
        let claim =
            Claim { host: host.to_owned(), what: directory, service: service.to_owned(), at: at.clone() };
        self.directories.push(claim);
    }
}

impl Check<'_, '_> {
    /// Hosts under `hosts:`.
    pub(super) fn declared_hosts(&mut self) {
        let raw = self.raw;
        let global = self.ssh(&At::top("ssh"), raw.ssh.as_ref(), None);
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (name, host) in &raw.hosts {
            let at = At::top("hosts").key(name);
            if !is_host_name(name) {
                let help =
                    "a host's name has letters, digits, `.`, `_` and `-`, and begins with a letter or digit";
                self.faults.add_key(&at, format!("`{name}` cannot be the name of a host"), help.to_owned());
            } else if is_address(name) && *name != host.address {
                let help = format!("give it a plain name, or `address: {name}`");
                self.faults.add_key(&at, format!("host `{name}` is named like another address"), help);
            }
            self.address(&at.key("address"), &host.address);
            if let Some(first) = seen.insert(&host.address, name) {
                let help = format!("it is the address of `{first}`; one machine has one name").to_owned();
                self.faults.add(&at.key("address"), format!("`{}` stands twice", host.address), help);
            }
            let ssh = match &host.ssh {
                Some(own) => self.ssh(&at.key("ssh"), Some(own), Some(&global)),
                None => global.clone(),
            };
            let rack = host.rack.as_ref().map(|rack| rack.0.clone());
            if rack.as_deref().is_some_and(|rack| !is_host_name(rack)) {
                let help = "letters, digits, `.`, `_` and `-`".to_owned();
                self.faults.add(&at.key("rack"), "this cannot be the name of a rack", help);
            }
            let host = Host { name: name.clone(), address: host.address.clone(), rack, ssh };
            self.hosts.by_name.insert(name.clone(), host);
        }
    }

    /// The host's name behind an entry of a role; makes a host of a bare address.
    pub(super) fn member(&mut self, at: &At, text: &str) -> String {
        let name = text.to_owned();
        if self.raw.hosts.contains_key(text) {
            return name;
        }
        if let Some(declared) = self.raw.hosts.iter().find(|(_, host)| host.address == text) {
            let help = format!("write `{}`, so that its settings count", declared.0);
            self.faults.add(at, format!("`{text}` is the address of host `{}`", declared.0), help);
        } else if is_address(text) {
            if !self.hosts.by_name.contains_key(text) {
                let ssh = self.ssh(&At::default(), self.raw.ssh.as_ref(), None);
                let host = Host { name: name.clone(), address: name.clone(), rack: None, ssh };
                self.hosts.by_name.insert(name.clone(), host);
            }
        } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
            let help =
                format!("declare it: `hosts: {{k1: {{address: \"{text}\"}}}}`, and write the name here");
            self.faults.add(at, format!("the host at `{text}` needs a name"), help);
        } else if text.contains([':', '.']) {
            self.address(at, text);
        } else {
            let known: Vec<&str> = self.raw.hosts.keys().map(String::as_str).collect();
            let help = match nearest(text, known.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("declare it: `hosts: {{{text}: {{address: …}}}}`, or write its address"),
            };
            self.faults.add(at, format!("unknown host `{text}`"), help);
        }
        name
    }

    /// Members of a role: each host once.
    pub(super) fn once(&mut self, members: &[(At, String)], role: &str) {
        for (position, (at, host)) in members.iter().enumerate() {
            let first = members.iter().take(position).find(|(_, other)| other == host);
            if let Some((first, _)) = first {
                let line = self.faults.line(first);
                let help = format!("it is in line {line} already; remove one");
                self.faults.add(at, format!("`{host}` is twice in {role}"), help);
            }
        }
    }

    pub(super) fn address(&mut self, at: &At, text: &str) {
        if text.parse::<std::net::Ipv6Addr>().is_ok() {
            return;
        }
        if text.contains(':') {
            let help = "an address has no port; ports have keys of their own".to_owned();
            self.faults.add(at, format!("`{text}` is not an address"), help);
        } else if !is_address(text) && (text.contains('.') || !is_host_name(text)) {
            let help = "an IPv4 address or a DNS name".to_owned();
            self.faults.add(at, format!("`{text}` is not an address"), help);
        }
    }

    fn ssh(&mut self, at: &At, given: Option<&raw::Ssh>, over: Option<&Ssh>) -> Ssh {
        let none = raw::Ssh::default();
        let given = given.unwrap_or(&none);
        if given.port == Some(0) {
            self.faults.add(&at.key("port"), "a port is a number from 1 to 65535", None);
        }
        for (key, value) in [("user", &given.user), ("jump", &given.jump)] {
            if let Some(value) = value
                && (value.is_empty()
                    || value.starts_with('-')
                    || value.contains(|c: char| c.is_whitespace() || c.is_control()))
            {
                self.faults.add(&at.key(key), format!("ssh would not understand this as `{key}`"), None);
            }
        }
        let known_hosts = given.known_hosts.as_deref().map(|text| match text {
            "strict" => KnownHosts::Strict,
            "accept_new" => KnownHosts::AcceptNew,
            path if path.contains('/') => KnownHosts::File(self.beside(path)),
            other => {
                let words = ["strict", "accept_new"];
                let help = match nearest(other, words) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it is {}, or a path with a `/`", either(words)),
                };
                self.faults.add(&at.key("known_hosts"), format!("`known_hosts` cannot be `{other}`"), help);
                KnownHosts::Strict
            }
        });
        Ssh {
            user: given.user.clone().or_else(|| over.and_then(|ssh| ssh.user.clone())),
            become_root: given.r#become.or(over.map(|ssh| ssh.become_root)).unwrap_or(d::BECOME),
            port: given.port.or(over.and_then(|ssh| ssh.port)),
            identity_file: given
                .identity_file
                .as_ref()
                .map(|path| self.beside(path))
                .or_else(|| over.and_then(|ssh| ssh.identity_file.clone())),
            jump: given.jump.clone().or_else(|| over.and_then(|ssh| ssh.jump.clone())),
            known_hosts: known_hosts
                .or(over.map(|ssh| ssh.known_hosts.clone()))
                .unwrap_or(KnownHosts::Strict),
            sudo_password: secret(given.sudo_password.as_ref())
                .or_else(|| over.and_then(|ssh| ssh.sudo_password.clone())),
        }
    }

    /// A path on this machine: relative ones start at the inventory's folder, `~/` is left to ssh.
    pub(super) fn beside(&self, text: &str) -> PathBuf {
        match self.path.parent() {
            Some(folder) if !text.starts_with('~') => folder.join(text),
            _ => PathBuf::from(text),
        }
    }

    /// No port and no directory twice on one host.
    pub(super) fn ports_and_directories(&mut self) {
        let ports = std::mem::take(&mut self.hosts.ports);
        for (position, claim) in ports.iter().enumerate() {
            // A host that is twice in a role has been reported as such.
            let same = |other: &&Claim<u16>| {
                other.host == claim.host && other.what == claim.what && other.at != claim.at
            };
            let Some(first) = ports.iter().take(position).find(same) else { continue };
            let message = format!(
                "port {} of `{}` is wanted by {} and {}",
                claim.what, claim.host, first.service, claim.service
            );
            let help = "give one of them another port".to_owned();
            let at = self.faults.nearer(&first.at, &claim.at).clone();
            self.faults.add(&at, message, help);
        }
        let directories = std::mem::take(&mut self.hosts.directories);
        for (position, claim) in directories.iter().enumerate() {
            let same = |other: &&Claim<PathBuf>| {
                other.host == claim.host
                    && other.at != claim.at
                    && (other.what.starts_with(&claim.what) || claim.what.starts_with(&other.what))
            };
            let Some(first) = directories.iter().take(position).find(same) else { continue };
            let message = format!(
                "`{}` of {} and `{}` of {} are one inside the other on `{}`",
                claim.what.display(),
                claim.service,
                first.what.display(),
                first.service,
                claim.host
            );
            self.faults.add(&claim.at, message, "give each a directory of its own".to_owned());
        }
    }
}

/// Longest DNS name.
const HOST_NAME_LENGTH_MAX: usize = 253;

fn is_host_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && !text.ends_with('.')
        && !text.contains("..")
        && text.len() <= HOST_NAME_LENGTH_MAX
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// An IPv4 address, or a DNS name with a dot in it; a word alone is a name from `hosts`.
fn is_address(text: &str) -> bool {
    let Some((_, last)) = text.rsplit_once('.') else { return false };
    // No top-level domain begins with a digit: `10.0.0.1l` is a slip and no name.
    if last.starts_with(|c: char| c.is_ascii_digit()) {
        text.parse::<std::net::Ipv4Addr>().is_ok()
    } else {
        is_host_name(text)
    }
}
