//! Sources, relays and consumers.

use super::{Check, secret};
use crate::inventory::defaults as d;
use crate::inventory::fault::At;
use crate::inventory::model::{ConsumerGroup, Mysql, RelayMember, RelayRole, Source};
use crate::inventory::quantity;
use crate::inventory::raw::{self, CleanupPolicy, Delivery, Format, KafkaSink, MysqlTls};
use crate::inventory::value::{Bytes, Entry};
use relay::config::{self, HiddenChanges, Limits, MAX_ROW_BYTES_RANGE, Oversize, Retention, SchemaFrom, Tls};
use std::collections::BTreeMap;

/// Smaller than a few segments, and nothing of the past is kept.
const RETENTION_BYTES_MIN: u64 = 16 << 20;

/// librdkafka settings that aesop writes, and the key to use instead.
const SINK_OWN: &[(&str, &str)] = &[
    ("bootstrap.servers", "`bootstrap`"),
    ("metadata.broker.list", "`bootstrap`"),
    ("enable.idempotence", "`delivery`"),
    ("acks", "`delivery`"),
    ("request.required.acks", "`delivery`"),
    ("transactional.id", "`delivery`"),
    ("partitioner", ""),
    ("security.protocol", "`tls` and `sasl`"),
    ("ssl.ca.location", "`tls`"),
    ("sasl.mechanism", "`sasl`"),
    ("sasl.mechanisms", "`sasl`"),
    ("sasl.username", "`sasl`"),
    ("sasl.password", "`sasl`"),
];

type Sources = BTreeMap<String, Source>;

impl Check<'_, '_> {
    pub(super) fn sources(&mut self) -> Sources {
        let mut sources = Sources::new();
        let raw = self.raw;
        for (name, given) in &raw.sources {
            let at = At::top("sources").key(name);
            self.name(&at, "source", name);
            let mysql = at.key("mysql");
            self.address(&mysql.key("host"), &given.mysql.host);
            if given.mysql.user.is_empty() {
                self.faults.add(&mysql.key("user"), "the user is empty", None);
            }
            for (index, pattern) in given.tables.iter().enumerate() {
                self.pattern(&at.key("tables").index(index), pattern, true);
            }
            let exclude_columns = given.columns.as_ref().map(|c| c.exclude.clone()).unwrap_or_default();
            for (index, pattern) in exclude_columns.iter().enumerate() {
                self.pattern(&at.key("columns").key("exclude").index(index), pattern, false);
            }
            let start = given.start.as_ref().map_or(d::START, |word| &word.0).to_owned();
            self.start(&at.key("start"), &start);
            let verifies = matches!(given.mysql.tls, Some(MysqlTls::VerifyCa | MysqlTls::VerifyIdentity));
            if given.mysql.ca.is_some() && !verifies {
                let help = "add `tls: verify_identity`, or remove `ca`".to_owned();
                self.faults.add(&mysql.key("ca"), "`ca` is of no use without a `tls` that verifies", help);
            }
            let mysql = Mysql {
                ca: given.mysql.ca.as_ref().and_then(|file| self.authorities(&mysql.key("ca"), file)),
                host: given.mysql.host.clone(),
                port: self.port(&mysql.key("port"), given.mysql.port, d::MYSQL_PORT),
                user: given.mysql.user.clone(),
                password: secret(given.mysql.password.as_ref()),
                tls: match given.mysql.tls {
                    Some(MysqlTls::Disabled) => Tls::Disabled,
                    None | Some(MysqlTls::Preferred) => Tls::Preferred,
                    Some(MysqlTls::Required) => Tls::Required,
                    Some(MysqlTls::VerifyCa) => Tls::VerifyCa,
                    Some(MysqlTls::VerifyIdentity) => Tls::VerifyIdentity,
                },
            };
            let source = Source {
                mysql,
                tables: given.tables.clone(),
                exclude_columns,
                start,
                max_row_bytes: self.max_row_bytes(&at.key("max_row_bytes"), given.max_row_bytes),
                oversize: match given.oversize {
                    None | Some(raw::Oversize::Stop) => Oversize::Stop,
                    Some(raw::Oversize::LeaveOut) => Oversize::LeaveOut,
                },
                hidden_changes: match given.hidden_changes {
                    None | Some(raw::HiddenChanges::Stop) => HiddenChanges::Stop,
                    Some(raw::HiddenChanges::LeaveOut) => HiddenChanges::LeaveOut,
                },
                schema: match given.schema {
                    None | Some(raw::SchemaFrom::RowMetadata) => SchemaFrom::RowMetadata,
                    Some(raw::SchemaFrom::BestEffort) => SchemaFrom::BestEffort,
                },
            };
            sources.insert(name.clone(), source);
        }
        sources
    }

