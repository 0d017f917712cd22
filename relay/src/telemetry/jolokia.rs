//! A read-only endpoint that speaks Jolokia's protocol, so that what reads JVMs reads aesop too.
//!
//! As Jolokia does: HTTP 200 with a status in each answer; answers in the order of the requests; a pattern's value
//! is bean → attributes.

use super::name::Pattern;
use super::registry::{Registry, Snapshot, Value};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

/// Requests in one bulk; a probe asks for some dozen.
const MAX_BULK: usize = 1000;
/// The protocol version that Jolokia 2 speaks.
const PROTOCOL: &str = "8.0";

/// One request, from a POST body or from a path.
#[derive(Clone, Debug, Default, Deserialize)]
struct Request {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    mbean: Option<String>,
    #[serde(default)]
    attribute: Option<Json>,
}

/// When, and whether answers repeat their requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    pub(super) timestamp: i64,
    pub(super) include_request: bool,
}

/// Answers a POST: one request, or a list of them.
pub(super) fn post(registry: &Registry, body: &[u8], options: Options) -> Json {
    let parsed: Json = match serde_json::from_slice(body) {
        Ok(parsed) => parsed,
        Err(error) => {
            return failure(
                400,
                "java.lang.IllegalArgumentException",
                &format!("invalid JSON: {error}"),
                options,
            );
        }
    };
    match parsed {
        Json::Array(requests) if requests.len() > MAX_BULK => {
            let text = format!("more than {MAX_BULK} requests in one bulk");
            failure(400, "java.lang.IllegalArgumentException", &text, options)
        }
        Json::Array(requests) => {
            requests.into_iter().map(|request| answer_json(registry, request, options)).collect()
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Object(_) => {
            answer_json(registry, parsed, options)
        }
    }
}

/// Answers a GET; `path` is what follows `/jolokia/`, percent-decoded.
pub(super) fn get(registry: &Registry, path: &str, options: Options) -> Json {
    let parts = split_path(path);
    let mut parts = parts.iter().map(String::as_str);
    let kind = parts.next().unwrap_or_default();
    let kind = if kind.is_empty() { "version" } else { kind };
    let mbean = parts.next().map(str::to_owned);
    let attribute = parts.next().map(|names| match names.split_once(',') {
        Some(_) => names.split(',').map(Json::from).collect(),
        None => Json::from(names),
    });
    let request = json!({"type": kind, "mbean": mbean, "attribute": attribute});
    answer_json(registry, request, options)
}

fn answer_json(registry: &Registry, request: Json, options: Options) -> Json {
    let mut answer = match serde_json::from_value::<Request>(request.clone()) {
        Ok(request) => answer(registry, &request, options),
        Err(error) => {
            failure(400, "java.lang.IllegalArgumentException", &format!("invalid request: {error}"), options)
        }
    };
    if options.include_request
        && let Some(answer) = answer.as_object_mut()
    {
        let mut request = request;
        if let Some(fields) = request.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        answer.insert("request".to_owned(), request);
    }
    answer
}

fn answer(registry: &Registry, request: &Request, options: Options) -> Json {
    let value = match request.kind.to_ascii_lowercase().as_str() {
        "version" => json!({
            "agent": env!("CARGO_PKG_VERSION"),
            "protocol": PROTOCOL,
            "info": {"product": "aesop", "vendor": "aesop", "version": env!("CARGO_PKG_VERSION")},
        }),
        "search" => match request.mbean.as_deref().and_then(Pattern::parse) {
            Some(pattern) => {
                registry.names(&pattern).iter().map(|name| Json::from(name.to_string())).collect()
            }
            None => return malformed(request, options),
        },
        "read" => match request.mbean.as_deref().and_then(Pattern::parse) {
            Some(pattern) => match read(registry, &pattern, request) {
                Ok(value) => value,
                Err((class, text)) => return failure(404, class, &text, options),
            },
            None => return malformed(request, options),
        },
        other => {
            let text = format!("command {other:?} is not allowed here; read, search and version are");
            return failure(403, "java.lang.SecurityException", &text, options);
        }
    };
    json!({"value": value, "status": 200, "timestamp": options.timestamp})
}

fn read(registry: &Registry, pattern: &Pattern, request: &Request) -> Result<Json, (&'static str, String)> {
    let name = request.mbean.as_deref().unwrap_or_default();
    let beans = registry.read(Some(pattern));
    if beans.is_empty() {
        return Err(("javax.management.InstanceNotFoundException", name.to_owned()));
    }
    if pattern.is_pattern() {
        let values = beans.iter().map(|bean| (bean.name.to_string(), several(bean, &wanted(request))));
        return Ok(Json::Object(values.collect()));
    }
    let Some(bean) = beans.first() else { return Ok(Json::Null) };
    match &request.attribute {
        Some(Json::String(attribute)) => {
            let found = bean.attributes.get(attribute.as_str()).map(|(_, value)| plain(value));
            let text = || format!("no attribute {attribute} in {name}");
            found.ok_or_else(|| ("javax.management.AttributeNotFoundException", text()))
        }
        _ => Ok(several(bean, &wanted(request))),
    }
}

/// The attributes asked for; empty means all.
fn wanted(request: &Request) -> Vec<&str> {
    match &request.attribute {
        Some(Json::String(one)) => vec![one],
        Some(Json::Array(list)) => list.iter().filter_map(Json::as_str).collect(),
        _ => Vec::new(),
    }
}

fn several(bean: &Snapshot, wanted: &[&str]) -> Json {
    let chosen = bean.attributes.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name));
    Json::Object(chosen.map(|(name, (_, value))| ((*name).to_owned(), plain(value))).collect::<Map<_, _>>())
}

fn plain(value: &Value) -> Json {
    match value {
        Value::Int(value) => (*value).into(),
        Value::Uint(value) => (*value).into(),
        Value::Bool(value) => (*value).into(),
        Value::Text(value) => value.as_str().into(),
        Value::Null => Json::Null,
    }
}

fn malformed(request: &Request, options: Options) -> Json {
    let name = request.mbean.as_deref().unwrap_or_default();
    failure(400, "javax.management.MalformedObjectNameException", &format!("invalid name {name:?}"), options)
}

fn failure(status: u16, class: &str, text: &str, options: Options) -> Json {
    json!({"error_type": class, "error": format!("{class} : {text}"), "status": status, "timestamp": options.timestamp})
}

/// Splits at slashes; `!/` is a slash in a name and `!!` an exclamation mark.
fn split_path(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = path.trim_matches('/').chars();
    while let Some(c) = chars.next() {
        match c {
            '/' => parts.push(String::new()),
            '!' => {
                parts.last_mut().into_iter().for_each(|part| part.extend(chars.next()));
            }
            _ => parts.last_mut().into_iter().for_each(|part| part.push(c)),
        }
    }
    parts
}
