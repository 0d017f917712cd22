//! Plans that are saved, refused, interrupted, taken back, and undone; and the end of a cluster.

use crate::cluster::{Cluster, Said, cluster, wait};
use crate::secrets::{self, Watch};
use std::fs;
use std::process::{Command, Stdio};
use std::sync::Arc;

const BROKERS: [&str; 3] = ["kafka1", "kafka2", "kafka3"];
const HOSTS: [&str; 6] = ["kafka1", "kafka2", "kafka3", "relay1", "consumer1", "monitor1"];
/// The reader's password, as the cluster's inventory gives it.
const PASSWORD: &str = "reader-secret";

/// One change of Kafka's settings through every way that an apply can go.
pub(crate) fn a_change_is_saved_refused_taken_back_and_finished() {
    let cluster = cluster();
    let watch = Watch::start();
    set_kafka(&cluster, "queued.max.requests: 900");
    let mut said = a_saved_plan_is_refused_once_a_host_changes(&cluster);
    // While all brokers keep the generation before: each apply that touches one makes another, and few are kept.
    said += &a_killed_rollback_is_finished_by_resume(&cluster);
    said += &a_killed_stop_is_finished_by_resume(&cluster);
    said += &what_a_person_disables_and_touches_is_told(&cluster);
    said += &what_does_not_start_comes_back(&cluster);
    said += &what_a_broker_does_not_take_in_comes_back(&cluster);
    cluster.sell(20);
    cluster.kafka_equals_select();
    let audit = cluster.aesop_ok(&["audit", "--hosts"]);
    for words in ["apply of generation", "failed", "rollback of generation", "resume of generation"] {
        assert!(audit.stdout.contains(words), "{words}: {}", audit.stdout);
    }
    said += &audit.stdout;
    nothing_tells_a_secret(&cluster, &said, watch);
}

/// Gives the brokers these settings.
fn set_kafka(cluster: &Cluster, config: &str) {
    let path = cluster.path("story.yml");
    let text = fs::read_to_string(&path).expect("the inventory");
    let line = |line: &str| {
        let hosts = "kafka: {hosts: [kafka1, kafka2, kafka3]";
        if line.starts_with(hosts) {
            format!("{hosts}, config: {{{config}}}}}\n")
        } else {
            format!("{line}\n")
        }
    };
    fs::write(&path, text.lines().map(line).collect::<String>()).expect("the inventory is written");
}

fn a_saved_plan_is_refused_once_a_host_changes(cluster: &Cluster) -> String {
    let file = cluster.path("plan.json").display().to_string();
    let plan = cluster.aesop_ok(&["plan", "-o", &file]);
    assert!(plan.stdout.contains("restart aesop-kafka.service on kafka1"), "{}", plan.stdout);
    let stop = ["systemctl", "stop", "aesop-agent"];
    cluster.host("kafka2").run(&stop).expect("the agent stops");
    let refused = Said::from(cluster.aesop(&["apply", "--yes", &file]));
    assert!(refused.stderr.contains("kafka2: aesop-agent.service has changed"), "{}", refused.stderr);
    let drift = cluster.aesop_ok(&["plan"]);
    assert!(drift.stdout.contains("kafka2: aesop-agent.service (stopped)"), "{}", drift.stdout);
    cluster.host("kafka2").run(&["systemctl", "start", "aesop-agent"]).expect("the agent starts");
    let applied = cluster.aesop_ok(&["apply", "--yes", &file]);
    assert_eq!(cluster.aesop(&["plan", "--exit-code"]).status.code(), Some(0));
    let saved = fs::read_to_string(file).expect("the plan");
    [saved, plan.stdout, refused.stderr, applied.stdout, applied.stderr].concat()
}

