//! Kafka's administration: what brokers are asked and told, as plain values.

use super::AdminError;
use super::change::{FROM_THIS_BROKER, FROM_TOPIC};
use super::reassign::{THROTTLED_RATE, THROTTLED_REPLICAS};
use super::view::{Broker, Feature, Partition, Quorum, Replica, Throttled, View};
use super::wire::Connection;
use crate::inventory::model::KafkaMode;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::ResponseError;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_quorum_request::{PartitionData, TopicData};
use kafka_protocol::messages::describe_quorum_response::ReplicaState;
use kafka_protocol::messages::{
    DescribeClusterRequest, DescribeConfigsRequest, DescribeQuorumRequest, MetadataRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};

/// The topic of the controllers' log.
const METADATA_TOPIC: &str = "__cluster_metadata";
/// Resource types of configurations (Kafka's `ConfigResource`).
pub(super) const TOPIC: i8 = 2;
pub(super) const BROKER: i8 = 4;
/// Of `DescribeCluster`: brokers, not controllers.
const BROKERS: i8 = 1;
/// The version of `DescribeCluster` that names brokers that are down.
const TELLS_FENCED: i16 = 2;
/// So many brokers are asked in a row who is the controller.
const FOLLOWED_MAX: usize = 4;

/// How many replicas must have a write before it is acknowledged to who wants all.
pub(super) const MIN_IN_SYNC: &str = "min.insync.replicas";

/// What is asked of topics.
#[derive(Debug, Default)]
struct TopicSettings {
    /// `min.insync.replicas` by topic.
    min_in_sync: BTreeMap<String, usize>,
    /// Topics that say it themselves.
    own_min_in_sync: BTreeSet<String>,
    /// Topics of which replicas are throttled.
    limited: BTreeSet<String>,
}

/// A connection to a broker that answers for the cluster: whichever is reached first, because each passes changes on to
/// the active controller; on ZooKeeper the controller itself, because there none does.
#[derive(Debug)]
pub struct Admin {
    pub(super) connection: Connection,
}

