//! Rules: what is worth waking somebody for. Pure: samples and the time come in, states come out.
//!
//! A rule's `when` is an expression over samples; each set of labels that it holds for is an alert of its own,
//! which goes ok → pending → firing → resolved. Losing the readings is a state too: an alert whose samples vanish
//! is not resolved by that.

mod eval;
mod expr;
mod file;
pub mod human;
mod inhibit;
mod state;
mod store;

pub use eval::{Element, Value};
pub use expr::{Expr, ExprError};
pub use file::{Inhibitor, Rule, RuleError, RuleSet};
pub use inhibit::{Downtime, Suppression, suppression};
pub use state::{
    Alert, Engine, EngineState, NO_DATA_FORGET, Observation, Phase, RESOLVED_KEEP, Resolved, Timers, Track,
    advance,
};
pub use store::Store;

use serde::{Deserialize, Serialize};
use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Look at it in working hours.
    Warning,
    /// Look at it now.
    Critical,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// Whether `text` matches a pattern in which `*` stands for any characters.
pub fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(head) else { return false };
    while let Some((middle, tail)) = rest.split_once('*') {
        let Some((_, after)) = text.split_once(middle) else { return false };
        (text, rest) = (after, tail);
    }
    text.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, expected) in [
            ("kafka", "kafka", true),
            ("kafka", "kafka2", false),
            ("aesop-*.service", "aesop-kafka.service", true),
            ("*", "", true),
            ("*kafka*", "zookeeper kafka", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
