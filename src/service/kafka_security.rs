//! Kafka's listeners, TLS and users.
//!
//! Plain, there are two listeners: PLAINTEXT for clients and brokers, CONTROLLER. With TLS there are three: CLIENT, where
//! clients show a password if there are users; INTERNAL for brokers and for aesop on their hosts; CONTROLLER. On the last
//! two both sides show a certificate, so that no password is needed to begin with. On ZooKeeper there is no CONTROLLER.

use super::inputs::{Inputs, join, missing};
use super::{File, Part, ServiceError, paths};
use crate::inventory::model::{ConsumerGroup, KafkaMode, KafkaRole, KafkaSasl};
use crate::secret::Secret;
use relay::config::{KafkaSink, KafkaTls, SaslMechanism};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The key of a user's password among the secrets.
pub(super) fn password_key(user: &str) -> String {
    if user == KafkaSasl::OWN { "kafka.sasl.password".to_owned() } else { format!("kafka.sasl.users.{user}") }
}

/// Where aesop on a broker's host administers it. `ssl://` says with which protocol.
pub(super) fn admin(role: &KafkaRole, address: &str) -> String {
    match &role.tls {
        Some(_) => format!("ssl://{}", join(address, role.internal_port)),
        None => join(address, role.port),
    }
}

/// The settings of all listeners of a node.
pub(super) fn listeners(
    role: &KafkaRole,
    address: &str,
    broker: bool,
    controller: bool,
) -> BTreeMap<String, String> {
    let internal = role.tls.as_ref().map(|_| ("INTERNAL", role.internal_port));
    let (client, protocol, between) = match (&role.tls, &role.sasl) {
        (None, _) => ("PLAINTEXT", "PLAINTEXT", "PLAINTEXT"),
        (Some(_), None) => ("CLIENT", "SSL", "SSL"),
        (Some(_), Some(_)) => ("CLIENT", "SASL_SSL", "SSL"),
    };
    let control = controller.then_some(("CONTROLLER", role.controller_port));
    let outward = [Some((client, role.port)), internal];
    let all = outward.into_iter().filter(|_| broker).chain([control]);
    let all: Vec<String> =
        all.flatten().map(|(name, port)| format!("{name}://{}", join(address, port))).collect();
    let kraft = (role.mode == KafkaMode::Kraft).then_some("CONTROLLER");
    let map = internal.map(|(name, _)| name).into_iter().chain(kraft);
    let map = map.fold(format!("{client}:{protocol}"), |map, name| format!("{map},{name}:{between}"));
    let mut settings = vec![
        ("listeners", all.join(",")),
        ("advertised.listeners", all.join(",")),
        ("listener.security.protocol.map", map),
    ];
    if role.mode == KafkaMode::Kraft {
        settings.push(("controller.listener.names", "CONTROLLER".to_owned()));
    }
    if broker {
        settings.push(("inter.broker.listener.name", internal.map_or(client, |(name, _)| name).to_owned()));
    }
    if role.tls.is_some() {
        settings.extend(
            [
                ("ssl.keystore.type", "PEM"),
                ("ssl.keystore.location", paths::KAFKA_KEYS),
                ("ssl.truststore.type", "PEM"),
                ("ssl.truststore.location", paths::KAFKA_TRUSTED),
                ("listener.name.internal.ssl.client.auth", "required"),
            ]
            .map(|(name, value)| (name, value.to_owned())),
        );
        let mutual = || ("listener.name.controller.ssl.client.auth", "required".to_owned());
        settings.extend(kraft.map(|_| mutual()));
    }
    if role.sasl.is_some() {
        // What it checks passwords against is in Kafka's own metadata; there is none in this file.
        let module = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
        settings.extend(
            [
                ("sasl.enabled.mechanisms", SaslMechanism::ScramSha512.word()),
                ("listener.name.client.scram-sha-512.sasl.jaas.config", module),
            ]
            .map(|(name, value)| (name, value.to_owned())),
        );
    }
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The files with a node's key and with whom it trusts; returns their paths.
pub(super) fn keys(
    inputs: &Inputs<'_>,
    role: &KafkaRole,
    host: &str,
    part: &mut Part,
) -> Result<Vec<String>, ServiceError> {
    if role.tls.is_none() {
        return Ok(Vec::new());
    }
    let made = &inputs.certificates.kafka;
    let key = made.nodes.get(host).ok_or_else(|| missing("Kafka's certificate".to_owned(), host))?;
    part.files.push(File::secret(paths::KAFKA_KEYS, "kafka", key));
    part.files.push(File::new(paths::KAFKA_TRUSTED, made.trusted.as_bytes()));
    Ok([paths::KAFKA_KEYS, paths::KAFKA_TRUSTED].map(str::to_owned).to_vec())
}

/// The file with Kafka's users, which a broker takes in while it runs; returns its path.
pub(super) fn users(
    inputs: &Inputs<'_>,
    role: &KafkaRole,
    host: &str,
    part: &mut Part,
) -> Result<Option<String>, ServiceError> {
    let Some(sasl) = &role.sasl else { return Ok(None) };
    let mut users = BTreeMap::new();
    for name in sasl.users.keys() {
        users.insert(name, inputs.secret(&password_key(name), host)?.expose());
    }
    let text = serde_json::to_string(&users).unwrap_or_default();
    part.files.push(File::secret(paths::KAFKA_USERS, "root", &Secret::new(text)));
    Ok(Some(paths::KAFKA_USERS.to_owned()))
}

/// How a group's sink reaches its brokers: fills `sink` in, and returns the files it needs. `own` are the brokers of
/// this inventory, where it writes to them.
pub(super) fn sink(
    inputs: &Inputs<'_>,
    host: &str,
    group: &ConsumerGroup,
    own: Option<&KafkaRole>,
    sink: &mut KafkaSink,
) -> Result<Vec<File>, ServiceError> {
    let name = &group.name;
    let mut files = Vec::new();
    let authorities = match own {
        Some(role) => role.tls.as_ref().map(|_| Some(inputs.certificates.kafka.trusted.clone())),
        None => group.sink_tls.as_ref().map(|tls| tls.ca.clone()),
    };
    if let Some(authorities) = authorities {
        let file = authorities
            .map(|pem| File::new(format!("{}/consumer-{name}-ca.pem", paths::ETC), pem.into_bytes()));
        sink.tls = Some(KafkaTls { ca: file.as_ref().map(|file| PathBuf::from(&file.path)) });
        files.extend(file);
    }
    let user = match own {
        Some(role) => role.sasl.as_ref().map(|_| {
            let key = password_key(KafkaSasl::OWN);
            (KafkaSasl::OWN.to_owned(), SaslMechanism::ScramSha512, key)
        }),
        None => group.sink_sasl.as_ref().map(|sasl| {
            (sasl.user.clone(), sasl.mechanism, format!("consumers.{name}.sink.kafka.sasl.password"))
        }),
    };
    if let Some((user, mechanism, key)) = user {
        let password = Secret::new(format!("{}\n", inputs.secret(&key, host)?.expose()));
        let file = File::secret(format!("{}/kafka-password-{name}", paths::SECRETS), "aesop", &password);
        sink.sasl =
            Some(relay::config::KafkaSasl { mechanism, user, password_file: PathBuf::from(&file.path) });
        files.push(file);
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::model::{KafkaAuthority, KafkaTls};
    use std::time::Duration;

    fn role(tls: bool, sasl: bool) -> KafkaRole {
        KafkaRole {
            artifact: None,
            version: "4.2.0".to_owned(),
            mode: KafkaMode::Kraft,
            members: Vec::new(),
            controllers: None,
            port: 9092,
            controller_port: 9093,
            jolokia_port: 8779,
            data_dirs: Vec::new(),
            config: BTreeMap::new(),
            rebalance: true,
            rebalance_throttle: 1,
            internal_port: 9094,
            tls: tls.then(|| KafkaTls {
                authority: KafkaAuthority::Own,
                valid: Duration::from_hours(48),
                renew: Duration::from_hours(24),
            }),
            sasl: sasl.then(|| KafkaSasl { users: BTreeMap::new() }),
        }
    }

    #[test]
    fn without_tls_nothing_but_two_plain_listeners() {
        let settings = listeners(&role(false, false), "10.0.0.1", true, true);
        assert_eq!(settings["listeners"], "PLAINTEXT://10.0.0.1:9092,CONTROLLER://10.0.0.1:9093");
        assert_eq!(settings["listener.security.protocol.map"], "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT");
        assert!(!settings.keys().any(|name| name.contains("ssl") || name.contains("sasl")), "{settings:#?}");
        assert_eq!(admin(&role(false, false), "10.0.0.1"), "10.0.0.1:9092");
    }

    #[test]
    fn on_zookeeper_there_is_no_listener_for_controllers() {
        for (tls, sasl, named, map) in [
            (false, false, "PLAINTEXT://10.0.0.1:9092", "PLAINTEXT:PLAINTEXT"),
            (true, false, "CLIENT://10.0.0.1:9092,INTERNAL://10.0.0.1:9094", "CLIENT:SSL,INTERNAL:SSL"),
            (true, true, "CLIENT://10.0.0.1:9092,INTERNAL://10.0.0.1:9094", "CLIENT:SASL_SSL,INTERNAL:SSL"),
        ] {
            let role = KafkaRole { mode: KafkaMode::ZooKeeper, ..role(tls, sasl) };
            let settings = listeners(&role, "10.0.0.1", true, false);
            assert_eq!(settings["listeners"], named);
            assert_eq!(settings["listener.security.protocol.map"], map);
            assert!(!settings.keys().any(|name| name.contains("controller")), "{settings:#?}");
            assert_eq!(settings.contains_key("listener.name.internal.ssl.client.auth"), tls);
        }
    }

    #[test]
    fn a_controller_apart_has_one_listener() {
        for tls in [false, true] {
            let settings = listeners(&role(tls, false), "10.0.0.1", false, true);
            assert_eq!(settings["listeners"], "CONTROLLER://10.0.0.1:9093");
            assert!(!settings.contains_key("inter.broker.listener.name"), "{settings:#?}");
            let both = listeners(&role(tls, false), "10.0.0.1", true, true);
            let map = "listener.security.protocol.map";
            assert_eq!(settings[map], both[map], "nodes that change their roles speak as before");
        }
    }

    #[test]
    fn with_tls_no_listener_is_plain_and_nodes_show_certificates() {
        for (sasl, client) in [(false, "SSL"), (true, "SASL_SSL")] {
            for controller in [false, true] {
                let settings = listeners(&role(true, sasl), "fd00::1", true, controller);
                let map = &settings["listener.security.protocol.map"];
                assert_eq!(*map, format!("CLIENT:{client},INTERNAL:SSL,CONTROLLER:SSL"));
                assert_eq!(settings["inter.broker.listener.name"], "INTERNAL");
                assert_eq!(settings["listeners"].contains("CONTROLLER://[fd00::1]:9093"), controller);
                for listener in ["internal", "controller"] {
                    assert_eq!(settings[&format!("listener.name.{listener}.ssl.client.auth")], "required");
                }
                assert_eq!(settings.contains_key("sasl.enabled.mechanisms"), sasl);
                assert!(!settings.values().any(|value| value.contains("password")), "{settings:#?}");
            }
        }
        assert_eq!(admin(&role(true, true), "fd00::1"), "ssl://[fd00::1]:9094");
    }
}
