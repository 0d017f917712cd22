//! Kafka's certificates: made by an authority of aesop's own, by the user's, or all of them the user's; renewed by
//! the apply that finds their end near.

use super::pem::{certificates, day, ends, is_signed_by, private_key};
use super::{CertificateError, params, read, write};
use crate::inventory::model::{KafkaAuthority, KafkaTls};
use crate::secret::Secret;
use crate::service::BrokerCertificates;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A host whose clock is behind must trust a fresh certificate.
const BACKDATED: Duration = Duration::from_hours(24);

/// Reads what is there and makes what is missing, near its end or no longer trusted. `folder` is that of the
/// inventory's generated secrets, `hosts` the nodes by name with their addresses.
pub(in crate::apply) fn for_brokers(
    folder: &Path,
    cluster: &str,
    tls: &KafkaTls,
    hosts: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<BrokerCertificates, CertificateError> {
    let folder = folder.join("kafka-tls");
    let authority = match &tls.authority {
        KafkaAuthority::Own => Authority::own(&folder, cluster)?,
        KafkaAuthority::Signs { certificate, path, key } => Authority {
            trusted: certificate.clone(),
            signer: certificate.clone(),
            signer_path: path.clone(),
            key_path: key.clone(),
            ours: false,
        },
        KafkaAuthority::Given { trusted, path, folder } => {
            return given(trusted, path, folder, tls, hosts, now);
        }
    };
    let mut made = BrokerCertificates { trusted: authority.trusted.clone(), ..BrokerCertificates::default() };
    for (host, address) in hosts {
        let path = folder.join(format!("{host}_{}.pem", address.replace(':', "-")));
        let node = Node { host, address, path: &path, tls, now };
        let (text, note) = node.current_or_new(&authority)?;
        made.nodes.insert(host.clone(), Secret::new(text));
        made.notes.extend(note);
    }
    Ok(made)
}

/// Who signs.
struct Authority {
    /// All that are trusted: one that is on its way out stays among them.
    trusted: String,
    signer: String,
    signer_path: PathBuf,
    key_path: PathBuf,
    ours: bool,
}

impl Authority {
    fn own(folder: &Path, cluster: &str) -> Result<Self, CertificateError> {
        let (signer_path, key_path) = (folder.join("ca.crt"), folder.join("ca.key"));
        let signer = match (read(&signer_path)?, key_path.exists()) {
            // The key may lie elsewhere: it is only needed to sign.
            (Some(signer), _) => signer,
            (None, true) => {
                return Err(CertificateError::Kafka {
                    path: signer_path,
                    problem: "it is missing beside its key".to_owned(),
                    remedy: "restore it, or move the key away to start with a new authority".to_owned(),
                });
            }
            (None, false) => {
                let failed = |error: rcgen::Error| content(&signer_path, &error.to_string());
                let key = KeyPair::generate().map_err(failed)?;
                let mut params = params(&format!("Kafka of {cluster}"), Vec::new()).map_err(failed)?;
                params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
                let certificate = params.self_signed(&key).map_err(failed)?.pem();
                write(&key_path, &key.serialize_pem())?;
                write(&signer_path, &certificate)?;
                certificate
            }
        };
        let mut trusted = signer.clone();
        for path in others(folder)? {
            trusted.push_str(&read(&path)?.unwrap_or_default());
        }
        Ok(Self { trusted, signer, signer_path, key_path, ours: true })
    }

    /// When it ends itself.
    fn ends(&self) -> Result<Timestamp, CertificateError> {
        let list = certificates(&self.signer).map_err(|error| content(&self.signer_path, &error))?;
        let first = list.first().map(ends).transpose();
        Ok(first.map_err(|error| content(&self.signer_path, &error))?.unwrap_or(Timestamp::MAX))
    }

    fn key(&self, host: &str) -> Result<KeyPair, CertificateError> {
        let failed = |problem: String| CertificateError::Kafka {
            path: self.key_path.clone(),
            problem,
            remedy: if self.ours {
                "restore the key, or start with a new authority (docs/operations.md, \"Kafka's certificates\")"
                    .to_owned()
            } else {
                "say the right file under `kafka.tls.ca_key`".to_owned()
            },
        };
        private(&self.key_path)?;
        let text = read(&self.key_path)?
            .ok_or_else(|| failed(format!("it is not there, and {host} needs a certificate")))?;
        KeyPair::from_pem(&text).map_err(|error| failed(format!("it is no private key ({error})")))
    }
}

/// Certificates of former authorities, which are still trusted.
fn others(folder: &Path) -> Result<Vec<PathBuf>, CertificateError> {
    let failed = |source| CertificateError::File { path: folder.to_owned(), source };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let certificate = path.extension().is_some_and(|extension| extension == "crt");
        if certificate && path.file_name().is_some_and(|name| name != "ca.crt") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A node that needs a certificate.
struct Node<'a> {
    host: &'a str,
    address: &'a str,
    path: &'a Path,
    tls: &'a KafkaTls,
    now: Timestamp,
}

impl Node<'_> {
    fn current_or_new(&self, authority: &Authority) -> Result<(String, Option<String>), CertificateError> {
        let Some(text) = read(self.path)? else { return Ok((self.make(authority)?, None)) };
        let list = certificates(&text).map_err(|error| content(self.path, &error))?;
        let Some(leaf) = list.first() else { return Ok((self.make(authority)?, None)) };
        let trusted =
            certificates(&authority.trusted).map_err(|error| content(&authority.signer_path, &error))?;
        let until = ends(leaf).map_err(|error| content(self.path, &error))?;
        if !is_signed_by(leaf, &trusted) {
            let note = format!(
                "{}: the certificate of its broker is of an authority that is not trusted any more; it gets another",
                self.host
            );
            return Ok((self.make(authority)?, Some(note)));
        }
        // An authority that ends itself gives no more than it has.
        if near(until, self.tls.renew, self.now) && self.until(authority)? > until {
            let note =
                format!("{}: the certificate of its broker ends on {} and is renewed", self.host, day(until));
            return Ok((self.make(authority)?, Some(note)));
        }
        Ok((text, None))
    }

    /// The end of one made now.
    fn until(&self, authority: &Authority) -> Result<Timestamp, CertificateError> {
        let wished = self.now.saturating_add(self.tls.valid).unwrap_or(Timestamp::MAX);
        Ok(wished.min(authority.ends()?))
    }

    fn make(&self, authority: &Authority) -> Result<String, CertificateError> {
        let signer_key = authority.key(self.host)?;
        let unfit = |error: rcgen::Error| CertificateError::Kafka {
            path: authority.signer_path.clone(),
            problem: format!("no certificate can be made with it ({error})"),
            remedy: "it wants the certificate of an authority and its key".to_owned(),
        };
        let issuer = Issuer::from_ca_cert_pem(&authority.signer, signer_key).map_err(unfit)?;
        let mut names = vec![self.address.to_owned()];
        if self.host.parse::<IpAddr>().is_err() && self.host != self.address {
            names.push(self.host.to_owned());
        }
        let mut params = params(self.host, names).map_err(unfit)?;
        self.usage(&mut params, self.until(authority)?);
        let key = KeyPair::generate().map_err(unfit)?;
        let certificate = params.signed_by(&key, &issuer).map_err(unfit)?.pem();
        let chain = if authority.ours { "" } else { authority.signer.as_str() };
        // One file, so that key and certificate change together.
        let text = format!("{}{certificate}{chain}", key.serialize_pem());
        write(self.path, &text)?;
        Ok(text)
    }

    fn usage(&self, params: &mut CertificateParams, until: Timestamp) {
        let at = |at: Timestamp| {
            let seconds = u64::try_from(at.as_second()).unwrap_or_default();
            rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds)
        };
        params.not_before = at(self.now.saturating_sub(BACKDATED).unwrap_or(Timestamp::UNIX_EPOCH));
        params.not_after = at(until);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Brokers are each other's clients.
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    }
}

