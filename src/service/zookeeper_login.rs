//! Kafka's login at ZooKeeper, where it keeps its metadata there: its znodes are its own, as those below `/aesop` are
//! aesop's. Both sides prove that they know the password, which does not go over the network (DIGEST-MD5).

use super::inputs::Inputs;
use super::{File, Part, ServiceError, paths};
use crate::inventory::model::{Inventory, KafkaMode, SecretRef};
use crate::secret::Secret;
use std::collections::BTreeMap;

/// The only user.
const USER: &str = "kafka";
/// Its password among the secrets.
const PASSWORD: &str = "kafka.zookeeper_password";
/// In the ZooKeeper client's jar, so both have it.
const MODULE: &str = "org.apache.zookeeper.server.auth.DigestLoginModule required";

/// The secrets that it takes.
pub(super) fn secret_refs(inventory: &Inventory) -> BTreeMap<String, SecretRef> {
    let password = || (PASSWORD.to_owned(), SecretRef::Generated("zookeeper-kafka".to_owned()));
    is_wanted(inventory).then(password).into_iter().collect()
}

/// What ZooKeeper's `zoo.cfg` says for it.
pub(super) fn settings(inventory: &Inventory) -> BTreeMap<String, String> {
    let provider = "org.apache.zookeeper.server.auth.SASLAuthenticationProvider";
    let setting = || ("authProvider.sasl".to_owned(), provider.to_owned());
    is_wanted(inventory).then(setting).into_iter().collect()
}

fn is_wanted(inventory: &Inventory) -> bool {
    inventory.kafka.as_ref().is_some_and(|role| role.mode == KafkaMode::ZooKeeper)
}

/// ZooKeeper's side; returns the file, which its JVM is told of by [`option`].
pub(super) fn of_server(
    inputs: &Inputs<'_>,
    host: &str,
    part: &mut Part,
) -> Result<Option<String>, ServiceError> {
    add(inputs, host, part, "zookeeper", |password| {
        format!("Server {{\n  {MODULE}\n  user_{USER}=\"{password}\";\n}};\n")
    })
}

/// Kafka's side.
pub(super) fn of_client(
    inputs: &Inputs<'_>,
    host: &str,
    part: &mut Part,
) -> Result<Option<String>, ServiceError> {
    add(inputs, host, part, "kafka", |password| {
        format!("Client {{\n  {MODULE}\n  username=\"{USER}\"\n  password=\"{password}\";\n}};\n")
    })
}

fn add(
    inputs: &Inputs<'_>,
    host: &str,
    part: &mut Part,
    user: &str,
    text: impl FnOnce(&str) -> String,
) -> Result<Option<String>, ServiceError> {
    if !is_wanted(inputs.inventory) {
        return Ok(None);
    }
    let path = format!("{}/{user}-login", paths::SECRETS);
    let text = text(inputs.secret(PASSWORD, host)?.expose());
    part.files.push(File::secret(&path, user, &Secret::new(text)));
    Ok(Some(path))
}

/// What a JVM is told.
pub(super) fn option(path: &str) -> String {
    format!("-Djava.security.auth.login.config={path}")
}
