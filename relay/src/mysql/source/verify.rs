//! Whether a server still has what was read from it: the same server may have been reset, or restored from a backup, and of
//! MariaDB another one may have its number.

use super::{Reader, file_number};
use crate::gtid::GtidSet;
use crate::mysql::admin::{self, BinaryLogs};
use crate::mysql::connection::{Connection, address};
use crate::mysql::{Definite, Error, Flavor, ServerIdentity, preflight};
use std::time::{Duration, Instant};

/// A transaction is in the binlog before it counts as executed, and waits there for another replica where the server is
/// told so, by default for 10 s.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
/// Between looks.
const LOOK_EVERY: Duration = Duration::from_millis(200);

impl Reader<'_> {
    /// Compares GTIDs, where there are any.
    pub(super) async fn check_history(
        &mut self,
        connection: &mut Connection,
        server: &ServerIdentity,
        logs: &BinaryLogs,
    ) -> Result<(), Error> {
        let Some((position, read)) = self.executed.clone().filter(|(at, _)| at.epoch == self.job.epoch)
        else {
            return Ok(());
        };
        if read.is_empty() {
            return Ok(());
        }
        let lost = lost(connection, server, &read).await?;
        if !lost.is_empty() {
            return Err(self.lost(lost.to_string(), "it lacks these transactions").into());
        }
        let file = logs.files.iter().find(|file| file_number(&file.name) == Some(position.file));
        // It is asked of a place with 32 bits; of those beyond the transaction there alone can tell.
        let file = file.filter(|_| u32::try_from(position.offset).is_ok());
        if let Some(file) = file.filter(|_| server.flavor == Flavor::MariaDb && !self.verified) {
            // Numbers alone do not tell transactions of one server from those of another.
            let there = admin::gtids_at(connection, &file.name, position.offset.max(4)).await?;
            let there: Option<GtidSet> = there.and_then(|set| set.parse().ok());
            // What was left out may have been counted already, so there may be less.
            if !there.as_ref().is_some_and(|there| read.reaches(there)) {
                let wanted = format!("{read} before {}:{}", file.name, position.offset);
                let found =
                    there.map_or_else(|| "nothing begins there".to_owned(), |there| there.to_string());
                return Err(self.lost(wanted, &format!("found there: {found}")).into());
            }
        }
        self.verified = true;
        Ok(())
    }

    fn lost(&self, wanted: String, reason: &str) -> Definite {
        let address = address(&self.job.config.mysql);
        Definite::Lost { address, wanted, reason: reason.to_owned() }
    }
}

/// What of a set a server has lost, once it had the time to count what is in its binlog.
async fn lost(
    connection: &mut Connection,
    server: &ServerIdentity,
    read: &GtidSet,
) -> Result<GtidSet, Error> {
    let begun = Instant::now();
    let mut theirs = server.gtids.clone();
    loop {
        // What cannot be understood says nothing.
        let Ok(known) = theirs.parse() else { return Ok(GtidSet::default()) };
        let lost = read.lost_by(&known, &server.server_uuid);
        if lost.is_empty() || begun.elapsed() > SETTLED_WITHIN {
            return Ok(lost);
        }
        tokio::time::sleep(LOOK_EVERY).await;
        theirs = preflight::identity(connection).await?.gtids;
    }
}
