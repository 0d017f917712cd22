//! The packets of the client/server protocol that a reader of binlogs needs; pure.

use super::rsa::{self, KeyError};
use crate::decode::Bytes;
use crate::gtid::GtidSet;
use mysql_common::scramble::{scramble_native, scramble_sha256};
use std::fmt;

const LONG_PASSWORD: u32 = 0x1;
const LONG_FLAG: u32 = 0x4;
const PROTOCOL_41: u32 = 0x200;
const SSL: u32 = 0x800;
const TRANSACTIONS: u32 = 0x2000;
const SECURE_CONNECTION: u32 = 0x8000;
const PLUGIN_AUTH: u32 = 0x8_0000;
const PLUGIN_AUTH_LENENC: u32 = 0x20_0000;
const WANTED: u32 = LONG_PASSWORD
    | LONG_FLAG
    | PROTOCOL_41
    | TRANSACTIONS
    | SECURE_CONNECTION
    | PLUGIN_AUTH
    | PLUGIN_AUTH_LENENC;

/// `utf8mb4_general_ci`.
const CHARSET: u8 = 45;
/// Greatest packet we take.
const MAX_ALLOWED_PACKET: u32 = 1 << 30;
/// The first field of both our answers to a greeting.
fn client_flags(extra: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&(WANTED | extra).to_le_bytes());
    out.extend_from_slice(&MAX_ALLOWED_PACKET.to_le_bytes());
    out.push(CHARSET);
    out.extend_from_slice(&[0; 23]);
    out
}

/// What a server says first.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) server_version: String,
    pub(super) nonce: Vec<u8>,
    pub(super) plugin: String,
    capabilities: u32,
}

impl Greeting {
    pub(super) fn parse(packet: &[u8]) -> Option<Self> {
        let mut input = Bytes::new(packet, "greeting");
        if input.u8().ok()? != 10 {
            return None;
        }
        let server_version = until_zero(&mut input)?;
        input.u32().ok()?;
        let mut nonce = input.take(8).ok()?.to_vec();
        input.u8().ok()?;
        let low = u32::from(input.u16().ok()?);
        input.take(3).ok()?;
        let high = u32::from(input.u16().ok()?);
        let nonce_len = usize::from(input.u8().ok()?);
        input.take(10).ok()?;
        let second = input.take(nonce_len.saturating_sub(8).max(13).min(input.rest().len())).ok()?;
        nonce.extend_from_slice(second.strip_suffix(&[0]).unwrap_or(second));
        let plugin = until_zero(&mut input)?;
        Some(Self { server_version, nonce, plugin, capabilities: high << 16 | low })
    }

    pub(super) fn offers_tls(&self) -> bool {
        self.capabilities & SSL != 0
    }
}

fn until_zero(input: &mut Bytes<'_>) -> Option<String> {
    let rest = input.rest();
    let end = rest.iter().position(|b| *b == 0).unwrap_or(rest.len());
    let text = String::from_utf8_lossy(input.take(end).ok()?).into_owned();
    if !input.is_empty() {
        input.u8().ok()?;
    }
    Some(text)
}

/// Asks to go on under TLS.
pub(super) fn tls_request() -> Vec<u8> {
    client_flags(SSL)
}

/// User and first answer of the authentication plugin.
pub(super) fn login(user: &str, plugin: &str, answer: &[u8], secure: bool) -> Vec<u8> {
    let mut out = client_flags(if secure { SSL } else { 0 });
    out.extend_from_slice(user.as_bytes());
    out.push(0);
    out.push(u8::try_from(answer.len()).unwrap_or(u8::MAX));
    out.extend_from_slice(answer);
    out.extend_from_slice(plugin.as_bytes());
    out.push(0);
    out
}

/// `0xfe`: another plugin and its nonce.
pub(super) fn auth_switch(packet: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut input = Bytes::new(packet, "auth switch");
    input.u8().ok()?;
    let plugin = until_zero(&mut input)?;
    let nonce = input.rest();
    Some((plugin, nonce.strip_suffix(&[0]).unwrap_or(nonce).to_vec()))
}

/// Why there is no answer to a server that asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It does not belong to the plugin's dialogue.
    OutOfTurn,
    /// The password cannot be hidden with its key.
    Key(KeyError),
}

