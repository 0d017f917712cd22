//! Beans as Prometheus text, version 0.0.4.

use super::registry::{Kind, Registry, Snapshot, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// All metrics.
pub(super) fn render(registry: &Registry) -> String {
    let mut families: BTreeMap<String, (Kind, Vec<String>)> = BTreeMap::new();
    for bean in registry.read(None) {
        let prefix = prefix(&bean);
        let labels = labels(&bean);
        for (attribute, (kind, value)) in &bean.attributes {
            let attribute = snake(attribute);
            let (suffix, labels, value) = match (kind, value) {
                (Kind::Text, _) | (_, Value::Null) => continue,
                (Kind::Info, value) => {
                    let mut labels = labels.clone();
                    labels.push((attribute.clone(), plain(value)));
                    ("_info", labels, "1".to_owned())
                }
                (_, Value::Text(_)) => continue,
                (Kind::Gauge | Kind::Counter, value) => ("", labels.clone(), plain(value)),
            };
            let family = format!("{prefix}_{attribute}{suffix}");
            let line = format!("{family}{} {value}\n", braces(&labels));
            families.entry(family).or_insert_with(|| (*kind, Vec::new())).1.push(line);
        }
    }
    let mut out = String::new();
    for (family, (kind, lines)) in families {
        let kind = if kind == Kind::Counter { "counter" } else { "gauge" };
        let _infallible = writeln!(out, "# TYPE {family} {kind}");
        out.extend(lines);
    }
    out
}

/// `aesop.relay:type=Source` is `aesop_relay_source`, and `aesop.relay:type=Relay` is `aesop_relay`.
fn prefix(bean: &Snapshot) -> String {
    let domain = bean.name.domain().replace('.', "_");
    let kind = snake(bean.name.get("type").unwrap_or_default());
    if kind.is_empty() || domain.rsplit('_').next() == Some(kind.as_str()) {
        domain
    } else {
        format!("{domain}_{kind}")
    }
}

/// The key `name` is the label called as the bean's type.
fn labels(bean: &Snapshot) -> Vec<(String, String)> {
    let kind = snake(bean.name.get("type").unwrap_or("name"));
    let keys = bean.name.keys().filter(|(key, _)| *key != "type");
    keys.map(|(key, value)| (if key == "name" { kind.clone() } else { snake(key) }, value.to_owned()))
        .collect()
}

fn braces(labels: &[(String, String)]) -> String {
    if labels.is_empty() {
        return String::new();
    }
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    format!("{{{}}}", labels.join(","))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Bool(value) => u8::from(*value).to_string(),
        Value::Text(value) => value.clone(),
        Value::Null => String::new(),
    }
}

/// `TimeLagMs` is `time_lag_ms`.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    let mut after_lower = false;
    for c in name.chars() {
        if c.is_ascii_uppercase() && after_lower {
            out.push('_');
        }
        after_lower = c.is_ascii_lowercase() || c.is_ascii_digit();
        out.push(if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    }
    out
}
