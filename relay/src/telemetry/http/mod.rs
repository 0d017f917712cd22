//! `/metrics`, `/jolokia`, `/healthz/live` and `/healthz/ready`, for loopback.

use super::jolokia::{self, Options};
use super::prometheus;
use super::registry::Registry;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A bulk of a thousand requests fits.
const MAX_BODY_BYTES: usize = 256 * 1024;

/// The endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("http_listen {address}: {error}; choose a free address of this host")]
pub struct HttpError {
    address: String,
    error: std::io::Error,
}

/// Whether the program is ready, and why if not. Clones share it.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<Readiness>>);

#[derive(Clone, Debug)]
enum Readiness {
    Ready,
    Waiting(String),
    Stopped(String),
}

impl Default for Health {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Readiness::Waiting("starting".to_owned()))))
    }
}

impl Health {
    /// It does its work.
    pub fn ready(&self) {
        self.set(Readiness::Ready);
    }

    /// It waits for something that may pass by itself.
    pub fn waiting(&self, what: impl Into<String>) {
        self.set(Readiness::Waiting(what.into()));
    }

    /// A part of it has stopped for good: waiting longer is of no use.
    pub fn stopped(&self, why: impl Into<String>) {
        self.set(Readiness::Stopped(why.into()));
    }

    fn set(&self, readiness: Readiness) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = readiness;
    }

    fn get(&self) -> Readiness {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Clone, Debug)]
struct Shared {
    registry: Registry,
    health: Health,
}

/// Listens; [`serve`] takes the listener.
pub async fn bind(address: &str) -> Result<TcpListener, HttpError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| HttpError { address: address.to_owned(), error })
}

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, registry: Registry, health: Health, shutdown: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/jolokia", get(jolokia_version).post(jolokia_post))
        .route("/jolokia/", get(jolokia_version).post(jolokia_post))
        .route("/jolokia/{*path}", get(jolokia_get))
        .route("/healthz/live", get(async || "live\n"))
        .route("/healthz/ready", get(ready))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(Shared { registry, health });
    let served = axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "http endpoint ended");
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, prometheus::render(&shared.registry)).into_response()
}

/// 503 may become 200 by itself, 500 does not.
async fn ready(State(shared): State<Shared>) -> Response {
    match shared.health.get() {
        Readiness::Ready => "ready\n".into_response(),
        Readiness::Waiting(what) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("waiting: {what}\n")).into_response()
        }
        Readiness::Stopped(why) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("stopped: {why}\n")).into_response()
        }
    }
}

async fn jolokia_version(
    State(shared): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    Json(jolokia::get(&shared.registry, "version", options(&query))).into_response()
}

async fn jolokia_get(
    State(shared): State<Shared>,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    Json(jolokia::get(&shared.registry, &path, options(&query))).into_response()
}

async fn jolokia_post(
    State(shared): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    Json(jolokia::post(&shared.registry, &body, options(&query))).into_response()
}

fn options(query: &HashMap<String, String>) -> Options {
    Options {
        timestamp: jiff::Timestamp::now().as_second(),
        include_request: query.get("includeRequest").is_none_or(|value| value != "false"),
    }
}

#[cfg(test)]
mod tests;
