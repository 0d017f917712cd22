//! The shop and its customers.

use crate::lab::shop::{self, Server};
use anyhow::Context as _;
use std::time::{Duration, Instant};

/// Creates the shop and the user that relays read with (`aesop`).
pub(super) async fn open_shop(server: &Server, reader_password: &str) -> anyhow::Result<()> {
    let on = || format!("database server {}", server.host);
    shop::create(server).await.with_context(on)?;
    shop::create_reader(server, "aesop", reader_password).await.with_context(on)
}

/// Sells for `duration`; returns the number of transactions.
pub(super) async fn sell(server: &Server, duration: Duration) -> anyhow::Result<u64> {
    let mut conn = server.connect().await?;
    let until = Instant::now() + duration;
    let mut steps = 0;
    while Instant::now() < until {
        shop::step(&mut conn, steps).await?;
        steps += 1;
        // A pace a person can follow, and that leaves the machine to the cluster.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    conn.disconnect().await?;
    Ok(steps)
}
