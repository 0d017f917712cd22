//! aesop's own programs, by the same bulk read as a JVM: relay and consumer serve their numbers as beans.

use super::jolokia::{self, Bean, Read};
use super::{Probe, ProbeError, Sample};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;

/// Reads a relay or a consumer.
#[derive(Debug)]
pub struct EndpointProbe {
    /// `relay` or `consumer/<group>`.
    pub service: String,
    /// `http://127.0.0.1:9191`.
    pub url: String,
    /// For loopback.
    pub client: reqwest::Client,
}

const RELAY: &[Read] = &[
    Read { mbean: "aesop.relay:type=Relay,*", attributes: &[] },
    Read { mbean: "aesop.relay:type=Source,*", attributes: &[] },
    Read { mbean: "aesop.relay:type=Stream,*", attributes: &[] },
];
const CONSUMER: &[Read] = &[
    Read { mbean: "aesop.consumer:type=Group,*", attributes: &[] },
    Read { mbean: "aesop.consumer:type=Partition,*", attributes: &[] },
    Read { mbean: "aesop.consumer:type=Sink,*", attributes: &[] },
];

impl Probe for EndpointProbe {
    fn name(&self) -> &'static str {
        "endpoint"
    }

    fn service(&self) -> Option<&str> {
        Some(&self.service)
    }

    fn probe(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Sample>, ProbeError>> {
        Box::pin(async move {
            let reads = if self.service == "relay" { RELAY } else { CONSUMER };
            let url = format!("{}/jolokia", self.url.trim_end_matches('/'));
            let answers = jolokia::read(&self.client, &url, None, reads).await?;
            let mut samples: Vec<Sample> =
                answers.iter().flatten().flat_map(|bean| bean_samples(bean, now)).collect();
            samples.push(self.ready(now).await);
            Ok(samples.into_iter().map(|sample| sample.label("service", &self.service)).collect())
        })
    }
}

impl EndpointProbe {
    async fn ready(&self, now: Timestamp) -> Sample {
        let url = format!("{}/healthz/ready", self.url.trim_end_matches('/'));
        match self.client.get(&url).send().await {
            Ok(answer) if answer.status().is_success() => Sample::new("service_ready", 1.0, now),
            Ok(answer) => {
                let status = answer.status();
                let reason = answer.text().await.unwrap_or_default();
                let reason: String = reason.trim().chars().take(200).collect();
                Sample::new("service_ready", 0.0, now).note(format!("{status}: {reason}"))
            }
            Err(error) => Sample::new("service_ready", 0.0, now).note(jolokia::root_cause(&error)),
        }
    }
}

/// Every number and truth of a bean: `aesop.relay:type=Source,name=shop` with `TimeLagMs` becomes
/// `relay_source_time_lag_ms{name="shop"}`. A state becomes `…_running` and `…_failed`, with
/// its word and the last error as the note; an error's text is the note of `…_error`.
fn bean_samples(bean: &Bean, now: Timestamp) -> Vec<Sample> {
    let domain = bean.name.split(':').next().unwrap_or_default().trim_start_matches("aesop.");
    let Some(kind) = bean.property("type") else { return Vec::new() };
    // `relay:type=Relay` is `relay_…`, not `relay_relay_…`.
    let prefix = match snake(kind) {
        kind if kind == domain => kind,
        kind => format!("{domain}_{kind}"),
    };
    let label = |name: String, value: f64| {
        bean.properties()
            .filter(|(key, _)| *key != "type")
            .fold(Sample::new(name, value, now), |sample, (key, value)| sample.label(key, value))
    };
    let mut samples = Vec::new();
    for (attribute, value) in &bean.attributes {
        let name = format!("{prefix}_{}", snake(attribute));
        match (attribute.as_str(), value) {
            ("State", Value::String(state)) => {
                let running = matches!(state.as_str(), "streaming" | "delivering" | "standby");
                // These two need a person; what is neither mends itself.
                let failed = matches!(state.as_str(), "stopped" | "failed");
                let note = match bean.attributes.get("LastError") {
                    Some(Value::String(error)) if !error.is_empty() => format!("{state}: {error}"),
                    _ => state.clone(),
                };
                for (suffix, truth) in [("running", running), ("failed", failed)] {
                    let name = format!("{prefix}_{suffix}");
                    samples.push(label(name, f64::from(u8::from(truth))).note(note.clone()));
                }
            }
            ("LastError", Value::String(error)) if !error.is_empty() => {
                samples.push(label(format!("{prefix}_error"), 1.0).note(error.clone()));
            }
            ("LastError", _) => samples.push(label(format!("{prefix}_error"), 0.0)),
            (_, Value::Bool(truth)) => samples.push(label(name, f64::from(u8::from(*truth)))),
            (_, value) => {
                samples.extend(value.as_f64().filter(|v| v.is_finite()).map(|value| label(name, value)));
            }
        }
    }
    samples
}

/// `TimeLagMs` as `time_lag_ms`.
fn snake(camel: &str) -> String {
    let mut out = String::with_capacity(camel.len() + 4);
    for letter in camel.chars() {
        if letter.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[tokio::test]
    async fn reads_a_relay_and_asks_whether_it_is_ready() {
        let answer = r#"[{"status":200,"value":{"aesop.relay:type=Relay":{"Version":"0.1.0","UptimeSeconds":7}}},
            {"status":200,"value":{"aesop.relay:type=Source,name=shop":{"State":"connecting","Connected":false,"TimeLagMs":1500,
             "LastError":"access denied","MaxPositionFile":"mysql-bin.000003"}}},
            {"status":404,"error":"x"}]"#;
        let router =
            axum::Router::new().route("/jolokia", axum::routing::post(move || async move { answer })).route(
                "/healthz/ready",
                axum::routing::get(|| async {
                    (axum::http::StatusCode::SERVICE_UNAVAILABLE, "shop: connecting\n")
                }),
            );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let probe = EndpointProbe { service: "relay".to_owned(), url, client: jolokia::client().unwrap() };
        let samples = probe.probe(Timestamp::UNIX_EPOCH).await.unwrap();
        let lines: Vec<String> = samples
            .iter()
            .map(|s| {
                format!(
                    "{} {:?} {} {}",
                    s.name,
                    s.labels.values(),
                    s.value,
                    s.note.clone().unwrap_or_default()
                )
            })
            .collect();
        expect![[r#"
            relay_uptime_seconds ["relay"] 7 
            relay_source_connected ["shop", "relay"] 0 
            relay_source_error ["shop", "relay"] 1 access denied
            relay_source_running ["shop", "relay"] 0 connecting: access denied
            relay_source_failed ["shop", "relay"] 0 connecting: access denied
            relay_source_time_lag_ms ["shop", "relay"] 1500 
            service_ready ["relay"] 0 503 Service Unavailable: shop: connecting"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn names_become_snake_case() {
        assert_eq!(snake("MilliSecondsSinceLastEvent"), "milli_seconds_since_last_event");
    }
}
