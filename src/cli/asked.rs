//! What somebody asked of a command, as the audit log and the locks on hosts keep it: `resume` finishes the very same.

use super::deployment::Goal;
use crate::plan::Operation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A lock's line on a host holds no more than this.
const LOCK_TEXT_MAX: usize = 2000;

/// A command with what decides its goal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Asked {
    /// `apply`, `rollback`, `stop`.
    pub(super) command: String,
    /// The selection of hosts as it was given; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) on: Vec<String>,
    /// Services, or the host of `forget`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) what: Vec<String>,
    /// The generation that a rollback goes back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) back_to: Option<u64>,
    /// The highest generation of a host before the first change: what is above was made by this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<u64>,
    /// Somebody gave data up: `destroy --data`, `forget --accept-data-loss`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) data: bool,
    /// The boot that each host was in before a reboot began.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) boots: BTreeMap<String, String>,
}

/// How it is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finish {
    /// By a plan to the same goal.
    Goal(Goal),
    /// By the same operation.
    Operation(Operation),
    /// By rebooting who has not booted since.
    Reboot,
}

impl Asked {
    pub(super) fn new(command: &str, on: &[String]) -> Self {
        Self { command: command.to_owned(), on: on.to_vec(), ..Self::default() }
    }

    /// As it would be typed again.
    pub(super) fn words(&self) -> String {
        let mut words = vec!["aesop".to_owned(), self.command.clone()];
        words.extend(self.what.iter().map(|word| quoted(word)));
        words.extend(self.back_to.map(|generation| generation.to_string()));
        if self.data {
            words.push(if self.command == "forget" { "--accept-data-loss" } else { "--data" }.to_owned());
        }
        if !self.on.is_empty() {
            words.extend(["--on".to_owned(), quoted(&self.on.join(","))]);
        }
        words.join(" ")
    }

    /// How to finish it without asking more than once; the error says why somebody must say it anew.
    pub(super) fn finish(&self) -> Result<Finish, &'static str> {
        Ok(match (self.command.as_str(), self.data) {
            ("apply" | "upgrade", _) => Finish::Goal(Goal::Inventory),
            ("rollback", _) if self.back_to.is_some() => {
                Finish::Goal(Goal::Generation { back_to: self.back_to, since: self.since })
            }
            ("destroy", false) => Finish::Goal(Goal::Nothing { data: false }),
            ("destroy", true) => return Err("data goes only where it is asked for twice"),
            ("forget", _) => return Err("whether the host is gone must be looked at anew"),
            ("reboot", _) if !self.boots.is_empty() => Finish::Reboot,
            ("reboot", _) => return Err("a host that is back already would be rebooted again"),
            ("start", _) => Finish::Operation(Operation::Start),
            ("stop", _) => Finish::Operation(Operation::Stop),
            ("restart", _) => Finish::Operation(Operation::Restart),
            _ => return Err("this aesop does not know how"),
        })
    }

    /// What a lock keeps of it; empty where a line cannot hold it.
    pub(super) fn to_lock(&self) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        if text.len() > LOCK_TEXT_MAX || text.contains(['|', '\n', '\\']) { String::new() } else { text }
    }

    /// The same read back.
    pub(super) fn from_lock(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// For a shell that would expand it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.,:/@".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{word}'") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(command: &str) -> Asked {
        Asked::new(command, &[])
    }

    #[test]
    fn each_command_is_finished_as_itself_or_named_for_repeating() {
        let services = Asked { what: vec!["kafka".to_owned()], ..Asked::new("stop", &["k*".to_owned()]) };
        let back = Asked { back_to: Some(3), since: Some(7), ..asked("rollback") };
        for (asked, words, finish) in [
            (asked("apply"), "aesop apply", Some(Finish::Goal(Goal::Inventory))),
            (asked("upgrade"), "aesop upgrade", Some(Finish::Goal(Goal::Inventory))),
            (
                back,
                "aesop rollback 3",
                Some(Finish::Goal(Goal::Generation { back_to: Some(3), since: Some(7) })),
            ),
            (asked("destroy"), "aesop destroy", Some(Finish::Goal(Goal::Nothing { data: false }))),
            (Asked { data: true, ..asked("destroy") }, "aesop destroy --data", None),
            (
                Asked { data: true, what: vec!["k4".to_owned()], ..asked("forget") },
                "aesop forget k4 --accept-data-loss",
                None,
            ),
            (Asked::new("reboot", &["@kafka".to_owned()]), "aesop reboot --on @kafka", None),
            (
                Asked { boots: BTreeMap::from([("k1".to_owned(), "1f.7".to_owned())]), ..asked("reboot") },
                "aesop reboot",
                Some(Finish::Reboot),
            ),
            (services, "aesop stop kafka --on 'k*'", Some(Finish::Operation(Operation::Stop))),
            (asked("start"), "aesop start", Some(Finish::Operation(Operation::Start))),
            (asked("restart"), "aesop restart", Some(Finish::Operation(Operation::Restart))),
            (asked("explode"), "aesop explode", None),
        ] {
            assert_eq!(asked.words(), words);
            assert_eq!(asked.finish().ok(), finish, "{words}");
            assert_eq!(Asked::from_lock(&asked.to_lock()), Some(asked));
        }
        let strange = Asked::new("apply", &["a|b".to_owned()]);
        assert_eq!(strange.to_lock(), "", "a host's program parts lines there");
    }
}