/// The dialogue of one authentication plugin.
#[derive(Debug)]
pub(super) struct Auth {
    plugin: String,
    nonce: Vec<u8>,
}

impl Auth {
    pub(super) fn new(plugin: &str, nonce: &[u8]) -> Self {
        Self { plugin: plugin.to_owned(), nonce: nonce.to_vec() }
    }

    /// The first answer; none when the plugin is not known.
    pub(super) fn first(&self, password: &[u8]) -> Option<Vec<u8>> {
        match self.plugin.as_str() {
            "mysql_native_password" => {
                Some(scramble_native(&self.nonce, password).map(Vec::from).unwrap_or_default())
            }
            "caching_sha2_password" => {
                Some(scramble_sha256(&self.nonce, password).map(Vec::from).unwrap_or_default())
            }
            _ => None,
        }
    }

    /// The answer to further data; none when there is nothing to answer.
    pub(super) fn more(
        &self,
        data: &[u8],
        password: &[u8],
        secure: bool,
    ) -> Result<Option<Vec<u8>>, Unanswered> {
        const FAST_OK: u8 = 3;
        const FULL: u8 = 4;
        const ASK_FOR_KEY: u8 = 2;
        if self.plugin != "caching_sha2_password" {
            return Err(Unanswered::OutOfTurn);
        }
        let mut plain = password.to_vec();
        plain.push(0);
        match data {
            [FAST_OK] => Ok(None),
            [FULL] if secure => Ok(Some(plain)),
            [FULL] => Ok(Some(vec![ASK_FOR_KEY])),
            key if rsa::begins_like_a_key(key) && !self.nonce.is_empty() => {
                for (byte, mask) in plain.iter_mut().zip(self.nonce.iter().cycle()) {
                    *byte ^= mask;
                }
                rsa::encrypt(&plain, key).map(Some).map_err(Unanswered::Key)
            }
            _ => Err(Unanswered::OutOfTurn),
        }
    }
}

/// An error as the server sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServerError {
    pub(super) code: u16,
    pub(super) message: String,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

/// Reads an error packet; none when it is something else.
pub(super) fn server_error(packet: &[u8]) -> Option<ServerError> {
    let mut input = Bytes::new(packet, "error packet");
    if input.u8().ok()? != 0xff {
        return None;
    }
    let code = input.u16().ok()?;
    let rest = input.rest();
    // A hash and five characters of SQLSTATE.
    let message = if rest.first() == Some(&b'#') { rest.get(6..).unwrap_or_default() } else { rest };
    Some(ServerError { code, message: String::from_utf8_lossy(message).into_owned() })
}

/// The end of columns, of rows, or of a dump.
pub(super) fn is_eof(packet: &[u8]) -> bool {
    packet.first() == Some(&0xfe) && packet.len() < 9
}

/// A row of a text result.
pub(super) fn text_row(packet: &[u8]) -> Option<Vec<Option<String>>> {
    const NULL: u8 = 0xfb;
    let mut input = Bytes::new(packet, "row");
    let mut row = Vec::new();
    while !input.is_empty() {
        if input.rest().first() == Some(&NULL) {
            input.u8().ok()?;
            row.push(None);
        } else {
            row.push(Some(String::from_utf8_lossy(input.lenenc_bytes().ok()?).into_owned()));
        }
    }
    Some(row)
}

/// `COM_REGISTER_SLAVE`: makes the reader visible in the server's list of replicas.
pub(super) fn register(server_id: u32) -> Vec<u8> {
    const COM_REGISTER_SLAVE: u8 = 0x15;
    let mut out = vec![COM_REGISTER_SLAVE];
    out.extend_from_slice(&server_id.to_le_bytes());
    // The host that the server lists this replica with.
    out.extend(u8::try_from(REPORTED_HOST.len()));
    out.extend_from_slice(REPORTED_HOST.as_bytes());
    // User and password of the replica, port, rank, source's id: all left to the server.
    out.extend_from_slice(&[0; 12]);
    out
}

/// What stands for a host where a server lists its replicas.
pub(super) const REPORTED_HOST: &str = "aesop-relay";

