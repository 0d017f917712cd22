//! The ssh client's own configuration: what `~/.ssh/config` makes of a name.

use super::HostError;
use crate::inventory::model::{Host, Ssh};
use std::path::PathBuf;
use tokio::process::Command;

/// A host as the ssh client would reach it by `destination`, a name, an alias or an address, with `user@` before it or
/// not. Its name is the destination.
pub async fn resolve(destination: &str) -> Result<Host, HostError> {
    let failed = |detail: String| HostError::Local {
        host: destination.to_owned(),
        what: "ask the ssh client about it (ssh -G)".to_owned(),
        detail,
    };
    let output = Command::new("ssh")
        .args(["-G", "--", destination])
        .output()
        .await
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        return Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    Ok(read(destination, &String::from_utf8_lossy(&output.stdout)))
}

fn read(destination: &str, said: &str) -> Host {
    let values = |key: &str| {
        let lines = said.lines().filter_map(|line| line.split_once(' '));
        lines.filter(|(found, _)| *found == key).map(|(_, value)| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let value = |key: &str| values(key).pop();
    // Where none is configured it names all that it would try.
    let identity_file = match values("identityfile").as_slice() {
        [only] => Some(PathBuf::from(only)),
        _ => None,
    };
    let name = destination.rsplit_once('@').map_or(destination, |(_, host)| host).to_owned();
    let user = value("user");
    Host {
        address: value("hostname").unwrap_or_else(|| name.clone()),
        name,
        rack: None,
        ssh: Ssh {
            become_root: user.as_deref() != Some("root"),
            user,
            port: value("port").and_then(|port| port.parse().ok()).filter(|port| *port != 22),
            identity_file,
            jump: value("proxyjump").filter(|jump| jump != "none"),
            ..Ssh::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_configured_is_taken() {
        let bare = "host k1\nuser deploy\nhostname 10.0.0.11\nport 22\nidentityfile ~/.ssh/id_rsa\nidentityfile ~/.ssh/id_ed25519\n";
        let host = read("deploy@k1", bare);
        assert_eq!((host.name.as_str(), host.address.as_str()), ("k1", "10.0.0.11"));
        let Ssh { user, port, identity_file, jump, become_root, .. } = host.ssh;
        assert_eq!((user.as_deref(), port, identity_file, jump), (Some("deploy"), None, None, None));
        assert!(become_root);
        let all =
            "user root\nhostname k1.example.com\nport 2222\nidentityfile ~/.ssh/k1\nproxyjump me@bastion\n";
        let Ssh { port, identity_file, jump, become_root, .. } = read("k1", all).ssh;
        assert_eq!((port, identity_file), (Some(2222), Some("~/.ssh/k1".into())));
        assert_eq!(jump.as_deref(), Some("me@bastion"));
        assert!(!become_root, "root needs no sudo");
    }
}
