//! Work that a person announces: the monitor mails nothing of it until it is over.

use super::audit::send;
use super::compile::{Script, Upkeep};
use crate::host::Connect;
use crate::inventory::model::Host;
use std::time::Duration;

/// What is worked on: `*` stands for every service of the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work {
    /// The host.
    pub host: String,
    /// The service, as alerts call it; `*` allowed.
    pub service: String,
}

/// What a monitor is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Nothing of it is mailed for so long.
    Begins {
        /// From now on, by the monitor's clock.
        lasts: Duration,
        /// Who, for people.
        by: String,
    },
    /// It is over.
    Ends,
}

impl Work {
    /// The name of its file: a word for each, so that announcing it again replaces what was announced.
    fn name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || ".-_:".contains(c) { c } else { '_' };
        let service = match self.service.as_str() {
            "*" => String::new(),
            service => format!("-{}", service.chars().map(plain).collect::<String>()),
        };
        format!("{}{}{service}", Self::PREFIX, self.host)
    }

    /// What all of these files begin with.
    pub const PREFIX: &str = "maintenance-";
}

/// Tells one monitor; the error is for people.
pub async fn announce(
    connect: &dyn Connect,
    monitor: &Host,
    works: &[Work],
    announcement: &Announcement,
    audit: &str,
) -> Result<(), String> {
    let mut script = Script::new();
    let lines = works.iter().map(|work| match announcement {
        Announcement::Begins { lasts, by } => Upkeep::Downtime {
            name: work.name(),
            host: work.host.clone(),
            service: work.service.clone(),
            seconds: lasts.as_secs(),
            reason: format!("maintenance, said by {by}"),
        },
        Announcement::Ends => Upkeep::DowntimeEnd(work.name()),
    });
    for line in lines.chain([Upkeep::Audit(audit.to_owned())]) {
        script.upkeep(&line).map_err(|error| error.to_string())?;
    }
    let connection = connect.connect(monitor).await.map_err(|error| error.to_string())?;
    let sent = send(connection.as_ref(), &monitor.name, script).await;
    connection.close().await;
    sent
}
