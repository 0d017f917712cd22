//! Asks hosts what they are, before there is an inventory.

use crate::host::ssh::SshConnect;
use crate::host::{Call, Command, Connect, HostError, client};
use crate::inventory::model::Host;
use crate::plan::{HostFacts, parse};
use futures_util::StreamExt;
use std::time::Duration;

/// Only what every host says of itself is asked.
const LIMIT: Duration = Duration::from_secs(30);
const KIB_PER_GIB: f64 = 1024.0 * 1024.0;

/// A host, and what was found out about it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) host: Host,
    /// `debian 12, 4.0 GiB of memory`, or why that is not known.
    pub(super) words: Result<String, String>,
}

/// Asks all of them, some at once; in the order given.
pub(super) async fn all(destinations: &[String], parallel: usize) -> anyhow::Result<Vec<Found>> {
    let asked = destinations.iter().map(|destination| async move {
        let host = client::resolve(destination).await?;
        Ok(found(host).await)
    });
    let found: Vec<Result<Found, HostError>> =
        futures_util::stream::iter(asked).buffered(parallel.max(1)).collect().await;
    Ok(found.into_iter().collect::<Result<_, _>>()?)
}

async fn found(mut host: Host) -> Found {
    let (mut answer, mut sudo) = (facts(&host).await, None);
    if let Err(HostError::NoSudo { detail, .. }) = &answer {
        sudo = Some(detail.clone());
        let mut plain = host.clone();
        plain.ssh.become_root = false;
        answer = facts(&plain).await;
    }
    let words = match answer {
        Ok(facts) => {
            if let Some(name) = own_name(&facts).filter(|_| host.name == host.address) {
                host.name = name;
            }
            Ok(words(&facts, sudo.as_deref()))
        }
        Err(error) => Err(error.to_string()),
    };
    Found { host, words }
}

async fn facts(host: &Host) -> Result<HostFacts, HostError> {
    let connection = SshConnect::default().connect(host).await?;
    let call = Call { command: Command::Observe(String::new()), timeout: LIMIT };
    let output = connection.call(call, &|_| ()).await;
    connection.close().await;
    parse(&String::from_utf8_lossy(&output?.stdout))
        .map_err(|detail| HostError::Protocol { host: host.name.clone(), detail })
}

/// What it calls itself, without its domain.
fn own_name(facts: &HostFacts) -> Option<String> {
    let name = facts.machine.uname.split([' ', '.']).next()?.to_owned();
    let sound = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    (sound && name.starts_with(|c: char| c.is_ascii_lowercase()) && name != "localhost").then_some(name)
}

fn words(facts: &HostFacts, sudo: Option<&str>) -> String {
    let mut words = vec![facts.os.clone()];
    if let Some(kib) = facts.machine.memory_kib.and_then(|kib| u32::try_from(kib).ok()) {
        words.push(format!("{:.1} GiB of memory", f64::from(kib) / KIB_PER_GIB));
    }
    words.extend(sudo.map(|why| format!("{why} (`ssh.sudo_password`)")));
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_called_what_it_calls_itself() {
        for (uname, name) in [
            ("k1 6.1 x86_64", Some("k1")),
            ("k1.example.com 6.1 x", Some("k1")),
            ("localhost 6.1 x", None),
            ("K1 6 x", None),
        ] {
            let mut facts = HostFacts::default();
            facts.machine.uname = uname.to_owned();
            assert_eq!(own_name(&facts).as_deref(), name);
        }
    }

    #[test]
    fn what_is_found_out_is_told_in_one_line() {
        let mut facts = HostFacts { os: "debian 12".to_owned(), ..HostFacts::default() };
        facts.machine.memory_kib = Some(4_194_304);
        assert_eq!(words(&facts, None), "debian 12, 4.0 GiB of memory");
        assert_eq!(
            words(&facts, Some("sudo: a password is required")),
            "debian 12, 4.0 GiB of memory, sudo: a password is required (`ssh.sudo_password`)"
        );
    }
}