    fn max_row_bytes(&mut self, at: &At, given: Option<Bytes>) -> u64 {
        let bytes =
            given.map_or_else(|| quantity::size(d::MAX_ROW_BYTES).unwrap_or_default(), |bytes| bytes.0);
        if !MAX_ROW_BYTES_RANGE.contains(&bytes) {
            let help = "as in `64MiB`".to_owned();
            self.faults.add(at, "a row's bound is 64 KiB to 256 MiB", help);
        }
        bytes
    }

    fn selection(
        &mut self,
        at: &At,
        tables: &[String],
        columns: Option<&raw::GroupColumns>,
    ) -> relay::wire::Selection {
        for (index, pattern) in tables.iter().enumerate() {
            self.pattern(&at.key("tables").index(index), pattern, true);
        }
        let lists = columns.map(|columns| (&columns.include, &columns.exclude));
        for (key, list) in
            lists.iter().flat_map(|(include, exclude)| [("include", include), ("exclude", exclude)])
        {
            for (index, pattern) in list.iter().enumerate() {
                self.pattern(&at.key("columns").key(key).index(index), pattern, false);
            }
        }
        let (include_columns, exclude_columns) =
            lists.map(|(include, exclude)| ((*include).clone(), (*exclude).clone())).unwrap_or_default();
        relay::wire::Selection { tables: tables.to_vec(), include_columns, exclude_columns }
    }

    /// `database.table`, or `database.table.column`.
    fn pattern(&mut self, at: &At, pattern: &str, table: bool) {
        let plain = if table { pattern.strip_prefix('!').unwrap_or(pattern) } else { pattern };
        let parts = plain.split('.').count();
        let empty = plain.split('.').any(str::is_empty) || plain.contains(char::is_whitespace);
        let (right, form, sample) = if table {
            (parts == 2, "database.table", "shop.*")
        } else {
            (parts == 3, "database.table.column", "shop.users.password")
        };
        if !right || empty {
            self.faults.add(
                at,
                format!("`{pattern}` is not of the form `{form}`"),
                format!("as in `{sample}`"),
            );
        }
    }

    fn start(&mut self, at: &At, start: &str) {
        let scn = || !start.is_empty() && start.parse::<u64>().is_ok();
        let time = || matches!(start.parse(), Ok(relay::mysql::Start::Time(_)));
        let gtids = || {
            start.contains(['-', ':'])
                && start.chars().all(|c| c.is_ascii_alphanumeric() || "-:,_ \n".contains(c))
                && start.contains(|c: char| c.is_ascii_digit())
        };
        if start == "snapshot" {
            self.not_yet(at, "`start: snapshot`", "use `earliest` or `latest`");
        } else if start != "earliest" && start != "latest" && !scn() && !time() && !gtids() {
            let help = "it is `earliest`, `latest`, a time like `2026-11-22T15:00:00Z`, an SCN or a GTID set"
                .to_owned();
            self.faults.add(at, format!("`start` cannot be `{start}`"), help);
        }
    }

    /// A list of sources; all of them without one.
    fn chosen(&mut self, at: &At, given: Option<&Vec<String>>, from: &[String]) -> Vec<String> {
        let Some(given) = given else { return from.to_vec() };
        for (index, name) in given.iter().enumerate() {
            let at = at.index(index);
            if !self.raw.sources.contains_key(name) {
                let known: Vec<&str> = self.raw.sources.keys().map(String::as_str).collect();
                self.faults.unknown(&at, "source", name, known, "declare it under `sources`");
            } else if !from.contains(name) {
                let help = "the role's own `sources` must have it too".to_owned();
                self.faults.add(&at, format!("source `{name}` is not among those of the role"), help);
            } else if given.iter().take(index).any(|before| before == name) {
                self.faults.add(&at, format!("source `{name}` is listed twice"), "remove one".to_owned());
            }
        }
        if given.is_empty() {
            self.faults.add(
                at,
                "there are no sources in this list",
                "leave the key out to take all".to_owned(),
            );
        }
        given.clone()
    }

