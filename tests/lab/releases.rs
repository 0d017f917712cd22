//! Hosts of all releases that aesop is made for, in one cluster: their own Java, C library, systemd, sshd and sudo.
//! Kafka is 3.9 there, with TLS and users.

use crate::client;
use crate::cluster::wait;
use crate::program;
use crate::secrets::{self, Watch};
use crate::site::Site;
use aesop::kafka::read::Reader;
use aesop::lab::shop::{self, Server};
use aesop::lab::{self, HostKind, HostSpec, Release};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// Each with what it says of itself.
const RELEASES: [(&str, Release, &str); 3] = [
    ("d13", DEBIAN.0, DEBIAN.1),
    ("u22", Release::Ubuntu2204, "ubuntu|22.04"),
    ("u24", Release::Ubuntu2404, "ubuntu|24.04"),
];
/// Stands for those that this machine knows no archive of.
const DEBIAN: (Release, &str) = (Release::Debian13, "debian|13");
const PASSWORD: &str = "reader-sentinel-1";
const NEXT_PASSWORD: &str = "reader-sentinel-2";
const SOURCE_PASSWORD: &str = "source-sentinel-1";
/// Where rows of the shop's orders go.
const ORDERS: &str = "shop.shop.orders";

/// Java comes by the plan, from each distribution; rows flow from Debian 12's database over relay and consumer into Kafka,
/// whose strangers stay out; a password changes while it runs; a host is rebooted.
pub(crate) fn each_carries_something() {
    let releases = RELEASES.map(|(name, release, said)| {
        if release.can_be_had() {
            return (name, release, said);
        }
        eprintln!("    {said} is left out: apt's sources have no archive of it, and AESOP_LAB_UBUNTU_MIRROR is not set");
        (name, DEBIAN.0, DEBIAN.1)
    });
    let others = releases.map(|(name, release, _)| HostSpec::new(name).release(release));
    let hosts = others.into_iter().chain([HostSpec::new("d12").kind(HostKind::MariaDb)]);
    let site = Site::new("releases", hosts.collect());
    for (name, _, release) in releases {
        let words = ["sh", "-c", ". /etc/os-release; echo \"$ID|$VERSION_ID\"; ! [ -e /usr/bin/java ]"];
        assert_eq!(site.host(name).run(&words).expect("no Java yet").trim(), release);
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        shop::create(&database(&site)).await.expect("the shop opens");
        shop::create_reader(&database(&site), "aesop", SOURCE_PASSWORD).await.expect("the reader is made");
    });
    secret(&site, "reader.password", PASSWORD);
    secret(&site, "database.password", SOURCE_PASSWORD);
    write_inventory(&site);
    let watch = Watch::start();
    let applied = program::apply(|args| site.aesop(args));
    let bootstrap = format!("{}:9092", site.address("d13"));
    let authority = site.file("site.secrets/kafka-tls/ca.crt");
    sell(&site, &runtime, 0, 30);
    reads(&bootstrap, &client::reader(&authority, PASSWORD), 30);
    client::strangers_stay_out(&bootstrap, &authority);
    client::zookeeper_gives_strangers_nothing(&format!("{}:2181", site.address("u22")));
    let plan = a_password_changes_without_a_restart(&site, &bootstrap, &authority);
    nothing_tells_a_secret(&site, watch, &format!("{}{}{plan}", applied.stdout, applied.stderr));
    site.ok(&["reboot", "--yes", "--on", "d13"]);
    sell(&site, &runtime, 30, 30);
    reads(&bootstrap, &client::reader(&authority, NEXT_PASSWORD), 60);
    let plan = site.ok(&["plan", "--exit-code"]);
    assert!(plan.stdout.contains("No changes"), "{}", plan.stdout);
    site.lab.down().expect("the lab goes");
}

/// A file that only its owner can read.
fn secret(site: &Site, name: &str, text: &str) {
    fs::write(site.file(name), text).expect("a file");
    fs::set_permissions(site.file(name), fs::Permissions::from_mode(0o600)).expect("its mode");
}

fn database(site: &Site) -> Server {
    Server {
        host: site.address("d12"),
        port: lab::DATABASE_PORT,
        user: lab::DATABASE_USER.to_owned(),
        password: site.lab.password().to_owned(),
    }
}

/// ZooKeeper runs with the Java of Ubuntu 22.04, Kafka with that of Debian 13.
fn write_inventory(site: &Site) {
    let names = RELEASES.iter().map(|(name, ..)| *name).chain(["d12"]);
    let hosts: String =
        names.map(|name| format!("  {name}: {{address: {}}}\n", site.address(name))).collect();
    site.inventory(&format!(
        "cluster: site
ssh: {{user: deploy}}
hosts:
{hosts}
zookeeper: {{hosts: [{{host: u22, heap: 96m}}]}}
kafka:
  version: 3.9.1
  hosts: [{{host: d13, heap: 320m}}]
  tls: {{}}
  sasl: {{users: {{reader: {{file: reader.password}}}}}}
sources:
  shop:
    mysql: {{host: {database}, user: aesop, password: {{file: database.password}}}}
    tables: [\"shop.*\"]
relays: {{hosts: [u24]}}
consumers:
  kafka-json: {{hosts: [u22, d12], sources: [shop], partitions: 4}}
",
        database = site.address("d12"),
    ));
}

fn sell(site: &Site, runtime: &tokio::runtime::Runtime, from: u64, count: u64) {
    runtime.block_on(async {
        let mut conn = database(site).connect().await.expect("the database answers");
        for n in from..from + count {
            shop::step(&mut conn, n).await.expect("a step of the traffic");
        }
    });
}

/// Waits until somebody with these settings has read so many orders that were made.
fn reads(bootstrap: &str, settings: &[(String, String)], orders: usize) {
    let settings: Vec<(&str, &str)> =
        settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut reader = Reader::with(bootstrap, ORDERS, &settings).expect("a reader");
    let mut seen = BTreeMap::new();
    wait("the orders", || {
        reader.refresh().ok()?;
        while let Ok(Some(record)) = reader.next(Duration::from_secs(1)) {
            let value = String::from_utf8(record.value.expect("a value")).expect("UTF-8");
            if value.contains("\"op\":\"insert\"") {
                seen.insert((record.partition, record.offset), value);
            }
        }
        (seen.len() >= orders).then_some(())
    });
}

fn a_password_changes_without_a_restart(site: &Site, bootstrap: &str, authority: &str) -> String {
    let pid = || site.host("d13").run(&["systemctl", "show", "-P", "MainPID", "aesop-kafka"]).expect("a pid");
    let before = pid();
    secret(site, "reader.password", NEXT_PASSWORD);
    let said = program::apply(|args| site.aesop(args));
    assert_eq!(pid(), before);
    // Brokers take it in a moment later than it was acknowledged.
    let let_in = |password| client::is_let_in(bootstrap, &client::reader(authority, password));
    wait("the new password", || let_in(NEXT_PASSWORD).then_some(()));
    wait("the old password's end", || (!let_in(PASSWORD)).then_some(()));
    said.stdout + &said.stderr
}

fn nothing_tells_a_secret(site: &Site, watch: Watch, said: &str) {
    let mut all = [PASSWORD, NEXT_PASSWORD, SOURCE_PASSWORD].map(str::to_owned).to_vec();
    all.extend(secrets::generated(Path::new(&site.file("site.secrets"))));
    watch.saw_none_of(&all);
    secrets::is_not_told(said, &all, "an output");
    for name in RELEASES.iter().map(|(name, ..)| *name).chain(["d12"]) {
        secrets::are_readable_by_their_owners_only(&site.host(name), &all);
    }
}
