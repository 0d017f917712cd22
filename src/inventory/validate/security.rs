//! TLS and SASL of Kafka, and towards brokers elsewhere.

use super::{Check, secret_or_generated};
use crate::inventory::defaults as d;
use crate::inventory::fault::At;
use crate::inventory::model::{KafkaAuthority, KafkaSasl, KafkaTls, SinkSasl, SinkTls};
use crate::inventory::quantity;
use crate::inventory::raw::{self, KafkaSink, SaslMechanism};
use crate::inventory::value::Span;
use relay::config;
use std::time::Duration;

/// No certificate may begin before the hosts' clocks agree that it has.
const VALID_MIN: Duration = Duration::from_hours(48);
/// Clients refuse certificates of a century as a mistake.
const VALID_MAX: Duration = Duration::from_hours(24 * 3660);

impl Check<'_, '_> {
    pub(super) fn kafka_tls(&mut self, at: &At, given: Option<&raw::KafkaTls>) -> Option<KafkaTls> {
        let given = given?;
        let span = |given: Option<Span>, default| {
            given.map_or_else(|| quantity::duration(default).unwrap_or_default(), |span| span.0)
        };
        let valid = span(given.valid, d::KAFKA_TLS_VALID);
        let renew = span(given.renew, d::KAFKA_TLS_RENEW);
        if !(VALID_MIN..=VALID_MAX).contains(&valid) {
            let help = "as in `365d`; a public authority gives no more than that".to_owned();
            self.faults.add(&at.key("valid"), "a certificate is good for `2d` to `3660d`", help);
        } else if renew >= valid {
            let key = if given.renew.is_some() { "renew" } else { "valid" };
            let help = "as in `{valid: 365d, renew: 30d}`".to_owned();
            self.faults.add(
                &at.key(key),
                "each apply would renew it: `renew` must be shorter than `valid`",
                help,
            );
        } else if renew.is_zero() {
            self.faults.add(&at.key("renew"), "it would never be renewed", "as in `30d`".to_owned());
        }
        Some(KafkaTls { authority: self.authority(at, given), valid, renew })
    }

    fn authority(&mut self, at: &At, given: &raw::KafkaTls) -> KafkaAuthority {
        let Some(file) = &given.ca else {
            for (key, set) in
                [("ca_key", given.ca_key.is_some()), ("certificates", given.certificates.is_some())]
            {
                if set {
                    let help = "add `ca: FILE`, the authority that has signed them".to_owned();
                    self.faults.add_key(&at.key(key), format!("`{key}` needs `ca`"), help);
                }
            }
            return KafkaAuthority::Own;
        };
        let text = self.authorities(&at.key("ca"), file).unwrap_or_default();
        let path = self.beside(file);
        match (&given.ca_key, &given.certificates) {
            (Some(key), None) => KafkaAuthority::Signs { certificate: text, path, key: self.beside(key) },
            (None, Some(folder)) => {
                if given.valid.is_some() {
                    let what = "`valid` is about certificates that aesop makes, and these are yours";
                    self.faults.add_key(&at.key("valid"), what, "remove it".to_owned());
                }
                KafkaAuthority::Given { trusted: text, path, folder: self.beside(folder) }
            }
            _ => {
                let help = "`ca_key: FILE` and aesop makes the certificates with it, or `certificates: FOLDER` with your own; without `ca` aesop has an authority of its own".to_owned();
                self.faults.add(
                    &at.key("ca"),
                    "`ca` goes with exactly one of `ca_key` and `certificates`",
                    help,
                );
                KafkaAuthority::Own
            }
        }
    }

    pub(super) fn kafka_sasl(&mut self, at: &At, role: &raw::Kafka, tls: bool) -> Option<KafkaSasl> {
        let given = role.sasl.as_ref()?;
        let at = at.key("sasl");
        if !tls {
            let help = "add `tls: {}` under `kafka`".to_owned();
            self.faults.add_key(
                &at,
                "`sasl` without `tls` would show what passwords can be guessed from",
                help,
            );
        }
        let own = secret_or_generated(given.password.as_ref(), "kafka-aesop");
        let mut users = std::collections::BTreeMap::from([(KafkaSasl::OWN.to_owned(), own)]);
        for (name, password) in &given.users {
            let at = at.key("users").key(name);
            if name == KafkaSasl::OWN {
                let help = "use `kafka.sasl.password` for its password".to_owned();
                self.faults.add_key(&at, format!("the user `{name}` is aesop's own"), help);
                continue;
            }
            self.kafka_user(&at, name);
            users.insert(name.clone(), password.0.clone());
        }
        Some(KafkaSasl { users })
    }

    fn kafka_user(&mut self, at: &At, name: &str) {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
        if name.is_empty() || !name.chars().all(legal) {
            let help = "letters, digits, `.`, `_`, `-` and `@`".to_owned();
            self.faults.add_key(at, format!("`{name}` cannot be the name of a user of Kafka"), help);
        }
    }

    pub(super) fn sink_security(
        &mut self,
        at: &At,
        given: &KafkaSink,
    ) -> (Option<SinkTls>, Option<SinkSasl>) {
        for (key, set) in [("tls", given.tls.is_some()), ("sasl", given.sasl.is_some())] {
            if set && given.bootstrap.is_empty() {
                let help =
                    format!("remove it; `kafka.{key}` says how the brokers of this inventory are reached");
                self.faults.add_key(&at.key(key), format!("`{key}` is for the brokers of `bootstrap`"), help);
            }
        }
        if given.sasl.is_some() && given.tls.is_none() {
            let help = "add `tls: {}`".to_owned();
            self.faults.add_key(&at.key("sasl"), "`sasl` without `tls` would show the password", help);
        }
        let ca = |check: &mut Self, file: &String| check.authorities(&at.key("tls").key("ca"), file);
        let tls =
            given.tls.as_ref().map(|tls| SinkTls { ca: tls.ca.as_ref().and_then(|file| ca(self, file)) });
        let sasl = given.sasl.as_ref().map(|sasl| {
            if sasl.user.is_empty() {
                self.faults.add(&at.key("sasl").key("user"), "the user is empty", None);
            }
            SinkSasl {
                user: sasl.user.clone(),
                password: sasl.password.0.clone(),
                mechanism: match sasl.mechanism {
                    None | Some(SaslMechanism::ScramSha512) => config::SaslMechanism::ScramSha512,
                    Some(SaslMechanism::ScramSha256) => config::SaslMechanism::ScramSha256,
                    Some(SaslMechanism::Plain) => config::SaslMechanism::Plain,
                },
            }
        });
        (tls, sasl)
    }
}
