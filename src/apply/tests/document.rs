//! The plan as JSON, what it rests on, what no output may hold, and what an apply costs.

use super::*;
use crate::plan::{Difference, Document, FORMAT, Facts, Plan};
use std::collections::BTreeSet;

/// A password that is nowhere but in files on hosts.
const SENTINEL: &str = "sentinel-d41d8cd98f00b204";

impl Lab {
    async fn document(&self, inventory: &Inventory) -> (String, Facts, Plan) {
        let prepared = self.prepare(inventory);
        let (_, observed) = observe(&self.connect, &prepared.hosts, &prepared.desired, 4).await;
        let plan = plan(&inventory.cluster, &prepared.desired, &observed);
        let facts = prepared.facts(&observed);
        let document = Document {
            format: FORMAT,
            aesop: crate::lock::VERSION,
            on: &[],
            summary: plan.summary(),
            plan: &plan,
            schedule: plan.schedule(),
            facts: &facts,
        };
        (serde_json::to_string_pretty(&document).unwrap(), facts, plan)
    }
}

/// Changes of every kind at once.
async fn busy(lab: &Lab) -> Inventory {
    let mut inventory = inventory(lab.folder.path(), 3, 1, 2, true);
    lab.connect.kafka(|kafka| kafka.speaks = true);
    lab.apply(&inventory).await;
    super::inventory(lab.folder.path(), 3, 1, 1, false);
    lab.connect.host("k2").with(|host| {
        host.files.get_mut("/etc/aesop/agent.yml").unwrap().0.extend_from_slice(b"# edited\n");
    });
    lab.connect.host("r1").with(|host| host.unreachable = true);
    inventory = super::inventory(lab.folder.path(), 3, 1, 1, false);
    inventory.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "16".to_owned());
    inventory
}

#[test]
fn the_same_input_gives_the_same_bytes_and_every_field_is_documented() {
    block_on(async {
        let lab = Lab::new();
        let inventory = busy(&lab).await;
        lab.prepare(&inventory).save_lock().unwrap();
        let (first, _, plan) = lab.document(&inventory).await;
        let (second, ..) = lab.document(&inventory).await;
        assert_eq!(first, second);
        assert!(
            !plan.drift.is_empty()
                && !plan.unreachable.is_empty()
                && plan.stages.iter().any(|stage| stage.removes)
        );
        let docs = include_str!("../../../docs/plan.md");
        let mut missing = BTreeSet::new();
        keys(&serde_json::from_str(&first).unwrap(), "", &mut |path| {
            if !docs.contains(&format!("`{path}`")) {
                missing.insert(path.to_owned());
            }
        });
        assert_eq!(missing, BTreeSet::new(), "docs/plan.md");
    });
}

/// Every path of keys; names of hosts, services and facts, which are data, stand as `*`.
fn keys(value: &serde_json::Value, path: &str, visit: &mut dyn FnMut(&str)) {
    const MAPS: [&str; 9] = [
        "stages.waves.steps",
        "stages.waves.gates",
        "stages.waves.put_back",
        "stages.waves.unavailable",
        "unreachable",
        "facts.inputs",
        "facts.hosts",
        "facts.hosts.*",
        "facts.kafka",
    ];
    for item in value.as_array().into_iter().flatten() {
        keys(item, path, visit);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        // What an action consists of is told in words.
        if path.ends_with(".action") {
            visit(&format!("action.{key}"));
            continue;
        }
        let key = if MAPS.contains(&path) { "*" } else { key };
        let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        visit(&path);
        keys(value, &path, visit);
    }
}

#[test]
fn a_plan_rests_on_what_hosts_and_files_say() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 1, 1, 1, true);
        lab.apply(&inventory).await;
        let (_, then, _) = lab.document(&inventory).await;
        let changed = async |inventory: &Inventory| lab.document(inventory).await.1.changed_since(&then);
        assert_eq!(changed(&inventory).await, Vec::<String>::new());
        lab.connect.host("k1").with(|host| {
            host.files.get_mut("/etc/aesop/agent.yml").unwrap().0.push(b'\n');
            assert!(host.active.remove("aesop-kafka.service"));
        });
        assert_eq!(
            changed(&inventory).await,
            ["k1: /etc/aesop/agent.yml has changed", "k1: aesop-kafka.service has changed"]
        );
        lab.apply(&inventory).await;
        inventory.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "16".to_owned());
        let words = changed(&inventory).await;
        assert!(words.contains(&"what k1 should look like has changed".to_owned()), "{words:?}");
        assert!(words.contains(&"k1: its generation has changed".to_owned()), "{words:?}");
    });
}

