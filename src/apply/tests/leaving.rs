//! What is no longer declared goes; what somebody edited is told apart; what does not become ready comes back.

use super::*;

#[test]
fn what_is_no_longer_declared_goes_and_data_stays() {
    block_on(async {
        let lab = Lab::new();
        lab.apply(&inventory(lab.folder.path(), 1, 1, 2, true)).await;
        // k1 was the monitor as well.
        let after = inventory(lab.folder.path(), 1, 1, 2, false);
        let (plan, report) = lab.apply(&after).await;
        assert!(report.is_success(), "{report:#?}");
        let removals: Vec<&str> =
            plan.stages.iter().filter(|stage| stage.removes).map(|stage| stage.service.as_str()).collect();
        assert_eq!(removals, ["monitor"]);
        let last = plan.stages.iter().position(|stage| stage.removes).unwrap();
        assert_eq!(last + 2, plan.stages.len(), "removals come last, but for the generation");
        lab.connect.host("k1").with(|host| {
            for unit in ["aesop-monitor.service", "aesop-lag-report.timer"] {
                assert!(!host.active.contains(unit) && !host.enabled.contains(unit), "{unit}");
                assert!(!host.files.contains_key(&format!("/etc/systemd/system/{unit}")), "{unit}");
            }
            assert!(!host.files.contains_key("/etc/aesop/monitor.yml"));
            assert!(host.files.contains_key("/etc/aesop/kafka/server.properties"));
            assert!(host.directories.contains_key("/var/lib/aesop/monitor"), "data outlives its service");
            assert!(host.active.contains("aesop-kafka.service"));
        });
        assert!(lab.plan(&after).await.is_empty());
    });
}

/// The files of a host that everybody may read, by path, as a tree that `git apply` can change.
fn public(lab: &Lab, host: &str) -> std::collections::BTreeMap<String, Vec<u8>> {
    lab.connect.host(host).with(|state| {
        let open = |file: &&crate::host::fake::FakeFile| file.1.ends_with(['4', '5', '6', '7']);
        let files = state.files.iter().filter(|(_, file)| open(file) && !file.0.starts_with(b"-----BEGIN"));
        files.map(|(path, file)| (path.clone(), file.0.clone())).collect()
    })
}

#[test]
fn patches_make_what_is_there_what_will_be() {
    block_on(async {
        let lab = Lab::new();
        lab.apply(&inventory(lab.folder.path(), 1, 1, 2, true)).await;
        // An edit, another mode, the monitor that leaves k1 for m1, a setting: all kinds of changes.
        lab.connect.host("k1").with(|host| {
            host.files.get_mut("/etc/aesop/kafka/server.properties").unwrap().0.extend_from_slice(b"x=1\n");
            host.files.get_mut("/etc/aesop/agent.yml").unwrap().1 = "666".to_owned();
        });
        let mut after = inventory(lab.folder.path(), 1, 1, 2, false);
        after.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "16".to_owned());
        let tree = tempfile::tempdir().unwrap();
        for host in ["k1", "m1"] {
            for (path, bytes) in public(&lab, host) {
                let path = tree.path().join(format!("{host}{path}"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
        let plan = lab.plan(&after).await;
        let text = crate::plan::render_diffs(&plan.diffs, true);
        for words in ["deleted file mode 100644", "new file mode 100644", "old mode 100666\nnew mode 100644"]
        {
            assert!(text.contains(words), "no {words:?} in\n{text}");
        }
        let patch = tree.path().join("plan.diff");
        std::fs::write(&patch, &text).unwrap();
        let applied = std::process::Command::new("git")
            .args(["apply", "--include=k1/*", "--include=m1/*", "plan.diff"])
            .current_dir(tree.path())
            .env("GIT_CEILING_DIRECTORIES", tree.path().parent().unwrap())
            .output()
            .expect("git");
        assert!(applied.status.success(), "{}\n{text}", String::from_utf8_lossy(&applied.stderr));
        let (_, report) = lab.apply(&after).await;
        assert!(report.is_success(), "{report:#?}");
        for host in ["k1", "m1"] {
            let files = public(&lab, host);
            for (path, bytes) in &files {
                let patched = std::fs::read(tree.path().join(format!("{host}{path}"))).ok();
                assert_eq!(patched.as_ref(), Some(bytes), "{host}: {path}");
            }
            let left = plan.diffs.iter().filter(|diff| diff.hosts == [host] && diff.mode.is_none());
            for diff in left.filter(|diff| !diff.secret) {
                assert!(!tree.path().join(format!("{host}{}", diff.path)).exists(), "{}", diff.path);
            }
        }
    });
}

#[test]
fn artifacts_go_with_the_last_generation_that_ran_from_them() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 1, 1, 1, true);
        lab.apply(&inventory).await;
        lab.connect.host("k1").with(|host| {
            host.artifacts.insert("old".to_owned());
            host.generations.insert(1, ("{}".to_owned(), "old".to_owned()));
        });
        for round in 0..6 {
            let role = inventory.kafka.as_mut().unwrap();
            role.config.insert("queued.max.requests".to_owned(), format!("{}", 8 + round));
            let (_, report) = lab.apply(&inventory).await;
            assert!(report.is_success(), "{report:#?}");
            assert!(lab.plan(&inventory).await.is_empty());
            let (kept, old) =
                lab.connect.host("k1").with(|host| (host.generations.len(), host.artifacts.contains("old")));
            assert_eq!(kept, 5.min(round + 2));
            assert_eq!(old, round < 4, "round {round}");
        }
    });
}

