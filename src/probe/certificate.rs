//! How long the certificate is good that a listener shows. It is asked of the listener and not read from a file: what
//! counts is what a running service goes by.

use super::{Probe, ProbeError, Sample};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Shakes hands with one listener.
#[derive(Debug)]
pub struct CertificateProbe {
    /// `kafka`.
    pub service: String,
    /// `10.0.0.11:9092`.
    pub address: String,
}

impl Probe for CertificateProbe {
    fn name(&self) -> &'static str {
        "certificate"
    }

    fn service(&self) -> Option<&str> {
        Some(&self.service)
    }

    fn probe(&self, now: Timestamp) -> BoxFuture<'_, Result<Vec<Sample>, ProbeError>> {
        Box::pin(async move {
            let until = self.until().await.map_err(ProbeError::Unreachable)?;
            let left = until.duration_since(now).as_secs_f64();
            let verb = if left > 0.0 { "ends" } else { "ended" };
            let day = until.to_zoned(jiff::tz::TimeZone::UTC).date();
            let sample = Sample::new("certificate_seconds_left", left, now);
            Ok(vec![sample.label("service", &self.service).note(format!("{verb} on {day}"))])
        })
    }
}

impl CertificateProbe {
    async fn until(&self) -> Result<Timestamp, String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", self.address);
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|error| said(&error))?;
        let stream = TcpStream::connect(&self.address).await.map_err(|error| said(&error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| said(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone(provider)))
            .with_no_client_auth();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| said(&error))?;
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.ok_or_else(|| said(&"it shows no certificate"))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(shown).map_err(|error| said(&error))?;
        Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|error| said(&error))
    }
}

/// Takes any certificate, one that has ended too: nothing is sent here, the certificate is what is asked for.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::PrivateKeyDer;
    use tokio_rustls::TlsAcceptor;

    async fn left(ended: bool) -> Sample {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1969, 1, 1);
        params.not_after =
            if ended { rcgen::date_time_ymd(1969, 12, 31) } else { rcgen::date_time_ymd(1970, 1, 11) };
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            TlsAcceptor::from(Arc::new(config)).accept(stream).await
        });
        let probe = CertificateProbe { service: "kafka".to_owned(), address };
        probe.probe(Timestamp::UNIX_EPOCH).await.unwrap().remove(0)
    }

    #[tokio::test]
    async fn what_is_left_is_read_also_when_nothing_is() {
        let (good, bad) = (left(false).await, left(true).await);
        assert_eq!((good.value, good.note.as_deref()), (864_000.0, Some("ends on 1970-01-11")));
        assert_eq!((bad.value, bad.note.as_deref()), (-86_400.0, Some("ended on 1969-12-31")));
    }
}
