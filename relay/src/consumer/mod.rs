//! The member of a consumer group: reads its partitions of every source from relays, writes their rows to the
//! sink, and keeps checkpoints in ZooKeeper.
//!
//! [`member`] follows the group and owns everything; an [`engine`] is one sink's life: a [`stream`] task a source
//! feeds the blocking [`writer`] thread; [`lane`] knows, without I/O, what each row becomes and how far each
//! partition is. Only what the sink acknowledged ever reaches a checkpoint.

mod engine;
mod lane;
mod member;
mod shared;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod writer;

pub use member::MemberError;

use crate::config::{CleanupPolicy, ConsumerConfig};
use crate::sink::kafka::{Counters, Kafka};
use crate::sink::{Failure, TopicError, Topics};
use crate::telemetry::{Health, HttpError, Registry, bind, register_process, serve};
use crate::zk::{self, Zk};
use engine::Parts;
use lane::Lanes;
use member::Member;
use shared::Shared;
use status::Status;
use std::future::Future;
use std::sync::Arc;
use std::time::Instant;
use stream::Registered;
use tokio_util::sync::CancellationToken;

/// Why the consumer cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ConsumerError {
    /// The sink's configuration.
    #[error(transparent)]
    Sink(#[from] Failure),
    /// The topic template.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The HTTP endpoint.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// ZooKeeper's configuration.
    #[error(transparent)]
    ZooKeeper(#[from] zk::Error),
    /// The member stopped for good.
    #[error(transparent)]
    Member(#[from] MemberError),
}

/// Runs a member until `shutdown`, then stops cleanly in less than five seconds.
pub async fn run(config: ConsumerConfig, shutdown: impl Future<Output = ()>) -> Result<(), ConsumerError> {
    Topics::new(&config.sink.kafka)?;
    let registry = Registry::default();
    let health = Health::default();
    let _process = register_process(&registry, "aesop.consumer", "Consumer", Instant::now());
    let counters = Arc::new(Counters::default());
    let client_id = format!("aesop-{}-{}", config.group, config.id);
    let sink = Arc::new(Kafka::new(config.sink.kafka.clone(), client_id, Arc::clone(&counters))?);
    let listener = bind(&config.http_listen).await?;
    let http_stop = CancellationToken::new();
    let _stop_http = http_stop.clone().drop_guard();
    tokio::spawn(serve(listener, registry.clone(), health.clone(), http_stop));
    let zk = Zk::start(&config.zookeeper, &config.cluster)?;
    let compact = config.sink.kafka.cleanup_policy == CleanupPolicy::Compact;
    let lanes = Lanes::new(config.partitions, compact, config.sources.keys());
    let status = Arc::new(Status::new(&config, registry, health, &counters));
    let parts = Parts {
        shared: Arc::new(Shared::new(lanes)),
        relays: Arc::new(Registered(zk.clone())),
        sink,
        config,
    };
    Member::new(parts, zk, status).run(shutdown).await?;
    Ok(())
}