fn near(until: Timestamp, renew: Duration, now: Timestamp) -> bool {
    now.saturating_add(renew).is_ok_and(|limit| until < limit)
}

/// The user's own certificates: read, proven, never written.
fn given(
    trusted: &str,
    trusted_path: &Path,
    folder: &Path,
    tls: &KafkaTls,
    hosts: &BTreeMap<String, String>,
    now: Timestamp,
) -> Result<BrokerCertificates, CertificateError> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(trusted).map_err(|error| content(trusted_path, &error))? {
        roots.add(certificate).map_err(|error| content(trusted_path, &error.to_string()))?;
    }
    let roots = Arc::new(roots);
    let mut found = BrokerCertificates { trusted: trusted.to_owned(), ..BrokerCertificates::default() };
    for (host, address) in hosts {
        let path = folder.join(format!("{host}.pem"));
        let unfit = |problem: String, remedy: &str| CertificateError::Kafka {
            path: path.clone(),
            problem,
            remedy: remedy.to_owned(),
        };
        let wants = "it holds the private key and the certificate chain of this host, the host's own first";
        private(&path)?;
        let text = read(&path)?.ok_or_else(|| unfit("it is not there".to_owned(), wants))?;
        let chain = certificates(&text).map_err(|error| unfit(error, wants))?;
        let key = private_key(&text).map_err(|error| unfit(error, wants))?;
        if !text.contains("-----BEGIN PRIVATE KEY-----") {
            let convert = "convert it with `openssl pkcs8 -topk8 -nocrypt`";
            return Err(unfit("its key is not PKCS#8, which Kafka reads".to_owned(), convert));
        }
        let provider = rustls::crypto::ring::default_provider();
        rustls::sign::CertifiedKey::from_der(chain.clone(), key, &provider)
            .map_err(|error| unfit(format!("key and certificate do not fit ({error})"), wants))?;
        proven(&chain, &roots, address, now).map_err(|error| {
            unfit(error, &format!("it must name {address} and be signed by {}", trusted_path.display()))
        })?;
        let until = chain.first().map(ends).transpose().map_err(|error| unfit(error, wants))?;
        if let Some(until) = until.filter(|until| near(*until, tls.renew, now)) {
            found.notes.push(format!(
                "{host}: {} ends on {}; put a new one there",
                path.display(),
                day(until)
            ));
        }
        found.nodes.insert(host.clone(), Secret::new(text));
    }
    Ok(found)
}

