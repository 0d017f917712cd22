//! A client of Kafka's, as strangers and users are.

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::time::Duration;

/// librdkafka's settings, by name.
pub(crate) type Settings = Vec<(String, String)>;

/// Who is let in has an answer in milliseconds; who is not tries again for as long as it is given.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Those of the user `reader`, who trusts this authority.
pub(crate) fn reader(authority: &str, password: &str) -> Settings {
    [
        ("security.protocol", "sasl_ssl"),
        ("ssl.ca.location", authority),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "reader"),
        ("sasl.password", password),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Whether somebody with these settings learns which brokers there are.
pub(crate) fn is_let_in(bootstrap: &str, settings: &[(String, String)]) -> bool {
    let mut config: ClientConfig = settings.iter().cloned().collect();
    let client: BaseConsumer = config.set("bootstrap.servers", bootstrap).create().expect("a client");
    client.fetch_metadata(None, ANSWER_WITHIN).is_ok_and(|metadata| !metadata.brokers().is_empty())
}

/// Plain, without a password, with a wrong one, and not trusting the authority: none is let in.
pub(crate) fn strangers_stay_out(bootstrap: &str, authority: &str) {
    let guessed = reader(authority, "guessed");
    let only_tls = [("security.protocol", "ssl"), ("ssl.ca.location", authority)];
    let only_tls = only_tls.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let untrusting = guessed.iter().filter(|(name, _)| name != "ssl.ca.location").cloned().collect();
    let strangers: [(&str, Settings); 4] = [
        ("plain", Vec::new()),
        ("no password", only_tls),
        ("no authority", untrusting),
        ("another password", guessed.clone()),
    ];
    for (who, settings) in strangers {
        assert!(!is_let_in(bootstrap, &settings), "{who}");
    }
}

/// Somebody who reaches ZooKeeper may neither read nor make Kafka's users, nor change what else is Kafka's.
pub(crate) fn zookeeper_gives_strangers_nothing(servers: &str) {
    use zookeeper::{Acls, Client, CreateMode, Error};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = Client::connect(servers).await.expect("ZooKeeper answers");
        let reader = "/kafka/config/users/reader";
        let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
        let made = client.create("/kafka/config/users/mallory", b"{}", &open).await.map(drop);
        let deleted = client.delete("/kafka/brokers/ids/1", None).await;
        let changed = client.set_data("/kafka/config/topics", b"", None).await.map(drop);
        let read = client.get_data(reader).await.map(drop);
        let written = client.set_data(reader, b"{}", None).await.map(drop);
        for (what, answer) in [
            ("a user is made", made),
            ("a broker is deleted", deleted),
            ("settings are changed", changed),
            ("a user is read", read),
            ("a user is written", written),
        ] {
            assert!(matches!(answer, Err(Error::NoAuth)), "{what}: {answer:?}");
        }
    });
}
