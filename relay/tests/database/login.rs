//! TLS in its five modes, and the ways to log in.

use crate::server::{Authority, Kind, Server};
use crate::tail;

/// Logs in, reads nothing; the program's words when that fails.
fn login(server: &Server, user: &str, host: &str, tls: &str) -> Result<(), String> {
    let url = format!("mysql://{user}:pass@{host}:{}/?tls={tls}", server.port);
    tail::try_lines(&url, &["--from", "latest", "--tables", "nothing.*"]).map(drop)
}

pub(crate) async fn works_in_every_mode(server: &Server) {
    let plugin = match server.kind {
        Kind::MySql => "WITH caching_sha2_password BY 'pass'",
        Kind::MariaDb => "VIA mysql_native_password USING PASSWORD('pass')",
    };
    let rights = match server.kind {
        Kind::MySql => "REPLICATION SLAVE, REPLICATION CLIENT",
        Kind::MariaDb => "REPLICATION SLAVE, BINLOG MONITOR",
    };
    for (user, require) in [("plain", ""), ("secure", "REQUIRE SSL")] {
        server
            .run(&[
                &format!("DROP USER IF EXISTS {user}"),
                &format!("CREATE USER {user} IDENTIFIED {plugin} {require}"),
                &format!("GRANT {rights} ON *.* TO {user}"),
            ])
            .await;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, pem: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, pem).unwrap();
        path.display().to_string()
    };
    let ours = file("ours.pem", &server.authority);
    let other = file("other.pem", &Authority::new().pem);
    let text = file("text.pem", "no certificate");

    // Each mode, with the full exchange (the server has forgotten the password) and with the short one.
    for tls in ["disabled", "preferred", "required"] {
        server.run(&["FLUSH PRIVILEGES"]).await;
        for _ in 0..2 {
            login(server, "plain", "127.0.0.1", tls).unwrap_or_else(|error| panic!("{tls}: {error}"));
        }
    }
    for tls in ["verify_ca", "verify_identity"] {
        login(server, "secure", "127.0.0.1", &format!("{tls}&ca={ours}"))
            .unwrap_or_else(|e| panic!("{tls}: {e}"));
    }
    // A user who must use TLS shows that it is used.
    login(server, "secure", "127.0.0.1", "preferred").unwrap();
    login(server, "secure", "127.0.0.1", "required").unwrap();
    // The name counts for verify_identity alone.
    login(server, "secure", "localhost", &format!("verify_ca&ca={ours}")).unwrap();

    let refused = [
        ("disabled".to_owned(), "127.0.0.1", "Access denied"),
        (format!("verify_identity&ca={ours}"), "localhost", "TLS: "),
        (format!("verify_ca&ca={other}"), "127.0.0.1", "TLS: "),
        (format!("verify_identity&ca={other}"), "127.0.0.1", "TLS: "),
        ("verify_ca".to_owned(), "127.0.0.1", ""),
        (format!("verify_ca&ca={text}"), "127.0.0.1", "no certificate in PEM form"),
        ("verify_ca&ca=/nowhere".to_owned(), "127.0.0.1", "the ca file /nowhere"),
    ];
    for (tls, host, words) in refused {
        let error = login(server, "secure", host, &tls).expect_err(&tls);
        assert!(error.contains(words), "{tls}: {error}");
    }
    let wrong = format!("mysql://plain:wrong@127.0.0.1:{}/?tls=required", server.port);
    let error = tail::try_lines(&wrong, &["--from", "latest"]).unwrap_err();
    assert!(error.contains("refuses the connection") && !error.contains("wrong"), "{error}");
}
