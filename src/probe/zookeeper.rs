//! A ZooKeeper server by its four-letter words `mntr` and `srvr`, with either of its metrics providers.
//!
//! `ruok` is not asked: it answers `imok` outside a quorum too. A server outside a quorum answers `mntr` and `srvr`
//! with one sentence; that is `zookeeper_serving` 0, a reading and not a failed probe.

use super::{Labels, Probe, ProbeError, Sample, ratio};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::collections::BTreeMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Most bytes read of an answer; `mntr` of 3.9 takes 17 KiB.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

const NOT_SERVING: &str = "not currently serving requests";

/// Asks one server.
#[derive(Debug)]
pub struct ZooKeeperProbe {
    /// `127.0.0.1:2181`.
    pub address: String,
}

impl Probe for ZooKeeperProbe {
    fn name(&self) -> &'static str {
        "zookeeper"
    }

    fn service(&self) -> Option<&str> {
        Some("zookeeper")
    }

    fn probe(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Sample>, ProbeError>> {
        Box::pin(async move {
            let (mntr, srvr) = tokio::try_join!(self.ask("mntr"), self.ask("srvr"))?;
            samples(&mntr, &srvr, now)
        })
    }
}

impl ZooKeeperProbe {
    async fn ask(&self, word: &str) -> Result<String, ProbeError> {
        let failed = |error: std::io::Error| ProbeError::Unreachable(format!("{}: {error}", self.address));
        let mut stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        stream.write_all(word.as_bytes()).await.map_err(failed)?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.map_err(failed)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// What `mntr` calls a reading, and what the sample is called. Counters end in `_total`.
const READINGS: &[(&str, &str)] = &[
    ("zk_znode_count", "zookeeper_znodes"),
    ("zk_ephemerals_count", "zookeeper_ephemerals"),
    ("zk_watch_count", "zookeeper_watches"),
    ("zk_num_alive_connections", "zookeeper_connections"),
    ("zk_outstanding_requests", "zookeeper_outstanding_requests"),
    ("zk_approximate_data_size", "zookeeper_data_bytes"),
    ("zk_avg_latency", "zookeeper_latency_avg_ms"),
    ("zk_max_latency", "zookeeper_latency_max_ms"),
    ("zk_p99_readlatency", "zookeeper_read_latency_p99_ms"),
    ("zk_p99_updatelatency", "zookeeper_update_latency_p99_ms"),
    ("zk_cnt_updatelatency", "zookeeper_updates_total"),
    ("zk_sum_updatelatency", "zookeeper_update_latency_ms_total"),
    ("zk_cnt_fsynctime", "zookeeper_fsyncs_total"),
    ("zk_sum_fsynctime", "zookeeper_fsync_ms_total"),
    ("zk_cnt_election_time", "zookeeper_elections_total"),
    ("zk_synced_followers", "zookeeper_synced_followers"),
    ("zk_learners", "zookeeper_learners"),
    ("zk_quorum_size", "zookeeper_quorum_size"),
    ("zk_open_file_descriptor_count", "zookeeper_fds"),
    ("zk_uptime", "zookeeper_uptime_ms"),
    ("zk_throttled_ops", "zookeeper_throttled_ops_total"),
    ("zk_large_requests_rejected", "zookeeper_large_requests_rejected_total"),
    ("zk_unrecoverable_error_count", "zookeeper_unrecoverable_errors_total"),
    ("zk_digest_mismatches_count", "zookeeper_digest_mismatches_total"),
];

fn samples(mntr: &str, srvr: &str, now: Timestamp) -> Result<Vec<Sample>, ProbeError> {
    let sample = |name: &str, value: f64| Sample::new(name, value, now).label("service", "zookeeper");
    if mntr.contains(NOT_SERVING) || srvr.contains(NOT_SERVING) {
        return Ok(vec![
            sample("zookeeper_serving", 0.0).note("not serving requests: no quorum"),
            // The ensemble's count of leaders needs a reading of those outside it, too.
            sample("zookeeper_leader", 0.0),
            sample("zookeeper_standalone", 0.0),
        ]);
    }
    let readings = parse_mntr(mntr);
    let Some(mode) = srvr.lines().find_map(|line| line.strip_prefix("Mode: ")) else {
        return Err(ProbeError::Malformed(first_line("srvr", srvr)));
    };
    if readings.is_empty() {
        // A word that is not whitelisted answers a sentence.
        return Err(ProbeError::Malformed(first_line("mntr", mntr)));
    }
    let mut samples = vec![
        sample("zookeeper_serving", 1.0).note(mode.to_owned()),
        sample("zookeeper_leader", if mode == "leader" { 1.0 } else { 0.0 }).note(mode.to_owned()),
        sample("zookeeper_standalone", if mode == "standalone" { 1.0 } else { 0.0 }),
    ];
    samples.extend(
        READINGS.iter().filter_map(|(key, name)| readings.get(*key).map(|value| sample(name, *value))),
    );
    let (open, most) =
        (readings.get("zk_open_file_descriptor_count"), readings.get("zk_max_file_descriptor_count"));
    if let Some(value) = open.zip(most).and_then(|(open, most)| ratio(*open, *most)) {
        samples.push(sample("zookeeper_fds_used_ratio", value));
    }
    Ok(samples)
}

fn first_line(word: &str, answer: &str) -> String {
    let line = answer.lines().next().unwrap_or("nothing");
    format!("{word} says: {}", line.chars().take(200).collect::<String>())
}

/// Numbers of `mntr` under the default provider's names: the Prometheus provider's `zk_x{quantile="0.99"}`,
/// `zk_x_count` and `zk_x_sum` become `zk_p99_x`, `zk_cnt_x` and `zk_sum_x`. NaN (nothing measured yet) is left out.
fn parse_mntr(text: &str) -> BTreeMap<String, f64> {
    let mut readings = BTreeMap::new();
    for line in text.lines() {
        let Some((key, value)) = line.split_once('\t') else { continue };
        let Ok(value) = value.trim().parse::<f64>() else { continue };
        if value.is_nan() || !key.starts_with("zk_") {
            continue;
        }
        if let Some((name, labels)) = key.split_once('{') {
            if let (Some(bare), Some("0.99")) =
                (name.strip_prefix("zk_"), labels_of(labels).get("quantile").map(String::as_str))
            {
                readings.insert(format!("zk_p99_{bare}"), value);
            }
            continue;
        }
        for (suffix, prefix) in [("_count", "zk_cnt_"), ("_sum", "zk_sum_")] {
            if let Some(bare) = key.strip_suffix(suffix).and_then(|key| key.strip_prefix("zk_")) {
                readings.entry(format!("{prefix}{bare}")).or_insert(value);
            }
        }
        readings.insert(key.to_owned(), value);
    }
    readings
}

/// `quantile="0.99",key="x"}`
fn labels_of(text: &str) -> Labels {
    text.trim_end_matches('}')
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim_matches('"').to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    const SRVR: &str =
        "Zookeeper version: 3.9.4\nLatency min/avg/max: 0/0.5/9\nMode: leader\nNode count: 5\n";

    fn lines(mntr: &str) -> String {
        let samples = samples(mntr, SRVR, Timestamp::UNIX_EPOCH).unwrap();
        samples.iter().map(|s| format!("{} {}", s.name, s.value)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn both_providers_give_the_same_samples() {
        let default = "zk_version\t3.9.4, built on 2025\nzk_server_state\tleader\nzk_znode_count\t5\nzk_avg_latency\t0.5\n\
            zk_open_file_descriptor_count\t50\nzk_max_file_descriptor_count\t200\nzk_synced_followers\t2\nzk_p99_readlatency\t3\n\
            zk_cnt_fsynctime\t7\nzk_sum_fsynctime\t21\n";
        let prometheus = "zk_version\t3.9.4, built on 2025\nzk_server_state\tleader\nzk_znode_count\t5.0\nzk_avg_latency\t0.5\n\
            zk_open_file_descriptor_count\t50.0\nzk_max_file_descriptor_count\t200.0\nzk_synced_followers\t2.0\n\
            zk_readlatency{quantile=\"0.5\"}\t1.0\nzk_readlatency{quantile=\"0.99\"}\t3.0\nzk_updatelatency{quantile=\"0.99\"}\tNaN\n\
            zk_fsynctime_count\t7.0\nzk_fsynctime_sum\t21.0\n";
        assert_eq!(lines(default), lines(prometheus));
        expect![[r"
            zookeeper_serving 1
            zookeeper_leader 1
            zookeeper_standalone 0
            zookeeper_znodes 5
            zookeeper_latency_avg_ms 0.5
            zookeeper_read_latency_p99_ms 3
            zookeeper_fsyncs_total 7
            zookeeper_fsync_ms_total 21
            zookeeper_synced_followers 2
            zookeeper_fds 50
            zookeeper_fds_used_ratio 0.25"]]
        .assert_eq(&lines(default));
    }

    #[test]
    fn a_server_outside_a_quorum_is_a_reading() {
        let sentence = "This ZooKeeper instance is not currently serving requests\n";
        let samples = samples(sentence, sentence, Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((samples[0].name.as_str(), samples[0].value), ("zookeeper_serving", 0.0));
    }

    #[test]
    fn a_word_that_is_not_whitelisted_is_an_error_that_says_so() {
        let refused = "mntr is not executed because it is not in the whitelist.\n";
        let error = samples(refused, SRVR, Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(error.to_string().contains("not in the whitelist"), "{error}");
    }

    #[tokio::test]
    async fn asks_over_tcp() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut word = [0; 4];
                stream.read_exact(&mut word).await.unwrap();
                let answer = if &word == b"mntr" { "zk_znode_count\t5\n" } else { SRVR };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let probe = ZooKeeperProbe { address };
        let samples = probe.probe(Timestamp::UNIX_EPOCH).await.unwrap();
        assert!(samples.iter().any(|s| s.name == "zookeeper_znodes" && s.value > 4.0));
    }
}
