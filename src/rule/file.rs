//! Rule files. The built-in rules are one; a user's file is laid over them by name.

use super::{Expr, RESOLVED_KEEP, Severity};
use jiff::SignedDuration;
use minijinja::{Environment, UndefinedBehavior};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

const BUILT_IN: &str = include_str!("rules.yml");

/// One rule.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Unique.
    pub name: String,
    /// What must hold.
    pub when: Expr,
    /// For how long before it fires.
    #[serde(default, rename = "for", deserialize_with = "duration")]
    pub hold: Duration,
    /// How long it must not hold before it is resolved.
    #[serde(default, deserialize_with = "duration")]
    pub clear_for: Duration,
    /// How bad it is.
    pub severity: Severity,
    /// One line, a template over `labels`, `value`, `note`.
    pub summary: String,
    /// What to do about it; the same kind of template.
    #[serde(default)]
    pub runbook: String,
    /// Labels that make one incident, one mail; without it host and service.
    #[serde(default)]
    pub group_by: Vec<String>,
    /// Causes: while one of them fires, this alert is its symptom and is not mailed.
    #[serde(default)]
    pub inhibited_by: Vec<Inhibitor>,
}

/// A cause of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inhibitor {
    /// The rule that fires for the cause.
    pub rule: String,
    /// Labels that must be the same on both.
    #[serde(default)]
    pub equal: Vec<String>,
    /// Patterns that the cause's labels must match.
    #[serde(default, rename = "where")]
    pub labels: BTreeMap<String, String>,
    /// How long a cause that is over still explains this alert. A rule that counts over a window counts that long
    /// what the cause did.
    #[serde(default = "default_linger", deserialize_with = "linger")]
    pub linger: SignedDuration,
}

/// Long enough for a broker that is back to catch up.
const fn default_linger() -> SignedDuration {
    SignedDuration::from_mins(2)
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleFile {
    #[serde(default)]
    rules: Vec<Rule>,
    /// Names of built-in rules that are not wanted.
    #[serde(default)]
    disable: Vec<String>,
}

/// What is wrong with a rule file.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// Its YAML, a key, an expression or a duration; the message has the line.
    #[error("{file}: {message}")]
    Yaml {
        /// The file.
        file: String,
        /// Where and what.
        message: String,
    },
    /// One rule, or a line of `disable`.
    #[error("{file}:{line}: {message}")]
    Rule {
        /// The file.
        file: String,
        /// Line of its name.
        line: usize,
        /// What.
        message: String,
    },
}

/// Rules that fit together.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleSet {
    rules: Vec<Rule>,
}

impl RuleSet {
    /// The built-in rules.
    pub fn built_in() -> Result<Self, RuleError> {
        let file = parse("built-in rules", BUILT_IN)?;
        let set = Self { rules: file.rules };
        set.check("built-in rules", BUILT_IN, &[])?;
        Ok(set)
    }

    /// The built-in rules with a user's file over them: a rule of the same name is replaced, others are added.
    pub fn with_file(name: &str, text: &str) -> Result<Self, RuleError> {
        let mut rules = Self::built_in()?.rules;
        let file = parse(name, text)?;
        let fail = |line, message| RuleError::Rule { file: name.to_owned(), line, message };
        for disabled in &file.disable {
            if !rules.iter().any(|rule| rule.name == *disabled) {
                return Err(fail(line_of(text, disabled), format!("no built-in rule `{disabled}`")));
            }
        }
        let replaced = |rule: &Rule| file.rules.iter().any(|own| own.name == rule.name);
        rules.retain(|rule| !file.disable.contains(&rule.name) && !replaced(rule));
        rules.extend(file.rules);
        let set = Self { rules };
        set.check(name, text, &file.disable)?;
        Ok(set)
    }

    /// All rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// A rule by name.
    pub fn get(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }

    fn check(&self, file: &str, text: &str, disabled: &[String]) -> Result<(), RuleError> {
        let fail = |rule: &Rule, message: String| {
            Err(RuleError::Rule { file: file.to_owned(), line: line_of(text, &rule.name), message })
        };
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            if !names.insert(&rule.name) {
                return fail(rule, format!("rule `{}` is defined twice", rule.name));
            }
            for (key, template) in [("summary", &rule.summary), ("runbook", &rule.runbook)] {
                if let Err(error) = environment().template_from_str(template) {
                    return fail(rule, format!("rule `{}`: {key}: {error}", rule.name));
                }
            }
        }
        for rule in &self.rules {
            for inhibitor in &rule.inhibited_by {
                if !names.contains(&inhibitor.rule) && !disabled.contains(&inhibitor.rule) {
                    let message =
                        format!("rule `{}`: inhibited_by names `{}`, no rule", rule.name, inhibitor.rule);
                    return fail(rule, message);
                }
            }
        }
        Ok(())
    }
}

fn parse(name: &str, text: &str) -> Result<RuleFile, RuleError> {
    serde_yaml::from_str(text)
        .map_err(|error| RuleError::Yaml { file: name.to_owned(), message: error.to_string() })
}

