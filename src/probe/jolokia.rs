//! Jolokia's bulk read: one POST with named beans only, answers matched to requests by index.
//!
//! HTTP is 200 even when a read fails; each answer carries a status of its own. 404 means that the bean does not
//! exist in this process (a broker has no controller beans): not applicable, no error.

use super::ProbeError;
use crate::secret::Secret;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Most bytes read of an answer: 10 thousand partitions of a consumer take less than half of it.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// What to read of one bean, or of every bean that a pattern names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Object name, `*` allowed in values.
    pub mbean: &'static str,
    /// Attributes; none: all.
    pub attributes: &'static [&'static str],
}

/// A bean that answered: its properties and its attributes.
#[derive(Clone, Debug, PartialEq)]
pub struct Bean {
    /// Domain and properties: `java.lang:name=G1 Old Gen,type=MemoryPool`, in whichever order Java likes.
    pub name: String,
    /// Attribute to value.
    pub attributes: serde_json::Map<String, Value>,
}

impl Bean {
    /// A property of the name: `type`.
    pub fn property(&self, key: &str) -> Option<&str> {
        self.properties().find_map(|(k, v)| (k == key).then_some(v))
    }

    /// All properties of the name.
    pub fn properties(&self) -> impl Iterator<Item = (&str, &str)> {
        let properties = self.name.split_once(':').map_or("", |(_, properties)| properties);
        properties.split(',').filter_map(|pair| pair.split_once('='))
    }

    /// A numeric attribute; `path` goes into a composite one: `HeapMemoryUsage`, `used`.
    pub fn number(&self, attribute: &str, path: Option<&str>) -> Option<f64> {
        let value = self.attributes.get(attribute)?;
        match path {
            Some(path) => value.get(path)?.as_f64(),
            None => value.as_f64(),
        }
    }
}

/// An HTTP client for loopback: no proxy, no TLS roots of the machine.
pub fn client() -> Result<reqwest::Client, ProbeError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |error: &dyn std::fmt::Display| ProbeError::Unreachable(error.to_string());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(&error))?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .timeout(super::PROBE_DEADLINE)
        .build()
        .map_err(|error| failed(&error))
}

/// Reads beans from `url`. The password is read at each call, so that a new one needs no restart.
pub async fn read(
    client: &reqwest::Client,
    url: &str,
    login: Option<(&str, &Path)>,
    reads: &[Read],
) -> Result<Vec<Vec<Bean>>, ProbeError> {
    let mut request = client.post(format!("{url}?ignoreErrors=true&includeRequest=false"));
    if let Some((user, password_file)) = login {
        request = request.basic_auth(user, Some(read_secret(password_file).await?.expose()));
    }
    let unreachable =
        |error: reqwest::Error| ProbeError::Unreachable(format!("{url}: {}", root_cause(&error)));
    let mut answer = request.json(&bulk(reads)).send().await.map_err(unreachable)?;
    match answer.status().as_u16() {
        200 => {}
        401 | 403 => {
            return Err(ProbeError::Unreachable(format!("{url}: user or password refused")));
        }
        status => return Err(ProbeError::Unreachable(format!("{url}: HTTP status {status}"))),
    }
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(unreachable)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            return Err(ProbeError::Malformed(format!("{url}: more than {ANSWER_BYTES_MAX} bytes")));
        }
    }
    parse(&body, reads).map_err(|reason| ProbeError::Malformed(format!("{url}: {reason}")))
}

/// The last cause says what happened; reqwest's own text repeats the address.
pub(crate) fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

async fn read_secret(path: &Path) -> Result<Secret, ProbeError> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| ProbeError::Unreachable(format!("cannot read {}: {error}", path.display())))?;
    Ok(Secret::new(text.trim_end_matches('\n')))
}

fn bulk(reads: &[Read]) -> Value {
    reads
        .iter()
        .map(|read| match read.attributes {
            [] => json!({"type": "read", "mbean": read.mbean}),
            attributes => json!({"type": "read", "mbean": read.mbean, "attribute": attributes}),
        })
        .collect()
}

