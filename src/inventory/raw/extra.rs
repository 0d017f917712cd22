//! What the user wants on hosts besides, as it is written.

use crate::inventory::value::{Scalar, SecretSource, Word};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Things of the user's own on some hosts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::inventory) struct Extra {
    /// Where: names from `hosts`, addresses, globs (`k*`) and roles (`@kafka`), as for `--on`.
    pub(in crate::inventory) hosts: Vec<String>,
    /// What templates see as `vars`.
    #[serde(default)]
    pub(in crate::inventory) vars: BTreeMap<String, Scalar>,
    /// What templates of files with `secret: true` see as `secrets`.
    #[serde(default)]
    pub(in crate::inventory) secrets: BTreeMap<String, SecretSource>,
    /// System users, each with a group of its own name.
    #[serde(default)]
    pub(in crate::inventory) users: Vec<String>,
    /// Directories by path. They go with the extra where they are empty.
    #[serde(default)]
    pub(in crate::inventory) directories: BTreeMap<String, ExtraDirectory>,
    /// Files by path.
    #[serde(default)]
    pub(in crate::inventory) files: BTreeMap<String, ExtraFile>,
    /// Files of any size by path, made links into the host's store.
    #[serde(default)]
    pub(in crate::inventory) artifacts: BTreeMap<String, ExtraArtifact>,
    /// systemd units by name; enabled, started and restarted when something of theirs changes. They must stay active.
    #[serde(default)]
    pub(in crate::inventory) units: BTreeMap<String, ExtraUnit>,
}

/// A directory.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::inventory) struct ExtraDirectory {
    /// Permission bits, octal.
    #[schemars(extend("default" = "755"))]
    pub(in crate::inventory) mode: Option<Word>,
    /// Owner, and group of the same name.
    #[schemars(extend("default" = "root"))]
    pub(in crate::inventory) owner: Option<String>,
}

/// A file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::inventory) struct ExtraFile {
    /// A template (minijinja) beside the inventory. It sees `cluster`, `host`, `hosts` and `vars`.
    pub(in crate::inventory) template: Option<String>,
    /// A text beside the inventory that is taken as it is, instead of `template`.
    pub(in crate::inventory) file: Option<String>,
    /// Permission bits, octal; `600` where it is a secret.
    #[schemars(extend("default" = "644"))]
    pub(in crate::inventory) mode: Option<Word>,
    /// Owner, and group of the same name.
    #[schemars(extend("default" = "root"))]
    pub(in crate::inventory) owner: Option<String>,
    /// Its content is shown nowhere, and its template sees `secrets`.
    pub(in crate::inventory) secret: Option<bool>,
}

/// A file of any size; one of `file` and `url`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::inventory) struct ExtraArtifact {
    /// A file beside the inventory.
    pub(in crate::inventory) file: Option<String>,
    /// Where this machine fetches it; hosts need no internet.
    pub(in crate::inventory) url: Option<String>,
    /// SHA-512 in hexadecimal; needed with `url`.
    pub(in crate::inventory) sha512: Option<String>,
    /// Whether it may be run.
    #[schemars(extend("default" = false))]
    pub(in crate::inventory) executable: Option<bool>,
}

/// A systemd unit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::inventory) struct ExtraUnit {
    /// A template (minijinja) beside the inventory.
    pub(in crate::inventory) template: Option<String>,
    /// A text beside the inventory that is taken as it is, instead of `template`.
    pub(in crate::inventory) file: Option<String>,
    /// Paths of this extra whose change restarts it; without it all of them. A change of the unit always does.
    pub(in crate::inventory) restart_on: Option<Vec<String>>,
}
