//! Ansible's YAML inventories and variable files.

use super::ImportError;
use super::range::expand;
use super::tree::{Tree, Vars};
use serde_yaml::{Mapping, Value};

pub(super) fn parse(file: &str, text: &str) -> Result<Tree, ImportError> {
    let fail = |problem: String| ImportError::Yaml { file: file.to_owned(), problem };
    let value: Value = serde_yaml::from_str(text).map_err(|error| fail(error.to_string()))?;
    let mut tree = Tree::default();
    for (name, group) in map(&value, "the file").map_err(fail)? {
        read(&mut tree, word(name).map_err(fail)?, group).map_err(fail)?;
    }
    Ok(tree)
}

fn read(tree: &mut Tree, name: &str, group: &Value) -> Result<(), String> {
    tree.group(name);
    for (key, value) in map(group, name)? {
        let key = word(key)?;
        match key {
            "hosts" => {
                for (pattern, own) in map(value, &format!("{name}.hosts"))? {
                    let own = plain(map(own, word(pattern)?)?)?;
                    for host in expand(word(pattern)?)? {
                        tree.add(name, &host, own.clone());
                    }
                }
            }
            "vars" => {
                let vars = plain(map(value, &format!("{name}.vars"))?)?;
                tree.group(name).vars.extend(vars);
            }
            "children" => {
                for (child, group) in map(value, &format!("{name}.children"))? {
                    let child = word(child)?;
                    tree.group(name).children.push(child.to_owned());
                    read(tree, child, group)?;
                }
            }
            other => {
                return Err(format!("group `{name}` has `{other}`; a group has hosts, vars and children"));
            }
        }
    }
    Ok(())
}

pub(super) fn vars(file: &str, text: &str) -> Result<Vars, ImportError> {
    let fail = |problem: String| ImportError::Yaml { file: file.to_owned(), problem };
    if text.starts_with("$ANSIBLE_VAULT") {
        return Ok(Vars::from([(format!("(all of {file})"), Value::String("$ANSIBLE_VAULT".to_owned()))]));
    }
    let value: Value = serde_yaml::from_str(text).map_err(|error| fail(error.to_string()))?;
    plain(map(&value, "the file").map_err(fail)?).map_err(fail)
}

/// A map; nothing at all is an empty one.
fn map<'a>(value: &'a Value, what: &str) -> Result<&'a Mapping, String> {
    static EMPTY: std::sync::LazyLock<Mapping> = std::sync::LazyLock::new(Mapping::new);
    match value {
        Value::Mapping(map) => Ok(map),
        Value::Null => Ok(&EMPTY),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Sequence(_) | Value::Tagged(_) => {
            Err(format!("{what} should be a map"))
        }
    }
}

fn plain(map: &Mapping) -> Result<Vars, String> {
    map.iter().map(|(key, value)| Ok((word(key)?.to_owned(), value.clone()))).collect()
}

fn word(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| "a name is not text; put quotes around it".to_owned())
}
