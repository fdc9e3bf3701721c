//! Secrets: drawn, shown once, and after that known only by their hash.
//!
//! A secret has 256 random bits, so a plain SHA-256 is enough, and looking the hash up tells a guesser nothing: equal
//! prefixes of hashes say nothing about prefixes of secrets. None of the types here shows its secret in `Debug`.

use std::{fmt, str::FromStr};

use halcyon_core::env::Env;
use thiserror::Error;

use crate::metadata::state::SecretHash;

/// Random bytes of a secret.
const SECRET_BYTES: usize = 32;

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> SecretHash {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What a secret opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tenant, for its apps: `hk_…`.
    AccessKey,
    /// The control plane, for operators: `hadm_…`.
    Admin,
}

impl Kind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::AccessKey => "hk_",
            Self::Admin => "hadm_",
        }
    }
}

/// A text is not a secret of the kind that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SecretError {
    /// Not ours at all.
    #[error("this is not a Halcyon credential: an access key starts with hk_, an admin credential with hadm_")]
    Malformed,
}

/// An access key or an admin credential, in full.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    kind: Kind,
    secret: [u8; SECRET_BYTES],
}

impl Credential {
    /// A new one.
    pub fn draw(env: &Env, kind: Kind) -> Self {
        let secret = env
            .random_bytes(SECRET_BYTES)
            .try_into()
            .expect("as many bytes as were asked for");
        Self { kind, secret }
    }

    /// What it opens.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What the control plane keeps of it. The kind is part of it, so that no key passes for a credential.
    pub fn hash(&self) -> SecretHash {
        sha256(self.reveal().as_bytes())
    }

    /// The text that opens. To be shown or written once, never logged.
    pub fn reveal(&self) -> String {
        format!("{}{}", self.kind.prefix(), hex::encode(self.secret))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.kind.prefix())
    }
}

impl FromStr for Credential {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, SecretError> {
        let text = text.trim();
        for kind in [Kind::AccessKey, Kind::Admin] {
            if let Some(digits) = text.strip_prefix(kind.prefix()) {
                let bytes = hex::decode(digits).map_err(|_| SecretError::Malformed)?;
                let secret = bytes.try_into().map_err(|_| SecretError::Malformed)?;
                return Ok(Self { kind, secret });
            }
        }
        Err(SecretError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_reads_back_and_its_debug_form_is_silent() {
        let directory = tempfile::tempdir().unwrap();
        let env = crate::env::system(directory.path()).unwrap();
        for kind in [Kind::AccessKey, Kind::Admin] {
            let credential = Credential::draw(&env, kind);
            let text = credential.reveal();
            assert_eq!(text.parse(), Ok(credential.clone()));
            assert_eq!(format!("{text}\n").parse(), Ok(credential.clone()));
            assert!(format!("{credential:?}").len() < 10);
            assert_eq!(sha256(text.as_bytes()), credential.hash());
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "hk_",
            "hk_00",
            "hk_zz",
            "sk_0011",
            &format!("hk_{}", "0".repeat(65)),
        ] {
            assert_eq!(text.parse::<Credential>(), Err(SecretError::Malformed), "{text}");
        }
    }
}