#[test]
fn a_saved_plan_that_is_another_by_kafka_names_what_changed_there() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.connect.kafka(|kafka| kafka.speaks = true);
        lab.apply(&inventory).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 4, 3, 2));
        inventory.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "16".to_owned());
        let (then, ..) = lab.document(&inventory).await;
        let then: serde_json::Value = serde_json::from_str(&then).unwrap();
        let difference = async |text: &serde_json::Value| {
            let saved: crate::plan::Saved = serde_json::from_value(text.clone()).unwrap();
            let (_, facts, plan) = lab.document(&inventory).await;
            let (summary, schedule) = (plan.summary(), plan.schedule());
            let aesop = crate::lock::VERSION;
            let now =
                Document { format: FORMAT, aesop, on: &[], summary, plan: &plan, schedule, facts: &facts };
            saved.difference(text, &now).unwrap()
        };
        let named = |words: &str| Some(Difference::Facts(vec![words.to_owned()]));
        assert_eq!(difference(&then).await, None);
        let mut edited = then.clone();
        edited["stages"][0]["service"] = "another".into();
        assert_eq!(difference(&edited).await, Some(Difference::Edited));
        // What changes nothing of the plan is no reason.
        lab.connect.kafka(|kafka| kafka.create_topic("more", 4, 3, 2));
        lab.connect.kafka(|kafka| kafka.view.partitions[0].leader = Some(2));
        assert_eq!(difference(&then).await, None);
        lab.connect.kafka(|kafka| kafka.view.partitions.retain(|partition| partition.topic == "rows"));
        lab.connect.kafka(|kafka| kafka.create_topic("single", 1, 1, 1));
        assert_eq!(difference(&then).await, named("Kafka's topic single is new"));
        lab.connect.kafka(|kafka| kafka.view.partitions.retain(|partition| partition.topic == "rows"));
        lab.connect.kafka(|kafka| kafka.view.min_in_sync.insert("rows".to_owned(), 3));
        assert_eq!(difference(&then).await, named("Kafka's topic rows has changed"));
        lab.connect.kafka(|kafka| kafka.speaks = false);
        assert_eq!(difference(&then).await, named("Kafka: it does not answer now"));
    });
}

#[test]
fn a_secret_is_in_no_plan_log_event_or_report() {
    block_on(async {
        let lab = Lab::new();
        let made = inventory(lab.folder.path(), 1, 1, 1, true);
        let text = std::fs::read_to_string(&made.path).unwrap();
        let text = text.replace("user: aesop}", "user: aesop, password: {file: db.password}}");
        std::fs::write(&made.path, text).unwrap();
        let password = lab.folder.path().join("db.password");
        std::fs::write(&password, SENTINEL).unwrap();
        let private = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
        std::fs::set_permissions(&password, private).unwrap();
        let inventory = crate::inventory::load(&made.path).unwrap();
        let mut said = String::new();
        for fails in ["commit", "gate|aesop-relay", "no such step"] {
            lab.connect.host("r1").with(|host| host.fails = vec![fails.to_owned()]);
            let (document, _, plan) = lab.document(&inventory).await;
            said += &document;
            said += &crate::plan::render_diffs(&plan.diffs, true);
            said += &audit::lines(&plan).concat();
            write!(said, "{plan:?}").unwrap();
            let prepared = lab.prepare(&inventory);
            write!(said, "{prepared:?}").unwrap();
            let (events, mut receiver) = tokio::sync::mpsc::channel(4096);
            let options = options();
            let (_, report) = run(&inventory, &prepared, &lab.connect, &options, events).await.unwrap();
            said += &serde_json::to_string(&report).unwrap();
            while let Ok(event) = receiver.try_recv() {
                said += &serde_json::to_string(&event).unwrap();
            }
        }
        for name in inventory.hosts.keys() {
            lab.connect.host(name).with(|host| write!(said, "{:?}{}", host.audit, host.manifest).unwrap());
        }
        // What a host's programs get as lines could show up in its process list; contents come apart from them.
        write!(said, "{:?}", lab.connect.take_trace()).unwrap();
        assert!(said.contains("mysql-shop"), "the test looks at what tells of the password's file");
        assert!(!said.contains(SENTINEL));
        let hash = crate::service::sha256(format!("{SENTINEL}\n").as_bytes());
        let (document, ..) = lab.document(&inventory).await;
        assert!(!document.contains(&hash), "a weak password could be guessed from its hash");
        lab.connect.host("r1").with(|host| {
            let file = &host.files["/etc/aesop/secrets/mysql-shop"];
            assert_eq!((String::from_utf8_lossy(&file.0).trim(), file.1.as_str()), (SENTINEL, "600"));
        });
    });
}

#[test]
fn round_trips_do_not_grow_with_files() {
    /// A host's share, connecting apart. The monitor's host is told of every turn as well.
    const MOST: usize = 14;
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 2, false);
        let cost = async |inventory: &Inventory, what: &str| {
            for name in inventory.hosts.keys() {
                lab.connect.host(name).with(|host| host.calls = 0);
            }
            let (_, report) = lab.apply(inventory).await;
            assert!(report.is_success(), "{report:#?}");
            let calls = |name: &String| (lab.connect.host(name).with(|host| host.calls), name.clone());
            let most = inventory.hosts.keys().map(calls).max().unwrap();
            assert!(most.0 <= MOST, "{what}: {most:?}");
            most.0
        };
        cost(&inventory, "first apply").await;
        // The first of the brokers' hosts is asked about Kafka as well.
        assert_eq!(cost(&inventory, "no change").await, 2);
        inventory.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "16".to_owned());
        cost(&inventory, "one file and one restart").await;
    });
}

#[test]
fn audit_logs_say_what_was_done_and_stay_short() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        let (first, _) = lab.apply(&inventory).await;
        let longest = lab.connect.host("k1").with(|host| host.audit.iter().map(String::len).max());
        assert!(longest.is_some_and(|length| length < 1500), "{longest:?}");
        let lines = audit::lines(&first);
        assert!(
            lines.iter().any(|line| line.starts_with("zookeeper on ") && line.contains("; ")),
            "{lines:?}"
        );
        inventory.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "16".to_owned());
        let (plan, _) = lab.apply(&inventory).await;
        let words = "file /etc/aesop/kafka/server.properties; restart aesop-kafka.service; the broker takes in what changed (no restart)";
        assert_eq!(audit::lines(&plan), [format!("kafka on k1, k2, k3: {words}")]);
        let noted = lab.connect.host("k2").with(|host| host.audit.clone());
        assert!(noted.iter().any(|line| line.ends_with(&format!(" kafka: {words}"))), "{noted:?}");
    });
}
