//! Named checks of hosts before anything is changed on them, each with its remedy. Pure: what hosts said in, verdicts
//! out. A fact that a host did not give makes a check unknown, never failed.

mod host;
mod peers;
mod space;

pub use peers::{Edge, edges, judge};

use crate::inventory::model::Inventory;
use crate::plan::{HostFacts, Observation, Observed, Plan};
use crate::service::HostState;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What a check found on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Where.
    pub host: String,
    /// Name of the check.
    pub check: &'static str,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// Good.
    Passed,
    /// The host did not say.
    Unknown,
    /// It will work, but not for long or not well.
    Warning(Problem),
    /// It will not work.
    Error(Problem),
}

/// What is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl Outcome {
    fn warning(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Warning(Problem { problem: problem.into(), remedy: remedy.into() })
    }

    fn error(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Error(Problem { problem: problem.into(), remedy: remedy.into() })
    }
}

/// What a check looks at.
#[derive(Clone, Copy, Debug)]
struct Subject<'a> {
    inventory: &'a Inventory,
    host: &'a str,
    state: &'a HostState,
    facts: &'a HostFacts,
    /// What our binaries need of the C library.
    glibc: Option<(u32, u32)>,
    /// The middle of all hosts' clocks against ours, in seconds.
    clock: i64,
}

type Check = fn(&Subject<'_>) -> Outcome;

/// Every check, in the order in which they are told.
const CHECKS: &[(&str, Check)] = &[
    ("os", host::os),
    ("architecture", host::architecture),
    ("systemd", host::systemd),
    ("root", host::root),
    ("glibc", host::glibc),
    ("clock", host::clock),
    ("packages", host::packages),
    ("java", host::java),
    ("ports", host::ports),
    ("memory", space::memory),
    ("disk", space::disk),
    ("read-only", space::read_only),
    ("noexec", space::noexec),
];

/// Runs every check on every host that answered.
pub fn examine(
    inventory: &Inventory,
    desired: &BTreeMap<String, HostState>,
    observed: &Observed,
    glibc: Option<(u32, u32)>,
) -> Vec<Verdict> {
    let clock = middle(observed);
    let mut verdicts = Vec::new();
    for (host, state) in desired {
        let Some(Observation::Facts(facts)) = observed.hosts.get(host) else { continue };
        let subject = Subject { inventory, host, state, facts, glibc, clock };
        verdicts.extend(CHECKS.iter().map(|(check, run)| Verdict {
            host: host.clone(),
            check,
            outcome: run(&subject),
        }));
    }
    verdicts
}

/// Lets a plan rest on the verdicts: an error on a host that it would touch forbids it, a warning is told.
pub fn consider(plan: &mut Plan, verdicts: &[Verdict]) {
    let touched: BTreeSet<String> = plan.hosts().into_iter().map(str::to_owned).collect();
    for verdict in verdicts.iter().filter(|verdict| touched.contains(&verdict.host)) {
        let say = |problem: &Problem| {
            format!("{}: {} ({}; {})", verdict.host, problem.problem, verdict.check, problem.remedy)
        };
        match &verdict.outcome {
            Outcome::Error(problem) => plan.refused.push(say(problem)),
            Outcome::Warning(problem) => plan.notes.push(say(problem)),
            Outcome::Passed | Outcome::Unknown => {}
        }
    }
}

/// One wrong clock must not make the right ones look wrong, and neither must ours.
fn middle(observed: &Observed) -> i64 {
    let mut offsets: Vec<i64> = observed
        .hosts
        .values()
        .filter_map(|observation| match observation {
            Observation::Facts(facts) => facts.machine.clock_offset_secs,
            Observation::Failed(_) => None,
        })
        .collect();
    offsets.sort_unstable();
    offsets.get(offsets.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Machine;

    fn answered(offset: Option<i64>) -> Observation {
        let machine = Machine { clock_offset_secs: offset, ..Machine::default() };
        Observation::Facts(Box::new(HostFacts { machine, ..HostFacts::default() }))
    }

    #[test]
    fn an_old_c_library_is_an_error_before_anything_is_sent() {
        let read = |path: &std::path::Path| std::fs::read_to_string(path);
        let text = b"cluster: shop\nzookeeper: {hosts: [10.0.0.11]}\n";
        let inventory = crate::inventory::parse("shop.yml".as_ref(), text, &read).unwrap();
        let desired = BTreeMap::from([("10.0.0.11".to_owned(), HostState::default())]);
        let verdict = |said: &str| {
            let facts = crate::plan::parse(&format!("aesop|1\nos|debian|11\n{said}end\n")).unwrap();
            let hosts = [("10.0.0.11".to_owned(), Observation::Facts(Box::new(facts)))].into();
            let observed = Observed { hosts, ..Observed::default() };
            let verdicts = examine(&inventory, &desired, &observed, Some((2, 36)));
            verdicts.into_iter().find(|verdict| verdict.check == "glibc").unwrap().outcome
        };
        let Outcome::Error(Problem { problem, remedy }) = verdict("libc|glibc 2.31\n") else { panic!() };
        assert_eq!(problem, "its C library is glibc 2.31, and aesop's binaries need 2.36");
        assert!(remedy.contains("build aesop on the oldest system"), "{remedy}");
        assert_eq!(verdict("libc|glibc 2.36\n"), Outcome::Passed);
        assert_eq!(verdict("libc|glibc 2.41\n"), Outcome::Passed);
        // musl has no such name.
        assert_eq!(verdict("libc|\n"), Outcome::Unknown);
    }

    #[test]
    fn the_middle_clock_is_nobodys_fault() {
        let hosts = [Some(0), Some(4000), Some(1), None].map(answered);
        let hosts = hosts.into_iter().enumerate().map(|(n, host)| (n.to_string(), host)).collect();
        assert_eq!(middle(&Observed { hosts, ..Observed::default() }), 1);
        assert_eq!(middle(&Observed::default()), 0);
    }
}
