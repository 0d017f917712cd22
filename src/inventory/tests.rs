//! The inventory from bytes to model; the errors have their golden cases in tests/cases.

use super::model::{Inventory, Java, KafkaMode, KnownHosts, SecretRef, SmtpTls};
use super::{InventoryError, parse, select};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

const EXAMPLE: &str = include_str!("../../inventory/example.yml");

fn read(text: &str) -> Result<Inventory, InventoryError> {
    parse(Path::new("inventory/shop.yml"), text.as_bytes(), &|path| {
        Ok(format!("rules of {}", path.display()))
    })
}

#[test]
fn every_key_of_the_example_has_its_place() {
    let inventory = read(EXAMPLE).unwrap();
    assert_eq!(inventory.cluster, "shop");
    assert_eq!(inventory.hosts.len(), 8);
    let k2 = &inventory.hosts["k2"];
    assert_eq!((k2.address.as_str(), k2.rack.as_deref(), k2.ssh.port), ("10.0.0.12", Some("b"), Some(2222)));
    assert_eq!((k2.ssh.user.as_deref(), k2.ssh.become_root), (Some("deploy"), true), "inherited");
    assert_eq!(inventory.hosts["10.0.0.11"].ssh.port, None);
    let kafka = inventory.kafka.as_ref().unwrap();
    assert_eq!((kafka.version.as_str(), kafka.mode), ("4.2.0", KafkaMode::Kraft));
    assert_eq!(kafka.members[1].host, "k2");
    assert_eq!(kafka.members[1].heap, Some(2 << 30));
    assert_eq!(kafka.members[1].config["num.io.threads"], "16");
    let shop = &inventory.sources["shop"];
    assert_eq!(shop.mysql.password, Some(SecretRef::Env("SHOP_DB_PASSWORD".to_owned())));
    assert_eq!(shop.tables, ["shop.*", "!shop.sessions"]);
    assert_eq!(shop.exclude_columns, ["shop.users.password"]);
    let relays = inventory.relays.as_ref().unwrap();
    assert_eq!(relays.members[1].sources, ["billing", "shop"]);
    assert_eq!((relays.retention.bytes, relays.retention.age_secs), (4 << 30, 86_400));
    let group = &inventory.consumers["kafka-json"];
    assert_eq!((group.partitions, group.sources.len(), group.hosts.len()), (16, 2, 2));
    assert_eq!(group.sink.topic, "{{ source }}.{{ database }}.{{ table }}");
    let monitor = inventory.monitor.as_ref().unwrap();
    let email = monitor.email.as_ref().unwrap();
    assert_eq!((email.smtp.port, email.smtp.tls), (587, SmtpTls::Starttls));
    assert_eq!(monitor.lag_report.on_calendar, "hourly");
    assert_eq!(
        (monitor.lag_report.high, monitor.lag_report.medium),
        (Duration::from_mins(5), Duration::from_mins(1))
    );
}

#[test]
fn everything_but_addresses_has_a_default() {
    let text = "
cluster: c
zookeeper: {hosts: [10.0.0.1]}
kafka: {hosts: [10.0.0.1]}
sources: {s: {mysql: {host: db, user: u}}}
relays: {hosts: [10.0.0.1]}
consumers: {g: {hosts: [10.0.0.1]}}
monitor: {hosts: [10.0.0.1], rules: mine.yml}
";
    let inventory = read(text).unwrap();
    assert_eq!(inventory.hosts["10.0.0.1"].ssh.known_hosts, KnownHosts::Strict);
    assert_eq!(inventory.java, Java::Package("default-jre-headless".to_owned()));
    let group = &inventory.consumers["g"];
    assert_eq!((group.partitions, group.sources.as_slice()), (16, ["s".to_owned()].as_slice()));
    let monitor = inventory.monitor.unwrap();
    assert_eq!(monitor.agent_token, SecretRef::Generated("agent-token".to_owned()));
    assert_eq!(monitor.rules.as_deref(), Some("rules of inventory/mine.yml"));
}

#[test]
fn a_number_may_stand_for_a_word_where_it_is_one() {
    let text = "
cluster: c
hosts: {a: {address: 10.0.0.1, rack: 2, ssh: {become: false, known_hosts: ~/known}}}
zookeeper: {hosts: [a]}
kafka: {hosts: [a], config: {x.y: true, z: 0.5, n: -1}}
sources: {s: {mysql: {host: db, user: u}, start: 12903018062}}
";
    let inventory = read(text).unwrap();
    let host = &inventory.hosts["a"];
    assert_eq!(host.rack.as_deref(), Some("2"));
    assert!(!host.ssh.become_root);
    assert_eq!(host.ssh.known_hosts, KnownHosts::File("~/known".into()));
    assert_eq!(inventory.sources["s"].start, "12903018062");
    let config = inventory.kafka.unwrap().config;
    assert_eq!((config["x.y"].as_str(), config["z"].as_str(), config["n"].as_str()), ("true", "0.5", "-1"));
}

