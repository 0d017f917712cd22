//! Votes of controllers.

use super::admin::refused;
use super::{Admin, AdminError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::messages::add_raft_voter_request::Listener;
use kafka_protocol::messages::{AddRaftVoterRequest, RemoveRaftVoterRequest};
use kafka_protocol::protocol::StrBytes;

/// The controllers' listener, as `server.properties` names it.
const LISTENER: &str = "CONTROLLER";
/// How long the leader waits for the new voter.
const TIMEOUT_MS: i32 = 20_000;

impl Admin {
    /// Takes the vote away that a controller has with a directory.
    pub async fn remove_voter(&mut self, id: i32, directory: &str) -> Result<(), AdminError> {
        let what = format!("take the vote of controller {id} away");
        let request = RemoveRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_voter_id(id)
            .with_voter_directory_id(self.directory(directory)?);
        let answer = self.connection.call(&request).await?;
        refused(&what, answer.error_code, answer.error_message.as_ref())
    }

    /// Gives a vote to a controller that follows. `endpoint` is its `host:port`.
    pub async fn add_voter(&mut self, id: i32, directory: &str, endpoint: &str) -> Result<(), AdminError> {
        let (host, port) = endpoint.rsplit_once(':').unwrap_or((endpoint, ""));
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let listener = Listener::default()
            .with_name(StrBytes::from_static_str(LISTENER))
            .with_host(StrBytes::from_string(host.to_owned()))
            .with_port(port.parse().unwrap_or_default());
        let request = AddRaftVoterRequest::default()
            .with_cluster_id(None)
            .with_timeout_ms(TIMEOUT_MS)
            .with_voter_id(id)
            .with_voter_directory_id(self.directory(directory)?)
            .with_listeners(vec![listener]);
        let answer = self.connection.call(&request).await?;
        let what = format!("give controller {id} a vote");
        refused(&what, answer.error_code, answer.error_message.as_ref())
    }

    /// A directory id from how Kafka writes it.
    fn directory(&self, text: &str) -> Result<uuid::Uuid, AdminError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        bytes
            .map(uuid::Uuid::from_bytes)
            .ok_or_else(|| self.connection.nonsense(format!("{text} is no directory id")))
    }
}