    pub(super) fn relays(&mut self, sources: &Sources) -> Option<RelayRole> {
        let role = self.raw.relays.as_ref()?;
        let at = At::top("relays");
        if sources.is_empty() {
            let help = "add `sources:` with a MySQL server".to_owned();
            self.faults.add_key(&at, "there are relays and no sources to read", help);
        }
        let all: Vec<String> = self.raw.sources.keys().cloned().collect();
        let of_role = self.chosen(&at.key("sources"), role.sources.as_ref(), &all);
        let list = at.key("hosts");
        self.some_hosts(&list, role.hosts.len());
        let (mut members, mut places) = (Vec::new(), Vec::new());
        for (index, entry) in role.hosts.iter().enumerate() {
            let entry_at = list.index(index);
            let host_at = entry_at.key("host");
            let (host, own) = match entry {
                Entry::Host(host) => (host, None),
                Entry::Map(member) => (&member.host, member.sources.as_ref()),
            };
            let host = self.member(&host_at, host);
            let sources = self.chosen(&entry_at.key("sources"), own, &of_role);
            places.push((host_at, host.clone()));
            members.push(RelayMember { host, sources });
        }
        self.once(&places, "relays");
        let port = self.port(&at.key("port"), role.port, d::RELAY_PORT);
        let http_port = self.port(&at.key("http_port"), role.http_port, d::RELAY_HTTP_PORT);
        let data_dir = self.data_dir(&at, "data_dir", role.data_dir.as_deref(), d::RELAY_DATA_DIR);
        for member in &members {
            self.hosts.claim_port(&member.host, port, "`relays.port`", &at.key("port"));
            self.hosts.claim_port(&member.host, http_port, "`relays.http_port`", &at.key("http_port"));
            self.hosts.claim_directory(&member.host, data_dir.clone(), "relays", &at.key("data_dir"));
        }
        let retention = role.retention.as_ref();
        let bytes = retention
            .and_then(|r| r.bytes)
            .map_or_else(|| quantity::size(d::RETENTION_BYTES).unwrap_or_default(), |b| b.0);
        let age = retention
            .and_then(|r| r.age)
            .map_or_else(|| quantity::duration(d::RETENTION_AGE).unwrap_or_default(), |s| s.0);
        if bytes < RETENTION_BYTES_MIN {
            let help = "as in `4GiB`".to_owned();
            self.faults.add(&at.key("retention").key("bytes"), "a relay keeps at least 16 MiB", help);
        }
        if age.as_secs() == 0 {
            self.faults.add(&at.key("retention").key("age"), "the shortest age is `1s`", None);
        }
        let limits = self.relay_limits(&at.key("limits"), &role.limits);
        Some(RelayRole {
            members,
            port,
            http_port,
            data_dir,
            limits,
            retention: Retention { bytes, age_secs: age.as_secs() },
        })
    }

    fn relay_limits(&mut self, at: &At, given: &raw::RelayLimits) -> Limits {
        let usual = Limits::default();
        let count = |given: Option<u32>| given.map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        let stuck = given.stuck.as_ref().map(|stuck| stuck.0.as_secs());
        for (key, zero) in [
            ("connections", given.connections == Some(0)),
            ("connections_per_peer", given.connections_per_peer == Some(0)),
            ("stuck", stuck == Some(0)),
        ] {
            if zero {
                self.faults.add(&at.key(key), "with nothing no consumer is served: give 1 or more", None);
            }
        }
        Limits {
            connections: count(given.connections).unwrap_or(usual.connections),
            connections_per_peer: count(given.connections_per_peer).unwrap_or(usual.connections_per_peer),
            stuck_secs: stuck.unwrap_or(usual.stuck_secs),
        }
    }

