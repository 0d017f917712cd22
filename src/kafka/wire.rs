//! One connection to one broker: length-prefixed requests and answers (Kafka's protocol guide), plain or inside TLS.

use super::{AdminError, tls};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// A broker on the same network answers at once or not at all.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// For one request; the controller itself gives up on a change after as long.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// The metadata of ten thousand partitions is about a megabyte.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// The version of `ApiVersions` that tells feature levels; every Kafka since 2.4 knows it.
const API_VERSIONS_VERSION: i16 = 3;

/// Plain or TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Stream for S {}

/// A connection, and what the broker at its end understands.
#[derive(Debug)]
pub(super) struct Connection {
    address: String,
    /// Inside TLS.
    secure: bool,
    stream: Box<dyn Stream>,
    correlation: i32,
    versions: BTreeMap<i16, (i16, i16)>,
    /// The broker's answer to the first request: its features are in it.
    pub(super) about: ApiVersionsResponse,
}

impl Connection {
    /// `address` is `host:port`; with `ssl://` before it, it is spoken to with TLS and this host's certificate.
    pub(super) async fn open(address: &str) -> Result<Self, AdminError> {
        let (address, secure) = match address.strip_prefix(tls::SCHEME) {
            Some(address) => (address, true),
            None => (address, false),
        };
        let failed = |detail: String| AdminError::Connect { address: address.to_owned(), detail };
        let connect = async {
            let stream = TcpStream::connect(address).await.map_err(|error| failed(error.to_string()))?;
            if !secure {
                return Ok::<Box<dyn Stream>, AdminError>(Box::new(stream));
            }
            Ok(Box::new(tls::handshake(address, stream).await.map_err(failed)?))
        };
        let stream = tokio::time::timeout(CONNECT_LIMIT, connect)
            .await
            .map_err(|_elapsed| failed("no answer".to_owned()))??;
        let mut connection = Self {
            address: address.to_owned(),
            secure,
            stream,
            correlation: 0,
            versions: BTreeMap::new(),
            about: ApiVersionsResponse::default(),
        };
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("aesop"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        connection.about = connection.send(&request, API_VERSIONS_VERSION).await?;
        let keys = connection.about.api_keys.iter();
        connection.versions = keys.map(|key| (key.api_key, (key.min_version, key.max_version))).collect();
        Ok(connection)
    }

    /// How another broker is reached that this one names: by the listener that this one was asked on.
    pub(super) fn likewise(&self, address: String) -> String {
        if self.secure { format!("{}{address}", tls::SCHEME) } else { address }
    }

    /// The newest version of a request that both sides know; none where the broker does not know it at all.
    pub(super) fn knows<R: Request>(&self) -> Option<i16> {
        self.version::<R>().ok()
    }

    /// One request and its answer, in the newest version that both sides know.
    pub(super) async fn call<R: Request>(&mut self, request: &R) -> Result<R::Response, AdminError> {
        let version = self.version::<R>()?;
        self.send(request, version).await
    }

    /// An answer that makes no sense.
    pub(super) fn nonsense(&self, detail: String) -> AdminError {
        AdminError::Protocol { address: self.address.clone(), detail }
    }

    fn version<R: Request>(&self) -> Result<i16, AdminError> {
        let ours = <R as Message>::VERSIONS;
        let common =
            self.versions.get(&R::KEY).map(|(min, max)| ((*min).max(ours.min), (*max).min(ours.max)));
        match common {
            Some((min, max)) if min <= max => Ok(max),
            _ => Err(AdminError::Unsupported { address: self.address.clone(), request: name(R::KEY) }),
        }
    }

    async fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response, AdminError> {
        let garbled = |what: &str, detail: String| AdminError::Protocol {
            address: self.address.clone(),
            detail: format!("{what} {}: {detail}", name(R::KEY)),
        };
        self.correlation = self.correlation.wrapping_add(1);
        let correlation = self.correlation;
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(correlation)
            .with_client_id(Some(StrBytes::from_static_str("aesop")))
            .encode(&mut frame, R::header_version(version))
            .and_then(|()| request.encode(&mut frame, version))
            .map_err(|error| garbled("cannot write", error.to_string()))?;
        let length = u32::try_from(frame.len().saturating_sub(4)).unwrap_or(u32::MAX);
        if let Some(head) = frame.get_mut(..4) {
            head.copy_from_slice(&length.to_be_bytes());
        }
        let mut answer = tokio::time::timeout(CALL_LIMIT, exchange(&mut self.stream, &frame))
            .await
            .map_err(|_elapsed| garbled("no answer to", format!("{} s have passed", CALL_LIMIT.as_secs())))?
            .map_err(|error| garbled("the connection broke at", error.to_string()))?;
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .map_err(|error| garbled("cannot read the answer to", error.to_string()))?;
        if header.correlation_id != correlation {
            return Err(garbled("out of step at", format!("answer {}", header.correlation_id)));
        }
        R::Response::decode(&mut answer, version)
            .map_err(|error| garbled("cannot read the answer to", error.to_string()))
    }
}

async fn exchange(stream: &mut Box<dyn Stream>, frame: &[u8]) -> std::io::Result<Bytes> {
    stream.write_all(frame).await?;
    stream.flush().await?;
    let mut head = [0_u8; 4];
    stream.read_exact(&mut head).await?;
    let length = usize::try_from(head.as_slice().get_u32()).unwrap_or(usize::MAX);
    if length > ANSWER_BYTES_MAX {
        let what = format!("an answer of {length} bytes; is this port Kafka's?");
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, what));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(Bytes::from(answer))
}

fn name(key: i16) -> String {
    ApiKey::try_from(key).map_or_else(|()| format!("request {key}"), |key| format!("{key:?}"))
}
