//! What audit logs say of work: the steps' own words, which hold no content of files, bounded; and a line on a host for
//! what has no plan.

use super::compile::{Script, Upkeep};
use super::outcome::outcome;
use crate::host::{Call, Command, Host};
use crate::plan::{Change, Plan, Stage, Step};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

/// Characters of steps in one line: some twenty of them.
const WORDS_MAX: usize = 1200;
/// Lines for one plan in the local log.
const LINES_MAX: usize = 40;
const LIMIT: Duration = Duration::from_secs(30);

/// What steps change, in one line; those that do not fit are counted.
pub fn words(steps: &[Step]) -> String {
    let changes: Vec<String> = steps
        .iter()
        .filter(|step| step.change() != Change::Nothing)
        .map(|step| line(&step.action().to_string()))
        .collect();
    if changes.is_empty() {
        return format!("{} tests and notes", steps.len());
    }
    let mut text = String::new();
    for (number, words) in changes.iter().enumerate() {
        let before = if number == 0 { "" } else { "; " };
        if number > 0 && text.chars().count() + words.chars().count() > WORDS_MAX {
            let _infallible = write!(text, "; and {} more", changes.len() - number);
            break;
        }
        text.push_str(before);
        text.push_str(words);
    }
    text
}

/// As one line of a host's log can hold it.
pub fn line(text: &str) -> String {
    let plain = |c: char| if c.is_control() || "|\\".contains(c) { ' ' } else { c };
    let mut line: String = text.chars().take(WORDS_MAX).map(plain).collect();
    if text.chars().count() > WORDS_MAX {
        line.push('…');
    }
    line
}

/// What a plan changes, by service; hosts with the same changes together.
pub fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for stage in plan.stages.iter().filter(|stage| stage.service != Stage::GENERATION) {
        let mut groups: Vec<(String, BTreeSet<&str>)> = Vec::new();
        for (host, steps) in stage.waves.iter().flat_map(|wave| &wave.steps) {
            let words = words(steps);
            match groups.iter_mut().find(|(known, _)| *known == words) {
                Some((_, hosts)) => {
                    hosts.insert(host);
                }
                None => groups.push((words, BTreeSet::from([host.as_str()]))),
            }
        }
        lines.extend(groups.into_iter().map(|(words, hosts)| {
            let hosts: Vec<&str> = hosts.into_iter().collect();
            format!("{} on {}: {words}", stage.service, hosts.join(", "))
        }));
    }
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    lines.extend((more > 0).then(|| format!("and {more} more")));
    lines
}

/// Appends a line to a host's audit log; the error is for people.
pub async fn note(host: &dyn Host, name: &str, text: &str) -> Result<(), String> {
    let mut script = Script::new();
    script.upkeep(&Upkeep::Audit(line(text))).map_err(|error| error.to_string())?;
    send(host, name, script).await
}

/// Sends upkeep outside of an apply.
pub(super) async fn send(host: &dyn Host, name: &str, script: Script) -> Result<(), String> {
    let Script { lines, bodies, ends, .. } = script;
    let call = Call { command: Command::Execute(lines, bodies), timeout: LIMIT };
    let output = host.call(call, &|_| ()).await;
    outcome(name, &ends, 0, output).failure.map_or(Ok(()), |(_, error)| Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_and_bounded() {
        assert_eq!(line("a|b\\c\nd"), "a b c d");
        let long = line(&"é".repeat(5000));
        assert_eq!(long.chars().count(), WORDS_MAX + 1);
        assert!(long.ends_with('…'));
    }
}
