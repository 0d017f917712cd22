//! Files, units and artifacts of the user's own.

use super::Check;
use crate::inventory::fault::At;
use crate::inventory::model::{Extra, ExtraArtifact, ExtraDirectory, ExtraFile, ExtraUnit, Inventory};
use crate::inventory::raw;
use crate::inventory::select;
use crate::inventory::value::Word;
use std::collections::BTreeMap;

/// What belongs to aesop or to the kernel.
const TAKEN: [&str; 9] = [
    "/opt/aesop",
    "/etc/aesop",
    "/var/lib/aesop",
    "/var/log/aesop",
    "/var/cache/aesop",
    "/etc/sysctl.d/90-aesop.conf",
    "/proc",
    "/sys",
    "/dev",
];
const UNIT_FOLDER: &str = "/etc/systemd/system";
/// What systemd can keep active.
const UNIT_KINDS: [&str; 4] = [".service", ".timer", ".socket", ".path"];
/// Longest name of a Linux user.
const USER_LENGTH_MAX: usize = 32;

impl Check<'_, '_> {
    /// Hosts that only extras name.
    pub(super) fn extra_hosts(&mut self) {
        let raw = self.raw;
        for (name, extra) in &raw.extras {
            let at = At::top("extras").key(name);
            self.name(&at, "set of extras", name);
            self.some_hosts(&at.key("hosts"), extra.hosts.len());
            for (index, host) in extra.hosts.iter().enumerate().filter(|(_, host)| !is_pattern(host)) {
                self.member(&at.key("hosts").index(index), host);
            }
        }
    }

    /// All of them, with every host known.
    pub(super) fn extras(&mut self, inventory: &Inventory) -> BTreeMap<String, Extra> {
        let raw = self.raw;
        let mut extras = BTreeMap::new();
        let mut claims: BTreeMap<(String, String), String> = BTreeMap::new();
        for (name, given) in &raw.extras {
            let at = At::top("extras").key(name);
            let extra = Extra {
                hosts: self.extra_members(&at.key("hosts"), &given.hosts, inventory),
                vars: given.vars.iter().map(|(key, value)| (key.clone(), value.0.clone())).collect(),
                secrets: given.secrets.iter().map(|(key, source)| (key.clone(), source.0.clone())).collect(),
                users: self.extra_users(&at.key("users"), &given.users),
                directories: self.extra_directories(&at.key("directories"), &given.directories),
                files: self.extra_files(&at.key("files"), &given.files),
                artifacts: self.extra_artifacts(&at.key("artifacts"), &given.artifacts),
                units: self.extra_units(&at, given),
            };
            let places = [
                ("files", extra.files.iter().map(|file| &file.path).collect::<Vec<_>>()),
                ("directories", extra.directories.iter().map(|directory| &directory.path).collect()),
                ("artifacts", extra.artifacts.iter().map(|artifact| &artifact.path).collect()),
                ("units", extra.units.iter().map(|unit| &unit.file.path).collect()),
            ];
            for (kind, path) in
                places.iter().flat_map(|(kind, paths)| paths.iter().map(move |path| (kind, path)))
            {
                for host in &extra.hosts {
                    let Some(first) = claims.insert((host.clone(), (*path).clone()), name.clone()) else {
                        continue;
                    };
                    let key = if *kind == "units" { path.rsplit('/').next().unwrap_or(path) } else { path };
                    let message =
                        format!("`{path}` of `{host}` is wanted twice: by extras `{first}` and `{name}`");
                    let help = "remove one, or let them have different hosts".to_owned();
                    self.faults.add_key(&at.key(kind).key(key), message, help);
                }
            }
            extras.insert(name.clone(), extra);
        }
        extras
    }

    fn extra_members(&mut self, at: &At, given: &[String], inventory: &Inventory) -> Vec<String> {
        let mut hosts = std::collections::BTreeSet::new();
        for (index, host) in given.iter().enumerate() {
            if !is_pattern(host) {
                hosts.insert(host.clone());
                continue;
            }
            match select(inventory, std::slice::from_ref(host)) {
                Ok(found) => hosts.extend(found),
                Err(error) => self.faults.add(&at.index(index), format!("`{host}`: {}", error.problem), None),
            }
        }
        hosts.into_iter().collect()
    }

