//! The status page and the API: read-only, made from the last [`View`].

use super::history::Point;
use super::view::View;
use crate::agent::prometheus_text;
use crate::clock::{Clock, SystemClock};
use crate::lag::{Status, distance, partition_context, scn};
use crate::rule::{Phase, Severity, human};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use minijinja::value::Serde;
use minijinja::{Environment, UndefinedBehavior, Value, context};
use serde_json::json;
use std::fmt::Write;
use std::sync::{Arc, PoisonError, RwLock};

type Shared = State<Arc<RwLock<View>>>;

/// Steps that may be missed before `/healthz` says so.
const STEPS_MISSED: u64 = 6;
/// Size of a chart, in its own units.
const CHART: (f64, f64) = (600.0, 70.0);

pub(super) fn router(view: Arc<RwLock<View>>) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/api/status", get(api_status))
        .route("/api/alerts", get(api_alerts))
        .route("/api/lag", get(api_lag))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .with_state(view)
}

fn last(view: &RwLock<View>) -> View {
    view.read().unwrap_or_else(PoisonError::into_inner).clone()
}

async fn page(State(view): Shared) -> Response {
    match render(&last(&view), SystemClock.now()) {
        Ok(html) => Html(html).into_response(),
        Err(error) => {
            tracing::error!(%error, "status page");
            (StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be rendered; /api/status has the data\n")
                .into_response()
        }
    }
}

async fn api_status(State(view): Shared) -> Response {
    let view = last(&view);
    let count = |severity: Severity| view.loud().filter(|v| v.alert.severity == severity).count();
    let status = json!({
        "cluster": view.cluster,
        "monitor": view.monitor,
        "version": env!("CARGO_PKG_VERSION"),
        "started": view.started,
        "at": view.at,
        "hosts": view.hosts,
        "firing": {"critical": count(Severity::Critical), "warning": count(Severity::Warning)},
        "lag_level": view.lag.as_ref().map(|lag| lag.level),
        "mail": view.mail,
    });
    Json(status).into_response()
}

async fn api_alerts(State(view): Shared) -> Response {
    let view = last(&view);
    Json(json!({"cluster": view.cluster, "at": view.at, "alerts": view.alerts, "resolved": view.resolved}))
        .into_response()
}

async fn api_lag(State(view): Shared) -> Response {
    let view = last(&view);
    Json(json!({"lag": view.lag, "history": view.history.series})).into_response()
}

async fn metrics(State(view): Shared) -> Response {
    let text = prometheus_text(&last(&view).samples);
    ([(header::CONTENT_TYPE, crate::agent::METRICS_CONTENT_TYPE)], text).into_response()
}

async fn healthz(State(view): Shared) -> Response {
    let view = last(&view);
    let age = SystemClock.now().duration_since(view.at).as_secs();
    let most = i64::try_from((view.interval_secs + 10) * STEPS_MISSED).unwrap_or(i64::MAX);
    if age > most {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("no evaluation for {age} s\n")).into_response();
    }
    "ok\n".into_response()
}

/// The page as HTML.
pub(super) fn render(view: &View, now: Timestamp) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.add_template("status.html", include_str!("../../templates/web/status.html.j2"))?;
    let ago = |at: Timestamp| human::seconds(now.duration_since(at).as_secs_f64().max(0.0));
    let alert = |view: &super::core::AlertView| {
        let alert = &view.alert;
        context! {
            severity => alert.severity.to_string(),
            state => phase(alert.track.phase),
            summary => alert.summary.clone(),
            runbook => alert.runbook.clone(),
            since => ago(alert.track.since),
            suppressed => view.suppressed.as_ref().map(suppressed),
        }
    };
    let (firing, rest): (Vec<_>, Vec<_>) =
        view.alerts.iter().partition(|v| v.alert.is_firing() && v.suppressed.is_none());
    let context = context! {
        cluster => view.cluster.clone(),
        monitor => view.monitor.clone(),
        version => env!("CARGO_PKG_VERSION"),
        at => view.at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string(),
        severity => view.severity().map(|severity| severity.to_string()),
        hosts => Value::from(Serde(&view.hosts)),
        hosts_up => view.hosts.iter().filter(|host| host.up == Some(true)).count(),
        firing => firing.into_iter().map(alert).collect::<Vec<_>>(),
        quiet => rest.into_iter().map(alert).collect::<Vec<_>>(),
        resolved => view.resolved.iter().take(10).map(|r| context! {
            summary => r.alert.summary.clone(),
            ago => ago(r.at),
            lasted => human::seconds(r.at.duration_since(r.alert.track.since).as_secs_f64().max(0.0)),
        }).collect::<Vec<_>>(),
        lag => lag(view),
        charts => charts(view, now),
        mail => Value::from(Serde(&view.mail)),
        mail_oldest => view.mail.oldest.map(ago),
    };
    environment.get_template("status.html")?.render(context)
}

fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Pending => "pending",
        Phase::Firing => "firing",
        Phase::NoData => "no data",
    }
}

fn suppressed(why: &crate::rule::Suppression) -> String {
    match why {
        crate::rule::Suppression::Inhibited { by } => {
            let rule = by.split('{').next().unwrap_or_default();
            format!("explained by {rule}")
        }
        crate::rule::Suppression::Downtime { reason } if reason.is_empty() => "in a downtime".to_owned(),
        crate::rule::Suppression::Downtime { reason } => format!("in a downtime: {reason}"),
    }
}

fn lag(view: &View) -> Value {
    let Some(report) = &view.lag else { return Value::from(()) };
    let source = |source: &crate::lag::SourceLag| {
        let relays = source.relays.iter().map(|relay| {
            context! {
                relay => relay.relay.clone(),
                status => relay.status.to_string(),
                reason => relay.reason.clone(),
                scn => scn(relay.scn),
                behind => distance(relay.behind),
            }
        });
        let end = source.file.as_ref().zip(source.offset).map(|(file, offset)| format!("{file}:{offset}"));
        context! { source => source.source.clone(), end, relays => relays.collect::<Vec<_>>() }
    };
    let bad = report.partitions.iter().filter(|lag| lag.status != Status::Ok).count();
    context! {
        level => report.level.to_string(),
        problems => report.problems.clone(),
        groups => Value::from(Serde(&report.groups)),
        sources => report.sources.iter().map(source).collect::<Vec<_>>(),
        partitions => report.partitions.iter().map(partition_context).collect::<Vec<_>>(),
        bad,
        worst => distance(report.worst()),
    }
}

/// One chart a group and source: worst lag in seconds over the last 24 hours.
fn charts(view: &View, now: Timestamp) -> Vec<Value> {
    let series = view.history.series.iter();
    series
        .map(|(name, points)| {
            let points: Vec<Point> = points.iter().copied().collect();
            let most = points.iter().map(|point| point.seconds).fold(0.0, f64::max);
            context! {
                name => name.clone(),
                most => human::seconds(most),
                path => chart(&points, most, now.as_second()),
                width => CHART.0,
                height => CHART.1,
            }
        })
        .collect()
}

/// An area under the points. A gap of more than three minutes is a gap. Lags below ten seconds stay low.
fn chart(points: &[Point], most: f64, now: i64) -> String {
    let (width, height) = CHART;
    let scale = most.max(10.0);
    let x = |at: i64| {
        let age = i32::try_from((now - at).clamp(0, 86_400)).map_or(86_400.0, f64::from);
        width * (1.0 - age / 86_400.0)
    };
    let y = |seconds: f64| height - (height - 2.0) * (seconds / scale).clamp(0.0, 1.0);
    let mut path = String::new();
    let mut run: Option<i64> = None;
    for point in points {
        let (px, py) = (x(point.at), y(point.seconds));
        match run {
            Some(before) if point.at - before <= 180 => write!(path, "L{px:.1} {py:.1}").ok(),
            Some(before) => {
                write!(path, "L{:.1} {height:.1}ZM{px:.1} {height:.1}L{px:.1} {py:.1}", x(before)).ok()
            }
            None => write!(path, "M{px:.1} {height:.1}L{px:.1} {py:.1}").ok(),
        };
        run = Some(point.at);
    }
    if let Some(before) = run {
        write!(path, "L{:.1} {height:.1}Z", x(before)).ok();
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_an_area_with_gaps() {
        let point = |at, seconds| Point { at, seconds };
        let path = chart(&[point(86_400, 0.0), point(86_460, 20.0), point(90_000, 10.0)], 20.0, 2 * 86_400);
        assert_eq!(path, "M0.0 70.0L0.0 70.0L0.4 2.0L0.4 70.0ZM25.0 70.0L25.0 36.0L25.0 70.0Z");
        assert_eq!(chart(&[], 0.0, 0), "");
    }
}
