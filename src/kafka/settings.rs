//! Settings that a running broker takes in: what to tell it so that it agrees with its `server.properties`. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// A setting as a broker describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Described {
    /// What it goes by.
    pub value: Option<String>,
    /// It was set while it ran, for this broker.
    pub overridden: bool,
    /// It stood in the file that the broker was started with.
    pub in_file: bool,
    /// What it goes by where nobody says anything; none where Kafka has no default.
    pub default: Option<String>,
}

/// What to tell the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Go by this value.
    Set(String, String),
    /// Go by the file, or the default, again.
    Unset(String),
}

impl Change {
    /// The setting.
    pub fn name(&self) -> &str {
        match self {
            Self::Set(name, _) | Self::Unset(name) => name,
        }
    }
}

/// Lines `name=value` of a properties file as aesop writes it.
pub fn parse(text: &str) -> BTreeMap<String, String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

/// What makes a broker agree with `wanted`, the settings of its file that it can take in. `ours` names those that
/// aesop has set before: what a person or a tool has set otherwise is left alone.
pub fn changes(
    wanted: &BTreeMap<String, String>,
    described: &BTreeMap<String, Described>,
    ours: &BTreeSet<String>,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for (name, value) in wanted {
        if described.get(name).and_then(|setting| setting.value.as_ref()) != Some(value) {
            changes.push(Change::Set(name.clone(), value.clone()));
        }
    }
    for (name, setting) in described.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
        let set_by_us = setting.overridden && ours.contains(name);
        if setting.overridden && !set_by_us {
            continue;
        }
        match (setting.in_file, &setting.default) {
            // It stays in what the broker was started with until it is started again.
            (true, Some(default)) if setting.value.as_ref() != Some(default) => {
                changes.push(Change::Set(name.clone(), default.clone()));
            }
            (false, _) if set_by_us => changes.push(Change::Unset(name.clone())),
            _ => {}
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (Option<&'static str>, Described, bool, Vec<Change>);

    fn described(value: &str, overridden: bool, in_file: bool) -> Described {
        Described { value: Some(value.to_owned()), overridden, in_file, default: Some("8".to_owned()) }
    }

    #[test]
    fn a_broker_is_told_what_differs_and_nothing_else() {
        let name = "num.io.threads".to_owned();
        let set = |value: &str| vec![Change::Set(name.clone(), value.to_owned())];
        // In the file now; the broker's view; set by aesop; changes.
        let table: Vec<Case> = vec![
            (Some("16"), described("8", false, false), false, set("16")),
            (Some("16"), described("16", false, true), false, vec![]),
            (Some("16"), described("16", true, false), true, vec![]),
            (Some("16"), described("32", true, true), true, set("16")),
            // Someone else's override of what the file says is drift.
            (Some("16"), described("32", true, true), false, set("16")),
            // No longer in the file.
            (None, described("16", false, true), false, set("8")),
            (None, described("16", true, true), true, set("8")),
            (None, described("8", true, true), true, vec![]),
            (None, described("16", true, false), true, vec![Change::Unset(name.clone())]),
            (None, described("8", true, false), true, vec![Change::Unset(name.clone())]),
            // Never ours.
            (None, described("16", true, false), false, vec![]),
            (None, described("8", false, false), false, vec![]),
        ];
        for (wanted, setting, ours, expected) in table {
            let wanted = wanted.map(|value| (name.clone(), value.to_owned())).into_iter().collect();
            let ours = ours.then(|| name.clone()).into_iter().collect();
            let all = BTreeMap::from([(name.clone(), setting.clone())]);
            assert_eq!(changes(&wanted, &all, &ours), expected, "{wanted:?} {setting:?} {ours:?}");
        }
    }

    #[test]
    fn a_properties_file_is_read_as_it_is_written() {
        let text = "# Written by aesop\nlog.dirs=/a,/b\nlisteners=PLAINTEXT://10.0.0.1:9092\n";
        let settings = parse(text);
        assert_eq!(settings["listeners"], "PLAINTEXT://10.0.0.1:9092");
        assert_eq!(settings.len(), 2);
    }
}
