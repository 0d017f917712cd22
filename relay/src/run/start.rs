//! Where a source's reading begins, where its log does not say it.

use super::epoch::{self, Epoch};
use super::source::{Failure, Source};
use crate::gtid::GtidSet;
use crate::log::Writer;
use crate::mysql::Start;
use crate::zk::LowestCheckpoint;

impl Source {
    /// Where to go on in an epoch that began behind the log.
    pub(super) fn cross(
        &self,
        writer: &mut Writer,
        epoch: &Epoch,
        ours: Option<&GtidSet>,
    ) -> Result<Start, Failure> {
        let bad =
            |error: crate::gtid::GtidError| Failure::Definite(format!("epoch {}: {error}", epoch.number));
        let start: GtidSet = epoch.node.start_gtids.parse().map_err(bad)?;
        let none = GtidSet::default();
        let ours = ours.unwrap_or(&none);
        let more = ours.minus(&start);
        if !more.is_empty() {
            return Err(Failure::Definite(format!(
                "epoch {} of source {} began without {more}, which this relay has read: stop it, remove {}, and start it; \
                 consumers go on from another relay",
                epoch.number,
                self.name,
                self.dir.display()
            )));
        }
        let less = start.minus(ours);
        // A relay that was killed does not know the last ones that it passed over, but where its log ends.
        let covered = writer.log().state().covered.map(|covered| covered.position);
        let whole = epoch.node.former_end.is_some_and(|end| covered.is_some_and(|covered| covered >= end));
        if !less.is_empty() && !whole {
            tracing::warn!(source = %self.name, epoch = epoch.number, missing = %less, "the log lacks the end of the former epoch and begins anew");
            writer.clear().map_err(|error| Failure::Transient(error.to_string()))?;
        }
        Ok(Start::Gtid(epoch.node.start_gtids.clone()))
    }

    /// Where an empty log begins: as far back as any group still wants.
    pub(super) async fn first_start(&self, epoch: &Epoch) -> Result<Start, Failure> {
        let configured =
            |text: &str| text.parse::<Start>().map_err(|error| Failure::Definite(error.to_string()));
        // Nothing of a former epoch is read again: of that consumers have everything, or are told that it is gone.
        let of_epoch = || Start::Gtid(epoch.node.start_gtids.clone());
        let unless_later =
            |text: &str| if epoch.number > epoch::FIRST { Ok(of_epoch()) } else { configured(text) };
        let Some(zk) = &self.zk else { return unless_later(&self.config.start) };
        let lowest = zk.lowest_checkpoint(&self.name).await;
        match lowest.map_err(|error| Failure::Transient(error.to_string()))? {
            LowestCheckpoint::None => unless_later(&self.config.start),
            LowestCheckpoint::Start(start) => configured(&start),
            LowestCheckpoint::At(checkpoint) if checkpoint.position.epoch == epoch.number => {
                Ok(Start::At(checkpoint.position))
            }
            LowestCheckpoint::At(_) => Ok(of_epoch()),
        }
    }
}
