//! Join tokens: what a new node needs to find its cluster, to know that it is the right one, and to be let in.
//!
//! ```text
//! hjt1.CLUSTER.FINGERPRINT.SECRET.ADDRESS,ADDRESS,…
//! ```
//!
//! A token lets in any number of nodes until it expires: machines that come up together share one. The control plane
//! keeps the hash of the secret and the expiry, nothing else.

use std::{fmt, str::FromStr};

use halcyon_core::env::Env;
use thiserror::Error;

use super::secret::sha256;
use crate::metadata::state::SecretHash;

const PREFIX: &str = "hjt1";

/// Addresses in one token: enough that one of them is up, little enough to paste.
pub const ADDRESSES_MAX: usize = 5;

/// Characters of a token.
const TOKEN_CHARS_MAX: usize = 2_048;

/// An invitation to a cluster.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The cluster's id.
    pub cluster: String,
    /// SHA-256 of the cluster's CA certificate: a node that shows another is an impostor.
    pub ca_fingerprint: [u8; 32],
    /// Peer addresses to ask.
    pub addresses: Vec<String>,
    secret: [u8; 32],
}

/// A text is not a join token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("this is not a join token: one starts with hjt1. and is made by `halcyon token create`; copy all of it")]
pub struct TokenError;

impl JoinToken {
    /// A new one.
    pub fn draw(env: &Env, cluster: String, ca_fingerprint: [u8; 32], mut addresses: Vec<String>) -> Self {
        addresses.truncate(ADDRESSES_MAX);
        let secret = env
            .random_bytes(32)
            .try_into()
            .expect("as many bytes as were asked for");
        Self {
            cluster,
            ca_fingerprint,
            addresses,
            secret,
        }
    }

    /// What the control plane keeps of it.
    pub fn hash(&self) -> SecretHash {
        sha256(&self.secret)
    }

    /// The text that lets in. To be shown once, never logged.
    pub fn reveal(&self) -> String {
        let (fingerprint, secret) = (hex::encode(self.ca_fingerprint), hex::encode(self.secret));
        let addresses = self.addresses.join(",");
        format!("{PREFIX}.{}.{fingerprint}.{secret}.{addresses}", self.cluster)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({} at {:?})", self.cluster, self.addresses)
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        if text.len() > TOKEN_CHARS_MAX {
            return Err(TokenError);
        }
        // Addresses have dots of their own, so they come last.
        let parts: Vec<&str> = text.splitn(5, '.').collect();
        let [PREFIX, cluster, fingerprint, secret, addresses] = parts[..] else {
            return Err(TokenError);
        };
        let bytes = |digits: &str| hex::decode(digits).ok().and_then(|bytes| bytes.try_into().ok());
        let addresses: Vec<String> = addresses.split(',').map(str::to_owned).collect();
        if cluster.is_empty() || addresses.len() > ADDRESSES_MAX || addresses.iter().any(|a| !a.contains(':')) {
            return Err(TokenError);
        }
        Ok(Self {
            cluster: cluster.to_owned(),
            ca_fingerprint: bytes(fingerprint).ok_or(TokenError)?,
            secret: bytes(secret).ok_or(TokenError)?,
            addresses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_keeps_its_secret_out_of_debug() {
        let directory = tempfile::tempdir().unwrap();
        let env = crate::env::system(directory.path()).unwrap();
        let addresses = vec![
            "10.0.0.1:7710".to_owned(),
            "[::1]:7710".to_owned(),
            "a.example:1".to_owned(),
        ];
        let token = JoinToken::draw(&env, "V1StGXR8_Z5jdHi6B-myT".into(), [7; 32], addresses);
        let text = token.reveal();
        assert_eq!(text.parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains(text.split('.').nth(3).unwrap()));
    }

    #[test]
    fn other_texts_are_refused() {
        let hex = "0".repeat(64);
        for text in [
            String::new(),
            "hjt1".into(),
            format!("hjt2.c.{hex}.{hex}.a:1"),
            format!("hjt1.c.{hex}.{hex}."),
            format!("hjt1.c.{hex}.{hex}.a"),
            format!("hjt1..{hex}.{hex}.a:1"),
            format!("hjt1.c.{hex}.00.a:1"),
            format!("hjt1.c.{hex}.{hex}.{}", ["a:1"; 6].join(",")),
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(TokenError), "{text}");
        }
    }
}
