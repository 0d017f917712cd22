//! `--on`: which hosts a command is about.

use super::error::{either, nearest};
use super::model::Inventory;
use std::collections::BTreeSet;

/// A selector that names nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--on {selector}: {problem}")]
pub struct SelectError {
    /// The selector.
    pub selector: String,
    /// What is wrong with it.
    pub problem: String,
}

/// The names of the hosts that `selectors` name: a host, a glob (`*`, `?`), or `@role` (`@consumers/<group>` for
/// one group). All hosts without selectors. Each selector must name at least one host.
pub fn select(inventory: &Inventory, selectors: &[String]) -> Result<BTreeSet<String>, SelectError> {
    if selectors.is_empty() {
        return Ok(inventory.hosts.keys().cloned().collect());
    }
    let mut chosen = BTreeSet::new();
    for selector in selectors {
        let found = matching(inventory, selector)
            .map_err(|problem| SelectError { selector: selector.clone(), problem })?;
        chosen.extend(found);
    }
    Ok(chosen)
}

fn matching(inventory: &Inventory, selector: &str) -> Result<Vec<String>, String> {
    if let Some(role) = selector.strip_prefix('@') {
        let roles = roles(inventory);
        let found = roles.iter().find(|(name, _)| name == role).map(|(_, hosts)| hosts.clone());
        let known = || roles.iter().map(|(name, _)| name.as_str());
        return found.ok_or_else(|| match nearest(role, known()) {
            Some(near) => format!("there is no role `{role}`; did you mean `@{near}`?"),
            None => format!("there is no role `{role}`; this inventory has {}", either(known())),
        });
    }
    let found: Vec<String> = inventory.hosts.keys().filter(|name| glob(selector, name)).cloned().collect();
    if !found.is_empty() {
        return Ok(found);
    }
    // An address is as good as a name.
    if let Some(host) = inventory.hosts.values().find(|host| host.address == selector) {
        return Ok(vec![host.name.clone()]);
    }
    Err(match nearest(selector, inventory.hosts.keys().map(String::as_str)) {
        Some(near) => format!("there is no such host; did you mean `{near}`?"),
        None => "no host of the inventory matches".to_owned(),
    })
}

/// Every role of the inventory with its hosts.
fn roles(inventory: &Inventory) -> Vec<(String, Vec<String>)> {
    let mut roles = Vec::new();
    if let Some(role) = &inventory.zookeeper {
        roles.push(("zookeeper".to_owned(), role.members.iter().map(|m| m.host.clone()).collect()));
    }
    if let Some(role) = &inventory.kafka {
        roles.push(("kafka".to_owned(), role.nodes().map(|m| m.host.clone()).collect()));
    }
    if let Some(role) = &inventory.relays {
        roles.push(("relays".to_owned(), role.members.iter().map(|m| m.host.clone()).collect()));
    }
    if !inventory.consumers.is_empty() {
        let hosts = inventory.consumers.values().flat_map(|group| group.hosts.clone()).collect();
        roles.push(("consumers".to_owned(), hosts));
    }
    for group in inventory.consumers.values() {
        roles.push((format!("consumers/{}", group.name), group.hosts.clone()));
    }
    if let Some(role) = &inventory.monitor {
        roles.push(("monitor".to_owned(), role.hosts.clone()));
    }
    if !inventory.extras.is_empty() {
        roles.push(("extras".to_owned(), inventory.extras.values().flat_map(|e| e.hosts.clone()).collect()));
    }
    for (name, extra) in &inventory.extras {
        roles.push((format!("extras/{name}"), extra.hosts.clone()));
    }
    roles
}

/// `*` is any text, `?` one character.
fn glob(pattern: &str, name: &str) -> bool {
    fn matches(pattern: &[char], name: &[char]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some(('*', rest)), None) => matches(rest, name),
            (Some(('*', rest)), Some((_, tail))) => matches(rest, name) || matches(pattern, tail),
            (Some(('?', rest)), Some((_, tail))) => matches(rest, tail),
            (Some((a, rest)), Some((b, tail))) => a == b && matches(rest, tail),
            (None, Some(_)) | (Some(_), None) => false,
        }
    }
    matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, yes) in [
            ("k*", "k1", true),
            ("k?", "k12", false),
            ("*1", "k1", true),
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("k1", "k2", false),
        ] {
            assert_eq!(glob(pattern, name), yes, "{pattern} {name}");
        }
    }
}
