//! What the user wants on hosts besides: files and units of the user's own, made into a part like any other.

use super::inputs::missing;
use super::jvm::unit_path;
use super::{Directory, File, Gate, Inputs, Link, Part, Role, ServiceError, Unit, User};
use crate::inventory::model::{Extra, ExtraFile};
use minijinja::value::Serde;
use minijinja::{Value, context};
use std::collections::BTreeMap;

/// How long units may take to become active.
const READY_SECS: u64 = 90;
/// No home directory.
const NO_HOME: &str = "/nonexistent";

/// The service's name in plans, and of its artifacts and secrets.
pub(super) fn service(name: &str) -> String {
    format!("extra/{name}")
}

pub(super) fn parts(inputs: &Inputs<'_>, host: &str, parts: &mut Vec<Part>) -> Result<(), ServiceError> {
    for (name, extra) in &inputs.inventory.extras {
        if extra.hosts.iter().any(|member| member == host) {
            parts.push(part(inputs, host, name, extra)?);
        }
    }
    Ok(())
}

fn part(inputs: &Inputs<'_>, host: &str, name: &str, extra: &Extra) -> Result<Part, ServiceError> {
    let mut part = Part::new(Role::Extra, service(name));
    let users = extra.users.iter();
    part.users.extend(users.map(|user| User { name: user.clone(), home: NO_HOME.to_owned() }));
    part.directories.extend(extra.directories.iter().map(|given| Directory {
        path: given.path.clone(),
        mode: given.mode,
        owner: given.owner.clone(),
        group: given.owner.clone(),
    }));
    for given in &extra.artifacts {
        let artifact = inputs.artifact(&artifact_name(name, &given.path), host)?;
        let target = format!("{}/{}", artifact.directory(), given.name);
        part.links.push(Link { path: given.path.clone(), target });
        part.artifacts.push(artifact);
    }
    let values = Values { inputs, host, name, extra };
    for given in &extra.files {
        part.files.push(values.file(given)?);
    }
    for given in &extra.units {
        part.files.push(values.file(&given.file)?);
        let mut restart_on = given.restart_on.clone();
        restart_on.push(unit_path(&given.name));
        part.units.push(Unit { name: given.name.clone(), restart_on, reload_on: Vec::new(), adopt: None });
    }
    let names: Vec<String> = part.units.iter().map(|unit| unit.name.clone()).collect();
    part.gate = names.first().cloned().map(|unit| Gate {
        unit,
        test: [Gate::UNITS.to_owned()].into_iter().chain(names).collect(),
        words: "its units are active".to_owned(),
        timeout_secs: READY_SECS,
        ..Gate::default()
    });
    Ok(part)
}

/// What an artifact is called, by the path of its link.
pub(super) fn artifact_name(extra: &str, path: &str) -> String {
    format!("{}{path}", service(extra))
}

/// What templates see.
struct Values<'a> {
    inputs: &'a Inputs<'a>,
    host: &'a str,
    name: &'a str,
    extra: &'a Extra,
}

impl Values<'_> {
    fn file(&self, given: &ExtraFile) -> Result<File, ServiceError> {
        let content = if given.is_template { self.render(given)? } else { given.text.clone() };
        Ok(File {
            mode: given.mode,
            owner: given.owner.clone(),
            group: given.owner.clone(),
            secret: given.secret,
            ..File::new(&given.path, content)
        })
    }

    fn render(&self, given: &ExtraFile) -> Result<String, ServiceError> {
        let hosts: Result<Vec<Value>, _> = self.extra.hosts.iter().map(|host| self.place(host)).collect();
        // Only a secret file's template can name a secret: for others the name does not exist.
        let secrets = if given.secret { Some(self.secrets()?) } else { None };
        let mut values = BTreeMap::from([
            ("cluster", Value::from(self.inputs.inventory.cluster.as_str())),
            ("host", self.place(self.host)?),
            ("hosts", Value::from(hosts?)),
            ("vars", Value::from(Serde(&self.extra.vars))),
        ]);
        values.extend(secrets.map(|secrets| ("secrets", secrets)));
        Ok(self.inputs.templates.render_own(&given.from, &given.text, Value::from_pairs(values))?)
    }

    fn place(&self, host: &str) -> Result<Value, ServiceError> {
        let found = self.inputs.inventory.hosts.get(host);
        let found = found.ok_or_else(|| missing("the address".to_owned(), host))?;
        Ok(context! { name => &found.name, address => &found.address, rack => &found.rack })
    }

    fn secrets(&self) -> Result<Value, ServiceError> {
        let mut values = BTreeMap::new();
        for key in self.extra.secrets.keys() {
            let secret = self.inputs.secret(&secret_key(self.name, key), self.host)?;
            values.insert(key.clone(), secret.expose().to_owned());
        }
        Ok(Value::from(Serde(values)))
    }
}

/// The key of a secret in the inventory.
pub(super) fn secret_key(extra: &str, key: &str) -> String {
    format!("extras.{extra}.secrets.{key}")
}
