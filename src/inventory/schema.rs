//! The inventory's JSON Schema, for editors.

use super::raw::Raw;
use schemars::{Schema, generate::SchemaSettings};
use serde_json::Value;

/// The schema (draft 2020-12).
pub fn json_schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Raw>()
}

/// docs/inventory.md: every key with its type, its default and its meaning.
pub fn markdown() -> String {
    let schema = json_schema();
    let root = schema.as_value();
    let mut out = String::from(HEADER);
    object(root, root, "", &mut out);
    out
}

const HEADER: &str = "\
# The inventory

<!-- Written by `aesop schema --markdown`; a test compares the two. Do not edit. -->

One YAML file is one cluster. Everything has a default but the addresses. Unknown keys, keys that stand twice, wrong
types and references to nothing are errors; `aesop check` reports all of them with their lines. A commented example
is [inventory/example.yml](../inventory/example.yml).

Sizes are written `4GiB`, `512m`, `2g` (by 1024; `kB`, `MB`, `GB`, `TB` by 1000), durations `30s`, `5m`, `24h`, `7d`.
Secrets never stand in the inventory: `{env: NAME}`, `{file: PATH}` (on the machine where `aesop` runs) or
`{command: [PROGRAM, ARGUMENT]}`. Secrets that aesop generates lie beside the inventory in `<name>.secrets/`, ids that
must never change in `<name>.lock`; commit the latter and not the former.
";

/// The order of the top level; what is not named follows.
const ORDER: [&str; 12] = [
    "cluster",
    "ssh",
    "hosts",
    "java",
    "agent",
    "zookeeper",
    "kafka",
    "sources",
    "relays",
    "consumers",
    "monitor",
    "extras",
];

/// One table for an object, then one for each object in it.
fn object(root: &Value, schema: &Value, path: &str, out: &mut String) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let title = if path.is_empty() { "Top level" } else { path };
    out.extend(["\n## ", title, "\n\n| key | type | default | meaning |\n|---|---|---|---|\n"]);
    let mut names: Vec<&String> = properties.keys().collect();
    let rank = |name: &str| match path {
        "" => ORDER.iter().position(|known| *known == name).unwrap_or(ORDER.len()),
        _ => usize::from(!required.contains(&name)),
    };
    names.sort_by_key(|name| (rank(name), name.as_str()));
    let mut below = Vec::new();
    for name in names {
        let Some(property) = properties.get(name) else { continue };
        let kind = Kind::of(root, property);
        let default = match property.get("default").filter(|value| !is_empty(value)) {
            Some(Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
            None if required.contains(&name.as_str()) => "required".to_owned(),
            None => String::new(),
        };
        let meaning =
            property.get("description").and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        out.extend(["| `", name, "` | ", &kind.words, " | ", &default, " | ", &meaning, " |\n"]);
        let child = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        below.extend(kind.object.map(|schema| (format!("{child}{}", kind.suffix), schema)));
    }
    for (path, schema) in below {
        object(root, schema, &path, out);
    }
}

/// What a value is, in words, and the object to describe below, if it is one.
struct Kind<'a> {
    words: String,
    suffix: String,
    object: Option<&'a Value>,
}

impl<'a> Kind<'a> {
    fn of(root: &'a Value, schema: &'a Value) -> Self {
        let plain = |words: &str| Self { words: words.to_owned(), suffix: String::new(), object: None };
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.rsplit('/').next().unwrap_or_default();
            return match name {
                "Secret" => plain("secret"),
                "Size" => plain("size"),
                "Duration" => plain("duration"),
                "Setting" => plain("text, number or boolean"),
                "NotSupportedYet" => plain("not supported yet"),
                _ => root
                    .pointer(reference.trim_start_matches('#'))
                    .map_or_else(|| plain(name), |s| Self::of(root, s)),
            };
        }
        if let Some(choices) = schema.get("anyOf").and_then(Value::as_array) {
            let kinds: Vec<Self> = choices
                .iter()
                .filter(|choice| choice.get("type").and_then(Value::as_str) != Some("null"))
                .map(|choice| Self::of(root, choice))
                .collect();
            let words: Vec<String> = kinds.iter().map(|kind| kind.words.clone()).collect();
            let words = words.join(" or ");
            return match kinds.into_iter().find(|kind| kind.object.is_some()) {
                Some(kind) => Self { words, ..kind },
                None => plain(&words),
            };
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array) {
            let words: Vec<String> =
                words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
            return plain(&words.join(", "));
        }
        let types: Vec<&str> = match schema.get("type") {
            Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(one)) => vec![one],
            _ => Vec::new(),
        };
        let types: Vec<&str> = types.into_iter().filter(|name| *name != "null").collect();
        if types.contains(&"array") {
            let item = schema.get("items").map_or_else(|| plain("value"), |items| Self::of(root, items));
            return Self {
                words: format!("list of {}", item.words),
                suffix: format!("[]{}", item.suffix),
                ..item
            };
        }
        if types.contains(&"object") {
            return match schema.get("additionalProperties").filter(|values| values.is_object()) {
                Some(values) => {
                    let value = Self::of(root, values);
                    let suffix = format!(".<name>{}", value.suffix);
                    Self { words: format!("map of names to {}", value.words), suffix, ..value }
                }
                None => Self { object: Some(schema), ..plain("map") },
            };
        }
        let words: Vec<&str> = types
            .into_iter()
            .map(|name| match name {
                "string" => "text",
                "integer" => "whole number",
                other => other,
            })
            .collect();
        plain(&words.join(" or "))
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}
