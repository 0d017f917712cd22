//! A small certificate authority for the agents, kept beside the inventory with the other generated secrets; that of
//! Kafka is [`kafka`]'s.

mod kafka;
mod pem;

pub(super) use kafka::for_brokers;

use crate::secret::Secret;
use crate::service::Certificates;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Certificates outlive the hosts they are for: the monitor trusts this authority alone.
const VALID_YEARS: i32 = 30;
/// Fixed, so that no clock is needed here: a host whose clock is behind must still trust it.
const FIRST_YEAR: i32 = 2020;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What is in it.
    #[error("{} is no key or certificate ({message}); restore it, or remove the folder to start with a new authority", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        message: String,
    },
    /// A certificate of Kafka's that cannot be used or made.
    #[error("{}: {problem}; {remedy}", path.display())]
    Kafka {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
}

/// Reads the authority and the certificates of all hosts, and makes those that are not there yet. `hosts` are
/// names with addresses; a host whose address changed gets a new certificate.
pub fn load_or_make(
    folder: &Path,
    cluster: &str,
    hosts: &BTreeMap<String, String>,
) -> Result<Certificates, CertificateError> {
    let folder = folder.join("tls");
    let (certificate_path, key_path) = (folder.join("ca.crt"), folder.join("ca.key"));
    let content = |path: &Path| {
        let path = path.to_owned();
        move |error: rcgen::Error| CertificateError::Content { path, message: error.to_string() }
    };
    let (authority, key) =
        if let (Some(certificate), Some(key)) = (read(&certificate_path)?, read(&key_path)?) {
            (certificate, KeyPair::from_pem(&key).map_err(content(&key_path))?)
        } else {
            let key = KeyPair::generate().map_err(content(&key_path))?;
            let params = authority_params(cluster).map_err(content(&certificate_path))?;
            let certificate = params.self_signed(&key).map_err(content(&certificate_path))?.pem();
            write(&key_path, &key.serialize_pem())?;
            write(&certificate_path, &certificate)?;
            (certificate, key)
        };
    // The same parameters as its certificate was made with; only the name and the key end up in what it signs.
    let issuer_params = authority_params(cluster).map_err(content(&certificate_path))?;
    let issuer = Issuer::from_params(&issuer_params, &key);
    let mut certificates = Certificates { authority: authority.clone(), ..Certificates::default() };
    for (host, address) in hosts {
        let stem = format!("{host}_{}", address.replace(':', "-"));
        let (certificate_path, key_path) =
            (folder.join(format!("{stem}.crt")), folder.join(format!("{stem}.key")));
        let pair = if let (Some(certificate), Some(key)) = (read(&certificate_path)?, read(&key_path)?) {
            (certificate, key)
        } else {
            let key = KeyPair::generate().map_err(content(&key_path))?;
            let mut names = vec![address.clone()];
            // A host's name is valid as a DNS name or it is its address.
            if host.parse::<IpAddr>().is_err() && host != address {
                names.push(host.clone());
            }
            let params = params(host, names).map_err(content(&certificate_path))?;
            let certificate = params.signed_by(&key, &issuer).map_err(content(&certificate_path))?.pem();
            let key = key.serialize_pem();
            write(&key_path, &key)?;
            write(&certificate_path, &certificate)?;
            (certificate, key)
        };
        certificates.hosts.insert(host.clone(), (pair.0, Secret::new(pair.1)));
    }
    Ok(certificates)
}

fn authority_params(cluster: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(cluster, Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn params(name: &str, names: Vec<String>) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = rcgen::date_time_ymd(FIRST_YEAR, 1, 1);
    params.not_after = rcgen::date_time_ymd(FIRST_YEAR + VALID_YEARS, 1, 1);
    Ok(params)
}

fn read(path: &Path) -> Result<Option<String>, CertificateError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CertificateError::File { path: path.to_owned(), source }),
    }
}

fn write(path: &Path, text: &str) -> Result<(), CertificateError> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = path.parent().unwrap_or(Path::new("."));
    let save = || {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // Temporary files are made with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error).map(drop)
    };
    save().map_err(|source| CertificateError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = BTreeMap::from([("k1".to_owned(), "10.0.0.1".to_owned())]);
        let first = load_or_make(folder.path(), "shop", &hosts).unwrap();
        let second = load_or_make(folder.path(), "shop", &hosts).unwrap();
        assert_eq!(first.authority, second.authority);
        assert_eq!(first.hosts["k1"].0, second.hosts["k1"].0);
        let moved = BTreeMap::from([("k1".to_owned(), "10.0.0.9".to_owned())]);
        let third = load_or_make(folder.path(), "shop", &moved).unwrap();
        assert_eq!(first.authority, third.authority);
        assert_ne!(first.hosts["k1"].0, third.hosts["k1"].0);
    }
}
