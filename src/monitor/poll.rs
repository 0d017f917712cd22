//! Asks agents for their samples.

use super::config::MonitorConfig;
use crate::agent::{ProbeAnswer, tls};
use crate::clock::Clock;
use crate::probe::{Sample, jolokia::root_cause};
use crate::secret::Secret;
use futures_util::future::join_all;
use std::time::Duration;

/// Longest wait for one agent: its probes' deadline and the way there and back.
const DEADLINE: Duration = Duration::from_secs(8);
/// Longest wait for a connection: a host that is cut off is known sooner than one that is slow.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// Most bytes of one answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The agents of a configuration.
#[derive(Debug)]
pub(super) struct Poller {
    client: reqwest::Client,
    token: Secret,
    /// Name, URL, roles.
    hosts: Vec<(String, String, String)>,
}

impl Poller {
    pub(super) fn new(config: &MonitorConfig) -> Result<Self, super::MonitorError> {
        let read = |path: &std::path::Path| super::read(path);
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::client(&config.ca_certificate)?)
            .no_proxy()
            .connect_timeout(CONNECT_DEADLINE)
            .timeout(DEADLINE)
            .build()
            .map_err(|error| super::MonitorError::Client(root_cause(&error)))?;
        let hosts = config
            .hosts
            .iter()
            .map(|(name, host)| (name.clone(), host.agent.clone(), host.roles.join(" ")))
            .collect();
        Ok(Self { client, token: Secret::new(read(&config.token_file)?.trim()), hosts })
    }

    /// All at once; one that does not answer costs the others nothing.
    pub(super) async fn poll(&self, clock: &dyn Clock) -> Vec<(String, Vec<Sample>)> {
        let asks = self.hosts.iter().map(|(name, url, roles)| async move {
            let answer = self.ask(url).await;
            (name.clone(), samples(name, roles, answer, clock))
        });
        join_all(asks).await
    }

    async fn ask(&self, url: &str) -> Result<ProbeAnswer, String> {
        let request = self.client.get(format!("{url}/probe")).bearer_auth(self.token.expose());
        let mut answer = request.send().await.map_err(|error| root_cause(&error))?;
        if answer.status() == reqwest::StatusCode::UNAUTHORIZED {
            return Err("the agent refuses the token; apply brings both the same one".to_owned());
        }
        if !answer.status().is_success() {
            return Err(format!("HTTP status {}", answer.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| root_cause(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(format!("more than {ANSWER_BYTES_MAX} bytes"));
            }
        }
        serde_json::from_slice(&body).map_err(|error| format!("cannot read its answer: {error}"))
    }
}

/// The host's samples as rules see them: with the host, by our clock.
fn samples(host: &str, roles: &str, answer: Result<ProbeAnswer, String>, clock: &dyn Clock) -> Vec<Sample> {
    let now = clock.now();
    let up = |value: f64| Sample::new("agent_up", value, now).label("host", host).label("roles", roles);
    let answer = match answer {
        Ok(answer) if answer.host == host => answer,
        Ok(answer) => return vec![up(0.0).note(format!("at its address answers host {}", answer.host))],
        Err(reason) => return vec![up(0.0).note(reason)],
    };
    let offset = answer.now.duration_since(now).as_secs_f64();
    let mut samples = vec![up(1.0), Sample::new("clock_offset_seconds", offset, now).label("host", host)];
    samples.extend(answer.samples.into_iter().map(|mut sample| {
        sample.at = now;
        sample.label("host", host)
    }));
    samples
}
