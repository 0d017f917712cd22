//! Checks of the machine: system, rights, clock, library, Java, ports.

use super::{Outcome, Subject};
use crate::inventory::model::Java;
use crate::service::Role;

/// Those that aesop is made for.
const SYSTEMS: [&str; 4] = ["debian 12", "debian 13", "ubuntu 22.04", "ubuntu 24.04"];
/// Lag in seconds, and times in mails, are wrong by this much.
const CLOCK_WARNING_SECS: i64 = 5;
/// Certificates that were just made are not valid yet, sessions end early.
const CLOCK_ERROR_SECS: i64 = 60;
/// Kafka 4 and what its clients are compiled for.
const KAFKA_4_JAVA: u32 = 17;
/// Kafka 3.9 and ZooKeeper 3.9.
const OLD_JAVA: u32 = 11;

pub(super) fn os(subject: &Subject<'_>) -> Outcome {
    let os = subject.facts.os.trim();
    if os.is_empty() {
        return Outcome::Unknown;
    }
    if SYSTEMS.contains(&os) {
        return Outcome::Passed;
    }
    let made_for = "aesop is made for Debian 12 and 13, Ubuntu 22.04 and 24.04";
    if os.starts_with("debian") || os.starts_with("ubuntu") {
        return Outcome::warning(format!("it runs {os}"), format!("{made_for}; others may work"));
    }
    Outcome::error(format!("it runs {os}"), format!("{made_for}; install one of these"))
}

pub(super) fn architecture(subject: &Subject<'_>) -> Outcome {
    let Some(theirs) = subject.facts.machine.uname.split_whitespace().last() else {
        return Outcome::Unknown;
    };
    let ours = std::env::consts::ARCH;
    if theirs == ours {
        return Outcome::Passed;
    }
    let remedy = format!("build aesop on a machine that is {theirs}, and run it from there for such hosts");
    Outcome::error(format!("it is {theirs}, and the binaries that aesop would send are {ours}"), remedy)
}

pub(super) fn systemd(subject: &Subject<'_>) -> Outcome {
    let machine = &subject.facts.machine;
    match (machine.systemd, machine.uid) {
        (Some(true), _) => Outcome::Passed,
        (None, None) => Outcome::Unknown,
        (Some(false) | None, _) => Outcome::error(
            "systemd is not its first process",
            "services run as systemd units: boot the host with systemd (a plain container has none)",
        ),
    }
}

pub(super) fn root(subject: &Subject<'_>) -> Outcome {
    match subject.facts.machine.uid {
        None => Outcome::Unknown,
        Some(0) => Outcome::Passed,
        Some(uid) => Outcome::error(
            format!("commands run there as uid {uid}, not as root"),
            "set `ssh.become: true` (sudo), or `ssh.user: root`",
        ),
    }
}

pub(super) fn glibc(subject: &Subject<'_>) -> Outcome {
    let theirs = subject.facts.machine.glibc.as_deref().and_then(version);
    let (Some(theirs), Some(needed)) = (theirs, subject.glibc) else { return Outcome::Unknown };
    if theirs >= needed {
        return Outcome::Passed;
    }
    Outcome::error(
        format!(
            "its C library is glibc {}.{}, and aesop's binaries need {}.{}",
            theirs.0, theirs.1, needed.0, needed.1
        ),
        "build aesop on the oldest system among your hosts (`make build` there), or upgrade the host",
    )
}

/// `2.36` as numbers; what follows a second dot is a distribution's business.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

pub(super) fn clock(subject: &Subject<'_>) -> Outcome {
    let Some(offset) = subject.facts.machine.clock_offset_secs else { return Outcome::Unknown };
    let off = offset - subject.clock;
    let size = off.abs();
    if size < CLOCK_WARNING_SECS {
        return Outcome::Passed;
    }
    let way = if off > 0 { "ahead of" } else { "behind" };
    let problem = format!("its clock is {size} s {way} that of the other hosts and this machine");
    let remedy =
        "install a time service (`apt-get install systemd-timesyncd` or chrony) and look at `timedatectl`";
    if size < CLOCK_ERROR_SECS { Outcome::warning(problem, remedy) } else { Outcome::error(problem, remedy) }
}

