//! Kafka's users with passwords (SCRAM): what Kafka keeps is a salted hash, which is all that is sent.

use super::admin::refused;
use super::{Admin, AdminError};
use crate::secret::Secret;
use kafka_protocol::messages::AlterUserScramCredentialsRequest;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::protocol::StrBytes;
use ring::pbkdf2::{PBKDF2_HMAC_SHA512, derive};
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

/// Kafka's `ScramMechanism` of SCRAM-SHA-512.
const SHA_512: i8 = 2;
/// What a guess at a stolen hash costs; Kafka takes 4096 to 16384.
const ITERATIONS: NonZeroU32 = NonZeroU32::new(8192).unwrap();
const SALT_BYTES: usize = 32;
/// Of SHA-512.
const HASH_BYTES: usize = 64;
/// What Kafka answers where a user to delete is not there.
const NOT_THERE: i16 = 91;

/// Why users are not as they should be.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] AdminError),
    /// No random numbers for the salt.
    #[error("this host gives no random numbers")]
    Random,
}

impl Admin {
    /// Gives users their passwords, and takes those of `gone` away.
    pub async fn set_users(
        &mut self,
        users: &BTreeMap<String, Secret>,
        gone: &BTreeSet<String>,
    ) -> Result<(), UserError> {
        let random = SystemRandom::new();
        let mut upsertions = Vec::new();
        for (name, password) in users {
            let mut salt = vec![0; SALT_BYTES];
            random.fill(&mut salt).map_err(|_unspecified| UserError::Random)?;
            let salted = salted(password, &salt);
            upsertions.push(
                ScramCredentialUpsertion::default()
                    .with_name(StrBytes::from_string(name.clone()))
                    .with_mechanism(SHA_512)
                    .with_iterations(i32::try_from(ITERATIONS.get()).unwrap_or(i32::MAX))
                    .with_salt(salt.into())
                    .with_salted_password(salted.into()),
            );
        }
        let deletions = gone.iter().map(|name| {
            ScramCredentialDeletion::default()
                .with_name(StrBytes::from_string(name.clone()))
                .with_mechanism(SHA_512)
        });
        let request = AlterUserScramCredentialsRequest::default()
            .with_deletions(deletions.collect())
            .with_upsertions(upsertions);
        let answer = self.connection.call(&request).await?;
        for result in answer.results {
            if result.error_code == NOT_THERE && gone.contains(result.user.as_str()) {
                continue;
            }
            let what = format!("set the password of user {}", result.user);
            refused(&what, result.error_code, result.error_message.as_ref())?;
        }
        Ok(())
    }
}

/// RFC 5802's `SaltedPassword`.
fn salted(password: &Secret, salt: &[u8]) -> Vec<u8> {
    let mut hash = vec![0; HASH_BYTES];
    derive(PBKDF2_HMAC_SHA512, ITERATIONS, salt, password.expose().as_bytes(), &mut hash);
    hash
}
