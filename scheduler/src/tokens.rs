//! Secrets: attempt tokens, random tokens and their hashes.
//!
//! An attempt token is an HMAC of the attempt under the instance's secret. So a redelivered assignment carries
//! the same token without anybody having kept it, and a server that took over can verify it. Only SHA-256
//! hashes of tokens reach the database.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use tidemill_engine::ids::AttemptKey;
use tidemill_protocol::worker::Token;

/// The secret of an installation: 256 random bits, made once and kept beside the data.
#[derive(Clone)]
pub struct InstanceSecret([u8; 32]);

impl std::fmt::Debug for InstanceSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<secret>")
    }
}

/// The system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the system gave no random bytes")]
pub struct NoEntropy;

fn random_bytes<const N: usize>() -> Result<[u8; N], NoEntropy> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|_| NoEntropy)?;
    Ok(bytes)
}

impl InstanceSecret {
    /// Wraps a secret that was loaded.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes a new one.
    ///
    /// # Errors
    /// [`NoEntropy`].
    pub fn generate() -> Result<Self, NoEntropy> {
        random_bytes().map(Self)
    }

    /// Returns the bytes, to be kept where only the operator reads them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn mac(&self, attempt: &AttemptKey) -> Option<Hmac<Sha256>> {
        // HMAC takes keys of every length; the error exists for other MACs.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        let instance = &attempt.instance;
        // A task id cannot contain a line feed, so the fields cannot run into each other.
        mac.update(
            format!(
                "attempt\n{}\n{}\n{}\n{}\n{}",
                instance.run, instance.task, instance.map_index, attempt.try_number, attempt.epoch
            )
            .as_bytes(),
        );
        Some(mac)
    }

    /// Returns the token of an attempt; the same for the same attempt.
    #[must_use]
    pub fn attempt_token(&self, attempt: &AttemptKey) -> Token {
        Token(self.mac(attempt).map(|mac| hex::encode(mac.finalize().into_bytes())).unwrap_or_default())
    }

    /// Whether `token` belongs to `attempt`; takes the same time wherever they differ.
    #[must_use]
    pub fn is_attempt_token(&self, attempt: &AttemptKey, token: &Token) -> bool {
        let (Some(mac), Ok(bytes)) = (self.mac(attempt), hex::decode(&token.0)) else { return false };
        mac.verify_slice(&bytes).is_ok()
    }
}

/// Makes a random token of 256 bits in hexadecimal digits.
///
/// # Errors
/// [`NoEntropy`].
pub fn random_token() -> Result<Token, NoEntropy> {
    random_bytes::<32>().map(|bytes| Token(hex::encode(bytes)))
}

/// Makes the six characters that end the id of a manual run.
///
/// # Errors
/// [`NoEntropy`].
pub fn random_suffix() -> Result<String, NoEntropy> {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bytes = random_bytes::<6>()?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(byte & 31)])).collect())
}

/// Returns the SHA-256 of a token in hexadecimal digits: the only form that is stored.
#[must_use]
pub fn token_hash(token: &Token) -> String {
    hex::encode(Sha256::digest(token.0.as_bytes()))
}

/// Whether `token` hashes to `stored`. Hashes are compared, so timing tells nothing about the token.
#[must_use]
pub fn is_token(token: &Token, stored: &str) -> bool {
    let hash = token_hash(token);
    hash.len() == stored.len()
        && hash.bytes().zip(stored.bytes()).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use tidemill_engine::ids::{RunKey, TaskId, TaskInstanceKey};

    use super::*;

    fn attempt(task: &str, try_number: u32, epoch: u32) -> AttemptKey {
        let instance = TaskInstanceKey { run: RunKey(7), task: TaskId::new(task).unwrap(), map_index: -1 };
        AttemptKey { instance, try_number, epoch }
    }

    #[test]
    fn an_attempt_token_opens_its_attempt_and_no_other() {
        let secret = InstanceSecret::new([3; 32]);
        let token = secret.attempt_token(&attempt("a", 1, 1));
        assert_eq!(token, secret.attempt_token(&attempt("a", 1, 1)));
        assert!(secret.is_attempt_token(&attempt("a", 1, 1), &token));
        for other in [attempt("aa", 1, 1), attempt("a", 2, 1), attempt("a", 1, 2), attempt("b", 1, 1)] {
            assert!(!secret.is_attempt_token(&other, &token), "{other:?}");
        }
        assert!(!InstanceSecret::new([4; 32]).is_attempt_token(&attempt("a", 1, 1), &token));
        assert!(!secret.is_attempt_token(&attempt("a", 1, 1), &Token("nothing".into())));
        assert!(!secret.is_attempt_token(&attempt("a", 1, 1), &Token(String::new())));
    }

    #[test]
    fn only_the_token_itself_matches_its_hash() {
        let token = random_token().unwrap();
        let hash = token_hash(&token);
        assert!(is_token(&token, &hash));
        assert!(!is_token(&random_token().unwrap(), &hash));
        assert!(!is_token(&token, &hash[..63]));
        assert_eq!(format!("{token:?} {:?}", InstanceSecret::generate().unwrap()), "<secret> <secret>");
    }
}
