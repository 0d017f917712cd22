//! Jump hosts. Of a way through them that ended ssh says no more than that it ended, so each is asked by itself.

use super::error::{Unreachable, why};
use super::ssh::CONNECT_TIMEOUT;
use crate::inventory::model::{Host, Ssh};
use openssh::SessionBuilder;
use std::path::Path;

/// Whether what ssh said is only that the way through jump hosts ended.
pub(super) fn ended(said: &str) -> bool {
    said.contains("UNKNOWN port 65535")
}

/// Why `host` was not reached through `jumps`, `user@host:port` and commas between them.
pub(super) async fn explain(host: &Host, jumps: &str, control: &Path) -> Unreachable {
    let hops: Vec<&str> = jumps.split(',').map(str::trim).collect();
    for (index, hop) in hops.iter().enumerate() {
        let (address, ssh) = parse(hop);
        let mut builder = SessionBuilder::default();
        builder
            .connect_timeout(CONNECT_TIMEOUT)
            .control_directory(control)
            .known_hosts_check(openssh::KnownHosts::Strict)
            .jump_hosts(hops.iter().take(index));
        if let Some(user) = &ssh.user {
            builder.user(user.clone());
        }
        if let Some(port) = ssh.port {
            builder.port(port);
        }
        match builder.connect_mux(address).await {
            Ok(session) => {
                if let Err(error) = session.close().await {
                    tracing::debug!(hop, %error, "ssh master of a jump host did not end cleanly");
                }
            }
            Err(error) => {
                let connect = if let openssh::Error::Connect(cause) = &error { Some(cause) } else { None };
                let said = connect.map_or_else(|| error.to_string(), ToString::to_string);
                let why = Box::new(why(&ssh, address, &said));
                return Unreachable::Jump { jump: (*hop).to_owned(), why };
            }
        }
    }
    let (address, port) = (host.address.clone(), host.ssh.port.unwrap_or(22));
    Unreachable::Behind { jump: jumps.to_owned(), address, port }
}

/// The address of `user@host:port`, and how it is reached. All else comes from `~/.ssh/config`, as in ssh.
fn parse(hop: &str) -> (&str, Ssh) {
    let (user, rest) = hop.rsplit_once('@').map_or((None, hop), |(user, rest)| (Some(user), rest));
    let bracketed = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (address, port) = match (bracketed, rest.split_once(':')) {
        (Some((address, port)), _) => (address, port.strip_prefix(':')),
        // More colons are an IPv6 address.
        (None, Some((address, port))) if !port.contains(':') => (address, Some(port)),
        (None, _) => (rest, None),
    };
    let ssh = Ssh {
        user: user.map(str::to_owned),
        become_root: false,
        port: port.and_then(|port| port.parse().ok()),
        ..Ssh::default()
    };
    (address, ssh)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_hosts_in_all_their_spellings() {
        for (hop, address, user, port) in [
            ("bastion", "bastion", None, None),
            ("deploy@bastion:2222", "bastion", Some("deploy"), Some(2222)),
            ("deploy@[fd00::1]:2222", "fd00::1", Some("deploy"), Some(2222)),
            ("[fd00::1]", "fd00::1", None, None),
            ("fd00::1", "fd00::1", None, None),
        ] {
            let (found, ssh) = parse(hop);
            assert_eq!((found, ssh.user.as_deref(), ssh.port), (address, user, port), "{hop}");
        }
    }

    #[test]
    fn only_the_end_of_the_way_is_looked_into() {
        assert!(ended(
            "kex_exchange_identification: Connection closed by remote host\r\nConnection closed by UNKNOWN port 65535"
        ));
        assert!(!ended("deploy@10.0.0.11: Permission denied (publickey)."));
    }
}
