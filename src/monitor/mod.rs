//! The monitor: polls agents, reads lag, evaluates rules, sends mail, serves the status page.
//!
//! One loop owns all state ([`core`]); polling, lag and mail run beside it and hand it what they found, so that a
//! slow host, database or mail server never holds up an alert about another.

pub mod config;

mod core;
mod history;
mod poll;
mod view;
mod web;

pub use view::{HostView, ServiceView, View};

use self::core::{Core, Outgoing, State};
use crate::agent::{sd_notify, tls::TlsError};
use crate::alert::{
    Composer, MailError, Notify, Smtp, SmtpError, Spool, SpoolError, SpoolStatus, write_durably,
};
use crate::clock::{Clock, SystemClock};
use crate::lag::{Collector, LagError, LagReport, Thresholds, compute};
use crate::rule::{Downtime, RuleError, RuleSet};
use config::{EmailConfig, MonitorConfig};
use history::History;
use poll::Poller;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tokio::sync::{Notify as Wake, mpsc, watch};
use tokio::task::JoinSet;

/// How often relays and checkpoints are read.
const LAG_INTERVAL: Duration = Duration::from_secs(20);
/// How often the spool is looked at when nothing new comes.
const SPOOL_INTERVAL: Duration = Duration::from_secs(5);
/// Findings on their way to the loop: one of each kind is in flight at a time.
const FINDINGS: usize = 8;

/// Why the monitor could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// A file it needs.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// `monitor.yml` is wrong.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_yaml::Error,
    },
    /// State that cannot be kept.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The rules.
    #[error(transparent)]
    Rules(#[from] RuleError),
    /// The agents' authority.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
    /// ZooKeeper's settings.
    #[error(transparent)]
    Lag(#[from] LagError),
    /// Mail settings.
    #[error(transparent)]
    Smtp(#[from] SmtpError),
    /// Mail templates or the sender.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// `listen`.
    #[error("cannot listen on {listen}; is another monitor running, or the port taken?")]
    Listen {
        /// The address.
        listen: String,
        /// Why.
        source: std::io::Error,
    },
}

/// Reads `monitor.yml`.
pub fn load_config(path: &Path) -> Result<MonitorConfig, MonitorError> {
    let text = read(path)?;
    serde_yaml::from_str(&text).map_err(|source| MonitorError::Config { path: path.to_owned(), source })
}

fn read(path: &Path) -> Result<String, MonitorError> {
    std::fs::read_to_string(path).map_err(|source| MonitorError::Read { path: path.to_owned(), source })
}

fn load_rules(config: &MonitorConfig) -> Result<RuleSet, MonitorError> {
    Ok(match &config.rules {
        Some(path) => RuleSet::with_file(&path.display().to_string(), &read(path)?)?,
        None => RuleSet::built_in()?,
    })
}

/// Everything that a configuration makes; a reload makes it anew and keeps the old one if that fails.
#[derive(Debug)]
struct Parts {
    config: MonitorConfig,
    rules: RuleSet,
    poller: Poller,
    collector: Collector,
    mail: Option<MailParts>,
}

#[derive(Debug)]
struct MailParts {
    composer: Composer,
    smtp: Smtp,
    email: EmailConfig,
}

impl Parts {
    fn load(path: &Path) -> Result<Self, MonitorError> {
        let config = load_config(path)?;
        let mail = match &config.email {
            Some(email) => Some(MailParts {
                composer: Composer::new(&config.cluster, &config.host, config.url.as_deref(), &email.from)?,
                smtp: Smtp::new(email)?,
                email: email.clone(),
            }),
            None => None,
        };
        Ok(Self {
            rules: load_rules(&config)?,
            poller: Poller::new(&config)?,
            collector: Collector::new(&config)?,
            mail,
            config,
        })
    }
}

/// What the tasks beside the loop found.
enum Finding {
    Polled(Vec<(String, Vec<crate::probe::Sample>)>),
    Lag(Box<LagReport>),
    Mail(SpoolStatus),
}

/// Runs until `shutdown` ends. SIGHUP reads the configuration again.
pub async fn run(path: &Path, shutdown: impl Future<Output = ()>) -> Result<(), MonitorError> {
    let clock = SystemClock;
    let parts = Arc::new(Parts::load(path)?);
    let data_dir = parts.config.data_dir.clone();
    let spool = Spool::open(&data_dir.join("spool"))?;
    std::fs::create_dir_all(data_dir.join("downtime.d"))
        .map_err(|source| MonitorError::Write { path: data_dir.join("downtime.d"), source })?;
    let core = Core::new(&parts.config, parts.rules.clone(), load_state(&data_dir), clock.now());
    let history = History::load(&data_dir.join("lag-history.json"));
    let view = Arc::new(RwLock::new(View::empty(&parts.config, clock.now())));
    let listener = listen(&parts.config.listen).await?;
    let (current, parts_seen) = watch::channel(Arc::clone(&parts));
    let (findings, found) = mpsc::channel(FINDINGS);
    let wake = Arc::new(Wake::new());

    let mut tasks = JoinSet::new();
    tasks.spawn(poll_loop(parts_seen.clone(), findings.clone()));
    tasks.spawn(lag_loop(parts_seen.clone(), findings.clone()));
    tasks.spawn(mail_loop(parts_seen, spool.clone(), Arc::clone(&wake), findings));
    let router = web::router(Arc::clone(&view));
    tasks.spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            tracing::error!(%error, "status page ended");
        }
    });
    tracing::info!(listen = %parts.config.listen, hosts = parts.config.hosts.len(), "monitor ready");
    sd_notify::ready();
    let mut monitor = Monitor { core, history, parts, spool, wake, view, saved: Vec::new(), lag: None };
    let result = monitor.run(path, &current, found, shutdown).await;
    sd_notify::stopping();
    tasks.shutdown().await;
    monitor.save(clock.now())?;
    result
}

