//! Inventories of other tools turned into aesop's. Pure: texts in, an inventory and a list of what could not be
//! carried over out. Nothing is left out without being on that list.

mod convert;
mod ini;
mod range;
mod security;
mod tree;
mod yaml;

pub use convert::{Imported, convert};
pub use tree::{Tree, Vars};

/// An inventory that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// A line of an INI file.
    #[error("{file}:{line}: {problem}")]
    Line {
        /// The file.
        file: String,
        /// Counted from one.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A YAML file.
    #[error("{file}: {problem}")]
    Yaml {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// It has no hosts in a group that means something here.
    #[error(
        "{0} has no ZooKeeper and no Kafka group; aesop looks for `zookeeper` and `kafka_broker`, as cp-ansible names them, and for `kafka`, `kafka_brokers`, `brokers`, `zk`"
    )]
    NoGroup(String),
}

/// Reads an Ansible inventory; YAML by its ending or its look, INI otherwise.
pub fn ansible(file: &str, text: &str) -> Result<Tree, ImportError> {
    let ending = file.rsplit('.').next().unwrap_or_default();
    let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
    let looks = first.is_some_and(|line| line == "---" || (line.ends_with(':') && !line.starts_with('[')));
    if matches!(ending, "yml" | "yaml" | "json") || looks {
        yaml::parse(file, text)
    } else {
        ini::parse(file, text)
    }
}

/// Reads a file of `group_vars/` or `host_vars/`.
pub fn vars(file: &str, text: &str) -> Result<Vars, ImportError> {
    yaml::vars(file, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oracle is the inventory's own parser.
    #[test]
    fn what_comes_out_is_an_inventory() {
        let cases = [
            ("hosts.ini", include_str!("../../tests/cases/import-ini/hosts.ini")),
            ("inventory.yml", include_str!("../../tests/cases/import-yaml/inventory.yml")),
        ];
        for (file, text) in cases {
            let imported = convert(file, &ansible(file, text).unwrap(), "shop").unwrap();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("shop.yml");
            std::fs::write(&path, &imported.inventory).unwrap();
            crate::inventory::load(&path).unwrap_or_else(|error| panic!("{error}\n{}", imported.inventory));
        }
    }

    /// Values that must not be on a screen.
    #[test]
    fn no_secret_is_told() {
        let text = include_str!("../../tests/cases/import-ini/hosts.ini");
        let imported = convert("hosts.ini", &ansible("hosts.ini", text).unwrap(), "shop").unwrap();
        assert!(!format!("{imported:?}").contains("hunter2"));
    }
}
