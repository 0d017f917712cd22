//! The host itself: file systems, memory, load, pressure, file descriptors, OOM kills, clock.

use super::mountinfo::Mounts;
use super::{Probe, ProbeError, Sample, ratio, to_value};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Reads `/proc` and file systems.
#[derive(Debug)]
pub struct HostProbe {
    /// `/`; tests put a tree of their own here. `proc/…` and `run/…` hang below it.
    pub root: PathBuf,
    /// Directories whose file systems are read.
    pub paths: Vec<PathBuf>,
}

impl Probe for HostProbe {
    fn name(&self) -> &'static str {
        "host"
    }

    fn service(&self) -> Option<&str> {
        None
    }

    fn probe(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Sample>, ProbeError>> {
        let (root, paths) = (self.root.clone(), self.paths.clone());
        Box::pin(async move {
            // statvfs on a dead network file system hangs: never on an async thread.
            let read = tokio::task::spawn_blocking(move || {
                let mut samples = read_proc(&root, now)?;
                let mountinfo = std::fs::read_to_string(root.join("proc/self/mountinfo")).unwrap_or_default();
                samples.extend(read_paths(&paths, &Mounts::parse(&mountinfo), now));
                Ok(samples)
            });
            read.await.map_err(|error| ProbeError::Malformed(error.to_string()))?
        })
    }
}

fn read_proc(root: &Path, now: Timestamp) -> Result<Vec<Sample>, ProbeError> {
    let file = |path: &str| std::fs::read_to_string(root.join(path));
    let must = |path: &str| {
        file(path).map_err(|error| {
            ProbeError::Unreachable(format!("cannot read {}: {error}", root.join(path).display()))
        })
    };
    let mut samples = memory(&must("proc/meminfo")?, now);
    samples.extend(load(&must("proc/loadavg")?, &must("proc/cpuinfo").unwrap_or_default(), now));
    // What a kernel or a container does not show is left out rather than guessed.
    for resource in ["cpu", "memory", "io"] {
        let text = file(&format!("proc/pressure/{resource}")).unwrap_or_default();
        if let Some(value) = pressure(&text) {
            samples.push(Sample::new("pressure_some_avg60", value, now).label("resource", resource));
        }
    }
    if let Some(value) = file("proc/sys/fs/file-nr").ok().as_deref().and_then(file_handles) {
        samples.push(Sample::new("fds_used_ratio", value, now));
    }
    if let Some(value) = file("proc/vmstat").ok().as_deref().and_then(|text| field(text, "oom_kill")) {
        samples.push(Sample::new("oom_kills_total", value, now));
    }
    if let Some(value) = file("proc/uptime").ok().as_deref().and_then(first_number) {
        samples.push(Sample::new("uptime_seconds", value, now));
    }
    // systemd-timesyncd keeps this directory; it has the file once the clock has been set from the network.
    let timesync = root.join("run/systemd/timesync");
    if timesync.is_dir() {
        let synchronized = timesync.join("synchronized").exists();
        samples.push(Sample::new("clock_synchronized", if synchronized { 1.0 } else { 0.0 }, now));
    }
    Ok(samples)
}

fn first_number(text: &str) -> Option<f64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The number behind `key` in lines of `key number`.
fn field(text: &str, key: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let (name, rest) = line.split_once([' ', '\t'])?;
        (name == key).then(|| first_number(rest)).flatten()
    })
}

fn memory(text: &str, now: Timestamp) -> Vec<Sample> {
    let bytes = |key: &str| field(text, key).map(|kib| kib * 1024.0);
    let mut samples = Vec::new();
    let mut push = |name: &str, value: Option<f64>| {
        samples.extend(value.map(|value| Sample::new(name, value, now)));
    };
    let (total, available) = (bytes("MemTotal:"), bytes("MemAvailable:"));
    push("memory_total_bytes", total);
    push("memory_available_bytes", available);
    push("memory_available_ratio", available.zip(total).and_then(|(a, t)| ratio(a, t)));
    let (swap, free) = (bytes("SwapTotal:"), bytes("SwapFree:"));
    push("swap_total_bytes", swap);
    push("swap_used_ratio", swap.zip(free).and_then(|(t, f)| ratio(t - f, t)));
    samples
}

fn load(loadavg: &str, cpuinfo: &str, now: Timestamp) -> Vec<Sample> {
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let cpus = to_value(u64::try_from(cpus).unwrap_or(u64::MAX));
    let Some(load1) = first_number(loadavg) else { return Vec::new() };
    let mut samples = vec![Sample::new("load1", load1, now)];
    if let Some(per_cpu) = ratio(load1, cpus) {
        samples.push(Sample::new("cpus", cpus, now));
        samples.push(Sample::new("load1_per_cpu", per_cpu, now));
    }
    samples
}