async fn listen(address: &str) -> Result<tokio::net::TcpListener, MonitorError> {
    tokio::net::TcpListener::bind(address)
        .await
        .map_err(|source| MonitorError::Listen { listen: address.to_owned(), source })
}

/// State that cannot be read is put aside, not fatal: a monitor without a past is better than none.
fn load_state(data_dir: &Path) -> State {
    let path = data_dir.join("state.json");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return State::default(),
        Err(error) => {
            tracing::error!(path = %path.display(), %error, "cannot read alert state, starting without");
            return State::default();
        }
    };
    serde_json::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::error!(path = %path.display(), %error, "alert state is damaged, starting without");
        if let Err(error) = std::fs::rename(&path, data_dir.join("state.json.damaged")) {
            tracing::error!(%error, "cannot put it aside");
        }
        State::default()
    })
}

async fn poll_loop(parts: watch::Receiver<Arc<Parts>>, findings: mpsc::Sender<Finding>) {
    loop {
        let current = Arc::clone(&parts.borrow());
        let next = tokio::time::Instant::from_std(SystemClock.instant())
            + Duration::from_secs(current.config.interval_secs.max(1));
        let polled = current.poller.poll(&SystemClock).await;
        if findings.send(Finding::Polled(polled)).await.is_err() {
            return;
        }
        tokio::time::sleep_until(next).await;
    }
}

async fn lag_loop(parts: watch::Receiver<Arc<Parts>>, findings: mpsc::Sender<Finding>) {
    loop {
        let current = Arc::clone(&parts.borrow());
        let next = tokio::time::Instant::from_std(SystemClock.instant()) + LAG_INTERVAL;
        let readings = current.collector.read().await;
        let (config, now) = (&current.config, SystemClock.now());
        let thresholds = Thresholds::from(&config.lag_report);
        let report = compute(&config.cluster, &config.groups, &readings, thresholds, now);
        if findings.send(Finding::Lag(Box::new(report))).await.is_err() {
            return;
        }
        tokio::time::sleep_until(next).await;
    }
}

async fn mail_loop(
    parts: watch::Receiver<Arc<Parts>>,
    spool: Spool,
    wake: Arc<Wake>,
    findings: mpsc::Sender<Finding>,
) {
    loop {
        let current = Arc::clone(&parts.borrow());
        if let Some(mail) = &current.mail {
            let smtp: &dyn Notify = &mail.smtp;
            if let Err(error) = spool.deliver(smtp, SystemClock.now()).await {
                tracing::error!(%error, "mail spool");
            }
        }
        let status = spool.status().unwrap_or_else(|error| SpoolStatus {
            last_error: Some(error.to_string()),
            ..SpoolStatus::default()
        });
        if findings.send(Finding::Mail(status)).await.is_err() {
            return;
        }
        tokio::select! {
            () = wake.notified() => {}
            () = tokio::time::sleep(SPOOL_INTERVAL) => {}
        }
    }
}

/// The loop's own.
struct Monitor {
    core: Core,
    history: History,
    parts: Arc<Parts>,
    spool: Spool,
    wake: Arc<Wake>,
    view: Arc<RwLock<View>>,
    /// What is in the state file.
    saved: Vec<u8>,
    lag: Option<LagReport>,
}