/// What a client of the broker would find.
fn proven(
    chain: &[CertificateDer<'static>],
    roots: &Arc<rustls::RootCertStore>,
    address: &str,
    now: Timestamp,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let Some((leaf, rest)) = chain.split_first() else {
        return Err("there is no certificate in it".to_owned());
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider)
        .build()
        .map_err(|error| text(&error))?;
    let name = ServerName::try_from(address.to_owned()).map_err(|error| text(&error))?;
    let now =
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default()));
    verifier.verify_server_cert(leaf, rest, &name, &[], now).map(drop).map_err(|error| text(&error))
}

/// A key that others can read is none.
fn private(path: &Path) -> Result<(), CertificateError> {
    /// Group and others.
    const OTHERS: u32 = 0o077;
    match std::fs::metadata(path) {
        Ok(about) if about.permissions().mode() & OTHERS != 0 => Err(CertificateError::Kafka {
            path: path.to_owned(),
            problem: "others can read this key".to_owned(),
            remedy: format!("run `chmod 600 {}`", path.display()),
        }),
        _ => Ok(()),
    }
}

fn content(path: &Path, message: &str) -> CertificateError {
    CertificateError::Kafka {
        path: path.to_owned(),
        problem: format!("it cannot be read as PEM ({message})"),
        remedy: "restore it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn hosts() -> BTreeMap<String, String> {
        [("k1", "10.0.0.1"), ("k2", "10.0.0.2")].map(|(name, at)| (name.to_owned(), at.to_owned())).into()
    }

    fn tls(authority: KafkaAuthority) -> KafkaTls {
        KafkaTls { authority, valid: 100 * DAY, renew: 30 * DAY }
    }

    fn now() -> Timestamp {
        "2026-11-22T12:00:00Z".parse().unwrap()
    }

    fn texts(made: &BrokerCertificates) -> Vec<&str> {
        made.nodes.values().map(Secret::expose).collect()
    }

    #[test]
    fn a_certificate_is_made_once_and_again_before_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let tls = tls(KafkaAuthority::Own);
        let at = |days: u32| for_brokers(folder.path(), "shop", &tls, &hosts(), now() + days * DAY).unwrap();
        let first = at(0);
        assert!(first.notes.is_empty(), "{:?}", first.notes);
        for (host, address) in hosts() {
            let chain = certificates(first.nodes[&host].expose()).unwrap();
            let mut roots = rustls::RootCertStore::empty();
            roots.add(certificates(&first.trusted).unwrap().remove(0)).unwrap();
            let roots = Arc::new(roots);
            assert_eq!(proven(&chain, &roots, &address, now()), Ok(()));
            assert_eq!(proven(&chain, &roots, &host, now()), Ok(()));
            assert!(proven(&chain, &roots, "10.0.0.9", now()).is_err());
            assert!(proven(&chain, &roots, &address, now() + 101 * DAY).is_err());
        }
        assert_eq!(texts(&at(69)), texts(&first));
        let second = at(71);
        assert_eq!(second.trusted, first.trusted);
        assert_eq!(second.notes[0], "k1: the certificate of its broker ends on 2027-03-02 and is renewed");
        assert!(texts(&second).iter().all(|text| !texts(&first).contains(text)));
        let third = at(71);
        assert_eq!((texts(&third), third.notes.len()), (texts(&second), 0), "once");
    }

    #[test]
    fn an_authority_is_replaced_in_steps() {
        let folder = tempfile::tempdir().unwrap();
        let tls = tls(KafkaAuthority::Own);
        let make = || for_brokers(folder.path(), "shop", &tls, &hosts(), now()).unwrap();
        let first = make();
        let file = |name: &str| folder.path().join("kafka-tls").join(name);
        std::fs::rename(file("ca.crt"), file("former.crt")).unwrap();
        std::fs::remove_file(file("ca.key")).unwrap();
        let both = make();
        assert!(both.trusted.contains(&first.trusted) && both.trusted != first.trusted);
        assert_eq!(texts(&both), texts(&first), "trust first, certificates later");
        for host in ["k1_10.0.0.1.pem", "k2_10.0.0.2.pem"] {
            std::fs::remove_file(file(host)).unwrap();
        }
        let renewed = make();
        assert_eq!(renewed.trusted, both.trusted);
        assert_ne!(texts(&renewed), texts(&first));
        std::fs::remove_file(file("former.crt")).unwrap();
        let last = make();
        assert_eq!(texts(&last), texts(&renewed));
        assert!(!last.trusted.contains(&first.trusted));
    }

    #[test]
    fn a_key_that_is_away_is_missed_only_where_it_signs() {
        let folder = tempfile::tempdir().unwrap();
        let tls = tls(KafkaAuthority::Own);
        let make = |hosts: &BTreeMap<String, String>| for_brokers(folder.path(), "shop", &tls, hosts, now());
        let first = make(&hosts()).unwrap();
        std::fs::remove_file(folder.path().join("kafka-tls/ca.key")).unwrap();
        assert_eq!(texts(&make(&hosts()).unwrap()), texts(&first));
        let mut more = hosts();
        more.insert("k3".to_owned(), "10.0.0.3".to_owned());
        let said = make(&more).unwrap_err().to_string();
        assert!(said.contains("ca.key: it is not there, and k3 needs a certificate; restore"), "{said}");
    }

    /// An authority's certificate and its key.
    fn authority(folder: &Path, mode: u32) -> (String, PathBuf, PathBuf) {
        let made = Authority::own(&folder.join("theirs"), "theirs").unwrap();
        std::fs::set_permissions(&made.key_path, PermissionsExt::from_mode(mode)).unwrap();
        (made.signer, made.signer_path, made.key_path)
    }

    #[test]
    fn the_users_authority_signs_with_a_key_that_only_he_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, path, key) = authority(folder.path(), 0o600);
        let signs = KafkaAuthority::Signs { certificate: certificate.clone(), path, key };
        let made = for_brokers(folder.path(), "shop", &tls(signs.clone()), &hosts(), now()).unwrap();
        assert_eq!(made.trusted, certificate);
        assert!(is_signed_by(
            &certificates(texts(&made)[0]).unwrap()[0],
            &certificates(&certificate).unwrap()
        ));
        authority(folder.path(), 0o644);
        let mut more = hosts();
        more.insert("k3".to_owned(), "10.0.0.3".to_owned());
        let said = for_brokers(folder.path(), "shop", &tls(signs), &more, now()).unwrap_err().to_string();
        assert!(said.contains("others can read this key; run `chmod 600 "), "{said}");
    }

    #[test]
    fn the_users_certificates_are_proven() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, path, key) = authority(folder.path(), 0o600);
        let signs = KafkaAuthority::Signs { certificate: certificate.clone(), path: path.clone(), key };
        let made = for_brokers(folder.path(), "shop", &tls(signs), &hosts(), now()).unwrap();
        let given =
            tls(KafkaAuthority::Given { trusted: certificate, path, folder: folder.path().to_owned() });
        let check = |days: u32| for_brokers(folder.path(), "shop", &given, &hosts(), now() + days * DAY);
        let put = |name: &str, text: &str| write(&folder.path().join(name), text).unwrap();
        let fails = |days: u32, words: &str| {
            let said = check(days).unwrap_err().to_string();
            assert!(said.contains(words), "{said}");
        };
        fails(0, "k1.pem: it is not there");
        let (one, two) = (made.nodes["k1"].expose(), made.nodes["k2"].expose());
        put("k1.pem", one);
        put("k2.pem", two);
        assert_eq!(texts(&check(0).unwrap()), texts(&made));
        assert_eq!(check(0).unwrap().notes.len(), 0);
        assert!(check(71).unwrap().notes[0].contains("k1.pem ends on 2027-03-02; put a new one there"));
        fails(101, "k1.pem: ");
        put("k2.pem", one);
        fails(0, "k2.pem: ");
        let (_, chain) = one.split_once("-----BEGIN CERT").unwrap();
        let (other_key, _) = two.split_once("-----BEGIN CERT").unwrap();
        put("k2.pem", &format!("{other_key}-----BEGIN CERT{chain}"));
        fails(0, "key and certificate do not fit");
        put("k2.pem", "nothing");
        fails(0, "there is no certificate in it; it holds the private key");
    }
}
