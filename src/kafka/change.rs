//! What brokers are told.

use super::admin::{BROKER, MIN_IN_SYNC, TOPIC, refused};
use super::settings::{Change, Described};
use super::{Admin, AdminError};
use kafka_protocol::messages::BrokerId;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    DescribeConfigsRequest, IncrementalAlterConfigsRequest, UnregisterBrokerRequest,
};
use kafka_protocol::protocol::StrBytes;
use std::collections::BTreeMap;

/// Sources of a setting (Kafka's `ConfigEntry.ConfigSource`).
pub(super) const FROM_TOPIC: i8 = 1;
pub(super) const FROM_THIS_BROKER: i8 = 2;
const FROM_FILE: i8 = 4;
const FROM_DEFAULT: i8 = 5;
/// The name under which all brokers are told at once.
const ALL_BROKERS: &str = "";
/// Operations of `IncrementalAlterConfigs`.
pub(super) const SET: i8 = 0;
pub(super) const DELETE: i8 = 1;

impl Admin {
    /// Settings of the broker at the other end that it takes in while it runs, by name.
    pub async fn settings(&mut self, broker: i32) -> Result<BTreeMap<String, Described>, AdminError> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(StrBytes::from_string(broker.to_string()))
            .with_configuration_keys(None);
        let request =
            DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
        let answer = self.connection.call(&request).await?;
        let mut found = BTreeMap::new();
        for result in answer.results {
            refused("describe the broker", result.error_code, result.error_message.as_ref())?;
            for setting in result.configs.into_iter().filter(|setting| !setting.read_only) {
                let from = |source: i8| setting.synonyms.iter().find(move |one| one.source == source);
                let described = Described {
                    value: setting.value.as_ref().map(ToString::to_string),
                    overridden: from(FROM_THIS_BROKER).is_some(),
                    in_file: from(FROM_FILE).is_some(),
                    default: from(FROM_DEFAULT).and_then(|one| one.value.as_ref()).map(ToString::to_string),
                };
                found.insert(setting.name.to_string(), described);
            }
        }
        Ok(found)
    }

    /// Changes settings of a broker. What Kafka 4.1 refuses to a single one all are told: the minimum of in-sync
    /// replicas, which must not differ from leader to leader.
    pub async fn alter_settings(&mut self, broker: i32, changes: &[Change]) -> Result<(), AdminError> {
        let of_all = |change: &&Change| change.name() == MIN_IN_SYNC;
        let (all, one): (Vec<&Change>, Vec<&Change>) = changes.iter().partition(of_all);
        for (broker, changes) in [(ALL_BROKERS, all), (&broker.to_string(), one)] {
            let configs: Vec<AlterableConfig> = changes.into_iter().map(alterable).collect();
            if !configs.is_empty() {
                self.alter(BROKER, broker, configs).await?;
            }
        }
        Ok(())
    }

    /// The minimum of in-sync replicas that all brokers were told while they ran; none: each goes by its file.
    pub async fn min_in_sync(&mut self) -> Result<Option<usize>, AdminError> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(StrBytes::from_static_str(ALL_BROKERS))
            .with_configuration_keys(Some(vec![StrBytes::from_static_str(MIN_IN_SYNC)]));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.connection.call(&request).await?;
        let mut found = None;
        for result in answer.results {
            refused("describe all brokers", result.error_code, result.error_message.as_ref())?;
            let mut settings = result.configs.iter().filter(|setting| &*setting.name == MIN_IN_SYNC);
            found = found.or(settings.find_map(|setting| setting.value.as_deref()?.parse().ok()));
        }
        Ok(found)
    }

    /// Tells all brokers the minimum of in-sync replicas; or that of one topic.
    pub async fn set_min_in_sync(&mut self, topic: Option<&str>, replicas: usize) -> Result<(), AdminError> {
        let change = Change::Set(MIN_IN_SYNC.to_owned(), replicas.to_string());
        let (kind, name) = topic.map_or((BROKER, ALL_BROKERS), |topic| (TOPIC, topic));
        self.alter(kind, name, vec![alterable(&change)]).await
    }

    pub(super) async fn alter(
        &mut self,
        kind: i8,
        name: &str,
        configs: Vec<AlterableConfig>,
    ) -> Result<(), AdminError> {
        let resource = AlterConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(StrBytes::from_string(name.to_owned()))
            .with_configs(configs);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let answer = self.connection.call(&request).await?;
        for response in answer.responses {
            let what = format!("change settings of {name}");
            refused(&what, response.error_code, response.error_message.as_ref())?;
        }
        Ok(())
    }

    /// Forgets a broker that has stopped for good.
    pub async fn unregister(&mut self, broker: i32) -> Result<(), AdminError> {
        let request = UnregisterBrokerRequest::default().with_broker_id(BrokerId(broker));
        let answer = self.connection.call(&request).await?;
        let message = answer.error_message.as_ref();
        refused(&format!("unregister broker {broker}"), answer.error_code, message)
    }
}

fn alterable(change: &Change) -> AlterableConfig {
    let (operation, value) = match change {
        Change::Set(_, value) => (SET, Some(StrBytes::from_string(value.clone()))),
        Change::Unset(_) => (DELETE, None),
    };
    AlterableConfig::default()
        .with_name(StrBytes::from_string(change.name().to_owned()))
        .with_config_operation(operation)
        .with_value(value)
}
