//! Plan and apply on hosts in memory: whatever the inventory, an apply leaves nothing to do.

use super::*;
use crate::artifact::Store;
use crate::host::fake::FakeConnect;
use crate::inventory::model::Inventory;
use crate::plan::plan;
use std::fmt::Write as _;
use std::path::Path;

mod brokers;
mod controllers;
mod document;
mod ensemble;
mod going_back;
mod leaving;
mod on_zookeeper;
mod operations;
mod properties;
mod raising;
mod refused;
mod skipped;
mod told;
mod upgrade;

/// An inventory of `kafka` Kafka and ZooKeeper hosts, `consumers` consumers and the rest.
fn inventory(folder: &Path, kafka: usize, relays: usize, consumers: usize, shared: bool) -> Inventory {
    let names = |prefix: &str, count: usize| {
        (1..=count).map(|n| format!("{prefix}{n}")).collect::<Vec<_>>().join(", ")
    };
    let mut hosts = String::new();
    for (prefix, count, base) in [("k", kafka, 10), ("r", relays, 20), ("c", consumers, 30), ("m", 1, 40)] {
        for number in 1..=count {
            writeln!(hosts, "  {prefix}{number}: {{address: 10.0.0.{}}}", base + number).unwrap();
        }
    }
    let monitor = if shared { "k1" } else { "m1" };
    let text = format!(
        "cluster: shop\nhosts:\n{hosts}zookeeper: {{hosts: [{k}]}}\nkafka: {{hosts: [{k}]}}\n\
         sources:\n  shop: {{mysql: {{host: 10.0.0.5, user: aesop}}, tables: ['shop.*']}}\n\
         relays: {{hosts: [{r}]}}\nconsumers:\n  kafka-json: {{hosts: [{c}], sources: [shop]}}\n\
         monitor: {{hosts: [{monitor}]}}\n",
        k = names("k", kafka),
        r = names("r", relays),
        c = names("c", consumers),
    );
    let path = folder.join("shop.yml");
    std::fs::write(&path, text).unwrap();
    crate::inventory::load(&path).unwrap()
}

/// Binaries that are small, and jars that are never fetched: in-memory hosts have them already.
fn prepared(folder: &Path, inventory: &Inventory) -> Prepared {
    let binaries = folder.join("bin");
    std::fs::create_dir_all(&binaries).unwrap();
    for name in ["aesop", "aesop-relay", "aesop-consumer"] {
        std::fs::write(binaries.join(name), name).unwrap();
    }
    let store =
        |names: &[crate::service::WantedArtifact]| Store::open_in(folder.join("cache"), binaries, names);
    Prepared::with_store(inventory, store).unwrap()
}

/// Puts the jar sets onto every host: they come from a network that tests do not use.
fn with_jars(connect: &FakeConnect, prepared: &Prepared) {
    for (name, state) in &prepared.desired {
        let artifacts = state.parts.iter().flat_map(|part| &part.artifacts);
        let jars: Vec<String> =
            artifacts.filter(|a| !a.name.starts_with("aesop")).map(|a| a.id.clone()).collect();
        connect.host(name).with(|host| host.artifacts.extend(jars));
    }
}

fn options() -> Options {
    Options { parallel: 4, operator: "test@here".to_owned(), operation: "asked".to_owned() }
}

struct Lab {
    folder: tempfile::TempDir,
    connect: FakeConnect,
}

