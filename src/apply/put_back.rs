//! What is done where a service does not become ready with its new configuration.

use super::execute::Run;
use super::outcome::Outcome;
use crate::plan::{Action, Stage, Step};

impl Run<'_> {
    /// Brings the former configuration of a service back, where the plan says how; returns what to tell about it.
    pub(super) async fn put_back(
        &self,
        stage: &Stage,
        host: &str,
        steps: &[Step],
        put_back: &[Step],
    ) -> String {
        if put_back.is_empty() {
            let restarted = steps.iter().any(|step| matches!(step.action(), Action::RestartUnit(_)));
            let words = "nothing was put back, as more than its configuration changes: mend it and run apply again, or go back with `aesop rollback`";
            return if restarted { words.to_owned() } else { String::new() };
        }
        let outcome = match self.script(&format!("{} put back", stage.service), host, put_back) {
            Ok(script) => {
                let timeout = script.timeout;
                self.call(host, &stage.service, script, put_back, timeout).await
            }
            Err(error) => Outcome::lost(error.to_string()),
        };
        match outcome.failure {
            None => format!("the former files were put back, and {} is ready with them again", stage.service),
            Some((number, error))
                if matches!(put_back.get(number).map(Step::action), Some(Action::AwaitStop(_))) =>
            {
                format!(
                    "the former files were not put back, as {} must not be stopped for that: {error}",
                    stage.service
                )
            }
            Some((_, error)) => {
                format!(
                    "the former files were put back, and {} is not ready with them either: {error}",
                    stage.service
                )
            }
        }
    }
}
