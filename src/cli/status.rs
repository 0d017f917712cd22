//! `aesop status`.

use super::deployment::gather;
use super::{Context, Exit, installed};
use crate::apply::{Session, Work};
use crate::clock::{Clock, SystemClock};
use crate::host::{Call, Command};
use crate::inventory::model::MonitorRole;
use crate::plan::{Change, HostFacts, Observation};
use crate::rule::Downtime;
use crate::service::{Gate, HostState, Part, Role, Unit, paths};
use futures_util::StreamExt;
use jiff::Timestamp;
use serde::Serialize;
use std::io::IsTerminal;
use std::time::Duration;

/// A test that has not passed by then says `not ready`.
const READY_SECS: &str = "2";
const READY_LIMIT: Duration = Duration::from_secs(15);

/// Flags of `aesop status`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Again and again, with so many seconds between; 5 without a number
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "5",
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    watch: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Row {
    host: String,
    service: String,
    unit: String,
    state: String,
    /// What is there, not what should be.
    version: String,
    health: String,
    /// Changes that an apply would make.
    pending: usize,
    /// What somebody changed; an apply puts it right.
    drift: usize,
    /// Until when, where somebody has announced work.
    #[serde(skip_serializing_if = "Option::is_none")]
    maintenance: Option<Timestamp>,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let Some(pause) = args.watch else {
        let rows = rows(cx).await?;
        if cx.out.is_json() {
            cx.out.json(&rows)?;
        } else {
            cx.out.raw(table(&rows))?;
        }
        let good = rows.iter().all(|row| row.health == "ready");
        return Ok(if good { Exit::Done } else { Exit::Failed });
    };
    // Ends with Ctrl-C, or with whoever reads.
    loop {
        let rows = rows(cx).await?;
        if cx.out.is_json() {
            cx.out.data(serde_json::to_string(&rows)?)?;
        } else {
            // On a terminal in the same place; elsewhere one table after the other.
            let top = if std::io::stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
            cx.out.raw(format_args!(
                "{top}{}\n{}\n",
                SystemClock.now().strftime("%F %T UTC"),
                table(&rows)
            ))?;
        }
        tokio::time::sleep(Duration::from_secs(pause)).await;
    }
}

/// Asks all hosts. The inventory is read each time: it may have changed.
async fn rows(cx: &Context) -> anyhow::Result<Vec<Row>> {
    let inventory = cx.inventory()?;
    let selected = cx.hosts(&inventory)?;
    let gathered = gather(cx, &inventory, None).await?;
    let mut rows = Vec::new();
    let mut tests = Vec::new();
    for (host, state) in gathered.prepared.desired.iter().filter(|(host, _)| selected.contains(*host)) {
        let observation = gathered.observed.hosts.get(host);
        let drift = installed::drift(host, state, &gathered.plan.drift);
        for (number, part) in state.parts.iter().enumerate() {
            let pending: usize = gathered
                .plan
                .stages
                .iter()
                .filter(|stage| stage.service == part.service)
                .flat_map(|stage| &stage.waves)
                .filter_map(|wave| wave.steps.get(host))
                .map(|steps| steps.iter().filter(|step| step.change() != Change::Nothing).count())
                .sum();
            let drift = drift.get(&number).copied().unwrap_or_default();
            // What all services stand on has no health of its own.
            if part.role == Role::Base && pending + drift == 0 {
                continue;
            }
            let row = Row { pending, drift, ..row(host, state, part, observation) };
            if let (true, Some(gate)) = (row.state.starts_with("active"), &part.gate)
                && gate.test.first().is_none_or(|test| test != Gate::UNITS)
            {
                tests.push((rows.len(), host.clone(), gate.test.clone()));
            }
            rows.push(row);
        }
    }
    let session = &gathered.session;
    let mut tested = futures_util::stream::iter(tests.into_iter().map(|(index, host, test)| async move {
        let argv = [paths::AESOP, "ready", "--timeout", READY_SECS].map(str::to_owned);
        let argv = argv.into_iter().chain(test).collect();
        let call = Call { command: Command::Argv(argv), timeout: READY_LIMIT };
        let Some(connection) = session.host(&host) else { return (index, "unknown".to_owned()) };
        let health = match connection.call(call, &|_| ()).await {
            Ok(output) if output.status == Some(0) => "ready".to_owned(),
            Ok(output) => format!("not ready: {}", output.stderr.trim().lines().next().unwrap_or_default()),
            Err(error) => error.to_string(),
        };
        (index, health)
    }))
    .buffer_unordered(usize::from(cx.globals.parallel));
    while let Some((index, health)) = tested.next().await {
        if let Some(row) = rows.get_mut(index) {
            row.health = health;
        }
    }
    drop(tested);
    for downtime in maintenance(&gathered.session, inventory.monitor.as_ref()).await {
        for row in rows.iter_mut().filter(|row| downtime.is_of(&row.host, &row.service)) {
            row.maintenance = row.maintenance.max(Some(downtime.until));
        }
    }
    gathered.session.close().await;
    Ok(rows)
}

