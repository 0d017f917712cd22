//! Checks of memory and disks.

use super::{Outcome, Subject};
use crate::inventory::model::KafkaRole;
use crate::service::{Role, paths};
use std::collections::BTreeMap;

const KIB_PER_MIB: u64 = 1024;
/// Below this nothing can be written that is worth it: not even the artifacts fit.
const DISK_ERROR_MIB: u64 = 200;
/// Below this data directories are full within days.
const DISK_WARNING_MIB: u64 = 1024;
/// What a JVM takes beside its heap: metaspace, threads, code, buffers.
const JVM_BESIDE_MIB: u64 = 192;
/// Where no heap is given it comes from the host's memory, but less than this makes no service.
const KAFKA_HEAP_MIB: u64 = 512;
const ZOOKEEPER_HEAP_MIB: u64 = 128;
/// A program of ours with its queues.
const PROGRAM_MIB: u64 = 96;
/// The system itself.
const SYSTEM_MIB: u64 = 256;
/// Of the memory; what is left keeps the page cache, which Kafka lives on.
const MEMORY_WARNING_PERCENT: u64 = 85;
const MIB: u64 = 1 << 20;

pub(super) fn memory(subject: &Subject<'_>) -> Outcome {
    let Some(kib) = subject.facts.machine.memory_kib else { return Outcome::Unknown };
    let have = kib / KIB_PER_MIB;
    let mut needed = SYSTEM_MIB;
    let mut words = Vec::new();
    for part in &subject.state.parts {
        let mib = need(subject, part.role);
        if mib > 0 {
            words.push(format!("{} {mib}", part.service));
        }
        needed += mib;
    }
    let problem = format!(
        "it has {have} MiB of memory, and what runs there needs about {needed} MiB ({})",
        words.join(", ")
    );
    let remedy = "give it more memory, set smaller `heap`s, or move a role to another host";
    if have < needed {
        Outcome::error(problem, remedy)
    } else if needed * 100 > have * MEMORY_WARNING_PERCENT {
        Outcome::warning(problem, remedy)
    } else {
        Outcome::Passed
    }
}

/// In MiB.
fn need(subject: &Subject<'_>, role: Role) -> u64 {
    let inventory = subject.inventory;
    let heap = |mut members: Vec<&crate::inventory::model::Member>, least: u64| {
        members.retain(|member| member.host == subject.host);
        let member = members.first();
        member.and_then(|member| member.heap).map_or(least, |bytes| bytes / MIB) + JVM_BESIDE_MIB
    };
    match role {
        Role::Base | Role::Extra => 0,
        Role::ZooKeeper => {
            let members = inventory.zookeeper.iter().flat_map(|role| &role.members);
            heap(members.collect(), ZOOKEEPER_HEAP_MIB)
        }
        Role::Kafka => heap(inventory.kafka.iter().flat_map(KafkaRole::nodes).collect(), KAFKA_HEAP_MIB),
        Role::Relay | Role::Consumer => PROGRAM_MIB,
        Role::Agent | Role::Monitor => PROGRAM_MIB / 2,
    }
}

pub(super) fn disk(subject: &Subject<'_>) -> Outcome {
    let machine = &subject.facts.machine;
    if machine.disks.is_empty() {
        return Outcome::Unknown;
    }
    // The worst first; each file system once, by the first path that is on it.
    let mut mounts: BTreeMap<&str, (u64, &str)> = BTreeMap::new();
    for (path, disk) in &machine.disks {
        mounts.entry(&disk.mount).or_insert((disk.free_kib / KIB_PER_MIB, path));
    }
    let worst = mounts.iter().min_by_key(|(_, (free, _))| *free);
    if let Some((mount, (free, path))) = worst
        && *free < DISK_WARNING_MIB
    {
        let problem = format!("{free} MiB are free on {mount}, where {path} is");
        let remedy = "free some, mount a larger disk there, or name other data directories in the inventory";
        if *free < DISK_ERROR_MIB {
            return Outcome::error(problem, remedy);
        }
        return Outcome::warning(problem, remedy);
    }
    retention(subject).unwrap_or(Outcome::Passed)
}

/// The event log may grow to its retention for each source.
fn retention(subject: &Subject<'_>) -> Option<Outcome> {
    let role = subject.inventory.relays.as_ref()?;
    let member = role.members.iter().find(|member| member.host == subject.host)?;
    let path = role.data_dir.display().to_string();
    let disk = subject.facts.machine.disks.get(&path)?;
    let sources = u64::try_from(member.sources.len()).ok()?;
    let wanted = role.retention.bytes.saturating_mul(sources) / MIB;
    let size = disk.size_kib / KIB_PER_MIB;
    (wanted > size).then(|| {
        Outcome::warning(
            format!(
                "the event logs of {sources} sources may grow to {wanted} MiB, and {} has {size} MiB",
                disk.mount
            ),
            "set a smaller `relays.retention.bytes`, or mount a larger disk on `relays.data_dir`",
        )
    })
}

pub(super) fn read_only(subject: &Subject<'_>) -> Outcome {
    let machine = &subject.facts.machine;
    if machine.disks.is_empty() {
        return Outcome::Unknown;
    }
    match machine.disks.iter().find(|(path, _)| machine.mounted_with(path, "ro")) {
        None => Outcome::Passed,
        Some((path, disk)) => Outcome::error(
            format!("{}, where {path} is, is mounted read-only", disk.mount),
            "a damaged disk is mounted so: look at `dmesg`, mend it (`fsck`), then `mount -o remount,rw`",
        ),
    }
}

pub(super) fn noexec(subject: &Subject<'_>) -> Outcome {
    let machine = &subject.facts.machine;
    if machine.disks.is_empty() {
        return Outcome::Unknown;
    }
    // /tmp may have it: nothing of aesop's runs from there, and JVMs are told to unpack elsewhere.
    if machine.mounted_with("/opt/aesop", "noexec") {
        return Outcome::error(
            "the file system of /opt/aesop is mounted noexec, and aesop's programs run from there",
            "mount it without noexec, or give /opt/aesop a file system of its own",
        );
    }
    let unpack = machine.disks.keys().find(|path| path.starts_with(paths::CACHE));
    if let Some(path) = unpack
        && machine.mounted_with(path, "noexec")
    {
        return Outcome::warning(
            format!(
                "the file system of {path} is mounted noexec, and JVMs unpack their native libraries there"
            ),
            "compressed topics (zstd, snappy, lz4) will fail: mount it without noexec",
        );
    }
    Outcome::Passed
}
