//! What images are made from.

use super::SSH_USER;
use super::mirror::Archive;
use super::spec::Release;

/// An image.
#[derive(Debug)]
pub(super) struct Image {
    /// How it is made.
    pub(super) recipe: Recipe,
    /// Where packages come from.
    pub(super) archive: Archive,
    /// The image that has the keys of an archive which the machine's own tools do not know.
    pub(super) keys: Option<&'static Self>,
    /// Packages that lie ready for apt-get on hosts, which reach no archive: they come by what tests do.
    pub(super) offered: &'static [&'static str],
}

/// What an image is made from.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) name: &'static str,
    pub(super) suite: &'static str,
    /// Installed by debootstrap.
    pub(super) base: &'static [&'static str],
    /// Installed by apt-get, which resolves what debootstrap cannot.
    pub(super) packages: &'static [&'static str],
    /// Path and text.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Where links to units stand that the image must not start.
    pub(super) removed: &'static [&'static str],
    /// Units that a lab host has no use for: each costs memory or start-up time.
    pub(super) masked: &'static [&'static str],
    /// Units to start.
    pub(super) enabled: &'static [&'static str],
    /// The account made for people.
    pub(super) user: Option<&'static str>,
}

/// The image of a host's system.
pub(super) fn of(release: Release) -> &'static Image {
    match release {
        Release::Debian12 => &DEBIAN_12,
        Release::Debian13 => &DEBIAN_13,
        Release::Ubuntu2204 => &UBUNTU_22_04,
        Release::Ubuntu2404 => &UBUNTU_24_04,
    }
}

type Text = (&'static str, &'static str);

const JOURNAL: Text =
    ("etc/systemd/journald.conf.d/lab.conf", "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\n");
/// sshd refuses logins until user sessions are permitted: answering earlier would only confuse callers.
const SSH_UNIT: Text = (
    "etc/systemd/system/ssh.service.d/lab.conf",
    "[Unit]\nAfter=systemd-user-sessions.service lab-net.service\n",
);
/// A parallel apply and its probes come from one address.
const SSHD: Text =
    ("etc/ssh/sshd_config.d/lab.conf", "UseDNS no\nPasswordAuthentication no\nMaxStartups 100:30:200\n");
const NETWORK: Text = (
    "etc/systemd/system/lab-net.service",
    "[Unit]\nDescription=Static address of a lab host\nBefore=network.target\n\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/ip -batch /etc/lab-net\n\n[Install]\nWantedBy=multi-user.target\n",
);
/// A lab host reaches no name server; asking nobody fails at once, asking the machine's after a minute.
const RESOLVER: Text = ("etc/resolv.conf", "nameserver 127.0.0.1\n");

/// Each host gets its own.
const ECDSA_KEY: &str = "etc/ssh/ssh_host_ecdsa_key";
const ECDSA_PUBLIC_KEY: &str = "etc/ssh/ssh_host_ecdsa_key.pub";
const ED25519_KEY: &str = "etc/ssh/ssh_host_ed25519_key";
const ED25519_PUBLIC_KEY: &str = "etc/ssh/ssh_host_ed25519_key.pub";
const RSA_KEY: &str = "etc/ssh/ssh_host_rsa_key";
const RSA_PUBLIC_KEY: &str = "etc/ssh/ssh_host_rsa_key.pub";

const MASKED: &[&str] = &[
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "systemd-logind.service",
    "systemd-pstore.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
];

pub(super) static DEBIAN_12: Image = Image {
    recipe: Recipe {
        name: "base",
        suite: "bookworm",
        base: &[
            "ca-certificates",
            "dbus",
            "eatmydata",
            // Login shells that read what a POSIX shell writes in their own way.
            "fish",
            "iproute2",
            "openssh-server",
            "procps",
            "sudo",
            "systemd",
            "systemd-sysv",
            "tcsh",
            "zstd",
        ],
        packages: &["openjdk-17-jre-headless", "mariadb-server", "opensmtpd"],
        files: &[
            JOURNAL,
            SSH_UNIT,
            SSHD,
            NETWORK,
            (
                "etc/smtpd.conf",
                "listen on 0.0.0.0 port 25 hostname mail.lab\ntable boxes { \"@\" = \"deploy\" }\naction \"keep\" maildir \"/var/mail/lab\" virtual <boxes>\nmatch from any for any action \"keep\"\n",
            ),
            RESOLVER,
            // A test that kills the server wants to say itself when it comes back.
            ("etc/systemd/system/mariadb.service.d/lab.conf", "[Service]\nRestart=no\n"),
        ],
        removed: &[
            "etc/systemd/system/multi-user.target.wants/mariadb.service",
            "etc/systemd/system/sockets.target.wants/mariadb.socket",
            "etc/systemd/system/multi-user.target.wants/opensmtpd.service",
            ECDSA_KEY,
            ECDSA_PUBLIC_KEY,
            ED25519_KEY,
            ED25519_PUBLIC_KEY,
            RSA_KEY,
            RSA_PUBLIC_KEY,
        ],
        masked: MASKED,
        enabled: &["lab-net.service"],
        user: Some(SSH_USER),
    },
    archive: Archive::Debian,
    keys: None,
    offered: &[],
};

/// A system without anything that aesop brings: Java comes by apt-get.
const fn bare(name: &'static str, suite: &'static str, base: &'static [&'static str]) -> Recipe {
    Recipe {
        name,
        suite,
        base,
        packages: &[],
        files: &[JOURNAL, SSH_UNIT, SSHD, NETWORK, RESOLVER],
        removed: &[ECDSA_KEY, ECDSA_PUBLIC_KEY, ED25519_KEY, ED25519_PUBLIC_KEY, RSA_KEY, RSA_PUBLIC_KEY],
        masked: MASKED,
        enabled: &["lab-net.service"],
        user: Some(SSH_USER),
    }
}

const JAVA: &[&str] = &["default-jre-headless"];

static DEBIAN_13: Image = Image {
    recipe: bare(
        "debian13",
        "trixie",
        &[
            "ca-certificates",
            "dbus",
            "eatmydata",
            "iproute2",
            "openssh-server",
            "procps",
            "sudo",
            "systemd",
            "systemd-sysv",
            "ubuntu-archive-keyring",
            "zstd",
        ],
    ),
    archive: Archive::Debian,
    keys: None,
    offered: JAVA,
};

const UBUNTU: &[&str] = &[
    "ca-certificates",
    "dbus",
    "eatmydata",
    "iproute2",
    "openssh-server",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
    "zstd",
];

static UBUNTU_22_04: Image = Image {
    recipe: bare("ubuntu2204", "jammy", UBUNTU),
    archive: Archive::Ubuntu,
    keys: Some(&DEBIAN_13),
    offered: &["openjdk-17-jre-headless"],
};

static UBUNTU_24_04: Image = Image {
    recipe: bare("ubuntu2404", "noble", UBUNTU),
    archive: Archive::Ubuntu,
    keys: Some(&DEBIAN_13),
    offered: JAVA,
};

pub(super) static MYSQL: Image = Image {
    recipe: Recipe {
        name: "mysql97",
        suite: "sid",
        base: &["eatmydata"],
        packages: &["mysql-server"],
        files: &[],
        // Each server makes its own identity.
        removed: &["var/lib/mysql/auto.cnf"],
        masked: &[],
        enabled: &[],
        user: None,
    },
    archive: Archive::Debian,
    keys: None,
    offered: &[],
};
