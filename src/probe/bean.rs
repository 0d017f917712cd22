//! A JVM's beans as samples: which beans are asked of Kafka and of ZooKeeper, and what each reading is called.

use super::jolokia::{self, Bean, Read};
use super::{Probe, ProbeError, Sample, ratio};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use std::path::PathBuf;

/// Reads a JVM through its Jolokia agent on loopback.
#[derive(Debug)]
pub struct JvmProbe {
    /// `kafka` or `zookeeper`.
    pub service: String,
    /// `http://127.0.0.1:8778/jolokia/`.
    pub url: String,
    /// User of the Jolokia agent.
    pub user: String,
    /// File with its password.
    pub password_file: PathBuf,
    /// For loopback.
    pub client: reqwest::Client,
}

impl Probe for JvmProbe {
    fn name(&self) -> &'static str {
        "jolokia"
    }

    fn service(&self) -> Option<&str> {
        Some(&self.service)
    }

    fn probe(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Sample>, ProbeError>> {
        Box::pin(async move {
            let own = match self.service.as_str() {
                "kafka" => KAFKA,
                "zookeeper" => ZOOKEEPER,
                _ => &[],
            };
            let mut reads = JVM.to_vec();
            reads.extend(own.iter().map(|reading| reading.read));
            let login = Some((self.user.as_str(), self.password_file.as_path()));
            let answers = jolokia::read(&self.client, &self.url, login, &reads).await?;
            let (jvm, rest) = answers.split_at(JVM.len().min(answers.len()));
            let mut samples = jvm_samples(jvm, now);
            for (reading, beans) in own.iter().zip(rest) {
                samples.extend(beans.iter().filter_map(|bean| reading.samples(bean, now)));
            }
            if self.service == "kafka" {
                raft_state(&mut samples);
                zookeeper_session(&mut samples);
            }
            Ok(samples.into_iter().map(|sample| sample.label("service", &self.service)).collect())
        })
    }
}

const JVM: &[Read] = &[
    Read { mbean: "java.lang:type=Memory", attributes: &["HeapMemoryUsage"] },
    Read { mbean: "java.lang:type=MemoryPool,*", attributes: &["CollectionUsage"] },
    Read { mbean: "java.lang:type=GarbageCollector,*", attributes: &["CollectionCount", "CollectionTime"] },
    Read {
        mbean: "java.lang:type=OperatingSystem",
        attributes: &["OpenFileDescriptorCount", "MaxFileDescriptorCount", "ProcessCpuTime"],
    },
    Read { mbean: "java.lang:type=Threading", attributes: &["ThreadCount"] },
    Read { mbean: "java.lang:type=Runtime", attributes: &["StartTime"] },
];

fn jvm_samples(answers: &[Vec<Bean>], now: Timestamp) -> Vec<Sample> {
    let mut samples = Vec::new();
    for bean in answers.iter().flatten() {
        let mut push = |name: &str, value: Option<f64>| {
            samples.extend(value.map(|value| Sample::new(name, value, now)));
        };
        match bean.property("type") {
            Some("Memory") => {
                let used = bean.number("HeapMemoryUsage", Some("used"));
                // -1: no bound.
                let max = bean.number("HeapMemoryUsage", Some("max")).filter(|max| *max > 0.0);
                push("jvm_heap_used_bytes", used);
                push("jvm_heap_max_bytes", max);
                push("jvm_heap_used_ratio", used.zip(max).and_then(|(used, max)| ratio(used, max)));
            }
            // The level after a collection tells a leak from the saw-tooth.
            Some("MemoryPool") if bean.property("name").is_some_and(is_old_generation) => {
                let used = bean.number("CollectionUsage", Some("used"));
                let max = bean.number("CollectionUsage", Some("max")).filter(|max| *max > 0.0);
                push("jvm_heap_after_gc_ratio", used.zip(max).and_then(|(used, max)| ratio(used, max)));
            }
            Some("GarbageCollector") => {
                let gc = bean.property("name").unwrap_or_default();
                let seconds = bean.number("CollectionTime", None).map(|ms| ms / 1e3);
                let count = bean.number("CollectionCount", None);
                for (name, value) in [("jvm_gc_seconds_total", seconds), ("jvm_gc_total", count)] {
                    samples.extend(value.map(|value| Sample::new(name, value, now).label("gc", gc)));
                }
            }
            Some("OperatingSystem") => {
                let open = bean.number("OpenFileDescriptorCount", None);
                let max = bean.number("MaxFileDescriptorCount", None);
                push("jvm_fds_used_ratio", open.zip(max).and_then(|(open, max)| ratio(open, max)));
                push("jvm_cpu_seconds_total", bean.number("ProcessCpuTime", None).map(|ns| ns / 1e9));
            }
            Some("Threading") => push("jvm_threads", bean.number("ThreadCount", None)),
            Some("Runtime") => {
                push("jvm_start_time_seconds", bean.number("StartTime", None).map(|ms| ms / 1e3));
            }
            _ => {}
        }
    }
    samples
}

