//! The members as ZooKeeper keeps them, one `server.N=…` line each, in its dynamic file and in its
//! configuration node (ZooKeeper's administrator's guide, "Dynamic Reconfiguration"). Pure.

use std::collections::BTreeMap;
use std::fmt;

/// A member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Host.
    pub host: String,
    /// Port for followers.
    pub peer_port: u16,
    /// Port for elections.
    pub election_port: u16,
    /// It has a vote.
    pub votes: bool,
    /// Port for clients.
    pub client_port: u16,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = if self.votes { "participant" } else { "observer" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{host}:{}:{}:{role};{}", self.peer_port, self.election_port, self.client_port)
    }
}

impl Server {
    /// Reads `host:2888:3888[:role];[address:]2181`.
    pub fn parse(text: &str) -> Option<Self> {
        let (server, client) = text.trim().split_once(';')?;
        let client_port = client.rsplit(':').next()?.parse().ok()?;
        let (host, rest) = match server.strip_prefix('[') {
            Some(rest) => rest.split_once("]:")?,
            None => server.split_once(':')?,
        };
        let mut fields = rest.split(':');
        Some(Self {
            host: host.to_owned(),
            peer_port: fields.next()?.parse().ok()?,
            election_port: fields.next()?.parse().ok()?,
            votes: fields.next() != Some("observer"),
            client_port,
        })
    }

    /// Both are at the same address, on the same ports.
    pub fn same_place(&self, other: &Self) -> bool {
        let place = |server: &Self| Self { votes: true, ..server.clone() };
        place(self) == place(other)
    }

    /// Where clients, and four-letter words, reach it.
    pub fn client(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.client_port)
        } else {
            format!("{}:{}", self.host, self.client_port)
        }
    }
}

/// The configuration's version, which the name of its file ends with; 0 before there ever was a quorum.
pub fn version_of(file: &str) -> u64 {
    let number = file.rsplit_once("dynamic.").map(|(_, number)| number);
    number.and_then(|number| u64::from_str_radix(number, 16).ok()).unwrap_or(0)
}

/// The version in the text of ZooKeeper's configuration node.
pub fn version(text: &str) -> Option<i64> {
    let version = text.lines().find_map(|line| line.trim().strip_prefix("version="))?;
    i64::from_str_radix(version, 16).ok()
}

/// All members of a dynamic file, by `myid`; lines that are none are passed over.
pub fn parse(text: &str) -> BTreeMap<u32, Server> {
    text.lines()
        .filter_map(|line| {
            let (id, server) = line.trim().strip_prefix("server.")?.split_once('=')?;
            Some((id.parse().ok()?, Server::parse(server)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_as_zookeeper_writes_them() {
        let text = "server.1=10.0.0.1:2888:3888:participant;0.0.0.0:2181\n\
                    server.12=[fd00::2]:2888:3888:observer;2181\n\
                    server.3=zk3:1:2;3\nversion=100000000\n";
        let members = parse(text);
        let lines: Vec<String> = members.iter().map(|(id, server)| format!("{id} {server}")).collect();
        assert_eq!(
            lines,
            [
                "1 10.0.0.1:2888:3888:participant;2181",
                "3 zk3:1:2:participant;3",
                "12 [fd00::2]:2888:3888:observer;2181"
            ]
        );
        assert_eq!(members[&12].client(), "[fd00::2]:2181");
        assert_eq!(version(text), Some(0x1_0000_0000));
        assert_eq!(version_of("zoo.cfg.dynamic.10000000a"), 0x1_0000_000a);
        assert_eq!(version_of("zoo.cfg.dynamic"), 0);
    }
}
