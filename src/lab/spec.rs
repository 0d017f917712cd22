//! What a lab shall be, and what it says while it becomes so.

use super::{LabError, Result, Subnet};
use super::{mirror, recipe};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// A lab that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabSpec {
    /// Its name, unique on the machine.
    pub name: String,
    /// Its network; a free one if `None`.
    pub subnet: Option<Subnet>,
    /// The hosts to begin with.
    pub hosts: Vec<HostSpec>,
    /// Whether it stays up after its creator has ended. Others are removed with their [`Lab`](super::Lab), and
    /// by the next lab if their creator was killed.
    pub persistent: bool,
    /// Where overlays and keys go; below the cache folder if `None`. Must not exist yet.
    pub work_dir: Option<PathBuf>,
}

impl LabSpec {
    /// A lab without hosts, removed when its [`Lab`](super::Lab) is dropped.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), subnet: None, hosts: Vec::new(), persistent: false, work_dir: None }
    }

    /// With one more host.
    #[must_use]
    pub fn host(mut self, host: HostSpec) -> Self {
        self.hosts.push(host);
        self
    }

    /// On a network of the caller's choice.
    #[must_use]
    pub fn subnet(mut self, subnet: Subnet) -> Self {
        self.subnet = Some(subnet);
        self
    }

    /// Stays up after its creator has ended.
    #[must_use]
    pub fn persistent(mut self) -> Self {
        self.persistent = true;
        self
    }

    pub(super) fn validate(&self) -> Result<()> {
        check_name("lab", &self.name)?;
        for (index, host) in self.hosts.iter().enumerate() {
            check_name("host", &host.name)?;
            if host.kind != HostKind::Plain && host.release != Release::default() {
                let message = "databases and mail are on hosts with debian12 only";
                return Err(LabError::Spec(format!("lab {}: host {}: {message}", self.name, host.name)));
            }
            if self.hosts.iter().take(index).any(|other| other.name == host.name) {
                return Err(LabError::Spec(format!("lab {}: host {} is named twice", self.name, host.name)));
            }
        }
        Ok(())
    }
}

/// A host that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSpec {
    /// Its name and host name.
    pub name: String,
    /// Its system.
    pub release: Release,
    /// What runs on it from the start.
    pub kind: HostKind,
    /// What `deploy` may do.
    pub sudo: Sudo,
    /// The last number of its address; the lowest free one from 11 on if `None`.
    pub number: Option<u8>,
}

impl HostSpec {
    /// A plain host with Debian 12 and passwordless sudo.
    pub fn new(name: impl Into<String>) -> Self {
        let (kind, sudo) = (HostKind::Plain, Sudo::Passwordless);
        Self { name: name.into(), release: Release::default(), kind, sudo, number: None }
    }

    /// With another system.
    #[must_use]
    pub fn release(mut self, release: Release) -> Self {
        self.release = release;
        self
    }

    /// Of another kind.
    #[must_use]
    pub fn kind(mut self, kind: HostKind) -> Self {
        self.kind = kind;
        self
    }

    /// With another right to sudo.
    #[must_use]
    pub fn sudo(mut self, sudo: Sudo) -> Self {
        self.sudo = sudo;
        self
    }

    /// With a chosen last number of the address.
    #[must_use]
    pub fn number(mut self, number: u8) -> Self {
        self.number = Some(number);
        self
    }
}

impl FromStr for HostSpec {
    type Err = LabError;

    /// `name` or `name@release`, then nothing, `:kind` or `:kind:number`.
    fn from_str(text: &str) -> Result<Self> {
        let mut parts = text.split(':');
        let first = parts.next().unwrap_or_default();
        let mut spec = match first.split_once('@') {
            Some((name, release)) => Self::new(name).release(release.parse()?),
            None => Self::new(first),
        };
        if let Some(kind) = parts.next() {
            spec.kind = kind.parse()?;
        }
        if let Some(number) = parts.next() {
            let wrong = |_| LabError::Spec(format!("{text}: {number} is not a host number (2 to 254)"));
            spec.number = Some(number.parse().map_err(wrong)?);
        }
        check_name("host", &spec.name)?;
        Ok(spec)
    }
}

/// A host's system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// Bookworm, with Java and whatever the other kinds of hosts run.
    #[default]
    Debian12,
    /// Trixie. Java, as on those below, is not installed; apt-get has it at hand.
    Debian13,
    /// Jammy.
    Ubuntu2204,
    /// Noble.
    Ubuntu2404,
}

impl Release {
    /// Whether this machine knows an archive that it comes from.
    pub fn can_be_had(self) -> bool {
        mirror::archive(recipe::of(self).archive).is_ok()
    }
}

