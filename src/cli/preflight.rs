//! `aesop check --hosts` and `aesop check --sources`.

use super::deployment::{Gathered, gather};
use super::{Context, Exit, diagnostic};
use crate::apply::ask_peers;
use crate::inventory::model::{Inventory, Source};
use crate::lock::{Lock, path_for};
use crate::plan::Observation;
use crate::preflight::{Outcome, Problem, Verdict};
use crate::secret::Resolver;
use relay::mysql::{Examined, Finding};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A database that is there answers within this, or not at all from here.
const DATABASE_LIMIT: Duration = Duration::from_secs(15);

/// Asks every host, or reads what they would say from a file, and tells the verdicts on those that are selected: the
/// others' clocks are what theirs is compared with.
pub(super) async fn hosts(
    cx: &Context,
    inventory: &Inventory,
    observed: Option<&Path>,
) -> anyhow::Result<Exit> {
    let gathered = gather(cx, inventory, observed).await?;
    let Gathered { session, observed: answers, mut verdicts, desired, .. } = gathered;
    verdicts.retain(|verdict| desired.contains_key(&verdict.host));
    if observed.is_none() {
        let parallel = usize::from(cx.globals.parallel);
        verdicts.extend(ask_peers(inventory, &session, &desired, parallel).await);
    }
    session.close().await;
    for (host, observation) in answers.hosts.iter().filter(|(host, _)| desired.contains_key(*host)) {
        if let Observation::Failed(why) = observation {
            let address = inventory.hosts.get(host).map_or(host.as_str(), |host| &host.address);
            let outcome = Outcome::Error(unanswered(why, address));
            verdicts.push(Verdict { host: host.clone(), check: "ssh", outcome });
        }
    }
    let bad = verdicts.iter().any(|verdict| matches!(verdict.outcome, Outcome::Error(_)));
    if cx.out.is_json() {
        cx.out.json(&json!({ "ok": !bad, "checks": verdicts }))?;
    } else {
        cx.out.raw(text(&verdicts, cx.out.color()))?;
    }
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

/// What is wrong with a host that did not answer, and what to do: most messages say it themselves.
fn unanswered(why: &str, address: &str) -> Problem {
    let (problem, remedy) = match why.split_once("; ") {
        Some((problem, remedy)) => (problem, remedy.to_owned()),
        None => (why, format!("look at it by hand: ssh -v {address} true")),
    };
    Problem { problem: problem.to_owned(), remedy }
}

/// A paragraph a host: how many checks passed, then what did not.
fn text(verdicts: &[Verdict], color: bool) -> String {
    let mut hosts: BTreeMap<&str, Vec<&Verdict>> = BTreeMap::new();
    for verdict in verdicts {
        hosts.entry(&verdict.host).or_default().push(verdict);
    }
    let mut text = String::new();
    for (host, verdicts) in hosts {
        let count = |wanted: fn(&Outcome) -> bool| verdicts.iter().filter(|v| wanted(&v.outcome)).count();
        let passed = count(|outcome| matches!(outcome, Outcome::Passed));
        let unknown: Vec<&str> = verdicts
            .iter()
            .filter(|verdict| verdict.outcome == Outcome::Unknown)
            .map(|verdict| verdict.check)
            .collect();
        let unknown =
            if unknown.is_empty() { String::new() } else { format!("; not known: {}", unknown.join(", ")) };
        let _infallible = writeln!(text, "{host}: {passed} of {} checks passed{unknown}", verdicts.len());
        for verdict in verdicts {
            let (label, problem) = match &verdict.outcome {
                Outcome::Error(problem) => ("error", problem),
                Outcome::Warning(problem) => ("warning", problem),
                Outcome::Passed | Outcome::Unknown => continue,
            };
            let line = format!("{}: {}", verdict.check, problem.problem);
            let _infallible = writeln!(text, "  {}", diagnostic::label(label, line, color));
            let _infallible = writeln!(text, "    {}", diagnostic::label("help", &problem.remedy, color));
        }
    }
    text
}

/// Connects to every source from this machine, as a relay would.
pub(super) async fn sources(cx: &Context, inventory: &Inventory) -> anyhow::Result<Exit> {
    let resolver = Resolver::new(&inventory.path);
    let mut bad = false;
    let mut told = Vec::new();
    let lock = Lock::load(&path_for(&inventory.path), &inventory.cluster)?;
    for (name, source) in &inventory.sources {
        let readers = inventory.relays.iter().flat_map(|role| &role.members);
        let relays: Vec<u32> = readers.filter_map(|member| lock.server_id(&member.host, name)).collect();
        let result = source_of(&resolver, name, source, &relays).await;
        bad |= result.is_err();
        if cx.out.is_json() {
            told.push(match &result {
                Ok(Examined { server, warnings, .. }) => {
                    let warnings: Vec<_> = warnings
                        .iter()
                        .map(|Finding { problem, remedy }| json!({ "problem": problem, "remedy": remedy }))
                        .collect();
                    json!({ "source": name, "ok": true, "version": server.version, "warnings": warnings })
                }
                Err(error) => json!({ "source": name, "ok": false, "error": format!("{error:#}") }),
            });
            continue;
        }
        match result {
            Ok(Examined { server, warnings, .. }) => {
                cx.out.data(format!("{name}: {} is ready to be read", server.version))?;
                for Finding { problem, remedy } in warnings {
                    cx.out.data(format!("  {}", diagnostic::label("warning", problem, cx.out.color())))?;
                    cx.out.data(format!("    {}", diagnostic::label("help", remedy, cx.out.color())))?;
                }
            }
            Err(error) => cx.out.error(&error.context(format!("source {name}"))),
        }
    }
    if cx.out.is_json() {
        cx.out.json(&json!({ "ok": !bad, "sources": told }))?;
    }
    Ok(if bad { Exit::Failed } else { Exit::Done })
}

/// Who answers and what to mind, or all that is wrong with it.
async fn source_of(
    resolver: &Resolver,
    name: &str,
    source: &Source,
    relays: &[u32],
) -> anyhow::Result<Examined> {
    // The relay's library reads passwords and certificates from files; these are ours alone, and short-lived.
    let (mut file, mut ca) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    ca.write_all(source.mysql.ca.as_deref().unwrap_or_default().as_bytes())?;
    if let Some(reference) = &source.mysql.password {
        let password = resolver.resolve(&format!("sources.{name}.mysql.password"), reference)?;
        file.write_all(password.expose().as_bytes())?;
    }
    let password_file: Option<PathBuf> = source.mysql.password.as_ref().map(|_| file.path().to_owned());
    let mysql = relay::config::Mysql {
        host: source.mysql.host.clone(),
        port: source.mysql.port,
        user: source.mysql.user.clone(),
        password_file,
        tls: source.mysql.tls,
        ca: source.mysql.ca.as_ref().map(|_| ca.path().to_owned()),
        // Nothing is replicated here, so no number is taken.
        server_id: u32::MAX,
    };
    let check = relay::mysql::admin::check(&mysql, source.schema, &source.tables, relays);
    let checked = tokio::time::timeout(DATABASE_LIMIT, check).await;
    let examined = checked.map_err(|_elapsed| {
        anyhow::anyhow!(
            "no answer from {}:{} within {} s; a database that only the relays reach is checked by `aesop check --hosts`",
            mysql.host,
            mysql.port,
            DATABASE_LIMIT.as_secs()
        )
    })??;
    Ok(examined)
}
