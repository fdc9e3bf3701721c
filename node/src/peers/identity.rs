//! Who this node is: its number, its certificate and its key, in one file of its data directory.

use std::{fmt, io};

use halcyon_core::{
    env::{Access, Env},
    id::NodeId,
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The file. Its owner alone may read it.
const FILE: &str = "identity";

/// First byte of the file: its format.
const FORMAT: u8 = 1;

/// A node's proof of who it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub node: NodeId,
    /// The cluster it belongs to.
    pub cluster: String,
    /// DER of its certificate.
    pub certificate: Vec<u8>,
    /// PKCS#8 of its key.
    pub key: Vec<u8>,
    /// DER of the cluster's CA certificate.
    pub ca_certificate: Vec<u8>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({} of {})", self.node, self.cluster)
    }
}

/// Why the identity cannot be read or kept.
#[derive(Debug, Error)]
pub enum IdentityError {
    /// The disk said no.
    #[error("the file `{FILE}`: {0}")]
    Disk(#[from] io::Error),
    /// Bytes that are no identity.
    #[error(
        "the file `{FILE}` is damaged or from a newer release; restore it, or join as a new node from an empty directory"
    )]
    Damaged,
}

impl Identity {
    /// The identity of an earlier start; `None` in an empty directory.
    pub fn load(env: &Env) -> Result<Option<Self>, IdentityError> {
        let Some(bytes) = env.disk.read_small(FILE)? else {
            return Ok(None);
        };
        match bytes.split_first() {
            Some((&FORMAT, body)) => postcard::from_bytes(body).map(Some).map_err(|_| IdentityError::Damaged),
            _ => Err(IdentityError::Damaged),
        }
    }

    /// Keeps it for the next start.
    pub fn save(&self, env: &Env) -> Result<(), IdentityError> {
        let mut bytes = vec![FORMAT];
        bytes.extend(postcard::to_allocvec(self).expect("a struct of numbers and bytes is encodable"));
        Ok(env.disk.write_small(FILE, &bytes, Access::Secret)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::authority::Authority;

    #[test]
    fn an_identity_survives_a_restart_and_damage_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let env = crate::env::system(directory.path()).unwrap();
        assert_eq!(Identity::load(&env).unwrap(), None);
        let identity = Authority::create("c").unwrap().first_identity(NodeId(1), "c").unwrap();
        identity.save(&env).unwrap();
        assert_eq!(Identity::load(&env).unwrap(), Some(identity.clone()));
        assert_eq!(format!("{identity:?}"), "Identity(n1 of c)");
        for damage in [&b""[..], b"\x01", b"\x02abc"] {
            env.disk.write_small(FILE, damage, Access::Secret).unwrap();
            assert!(matches!(Identity::load(&env), Err(IdentityError::Damaged)));
        }
    }
}