#[test]
fn relative_paths_start_at_the_inventory() {
    let text = "
cluster: c
ssh: {identity_file: ssh/key, known_hosts: ssh/hosts}
hosts: {a: {address: 10.0.0.1, ssh: {identity_file: ~/.ssh/id, known_hosts: /etc/hosts.known}}}
zookeeper: {hosts: [a, 10.0.0.2, 10.0.0.3]}
";
    let inventory = read(text).unwrap();
    let ssh = |host: &str| inventory.hosts[host].ssh.clone();
    assert_eq!(ssh("10.0.0.2").identity_file, Some("inventory/ssh/key".into()));
    assert_eq!(ssh("10.0.0.2").known_hosts, KnownHosts::File("inventory/ssh/hosts".into()));
    assert_eq!(ssh("a").identity_file, Some("~/.ssh/id".into()));
    assert_eq!(ssh("a").known_hosts, KnownHosts::File("/etc/hosts.known".into()));
}

#[test]
fn anchors_work_for_whole_values() {
    let text = "
cluster: c
zookeeper: {hosts: &all [10.0.0.1, 10.0.0.2, 10.0.0.3]}
kafka: {hosts: *all}
";
    assert_eq!(read(text).unwrap().kafka.unwrap().members.len(), 3);
}

#[test]
fn hosts_are_selected_by_name_glob_role_and_address() {
    let inventory = read(EXAMPLE).unwrap();
    let on = |selectors: &[&str]| {
        let selectors: Vec<String> = selectors.iter().map(|&s| s.to_owned()).collect();
        select(&inventory, &selectors).map(|hosts| hosts.into_iter().collect::<Vec<_>>().join(" "))
    };
    assert_eq!(on(&[]).unwrap().split(' ').count(), 8);
    assert_eq!(on(&["k2"]).unwrap(), "k2");
    assert_eq!(on(&["10.0.0.12"]).unwrap(), "k2");
    assert_eq!(on(&["10.0.0.3?", "@monitor"]).unwrap(), "10.0.0.31 10.0.0.32 10.0.0.41");
    assert_eq!(on(&["@kafka"]).unwrap(), "10.0.0.11 10.0.0.13 k2");
    assert_eq!(on(&["@consumers/kafka-json"]).unwrap(), "10.0.0.31 10.0.0.32");
    let errors: Vec<String> =
        [["k3"], ["x*"], ["@kafak"], ["@x"]].iter().map(|s| on(s).unwrap_err().to_string()).collect();
    expect_test::expect![[r#"
        --on k3: there is no such host; did you mean `k2`?
        --on x*: no host of the inventory matches
        --on @kafak: there is no role `kafak`; did you mean `@kafka`?
        --on @x: there is no role `x`; this inventory has `zookeeper`, `kafka`, `relays`, `consumers`, `consumers/kafka-json` or `monitor`"#]].assert_eq(&errors.join("\n"));
}

/// Pieces that inventories are made of, put together at random.
fn soup() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "cluster",
        "zookeeper",
        "kafka",
        "hosts",
        "sources",
        "mysql",
        "password",
        "relays",
        "consumers",
        "monitor",
        "sink",
        ": ",
        ":\n  ",
        "\n",
        "\n    ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ", ",
        "10.0.0.1",
        "shop",
        "env",
        "&a ",
        "*a",
        "!x",
        "\t",
        "'",
        "\"",
        "~",
        "9092",
        "-1",
        "1e999",
        "true",
        "é",
        "<<",
        "#",
        "|",
        ">",
        "? ",
        "---\n",
        "%",
        "@",
        "`",
        "\u{feff}",
        "\r\n",
        "\0",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_panics_and_every_refusal_says_why(text in soup()) {
        if let Err(error) = read(&text) {
            prop_assert!(!error.diagnostics.is_empty());
            prop_assert!(error.diagnostics.iter().all(|fault| !fault.message.is_empty()));
            let _shown = (error.render(true), error.render(false));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _read = parse(Path::new("x.yml"), &bytes, &|_| Err(std::io::ErrorKind::NotFound.into()));
    }

    /// The example with one line damaged is read or refused, never with a panic, and a password never shows.
    #[test]
    fn damage_is_reported(line in 0usize..90, at in 0usize..60, junk in "[ -~]{1,3}") {
        let text = EXAMPLE.replace("{env: SHOP_DB_PASSWORD}", "hunter2");
        let damaged: Vec<String> = text.lines().enumerate().map(|(number, old)| {
            if number != line { return old.to_owned() }
            let mut new: String = old.chars().take(at).collect();
            new.push_str(&junk);
            new.extend(old.chars().skip(at + 1));
            new
        }).collect();
        let error = read(&damaged.join("\n")).map(|_| ()).unwrap_err();
        let touches_the_password = damaged.get(line).is_some_and(|l| l.contains("assword") || l.contains("hunter"));
        prop_assert!(touches_the_password || !error.to_string().contains("hunter2"), "{error}");
    }
}
