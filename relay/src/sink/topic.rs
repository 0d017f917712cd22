//! Topic names from the template of the sink.

use crate::config::KafkaSink;
use minijinja::{Environment, UndefinedBehavior, context};
use std::collections::HashMap;

/// Kafka's limit, in characters.
const MAX_TOPIC_CHARS: usize = 249;
const TEMPLATE: &str = "sink.kafka.topic";
/// Stands for the table in the topic of a statement that names none.
const NO_TABLE: &str = "_ddl";

/// Why there is no topic for a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// The template does not work.
    #[error("sink.kafka.topic {template:?}: {reason}")]
    Template {
        /// As configured.
        template: String,
        /// What minijinja says.
        reason: String,
    },
    /// Kafka does not take the name.
    #[error("topic {topic:?} for table {table}: {reason}; change sink.kafka.topic")]
    Invalid {
        /// The result of the template.
        topic: String,
        /// `database.table`.
        table: String,
        /// Why not.
        reason: &'static str,
    },
    /// Two tables differ only in characters that Kafka does not take.
    #[error(
        "tables {table} and {other} both give topic {topic} once characters that Kafka refuses are replaced; change sink.kafka.topic"
    )]
    Collision {
        /// The topic.
        topic: String,
        /// `database.table`.
        table: String,
        /// The other one.
        other: String,
    },
}

/// Names topics, each table's once.
#[derive(Debug)]
pub struct Topics {
    environment: Environment<'static>,
    template: String,
    /// Which table a name with replaced characters belongs to.
    replaced: HashMap<String, String>,
}

impl Topics {
    /// Compiles the template.
    pub fn new(config: &KafkaSink) -> Result<Self, TopicError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let template = config.topic.clone();
        environment
            .add_template_owned(TEMPLATE, template.clone())
            .map_err(|e| bad_template(&template, &e))?;
        let mut topics = Self { environment, template, replaced: HashMap::new() };
        // Finds misspelt variables at start instead of at the first row.
        topics.name("source", "database", "table")?;
        Ok(topics)
    }

    /// The topic of a table. Characters that Kafka refuses become `_`.
    pub fn name(&mut self, source: &str, database: &str, table: &str) -> Result<String, TopicError> {
        let table = if table.is_empty() { NO_TABLE } else { table };
        let rendered = self
            .environment
            .get_template(TEMPLATE)
            .and_then(|template| template.render(context! { source, database, table }))
            .map_err(|e| bad_template(&self.template, &e))?;
        let full = format!("{database}.{table}");
        let topic: String = rendered.chars().map(|c| if is_legal(c) { c } else { '_' }).collect();
        let invalid = |reason| TopicError::Invalid { topic: rendered.clone(), table: full.clone(), reason };
        if topic.is_empty() {
            return Err(invalid("it is empty"));
        }
        if topic == "." || topic == ".." {
            return Err(invalid("Kafka refuses this name"));
        }
        if topic.chars().count() > MAX_TOPIC_CHARS {
            return Err(invalid("it is longer than Kafka's 249 characters"));
        }
        if topic != rendered {
            let owner = self.replaced.entry(topic.clone()).or_insert_with(|| rendered.clone());
            if *owner != rendered {
                return Err(TopicError::Collision { topic, table: full, other: owner.clone() });
            }
            tracing::warn!(
                topic,
                table = full,
                "characters that kafka refuses in a topic name were replaced"
            );
        }
        Ok(topic)
    }
}

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn bad_template(template: &str, error: &minijinja::Error) -> TopicError {
    TopicError::Template { template: template.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn topics(template: &str) -> Result<Topics, TopicError> {
        let yaml = format!("bootstrap: [k:9092]\ntopic: {template:?}");
        Topics::new(&serde_yaml::from_str(&yaml).unwrap())
    }

    #[test]
    fn names_a_table_and_replaces_what_kafka_refuses() {
        let mut topics = topics("{{ source }}.{{ database }}.{{ table }}").unwrap();
        assert_eq!(topics.name("shop", "shop", "orders").unwrap(), "shop.shop.orders");
        assert_eq!(topics.name("shop", "shop", "or$ders").unwrap(), "shop.shop.or_ders");
        assert_eq!(topics.name("shop", "shop", "or$ders").unwrap(), "shop.shop.or_ders");
        let error = topics.name("shop", "shop", "or ders").unwrap_err();
        expect!["tables shop.or ders and shop.shop.or$ders both give topic shop.shop.or_ders once characters that Kafka refuses are replaced; change sink.kafka.topic"]
            .assert_eq(&error.to_string());
    }

    #[test]
    fn one_topic_for_all_tables_is_fine() {
        let mut topics = topics("all").unwrap();
        assert_eq!(topics.name("shop", "shop", "a$").unwrap(), "all");
        assert_eq!(topics.name("shop", "shop", "b").unwrap(), "all");
    }

    #[test]
    fn misspelt_variables_and_impossible_names_are_refused() {
        let error = topics("{{ sauce }}").unwrap_err();
        expect![[
            r#"sink.kafka.topic "{{ sauce }}": undefined value: `sauce` is undefined (in sink.kafka.topic:1)"#
        ]]
        .assert_eq(&error.to_string());
        let error = topics("{{ '' }}").unwrap_err();
        expect![[r#"topic "" for table database.table: it is empty; change sink.kafka.topic"#]]
            .assert_eq(&error.to_string());
        let error = topics("{{ table }}").unwrap().name("s", "d", &"x".repeat(250)).unwrap_err();
        assert!(error.to_string().contains("249"));
    }
}
