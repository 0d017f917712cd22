//! One connection to a server: packets, login, text queries, and the dump command.
//!
//! Our own, and small, because a dump needs what the client libraries do not give: events as the raw bytes
//! the server sent, one at a time, whatever their type, with bounded memory and every error visible.

use super::packet::{self, Auth, Greeting, ServerError, Unanswered};
use super::rsa::KeyError;
use super::{Definite, Error, tls};
use crate::config::{Mysql, Tls};
use crate::decode::stream::FRONT;
use bytes::{Buf as _, BytesMut};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time for the TCP connection, and again for TLS and login together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the answer to a query of ours; none of them reads tables.
const QUERY_TIMEOUT: Duration = Duration::from_mins(1);
/// Between rows of a table: a server that says nothing for so long is gone.
const ROW_TIMEOUT: Duration = Duration::from_mins(10);
/// A packet of this length is continued by the next one.
const MAX_PACKET: usize = 0x00ff_ffff;
/// Bytes of a large packet that its first part has.
const FIRST_PART: usize = FRONT + 64;
/// No answer to a query of ours has as much.
const MAX_ANSWER: usize = 64 << 20;
/// Bytes asked from the socket at once: several events, yet small beside the relay's memory.
const READ_CHUNK: usize = 256 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A user's password, never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

impl Password {
    /// Takes the password's bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Reads the file that the configuration names; empty without one. A final newline is not part of it.
    pub fn load(config: &Mysql) -> Result<Self, Definite> {
        let Some(path) = &config.password_file else { return Ok(Self::default()) };
        let mut bytes = std::fs::read(path).map_err(|error| {
            Definite::Config(format!("cannot read the password file {}: {error}", path.display()))
        })?;
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        Ok(Self(bytes))
    }
}

/// What came from a server.
#[derive(Debug)]
pub(super) enum Piece {
    /// A packet.
    Packet(BytesMut),
    /// A part of what is larger than a packet can be: it is not held here.
    Part {
        /// Its next bytes: at first those that an event's front has.
        bytes: BytesMut,
        /// Nothing of it came before.
        is_first: bool,
        /// Nothing of it follows.
        is_last: bool,
    },
}

/// Whole packets that came together. To take them one by one out of the buffer costs more than to read a small event.
#[derive(Debug, Default)]
pub(super) struct Packets {
    bytes: BytesMut,
    at: usize,
}

impl Packets {
    /// The next one.
    pub(super) fn next(&mut self) -> Option<&[u8]> {
        let (len, _, rest) = head(self.bytes.get(self.at..)?)?;
        let packet = rest.get(..len)?;
        self.at += HEAD + len;
        Some(packet)
    }
}

/// Bytes before each packet's own.
const HEAD: usize = 4;

/// A packet's length and number, and what follows them.
fn head(bytes: &[u8]) -> Option<(usize, u8, &[u8])> {
    let ([a, b, c, sequence], rest) = bytes.split_first_chunk::<HEAD>()?;
    Some((usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16, *sequence, rest))
}

/// The bytes of the whole packets in front, and the number of the last of them.
fn whole(buffer: &[u8]) -> (usize, Option<u8>) {
    let (mut end, mut last) = (0, None);
    while let Some((len, sequence, rest)) = buffer.get(end..).and_then(head)
        && len < MAX_PACKET
        && len <= rest.len()
    {
        (end, last) = (end + HEAD + len, Some(sequence));
    }
    (end, last)
}

/// Where in a large packet the next bytes are.
#[derive(Clone, Copy, Debug)]
struct Split {
    /// Bytes up to the next header.
    left: usize,
    /// Another header follows.
    goes_on: bool,
    /// No part was given yet.
    begins: bool,
}

/// A connection that is logged in.
pub(super) struct Connection {
    address: String,
    stream: Box<dyn Stream>,
    buffer: BytesMut,
    split: Option<Split>,
    joined: BytesMut,
    sequence: u8,
    server_version: String,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

/// `host:port` for messages.
pub(super) fn address(config: &Mysql) -> String {
    format!("{}:{}", config.host, config.port)
}

impl Connection {
    /// Connects and logs in.
    pub(super) async fn open(config: &Mysql, password: &Password) -> Result<Self, Error> {
        let address = address(config);
        let transient = |what: &str| Error::Transient(format!("{address}: {what}"));
        let tcp = TcpStream::connect((config.host.as_str(), config.port));
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, tcp)
            .await
            .map_err(|_| transient("no connection within 10 s"))?
            .map_err(|error| transient(&format!("cannot connect: {error}")))?;
        tcp.set_nodelay(true).map_err(|error| transient(&error.to_string()))?;
        tokio::time::timeout(CONNECT_TIMEOUT, Self::login(address.clone(), tcp, config, password))
            .await
            .map_err(|_| transient("no login within 10 s"))?
    }