impl Lab {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), connect: FakeConnect::default() }
    }

    fn prepare(&self, inventory: &Inventory) -> Prepared {
        let prepared = prepared(self.folder.path(), inventory);
        with_jars(&self.connect, &prepared);
        prepared
    }

    /// Applies that die after so many lines each, one after the other.
    async fn dies(&self, inventory: &Inventory, deaths: Vec<usize>) {
        for lines in deaths {
            self.connect.dies_after(Some(lines));
            self.apply(inventory).await;
            self.connect.dies_after(None);
            self.leases_end(inventory);
        }
    }

    /// The lease of a dead apply runs out.
    fn leases_end(&self, inventory: &Inventory) {
        for name in self.prepare(inventory).hosts.keys() {
            self.connect.host(name).with(|host| host.lock = None);
        }
    }

    /// Takes the lock file back to what this one has found, where it is used again: making another takes long.
    fn rewind(prepared: &Prepared) {
        prepared.found.save(prepared.lock_path()).unwrap();
    }

    async fn apply(&self, inventory: &Inventory) -> (crate::plan::Plan, Report) {
        let prepared = self.prepare(inventory);
        self.apply_prepared(inventory, &prepared).await
    }

    async fn apply_prepared(
        &self,
        inventory: &Inventory,
        prepared: &Prepared,
    ) -> (crate::plan::Plan, Report) {
        with_jars(&self.connect, prepared);
        let (events, mut receiver) = tokio::sync::mpsc::channel(64);
        let options = options();
        let drain = tokio::spawn(async move { while receiver.recv().await.is_some() {} });
        let done = run(inventory, prepared, &self.connect, &options, events).await.unwrap();
        drain.await.unwrap();
        done
    }

    async fn plan(&self, inventory: &Inventory) -> crate::plan::Plan {
        self.plan_prepared(inventory, &self.prepare(inventory)).await
    }

    async fn plan_prepared(&self, inventory: &Inventory, prepared: &Prepared) -> crate::plan::Plan {
        with_jars(&self.connect, prepared);
        let (_, observed) = observe(&self.connect, &prepared.hosts, &prepared.desired, 4).await;
        plan(&inventory.cluster, &prepared.desired, &observed)
    }

    /// Carries out a plan for another goal than the inventory.
    async fn carry_out(
        &self,
        prepared: &Prepared,
        desired: &std::collections::BTreeMap<String, crate::service::HostState>,
        plan: &crate::plan::Plan,
    ) -> Report {
        let (session, _) = observe(&self.connect, &prepared.hosts, desired, 4).await;
        let (events, mut receiver) = tokio::sync::mpsc::channel(64);
        let drain = tokio::spawn(async move { while receiver.recv().await.is_some() {} });
        let options = options();
        let contents = prepared.contents(desired, plan, &events).await.unwrap();
        let report = execute(plan, desired, &contents, &session, &options, &events).await;
        drop(events);
        drain.await.unwrap();
        report
    }

    /// Kafka hosts where a unit was restarted since the logs were cleared.
    fn restarted(&self) -> Vec<&'static str> {
        let restarts = |name: &&str| {
            self.connect.host(name).with(|state| state.log.iter().any(|step| step.starts_with("restart")))
        };
        ["k1", "k2", "k3"].into_iter().filter(restarts).collect()
    }

    fn clear_logs(&self, inventory: &Inventory) {
        for name in inventory.hosts.keys() {
            self.connect.host(name).with(|host| host.log.clear());
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn adding_a_consumer_touches_that_host_and_reloads_the_monitor() {
    block_on(async {
        let lab = Lab::new();
        let before = inventory(lab.folder.path(), 3, 1, 2, false);
        lab.apply(&before).await;
        lab.clear_logs(&before);
        let after = inventory(lab.folder.path(), 3, 1, 3, false);
        let (plan, report) = lab.apply(&after).await;
        assert!(report.is_success());
        assert_eq!(plan.hosts().into_iter().collect::<Vec<_>>(), ["c3", "m1"]);
        assert_eq!(plan.summary().restarts, 0);
        let monitor = lab.connect.host("m1").with(|state| state.log.clone());
        assert_eq!(
            monitor,
            [
                "file /etc/aesop/monitor.yml",
                "commit ",
                "reload aesop-monitor.service",
                "started aesop-monitor.service",
                "gate aesop-monitor.service",
                "ready aesop-monitor.service",
                "generation 2",
            ]
        );
    });
}

#[test]
fn brokers_restart_one_after_the_other_each_behind_the_test_of_all() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        let role = inventory.kafka.as_mut().unwrap();
        role.config.insert("queued.max.requests".to_owned(), "400".to_owned());
        let plan = lab.plan(&inventory).await;
        assert_eq!(plan.summary().restarts, 3);
        let waves: Vec<(Vec<&String>, Vec<&String>)> = plan.stages[0]
            .waves
            .iter()
            .map(|wave| (wave.steps.keys().collect(), wave.gates.keys().collect()))
            .collect();
        let names: Vec<String> = ["k1", "k2", "k3"].map(str::to_owned).to_vec();
        let [k1, k2, k3] = [&names[0], &names[1], &names[2]];
        assert_eq!(waves, [(vec![k1], vec![k2, k3]), (vec![k2], vec![k1, k3]), (vec![k3], vec![k1, k2])]);

        // The second broker is not ready once the first is back: no further one is touched, and the next apply
        // goes on where this one stopped.
        lab.connect.host("k2").with(|state| state.fails = vec!["gate|aesop-kafka".to_owned()]);
        lab.clear_logs(&inventory);
        let (_, report) = lab.apply(&inventory).await;
        assert!(!report.is_success());
        assert_eq!(lab.restarted(), ["k1"]);
        lab.connect.host("k2").with(|state| state.fails.clear());
        lab.clear_logs(&inventory);
        let (_, report) = lab.apply(&inventory).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(lab.restarted(), ["k2", "k3"]);
        assert!(lab.plan(&inventory).await.is_empty());
    });
}

