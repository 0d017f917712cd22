//! How an apply leaves a host: the generation is noted and the lock given back in the last call on it, where it is known
//! beforehand which one that is. A call on all hosts costs more than most steps in it.

use super::execute::Run;
use crate::plan::{Stage, Step};

impl<'a> Run<'a> {
    /// What the last call on a host ends with, before the lock is given back; none where more calls follow, or where
    /// something failed on it.
    pub(super) fn parting(&self, stage: &Stage, host: &str) -> Option<&'a [Step]> {
        let (generation, work) = self.plan.stages.split_last()?;
        if generation.service != Stage::GENERATION || self.has_failed(host) {
            return None;
        }
        if stage.service == Stage::GENERATION {
            return Some(&[]);
        }
        let last = work.last().filter(|last| std::ptr::eq(*last, stage))?;
        let [wave] = last.waves.as_slice() else { return None };
        let notes = generation.waves.iter().find_map(|wave| wave.steps.get(host))?;
        wave.gates.is_empty().then_some(notes)
    }
}