impl FromStr for Release {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "debian12" => Ok(Self::Debian12),
            "debian13" => Ok(Self::Debian13),
            "ubuntu2204" => Ok(Self::Ubuntu2204),
            "ubuntu2404" => Ok(Self::Ubuntu2404),
            _ => Err(LabError::Spec(format!(
                "{text} is no release; there are debian12, debian13, ubuntu2204 and ubuntu2404"
            ))),
        }
    }
}

/// What runs on a host from the start, beside sshd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HostKind {
    /// Nothing.
    Plain,
    /// MariaDB 10.11 with a row binlog.
    MariaDb,
    /// MySQL 9.7 with a row binlog and GTIDs.
    MySql97,
    /// An SMTP server that puts every mail into one Maildir.
    Mail,
}

impl HostKind {
    /// The systemd unit and the port of what runs there.
    pub(super) fn service(self) -> Option<(&'static str, u16)> {
        match self {
            Self::Plain => None,
            Self::MariaDb => Some(("mariadb.service", super::DATABASE_PORT)),
            Self::MySql97 => Some(("mysql97.service", super::DATABASE_PORT)),
            Self::Mail => Some(("opensmtpd.service", super::SMTP_PORT)),
        }
    }
}

impl FromStr for HostKind {
    type Err = LabError;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "plain" => Ok(Self::Plain),
            "mariadb" => Ok(Self::MariaDb),
            "mysql97" => Ok(Self::MySql97),
            "mail" => Ok(Self::Mail),
            _ => Err(LabError::Spec(format!(
                "{text} is no kind of host; the kinds are plain, mariadb, mysql97 and mail"
            ))),
        }
    }
}

/// What `deploy` may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sudo {
    /// Everything, unasked.
    Passwordless,
    /// Everything, with the lab's password.
    Password,
    /// Nothing.
    None,
}

/// What the lab is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// apt packages are being installed.
    Packages(Vec<String>),
    /// An image is being built: its name and the step.
    Image(&'static str, &'static str),
    /// A lab whose creator is gone is being removed.
    Stale(String),
    /// A host is being started.
    Booting(String),
    /// A host answers.
    Up(String),
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Packages(names) => write!(f, "installing apt packages: {}", names.join(" ")),
            Self::Image(image, step) => write!(f, "{image} image: {step}"),
            Self::Stale(lab) => write!(f, "removing lab {lab}, whose creator is gone"),
            Self::Booting(host) => write!(f, "booting {host}"),
            Self::Up(host) => write!(f, "{host} answers"),
        }
    }
}

/// Hears what the lab is doing, possibly from several threads at once.
pub type OnProgress<'a> = &'a (dyn Fn(&Progress) + Sync);

/// Longest name of a lab or host: it becomes a file name and a host name.
const NAME_CHARS_MAX: usize = 40;

fn check_name(what: &str, name: &str) -> Result<()> {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let good = (1..=NAME_CHARS_MAX).contains(&name.len())
        && name.chars().all(legal)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if good {
        return Ok(());
    }
    Err(LabError::Spec(format!(
        "{name:?} cannot name a {what}; use up to {NAME_CHARS_MAX} lowercase letters, digits and inner dashes"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_from_text() {
        let host: HostSpec = "db:mysql97:20".parse().unwrap();
        assert_eq!(host, HostSpec::new("db").kind(HostKind::MySql97).number(20));
        assert_eq!("k1".parse::<HostSpec>().unwrap(), HostSpec::new("k1"));
        let host: HostSpec = "k1@debian13:plain:20".parse().unwrap();
        assert_eq!(host, HostSpec::new("k1").release(Release::Debian13).number(20));
        for (text, error) in [
            ("db:oracle", "oracle is no kind of host; the kinds are plain, mariadb, mysql97 and mail"),
            ("k1@sid", "sid is no release; there are debian12, debian13, ubuntu2204 and ubuntu2404"),
            ("db:mail:x", "db:mail:x: x is not a host number (2 to 254)"),
            ("K1", "\"K1\" cannot name a host; use up to 40 lowercase letters, digits and inner dashes"),
        ] {
            assert_eq!(text.parse::<HostSpec>().unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let host = || HostSpec::new("a");
        let refused = |spec: LabSpec| spec.validate().unwrap_err().to_string();
        assert_eq!(refused(LabSpec::new("t").host(host()).host(host())), "lab t: host a is named twice");
        let mail = host().release(Release::Debian13).kind(HostKind::Mail);
        let words = "lab t: host a: databases and mail are on hosts with debian12 only";
        assert_eq!(refused(LabSpec::new("t").host(mail)), words);
    }
}