    async fn login(
        address: String,
        tcp: TcpStream,
        config: &Mysql,
        password: &Password,
    ) -> Result<Self, Error> {
        let mut connection = Self {
            address,
            stream: Box::new(tcp),
            buffer: BytesMut::new(),
            split: None,
            joined: BytesMut::new(),
            sequence: 0,
            server_version: String::new(),
        };
        let greeting = connection.packet().await?;
        if let Some(error) = packet::server_error(&greeting) {
            return Err(connection.classify(&error, true));
        }
        let greeting = Greeting::parse(&greeting).ok_or_else(|| connection.broken("greeting"))?;
        connection.server_version.clone_from(&greeting.server_version);
        let mut secure = false;
        if config.tls != Tls::Disabled {
            if greeting.offers_tls() {
                connection.send(&packet::tls_request()).await?;
                connection = connection.secure(config).await?;
                secure = true;
            } else if config.tls != Tls::Preferred {
                return Err(connection.refused("the server does not offer TLS"));
            }
        }
        let mut auth = Auth::new(&greeting.plugin, &greeting.nonce);
        let answer = auth.first(&password.0).ok_or_else(|| connection.unknown_plugin(&greeting.plugin))?;
        connection.send(&packet::login(&config.user, &greeting.plugin, &answer, secure)).await?;
        loop {
            let reply = connection.packet().await?;
            if let Some(error) = packet::server_error(&reply) {
                return Err(connection.classify(&error, true));
            }
            match reply.first() {
                Some(0x00) => return Ok(connection),
                Some(0xfe) => {
                    let (plugin, nonce) =
                        packet::auth_switch(&reply).ok_or_else(|| connection.broken("auth switch"))?;
                    auth = Auth::new(&plugin, &nonce);
                    let answer = auth.first(&password.0).ok_or_else(|| connection.unknown_plugin(&plugin))?;
                    connection.send(&answer).await?;
                }
                Some(0x01) => {
                    let data = reply.get(1..).unwrap_or_default();
                    match auth.more(data, &password.0, secure) {
                        Ok(Some(answer)) => connection.send(&answer).await?,
                        Ok(None) => {}
                        Err(Unanswered::OutOfTurn) => return Err(connection.broken("login")),
                        Err(Unanswered::Key(KeyError::Malformed)) => {
                            return Err(connection.broken("public key"));
                        }
                        Err(Unanswered::Key(error @ (KeyError::Size(_) | KeyError::TooLong { .. }))) => {
                            return Err(connection.refused(&error.to_string()));
                        }
                    }
                }
                _ => return Err(connection.broken("login")),
            }
        }
    }

    async fn secure(mut self, config: &Mysql) -> Result<Self, Error> {
        let connector = tls::connector(config.tls, config.ca.as_deref()).map_err(Definite::Config)?;
        let name = tls::server_name(&config.host).map_err(Definite::Config)?;
        let stream = connector.connect(name, self.stream).await.map_err(|error| {
            let (address, reason) = (self.address.clone(), format!("TLS: {error}"));
            // What the other side's words are wrong with is said as invalid data; all else is the network's.
            if error.kind() == std::io::ErrorKind::InvalidData {
                Definite::Access { address, reason }.into()
            } else {
                Error::Transient(format!("{address}: {reason}"))
            }
        })?;
        self.stream = Box::new(stream);
        Ok(self)
    }

    /// What the server calls itself.
    pub(super) fn server_version(&self) -> &str {
        &self.server_version
    }

    fn broken(&self, what: &str) -> Error {
        Error::Transient(format!("{}: the server's {what} packet is not understood", self.address))
    }

    fn refused(&self, reason: &str) -> Error {
        Definite::Access { address: self.address.clone(), reason: reason.to_owned() }.into()
    }

    fn unknown_plugin(&self, plugin: &str) -> Error {
        self.refused(&format!(
            "the user's authentication plugin {plugin} is not supported (caching_sha2_password and mysql_native_password are)"
        ))
    }

