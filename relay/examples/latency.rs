//! How late a transaction is at a consumer, and in the file that `mysqlbinlog --stop-never --raw` writes of the same
//! stream: by the commit time that MySQL puts into each GTID event, on the same clock.
//!
//! usage: latency ADDRESS CLUSTER SOURCE RAW-FILE SECONDS

use anyhow::Context as _;
use relay::client::{StreamEvent, Subscription, subscribe};
use relay::decode::event::{self, HEADER_LEN, Header, code};
use relay::wire::frame::StartFrom;
use relay::wire::{BlockItem, PartitionSet};
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Follows a raw binlog as it grows; gives the lateness of each transaction.
fn follow(path: &Path, time: Duration) -> anyhow::Result<Vec<i64>> {
    let mut file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    // What is there already is not new.
    let (mut bytes, mut at, mut late, mut old) = (Vec::new(), 4, Vec::new(), true);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let read = file.read_to_end(&mut bytes)?;
        let seen = now_us();
        while let Some(header) = bytes.get(at..at + HEADER_LEN) {
            let header = Header::parse(header)?;
            let size = usize::try_from(header.size)?;
            let Some(body) = bytes.get(at + HEADER_LEN..at + size) else { break };
            if header.kind == code::GTID && !old {
                late.extend(event::gtid(body, true)?.commit_time_us.map(|at| seen - at));
            }
            at += size;
        }
        old = false;
        if read == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
    Ok(late)
}

async fn consume(subscription: Subscription, time: Duration) -> anyhow::Result<Vec<i64>> {
    let mut stream = subscribe(subscription).await?;
    let mut late = Vec::new();
    let end = tokio::time::Instant::now() + time;
    while let Ok(event) = tokio::time::timeout_at(end, stream.next()).await {
        let StreamEvent::Block(block) = event? else { continue };
        let seen = now_us();
        let starts = block.items().filter_map(|item| match item {
            BlockItem::Txn(txn) => Some(txn.start.commit_time_us),
            BlockItem::Row { .. } | BlockItem::Covered { .. } => None,
        });
        late.extend(starts.map(|at| seen - at));
    }
    Ok(late)
}

fn say(out: &mut impl std::io::Write, name: &str, mut late: Vec<i64>) -> std::io::Result<()> {
    late.sort_unstable();
    let at = |share: usize| {
        late.get((late.len() * share / 1000).min(late.len().saturating_sub(1))).copied().unwrap_or(0)
    };
    writeln!(out, "{name} transactions {} p50_us {} p99_us {}", late.len(), at(500), at(990))
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, cluster, source, raw, seconds] = arguments.as_slice() else {
        anyhow::bail!("usage: latency ADDRESS CLUSTER SOURCE RAW-FILE SECONDS");
    };
    let time = Duration::from_secs(seconds.parse().context("SECONDS")?);
    let subscription = Subscription {
        address: address.clone(),
        cluster: cluster.clone(),
        source: source.clone(),
        group: "latency".to_owned(),
        member: "m".to_owned(),
        from: StartFrom::Latest,
        partitions: PartitionSet::all(16),
        credit_bytes: 8 << 20,
    };
    let raw = raw.clone();
    let peer = std::thread::spawn(move || follow(Path::new(&raw), time));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ours = runtime.block_on(consume(subscription, time))?;
    let theirs = peer.join().map_err(|_| anyhow::anyhow!("the follower panicked"))??;
    let mut out = std::io::stdout();
    say(&mut out, "relay", ours)?;
    Ok(say(&mut out, "mysqlbinlog", theirs)?)
}
