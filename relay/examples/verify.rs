//! Consumers that only verify frames: the load of `bench/fanout`.
//!
//! usage: verify ADDRESS CLUSTER SOURCE STREAMS ROWS
//!
//! Opens STREAMS streams, each with its share of 16 partitions, and ends when ROWS rows have come over all of them.

use anyhow::Context as _;
use relay::client::{StreamEvent, Subscription, subscribe};
use relay::wire::PartitionSet;
use relay::wire::frame::StartFrom;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::Notify;

const PARTITIONS: u32 = 16;

/// As the consumer's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, cluster, source, streams, wanted] = arguments.as_slice() else {
        anyhow::bail!("usage: verify ADDRESS CLUSTER SOURCE STREAMS ROWS");
    };
    let streams: u32 = streams.parse().context("STREAMS")?;
    let wanted: u64 = wanted.parse().context("ROWS")?;
    let (rows, clock) = (Arc::new(AtomicU64::new(0)), Instant::now());
    // Whoever reads the last row ends the others: they would wait for the next mark.
    let all = Arc::new(Notify::new());
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..streams {
        let partitions = PartitionSet::of(PARTITIONS, (0..PARTITIONS).filter(|p| p % streams == number));
        let subscription = Subscription {
            address: address.clone(),
            cluster: cluster.clone(),
            source: source.clone(),
            group: "verify".to_owned(),
            member: format!("m{number}"),
            from: StartFrom::Earliest,
            partitions,
            credit_bytes: 8 << 20,
        };
        let (rows, all) = (Arc::clone(&rows), Arc::clone(&all));
        tasks.spawn(async move {
            let mut stream = subscribe(subscription).await?;
            loop {
                if let StreamEvent::Block(block) = stream.next().await? {
                    let came = u64::from(block.header().rows);
                    rows.fetch_add(came, Ordering::Relaxed);
                }
                if rows.load(Ordering::Relaxed) >= wanted {
                    all.notify_one();
                    return anyhow::Ok(());
                }
            }
        });
    }
    loop {
        tokio::select! {
            () = all.notified() => break,
            Some(ended) = tasks.join_next() => ended??,
        }
    }
    let mut out = std::io::stdout();
    writeln!(out, "rows {} seconds {:.2}", rows.load(Ordering::Relaxed), clock.elapsed().as_secs_f64())?;
    Ok(())
}