    /// Sorts a server's error by whether trying again can help.
    pub(super) fn classify(&self, error: &ServerError, login: bool) -> Error {
        /// Access denied in its variants, host not allowed, plugin not loaded, account locked, password expired.
        const ACCESS: [u16; 10] = [1044, 1045, 1130, 1142, 1227, 1251, 1524, 1698, 1862, 3118];
        if ACCESS.contains(&error.code) {
            return self.refused(&error.to_string());
        }
        let doing = if login { "login" } else { "query" };
        Error::Transient(format!("{}: {doing}: {error}", self.address))
    }

    async fn send(&mut self, payload: &[u8]) -> Result<(), Error> {
        let mut framed = Vec::with_capacity(payload.len() + 4);
        let len = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
        framed.extend_from_slice(len.get(..3).unwrap_or_default());
        framed.push(self.sequence);
        self.sequence = self.sequence.wrapping_add(1);
        framed.extend_from_slice(payload);
        let sent = async {
            self.stream.write_all(&framed).await?;
            self.stream.flush().await
        };
        sent.await.map_err(|error| Error::Transient(format!("{}: {error}", self.address)))
    }

    /// The next packet, or a part of it, that is already here.
    fn buffered_piece(&mut self) -> Option<Piece> {
        loop {
            if self.split.is_none_or(|split| split.left == 0) {
                let (len, sequence, rest) = head(&self.buffer)?;
                let goes_on = len == MAX_PACKET;
                // The first part of a large one has all that stands in front of its data.
                let wanted = if goes_on { FIRST_PART } else { len };
                if self.split.is_none() && rest.len() < wanted {
                    return None;
                }
                self.buffer.advance(HEAD);
                self.sequence = sequence.wrapping_add(1);
                if self.split.is_none() && !goes_on {
                    return Some(Piece::Packet(self.buffer.split_to(len)));
                }
                let begins = self.split.is_none();
                self.split = Some(Split { left: len, goes_on, begins });
            }
            let split = self.split.as_mut()?;
            let bytes = self.buffer.split_to(split.left.min(self.buffer.len()));
            split.left -= bytes.len();
            let is_first = std::mem::take(&mut split.begins);
            let is_last = split.left == 0 && !split.goes_on;
            if is_last {
                self.split = None;
            } else if bytes.is_empty() {
                if split.left == 0 {
                    continue;
                }
                return None;
            }
            return Some(Piece::Part { bytes, is_first, is_last });
        }
    }

    /// All whole packets that are already here; none inside one that comes in parts.
    pub(super) fn packets(&mut self) -> Packets {
        if self.split.is_some() {
            return Packets::default();
        }
        let (bytes, sequence) = whole(&self.buffer);
        self.sequence = sequence.map_or(self.sequence, |last| last.wrapping_add(1));
        Packets { bytes: self.buffer.split_to(bytes), at: 0 }
    }

