//! TLS towards brokers, from a host that carries one: aesop shows the certificate of that host's broker.

use crate::service::paths;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Before the address of a listener that wants a certificate.
pub(super) const SCHEME: &str = "ssl://";

/// The handshake on a connection that is open. Errors are words.
pub(super) async fn handshake(address: &str, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("{host}: {error}"))?;
    let config = config(Path::new(paths::KAFKA_KEYS), Path::new(paths::KAFKA_TRUSTED))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| format!("TLS: {error}"))
}

fn config(keys: &Path, trusted: &Path) -> Result<rustls::ClientConfig, String> {
    let of = |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let certificates = |path: &Path| {
        let list = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        list.map_err(|error| of(path, &error))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(trusted)? {
        roots.add(certificate).map_err(|error| of(trusted, &error))?;
    }
    let key = PrivateKeyDer::from_pem_file(keys).map_err(|error| of(keys, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(keys)?, key)
        .map_err(|error| of(keys, &error))
}
