//! A controller without Maven and with nothing in its cache: what it deploys comes from a bundle. And other builds of
//! aesop's own programs.

use crate::cluster::{Cluster, Said};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const PROGRAMS: [&str; 3] = ["aesop", "aesop-relay", "aesop-consumer"];

/// Packs what the inventory needs, with Maven, and applies it without, from another folder with the program alone.
pub(crate) fn deploy_from_bundle(cluster: &Cluster) -> Said {
    let bundle = cluster.path("story.bundle");
    let file = bundle.display().to_string();
    cluster.aesop_ok(&["bundle", "-o", &file]);
    let site = cluster.path("site");
    fs::create_dir_all(&site).expect("a folder");
    let unpacked = Command::new("tar").arg("-xf").arg(&bundle).arg("-C").arg(&site).arg("bin").status();
    assert!(unpacked.expect("tar runs").success());
    let offline = |args: &[&str]| {
        let output = Command::new(site.join("bin/aesop"))
            .arg("-i")
            .arg(cluster.path("story.yml"))
            .args(args)
            .env("PATH", without_maven(&site))
            .env("AESOP_CACHE", site.join("cache"))
            .stdin(Stdio::null())
            .output();
        let output = output.expect("the bundle's aesop runs");
        (output.status.success(), Said::from(output))
    };
    let (done, said) = offline(&["apply", "--yes"]);
    assert!(!done && said.stderr.contains("there is no `mvn` on this machine"), "{}", said.stderr);
    let (done, said) = offline(&["apply", "--yes", "--bundle", &file]);
    assert!(done, "{}\n{}", said.stdout, said.stderr);
    let (done, plan) = offline(&["plan", "--exit-code"]);
    assert!(done, "what was in the bundle is in the cache: {}\n{}", plan.stdout, plan.stderr);
    fs::remove_dir_all(&site).expect("the site goes");
    fs::remove_file(bundle).expect("the bundle goes");
    said
}

/// Links to all that `aesop` calls here, but Maven.
fn without_maven(site: &Path) -> PathBuf {
    let folder = site.join("path");
    fs::create_dir_all(&folder).expect("a folder");
    for program in ["ssh", "sh"] {
        let link = folder.join(program);
        if !link.exists() {
            std::os::unix::fs::symlink(Path::new("/usr/bin").join(program), link).expect("a link");
        }
    }
    folder
}

/// Programs of another build come to all hosts, and the first ones again, while rows flow. An older aesop's hands are
/// kept off.
pub(crate) fn other_builds_roll_out(cluster: &std::sync::Arc<Cluster>) {
    let next = cluster.path("next");
    fs::create_dir_all(&next).expect("a folder");
    let ours = Path::new(env!("CARGO_BIN_EXE_aesop")).parent().expect("a folder");
    for program in PROGRAMS {
        let mut bytes = fs::read(ours.join(program)).expect("the program");
        // Behind the end of an ELF file: the same program, by another hash.
        bytes.push(b'\n');
        fs::write(next.join(program), bytes).expect("the other build");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(next.join(program), mode).expect("it may run");
    }
    let upgrade = |program: &Path| {
        let output = Command::new(program)
            .arg("-i")
            .arg(cluster.path("story.yml"))
            .args(["upgrade", "--yes"])
            .stdin(Stdio::null())
            .output();
        let output = output.expect("aesop runs");
        let said = Said::from(output.clone());
        assert!(output.status.success(), "{}\n{}", said.stdout, said.stderr);
        said
    };
    cluster.sell_while(|| {
        let said = upgrade(&next.join("aesop"));
        assert!(said.stderr.contains("relay1: aesop, aesop-relay from "), "{}", said.stderr);
        let relay = said.stderr.find("== relay on").expect("relays are worked on");
        let consumer = said.stderr.find("== consumer/kafka-json on").expect("consumers are worked on");
        assert!(relay < consumer, "relays before consumers: {}", said.stderr);
        let said = upgrade(&next.join("aesop"));
        assert!(said.stderr.contains("Every host runs the programs of this aesop"), "{}", said.stderr);
        upgrade(&ours.join("aesop"));
    });
    cluster.kafka_equals_select();
    fs::remove_dir_all(next).expect("the other build goes");
    an_older_aesop_is_refused(cluster);
}

fn an_older_aesop_is_refused(cluster: &Cluster) {
    let copy = "/var/lib/aesop/state/cluster.lock";
    let host = cluster.host("consumer1");
    let set = |from: &str, to: &str| {
        host.run(&["sed", "-i", &format!("s/^aesop: {from}$/aesop: {to}/"), copy])
            .expect("the copy is edited");
    };
    set(env!("CARGO_PKG_VERSION"), "99.0.0");
    let said = Said::from(cluster.aesop(&["apply", "--yes"]));
    set("99.0.0", env!("CARGO_PKG_VERSION"));
    assert!(
        said.stderr.contains("consumer1: it was deployed by aesop 99.0.0 and this is aesop"),
        "{}",
        said.stderr
    );
}
