//! What can go wrong between us and a host, each with its remedy.

use crate::inventory::model::{Host, KnownHosts, Ssh};
use std::time::Duration;

/// A host could not do what was asked, or was not reached.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum HostError {
    /// No session.
    #[error("{host} ({address}): {why}")]
    Unreachable {
        /// Name in the inventory.
        host: String,
        /// Where it was looked for.
        address: String,
        /// Why.
        why: Unreachable,
    },
    /// The connection broke in the middle.
    #[error("{host}: the connection ended while a command was running; run the same command again")]
    Lost {
        /// Name in the inventory.
        host: String,
    },
    /// A time limit.
    #[error(
        "{host}: no answer within {} s; look at its load and its disks (`aesop exec --on {host} -- uptime`), then run the same command again",
        limit.as_secs()
    )]
    TimedOut {
        /// Name in the inventory.
        host: String,
        /// The limit.
        limit: Duration,
    },
    /// sudo did not let us.
    #[error(
        "{host}: {detail}; give the user sudo without a password (`{user} ALL=(ALL) NOPASSWD: ALL`) or set `ssh.sudo_password`"
    )]
    NoSudo {
        /// Name in the inventory.
        host: String,
        /// The user.
        user: String,
        /// What sudo said.
        detail: String,
    },
    /// A command that should succeed did not.
    #[error("{host}: {what} failed: {detail}")]
    Failed {
        /// Name in the inventory.
        host: String,
        /// What was done.
        what: String,
        /// What it said.
        detail: String,
    },
    /// An answer that makes no sense.
    #[error("{host}: unexpected answer: {detail}; does the login shell of the user print something?")]
    Protocol {
        /// Name in the inventory.
        host: String,
        /// What was wrong.
        detail: String,
    },
    /// A local problem: no ssh client, an artifact that went away.
    #[error("{host}: {what}: {detail}")]
    Local {
        /// Name in the inventory.
        host: String,
        /// What was done.
        what: String,
        /// Why it failed.
        detail: String,
    },
}

impl HostError {
    /// The host was never reached, so nothing was changed on it.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

/// Why there is no session.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unreachable {
    /// No such name.
    #[error("the name does not resolve; correct `address` in the inventory")]
    Name,
    /// No answer.
    #[error("no answer ({0}); is the host up, and may this machine reach it?")]
    NoAnswer(String),
    /// Nothing listens.
    #[error("connection refused; is sshd running there, on port {0}?")]
    Refused(u16),
    /// Never seen before.
    #[error(
        "its host key is unknown; compare it with the host's own (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there), then add it: ssh-keyscan -p {port} {address} >> {file}"
    )]
    KeyUnknown {
        /// SSH port.
        port: u16,
        /// Address.
        address: String,
        /// The known-hosts file.
        file: String,
    },
    /// Not the one we know.
    #[error(
        "its host key has CHANGED: another machine answers, or the host was installed anew; once you know which, remove the old key: ssh-keygen -f {file} -R '{address}'"
    )]
    KeyChanged {
        /// Address as `known_hosts` writes it.
        address: String,
        /// The known-hosts file.
        file: String,
    },
    /// Not let in.
    #[error(
        "user {user} was not let in ({detail}); add a public key to its ~/.ssh/authorized_keys, or set `ssh.user` and `ssh.identity_file`"
    )]
    Denied {
        /// The user.
        user: String,
        /// What sshd would have taken.
        detail: String,
    },
    /// The jump host, or one of several.
    #[error("its jump host {jump}: {why} (settings of jump hosts come from ~/.ssh/config)")]
    Jump {
        /// The jump host, as the inventory has it.
        jump: String,
        /// Why.
        why: Box<Unreachable>,
    },
    /// From a jump host there is no way on.
    #[error(
        "its jump host {jump} lets us in, and no connection from there to {address} port {port} comes about; is the host up, and may the jump host reach it (`AllowTcpForwarding` in its sshd)?"
    )]
    Behind {
        /// The jump host, as the inventory has it.
        jump: String,
        /// Address.
        address: String,
        /// SSH port.
        port: u16,
    },
    /// Anything else that ssh says.
    #[error("ssh: {said}; do the same by hand to see more: ssh -v {by_hand} true")]
    Other {
        /// The last line.
        said: String,
        /// Arguments of ssh.
        by_hand: String,
    },
}

/// Reads what the ssh client said about a failed connection.
pub(super) fn classify(host: &Host, said: &str) -> HostError {
    unreachable(host, why(&host.ssh, &host.address, said))
}

pub(super) fn unreachable(host: &Host, why: Unreachable) -> HostError {
    HostError::Unreachable { host: host.name.clone(), address: host.address.clone(), why }
}

