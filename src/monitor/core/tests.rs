use super::*;
use crate::alert::Kind;
use crate::monitor::config::{LagReportConfig, MonitoredHost};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_359_000 + second).unwrap()
}

fn config() -> MonitorConfig {
    let host = |roles: &[&str]| MonitoredHost {
        agent: String::new(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
    };
    MonitorConfig {
        cluster: "shop".to_owned(),
        host: "m1".to_owned(),
        listen: String::new(),
        interval_secs: 10,
        data_dir: "/nowhere".into(),
        ca_certificate: "/nowhere".into(),
        token_file: "/nowhere".into(),
        hosts: ["k1", "k2", "k3"].iter().map(|k| ((*k).to_owned(), host(&["zookeeper", "kafka"]))).collect(),
        zookeeper: serde_json::from_value(serde_json::json!({"servers": []})).unwrap(),
        sources: BTreeMap::new(),
        groups: BTreeMap::new(),
        email: None,
        lag_report: LagReportConfig { high_secs: 300, medium_secs: 60, to: Vec::new() },
        rules: None,
        url: None,
        alerts: AlertConfig::default(),
    }
}

/// What the agents of three brokers say. `down`: the broker that is stopped; `behind`: the others' partitions still
/// lack it.
fn readings(host: &str, down: Option<&str>, behind: bool, now: Timestamp) -> Vec<Sample> {
    let sample = |name: &str, value: f64| Sample::new(name, value, now).label("host", host);
    let kafka = |name: &str, value: f64| sample(name, value).label("service", "kafka");
    let up = down != Some(host);
    let truth = |truth: bool| f64::from(u8::from(truth));
    let mut samples = vec![
        sample("agent_up", 1.0).label("roles", "zookeeper kafka"),
        kafka("unit_active", truth(up)).label("unit", "aesop-kafka.service").note("inactive (dead)"),
        sample("unit_active", 1.0).label("unit", "aesop-zookeeper.service").label("service", "zookeeper"),
        kafka("unit_restarts_total", 0.0).label("unit", "aesop-kafka.service"),
        kafka("probe_up", truth(up)).label("probe", "jolokia").note("connection refused"),
        sample("probe_up", 1.0).label("probe", "host"),
    ];
    if up {
        samples.extend([
            kafka("kafka_under_replicated_partitions", truth(behind) * 12.0),
            kafka("kafka_fenced_brokers", truth(behind)),
            kafka("kafka_offline_partitions", 0.0),
            kafka("kafka_under_min_isr_partitions", 0.0),
            kafka("kafka_active_controller", truth(host == if down == Some("k1") { "k2" } else { "k1" })),
        ]);
    }
    samples
}

/// Runs from `from` to `to` in steps of ten seconds and gives what is sent, and when.
fn run(core: &mut Core, from: i64, to: i64, down: Option<&str>, behind: bool) -> Vec<(i64, Outgoing)> {
    let mut sent = Vec::new();
    for second in (from..to).step_by(10) {
        for host in ["k1", "k2", "k3"] {
            core.observe(host, readings(host, down, behind, at(second)));
        }
        // The loop steps between polls too, whenever lag or mail has news.
        for now in [second, second + 5] {
            sent.extend(core.step(at(now)).into_iter().map(|outgoing| (now, outgoing)));
        }
    }
    sent
}

fn kinds(sent: &[(i64, Outgoing)]) -> Vec<(i64, Kind, String)> {
    sent.iter()
        .map(|(now, outgoing)| match outgoing {
            Outgoing::Notice(notice, _) => (*now, notice.kind, notice.title()),
            Outgoing::Digest(_) => panic!("no digest here"),
        })
        .collect()
}

#[test]
fn a_stopped_broker_is_one_mail_and_one_when_it_is_back() {
    let mut core = Core::new(&config(), RuleSet::built_in().unwrap(), State::default(), at(0));
    assert_eq!(kinds(&run(&mut core, 0, 300, None, false)), []);
    // Ten minutes without the broker that was the controller: everything else sees it too.
    let sent = run(&mut core, 300, 900, Some("k1"), true);
    let down = "kafka is down on k1: inactive (dead)".to_owned();
    assert_eq!(kinds(&sent), [(320, Kind::Problem, down.clone())]);
    // Back, but its partitions take a minute and a half to catch up.
    let mut sent = run(&mut core, 900, 990, None, true);
    sent.extend(run(&mut core, 990, 3000, None, false));
    assert_eq!(kinds(&sent), [(915, Kind::Resolved, down)]);
}

#[test]
fn a_symptom_that_outlives_its_cause_is_mailed_by_itself() {
    let mut core = Core::new(&config(), RuleSet::built_in().unwrap(), State::default(), at(0));
    run(&mut core, 0, 300, None, false);
    run(&mut core, 300, 600, Some("k1"), true);
    let sent = kinds(&run(&mut core, 600, 1200, None, true));
    assert_eq!(sent[0].1, Kind::Resolved);
    assert!(
        sent[1..].iter().any(|(_, kind, title)| *kind == Kind::Problem && title.contains("under-replicated"))
    );
}

#[test]
fn the_mail_names_the_symptoms_seen_so_far() {
    let mut core = Core::new(&config(), RuleSet::built_in().unwrap(), State::default(), at(0));
    run(&mut core, 0, 300, None, false);
    let sent = run(&mut core, 300, 400, Some("k1"), true);
    let [(_, Outgoing::Notice(_, symptoms))] = sent.as_slice() else { panic!("one mail: {sent:?}") };
    assert!(symptoms.iter().any(|line| line.contains("under-replicated")), "{symptoms:?}");
}

#[test]
fn a_restart_of_the_monitor_in_between_sends_nothing_twice_and_forgets_nothing() {
    let rules = RuleSet::built_in().unwrap();
    let mut core = Core::new(&config(), rules.clone(), State::default(), at(0));
    run(&mut core, 0, 300, None, false);
    assert_eq!(run(&mut core, 300, 400, Some("k1"), true).len(), 1);
    let json = serde_json::to_vec(&core.state()).unwrap();
    let state: State = serde_json::from_slice(&json).unwrap();
    assert_eq!(state, core.state());
    let mut core = Core::new(&config(), rules, state, at(400));
    assert_eq!(kinds(&run(&mut core, 400, 800, Some("k1"), true)), []);
    assert_eq!(kinds(&run(&mut core, 800, 1000, None, false))[0].1, Kind::Resolved);
}

#[test]
fn nothing_is_mailed_before_the_first_readings_have_settled() {
    let mut core = Core::new(&config(), RuleSet::built_in().unwrap(), State::default(), at(0));
    let sent = run(&mut core, 0, 300, Some("k1"), true);
    assert_eq!(sent.first().map(|(now, _)| *now), Some(60));
    assert_eq!(sent.len(), 1);
}

#[test]
fn work_that_was_announced_is_not_mailed_and_neither_are_its_traces() {
    let mut core = Core::new(&config(), RuleSet::built_in().unwrap(), State::default(), at(0));
    run(&mut core, 0, 300, None, false);
    let work = Downtime {
        host: "k1".to_owned(),
        service: Some("kafka".to_owned()),
        until: at(2000),
        reason: "apply".to_owned(),
    };
    core.set_downtimes(vec![work], at(300));
    assert_eq!(kinds(&run(&mut core, 300, 500, Some("k1"), true)), []);
    // The gate closed it; partitions catch up within the linger.
    core.set_downtimes(Vec::new(), at(500));
    let mut sent = run(&mut core, 500, 560, None, true);
    sent.extend(run(&mut core, 560, 1500, None, false));
    assert_eq!(kinds(&sent), []);
}

/// Every server of an ensemble restarts within three minutes, each time with an election that the others see. More
/// that nobody announced, later, is mailed.
#[test]
fn elections_of_announced_work_are_not_mailed_and_those_after_it_are() {
    let mut core = Core::new(&config(), RuleSet::built_in().unwrap(), State::default(), at(0));
    let held = [310, 370, 430, 440, 1500, 1520, 1540];
    let mut sent = Vec::new();
    for second in (0..2000).step_by(10) {
        let work = |(host, begin): (&str, i64)| Downtime {
            host: host.to_owned(),
            service: None,
            until: at(begin + 600),
            reason: "reboot".to_owned(),
        };
        let begun = [("k1", 300), ("k2", 360), ("k3", 420)];
        let current = begun.into_iter().filter(|(_, begin)| (*begin..begin + 50).contains(&second));
        core.set_downtimes(current.map(work).collect(), at(second));
        for host in ["k1", "k2", "k3"] {
            let count = held.iter().filter(|at| **at <= second).count();
            let elections =
                Sample::new("zookeeper_elections_total", count.try_into().map(to_value).unwrap(), at(second));
            let mut samples = readings(host, None, false, at(second));
            samples.push(elections.label("host", host).label("service", "zookeeper"));
            core.observe(host, samples);
        }
        sent.extend(core.step(at(second)).into_iter().map(|outgoing| (second, outgoing)));
    }
    let title = "ZooKeeper held 3 elections in 10 minutes, as k3 saw it (and 2 more)".to_owned();
    assert_eq!(kinds(&sent), [(1550, Kind::Problem, title)]);
}

#[test]
fn a_dead_host_is_one_mail() {
    let mut core = Core::new(&config(), RuleSet::built_in().unwrap(), State::default(), at(0));
    run(&mut core, 0, 300, None, false);
    let mut sent = Vec::new();
    for second in (300..700).step_by(10) {
        let gone =
            Sample::new("agent_up", 0.0, at(second)).label("host", "k2").label("roles", "zookeeper kafka");
        core.observe("k2", vec![gone.note("connection timed out")]);
        for host in ["k1", "k3"] {
            core.observe(host, readings(host, None, true, at(second)));
        }
        sent.extend(core.step(at(second)).into_iter().map(|outgoing| (second, outgoing)));
    }
    let title = "host k2 does not answer: connection timed out".to_owned();
    assert_eq!(kinds(&sent), [(340, Kind::Problem, title)]);
}

#[test]
fn a_flood_becomes_a_digest() {
    let mut config = config();
    config.alerts.mails_per_hour = 3;
    let mut core = Core::new(&config, RuleSet::built_in().unwrap(), State::default(), at(0));
    let mut sent = Vec::new();
    for second in (0..3600).step_by(10) {
        for host in ["k1", "k2", "k3"] {
            let down = (second >= 300).then_some(host);
            core.observe(host, readings(host, down, false, at(second)));
        }
        sent.extend(core.step(at(second)));
    }
    let digests: Vec<usize> = sent
        .iter()
        .filter_map(|outgoing| match outgoing {
            Outgoing::Digest(notices) => Some(notices.len()),
            Outgoing::Notice(..) => None,
        })
        .collect();
    assert_eq!((sent.len(), digests), (2, vec![2]));
}

#[test]
fn lag_becomes_samples() {
    let mut core = Core::new(&config(), RuleSet::built_in().unwrap(), State::default(), at(0));
    let report = LagReport {
        version: 1,
        cluster: "shop".to_owned(),
        at: at(0),
        level: crate::lag::Level::High,
        problems: vec!["could not ask source shop where its binlog ends: refused".to_owned()],
        sources: vec![crate::lag::SourceLag {
            source: "shop".to_owned(),
            file: None,
            offset: None,
            relays: Vec::new(),
        }],
        groups: vec![crate::lag::GroupLag { group: "g".to_owned(), members: 0, unowned: 4 }],
        partitions: Vec::new(),
    };
    for second in (0..400).step_by(20) {
        core.observe_lag(LagReport { at: at(second), ..report.clone() });
        core.step(at(second));
    }
    let mut rules: Vec<String> = core.alerts(at(400)).into_iter().map(|view| view.alert.rule).collect();
    rules.sort();
    assert_eq!(
        rules,
        ["group_partitions_unowned", "group_without_members", "source_unreadable", "source_without_relay"]
    );
}
