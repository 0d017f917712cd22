//! `aesop alerts`.

use super::{Context, Exit, remote};
use crate::clock::{Clock, SystemClock};
use crate::monitor::load_config;
use crate::rule::human;
use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The monitor answers from memory.
const TIMEOUT: Duration = Duration::from_secs(10);
const REMOTE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// Ask the monitor of this configuration, on this host; without it the one in the inventory is asked
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: Args, cx: &Context) -> anyhow::Result<Exit> {
    let Some(config) = args.config else {
        return remote::on_monitor(cx, &["alerts", "--config", "/etc/aesop/monitor.yml"], REMOTE).await;
    };
    let answer = ask(&config).await?;
    if cx.out.is_json() {
        cx.out.json(&answer)?;
    } else {
        cx.out.data(text(&answer, SystemClock.now()))?;
    }
    Ok(Exit::Done)
}

async fn ask(config: &Path) -> anyhow::Result<Value> {
    let config = load_config(config)?;
    // It may listen on all addresses; it is asked on this host.
    let port = config.listen.rsplit(':').next().unwrap_or_default();
    let url = match config.listen.strip_suffix(port) {
        Some("0.0.0.0:" | "[::]:") => format!("http://127.0.0.1:{port}/api/alerts"),
        _ => format!("http://{}/api/alerts", config.listen),
    };
    let client = crate::probe::jolokia::client()?;
    let answer = client.get(&url).timeout(TIMEOUT).send().await;
    let answer = answer
        .with_context(|| format!("the monitor does not answer at {url}; is aesop-monitor.service up?"))?;
    Ok(answer.error_for_status()?.json().await?)
}

fn text(answer: &Value, now: Timestamp) -> String {
    let word = |alert: &Value, path: &str| {
        alert.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let alerts = answer.get("alerts").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let lines = alerts.iter().map(|alert| {
        let since = word(alert, "/track/since").parse::<Timestamp>();
        let lasted = since.map(|since| human::seconds(now.duration_since(since).as_secs_f64().max(0.0)));
        let quiet = match word(alert, "/suppressed/kind").as_str() {
            "inhibited" => format!("  (explained by {})", word(alert, "/suppressed/by")),
            "downtime" => format!("  (in a downtime: {})", word(alert, "/suppressed/reason")),
            _ => String::new(),
        };
        format!(
            "{:8}  {:8}  {:>10}  {}{quiet}",
            word(alert, "/track/phase"),
            word(alert, "/severity"),
            lasted.unwrap_or_default(),
            word(alert, "/summary"),
        )
    });
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() { "nothing fires".to_owned() } else { lines.join("\n") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn a_line_an_alert() {
        let answer = serde_json::json!({"alerts": [
            {"severity": "critical", "summary": "kafka is down on k1", "track": {"phase": "firing", "since": "2026-11-22T15:00:00Z"}, "suppressed": null},
            {"severity": "warning", "summary": "12 partitions", "track": {"phase": "pending", "since": "2026-11-22T15:00:20Z"},
             "suppressed": {"kind": "inhibited", "by": "service_down{host=k1}"}},
        ]});
        expect![[r"
            firing    critical    1 m 30 s  kafka is down on k1
            pending   warning     1 m 10 s  12 partitions  (explained by service_down{host=k1})"]]
        .assert_eq(&text(&answer, "2026-11-22T15:01:30Z".parse().unwrap()));
        assert_eq!(text(&serde_json::json!({"alerts": []}), Timestamp::UNIX_EPOCH), "nothing fires");
    }
}
