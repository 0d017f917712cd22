//! A step that the connection does not outlive: the host is rebooted and waited for, and what comes after it is done
//! over a new connection.

use super::execute::Run;
use super::outcome::Outcome;
use crate::clock::{Clock, SystemClock};
use crate::host::{Call, Command, Host};
use crate::plan::{Action, Step};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// A server with much memory tests it for minutes.
const BOOT_LIMIT: Duration = Duration::from_mins(15);
const ASK_EVERY: Duration = Duration::from_secs(2);
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// Where in steps the host is rebooted.
pub(super) fn position(steps: &[Step]) -> Option<usize> {
    steps.iter().position(|step| matches!(step.action(), Action::RebootHost(_)))
}

impl Run<'_> {
    /// Does the steps of a host that is rebooted by the one at `at`.
    pub(super) async fn around_reboot(
        &self,
        service: &str,
        host: &str,
        steps: &[Step],
        at: usize,
    ) -> Outcome {
        let Some(connection) = self.session.host(host).map(Arc::clone) else {
            return Outcome::lost(format!("{host}: there is no connection"));
        };
        let before = match boot(connection.as_ref()).await {
            Ok(before) => before,
            Err(error) => return Outcome::lost(format!("{host}: {error}")),
        };
        let ranges = [0..at, at..at + 1, at + 1..steps.len()];
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            let reboots = range.start == at;
            let outcome = self.some(service, host, steps, range.clone()).await;
            // It may go down before it has answered.
            let gone = reboots && outcome.lost;
            if outcome.failure.is_some() && !gone {
                return Outcome { done: outcome.done.max(range.start), ..outcome };
            }
            if reboots && let Err(error) = is_back(connection.as_ref(), &before, BOOT_LIMIT).await {
                return Outcome { done: at, failure: Some((at, format!("{host}: {error}"))), lost: true };
            }
        }
        Outcome { done: steps.len(), failure: None, lost: false }
    }

    /// Some of the steps, in a call of their own.
    async fn some(&self, service: &str, host: &str, steps: &[Step], range: Range<usize>) -> Outcome {
        let some = steps.get(range.clone()).unwrap_or_default();
        match self.script(service, host, some) {
            Ok(mut script) => {
                for end in script.ends.iter_mut().flatten() {
                    *end += range.start;
                }
                let timeout = script.timeout;
                self.call(host, service, script, steps, timeout).await
            }
            Err(error) => Outcome::lost(error.to_string()),
        }
    }
}

/// When its systemd began; another value is another boot.
async fn boot(host: &dyn Host) -> Result<Vec<u8>, String> {
    let show = ["systemctl", "show", "-p", "UserspaceTimestamp,UserspaceTimestampMonotonic"];
    let call = Call { command: Command::Argv(show.map(str::to_owned).to_vec()), timeout: ASK_LIMIT };
    let output = host.call(call, &|_| ()).await.map_err(|error| error.to_string())?;
    match output.status {
        Some(0) if !output.stdout.is_empty() => Ok(output.stdout),
        _ => Err(format!("systemd does not say when it began: {}", output.stderr.trim())),
    }
}

/// Waits until the host answers with another boot.
async fn is_back(host: &dyn Host, before: &[u8], limit: Duration) -> Result<(), String> {
    let started = SystemClock.instant();
    loop {
        let now = match host.reconnect().await {
            Ok(()) => boot(host).await,
            Err(error) => Err(error.to_string()),
        };
        let secs = limit.as_secs();
        match now {
            Ok(now) if now != before => return Ok(()),
            Ok(_) | Err(_) if started.elapsed() < limit => {}
            Ok(_) => {
                return Err(format!(
                    "still the same boot after {secs} s; look there at what holds it up (`systemctl list-jobs`)"
                ));
            }
            Err(error) => {
                return Err(format!(
                    "not back {secs} s after its reboot; look at its console. The last answer was: {error}"
                ));
            }
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{HostError, OnLine, Output};
    use futures_util::future::BoxFuture;

    /// A host that was told to reboot.
    #[derive(Debug)]
    struct Rebooted {
        answers: bool,
        boot: &'static str,
    }

    impl Host for Rebooted {
        fn call<'a>(&'a self, _: Call, _: OnLine<'a>) -> BoxFuture<'a, Result<Output, HostError>> {
            let output = Output { status: Some(0), stdout: self.boot.into(), stderr: String::new() };
            Box::pin(async { Ok(output) })
        }

        fn reconnect(&self) -> BoxFuture<'_, Result<(), HostError>> {
            let lost = HostError::Lost { host: "k1".to_owned() };
            Box::pin(async { if self.answers { Ok(()) } else { Err(lost) } })
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
    }

    #[tokio::test]
    async fn a_host_that_does_not_come_back_says_what_to_look_at() {
        let after =
            async |answers, boot| is_back(&Rebooted { answers, boot }, b"first", Duration::ZERO).await;
        assert_eq!(after(true, "second").await, Ok(()));
        let same = after(true, "first").await.unwrap_err();
        assert!(same.starts_with("still the same boot after 0 s; look there"), "{same}");
        let gone = after(false, "second").await.unwrap_err();
        let words = "not back 0 s after its reboot; look at its console. The last answer was: k1: the connection ended";
        assert!(gone.starts_with(words), "{gone}");
    }
}
