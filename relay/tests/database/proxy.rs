//! Stands between two sides of a connection: cuts it, leads elsewhere, or goes silent.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What stands between.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    /// Where new connections lead to.
    to: Arc<AtomicU16>,
    /// Nothing goes through, and nothing ends.
    silent: watch::Sender<bool>,
    /// Ends the connections there are.
    cut: Arc<Mutex<CancellationToken>>,
    /// Bytes after which the next connection ends by itself.
    pub(crate) budget: Arc<AtomicU64>,
    /// Connections that were made.
    pub(crate) made: Arc<AtomicU64>,
}

impl Proxy {
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let proxy = Self {
            port,
            to: Arc::new(AtomicU16::new(to)),
            silent: watch::Sender::default(),
            cut: Arc::default(),
            budget: Arc::new(AtomicU64::new(u64::MAX)),
            made: Arc::default(),
        };
        let (cut, budget, made) =
            (Arc::clone(&proxy.cut), Arc::clone(&proxy.budget), Arc::clone(&proxy.made));
        let (to, silent) = (Arc::clone(&proxy.to), proxy.silent.clone());
        tokio::spawn(async move {
            loop {
                let Ok((relay, _)) = listener.accept().await else { continue };
                made.fetch_add(1, Ordering::Relaxed);
                let (ended, budget) = (cut.lock().unwrap().clone(), budget.swap(u64::MAX, Ordering::Relaxed));
                let (to, silent) = (to.load(Ordering::Relaxed), silent.subscribe());
                tokio::spawn(async move {
                    let Ok(database) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    tokio::select! {
                        () = ended.cancelled() => {}
                        () = forward(relay, database, budget, silent) => {}
                    }
                });
            }
        });
        proxy
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        std::mem::take(&mut *self.cut.lock().unwrap()).cancel();
    }

    /// Leads to another port from now on.
    pub(crate) fn lead_to(&self, port: u16) {
        self.to.store(port, Ordering::Relaxed);
        self.cut();
    }

    /// Lets nothing through to the relay, as a network does that drops everything; or again.
    pub(crate) fn silence(&self, silent: bool) {
        self.silent.send_replace(silent);
    }
}

async fn forward(relay: TcpStream, database: TcpStream, mut budget: u64, mut silent: watch::Receiver<bool>) {
    let (mut from_relay, mut to_relay) = relay.into_split();
    let (mut from_database, mut to_database) = database.into_split();
    let up = tokio::io::copy(&mut from_relay, &mut to_database);
    let down = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let most = usize::try_from(budget).unwrap_or(usize::MAX).min(buffer.len());
            match from_database.read(&mut buffer[..most]).await {
                Ok(read) if read > 0 => {
                    budget -= u64::try_from(read).unwrap();
                    silent.wait_for(|silent| !silent).await.ok();
                    if to_relay.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    };
    tokio::select! {
        _ = up => {}
        () = down => {}
    }
}
