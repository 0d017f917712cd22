//! TLS and users of cp-ansible's Kafka: `ssl_enabled`, `sasl_protocol`, `sasl_scram_users`.

use super::tree::{Tree, scalar};
use serde_yaml::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What is taken over, and what is not.
#[derive(Debug, Default)]
pub(super) struct Security {
    /// Lines below `kafka:`.
    pub(super) lines: String,
    /// What is not taken over as it is.
    pub(super) left_out: Vec<String>,
    /// Variables that are dealt with.
    pub(super) known: BTreeSet<&'static str>,
}

/// Of all brokers.
pub(super) fn security(tree: &Tree, brokers: &[String]) -> Security {
    let mut found = Security::default();
    let on = |key: &str| {
        let says = |host: &String| {
            tree.vars(host).get(key).is_some_and(|value| scalar(value).eq_ignore_ascii_case("true"))
        };
        !brokers.is_empty() && brokers.iter().all(says)
    };
    let protocols: BTreeSet<String> = brokers
        .iter()
        .filter_map(|host| tree.vars(host).get("sasl_protocol").map(scalar))
        .map(|word| word.to_ascii_lowercase())
        .collect();
    let scram = protocols.iter().any(|word| word.contains("scram"));
    if !on("ssl_enabled") {
        if scram {
            found.left_out.push(
                "`sasl_protocol`: passwords need TLS here, `kafka.tls` and then `kafka.sasl`".to_owned(),
            );
            found.known.insert("sasl_protocol");
        }
        return found;
    }
    found.known.insert("ssl_enabled");
    found.lines.push_str("  tls: {}\n");
    if on("ssl_custom_certs") {
        found.known.insert("ssl_custom_certs");
        found.left_out.push(
            "`ssl_custom_certs`: `tls: {}` makes certificates; say your own by `kafka.tls.ca` and `kafka.tls.certificates`"
                .to_owned(),
        );
    }
    if !scram {
        return found;
    }
    found.known.insert("sasl_protocol");
    let users: BTreeSet<String> = brokers.iter().flat_map(|host| users(tree, host)).collect();
    if users.is_empty() {
        found.lines.push_str("  sasl: {}\n");
        return found;
    }
    found.known.insert("sasl_scram_users");
    found.lines.push_str("  sasl:\n    users:\n");
    for user in &users {
        let letters = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        let variable: String = user.chars().map(letters).collect();
        let _infallible = writeln!(found.lines, "      {user}: {{env: KAFKA_{variable}_PASSWORD}}");
    }
    found.left_out.push(
        "`sasl_scram_users`: users are taken over, passwords are not; set the variables that `kafka.sasl.users` names"
            .to_owned(),
    );
    found
}

/// Names that Kafka and the inventory both take; `aesop` is the provisioner's own.
fn users(tree: &Tree, host: &str) -> Vec<String> {
    let vars = tree.vars(host);
    let Some(map) = vars.get("sasl_scram_users").and_then(Value::as_mapping) else { return Vec::new() };
    let principals = map.iter().filter_map(|(name, about)| {
        let principal = about.as_mapping().and_then(|about| about.get("principal")).map(scalar);
        principal.or_else(|| name.as_str().map(str::to_owned))
    });
    let legal = |name: &String| {
        let letter = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        !name.is_empty() && name != "aesop" && name.chars().all(letter)
    };
    principals.filter(legal).collect()
}
