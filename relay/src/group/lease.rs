//! How long a member may go on sending without word from ZooKeeper.

use std::time::{Duration, Instant};

/// Ends before the servers can give the member's partitions to another one.
///
/// Two bounds, whichever comes first: two fifths of the session timeout after the client says `Disconnected`
/// (which it does after two fifths without an answer), and four fifths after the last request that is known
/// to have been answered was sent. The second one holds also where nobody ran to notice: after the process
/// was stopped and continued. Never waits for `Expired`, which comes only at seven fifths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    timeout: Duration,
    confirmed: Instant,
    disconnected: Option<Instant>,
}

impl Lease {
    /// A lease whose session answered a request sent at `confirmed`.
    pub fn new(timeout: Duration, confirmed: Instant) -> Self {
        Self { timeout, confirmed, disconnected: None }
    }

    /// A request sent at `sent` was answered.
    pub fn confirm(&mut self, sent: Instant) {
        self.confirmed = self.confirmed.max(sent);
        if self.disconnected.is_some_and(|since| since < sent) {
            self.disconnected = None;
        }
    }

    /// The connection was lost. The first loss counts until a request is answered again.
    pub fn disconnect(&mut self, at: Instant) {
        self.disconnected.get_or_insert(at);
    }

    /// From this moment on nothing may be sent.
    pub fn deadline(&self) -> Instant {
        let silent = self.confirmed + self.timeout * 4 / 5;
        self.disconnected.map_or(silent, |since| silent.min(since + self.timeout * 2 / 5))
    }

    /// Whether sending is allowed.
    pub fn holds(&self, now: Instant) -> bool {
        now < self.deadline()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn ends_two_fifths_after_the_connection_was_lost() {
        let start = Instant::now();
        let mut lease = Lease::new(TIMEOUT, start);
        lease.disconnect(start + Duration::from_secs(2));
        lease.disconnect(start + Duration::from_secs(3));
        assert!(lease.holds(start + Duration::from_millis(5999)));
        assert!(!lease.holds(start + Duration::from_secs(6)));
    }

    #[test]
    fn ends_four_fifths_after_the_last_answer_even_if_nobody_noticed() {
        let start = Instant::now();
        let lease = Lease::new(TIMEOUT, start);
        assert!(lease.holds(start + Duration::from_millis(7999)));
        assert!(!lease.holds(start + Duration::from_secs(8)));
    }

    #[test]
    fn an_answer_to_a_request_sent_after_the_loss_revives_it() {
        let start = Instant::now();
        let mut lease = Lease::new(TIMEOUT, start);
        lease.disconnect(start + Duration::from_secs(2));
        lease.confirm(start + Duration::from_secs(1));
        assert!(!lease.holds(start + Duration::from_secs(6)));
        lease.confirm(start + Duration::from_secs(3));
        assert!(lease.holds(start + Duration::from_secs(10)));
    }
}