    /// Waits for the next packet, or for a part of one that is larger than packets are. May be cancelled without losing
    /// bytes.
    pub(super) async fn piece(&mut self) -> Result<Piece, Error> {
        loop {
            if let Some(piece) = self.buffered_piece() {
                return Ok(piece);
            }
            self.buffer.reserve(READ_CHUNK);
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(0) => {
                    return Err(Error::Transient(format!(
                        "{}: the server closed the connection",
                        self.address
                    )));
                }
                Ok(_) => {}
                Err(error) => return Err(Error::Transient(format!("{}: {error}", self.address))),
            }
        }
    }

    /// Waits for a whole packet, however large. May be cancelled without losing bytes.
    async fn packet(&mut self) -> Result<BytesMut, Error> {
        loop {
            let (bytes, is_last) = match self.piece().await? {
                Piece::Packet(packet) => return Ok(packet),
                Piece::Part { bytes, is_last, .. } => (bytes, is_last),
            };
            if self.joined.len() + bytes.len() > MAX_ANSWER {
                return Err(Error::Transient(format!("{}: an answer of more than 64 MiB", self.address)));
            }
            self.joined.extend_from_slice(&bytes);
            if is_last {
                return Ok(std::mem::take(&mut self.joined));
            }
        }
    }

    /// Sends a command; its answer is up to the caller.
    pub(super) async fn command(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.sequence = 0;
        self.send(payload).await
    }

    /// Sends a command that is answered by OK or an error.
    pub(super) async fn command_ok(&mut self, payload: &[u8]) -> Result<(), Error> {
        self.command(payload).await?;
        let reply = self.answer().await?;
        match packet::server_error(&reply) {
            Some(error) => Err(self.classify(&error, false)),
            None => Ok(()),
        }
    }

    /// Waits for the answer to a query.
    pub(super) async fn answer(&mut self) -> Result<BytesMut, Error> {
        match tokio::time::timeout(QUERY_TIMEOUT, self.packet()).await {
            Ok(packet) => packet,
            Err(_) => Err(Error::Transient(format!("{}: no answer within 60 s", self.address))),
        }
    }

    /// Runs a statement and returns its rows as text; none is NULL.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>, Error> {
        self.try_query(sql).await?.map_err(|error| self.classify(&error, false))
    }

    /// As [`Connection::query`], with the server's own errors apart.
    pub(super) async fn try_query(
        &mut self,
        sql: &str,
    ) -> Result<Result<Vec<Vec<Option<String>>>, ServerError>, Error> {
        match self.begin_rows(sql).await? {
            Ok(true) => {}
            Ok(false) => return Ok(Ok(Vec::new())),
            Err(error) => return Ok(Err(error)),
        }
        let mut rows = Vec::new();
        loop {
            let row = self.answer().await?;
            if let Some(error) = packet::server_error(&row) {
                return Ok(Err(error));
            }
            if packet::is_eof(&row) {
                return Ok(Ok(rows));
            }
            rows.push(packet::text_row(&row).ok_or_else(|| self.broken("row"))?);
        }
    }

    /// Sends a statement; true where rows follow, which [`Connection::row`] takes one by one.
    pub(super) async fn begin_rows(&mut self, sql: &str) -> Result<Result<bool, ServerError>, Error> {
        const COM_QUERY: u8 = 3;
        let mut command = vec![COM_QUERY];
        command.extend_from_slice(sql.as_bytes());
        self.command(&command).await?;
        let head = self.answer().await?;
        if let Some(error) = packet::server_error(&head) {
            return Ok(Err(error));
        }
        if head.first() == Some(&0) {
            return Ok(Ok(false));
        }
        // Column definitions up to an EOF: every one of our queries knows its columns.
        while !packet::is_eof(&self.answer().await?) {}
        Ok(Ok(true))
    }

    /// The next row's bytes as the server sent them, the first `limit` of them, and how many it has; none behind the
    /// last row.
    pub(super) async fn row(
        &mut self,
        limit: usize,
        row: &mut Vec<u8>,
    ) -> Result<Result<Option<u64>, ServerError>, Error> {
        row.clear();
        let mut total = 0u64;
        loop {
            let piece = tokio::time::timeout(ROW_TIMEOUT, self.piece()).await;
            let silent = |_| Error::Transient(format!("{}: no row within 10 minutes", self.address));
            let (bytes, is_last) = match piece.map_err(silent)?? {
                Piece::Packet(packet) => {
                    if let Some(error) = packet::server_error(&packet) {
                        return Ok(Err(error));
                    }
                    if packet::is_eof(&packet) {
                        return Ok(Ok(None));
                    }
                    (packet, true)
                }
                Piece::Part { bytes, is_last, .. } => (bytes, is_last),
            };
            total += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let room = limit.saturating_sub(row.len()).min(bytes.len());
            row.extend_from_slice(bytes.get(..room).unwrap_or_default());
            if is_last {
                return Ok(Ok(Some(total)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_packets_are_taken_together() {
        let buffer = b"\x02\0\0\x07ab\0\0\0\x08\x01\0\0\x09c\x03\0\0\x0aof";
        let (end, last) = whole(buffer);
        assert_eq!((end, last), (15, Some(9)));
        let mut packets = Packets { bytes: BytesMut::from(&buffer[..end]), at: 0 };
        assert_eq!(packets.next(), Some(&b"ab"[..]));
        assert_eq!(packets.next(), Some(&b""[..]));
        assert_eq!(packets.next(), Some(&b"c"[..]));
        assert_eq!(packets.next(), None);
        // The front of one that the next packet continues, and less than a head.
        let large = [&[0xff, 0xff, 0xff, 0][..], &vec![0; MAX_PACKET]].concat();
        assert_eq!(whole(&large), (0, None));
        assert_eq!(whole(b"\x01\0\0"), (0, None));
    }
}
