//! What can go wrong with a source, sorted by whether trying again can help.

use crate::decode::DecodeError;

/// An error of a source.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Trying again may help; [`super::source::run`] does, for ever.
    #[error("{0}")]
    Transient(String),
    /// Trying again cannot help: the source stops and says what to do.
    #[error(transparent)]
    Definite(#[from] Definite),
    /// The sink refused; what that means is the caller's business.
    #[error("writing transactions: {0}")]
    Sink(Box<dyn std::error::Error + Send + Sync>),
}

/// An error that ends a source until somebody acts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Definite {
    /// The server is not set up for being read.
    #[error("{address} is not ready to be read: {}", join(.findings))]
    Preflight {
        /// `host:port`.
        address: String,
        /// What is wrong, each with its remedy.
        findings: Vec<Finding>,
    },
    /// User, password or TLS are refused.
    #[error("{address} refuses the connection: {reason}; check user, password file and tls of the source")]
    Access {
        /// `host:port`.
        address: String,
        /// The server's words.
        reason: String,
    },
    /// A local setting is wrong.
    #[error("{0}")]
    Config(String),
    /// The binlog no longer has what comes next.
    #[error(
        "{address} no longer has the binlog from {wanted} on ({reason}); take a snapshot, or start elsewhere and accept the gap"
    )]
    Purged {
        /// `host:port`.
        address: String,
        /// Position or GTID set asked for.
        wanted: String,
        /// The server's words.
        reason: String,
    },
    /// The server's history is not the one that was read before.
    #[error(
        "{address} no longer has what was read from it before: {wanted} ({reason}); it was reset, restored from a backup, or lost the \
         end of its binlog: put the former one back, or give the source another name, take a snapshot and accept the gap"
    )]
    Lost {
        /// `host:port`.
        address: String,
        /// Position or GTIDs.
        wanted: String,
        /// How that shows.
        reason: String,
    },
    /// The server does not send its binlog.
    #[error("{address} does not send its binlog from {wanted} on ({reason}); {remedy}")]
    Unsent {
        /// `host:port`.
        address: String,
        /// Position or GTID set asked for.
        wanted: String,
        /// The server's words.
        reason: String,
        /// What may mend it.
        remedy: &'static str,
    },
    /// Another server answers at the address.
    #[error(
        "{address} is another server than before: expected {expected}, found {found}, and without GTIDs nobody can tell whether it has \
         the same transactions; put the former server back, or set gtid_mode = ON on both, or give the source another name"
    )]
    WrongServer {
        /// `host:port`.
        address: String,
        /// Identity on record.
        expected: String,
        /// Identity found.
        found: String,
    },
    /// Another server answers at the address, and it lacks what was served of the one before.
    #[error(
        "{address} is now server {found}, which lacks transactions that were served from {expected}: {missing}; let it catch up, or \
         put a server that has them at this address; if they are lost for good, give the source another name and take a snapshot"
    )]
    Behind {
        /// `host:port`.
        address: String,
        /// Identity on record.
        expected: String,
        /// Identity found.
        found: String,
        /// GTIDs.
        missing: String,
    },
    /// Another server answers at the address, and how far the one before was served nobody can tell.
    #[error(
        "another server answers for source {name}, and group {group} was served of the one before up to {reached}, by a relay that is \
         gone and read further than the others: start that relay again, with its data; if it is lost for good, give the source \
         another name and take a snapshot"
    )]
    ServedBeyond {
        /// The source.
        name: String,
        /// The group.
        group: String,
        /// GTID or position.
        reached: String,
    },
    /// The binlog at the known position holds something else.
    #[error(
        "{file} at {offset} does not hold the transaction read from there before: expected {expected}, found {found}; the binlog was \
         reset or restored from elsewhere: put the former one back, or give the source another name, take a snapshot and accept the gap"
    )]
    Diverged {
        /// Binlog file.
        file: String,
        /// Offset in it.
        offset: u64,
        /// GTID on record.
        expected: String,
        /// What is there.
        found: String,
    },
    /// What columns a table had is not in the binlog, and cannot be found out.
    #[error(
        "{place}: what columns {table} had there cannot be known: {why}. SET GLOBAL binlog_row_metadata = 'FULL', begin behind \
         these rows, and take a snapshot of the table; or leave the table out"
    )]
    Unknown {
        /// `database.table`.
        table: String,
        /// Binlog file and offset.
        place: String,
        /// What stands between.
        why: String,
    },
    /// What was prepared in a binlog that is gone is committed.
    #[error(
        "{file} at {offset} commits XA branch {branch}, whose XA PREPARE is in no binlog that {address} still has (the oldest is \
         {oldest}; older ones are purged), so its rows are not known: take a snapshot and begin behind this transaction"
    )]
    Prepared {
        /// `host:port`.
        address: String,
        /// The branch, as its XA COMMIT names it.
        branch: String,
        /// Binlog file of the XA COMMIT.
        file: String,
        /// Offset of its transaction.
        offset: u64,
        /// The oldest file there is.
        oldest: String,
    },
    /// An event that cannot be decoded.
    #[error("{file} at {offset}: {error}")]
    Decode {
        /// Binlog file.
        file: String,
        /// Offset of the event.
        offset: u64,
        /// Why.
        error: DecodeError,
    },
}

/// One finding of a preflight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong.
    pub problem: String,
    /// The SQL, or the line of my.cnf, that mends it.
    pub remedy: String,
}

fn join(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("{}: {}", f.problem, f.remedy)).collect::<Vec<_>>().join("; ")
}