/// What a dump is asked for besides, from MySQL 8.0 on: heartbeats that say the whole offset. To `MariaDB` the same bit means
/// something else.
pub(super) const WHOLE_HEARTBEATS: u16 = 2;

/// `COM_BINLOG_DUMP` from an offset, which has 32 bits.
pub(super) fn dump(server_id: u32, file: &str, offset: u32, flags: u16) -> Vec<u8> {
    const COM_BINLOG_DUMP: u8 = 0x12;
    let mut out = vec![COM_BINLOG_DUMP];
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&flags.to_le_bytes());
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(file.as_bytes());
    out
}

/// `COM_BINLOG_DUMP_GTID`: everything that is not in the set.
pub(super) fn dump_gtid(server_id: u32, set: &[u8]) -> Vec<u8> {
    const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
    let mut out = vec![COM_BINLOG_DUMP_GTID];
    out.extend_from_slice(&WHOLE_HEARTBEATS.to_le_bytes());
    out.extend_from_slice(&server_id.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes());
    out.extend_from_slice(&4u64.to_le_bytes());
    out.extend_from_slice(&u32::try_from(set.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(set);
    out
}

/// MySQL's GTID set in the form of the dump command. A set with tags (MySQL 8.3) says so in the first and the last byte
/// of the count, and has a tag behind each UUID.
pub(super) fn gtid_set(set: &GtidSet) -> Vec<u8> {
    const TAGGED: u64 = 1;
    let parts = || set.parts();
    let count = u64::try_from(parts().count()).unwrap_or(0);
    let tagged = parts().any(|(_, tag, _)| !tag.is_empty());
    let head = if tagged { TAGGED << 56 | count << 8 | TAGGED } else { count };
    let mut out = head.to_le_bytes().to_vec();
    for (uuid, tag, intervals) in parts() {
        out.extend_from_slice(uuid.as_bytes());
        if tagged {
            // At most 32 bytes: one byte, which has the length in its upper seven bits.
            out.extend(u8::try_from(tag.len() << 1));
            out.extend_from_slice(tag.as_bytes());
        }
        out.extend_from_slice(&u64::try_from(intervals.len()).unwrap_or(0).to_le_bytes());
        for (first, last) in intervals {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&(last + 1).to_le_bytes());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn gtid_sets() {
        let encode = |text: &str| gtid_set(&text.parse().unwrap());
        let set = encode("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7");
        assert_eq!(set.len(), 8 + 16 + 8 + 2 * 16);
        assert_eq!(set[..8], 1u64.to_le_bytes());
        assert_eq!(set[32..48], [&1u64.to_le_bytes()[..], &6u64.to_le_bytes()[..]].concat());
        assert_eq!(encode(""), vec![0; 8]);
        let set = encode("3e11fa47-71ca-11e1-9e33-c80aa9429562:1:tag:7");
        assert_eq!(set[..8], [1, 2, 0, 0, 0, 0, 0, 1]);
        assert_eq!(set.len(), 8 + (16 + 1 + 8 + 16) + (16 + 4 + 8 + 16));
        assert_eq!(set[65..69], *b"\x06tag");
    }

    #[test]
    fn errors() {
        let error = server_error(b"\xff\x15\x04#28000Access denied").unwrap();
        assert_eq!(error.to_string(), "Access denied (1045)");
        assert_eq!(server_error(b"\x00"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_packets_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
            drop(Greeting::parse(&bytes));
            drop(auth_switch(&bytes));
            drop(server_error(&bytes));
            drop(text_row(&bytes));
        }

        /// Whatever a server asks, of whatever password: pieces of a key among other bytes.
        #[test]
        fn no_dialogue_panics(
            plugin in prop::sample::select(vec!["caching_sha2_password", "mysql_native_password", "dialog"]),
            nonce in proptest::collection::vec(any::<u8>(), 0..24),
            password in proptest::collection::vec(any::<u8>(), 0..300),
            secure in any::<bool>(),
            kept in 0..=rsa::tests::KEY.len(),
            tail in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let auth = Auth::new(plugin, &nonce);
            drop(auth.first(&password));
            let key = rsa::tests::KEY.as_bytes();
            for data in [&[&key[..kept], &tail[..]].concat(), key, &tail, &[2], &[3], &[4]] {
                drop(auth.more(data, &password, secure));
            }
        }
    }
}