#[test]
fn an_edit_on_a_host_is_told_apart_from_intent() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 2, 1, 1, false);
        lab.apply(&inventory).await;
        let path = "/etc/aesop/kafka/server.properties";
        lab.connect.host("k1").with(|host| host.files.get_mut(path).unwrap().0.extend_from_slice(b"x=1\n"));
        lab.connect.host("k2").with(|host| assert!(host.active.remove("aesop-kafka.service")));
        let found = |plan: &crate::plan::Plan| -> Vec<String> {
            plan.drift.iter().map(|drift| format!("{} {} {}", drift.host, drift.name, drift.found)).collect()
        };
        let plan = lab.plan(&inventory).await;
        let both = [format!("k1 {path} edited"), "k2 aesop-kafka.service stopped".to_owned()];
        assert_eq!(found(&plan), both);
        assert!(plan.diffs.iter().all(|diff| diff.drift));
        // Intent on top: it is k2's only, and the drift of k1 is still one.
        inventory.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "16".to_owned());
        let plan = lab.plan(&inventory).await;
        assert_eq!(found(&plan), both);
        let diffs: Vec<(&[String], bool)> =
            plan.diffs.iter().map(|diff| (diff.hosts.as_slice(), diff.drift)).collect();
        assert_eq!(diffs, [(&["k1".to_owned()][..], true), (&["k2".to_owned()][..], false)]);
    });
}

#[test]
fn what_does_not_become_ready_comes_back() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        let before = lab.connect.host("k1").with(|host| host.disk());
        for name in ["k1", "k2", "k3"] {
            lab.connect.host(name).with(|host| host.poison = Some("queued.max.requests=bad".to_owned()));
        }
        let good = inventory.clone();
        inventory.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "bad".to_owned());
        lab.clear_logs(&inventory);
        let (_, report) = lab.apply(&inventory).await;
        assert_eq!(report.failures.len(), 1, "{report:#?}");
        assert!(
            report.failures[0]
                .error
                .ends_with("the former files were put back, and kafka is ready with them again"),
            "{report:#?}"
        );
        assert_eq!(lab.restarted(), ["k1"], "no other broker is touched");
        lab.connect.host("k1").with(|host| {
            assert_eq!(host.disk(), before);
            assert_eq!(host.started_with["aesop-kafka.service"], before);
        });
        // Once the inventory is as before, nothing is restarted.
        let plan = lab.plan(&good).await;
        assert_eq!(plan.summary().restarts, 0, "{:#?}", plan.steps().collect::<Vec<_>>());
    });
}

#[test]
fn nothing_goes_back_over_who_is_who() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        for (key, value, back) in [("queued.max.requests", "16", true), ("process.roles", "broker", false)] {
            let role = inventory.kafka.as_mut().unwrap();
            role.config.clear();
            role.config.insert(key.to_owned(), value.to_owned());
            let plan = lab.plan(&inventory).await;
            let waves = || plan.stages.iter().flat_map(|stage| &stage.waves);
            assert!(waves().any(|wave| !wave.steps.is_empty()));
            assert_eq!(waves().any(|wave| !wave.put_back.is_empty()), back, "{key}");
        }
    });
}
