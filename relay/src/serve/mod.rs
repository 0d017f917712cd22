//! The server that consumers connect to: one stream a member and source, filtered by partition, held back by
//! credit. A slow, stuck or wrong client costs the others nothing: each stream has its own reader of the log, its own
//! bounds and its own deadlines.

mod connection;
mod hub;
mod lookback;
mod outbox;
mod places;
mod reading;
#[cfg(test)]
mod tests;

pub use hub::{Hub, Identity, Served};
pub use lookback::{LookBack, Opened, Refused, Seat};

use crate::wire::frame::{ErrorCode, ErrorFrame, Frame};
use places::{Patience, Places};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Pause after `accept` failed: out of file descriptors, mostly.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The address to listen on is not free.
#[derive(Debug, thiserror::Error)]
#[error("listen {address}: {error}; choose a free address of this host")]
pub struct ListenError {
    address: String,
    error: std::io::Error,
}

/// Listens; [`serve`] takes the listener.
pub async fn bind(address: &str) -> Result<TcpListener, ListenError> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| ListenError { address: address.to_owned(), error })
}

/// Serves until `shutdown`, and then tells every client.
pub async fn serve(listener: TcpListener, hub: Arc<Hub>, shutdown: CancellationToken) {
    let places = Places::new(hub.limits(), hub.registry());
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = match places.take(peer.ip()) {
            Ok(place) => place,
            Err(full) => {
                refuse_busy(&socket, full.to_string());
                continue;
            }
        };
        let (hub, shutdown) = (Arc::clone(&hub), shutdown.clone());
        tasks.spawn(async move {
            connection::run(socket, peer, &place, &hub, &shutdown).await;
        });
    }
    tasks.close();
    tasks.wait().await;
}

/// Says so if the socket takes it at once; no task waits for one that is too many.
fn refuse_busy(socket: &TcpStream, message: String) {
    let mut bytes = Vec::new();
    Frame::Error(ErrorFrame { code: ErrorCode::Busy, definite: false, message }).encode(&mut bytes);
    if let Err(error) = socket.try_write(&bytes) {
        tracing::debug!(%error, "refusal not sent");
    }
}

/// Writes all of `buffer`, or gives up once nothing of it was taken for a while, or it takes too long in all.
async fn write_within(
    socket: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut buffer: impl bytes::Buf,
    patience: Patience,
) -> std::io::Result<()> {
    let timed_out = || Err(std::io::ErrorKind::TimedOut.into());
    let begun = Instant::now();
    loop {
        let before = buffer.remaining();
        let left = (patience.idle + patience.more).saturating_sub(begun.elapsed());
        match tokio::time::timeout(patience.idle.min(left), socket.write_all_buf(&mut buffer)).await {
            Ok(written) => return written,
            Err(_) if buffer.remaining() == before || left <= patience.idle => return timed_out(),
            Err(_) => {}
        }
    }
}