/// The same for any address.
pub(super) fn why(ssh: &Ssh, address: &str, said: &str) -> Unreachable {
    let port = ssh.port.unwrap_or(22);
    let file = match &ssh.known_hosts {
        KnownHosts::File(path) => path.display().to_string(),
        KnownHosts::Strict | KnownHosts::AcceptNew => "~/.ssh/known_hosts".to_owned(),
    };
    let address = address.to_owned();
    let last = said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("no message").to_owned();
    if said.contains("IDENTIFICATION HAS CHANGED") {
        let address = if port == 22 { address } else { format!("[{address}]:{port}") };
        Unreachable::KeyChanged { address, file }
    } else if said.contains("Host key verification failed") {
        Unreachable::KeyUnknown { port, address, file }
    } else if said.contains("Could not resolve") {
        Unreachable::Name
    } else if said.contains("Connection refused") {
        Unreachable::Refused(port)
    } else if said.contains("Permission denied (") || said.contains("Too many authentication failures") {
        Unreachable::Denied { user: ssh.user.clone().unwrap_or_else(|| "(yours)".to_owned()), detail: last }
    } else if said.contains("timed out") || said.contains("No route to host") || said.contains("unreachable")
    {
        Unreachable::NoAnswer(last)
    } else {
        let port = ssh.port.map(|port| format!("-p {port} ")).unwrap_or_default();
        let user = ssh.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
        Unreachable::Other { said: last, by_hand: format!("{port}{user}{address}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn host() -> Host {
        Host {
            name: "k1".into(),
            address: "10.0.0.11".into(),
            rack: None,
            ssh: Ssh { user: Some("deploy".into()), port: Some(2222), ..Ssh::default() },
        }
    }

    fn check(said: &str, want: &Expect) {
        want.assert_eq(&classify(&host(), said).to_string());
    }

    #[test]
    fn a_jump_host_is_told_as_itself() {
        let check = |why, want: Expect| want.assert_eq(&unreachable(&host(), why).to_string());
        let ssh = Ssh { port: None, ..host().ssh };
        let said = "No ED25519 host key is known for 10.0.0.2 and you have requested strict checking.\r\nHost key verification failed.";
        let jump = "deploy@10.0.0.2".to_owned();
        check(
            Unreachable::Jump { jump: jump.clone(), why: Box::new(why(&ssh, "10.0.0.2", said)) },
            expect![
                "k1 (10.0.0.11): its jump host deploy@10.0.0.2: its host key is unknown; compare it with the host's own (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there), then add it: ssh-keyscan -p 22 10.0.0.2 >> ~/.ssh/known_hosts (settings of jump hosts come from ~/.ssh/config)"
            ],
        );
        check(
            Unreachable::Behind { jump, address: "10.0.0.11".to_owned(), port: 2222 },
            expect![
                "k1 (10.0.0.11): its jump host deploy@10.0.0.2 lets us in, and no connection from there to 10.0.0.11 port 2222 comes about; is the host up, and may the jump host reach it (`AllowTcpForwarding` in its sshd)?"
            ],
        );
    }

    #[test]
    fn each_failure_has_its_remedy() {
        check(
            "connect to host 10.0.0.11 port 22: Connection refused",
            &expect!["k1 (10.0.0.11): connection refused; is sshd running there, on port 2222?"],
        );
        check(
            "connect to host 10.0.0.11 port 22: No route to host",
            &expect![
                "k1 (10.0.0.11): no answer (connect to host 10.0.0.11 port 22: No route to host); is the host up, and may this machine reach it?"
            ],
        );
        check(
            "No ED25519 host key is known for 10.0.0.11 and you have requested strict checking.\r\nHost key verification failed.",
            &expect![
                "k1 (10.0.0.11): its host key is unknown; compare it with the host's own (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` there), then add it: ssh-keyscan -p 2222 10.0.0.11 >> ~/.ssh/known_hosts"
            ],
        );
        check(
            "@@@\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n@@@\nHost key verification failed.",
            &expect![
                "k1 (10.0.0.11): its host key has CHANGED: another machine answers, or the host was installed anew; once you know which, remove the old key: ssh-keygen -f ~/.ssh/known_hosts -R '[10.0.0.11]:2222'"
            ],
        );
        check(
            "deploy@10.0.0.11: Permission denied (publickey).",
            &expect![
                "k1 (10.0.0.11): user deploy was not let in (deploy@10.0.0.11: Permission denied (publickey).); add a public key to its ~/.ssh/authorized_keys, or set `ssh.user` and `ssh.identity_file`"
            ],
        );
        check(
            "Could not resolve hostname k1: Name or service not known",
            &expect!["k1 (10.0.0.11): the name does not resolve; correct `address` in the inventory"],
        );
        check(
            "kex_exchange_identification: read: Connection reset by peer",
            &expect![
                "k1 (10.0.0.11): ssh: kex_exchange_identification: read: Connection reset by peer; do the same by hand to see more: ssh -v -p 2222 deploy@10.0.0.11 true"
            ],
        );
        let late = HostError::TimedOut { host: "k1".to_owned(), limit: Duration::from_mins(1) };
        expect!["k1: no answer within 60 s; look at its load and its disks (`aesop exec --on k1 -- uptime`), then run the same command again"].assert_eq(&late.to_string());
    }
}
