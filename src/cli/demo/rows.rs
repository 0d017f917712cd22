//! Rows as they arrive in Kafka.

use crate::kafka::read::Reader;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What the demo wants to see: one row of each, whole.
const WANTED: [&str; 3] = ["insert", "update", "delete"];
/// How long Kafka may be quiet before what came is taken as all.
const QUIET: Duration = Duration::from_secs(2);

/// Reads the shop's topics until every kind of change was seen and no more come; returns lines to show.
pub(super) async fn arrived(bootstrap: String, patience: Duration) -> anyhow::Result<Vec<String>> {
    tokio::task::spawn_blocking(move || read(&bootstrap, patience)).await?
}

fn read(bootstrap: &str, patience: Duration) -> anyhow::Result<Vec<String>> {
    let mut reader = Reader::new(bootstrap, "shop.")?;
    let deadline = Instant::now() + patience;
    let mut examples: BTreeMap<&str, String> = BTreeMap::new();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    loop {
        reader.refresh()?;
        while let Some(record) = reader.next(QUIET)? {
            *counts.entry(record.topic.clone()).or_default() += 1;
            let Some(value) = record.value else { continue };
            let value = String::from_utf8_lossy(&value).into_owned();
            if let Some(op) = WANTED.into_iter().find(|op| value.starts_with(&format!(r#"{{"op":"{op}""#))) {
                examples.insert(
                    op,
                    format!("  {} [{}] @{}\n    {value}", record.topic, record.partition, record.offset),
                );
            }
        }
        if examples.len() == WANTED.len() {
            break;
        }
        anyhow::ensure!(
            Instant::now() < deadline,
            "after {} s Kafka has {} of insert, update and delete; `aesop status` and `aesop logs` may tell why",
            patience.as_secs(),
            examples.len()
        );
    }
    let topics = counts.iter().map(|(topic, count)| format!("  {count:6} rows in topic {topic}"));
    Ok(WANTED.into_iter().filter_map(|op| examples.remove(op)).chain(topics).collect())
}