    fn extra_users(&mut self, at: &At, given: &[String]) -> Vec<String> {
        for (index, name) in given.iter().enumerate() {
            if !is_user(name) {
                let help = "lower-case letters, digits, `_` and `-`, at most 32, as in `exporter`".to_owned();
                self.faults.add(&at.index(index), format!("`{name}` cannot be the name of a user"), help);
            } else if name == "root" || name == "aesop" || name == "kafka" || name == "zookeeper" {
                let help = "name a user of your own".to_owned();
                self.faults.add(&at.index(index), format!("the user `{name}` is not yours to make"), help);
            }
        }
        given.to_vec()
    }

    fn extra_directories(
        &mut self,
        at: &At,
        given: &BTreeMap<String, raw::ExtraDirectory>,
    ) -> Vec<ExtraDirectory> {
        let directory = |(path, given): (&String, &raw::ExtraDirectory)| {
            let at = at.key(path);
            self.extra_path(&at, path);
            let mode = self.extra_mode(&at.key("mode"), given.mode.as_ref(), 0o755);
            ExtraDirectory { path: path.clone(), mode, owner: self.extra_owner(&at, given.owner.as_ref()) }
        };
        given.iter().map(directory).collect()
    }

    fn extra_files(&mut self, at: &At, given: &BTreeMap<String, raw::ExtraFile>) -> Vec<ExtraFile> {
        let mut files = Vec::new();
        for (path, given) in given {
            let at = at.key(path);
            self.extra_path(&at, path);
            let secret = given.secret.unwrap_or(false);
            let mode = if secret { 0o600 } else { 0o644 };
            let mode = self.extra_mode(&at.key("mode"), given.mode.as_ref(), mode);
            if secret && mode & 0o007 != 0 {
                let help = "`600`, or `640` for the owner's group".to_owned();
                self.faults.add(&at.key("mode"), "everybody could read this secret", help);
            }
            let owner = self.extra_owner(&at, given.owner.as_ref());
            let text = self.extra_text(&at, given.template.as_ref(), given.file.as_ref());
            files.push(ExtraFile { path: path.clone(), mode, owner, secret, ..text });
        }
        files
    }

    fn extra_artifacts(
        &mut self,
        at: &At,
        given: &BTreeMap<String, raw::ExtraArtifact>,
    ) -> Vec<ExtraArtifact> {
        let mut artifacts = Vec::new();
        for (path, given) in given {
            let at = at.key(path);
            self.extra_path(&at, path);
            let Some(origin) =
                self.file_origin(&at, given.file.as_ref(), given.url.as_ref(), given.sha512.as_ref())
            else {
                continue;
            };
            let name = path.rsplit('/').next().unwrap_or(path).to_owned();
            let executable = given.executable.unwrap_or(false);
            artifacts.push(ExtraArtifact { path: path.clone(), name, origin, executable });
        }
        artifacts
    }

    fn extra_units(&mut self, at: &At, extra: &raw::Extra) -> Vec<ExtraUnit> {
        let mut units = Vec::new();
        let known: Vec<&String> = extra.files.keys().chain(extra.artifacts.keys()).collect();
        for (name, given) in &extra.units {
            let at = at.key("units").key(name);
            let plain = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
            let kind = UNIT_KINDS.iter().find_map(|kind| name.strip_suffix(kind));
            if kind.is_none_or(str::is_empty) || !name.chars().all(plain) {
                let help = "as in `exporter.service`; kinds are service, timer, socket and path".to_owned();
                self.faults.add_key(&at, format!("`{name}` cannot be the name of a unit"), help);
            } else if name.starts_with("aesop") {
                let help = "give it another name".to_owned();
                self.faults.add_key(&at, format!("`{name}` is a name for aesop's own units"), help);
            } else if kind.is_some_and(|kind| kind.ends_with('@')) {
                let help = "a template of units is a file; what runs is an instance of it".to_owned();
                self.faults.add_key(&at, format!("`{name}` cannot be started"), help);
            }
            let restart_on = match &given.restart_on {
                None => known.iter().map(|path| (*path).clone()).collect(),
                Some(paths) => {
                    for (index, path) in paths.iter().enumerate().filter(|(_, path)| !known.contains(path)) {
                        let at = at.key("restart_on").index(index);
                        let known = known.iter().map(|path| path.as_str());
                        self.faults.unknown(
                            &at,
                            "path",
                            path,
                            known,
                            "name a file or an artifact of this extra",
                        );
                    }
                    paths.clone()
                }
            };
            let text = self.extra_text(&at, given.template.as_ref(), given.file.as_ref());
            let file = ExtraFile { path: format!("{UNIT_FOLDER}/{name}"), ..text };
            units.push(ExtraUnit { name: name.clone(), file, restart_on });
        }
        units
    }