fn what_does_not_start_comes_back(cluster: &Cluster) -> String {
    let before = cluster.pids(&BROKERS);
    set_kafka(cluster, "queued.max.requests: 0");
    let output = cluster.aesop(&["apply", "--yes"]);
    let said = Said::from(output.clone());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.stderr.contains("the former files were put back, and kafka is ready with them again"),
        "{}",
        said.stderr
    );
    assert!(said.stderr.contains("queued.max.requests"), "Kafka's own words are shown: {}", said.stderr);
    // Whose turn is first depends on who leads.
    let after = cluster.pids(&BROKERS);
    let touched = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!(touched, 1, "no other broker is touched: {before:?}, then {after:?}");
    set_kafka(cluster, "queued.max.requests: 900");
    let plan = cluster.aesop_ok(&["plan"]);
    assert!(!plan.stdout.contains("restart "), "{}", plan.stdout);
    cluster.aesop_ok(&["apply", "--yes"]);
    said.stdout + &said.stderr
}

/// A setting for running brokers that the first of them refuses.
fn what_a_broker_does_not_take_in_comes_back(cluster: &Cluster) -> String {
    let before = cluster.pids(&BROKERS);
    set_kafka(cluster, "queued.max.requests: 900, num.io.threads: 0");
    let output = cluster.aesop(&["apply", "--yes"]);
    let said = Said::from(output.clone());
    assert_eq!(output.status.code(), Some(1));
    for words in ["num.io.threads", "the former files were put back, and kafka is ready with them again"] {
        assert!(said.stderr.contains(words), "{words}: {}", said.stderr);
    }
    set_kafka(cluster, "queued.max.requests: 900");
    let plan = cluster.aesop_ok(&["plan"]);
    assert!(!plan.stdout.contains("takes in"), "it is as it was: {}", plan.stdout);
    cluster.aesop_ok(&["apply", "--yes"]);
    assert_eq!(cluster.pids(&BROKERS), before, "no broker was restarted");
    said.stdout + &said.stderr
}

fn a_killed_rollback_is_finished_by_resume(cluster: &Cluster) -> String {
    let properties = |host: &str| {
        let read = ["cat", "/etc/aesop/kafka/server.properties"];
        cluster.host(host).run(&read).expect("the properties")
    };
    let generation: u64 = {
        let read = ["cat", "/var/lib/aesop/state/generation"];
        cluster.host("kafka1").run(&read).expect("the generation").trim().parse().expect("a number")
    };
    let first = generation_before(cluster, generation);
    killed(
        cluster,
        &["rollback", &first.to_string(), "--yes"],
        "a broker to have its former settings",
        || BROKERS.iter().any(|host| !properties(host).contains("queued.max.requests=900")),
    );
    let resumed = cluster.aesop_ok(&["resume", "--yes"]);
    assert!(resumed.stderr.contains("did not end: it holds"), "{}", resumed.stderr);
    let words = format!("Going on with `aesop rollback {first}`");
    assert!(resumed.stderr.contains(&words), "{}", resumed.stderr);
    for host in BROKERS {
        assert!(!properties(host).contains("queued.max.requests=900"), "{host} is what it was before");
    }
    let nothing = cluster.aesop_ok(&["resume", "--yes"]);
    assert!(nothing.stderr.contains("Nothing was broken off"), "{}", nothing.stderr);
    // The inventory still says otherwise.
    assert_eq!(cluster.aesop(&["plan", "--exit-code"]).status.code(), Some(3));
    cluster.aesop_ok(&["apply", "--yes"]);
    assert_eq!(cluster.aesop(&["plan", "--exit-code"]).status.code(), Some(0));
    for host in BROKERS {
        assert!(properties(host).contains("queued.max.requests=900"), "{host} is what the inventory says");
    }
    resumed.stdout + &resumed.stderr
}

