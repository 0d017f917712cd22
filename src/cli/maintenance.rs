//! `aesop maintenance`.

use super::{Context, Exit, UsageError, carry, journal, remote};
use crate::apply::{Announcement, Work, announce};
use crate::clock::{Clock, SystemClock};
use crate::inventory::model::Inventory;
use crate::lock::VERSION;
use crate::service::roles;
use std::collections::BTreeSet;
use std::time::Duration;

/// A monitor that is told of nothing for longer would be no monitor.
const LONGEST: Duration = Duration::from_hours(30 * 24);

/// Flags of `aesop maintenance`.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Hosts (names, globs), or `@role` for that service alone on all of its hosts
    #[arg(value_name = "HOST|@ROLE", required = true, value_delimiter = ',')]
    what: Vec<String>,
    /// How long, from now on: `30m`, `2h`, `1d`. It ends by itself
    #[arg(long = "for", value_name = "DURATION", default_value = "1h", value_parser = crate::inventory::duration)]
    lasts: Duration,
    /// It is over before its time
    #[arg(long)]
    end: bool,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let inventory = cx.inventory()?;
    if args.lasts > LONGEST || args.lasts.is_zero() {
        return Err(
            UsageError("--for is between a second and 30 days; give it again when it ends".into()).into()
        );
    }
    let works: Vec<Work> = works(cx, &inventory, &args.what)?.into_iter().collect();
    let Some(monitor) = inventory.monitor.as_ref() else {
        anyhow::bail!("the inventory has no `monitor:`; nobody would mail about it");
    };
    let by = carry::operator();
    let names: Vec<String> = works.iter().map(words).collect();
    let (announcement, until) = if args.end {
        (Announcement::Ends, "is over".to_owned())
    } else {
        let end = SystemClock.now() + args.lasts;
        let until = format!("until {}", end.strftime("%F %H:%M UTC"));
        (Announcement::Begins { lasts: args.lasts, by: by.clone() }, until)
    };
    let text = format!("maintenance of {} {until}", names.join(", "));
    let connect = remote::connector(&inventory)?;
    let mut failures = Vec::new();
    for host in monitor.hosts.iter().filter_map(|name| inventory.hosts.get(name)) {
        let audit = format!("{by} aesop {VERSION} {text}");
        if let Err(error) = announce(&connect, host, &works, &announcement, &audit).await {
            failures.push(error);
        }
    }
    journal::note(cx, &inventory, "maintenance", &text, &failures);
    for failure in &failures {
        cx.out.error(&anyhow::anyhow!("{failure}"));
    }
    if failures.is_empty() {
        let mails = if args.end { "The monitor mails again." } else { "The monitor mails nothing of it." };
        cx.out.note(format!("The {text}. {mails}"));
    }
    Ok(if failures.is_empty() { Exit::Done } else { Exit::Failed })
}

fn words(work: &Work) -> String {
    if work.service == "*" { work.host.clone() } else { format!("{} on {}", work.service, work.host) }
}

/// What selectors mean: hosts with all that is on them, or one role's services.
fn works(cx: &Context, inventory: &Inventory, what: &[String]) -> anyhow::Result<BTreeSet<Work>> {
    let mut works = BTreeSet::new();
    for selector in what {
        let hosts = cx.select(inventory, std::slice::from_ref(selector))?;
        for host in hosts {
            let Some(role) = selector.strip_prefix('@') else {
                works.insert(Work { host, service: "*".to_owned() });
                continue;
            };
            let services = roles(inventory).remove(&host).unwrap_or_default();
            let ours = services.into_iter().filter(|service| is_of(service, role));
            works.extend(ours.map(|service| Work { host: host.clone(), service }));
        }
    }
    Ok(works)
}

/// Whether a role as selectors call it (`consumers/kafka-json`) has this service (`consumer/kafka-json`).
fn is_of(service: &str, role: &str) -> bool {
    let (role, group) = role.split_once('/').map_or((role, None), |(role, group)| (role, Some(group)));
    let (word, name) = service.split_once('/').map_or((service, None), |(word, name)| (word, Some(name)));
    let plural = role.strip_suffix('s').is_some_and(|one| one == word);
    (word == role || plural) && (group.is_none() || group == name)
}

#[cfg(test)]
mod tests {
    use super::is_of;

    #[test]
    fn a_role_means_its_services() {
        for (service, role) in [
            ("kafka", "kafka"),
            ("relay", "relays"),
            ("consumer/kafka-json", "consumers"),
            ("consumer/kafka-json", "consumers/kafka-json"),
            ("extra/tool", "extras"),
            ("monitor", "monitor"),
        ] {
            assert!(is_of(service, role), "{service} {role}");
        }
        for (service, role) in [
            ("kafka", "zookeeper"),
            ("consumer/a", "consumers/b"),
            ("extra/kafka", "kafka"),
            ("relay", "consumers"),
        ] {
            assert!(!is_of(service, role), "{service} {role}");
        }
    }
}
