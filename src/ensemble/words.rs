//! Four-letter words: what a ZooKeeper server says about itself without a session.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server on the same network answers at once, or it has no time for anybody.
const LIMIT: Duration = Duration::from_secs(2);

/// How a server stands in its ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It leads; so many followers are in sync with it.
    Leading {
        /// Followers with a vote that are in sync.
        synced: usize,
    },
    /// It follows, with a vote.
    Following,
    /// It follows without a vote.
    Observing,
    /// It listens and belongs to no quorum; what it says.
    Waiting(String),
    /// It does not answer; why.
    Down(String),
}

impl Standing {
    /// Serves clients.
    pub fn serves(&self) -> bool {
        matches!(self, Self::Leading { .. } | Self::Following | Self::Observing)
    }
}

/// Asks the server at `address` (`host:port` of its client port).
pub async fn standing(address: &str) -> Standing {
    match tokio::time::timeout(LIMIT, mntr(address)).await {
        Ok(Ok(answer)) => read(&answer),
        Ok(Err(error)) => Standing::Down(error.to_string()),
        Err(_elapsed) => Standing::Down(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

async fn mntr(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"mntr").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn read(answer: &str) -> Standing {
    let values: BTreeMap<&str, &str> = answer.lines().filter_map(|line| line.split_once('\t')).collect();
    match values.get("zk_server_state").map(|state| state.trim()) {
        Some("leader") => {
            let count = |name| values.get(name).and_then(|count| count.trim().parse::<usize>().ok());
            // Learners that are not members yet, or not any more, follow as well.
            let strangers = count("zk_synced_non_voting_followers").unwrap_or(0);
            let followers = count("zk_synced_followers").unwrap_or(0);
            Standing::Leading { synced: followers.saturating_sub(strangers) }
        }
        Some("follower") => Standing::Following,
        Some("observer") => Standing::Observing,
        Some(other) => Standing::Waiting(format!("it is {other}, not in an ensemble")),
        None => Standing::Waiting(answer.trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standing_is_read_from_mntr() {
        assert_eq!(
            read("zk_version\t3.9\nzk_server_state\tleader\nzk_synced_followers\t2\n"),
            Standing::Leading { synced: 2 }
        );
        assert_eq!(
            read("zk_server_state\tleader\nzk_synced_followers\t3\nzk_synced_non_voting_followers\t1\n"),
            Standing::Leading { synced: 2 },
            "a learner stands for no follower"
        );
        assert_eq!(read("zk_server_state\tfollower\n"), Standing::Following);
        assert_eq!(read("zk_server_state\tobserver\n"), Standing::Observing);
        let refusal = "This ZooKeeper instance is not currently serving requests\n";
        assert_eq!(read(refusal), Standing::Waiting(refusal.trim().to_owned()));
    }
}
