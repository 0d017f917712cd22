use super::*;

/// An authority and a certificate for 127.0.0.1 signed by it, as `apply` makes them.
fn certificates(dir: &Path) -> (PathBuf, PathBuf, PathBuf) {
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let put = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    (put("ca.pem", ca.pem()), put("cert.pem", leaf.pem()), put("key.pem", key.serialize_pem()))
}

#[tokio::test]
async fn serves_over_tls_to_callers_with_the_token() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, certificate, private_key) = certificates(dir.path());
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, "open sesame\n").unwrap();
    // A free port: bound and given up again.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listen = format!("127.0.0.1:{port}");
    let yaml = format!(
        "cluster: shop\nhost: k1\nlisten: {listen}\ncertificate: {}\nprivate_key: {}\ntoken_file: {}\npaths: [/]\n",
        certificate.display(),
        private_key.display(),
        token_file.display()
    );
    let config_path = dir.path().join("agent.yml");
    std::fs::write(&config_path, yaml).unwrap();
    let config = load_config(&config_path).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(run(config, async { stopped.await.unwrap_or(()) }));

    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls::client(&ca).unwrap())
        .no_proxy()
        .build()
        .unwrap();
    let get =
        |path: &str, token: &str| client.get(format!("https://{listen}{path}")).bearer_auth(token).send();
    while get("/healthz", "").await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(get("/probe", "open sesam").await.unwrap().status(), 401);
    assert_eq!(client.get(format!("https://{listen}/metrics")).send().await.unwrap().status(), 401);
    let answer: ProbeAnswer = get("/probe", "open sesame").await.unwrap().json().await.unwrap();
    assert_eq!((answer.cluster.as_str(), answer.host.as_str()), ("shop", "k1"));
    assert!(answer.samples.iter().any(|s| s.name == "disk_free_bytes" && s.labels["path"] == "/"));
    let text = get("/metrics", "open sesame").await.unwrap().text().await.unwrap();
    assert!(text.contains("aesop_probe_up{probe=\"host\"} 1"), "{text}");

    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}

#[test]
fn a_wrong_key_in_agent_yml_names_the_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.yml");
    std::fs::write(&path, "cluster: shop\nhosts: k1\n").unwrap();
    let error = load_config(&path).unwrap_err().to_string();
    assert!(error.contains("unknown field `hosts`") && error.contains("line 2"), "{error}");
}

#[test]
fn a_missing_key_is_named() {
    let error = tls::server(Path::new("/does/not/exist.pem"), Path::new("/x")).unwrap_err();
    assert!(error.to_string().starts_with("/does/not/exist.pem: "), "{error}");
}
