//! What every host has.

use super::jvm::JAVA;
use super::{Directory, File, Inputs, Link, Package, Part, Role, ServiceError, User, paths};
use crate::inventory::model::Java;
use minijinja::context;

pub(super) fn directory(path: &str, mode: u32, owner: &str) -> Directory {
    Directory { path: path.to_owned(), mode, owner: owner.to_owned(), group: owner.to_owned() }
}

pub(super) fn part(inputs: &Inputs<'_>, host: &str, parts: &mut Vec<Part>) -> Result<(), ServiceError> {
    let mut part = Part::new(Role::Base, "base");
    // A host that has extras alone runs nothing of aesop's.
    let own = parts.iter().any(|part| part.role != Role::Extra);
    part.users.extend(own.then(|| User { name: "aesop".to_owned(), home: paths::DATA.to_owned() }));
    for (path, mode, needed) in [
        (paths::OPT, 0o755, true),
        (paths::BIN, 0o755, own),
        (paths::ARTIFACTS, 0o755, true),
        (paths::ETC, 0o755, own),
        // Services of different users each open a file of their own below it; none may list it.
        (paths::SECRETS, 0o711, own),
        (paths::DATA, 0o755, true),
        (paths::STATE, 0o755, true),
        (paths::LOG, 0o755, true),
    ] {
        part.directories.extend(needed.then(|| directory(path, mode, "root")));
    }
    let jvm = parts.iter().any(|part| matches!(part.role, Role::ZooKeeper | Role::Kafka));
    if let (true, Java::Package(package)) = (jvm, &inputs.inventory.java) {
        // Any Java that is already there is good: which one a site uses is its own choice.
        part.packages.push(Package { unless: JAVA.to_owned(), ..java(package) });
    }
    if parts.iter().any(|part| part.role == Role::Kafka) {
        let values = context! { cluster => &inputs.inventory.cluster };
        let content = inputs.templates.render("base/sysctl.conf.j2", values)?;
        part.files.push(File::new("/etc/sysctl.d/90-aesop.conf", content));
    }
    if !own {
        parts.push(part);
        return Ok(());
    }
    let aesop = inputs.artifact("aesop", host)?;
    part.links.push(Link { path: paths::AESOP.to_owned(), target: format!("{}/aesop", aesop.directory()) });
    part.artifacts.push(aesop);
    parts.push(part);
    Ok(())
}

/// The default of one release is too old for Kafka 4.
fn java(package: &str) -> Package {
    let other = ("ubuntu 22.04".to_owned(), "openjdk-17-jre-headless".to_owned());
    let other = (package == Java::DISTRIBUTION).then_some(other).into_iter().collect();
    Package { name: package.to_owned(), other, unless: String::new() }
}