#[test]
fn what_ran_and_was_never_ready_is_started_again_unless_it_may_still_be_at_its_log() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        for (host, unit) in [("r1", "aesop-relay"), ("k3", "aesop-kafka")] {
            lab.connect.host(host).with(|state| state.fails = vec![format!("gate|{unit}")]);
        }
        lab.apply(&inventory).await;
        for host in ["r1", "k3"] {
            lab.connect.host(host).with(|state| state.fails.clear());
        }
        lab.clear_logs(&inventory);
        let (_, report) = lab.apply(&inventory).await;
        assert!(report.is_success(), "{report:#?}");
        assert!(lab.restarted().is_empty(), "a broker is only waited for");
        let relay = lab.connect.host("r1").with(|state| state.log.clone());
        assert!(relay.contains(&"restart aesop-relay.service".to_owned()), "{relay:?}");
        assert!(lab.plan(&inventory).await.is_empty());
    });
}

#[test]
fn what_a_broker_takes_in_while_it_runs_restarts_nothing() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        inventory.kafka.as_mut().unwrap().config.insert("num.io.threads".to_owned(), "16".to_owned());
        lab.clear_logs(&inventory);
        let (plan, report) = lab.apply(&inventory).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(plan.summary().restarts, 0);
        assert_eq!(plan.stages[0].waves.len(), 3, "one after the other");
        let told = lab.connect.host("k1").with(|state| state.log.clone());
        let first: Vec<&str> = told.iter().map(String::as_str).take(4).collect();
        assert_eq!(
            first,
            [
                "file /etc/aesop/kafka/server.properties",
                "commit ",
                "member 60",
                "started aesop-kafka.service"
            ]
        );
        assert!(lab.plan(&inventory).await.is_empty());

        // With a restart it is told afterwards: what it took in before outlives the restart.
        let role = inventory.kafka.as_mut().unwrap();
        role.config.insert("num.io.threads".to_owned(), "12".to_owned());
        role.config.insert("queued.max.requests".to_owned(), "400".to_owned());
        let plan = lab.plan(&inventory).await;
        let words: Vec<String> = plan.stages[0].waves[0].steps["k1"]
            .iter()
            .map(|step| step.action().to_string())
            .filter(|words| words.starts_with("restart") || words.starts_with("the broker"))
            .collect();
        assert_eq!(words, ["restart aesop-kafka.service", "the broker takes in what changed (no restart)"]);
    });
}

#[test]
fn an_unreachable_host_never_stops_the_others() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 2, false);
        lab.connect.host("c1").with(|state| state.unreachable = true);
        let (_, report) = lab.apply(&inventory).await;
        assert!(!report.is_success());
        assert!(report.hosts["c1"].unreachable);
        assert!(
            report.hosts.iter().all(|(name, host)| name == "c1" || (host.failed == 0 && host.skipped == 0))
        );
    });
}

#[test]
fn without_a_majority_of_zookeeper_nothing_that_needs_it_is_started() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        for name in ["k1", "k2"] {
            lab.connect.host(name).with(|state| state.fails = vec!["gate|aesop-zookeeper".to_owned()]);
        }
        let (_, report) = lab.apply(&inventory).await;
        assert_eq!(report.failures.len(), 2, "{report:#?}");
        lab.connect.host("r1").with(|state| assert!(!state.active.contains("aesop-relay.service")));
        lab.connect.host("r1").with(|state| assert!(state.active.contains("aesop-agent.service")));
    });
}

#[test]
fn a_lock_that_somebody_holds_stops_all_of_it() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 1, 1, 1, false);
        lab.connect.host("r1").with(|state| state.lock = Some("somebody".to_owned()));
        let (_, report) = lab.apply(&inventory).await;
        assert_eq!(report.failures.len(), 1);
        assert!(report.failures[0].error.contains("locked by somebody"));
        lab.connect.host("k1").with(|state| assert!(state.files.is_empty() && state.lock.is_none()));
    });
}

#[test]
fn no_secret_is_in_a_plan() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 1, 1, 1, false);
        let prepared = lab.prepare(&inventory);
        let plan = lab.plan(&inventory).await;
        let text = serde_json::to_string(&plan).unwrap() + &crate::plan::render_diffs(&plan.diffs, true);
        let secrets: Vec<String> = prepared
            .desired
            .values()
            .flat_map(crate::service::HostState::files)
            .filter(|file| file.secret)
            .flat_map(|file| {
                let text = String::from_utf8_lossy(&file.content).into_owned();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .filter(|line| {
                line.len() >= 32 && !line.contains("org.jolokia") && !line.contains("policyLocation")
            })
            .collect();
        assert!(secrets.len() > 5, "the test looks for something");
        for secret in secrets {
            let value = secret.rsplit(['=', ':']).next().unwrap_or_default().to_owned();
            assert!(!text.contains(&secret), "{secret}");
            assert!(value.len() < 16 || !text.contains(&value), "{value}");
        }
    });
}
