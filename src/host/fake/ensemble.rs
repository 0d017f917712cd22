//! ZooKeeper's ensemble in memory: who has a vote, who runs, who has the data; and what must never happen to it.

use crate::ensemble::members::{Server, parse};
use crate::plan::EnsembleFact;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub(super) use crate::service::ZOOKEEPER_UNIT as UNIT;
/// Fewer members than this have no majority while one restarts.
const MAJORITY: usize = 3;

/// What the servers of one test have agreed on.
#[derive(Debug, Default)]
pub(super) struct Ensemble {
    /// Those with a vote; none before a majority of the first members ran.
    voters: Option<BTreeMap<u32, Server>>,
    version: u64,
    /// Servers that run, by host.
    running: BTreeMap<String, u32>,
    /// Servers that have started before there was a quorum.
    founders: BTreeSet<u32>,
    /// Hosts that have what was acknowledged.
    data: BTreeSet<String>,
    /// Servers on whose acknowledgement the others count.
    acknowledged: BTreeSet<u32>,
    /// What broke a promise.
    pub(super) broken: Vec<String>,
}

impl Ensemble {
    /// What happened to hosts behind our back: `hosts` run, or at least have their disk.
    pub(super) fn meet(&mut self, running: BTreeMap<String, u32>, disks: &BTreeSet<String>) {
        self.running = running;
        self.data.retain(|host| disks.contains(host));
    }

    fn quorum(&self) -> bool {
        let Some(voters) = &self.voters else { return false };
        let serves = |id: &&u32| self.running.iter().any(|(host, of)| of == *id && self.data.contains(host));
        voters.keys().filter(serves).count() * 2 > voters.len()
    }

    /// What a server that runs has heard.
    pub(super) fn heard(&self, host: &str) -> Option<EnsembleFact> {
        let voters = self.voters.as_ref().filter(|_| self.running.contains_key(host))?;
        let mut members = String::new();
        for (id, server) in voters {
            let _infallible = writeln!(members, "server.{id}={server}");
        }
        Some(EnsembleFact { version: self.version, members, id: None })
    }

    /// What `aesop turn` says of another member; nothing of the host's own.
    pub(super) fn rank(&self, args: &[String]) -> String {
        let member = args.iter().skip_while(|arg| *arg != "--member").nth(1).and_then(|id| id.parse().ok());
        member.map_or_else(String::new, |id: u32| {
            let serves = self.running.iter().any(|(host, of)| *of == id && self.data.contains(host));
            u8::from(serves).to_string()
        })
    }

    pub(super) fn start(&mut self, host: &str, id: u32, known: &EnsembleFact) {
        self.running.insert(host.to_owned(), id);
        let servers = parse(&known.members);
        let votes = servers.get(&id).is_some_and(|server| server.votes);
        match &self.voters {
            None if votes => {
                self.founders.insert(id);
                let here = servers.keys().filter(|id| self.founders.contains(id)).count();
                if here * 2 > servers.len() {
                    self.voters = Some(servers);
                    self.version = 1;
                    let founders = self.running.iter().filter(|(_, id)| self.founders.contains(id));
                    self.data.extend(founders.map(|(host, _)| host.clone()));
                    self.acknowledged.extend(&self.founders);
                }
            }
            Some(voters) if voters.len() == 1 && votes && voters.keys().eq(servers.keys()) => {
                // Alone, with the place that its own file says.
                self.version += u64::from(*voters != servers);
                self.voters = Some(servers);
            }
            Some(voters) if voters.contains_key(&id) => {
                if self.acknowledged.contains(&id) && !self.data.contains(host) {
                    self.broken.push(format!("server.{id} of {host} votes, and has lost its data"));
                }
                self.data.insert(host.to_owned());
                self.acknowledged.insert(id);
            }
            Some(_) if votes && known.version == 0 => {
                self.broken.push(format!("server.{id} of {host} takes itself for a member"));
            }
            Some(_) if self.quorum() => drop(self.data.insert(host.to_owned())),
            Some(_) | None => {}
        }
    }

    pub(super) fn stop(&mut self, host: &str) {
        let before = self.quorum();
        self.running.remove(host);
        let few = self.voters.as_ref().is_none_or(|voters| voters.len() < MAJORITY);
        if before && !few && !self.quorum() {
            self.broken.push(format!("the quorum broke when the server of {host} stopped"));
        }
    }

    /// Its data is moved away.
    pub(super) fn set_aside(&mut self, host: &str) {
        self.data.remove(host);
    }

    pub(super) fn join(&mut self, host: &str, server: &str) -> Result<(), String> {
        let (id, server) = server.split_once('=').ok_or("no server")?;
        let id = id.parse().map_err(|_| "no id")?;
        let server = Server::parse(server).ok_or("no server")?;
        if self.running.get(host) != Some(&id) || !self.data.contains(host) {
            return Err(format!("server.{id} has not caught up"));
        }
        self.reconfigure(|voters| drop(voters.insert(id, server)))?;
        self.acknowledged.insert(id);
        Ok(())
    }

    pub(super) fn leave(&mut self, id: &str) -> Result<(), String> {
        let id = id.parse().map_err(|_| "no id")?;
        self.reconfigure(|voters| drop(voters.remove(&id)))?;
        self.acknowledged.remove(&id);
        Ok(())
    }

    /// Only with a quorum of the old members and of the new.
    fn reconfigure(&mut self, change: impl FnOnce(&mut BTreeMap<u32, Server>)) -> Result<(), String> {
        if !self.quorum() {
            return Err("there is no quorum".to_owned());
        }
        let before = self.voters.clone();
        change(self.voters.get_or_insert_default());
        if !self.quorum() {
            self.voters = before;
            return Err("the new members have no quorum".to_owned());
        }
        self.version += 1;
        Ok(())
    }
}
