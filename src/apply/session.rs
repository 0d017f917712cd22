//! Connections to all hosts, and what they answer.

use super::clusters;
use crate::clock::{Clock, SystemClock};
use crate::host::{Call, Command, Connect, Host, HostError, Output};
use crate::inventory::model;
use crate::plan::{HostFacts, Observation, Observed, parse, questions};
use crate::service::HostState;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// An observation reads some hundred files; a host that is short of memory may be slow.
pub(super) const OBSERVE_LIMIT: Duration = Duration::from_mins(1);

/// Open connections by host name.
#[derive(Debug, Default)]
pub struct Session {
    hosts: BTreeMap<String, Arc<dyn Host>>,
}

impl Session {
    /// The connection to a host.
    pub fn host(&self, name: &str) -> Option<&Arc<dyn Host>> {
        self.hosts.get(name)
    }

    /// Ends all connections.
    pub async fn close(self) {
        let closing = self.hosts.into_values().map(|host| async move { host.close().await });
        futures_util::future::join_all(closing).await;
    }
}

/// Connects to every host of `desired` and asks it, all at once but for `parallel`.
pub async fn observe(
    connect: &dyn Connect,
    hosts: &BTreeMap<String, model::Host>,
    desired: &BTreeMap<String, HostState>,
    parallel: usize,
) -> (Session, Observed) {
    let asked = futures_util::stream::iter(desired.iter().filter_map(|(name, state)| {
        let host = hosts.get(name)?;
        Some(async move {
            let connected = connect.connect(host).await;
            match connected {
                Ok(connection) => {
                    let facts = ask(name, connection.as_ref(), state).await;
                    (name.clone(), Some(connection), facts)
                }
                Err(error) => (name.clone(), None, Observation::Failed(error.to_string())),
            }
        })
    }));
    let mut session = Session::default();
    let mut observed = Observed::default();
    let mut answers = asked.buffer_unordered(parallel.max(1));
    while let Some((name, connection, observation)) = answers.next().await {
        session.hosts.extend(connection.map(|connection| (name.clone(), connection)));
        observed.hosts.insert(name, observation);
    }
    observed.kafka = clusters::ask_kafka(&session, desired, &observed).await;
    (session, observed)
}

/// Asks hosts that are connected about another desired state.
pub async fn observe_again(
    session: &Session,
    desired: &BTreeMap<String, HostState>,
    parallel: usize,
) -> Observed {
    let asked = futures_util::stream::iter(desired.iter().filter_map(|(name, state)| {
        let connection = Arc::clone(session.host(name)?);
        Some(async move { (name.clone(), ask(name, connection.as_ref(), state).await) })
    }));
    let hosts = asked.buffer_unordered(parallel.max(1)).collect().await;
    let mut observed = Observed { hosts, ..Observed::default() };
    observed.kafka = clusters::ask_kafka(session, desired, &observed).await;
    observed
}

/// Gets the snapshots of generations that hosts keep; an error says why one cannot be had.
pub(super) async fn snapshots(
    session: &Session,
    wanted: &BTreeMap<String, u64>,
    parallel: usize,
) -> BTreeMap<String, Result<HostState, String>> {
    let asked = futures_util::stream::iter(wanted.iter().filter_map(|(name, generation)| {
        let connection = Arc::clone(session.host(name)?);
        Some(async move {
            let questions = format!("snapshot|{generation}\n");
            let call = Call { command: Command::Observe(questions), timeout: OBSERVE_LIMIT };
            let facts =
                facts_of(name, connection.call(call, &|_| ()).await).map_err(|error| error.to_string());
            let state = facts.and_then(|facts| {
                let text =
                    facts.snapshot.ok_or_else(|| format!("{name}: generation {generation} is not kept"))?;
                serde_json::from_str(&text)
                    .map_err(|error| format!("{name}: generation {generation} is not readable: {error}"))
            });
            (name.clone(), state)
        })
    }));
    asked.buffer_unordered(parallel.max(1)).collect().await
}

async fn ask(name: &str, host: &dyn Host, state: &HostState) -> Observation {
    let call = Call { command: Command::Observe(questions(state)), timeout: OBSERVE_LIMIT };
    let before = SystemClock.now().as_second();
    match facts_of(name, host.call(call, &|_| ()).await) {
        Ok(mut facts) => {
            // It looked at its clock at some time between our two looks; what is not certain is not told.
            let (low, high) = (facts.now - SystemClock.now().as_second(), facts.now - before);
            facts.machine.clock_offset_secs = Some(if low > 0 { low } else { high.min(0) });
            Observation::Facts(Box::new(facts))
        }
        Err(error) => Observation::Failed(error.to_string()),
    }
}

/// Reads what the observing program answered.
pub(super) fn facts_of(name: &str, answer: Result<Output, HostError>) -> Result<HostFacts, HostError> {
    let output = answer?;
    if output.status != Some(0) {
        return Err(HostError::Failed {
            host: name.to_owned(),
            what: "observing".to_owned(),
            detail: output.stderr.trim().to_owned(),
        });
    }
    parse(&String::from_utf8_lossy(&output.stdout))
        .map_err(|detail| HostError::Protocol { host: name.to_owned(), detail })
}