/// The first of two consumers hangs as it stops, so that aesop dies before the second.
fn a_killed_stop_is_finished_by_resume(cluster: &Cluster) -> String {
    const UNIT: &str = "aesop-consumer@kafka-json";
    let state = |host: &str| {
        let show = ["systemctl", "show", "-P", "ActiveState", UNIT];
        cluster.host(host).run(&show).expect("systemd answers").trim().to_owned()
    };
    let states = || ["consumer1", "consumer2"].map(state);
    let first = |script: &str| {
        cluster.host("consumer1").run(&["sh", "-c", script]).expect("a script");
    };
    first(
        "touch /run/hold && mkdir /run/systemd/system/aesop-consumer@kafka-json.service.d && \
         printf '[Service]\\nExecStop=/bin/sh -c \"while test -e /run/hold; do sleep 0.2; done\"\\n' \
         >/run/systemd/system/aesop-consumer@kafka-json.service.d/hold.conf && systemctl daemon-reload",
    );
    killed(cluster, &["stop", "consumer", "--yes"], "a consumer to be asked to stop", || {
        state("consumer1") == "deactivating"
    });
    assert_eq!(state("consumer2"), "active");
    first(
        "rm -r /run/hold /run/systemd/system/aesop-consumer@kafka-json.service.d && systemctl daemon-reload",
    );
    wait("the consumer to stop", || (state("consumer1") == "inactive").then_some(()));
    let resumed = cluster.aesop_ok(&["resume", "--yes"]);
    assert!(resumed.stderr.contains("Going on with `aesop stop consumer`"), "{}", resumed.stderr);
    // The others of the group, and not the one that has stopped.
    assert!(
        resumed.stdout.contains("stop aesop-consumer@kafka-json.service on consumer2"),
        "{}",
        resumed.stdout
    );
    assert!(!resumed.stdout.contains("on consumer1"), "{}", resumed.stdout);
    assert_eq!(states(), ["inactive", "inactive"]);
    cluster.aesop_ok(&["start", "--yes"]);
    assert_eq!(states(), ["active", "active"]);
    resumed.stdout + &resumed.stderr
}

/// Runs aesop until something has happened, kills it there, and lets its lease run out.
pub(crate) fn killed(cluster: &Cluster, args: &[&str], until: &str, happened: impl Fn() -> bool) {
    let words = cluster.path("killed.log");
    let mut aesop = Command::new(env!("CARGO_BIN_EXE_aesop"))
        .arg("-i")
        .arg(cluster.path("story.yml"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&words).expect("a file for its words"))
        .spawn()
        .expect("aesop runs");
    wait(until, || {
        let ended = aesop.try_wait().expect("its state");
        assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(&words).unwrap_or_default());
        happened().then_some(())
    });
    aesop.kill().expect("killed");
    aesop.wait().expect("it ends");
    for host in HOSTS {
        let touch = "[ ! -e /var/lib/aesop/state/lock/owner ] || touch -d '-5 minutes' /var/lib/aesop/state/lock/owner";
        cluster.host(host).run(&["sh", "-c", touch]).expect("touched");
    }
}

