//! Groups, hosts and variables, however they were written.

use serde_yaml::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Variables by name.
pub type Vars = BTreeMap<String, Value>;

/// An Ansible inventory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tree {
    /// Groups by name; `all` holds what is true of every host.
    pub groups: BTreeMap<String, Group>,
    /// Variables of hosts.
    pub hosts: BTreeMap<String, Vars>,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Hosts that it names itself, in order.
    pub hosts: Vec<String>,
    /// Groups below it.
    pub children: Vec<String>,
    /// Variables.
    pub vars: Vars,
}

impl Tree {
    /// The group of that name, made where it is new.
    pub(super) fn group(&mut self, name: &str) -> &mut Group {
        self.groups.entry(name.to_owned()).or_default()
    }

    /// Adds a host to a group.
    pub(super) fn add(&mut self, group: &str, host: &str, vars: Vars) {
        self.hosts.entry(host.to_owned()).or_default().extend(vars);
        let group = self.group(group);
        if !group.hosts.iter().any(|known| known == host) {
            group.hosts.push(host.to_owned());
        }
    }

    /// Hosts of a group and of those below it, in order, each once.
    pub fn members(&self, group: &str) -> Vec<String> {
        let mut members = Vec::new();
        self.walk(group, &mut BTreeSet::new(), &mut |_, found| {
            for host in &found.hosts {
                if !members.contains(host) {
                    members.push(host.clone());
                }
            }
        });
        members
    }

    fn walk(&self, name: &str, seen: &mut BTreeSet<String>, visit: &mut dyn FnMut(&str, &Group)) {
        let Some(group) = self.groups.get(name) else { return };
        // A group below itself is an error in Ansible; here it must only end.
        if seen.insert(name.to_owned()) {
            visit(name, group);
            for child in &group.children {
                self.walk(child, seen, visit);
            }
        }
    }

    /// What is true of a host: of all, then of its groups from the outermost in (of the same depth by name), then
    /// its own.
    pub fn vars(&self, host: &str) -> Vars {
        let mut groups: Vec<(usize, &str)> = self
            .groups
            .keys()
            .filter(|name| *name == "all" || self.members(name).iter().any(|member| member == host))
            .map(|name| (self.depth(name, &mut BTreeSet::new()), name.as_str()))
            .collect();
        groups.sort_unstable();
        let mut vars = Vars::new();
        for (_, name) in groups {
            vars.extend(self.groups.get(name).into_iter().flat_map(|group| group.vars.clone()));
        }
        vars.extend(self.hosts.get(host).cloned().unwrap_or_default());
        vars
    }

    fn depth(&self, name: &str, seen: &mut BTreeSet<String>) -> usize {
        if name == "all" || !seen.insert(name.to_owned()) {
            return 0;
        }
        let parents =
            self.groups.iter().filter(|(_, group)| group.children.iter().any(|child| child == name));
        1 + parents.map(|(parent, _)| self.depth(parent, seen)).max().unwrap_or(0)
    }
}

/// A value in one line.
pub(super) fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Null => String::new(),
        Value::Sequence(items) => items.iter().map(scalar).collect::<Vec<_>>().join(","),
        // A vault's or a template's tag: never its content.
        Value::Mapping(_) | Value::Tagged(_) => "{{…}}".to_owned(),
    }
}