fn is_old_generation(pool: &str) -> bool {
    pool.contains("Old") || pool.contains("Tenured")
}

/// One attribute as one sample.
#[derive(Clone, Copy, Debug)]
struct Reading {
    read: Read,
    name: &'static str,
    /// Properties of the bean's name that become labels.
    labels: &'static [&'static str],
}

impl Reading {
    fn samples(&self, bean: &Bean, now: Timestamp) -> Option<Sample> {
        let value = bean.attributes.get(*self.read.attributes.first()?)?;
        let sample = match value {
            serde_json::Value::Number(number) => Sample::new(self.name, number.as_f64()?, now),
            serde_json::Value::Bool(truth) => Sample::new(self.name, f64::from(u8::from(*truth)), now),
            serde_json::Value::String(text) => Sample::new(self.name, 1.0, now).note(text.clone()),
            serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_) => {
                return None;
            }
        };
        // Java writes an empty gauge as NaN, which JSON cannot carry; what is left must be a number.
        sample.value.is_finite().then(|| {
            self.labels.iter().fold(sample, |sample, label| match bean.property(label) {
                Some(value) => sample.label(label, value.trim_matches('"')),
                None => sample,
            })
        })
    }
}

const fn reading(mbean: &'static str, attribute: &'static [&'static str], name: &'static str) -> Reading {
    Reading { read: Read { mbean, attributes: attribute }, name, labels: &[] }
}

const VALUE: &[&str] = &["Value"];
const COUNT: &[&str] = &["Count"];

/// Kafka's beans. A broker that is no controller answers 404 for the controller's, and the other way round.
const KAFKA: &[Reading] = &[
    reading(
        "kafka.controller:type=KafkaController,name=OfflinePartitionsCount",
        VALUE,
        "kafka_offline_partitions",
    ),
    reading(
        "kafka.controller:type=KafkaController,name=ActiveControllerCount",
        VALUE,
        "kafka_active_controller",
    ),
    reading("kafka.controller:type=KafkaController,name=FencedBrokerCount", VALUE, "kafka_fenced_brokers"),
    reading("kafka.controller:type=KafkaController,name=ActiveBrokerCount", VALUE, "kafka_active_brokers"),
    reading(
        "kafka.controller:type=KafkaController,name=MetadataErrorCount",
        VALUE,
        "kafka_controller_metadata_errors_total",
    ),
    reading(
        "kafka.controller:type=KafkaController,name=LastAppliedRecordLagMs",
        VALUE,
        "kafka_controller_applied_lag_ms",
    ),
    reading(
        "kafka.controller:type=KafkaController,name=TimedOutBrokerHeartbeatCount",
        VALUE,
        "kafka_timed_out_heartbeats_total",
    ),
    reading(
        "kafka.controller:type=ControllerStats,name=UncleanLeaderElectionsPerSec",
        COUNT,
        "kafka_unclean_elections_total",
    ),
    reading(
        "kafka.server:type=ReplicaManager,name=UnderMinIsrPartitionCount",
        VALUE,
        "kafka_under_min_isr_partitions",
    ),
    reading(
        "kafka.server:type=ReplicaManager,name=UnderReplicatedPartitions",
        VALUE,
        "kafka_under_replicated_partitions",
    ),
    reading(
        "kafka.server:type=ReplicaManager,name=AtMinIsrPartitionCount",
        VALUE,
        "kafka_at_min_isr_partitions",
    ),
    reading("kafka.server:type=ReplicaManager,name=OfflineReplicaCount", VALUE, "kafka_offline_replicas"),
    reading("kafka.server:type=ReplicaManager,name=PartitionCount", VALUE, "kafka_partitions"),
    reading("kafka.server:type=ReplicaManager,name=LeaderCount", VALUE, "kafka_leaders"),
    reading("kafka.server:type=ReplicaManager,name=IsrShrinksPerSec", COUNT, "kafka_isr_shrinks_total"),
    reading("kafka.server:type=ReplicaManager,name=IsrExpandsPerSec", COUNT, "kafka_isr_expands_total"),
    reading(
        "kafka.server:type=ReplicaManager,name=FailedIsrUpdatesPerSec",
        COUNT,
        "kafka_failed_isr_updates_total",
    ),
    reading("kafka.log:type=LogManager,name=OfflineLogDirectoryCount", VALUE, "kafka_offline_log_dirs"),
    // A Meter: its mean since the start hides the last hour, so the one-minute rate.
    reading(
        "kafka.server:type=KafkaRequestHandlerPool,name=RequestHandlerAvgIdlePercent",
        &["OneMinuteRate"],
        "kafka_request_handler_idle_ratio",
    ),
    reading(
        "kafka.network:type=SocketServer,name=NetworkProcessorAvgIdlePercent",
        VALUE,
        "kafka_network_idle_ratio",
    ),
    reading(
        "kafka.network:type=RequestMetrics,name=TotalTimeMs,request=Produce",
        &["99thPercentile"],
        "kafka_produce_p99_ms",
    ),
    reading("kafka.network:type=RequestChannel,name=RequestQueueSize", VALUE, "kafka_request_queue"),
    reading(
        "kafka.server:type=ReplicaFetcherManager,name=MaxLag,clientId=Replica",
        VALUE,
        "kafka_replica_max_lag",
    ),
    reading("kafka.server:type=KafkaServer,name=BrokerState", VALUE, "kafka_broker_state"),
    reading("kafka.server:type=BrokerTopicMetrics,name=MessagesInPerSec", COUNT, "kafka_messages_in_total"),
    reading("kafka.server:type=BrokerTopicMetrics,name=BytesInPerSec", COUNT, "kafka_bytes_in_total"),
    reading("kafka.server:type=BrokerTopicMetrics,name=BytesOutPerSec", COUNT, "kafka_bytes_out_total"),
    reading(
        "kafka.server:type=BrokerTopicMetrics,name=FailedProduceRequestsPerSec",
        COUNT,
        "kafka_failed_produce_total",
    ),
    reading(
        "kafka.server:type=BrokerTopicMetrics,name=FailedFetchRequestsPerSec",
        COUNT,
        "kafka_failed_fetch_total",
    ),
    reading("kafka.server:type=raft-metrics", &["current-state"], "kafka_raft_state"),
    reading("kafka.server:type=raft-metrics", &["current-leader"], "kafka_raft_leader"),
    reading(
        "kafka.server:type=broker-metadata-metrics",
        &["metadata-load-error-count"],
        "kafka_metadata_load_errors_total",
    ),
    reading(
        "kafka.server:type=broker-metadata-metrics",
        &["metadata-apply-error-count"],
        "kafka_metadata_apply_errors_total",
    ),
    // ZooKeeper mode, up to 3.9.
    reading("kafka.server:type=SessionExpireListener,name=SessionState", VALUE, "kafka_zookeeper_session"),
];

const ZOOKEEPER: &[Reading] = &[
    reading(
        "org.apache.ZooKeeperService:name0=ReplicatedServer_id*",
        &["QuorumSize"],
        "zookeeper_configured_quorum_size",
    ),
    reading(
        "org.apache.ZooKeeperService:name0=ReplicatedServer_id*,name1=replica.*,name2=*",
        &["FsyncThresholdExceedCount"],
        "zookeeper_slow_fsyncs_total",
    ),
    reading(
        "org.apache.ZooKeeperService:name0=StandaloneServer_port*",
        &["FsyncThresholdExceedCount"],
        "zookeeper_slow_fsyncs_total",
    ),
];

/// `current-state` is a word. A rule wants a number: 1 while the node neither leads nor follows anyone.
fn raft_state(samples: &mut Vec<Sample>) {
    let Some(state) = samples.iter().find(|sample| sample.name == "kafka_raft_state") else { return };
    let word = state.note.clone().unwrap_or_default();
    let unsettled = matches!(word.as_str(), "candidate" | "prospective" | "unattached" | "resigned");
    let sample = Sample::new("kafka_raft_unsettled", f64::from(u8::from(unsettled)), state.at).note(word);
    samples.push(sample);
}

/// The same for a broker's session with ZooKeeper: 1 while it is not connected.
fn zookeeper_session(samples: &mut Vec<Sample>) {
    let Some(state) = samples.iter().find(|sample| sample.name == "kafka_zookeeper_session") else { return };
    let word = state.note.clone().unwrap_or_default();
    let lost = f64::from(u8::from(word != "CONNECTED"));
    let sample = Sample::new("kafka_zookeeper_lost", lost, state.at).note(word);
    samples.push(sample);
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    fn bean(name: &str, attributes: serde_json::Value) -> Bean {
        let serde_json::Value::Object(attributes) = attributes else { panic!("an object") };
        Bean { name: name.to_owned(), attributes }
    }

    #[test]
    fn a_jvm_is_judged_after_collection_and_an_unbounded_pool_has_no_ratio() {
        let beans = vec![
            vec![bean(
                "java.lang:type=Memory",
                json!({"HeapMemoryUsage": {"init": 100, "used": 50, "max": 200}}),
            )],
            vec![
                bean(
                    "java.lang:name=G1 Old Gen,type=MemoryPool",
                    json!({"CollectionUsage": {"used": 20, "max": 200}}),
                ),
                bean("java.lang:name=Metaspace,type=MemoryPool", json!({"CollectionUsage": null})),
                bean(
                    "java.lang:name=Tenured Gen,type=MemoryPool",
                    json!({"CollectionUsage": {"used": 20, "max": -1}}),
                ),
            ],
            vec![bean(
                "java.lang:name=G1 Young Generation,type=GarbageCollector",
                json!({"CollectionTime": 2500, "CollectionCount": 4}),
            )],
        ];
        let lines: Vec<String> = jvm_samples(&beans, Timestamp::UNIX_EPOCH)
            .iter()
            .map(|s| format!("{} {:?} {}", s.name, s.labels.values(), s.value))
            .collect();
        expect![[r#"
            jvm_heap_used_bytes [] 50
            jvm_heap_max_bytes [] 200
            jvm_heap_used_ratio [] 0.25
            jvm_heap_after_gc_ratio [] 0.1
            jvm_gc_seconds_total ["G1 Young Generation"] 2.5
            jvm_gc_total ["G1 Young Generation"] 4"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn a_word_becomes_a_note_and_raft_a_number() {
        let state = KAFKA.iter().find(|reading| reading.name == "kafka_raft_state").unwrap();
        let answer = bean("kafka.server:type=raft-metrics", json!({"current-state": "candidate"}));
        let mut samples: Vec<Sample> = state.samples(&answer, Timestamp::UNIX_EPOCH).into_iter().collect();
        raft_state(&mut samples);
        assert_eq!((samples[1].name.as_str(), samples[1].value), ("kafka_raft_unsettled", 1.0));
        assert_eq!(samples[1].note.as_deref(), Some("candidate"));
    }

    #[test]
    fn a_session_with_zookeeper_is_there_or_lost() {
        let session = KAFKA.iter().find(|reading| reading.name == "kafka_zookeeper_session").unwrap();
        for (word, lost) in [("CONNECTED", 0.0), ("CONNECTING", 1.0), ("CLOSED", 1.0)] {
            let name = "kafka.server:type=SessionExpireListener,name=SessionState";
            let answer = bean(name, json!({"Value": word}));
            let mut samples: Vec<Sample> =
                session.samples(&answer, Timestamp::UNIX_EPOCH).into_iter().collect();
            zookeeper_session(&mut samples);
            assert_eq!((samples[1].name.as_str(), samples[1].value), ("kafka_zookeeper_lost", lost));
        }
        // In KRaft mode there is none.
        let mut none = Vec::new();
        zookeeper_session(&mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn names_of_samples_are_unique_per_service() {
        let mut names: Vec<&str> = KAFKA.iter().map(|reading| reading.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