    pub(super) fn consumers(
        &mut self,
        sources: &Sources,
        relays: Option<&RelayRole>,
    ) -> BTreeMap<String, ConsumerGroup> {
        let mut groups = BTreeMap::new();
        let all: Vec<String> = sources.keys().cloned().collect();
        let raw = self.raw;
        for (name, given) in &raw.consumers {
            let at = At::top("consumers").key(name);
            self.name(&at, "consumer group", name);
            if sources.is_empty() {
                self.faults.add_key(
                    &at,
                    "there is a consumer group and no sources to read",
                    "add `sources:`".to_owned(),
                );
            }
            let read = self.chosen(&at.key("sources"), given.sources.as_ref(), &all);
            for (index, source) in read.iter().enumerate().filter(|(_, source)| sources.contains_key(*source))
            {
                let served =
                    relays.is_some_and(|role| role.members.iter().any(|m| m.sources.contains(source)));
                if !served {
                    let at =
                        if given.sources.is_some() { at.key("sources").index(index) } else { at.clone() };
                    let help = match relays {
                        None => "add `relays: {hosts: […]}`".to_owned(),
                        Some(_) => format!("add `{source}` to the `sources` of a relay"),
                    };
                    self.faults.add(&at, format!("no relay serves source `{source}`"), help);
                }
            }
            if given.delivery == Some(Delivery::ExactlyOnce) {
                self.not_yet(
                    &at.key("delivery"),
                    "`delivery: exactly_once`",
                    "use `at_least_once`; readers can drop repeated rows by `scn` and `row`",
                );
            }
            let select = self.selection(&at, &given.tables, given.columns.as_ref());
            let partitions = given.partitions.unwrap_or(d::PARTITIONS);
            if !(1..=d::PARTITIONS_MAX).contains(&partitions) {
                let message = format!("a group has 1 to {} partitions", d::PARTITIONS_MAX);
                self.faults.add(&at.key("partitions"), message, None);
            }
            let list = at.key("hosts");
            self.some_hosts(&list, given.hosts.len());
            let places: Vec<_> = given
                .hosts
                .iter()
                .enumerate()
                .map(|(index, host)| (list.index(index), self.member(&list.index(index), host)))
                .collect();
            self.once(&places, &format!("consumers.{name}"));
            let hosts: Vec<String> = places.into_iter().map(|(_, host)| host).collect();
            let http_port = self.port(&at.key("http_port"), given.http_port, d::CONSUMER_HTTP_PORT);
            for host in &hosts {
                let service = format!("`consumers.{name}.http_port`");
                self.hosts.claim_port(host, http_port, &service, &at.key("http_port"));
            }
            let none = KafkaSink::default();
            let sink = given.sink.as_ref().and_then(|sink| sink.kafka.as_ref()).unwrap_or(&none);
            let sink_at = at.key("sink").key("kafka");
            let (sink_tls, sink_sasl) = self.sink_security(&sink_at, sink);
            let sink = self.sink(&sink_at, sink);
            let group = ConsumerGroup {
                name: name.clone(),
                hosts,
                sources: read,
                select,
                partitions,
                http_port,
                sink,
                sink_tls,
                sink_sasl,
            };
            groups.insert(name.clone(), group);
        }
        groups
    }

    fn sink(&mut self, at: &At, given: &KafkaSink) -> config::KafkaSink {
        if given.bootstrap.is_empty() && self.raw.kafka.is_none() {
            let help = "add `kafka: {hosts: […]}`, or `sink: {kafka: {bootstrap: [HOST:9092]}}` for brokers elsewhere";
            self.faults.add(at, "there is no Kafka to write to", help.to_owned());
        }
        for (index, server) in given.bootstrap.iter().enumerate() {
            let at = at.key("bootstrap").index(index);
            match server.rsplit_once(':') {
                Some((host, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => {
                    self.address(&at, host);
                }
                _ => self.faults.add(&at, format!("`{server}` is not of the form `HOST:PORT`"), None),
            }
        }
        let format = given.format.unwrap_or(Format::Aesop);
        let topic = given.topic.as_deref().unwrap_or(d::TOPIC);
        self.topic(&at.key("topic"), topic);
        for (key, number) in
            [("topic_partitions", given.topic_partitions), ("replication_factor", given.replication_factor)]
        {
            if number == Some(0) {
                self.faults.add(&at.key(key), format!("`{key}` is at least 1"), None);
            }
        }
        config::KafkaSink {
            bootstrap: given.bootstrap.clone(),
            tls: None,
            sasl: None,
            topic: topic.to_owned(),
            format: match format {
                Format::Aesop => config::Format::Aesop,
                Format::Debezium => config::Format::Debezium,
                Format::Maxwell => config::Format::Maxwell,
                Format::AesopV1 => config::Format::AesopV1,
            },
            topic_partitions: given.topic_partitions.unwrap_or(d::TOPIC_PARTITIONS).into(),
            replication_factor: given.replication_factor.map(i32::from),
            cleanup_policy: match given.cleanup_policy {
                None | Some(CleanupPolicy::Delete) => config::CleanupPolicy::Delete,
                Some(CleanupPolicy::Compact) => config::CleanupPolicy::Compact,
            },
            config: self.config(&at.key("config"), &given.config, SINK_OWN),
        }
    }

    /// Renders the topic of a made-up row.
    fn topic(&mut self, at: &At, topic: &str) {
        let mut environment = minijinja::Environment::new();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::Strict);
        let row = minijinja::context! { source => "s", database => "d", table => "t" };
        let help = "it may use `{{ source }}`, `{{ database }}` and `{{ table }}`".to_owned();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        match environment.render_str(topic, row) {
            Err(error) => {
                let what = if error.kind() == minijinja::ErrorKind::UndefinedError {
                    "the topic uses a name that a row does not have"
                } else {
                    "the topic is not a template"
                };
                self.faults.add(at, what, help);
            }
            Ok(name)
                if name.is_empty() || matches!(name.as_str(), "." | "..") || !name.chars().all(legal) =>
            {
                let help = "Kafka takes letters, digits, `.`, `_` and `-`".to_owned();
                self.faults.add(at, format!("`{name}` cannot be the name of a topic"), help);
            }
            Ok(_) => {}
        }
    }
}