impl Monitor {
    async fn run(
        &mut self,
        path: &Path,
        current: &watch::Sender<Arc<Parts>>,
        mut found: mpsc::Receiver<Finding>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), MonitorError> {
        let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
            .map_err(|source| MonitorError::Read { path: path.to_owned(), source })?;
        let mut mail = SpoolStatus::default();
        tokio::pin!(shutdown);
        loop {
            let finding = tokio::select! {
                () = &mut shutdown => return Ok(()),
                _ = hangup.recv() => { self.reload(path, current); continue }
                finding = found.recv() => finding,
            };
            let now = SystemClock.now();
            match finding {
                None => return Ok(()),
                Some(Finding::Polled(hosts)) => {
                    for (host, samples) in hosts {
                        self.core.observe(&host, samples);
                    }
                }
                Some(Finding::Lag(report)) => {
                    let report = self.core.observe_lag(*report);
                    self.history.add(&report);
                    self.lag = Some(report);
                }
                Some(Finding::Mail(status)) => {
                    self.core.observe_mail(&status, now);
                    mail = status;
                    self.publish(&mail, now);
                    continue;
                }
            }
            self.core.set_downtimes(downtimes(&self.parts.config.data_dir, now), now);
            let outgoing = self.core.step(now);
            self.send(&outgoing, now)?;
            self.save(now)?;
            self.publish(&mail, now);
            if !outgoing.is_empty() {
                self.wake.notify_one();
            }
        }
    }

    fn reload(&mut self, path: &Path, current: &watch::Sender<Arc<Parts>>) {
        match Parts::load(path) {
            Ok(parts) => {
                self.core.reload(&parts.config, parts.rules.clone());
                self.parts = Arc::new(parts);
                current.send_replace(Arc::clone(&self.parts));
                tracing::info!(hosts = self.parts.config.hosts.len(), "configuration read again");
            }
            Err(error) => tracing::error!(%error, "configuration not read again, the old one stays in force"),
        }
    }

    /// Into the spool, on the disk. Without mail settings alerts are only shown.
    fn send(&self, outgoing: &[Outgoing], now: jiff::Timestamp) -> Result<(), MonitorError> {
        for one in outgoing {
            let Some(mail) = &self.parts.mail else { continue };
            let (composer, email) = (&mail.composer, &mail.email);
            let made = match one {
                Outgoing::Notice(notice, symptoms) => composer.notice(notice, symptoms, &email.to, now),
                Outgoing::Digest(notices) => {
                    composer.digest(notices, self.parts.config.alerts.mails_per_hour, &email.to, now)
                }
            };
            match made {
                Ok(mail) => {
                    tracing::info!(subject = %mail.subject, "mail");
                    self.spool.put(&mail.id, &email.from, &email.to, &mail.bytes, now)?;
                }
                // It would fail each time; the alert stays on the status page.
                Err(error) => tracing::error!(%error, "mail cannot be made"),
            }
        }
        Ok(())
    }

    /// After the spool: a crash in between makes the same mail again, which the spool knows by its id.
    fn save(&mut self, now: jiff::Timestamp) -> Result<(), MonitorError> {
        let data_dir = &self.parts.config.data_dir;
        self.history.save(now);
        let bytes = serde_json::to_vec(&self.core.state()).unwrap_or_default();
        if bytes != self.saved {
            let path = data_dir.join("state.json");
            write_durably(&data_dir.join("state.json.tmp"), &path, &bytes)
                .map_err(|source| MonitorError::Write { path, source })?;
            self.saved = bytes;
        }
        Ok(())
    }

    fn publish(&self, mail: &SpoolStatus, now: jiff::Timestamp) {
        let view = View::new(&self.parts.config, &self.core, self.lag.as_ref(), &self.history, mail, now);
        // A reader that panicked has read only.
        let mut shared = self.view.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let started = shared.started;
        *shared = View { started, ..view };
    }
}

/// Announced work. A file that cannot be read is passed over: better a mail too many.
fn downtimes(data_dir: &Path, now: jiff::Timestamp) -> Vec<Downtime> {
    let Ok(entries) = std::fs::read_dir(data_dir.join("downtime.d")) else { return Vec::new() };
    let mut list = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let parsed = std::fs::read(&path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| serde_json::from_slice::<Downtime>(&bytes).map_err(|error| error.to_string()));
        match parsed {
            Ok(downtime) if downtime.is_remembered(now) => list.push(downtime),
            Ok(_) => {}
            Err(error) => tracing::warn!(path = %path.display(), %error, "downtime cannot be read"),
        }
    }
    list
}
