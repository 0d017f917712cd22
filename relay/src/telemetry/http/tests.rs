use super::*;
use crate::telemetry::{Kind, ObjectName, Value, bind};
use expect_test::expect;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn registry() -> (Registry, Vec<crate::telemetry::Bean>) {
    let registry = Registry::default();
    let source = registry.bean(ObjectName::new("aesop.relay", &[("type", "Source"), ("name", "shop")]));
    source.gauge("MaxScn").set(12_903_018_062);
    source.counter("RowsTotal").add(7);
    source.flag("Connected").set(true);
    source.text("State", Kind::Info).set("streaming");
    source.text("LastError", Kind::Text).set("a \"quoted\"\nerror");
    source.computed("MinScn", Kind::Gauge, || Value::Null);
    let relay = registry.bean(ObjectName::new("aesop.relay", &[("type", "Relay")]));
    relay.gauge("UptimeSeconds").set(3);
    (registry, vec![source, relay])
}

fn jolokia(body: &str) -> String {
    let (registry, _beans) = registry();
    let options = Options { timestamp: 0, include_request: false };
    serde_json::to_string_pretty(&crate::telemetry::jolokia::post(&registry, body.as_bytes(), options))
        .unwrap()
}

#[test]
fn metrics_are_prometheus_text() {
    let (registry, _beans) = registry();
    expect![[r#"
        # TYPE aesop_relay_source_connected gauge
        aesop_relay_source_connected{source="shop"} 1
        # TYPE aesop_relay_source_max_scn gauge
        aesop_relay_source_max_scn{source="shop"} 12903018062
        # TYPE aesop_relay_source_rows_total counter
        aesop_relay_source_rows_total{source="shop"} 7
        # TYPE aesop_relay_source_state_info gauge
        aesop_relay_source_state_info{source="shop",state="streaming"} 1
        # TYPE aesop_relay_uptime_seconds gauge
        aesop_relay_uptime_seconds 3
    "#]]
    .assert_eq(&prometheus::render(&registry));
}

#[test]
fn a_bulk_read_answers_each_by_index_and_a_missing_bean_is_a_404_of_its_own() {
    let got = jolokia(
        r#"[{"type":"read","mbean":"aesop.relay:type=Source,name=shop","attribute":["MaxScn","State"]},
            {"type":"read","mbean":"aesop.relay:type=Source,name=none","attribute":"MaxScn"},
            {"type":"read","mbean":"aesop.relay:type=Source,name=shop","attribute":"None"},
            {"type":"read","mbean":"aesop.relay:type=Source,*","attribute":"RowsTotal"},
            {"type":"exec","mbean":"aesop.relay:type=Relay","operation":"stop"},
            {"type":"search","mbean":"*:*"}]"#,
    );
    expect![[r#"
        [
          {
            "status": 200,
            "timestamp": 0,
            "value": {
              "MaxScn": 12903018062,
              "State": "streaming"
            }
          },
          {
            "error": "javax.management.InstanceNotFoundException : aesop.relay:type=Source,name=none",
            "error_type": "javax.management.InstanceNotFoundException",
            "status": 404,
            "timestamp": 0
          },
          {
            "error": "javax.management.AttributeNotFoundException : no attribute None in aesop.relay:type=Source,name=shop",
            "error_type": "javax.management.AttributeNotFoundException",
            "status": 404,
            "timestamp": 0
          },
          {
            "status": 200,
            "timestamp": 0,
            "value": {
              "aesop.relay:name=shop,type=Source": {
                "RowsTotal": 7
              }
            }
          },
          {
            "error": "java.lang.SecurityException : command \"exec\" is not allowed here; read, search and version are",
            "error_type": "java.lang.SecurityException",
            "status": 403,
            "timestamp": 0
          },
          {
            "status": 200,
            "timestamp": 0,
            "value": [
              "aesop.relay:name=shop,type=Source",
              "aesop.relay:type=Relay"
            ]
          }
        ]"#]]
    .assert_eq(&got);
}

async fn request(address: std::net::SocketAddr, text: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    socket.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_endpoint_serves_all_views_and_stops() {
    let (registry, _beans) = registry();
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (health, stop) = (Health::default(), CancellationToken::new());
    let server = tokio::spawn(serve(listener, registry, health.clone(), stop.clone()));
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    assert!(request(address, &get("/healthz/live")).await.starts_with("HTTP/1.1 200"));
    assert!(request(address, &get("/healthz/ready")).await.starts_with("HTTP/1.1 503"));
    health.stopped("no row binlog");
    let stopped = request(address, &get("/healthz/ready")).await;
    assert!(stopped.starts_with("HTTP/1.1 500") && stopped.contains("stopped: no row binlog"), "{stopped}");
    health.ready();
    assert!(request(address, &get("/healthz/ready")).await.starts_with("HTTP/1.1 200"));
    let read = request(address, &get("/jolokia/read/aesop.relay:type=Source,name=shop/RowsTotal")).await;
    assert!(read.contains(r#""value":7"#), "{read}");
    assert!(read.contains(r#""attribute":"RowsTotal""#), "{read}");
    let version = request(address, &get("/jolokia")).await;
    assert!(version.contains(r#""product":"aesop""#), "{version}");
    let body = r#"{"type":"read","mbean":"aesop.relay:type=Relay"}"#;
    let post = format!(
        "POST /jolokia/?includeRequest=false HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let post = request(address, &post).await;
    assert!(post.contains(r#""value":{"UptimeSeconds":3}"#), "{post}");
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = bind(&address).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("http_listen {address}: ")), "{error}");
}