/// Small things that somebody did to systemd's links and files: told as drift, with a line each, and put right.
fn what_a_person_disables_and_touches_is_told(cluster: &Cluster) -> String {
    let relay = cluster.host("relay1");
    let before = cluster.pids(&["relay1"]);
    relay.run(&["systemctl", "disable", "aesop-agent"]).expect("disabled");
    relay.run(&["touch", "/etc/systemd/system/aesop-agent.service"]).expect("touched");
    let output = cluster.aesop(&["plan", "--exit-code"]);
    assert_eq!(output.status.code(), Some(3));
    let plan = Said::from(output);
    for words in [
        "relay1: aesop-agent.service (disabled)",
        "relay1: aesop-agent.service (changed since systemd read it)",
        "~ enable aesop-agent.service (somebody has disabled it)",
        "~ systemd reads its units (aesop-agent.service changed since systemd read it)",
        // Programs that no kept generation needs may go with it.
        "Plan: 0 to add, 2 to change, ",
    ] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
    }
    let status = cluster.aesop_ok(&["status", "--format", "json"]);
    let rows: serde_json::Value = serde_json::from_str(&status.stdout).expect("JSON");
    let row = |host: &str, service: &str| {
        let rows = rows.as_array().expect("rows").iter();
        let mut rows = rows.filter(|row| row["host"] == host && row["service"] == service);
        let row = rows.next().expect("a row");
        (row["version"].as_str().expect("a version"), row["pending"].as_u64(), row["drift"].as_u64())
    };
    assert_eq!(row("relay1", "agent"), (env!("CARGO_PKG_VERSION"), Some(2), Some(2)));
    assert_eq!(row("relay1", "relay"), (env!("CARGO_PKG_VERSION"), Some(0), Some(0)));
    assert_eq!(row("kafka1", "kafka"), ("4.2.0", Some(0), Some(0)));
    let applied = cluster.aesop_ok(&["apply", "--yes"]);
    assert_eq!(cluster.aesop(&["plan", "--exit-code"]).status.code(), Some(0));
    assert_eq!(relay.run(&["systemctl", "is-enabled", "aesop-agent"]).expect("enabled").trim(), "enabled");
    assert_eq!(cluster.pids(&["relay1"]), before, "nothing was restarted");
    plan.stdout + &status.stdout + &applied.stdout + &applied.stderr
}

/// The newest generation on the first broker in which the setting was not there yet.
fn generation_before(cluster: &Cluster, last: u64) -> u64 {
    (1..last)
        .rev()
        .find(|generation| {
            let snapshot = format!("/var/lib/aesop/state/generations/{generation}");
            let script = format!(
                "grep -o '\"path\":\"/etc/aesop/kafka/server.properties\"[^}}]*\"content\":\"[^\"]*' {snapshot} | sed 's/.*\"content\":\"//' | base64 -d"
            );
            let text = cluster.host("kafka1").run(&["sh", "-c", &script]).unwrap_or_default();
            !text.is_empty() && !text.contains("queued.max.requests=900")
        })
        .expect("a generation before the change is kept")
}

fn nothing_tells_a_secret(cluster: &Cluster, said: &str, watch: Watch) {
    let mut all = secrets::generated(&cluster.path("story.secrets"));
    all.push(PASSWORD.to_owned());
    watch.saw_none_of(&all);
    secrets::is_not_told(said, &all, "an output");
    secrets::are_closed_here(&cluster.path(""), &all);
    for host in HOSTS {
        secrets::are_readable_by_their_owners_only(&cluster.host(host), &all);
    }
}

/// The last of all: afterwards there is no cluster.
pub(crate) fn a_destroyed_cluster_leaves_its_data() {
    let cluster: Arc<Cluster> = cluster();
    killed(&cluster, &["destroy", "--yes"], "the relay to be removed", || {
        cluster.host("relay1").run(&["test", "!", "-e", "/etc/systemd/system/aesop-relay.service"]).is_ok()
    });
    let resumed = cluster.aesop_ok(&["resume", "--yes"]);
    assert!(resumed.stderr.contains("Going on with `aesop destroy`"), "{}", resumed.stderr);
    for host in HOSTS {
        let units = ["systemctl", "list-units", "--all", "--no-legend", "aesop-*"];
        assert_eq!(cluster.host(host).run(&units).expect("systemd answers").trim(), "", "{host}");
        let left = "find /etc/aesop /opt/aesop /etc/systemd/system/aesop* 2>/dev/null || true";
        assert_eq!(cluster.host(host).run(&["sh", "-c", left]).expect("find").trim(), "", "{host}");
    }
    let data = ["test", "-e", "/var/lib/aesop/kafka/meta.properties"];
    cluster.host("kafka1").run(&data).expect("data outlives the cluster");
    cluster.aesop_ok(&["destroy", "--yes", "--data", "--confirm", "story"]);
    let data = "test ! -e /var/lib/aesop";
    cluster.host("kafka1").run(&["sh", "-c", data]).expect("asked twice, data goes");
}