/// `avg60` of the `some` line, percent.
fn pressure(text: &str) -> Option<f64> {
    let some = text.lines().find(|line| line.starts_with("some "))?;
    some.split(' ').find_map(|word| word.strip_prefix("avg60="))?.parse().ok()
}

/// Allocated over maximum, from `allocated free maximum`.
fn file_handles(text: &str) -> Option<f64> {
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse::<f64>().ok());
    let allocated = numbers.next()??;
    let maximum = numbers.nth(1)??;
    ratio(allocated, maximum)
}

/// File systems of `paths`; two paths on one file system are read once, under the first.
fn read_paths(paths: &[PathBuf], mounts: &Mounts, now: Timestamp) -> Vec<Sample> {
    let mut seen = BTreeMap::new();
    let mut samples = Vec::new();
    for path in paths {
        let stat = match rustix::fs::statvfs(path) {
            Ok(stat) => stat,
            Err(error) => {
                let missing =
                    Sample::new("disk_readable", 0.0, now).label("path", path.display().to_string());
                samples.push(missing.note(error.to_string()));
                continue;
            }
        };
        if seen.insert((stat.f_fsid, stat.f_blocks), path).is_some() {
            continue;
        }
        let label =
            |name: &str, value: f64| Sample::new(name, value, now).label("path", path.display().to_string());
        let block = to_value(stat.f_frsize);
        let (total, free) = (to_value(stat.f_blocks) * block, to_value(stat.f_bavail) * block);
        samples.push(label("disk_readable", 1.0));
        samples.push(label("disk_total_bytes", total));
        samples.push(label("disk_free_bytes", free));
        samples.extend(ratio(free, total).map(|value| label("disk_free_ratio", value)));
        let inodes = ratio(to_value(stat.f_favail), to_value(stat.f_files));
        samples.extend(inodes.map(|value| label("inodes_free_ratio", value)));
        let read_only = mounts.read_only(path);
        samples.extend(read_only.map(|yes| label("disk_read_only", if yes { 1.0 } else { 0.0 })));
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[tokio::test]
    async fn reads_a_proc_tree() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(
            "proc/meminfo",
            "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 250 kB\nSwapTotal: 100 kB\nSwapFree: 25 kB\n",
        );
        put("proc/loadavg", "3.00 1.20 0.90 2/345 6789\n");
        put("proc/cpuinfo", "processor\t: 0\nmodel\t: x\nprocessor\t: 1\n");
        put(
            "proc/pressure/io",
            "some avg10=0.00 avg60=12.50 avg300=0.00 total=1\nfull avg10=0 avg60=9 avg300=0 total=1\n",
        );
        put("proc/sys/fs/file-nr", "500\t0\t1000\n");
        put("proc/vmstat", "oom_kill_extra 9\noom_kill 3\n");
        put("proc/uptime", "86400.25 1.0\n");
        put("run/systemd/timesync/clock", "");
        let probe = HostProbe { root: root.path().to_owned(), paths: vec!["/does/not/exist".into()] };
        let samples = probe.probe(Timestamp::UNIX_EPOCH).await.unwrap();
        let lines: Vec<String> =
            samples.iter().map(|s| format!("{} {:?} {}", s.name, s.labels.values(), s.value)).collect();
        expect![[r#"
            memory_total_bytes [] 1024000
            memory_available_bytes [] 256000
            memory_available_ratio [] 0.25
            swap_total_bytes [] 102400
            swap_used_ratio [] 0.75
            load1 [] 3
            cpus [] 2
            load1_per_cpu [] 1.5
            pressure_some_avg60 ["io"] 12.5
            fds_used_ratio [] 0.5
            oom_kills_total [] 3
            uptime_seconds [] 86400.25
            clock_synchronized [] 0
            disk_readable ["/does/not/exist"] 0"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[tokio::test]
    async fn a_missing_proc_is_an_error_with_the_path() {
        let root = tempfile::tempdir().unwrap();
        let probe = HostProbe { root: root.path().to_owned(), paths: Vec::new() };
        let error = probe.probe(Timestamp::UNIX_EPOCH).await.unwrap_err();
        assert!(error.to_string().contains("proc/meminfo"), "{error}");
    }

    #[test]
    fn a_file_system_is_read_once() {
        let samples = read_paths(&["/".into(), "/".into()], &Mounts::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(samples.iter().filter(|s| s.name == "disk_free_bytes").count(), 1);
    }
}
