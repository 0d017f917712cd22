//! Partitions on their way to other brokers: starting, limiting and watching it, and what comes with brokers that come
//! and go.

use super::admin::{BROKER, TOPIC, refused};
use super::change::{DELETE, SET};
use super::moves::Move;
use super::view::{Moving, Throttled};
use super::{Admin, AdminError};
use kafka_protocol::ResponseError;
use kafka_protocol::error::ParseResponseErrorCode;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, DescribeLogDirsRequest, ElectLeadersRequest,
    ElectLeadersResponse, ListPartitionReassignmentsRequest, TopicName, UpdateFeaturesRequest,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// Settings of a topic: which of its replicas are limited, as `partition:broker`.
pub(super) const THROTTLED_REPLICAS: [&str; 2] =
    ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"];
/// Settings of a broker: bytes a second for what is limited.
pub(super) const THROTTLED_RATE: [&str; 2] =
    ["leader.replication.throttled.rate", "follower.replication.throttled.rate"];
/// How long the controller may take.
const TIMEOUT_MS: i32 = 20_000;
/// The version of the request that can forbid another number of replicas.
const FORBIDS_CHANGE: i16 = 1;
/// `ElectionType`: back to the first of the replicas.
const PREFERRED: i8 = 0;
/// `ElectionType`: any that lives, whatever it lacks.
const UNCLEAN: i8 = 1;
/// `FeatureUpdate.UpgradeType`.
const UPGRADE: i8 = 1;