    /// The text of a file or unit.
    fn extra_text(&mut self, at: &At, template: Option<&String>, file: Option<&String>) -> ExtraFile {
        let mut text = ExtraFile {
            path: String::new(),
            mode: 0o644,
            owner: "root".to_owned(),
            from: String::new(),
            text: String::new(),
            is_template: template.is_some(),
            secret: false,
        };
        let (key, name) = match (template, file) {
            (Some(name), None) => ("template", name),
            (None, Some(name)) => ("file", name),
            _ => {
                let help = "`template` is rendered, `file` is taken as it is".to_owned();
                self.faults.add_key(at, "this has exactly one of `template` and `file`", help);
                return text;
            }
        };
        text.from.clone_from(name);
        match (self.read)(&self.beside(name)) {
            Ok(found) => text.text = found,
            Err(error) => {
                let why = if error.kind() == std::io::ErrorKind::NotFound {
                    "there is no such file".to_owned()
                } else if error.kind() == std::io::ErrorKind::InvalidData {
                    "it is not text; make it an artifact".to_owned()
                } else {
                    error.to_string()
                };
                let help = "relative paths start at the inventory's folder".to_owned();
                self.faults.add(&at.key(key), format!("cannot read `{name}`: {why}"), help);
            }
        }
        text
    }

    /// A place on a host that an extra may have.
    fn extra_path(&mut self, at: &At, path: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "/._@+-".contains(c);
        let steps = path.strip_prefix('/').map(|rest| rest.split('/'));
        let sound = steps.is_some_and(|mut steps| steps.all(|step| !matches!(step, "" | "." | "..")));
        let taken = TAKEN.iter().find(|root| {
            path.strip_prefix(*root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        if !sound || !path.chars().all(plain) {
            let help = "an absolute path of letters, digits, `.`, `_`, `@`, `+` and `-`".to_owned();
            self.faults.add_key(at, format!("`{path}` cannot be a path of an extra"), help);
        } else if let Some(root) = taken {
            let help = "choose a place of your own".to_owned();
            self.faults.add_key(at, format!("`{root}` is not for extras"), help);
        }
    }

    fn extra_mode(&mut self, at: &At, given: Option<&Word>, default: u32) -> u32 {
        let Some(Word(text)) = given else { return default };
        let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777 && text.len() <= 4);
        mode.unwrap_or_else(|| {
            let help = "octal digits, as in `644` or `\"0644\"`".to_owned();
            self.faults.add(at, format!("`{text}` is no mode"), help);
            default
        })
    }

    fn extra_owner(&mut self, at: &At, given: Option<&String>) -> String {
        let owner = given.map_or("root", String::as_str);
        if !is_user(owner) {
            let help = "the name of a user".to_owned();
            self.faults.add(&at.key("owner"), format!("`{owner}` cannot own a file"), help);
        }
        owner.to_owned()
    }
}

/// Chooses among hosts instead of naming one.
fn is_pattern(host: &str) -> bool {
    host.starts_with('@') || host.contains(['*', '?'])
}

fn is_user(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.len() <= USER_LENGTH_MAX
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
}