pub(super) fn packages(subject: &Subject<'_>) -> Outcome {
    let Some(holder) = &subject.facts.machine.dpkg_lock else { return Outcome::Passed };
    let parts = subject.state.parts.iter();
    let missing: Vec<&str> = parts
        .flat_map(|part| &part.packages)
        .filter(|package| !subject.facts.stats.contains_key(&package.unless))
        .map(|package| package.on(&subject.facts.os))
        .filter(|name| !subject.facts.packages.contains_key(*name))
        .collect();
    if missing.is_empty() {
        return Outcome::Passed;
    }
    Outcome::warning(
        format!("{holder} holds the package manager's lock, and {} must be installed", missing.join(", ")),
        "apply waits two minutes for it; let it end first",
    )
}

pub(super) fn java(subject: &Subject<'_>) -> Outcome {
    let Some(java) = &subject.state.java else { return Outcome::Passed };
    let needed = needed_java(subject);
    let change = format!(
        "name a package with Java {needed} or newer: `java: {{package: openjdk-{needed}-jre-headless}}`"
    );
    if let Some(found) = &subject.facts.machine.java {
        let Some(major) = major(&found.version) else { return Outcome::Unknown };
        if major >= needed {
            return Outcome::Passed;
        }
        let problem =
            format!("{} is Java {}, and its services need Java {needed}", found.path, found.version);
        return Outcome::error(
            problem,
            format!("{change} and make it the default (`update-alternatives --config java`)"),
        );
    }
    match &subject.inventory.java {
        Java::Home(_) if subject.facts.machine.uid.is_some() => Outcome::error(
            format!("{java} is not there"),
            "correct `java.home`, or leave `java` out and aesop installs the distribution's",
        ),
        Java::Package(_) | Java::Home(_) => Outcome::Passed,
    }
}

fn needed_java(subject: &Subject<'_>) -> u32 {
    let kafka = subject.state.parts.iter().any(|part| part.role == Role::Kafka);
    let version = subject.inventory.kafka.as_ref().filter(|_| kafka).map(|role| role.version.as_str());
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major >= 4) { KAFKA_4_JAVA } else { OLD_JAVA }
}

/// 17 of `17.0.15`, 8 of `1.8.0_392`.
fn major(version: &str) -> Option<u32> {
    let mut parts = version.split(['.', '_', '-', '+']).map(str::parse);
    match (parts.next()?.ok()?, parts.next()) {
        (1, Some(Ok(second))) => Some(second),
        (first, _) => Some(first),
    }
}

pub(super) fn ports(subject: &Subject<'_>) -> Outcome {
    for part in &subject.state.parts {
        let ours = part.units.first().and_then(|unit| subject.facts.units.get(&unit.name));
        // What our own running unit listens on is as it should be.
        if ours.is_some_and(|unit| unit.active != "inactive" && unit.active != "failed") {
            continue;
        }
        for port in &part.ports {
            let Some(who) = subject.facts.machine.listens.get(port) else { continue };
            let who = if who.is_empty() { "another program" } else { who };
            return Outcome::error(
                format!("port {port}, which {} wants, is taken by {who}", part.service),
                format!(
                    "stop {who} on {}, or give {} another port in the inventory",
                    subject.host, part.service
                ),
            );
        }
    }
    Outcome::Passed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_java_in_all_their_spellings() {
        for (text, want) in [("17.0.15", 17), ("1.8.0_392", 8), ("21", 21), ("25-ea", 25)] {
            assert_eq!(major(text), Some(want), "{text}");
        }
        assert_eq!(major(""), None);
        assert!(version("2.36") > version("2.9") && version("3.0") > version("2.41"));
    }
}