/// One list of beans for each read, empty where nothing by that name exists.
fn parse(body: &[u8], reads: &[Read]) -> Result<Vec<Vec<Bean>>, String> {
    let answers: Vec<Value> = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    if answers.len() != reads.len() {
        return Err(format!("{} answers to {} reads", answers.len(), reads.len()));
    }
    // A read that Jolokia refuses must not cost the others (and the reads are fixed, so it is refused every time).
    Ok(answers.into_iter().zip(reads).map(|(answer, read)| beans(answer, read)).collect())
}

fn beans(mut answer: Value, read: &Read) -> Vec<Bean> {
    if answer.get("status").and_then(Value::as_u64) != Some(200) {
        return Vec::new();
    }
    let Some(Value::Object(value)) = answer.get_mut("value").map(Value::take) else { return Vec::new() };
    if !read.mbean.contains('*') {
        return vec![Bean { name: read.mbean.to_owned(), attributes: value }];
    }
    value
        .into_iter()
        .filter_map(|(name, attributes)| {
            let Value::Object(attributes) = attributes else { return None };
            Some(Bean { name, attributes })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const READS: &[Read] = &[
        Read { mbean: "java.lang:type=Memory", attributes: &["HeapMemoryUsage"] },
        Read { mbean: "java.lang:type=GarbageCollector,*", attributes: &["CollectionTime"] },
        Read { mbean: "kafka.controller:type=KafkaController,name=Absent", attributes: &["Value"] },
    ];
    const ANSWER: &str = r#"[
        {"value":{"HeapMemoryUsage":{"used":10,"max":40}},"status":200,"timestamp":1},
        {"value":{"java.lang:name=G1 Young Generation,type=GarbageCollector":{"CollectionTime":44}},"status":200},
        {"error_type":"javax.management.InstanceNotFoundException",".error":true,"error":"x","status":404}]"#;

    #[test]
    fn answers_are_matched_by_index_and_a_missing_bean_is_not_an_error() {
        let beans = parse(ANSWER.as_bytes(), READS).unwrap();
        assert_eq!(beans[0][0].number("HeapMemoryUsage", Some("used")), Some(10.0));
        assert_eq!(beans[1][0].property("name"), Some("G1 Young Generation"));
        assert_eq!(beans[1][0].number("CollectionTime", None), Some(44.0));
        assert!(beans[2].is_empty());
    }

    #[test]
    fn a_short_answer_is_refused() {
        let error = parse(b"[]", READS).unwrap_err();
        assert_eq!(error, "0 answers to 3 reads");
    }

    async fn serve(router: axum::Router) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jolokia/", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        url
    }

    #[tokio::test]
    async fn posts_with_the_password_of_the_file() {
        let seen = axum::routing::post(|headers: axum::http::HeaderMap, body: String| async move {
            assert_eq!(headers["authorization"], "Basic YWVzb3A6c2VjcmV0");
            assert!(
                body.starts_with(r#"[{"attribute":["HeapMemoryUsage"],"mbean":"java.lang:type=Memory","#),
                "{body}"
            );
            ANSWER
        });
        let url = serve(axum::Router::new().route("/jolokia/", seen)).await;
        let password = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(password.path(), "secret\n").unwrap();
        let beans = read(&client().unwrap(), &url, Some(("aesop", password.path())), READS).await.unwrap();
        assert_eq!(beans.len(), 3);
    }

    #[tokio::test]
    async fn a_refused_password_and_a_closed_port_say_so() {
        let refuse = axum::routing::post(|| async { axum::http::StatusCode::UNAUTHORIZED });
        let url = serve(axum::Router::new().route("/jolokia/", refuse)).await;
        let error = read(&client().unwrap(), &url, None, READS).await.unwrap_err();
        assert!(error.to_string().ends_with("user or password refused"), "{error}");
        let error = read(&client().unwrap(), "http://127.0.0.1:1/", None, READS).await.unwrap_err();
        assert!(error.to_string().contains("Connection refused"), "{error}");
    }
}
