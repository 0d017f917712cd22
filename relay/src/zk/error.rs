//! What can go wrong with ZooKeeper, and whether trying again can help.

use std::path::PathBuf;

/// A failed operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No session at the moment; it comes by itself.
    #[error("no session with zookeeper at {servers}")]
    NoSession {
        /// The servers as configured.
        servers: String,
    },
    /// Somebody else would not wait any longer; the outcome is unknown.
    #[error("zookeeper at {servers} does not answer in time")]
    Slow {
        /// The servers as configured.
        servers: String,
    },
    /// The server or the connection refused.
    #[error("zookeeper {op} {path}: {cause}{}", remedy(cause))]
    Request {
        /// What was tried.
        op: &'static str,
        /// On which znode.
        path: String,
        /// Why not.
        cause: zookeeper::Error,
    },
    /// A znode holds something else than aesop writes there.
    #[error("znode {path} does not hold what aesop writes there: {cause}")]
    Payload {
        /// The znode.
        path: String,
        /// Where the JSON is wrong.
        cause: serde_json::Error,
    },
    /// The credentials cannot be read.
    #[error("zookeeper auth_file {path}: {cause}")]
    AuthFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        cause: std::io::Error,
    },
    /// The group was created with another number of partitions.
    #[error(
        "group {group} has {stored} partitions, the configuration says {configured}; the number is fixed for a group's life: use a new group"
    )]
    Partitions {
        /// The group.
        group: String,
        /// In ZooKeeper.
        stored: u32,
        /// In the configuration.
        configured: u32,
    },
}

fn remedy(source: &zookeeper::Error) -> &'static str {
    if matches!(source, zookeeper::Error::NoAuth) {
        " (the znode belongs to another user; check zookeeper.auth_file)"
    } else {
        ""
    }
}

impl Error {
    /// Whether the same request may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoSession { .. } | Self::Slow { .. } => true,
            Self::Request { cause, .. } => !matches!(
                cause,
                zookeeper::Error::NoAuth
                    | zookeeper::Error::AuthFailed
                    | zookeeper::Error::InvalidAcl
                    | zookeeper::Error::BadArguments(_)
                    | zookeeper::Error::QuotaExceeded
            ),
            Self::Payload { .. } | Self::AuthFile { .. } | Self::Partitions { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn errors_name_the_thing_and_the_remedy_and_know_whether_to_retry() {
        let request =
            |cause| Error::Request { op: "set", path: "/aesop/shop/groups/g/leader".to_owned(), cause };
        let servers = "zk1:2181,zk2:2181".to_owned();
        let all = [
            Error::NoSession { servers: servers.clone() },
            Error::Slow { servers },
            request(zookeeper::Error::ConnectionLoss),
            request(zookeeper::Error::NoAuth),
            Error::AuthFile {
                path: "/etc/aesop/secrets/zookeeper".into(),
                cause: std::io::ErrorKind::NotFound.into(),
            },
            Error::Partitions { group: "g".to_owned(), stored: 16, configured: 32 },
        ];
        let text = all.map(|error| format!("{} {error}", error.is_transient())).join("\n");
        expect![[r"
            true no session with zookeeper at zk1:2181,zk2:2181
            true zookeeper at zk1:2181,zk2:2181 does not answer in time
            true zookeeper set /aesop/shop/groups/g/leader: connection to server has lost
            false zookeeper set /aesop/shop/groups/g/leader: not authorized (the znode belongs to another user; check zookeeper.auth_file)
            false zookeeper auth_file /etc/aesop/secrets/zookeeper: entity not found
            false group g has 16 partitions, the configuration says 32; the number is fixed for a group's life: use a new group"]]
        .assert_eq(&text);
    }
}
