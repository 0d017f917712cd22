//! The reference and the examples are what the program says they are.

use crate::document::{blocks, merge};
use aesop::inventory::{load, schema};
use expect_test::expect_file;
use std::path::Path;

#[test]
fn the_inventory_reference_is_the_schema() {
    expect_file!["../../docs/inventory.md"].assert_eq(&schema::markdown());
}

#[test]
fn every_example_inventory_is_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventory");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yml") {
            load(&path).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count > 0);
}

/// The schema knows every key of the example, down to the leaves.
#[test]
fn the_schema_has_every_key_of_the_example() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("inventory/example.yml");
    let example: serde_json::Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let schema = schema::json_schema().to_value();
    let mut missing = Vec::new();
    walk(&schema, &schema, &example, "", &mut missing);
    assert_eq!(missing, Vec::<String>::new());
    walk(&schema, &schema, &serde_json::json!({ "kafka": { "hsots": [] } }), "", &mut missing);
    assert_eq!(missing, [".kafka.hsots"], "the walk itself finds what is missing");
}

fn walk(
    root: &serde_json::Value,
    schema: &serde_json::Value,
    value: &serde_json::Value,
    path: &str,
    missing: &mut Vec<String>,
) {
    let schema = resolve(root, schema, value);
    if let Some(items) = value.as_array() {
        for item in items {
            walk(root, &schema["items"], item, path, missing);
        }
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        let below = match schema["properties"].get(key) {
            Some(property) => property,
            None if schema["additionalProperties"].is_object() => &schema["additionalProperties"],
            None => {
                missing.push(path);
                continue;
            }
        };
        walk(root, below, value, &path, missing);
    }
}

fn resolve<'a>(
    root: &'a serde_json::Value,
    schema: &'a serde_json::Value,
    value: &serde_json::Value,
) -> &'a serde_json::Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return resolve(root, root.pointer(&reference[1..]).unwrap(), value);
    }
    let choices = schema["anyOf"].as_array().into_iter().flatten();
    let mut fitting = choices.map(|choice| resolve(root, choice, value)).filter(|choice| {
        let kind = if value.is_object() {
            "object"
        } else if value.is_array() {
            "array"
        } else {
            "string"
        };
        choice["type"] == kind || choice["type"].as_array().is_some_and(|types| types.contains(&kind.into()))
    });
    fitting.next().unwrap_or(schema)
}

/// Inventories and commands of the documents are such that the program takes them.
#[test]
fn what_the_tutorial_says_is_understood() {
    let blocks = blocks(include_str!("../../docs/tutorial.md"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.yml");
    let mut inventory = serde_yaml::Value::Null;
    let mut seen = 0;
    for block in &blocks {
        match block.language.as_str() {
            "yaml" => {
                merge(&mut inventory, serde_yaml::from_str(&block.text).unwrap());
                std::fs::write(&path, serde_yaml::to_string(&inventory).unwrap()).unwrap();
                load(&path).unwrap_or_else(|error| panic!("{}: {error}", block.section));
            }
            "sh" => {
                for line in block.text.lines().filter(|line| line.starts_with("aesop ")) {
                    let parsed = aesop::cli::command().try_get_matches_from(line.split_whitespace());
                    parsed.unwrap_or_else(|error| panic!("{}: {line}: {error}", block.section));
                    seen += 1;
                }
            }
            _ => {}
        }
    }
    assert!(seen > 8, "{seen} commands");
    aesop::cli::command().try_get_matches_from(["aesop", "chek"]).unwrap_err();
}
