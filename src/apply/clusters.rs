//! What clusters say of themselves: asked of one of their members, on its host.

use super::session::Session;
use crate::host::{Call, Command};
use crate::kafka::view::View;
use crate::plan::{Observation, Observed};
use crate::service::{HostState, Part, paths};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// `aesop view` asks each broker for a little, and the whole for a lot.
const LIMIT: Duration = Duration::from_secs(30);
/// Where so many cannot say, the next will not either.
const ASKED_MAX: usize = 3;

/// The Kafka cluster, of brokers that run; none where none can say.
pub(super) async fn ask_kafka(
    session: &Session,
    desired: &BTreeMap<String, HostState>,
    observed: &Observed,
) -> Option<Box<View>> {
    let running = |host: &str, part: &Part| {
        let Some(Observation::Facts(facts)) = observed.hosts.get(host) else { return false };
        part.units.iter().any(|unit| facts.units.get(&unit.name).is_some_and(|unit| unit.active == "active"))
    };
    let members: Vec<(&String, &str)> = desired
        .iter()
        .filter_map(|(host, state)| {
            let mut parts = state.parts.iter().filter(|part| running(host, part));
            Some((host, parts.find_map(|part| part.broker.as_ref()?.address.as_deref())?))
        })
        .collect();
    for (host, address) in members.iter().take(ASKED_MAX) {
        let Some(connection) = session.host(host).map(Arc::clone) else { continue };
        let others = members.iter().map(|(_, other)| *other).filter(|other| other != address);
        let bootstrap: Vec<&str> = std::iter::once(*address).chain(others).collect();
        let argv = [paths::AESOP, "view", "kafka", "--bootstrap", &bootstrap.join(",")].map(str::to_owned);
        let call = Call { command: Command::Argv(argv.to_vec()), timeout: LIMIT };
        // An aesop of an earlier version does not know how; the plan says what it cannot say then.
        let Ok(output) = connection.as_ref().call(call, &|_| ()).await else { continue };
        if let Ok(view) = serde_json::from_slice(&output.stdout) {
            return Some(Box::new(view));
        }
    }
    None
}
