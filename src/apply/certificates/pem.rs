//! Reading certificates: just what renewing needs to know.

use jiff::Timestamp;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// All certificates of a PEM text, in order.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let list = list.map_err(|error| error.to_string())?;
    if list.is_empty() { Err("there is no certificate in it".to_owned()) } else { Ok(list) }
}

/// The private key in a PEM text.
pub(super) fn private_key(text: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| "there is no private key in it".to_owned())
}

/// When a certificate ends.
pub(super) fn ends(certificate: &CertificateDer<'_>) -> Result<Timestamp, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    Timestamp::from_second(parsed.validity().not_after.timestamp()).map_err(|error| error.to_string())
}

/// Whether one of `authorities` has signed it.
pub(super) fn is_signed_by(certificate: &CertificateDer<'_>, authorities: &[CertificateDer<'_>]) -> bool {
    let Ok((_, leaf)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    authorities.iter().any(|authority| {
        x509_parser::parse_x509_certificate(authority)
            .is_ok_and(|(_, authority)| leaf.verify_signature(Some(authority.public_key())).is_ok())
    })
}

/// The day in UTC, for people.
pub(super) fn day(at: Timestamp) -> String {
    at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string()
}