/// What a person has announced, as the first monitor that answers has it; not what an apply announces for its moment.
async fn maintenance(session: &Session, monitor: Option<&MonitorRole>) -> Vec<Downtime> {
    let files = format!("{}*.json", Work::PREFIX);
    let find = ["find", paths::DOWNTIMES, "-name", &files, "-exec", "cat", "{}", "+"];
    let argv = find.map(str::to_owned).to_vec();
    for connection in monitor.into_iter().flat_map(|role| &role.hosts).filter_map(|host| session.host(host)) {
        let call = Call { command: Command::Argv(argv.clone()), timeout: READY_LIMIT };
        let Ok(output) = connection.call(call, &|_| ()).await else { continue };
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let now = SystemClock.now();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Downtime>(line).ok());
        return lines.filter(|downtime| downtime.until > now).collect();
    }
    Vec::new()
}

fn row(host: &str, state: &HostState, part: &Part, observation: Option<&Observation>) -> Row {
    let unit = part.units.first().map(|unit| unit.name.clone()).unwrap_or_default();
    let (active, health) = match observation {
        Some(Observation::Facts(_)) if part.units.is_empty() => ("-".to_owned(), "ready".to_owned()),
        Some(Observation::Facts(facts)) => {
            let active =
                |unit: &Unit| facts.units.get(&unit.name).is_some_and(|fact| fact.active == "active");
            // Of an extra systemd alone knows; all others are tested.
            let ready = part.role == Role::Extra && part.units.iter().all(active);
            (unit_state(facts, &unit), if ready { "ready" } else { "stopped" }.to_owned())
        }
        Some(Observation::Failed(why)) => ("unreachable".to_owned(), why.clone()),
        None => ("unknown".to_owned(), "not asked".to_owned()),
    };
    let version = match observation {
        Some(Observation::Facts(facts)) => installed::version(state, part, facts),
        Some(Observation::Failed(_)) | None => "unknown".to_owned(),
    };
    let (host, service) = (host.to_owned(), part.service.clone());
    Row { host, service, unit, state: active, version, health, pending: 0, drift: 0, maintenance: None }
}

fn unit_state(facts: &HostFacts, unit: &str) -> String {
    match facts.units.get(unit) {
        Some(fact) => format!("{} ({})", fact.active, fact.sub),
        None => "absent".to_owned(),
    }
}

fn table(rows: &[Row]) -> String {
    let mut lines =
        vec![["HOST", "SERVICE", "VERSION", "STATE", "PENDING", "DRIFT", "HEALTH"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        let count = |count: usize| if count == 0 { "-".to_owned() } else { count.to_string() };
        [
            row.host.clone(),
            row.service.clone(),
            row.version.clone(),
            row.state.clone(),
            count(row.pending),
            count(row.drift),
            match row.maintenance {
                Some(until) => {
                    format!("{} (maintenance until {})", row.health, until.strftime("%F %H:%M UTC"))
                }
                None => row.health.clone(),
            },
        ]
    }));
    let mut widths = [0_usize; 7];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    lines
        .iter()
        .map(|line| {
            let cells: Vec<String> =
                line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect::<Vec<_>>()
        .concat()
}
