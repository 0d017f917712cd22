//! Follows a count until it is reached, and says how fast it grew: the clock of `bench/kafka`. It looks fifty times a
//! second and starts no program for a look: on two cores those would take a tenth of what is measured.
//!
//! usage: follow PORT METRIC COUNT SECONDS
//!
//! The rate runs from the first look that finds any to the first that finds COUNT; after SECONDS it gives up.

use anyhow::Context as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const PERIOD: Duration = Duration::from_millis(20);
/// A program that is busy answers late.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// The metric's sum over its labels.
fn look(address: SocketAddr, metric: &str) -> std::io::Result<u64> {
    let mut socket = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)?;
    socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    socket.write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let values = answer.lines().filter_map(|line| {
        let rest = line.strip_prefix(metric)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next()?.parse::<u64>().ok())?
    });
    Ok(values.sum())
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, metric, count, seconds] = arguments.as_slice() else {
        anyhow::bail!("usage: follow PORT METRIC COUNT SECONDS");
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().context("PORT")?));
    let count: u64 = count.parse().context("COUNT")?;
    let limit = Duration::from_secs(seconds.parse().context("SECONDS")?);
    let (begun, mut first) = (Instant::now(), None);
    loop {
        let seen = match look(address, metric) {
            Ok(seen) => seen,
            Err(error) if first.is_some() => return Err(error).context("it no longer answers"),
            // It still starts.
            Err(_) => 0,
        };
        let at = Instant::now();
        if seen > 0 && first.is_none() {
            first = Some((seen, at));
        }
        if let Some((from, since)) = first.filter(|_| seen >= count) {
            anyhow::ensure!(from < count, "too few to see a rate");
            let (rows, took) = (u32::try_from(seen - from)?, at.duration_since(since).as_secs_f64());
            let mut out = std::io::stdout();
            writeln!(out, "rate {:.0} seconds {took:.2}", f64::from(rows) / took)?;
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < limit, "gave up at {seen} of {count}");
        std::thread::sleep(PERIOD);
    }
}