/// The last line that has the name: of two rules of one name, the second is the mistake.
fn line_of(text: &str, name: &str) -> usize {
    let has =
        |line: &str| line.split(|c: char| !(c.is_alphanumeric() || "_-".contains(c))).any(|w| w == name);
    text.lines().enumerate().filter(|(_, line)| has(line)).map(|(index, _)| index + 1).last().unwrap_or(1)
}

/// Templates of summaries: a name that is not there is an error, never an empty string.
pub(super) fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_filter("percent", |value: f64| format!("{:.1} %", value * 100.0));
    environment.add_filter("bytes", super::human::bytes);
    environment.add_filter("seconds", super::human::seconds);
    environment.add_filter("number", |value: f64| {
        if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
    });
    environment
}

/// A duration within the time for which causes are remembered.
fn linger<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SignedDuration, D::Error> {
    let linger =
        SignedDuration::try_from(duration(deserializer)?).ok().filter(|linger| *linger <= RESOLVED_KEEP);
    linger
        .ok_or_else(|| de::Error::custom("linger: at most 1h, a cause that is over is forgotten after that"))
}

/// `90s`, `10m`, `4h`, `1d`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct DurationVisitor;
    impl Visitor<'_> for DurationVisitor {
        type Value = Duration;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as 30s, 10m, 4h or 1d")
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse_duration(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_str(DurationVisitor)
}

fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86400,
        _ => return None,
    };
    let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn fails(text: &str, expected: &Expect) {
        expected.assert_eq(&RuleSet::with_file("rules.yml", text).unwrap_err().to_string());
    }

    #[test]
    fn the_built_in_rules_are_sound() {
        let set = RuleSet::built_in().unwrap();
        assert!(set.rules().len() > 30);
        for rule in set.rules() {
            assert!(!rule.runbook.is_empty(), "{} has no runbook", rule.name);
        }
    }

    #[test]
    fn a_file_is_laid_over_the_built_in_rules() {
        let text = "disable: [swap_used]\nrules:\n\
            - {name: service_down, when: unit_active == 0, for: 5m, severity: warning, summary: down}\n\
            - {name: own, when: load1 > 8, severity: warning, summary: 'load {{ value }}'}\n";
        let (built_in, set) = (RuleSet::built_in().unwrap(), RuleSet::with_file("rules.yml", text).unwrap());
        assert_eq!(set.rules().len(), built_in.rules().len());
        assert_eq!(set.get("service_down").unwrap().hold, Duration::from_mins(5));
        assert!(set.get("swap_used").is_none() && set.get("own").is_some());
    }

    #[test]
    fn errors_name_the_line() {
        fails(
            "rules:\n- name: a\n  when: load1 >\n  severity: warning\n  summary: s\n",
            &expect![
                "rules.yml: rules[0].when: expected a sample's name or a number, found end at character 8 of `load1 >` at line 3 column 9"
            ],
        );
        fails(
            "rules:\n- name: a\n  when: load1 > 1\n  for: soon\n  severity: warning\n  summary: s\n",
            &expect![[
                r#"rules.yml: rules[0].for: invalid value: string "soon", expected a duration such as 30s, 10m, 4h or 1d at line 4 column 8"#
            ]],
        );
        fails(
            "rules:\n- name: a\n  whn: load1 > 1\n",
            &expect![
                "rules.yml: rules[0]: unknown field `whn`, expected one of `name`, `when`, `for`, `clear_for`, `severity`, `summary`, `runbook`, `group_by`, `inhibited_by` at line 3 column 3"
            ],
        );
        fails(
            "rules:\n- {name: a, when: load1 > 1, severity: fatal, summary: s}\n",
            &expect![
                "rules.yml: rules[0].severity: unknown variant `fatal`, expected `warning` or `critical` at line 2 column 40"
            ],
        );
        fails(
            "rules:\n- {name: a, when: load1 > 1, severity: warning, summary: s}\n- {name: a, when: load1 > 2, severity: warning, summary: s}\n",
            &expect!["rules.yml:3: rule `a` is defined twice"],
        );
        fails(
            "rules:\n- {name: a, when: load1 > 1, severity: warning, summary: 'x {{ labels.host'}\n",
            &expect![
                "rules.yml:2: rule `a`: summary: syntax error: unexpected end of input, expected end of variable block (in <string>:1)"
            ],
        );
        fails(
            "rules:\n- {name: a, when: load1 > 1, severity: warning, summary: s, inhibited_by: [{rule: b}]}\n",
            &expect!["rules.yml:2: rule `a`: inhibited_by names `b`, no rule"],
        );
        fails(
            "rules:\n- {name: a, when: load1 > 1, severity: warning, summary: s, inhibited_by: [{rule: disk_full, linger: 2h}]}\n",
            &expect![
                "rules.yml: rules[0].inhibited_by[0]: linger: at most 1h, a cause that is over is forgotten after that at line 2 column 76"
            ],
        );
        fails("disable: [nothing]\n", &expect!["rules.yml:1: no built-in rule `nothing`"]);
    }
}