impl Admin {
    /// Partitions that are on their way.
    pub async fn moving(&mut self) -> Result<Vec<Moving>, AdminError> {
        let request =
            ListPartitionReassignmentsRequest::default().with_timeout_ms(TIMEOUT_MS).with_topics(None);
        let answer = self.connection.call(&request).await?;
        refused("list reassignments", answer.error_code, answer.error_message.as_ref())?;
        let mut moving = Vec::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
                let removing = ids(&partition.removing_replicas);
                let mut target = ids(&partition.replicas);
                target.retain(|id| !removing.contains(id));
                moving.push(Moving {
                    topic: topic.name.0.to_string(),
                    index: partition.partition_index,
                    target,
                    adding: ids(&partition.adding_replicas),
                });
            }
        }
        moving.sort_by(|a, b| (&a.topic, a.index).cmp(&(&b.topic, b.index)));
        Ok(moving)
    }

    /// Starts moves. Kafka finishes them by itself, whoever dies.
    pub async fn reassign(&mut self, moves: &[Move]) -> Result<(), AdminError> {
        let (raises, keeps): (Vec<&Move>, Vec<&Move>) = moves.iter().partition(|change| change.raises());
        for (moves, raise) in [(keeps, false), (raises, true)] {
            if !moves.is_empty() {
                self.start(&moves, raise).await?;
            }
        }
        Ok(())
    }

    async fn start(&mut self, moves: &[&Move], raise: bool) -> Result<(), AdminError> {
        let mut topics: BTreeMap<&str, Vec<ReassignablePartition>> = BTreeMap::new();
        for change in moves {
            let replicas = change.to.iter().copied().map(BrokerId).collect();
            let partition = ReassignablePartition::default()
                .with_partition_index(change.index)
                .with_replicas(Some(replicas));
            topics.entry(&change.topic).or_default().push(partition);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            ReassignableTopic::default().with_name(topic_name(topic)).with_partitions(partitions)
        });
        let forbids = self.connection.knows::<AlterPartitionReassignmentsRequest>() >= Some(FORBIDS_CHANGE);
        let request = AlterPartitionReassignmentsRequest::default()
            .with_timeout_ms(TIMEOUT_MS)
            .with_allow_replication_factor_change(raise || !forbids)
            .with_topics(topics.collect());
        let answer = self.connection.call(&request).await?;
        refused("move partitions", answer.error_code, answer.error_message.as_ref())?;
        for topic in answer.responses {
            for partition in topic.partitions {
                let code = partition.error_code.err();
                if code == Some(ResponseError::UnknownTopicOrPartition) {
                    // It was deleted meanwhile.
                    continue;
                }
                let what = format!("move {}-{}", &*topic.name, partition.partition_index);
                refused(&what, partition.error_code, partition.error_message.as_ref())?;
            }
        }
        Ok(())
    }

    /// Limits what `moves` will copy to `rate` bytes a second at each broker, and nothing else. Before they start.
    pub async fn throttle(
        &mut self,
        moves: &[Move],
        rate: u64,
        addresses: &BTreeMap<i32, String>,
    ) -> Result<(), AdminError> {
        let mut topics: BTreeMap<&str, [String; 2]> = BTreeMap::new();
        for change in moves {
            let lists = topics.entry(&change.topic).or_default();
            let adding: Vec<i32> = change.adding().collect();
            for (list, ids) in lists.iter_mut().zip([&change.from, &adding]) {
                for id in ids {
                    let comma = if list.is_empty() { "" } else { "," };
                    let _infallible = write!(list, "{comma}{}:{id}", change.index);
                }
            }
        }
        for (topic, lists) in topics {
            let configs = THROTTLED_REPLICAS.iter().zip(lists).map(|(name, list)| set(name, Some(list)));
            self.alter(TOPIC, topic, configs.collect()).await?;
        }
        let brokers: BTreeSet<i32> =
            moves.iter().flat_map(|change| change.from.iter().chain(&change.to)).copied().collect();
        for broker in brokers {
            // A broker that is down copies nothing.
            let Some(address) = addresses.get(&broker) else { continue };
            let configs = THROTTLED_RATE.map(|name| set(name, Some(rate.to_string())));
            Self::at(address).await?.alter(BROKER, &broker.to_string(), configs.to_vec()).await?;
        }
        Ok(())
    }

    /// Takes limits away again.
    pub async fn lift(
        &mut self,
        throttled: &Throttled,
        addresses: &BTreeMap<i32, String>,
    ) -> Result<(), AdminError> {
        for topic in &throttled.topics {
            let configs = THROTTLED_REPLICAS.map(|name| set(name, None));
            self.alter(TOPIC, topic, configs.to_vec()).await?;
        }
        for broker in &throttled.brokers {
            let Some(address) = addresses.get(broker) else { continue };
            let configs = THROTTLED_RATE.map(|name| set(name, None));
            Self::at(address).await?.alter(BROKER, &broker.to_string(), configs.to_vec()).await?;
        }
        Ok(())
    }

    /// Gives leadership to the first replica of each; one that cannot lead now will by itself, later.
    pub async fn elect_preferred(&mut self, partitions: &BTreeSet<(String, i32)>) -> Result<(), AdminError> {
        self.elect(PREFERRED, partitions).await.map(drop)
    }

    /// Gives leadership to any replica that lives. What only others had is lost.
    pub async fn elect_unclean(&mut self, partitions: &BTreeSet<(String, i32)>) -> Result<(), AdminError> {
        let answer = self.elect(UNCLEAN, partitions).await?;
        for topic in answer.replica_election_results {
            for partition in topic.partition_result {
                let what = format!("elect a leader of {}-{}", &*topic.topic, partition.partition_id);
                refused(&what, partition.error_code, partition.error_message.as_ref())?;
            }
        }
        Ok(())
    }

    async fn elect(
        &mut self,
        election: i8,
        partitions: &BTreeSet<(String, i32)>,
    ) -> Result<ElectLeadersResponse, AdminError> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, index) in partitions {
            topics.entry(topic).or_default().push(*index);
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            TopicPartitions::default().with_topic(topic_name(topic)).with_partitions(partitions)
        });
        let request = ElectLeadersRequest::default()
            .with_election_type(election)
            .with_topic_partitions(Some(topics.collect()))
            .with_timeout_ms(TIMEOUT_MS);
        let answer = self.connection.call(&request).await?;
        refused("elect leaders", answer.error_code, None)?;
        Ok(answer)
    }

    /// Bytes that the broker at the other end has of partitions, those included that are on their way to it.
    pub async fn bytes_of(&mut self, partitions: &BTreeSet<(String, i32)>) -> Result<u64, AdminError> {
        let answer = self.connection.call(&DescribeLogDirsRequest::default().with_topics(None)).await?;
        refused("describe log directories", answer.error_code, None)?;
        let mut bytes = 0;
        for topic in answer.results.into_iter().flat_map(|directory| directory.topics) {
            let name = topic.name.0.to_string();
            let wanted = |index: i32| partitions.contains(&(name.clone(), index));
            let found = topic.partitions.iter().filter(|partition| wanted(partition.partition_index));
            bytes += found.map(|partition| u64::try_from(partition.partition_size).unwrap_or(0)).sum::<u64>();
        }
        Ok(bytes)
    }

    /// Raises `metadata.version`. There is no way back to versions of Kafka that do not know it.
    pub async fn raise_metadata_version(&mut self, level: i16) -> Result<(), AdminError> {
        let update = FeatureUpdateKey::default()
            .with_feature(StrBytes::from_static_str("metadata.version"))
            .with_max_version_level(level)
            .with_upgrade_type(UPGRADE);
        let request =
            UpdateFeaturesRequest::default().with_timeout_ms(TIMEOUT_MS).with_feature_updates(vec![update]);
        let answer = self.connection.call(&request).await?;
        let what = format!("raise metadata.version to {level}");
        refused(&what, answer.error_code, answer.error_message.as_ref())?;
        for result in answer.results {
            refused(&what, result.error_code, result.error_message.as_ref())?;
        }
        Ok(())
    }
}

/// Sets a value, or takes it away.
fn set(name: &'static str, value: Option<String>) -> AlterableConfig {
    AlterableConfig::default()
        .with_name(StrBytes::from_static_str(name))
        .with_config_operation(if value.is_some() { SET } else { DELETE })
        .with_value(value.map(StrBytes::from_string))
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