impl Admin {
    /// Connects by way of `bootstrap` (`host:port`, or `ssl://host:port` on a broker's host).
    pub async fn connect(bootstrap: &[String]) -> Result<Self, AdminError> {
        let mut last = AdminError::NoBootstrap;
        for address in bootstrap {
            let answers = match Self::at(address).await {
                Ok(admin) => admin.for_cluster().await,
                Err(error) => Err(error),
            };
            match answers {
                Ok(admin) => return Ok(admin),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Connects to this broker, to speak with it alone.
    pub async fn at(address: &str) -> Result<Self, AdminError> {
        Ok(Self { connection: Connection::open(address).await? })
    }

    /// Where the cluster keeps its metadata: on ZooKeeper no broker knows of a quorum.
    pub fn mode(&self) -> KafkaMode {
        match self.connection.knows::<DescribeQuorumRequest>() {
            Some(_) => KafkaMode::Kraft,
            None => KafkaMode::ZooKeeper,
        }
    }

    async fn for_cluster(mut self) -> Result<Self, AdminError> {
        if self.mode() == KafkaMode::Kraft {
            return Ok(self);
        }
        // Who has just come may name one that was it before: whom it names must say so too.
        let mut asked = String::new();
        for _ in 0..FOLLOWED_MAX {
            let request = MetadataRequest::default().with_topics(Some(Vec::new()));
            let answer = self.connection.call(&request).await?;
            let controller = answer.brokers.iter().find(|broker| broker.node_id == answer.controller_id);
            let Some(controller) = controller else {
                return Err(self.connection.nonsense("it knows no active controller".to_owned()));
            };
            let address = self.connection.likewise(address(&controller.host, controller.port));
            if asked == address {
                return Ok(self);
            }
            self = Self::at(&address).await?;
            asked = address;
        }
        Err(self.connection.nonsense("brokers do not agree on who is the active controller".to_owned()))
    }

    /// The whole cluster as this broker knows it.
    pub async fn view(&mut self) -> Result<View, AdminError> {
        let mut brokers = self.brokers().await?;
        // First: a partition that arrives between the two looks would seem to stay where it was, and where it came to.
        let moving = self.moving().await?;
        let partitions = self.partitions().await?;
        let topics: BTreeSet<String> = partitions.iter().map(|partition| partition.topic.clone()).collect();
        let TopicSettings { min_in_sync, own_min_in_sync, limited } = self.topic_settings(&topics).await?;
        if self.mode() == KafkaMode::ZooKeeper {
            add_absent(&mut brokers, &partitions);
        }
        let quorum = self.quorum().await?;
        let (feature, limited_brokers) = self.survey(&brokers).await;
        let throttled = Throttled { brokers: limited_brokers, topics: limited };
        Ok(View { brokers, partitions, min_in_sync, own_min_in_sync, quorum, moving, throttled, feature })
    }

    /// What each broker says of itself alone: how far it understands `metadata.version`, and whether its replication
    /// is limited. One that does not answer leaves the first unknown.
    async fn survey(&self, brokers: &BTreeMap<i32, Broker>) -> (Option<Feature>, BTreeSet<i32>) {
        const NAME: &str = "metadata.version";
        let mut finalized = self.connection.about.finalized_features.iter();
        let finalized = finalized.find(|feature| &*feature.name == NAME).map(|found| found.max_version_level);
        let (mut supported, mut unknown, mut limited) = (None, false, BTreeSet::new());
        for (id, broker) in brokers.iter().filter(|(_, broker)| !broker.fenced) {
            let Ok(connection) = Connection::open(&broker.address).await else {
                unknown = true;
                continue;
            };
            let mut features = connection.about.supported_features.iter();
            match features.find(|feature| &*feature.name == NAME).map(|found| found.max_version) {
                Some(level) => supported = Some(supported.map_or(level, |least: i16| least.min(level))),
                None => unknown = true,
            }
            let mut broker = Self { connection };
            limited.extend(broker.is_limited(*id).await.unwrap_or(false).then_some(*id));
        }
        let feature = finalized.zip(supported.filter(|_| !unknown));
        (feature.map(|(finalized, supported)| Feature { finalized, supported }), limited)
    }

    /// Whether the broker at the other end replicates at a limited rate.
    async fn is_limited(&mut self, broker: i32) -> Result<bool, AdminError> {
        let keys = THROTTLED_RATE.map(StrBytes::from_static_str).to_vec();
        let resource = DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(StrBytes::from_string(broker.to_string()))
            .with_configuration_keys(Some(keys));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.connection.call(&request).await?;
        // Where nothing is set, Kafka does not name them.
        let mut settings = answer.results.iter().flat_map(|result| &result.configs);
        Ok(settings.any(|setting| setting.value.is_some() && setting.config_source == FROM_THIS_BROKER))
    }

    /// Registered brokers; those that are down come with `fenced` where Kafka is new enough to tell (4.0), and not at
    /// all where it is not.
    pub async fn brokers(&mut self) -> Result<BTreeMap<i32, Broker>, AdminError> {
        let tells = self.connection.knows::<DescribeClusterRequest>() >= Some(TELLS_FENCED);
        let request =
            DescribeClusterRequest::default().with_endpoint_type(BROKERS).with_include_fenced_brokers(tells);
        let answer = self.connection.call(&request).await?;
        refused("describe the cluster", answer.error_code, answer.error_message.as_ref())?;
        let brokers = answer.brokers.into_iter().map(|broker| {
            let about = Broker {
                address: self.connection.likewise(address(&broker.host, broker.port)),
                rack: broker.rack.map(|rack| rack.to_string()),
                fenced: broker.is_fenced,
            };
            (broker.broker_id.0, about)
        });
        Ok(brokers.collect())
    }

    /// All partitions.
    pub async fn partitions(&mut self) -> Result<Vec<Partition>, AdminError> {
        let request = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(false);
        let answer = self.connection.call(&request).await?;
        let mut partitions = Vec::new();
        for topic in answer.topics {
            let name = topic.name.map(|name| name.0.to_string()).unwrap_or_default();
            refused(&format!("describe topic {name}"), topic.error_code, None)?;
            for partition in topic.partitions {
                // A partition without a leader comes with an error and with all that is known.
                let ids = |ids: Vec<kafka_protocol::messages::BrokerId>| ids.into_iter().map(|id| id.0);
                partitions.push(Partition {
                    topic: name.clone(),
                    index: partition.partition_index,
                    leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
                    replicas: ids(partition.replica_nodes).collect(),
                    in_sync: ids(partition.isr_nodes).collect(),
                });
            }
        }
        partitions.sort_by(|a, b| (&a.topic, a.index).cmp(&(&b.topic, b.index)));
        Ok(partitions)
    }

    async fn topic_settings(&mut self, topics: &BTreeSet<String>) -> Result<TopicSettings, AdminError> {
        let keys: Vec<StrBytes> = [MIN_IN_SYNC]
            .iter()
            .chain(&THROTTLED_REPLICAS)
            .map(|key| StrBytes::from_static_str(key))
            .collect();
        let resources = topics.iter().map(|topic| {
            DescribeConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(StrBytes::from_string(topic.clone()))
                .with_configuration_keys(Some(keys.clone()))
        });
        let request = DescribeConfigsRequest::default().with_resources(resources.collect());
        let answer = self.connection.call(&request).await?;
        let mut found = TopicSettings::default();
        for result in answer.results {
            let topic = result.resource_name.to_string();
            if result.error_code.err() == Some(ResponseError::UnknownTopicOrPartition) {
                // It was deleted since we asked for partitions.
                continue;
            }
            refused(&format!("describe topic {topic}"), result.error_code, result.error_message.as_ref())?;
            for config in &result.configs {
                let value = config.value.as_deref().unwrap_or_default();
                if &*config.name == MIN_IN_SYNC {
                    found.min_in_sync.extend(value.parse().ok().map(|value| (topic.clone(), value)));
                    found.own_min_in_sync.extend((config.config_source == FROM_TOPIC).then(|| topic.clone()));
                } else if !value.is_empty() {
                    found.limited.insert(topic.clone());
                }
            }
        }
        Ok(found)
    }

    /// The controllers; on ZooKeeper the active one alone, which is the broker at the other end.
    pub async fn quorum(&mut self) -> Result<Quorum, AdminError> {
        if self.mode() == KafkaMode::ZooKeeper {
            let request = MetadataRequest::default().with_topics(Some(Vec::new()));
            let leader = self.connection.call(&request).await?.controller_id.0;
            return Ok(Quorum { leader: Some(leader).filter(|id| *id >= 0), ..Quorum::default() });
        }
        let topic = TopicData::default()
            .with_topic_name(TopicName(StrBytes::from_static_str(METADATA_TOPIC)))
            .with_partitions(vec![PartitionData::default()]);
        let answer = self.connection.call(&DescribeQuorumRequest::default().with_topics(vec![topic])).await?;
        refused("describe the quorum", answer.error_code, answer.error_message.as_ref())?;
        let partition = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let Some(partition) = partition else { return Ok(Quorum::default()) };
        refused("describe the quorum", partition.error_code, partition.error_message.as_ref())?;
        let replicas = |states: &[ReplicaState]| states.iter().map(replica).collect();
        Ok(Quorum {
            leader: Some(partition.leader_id.0).filter(|id| *id >= 0),
            voters: replicas(&partition.current_voters),
            observers: replicas(&partition.observers),
        })
    }
}

/// ZooKeeper forgets brokers that are down; what they hold says that they belong to the cluster.
fn add_absent(brokers: &mut BTreeMap<i32, Broker>, partitions: &[Partition]) {
    for id in partitions.iter().flat_map(|partition| &partition.replicas) {
        brokers.entry(*id).or_insert_with(|| Broker { fenced: true, ..Broker::default() });
    }
}

fn replica(state: &ReplicaState) -> Replica {
    Replica {
        id: state.replica_id.0,
        directory: URL_SAFE_NO_PAD.encode(state.replica_directory_id.as_bytes()),
        log_end: state.log_end_offset,
        caught_up_ms: state.last_caught_up_timestamp,
        fetched_ms: state.last_fetch_timestamp,
    }
}

fn address(host: &str, port: i32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// An error code of an answer as an error.
pub(super) fn refused(what: &str, code: i16, message: Option<&StrBytes>) -> Result<(), AdminError> {
    let Some(error) = code.err() else { return Ok(()) };
    let words = message.map(ToString::to_string).filter(|text| !text.is_empty());
    Err(AdminError::Refused {
        what: what.to_owned(),
        code: error,
        detail: words.unwrap_or_else(|| error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_partitions_and_is_not_there_is_down() {
        let here = Broker { address: "10.0.0.1:9092".to_owned(), ..Broker::default() };
        let mut brokers = BTreeMap::from([(1, here.clone())]);
        let partition = Partition { replicas: vec![2, 1], ..Partition::default() };
        add_absent(&mut brokers, &[partition]);
        assert_eq!(brokers, BTreeMap::from([(1, here), (2, Broker { fenced: true, ..Broker::default() })]));
    }
}
