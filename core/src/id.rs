//! Names and numbers of things, one type each, so that no two can be mixed up.
//!
//! An id that exists is a valid id: text from outside becomes one through `new` or `FromStr`, once.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    codec::DecodeError,
    limits::{ENTITY_ID_BYTES_MAX, NAME_BYTES_MAX},
};

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is not {what}: {rule}")]
pub struct IdError {
    text: String,
    what: &'static str,
    rule: &'static str,
}

impl IdError {
    fn new(text: &str, what: &'static str, rule: &'static str) -> Self {
        let text = text.chars().take(80).collect();
        Self { text, what, rule }
    }
}

impl From<IdError> for DecodeError {
    fn from(error: IdError) -> Self {
        Self::Invalid {
            field: error.what,
            reason: error.rule,
        }
    }
}

/// Characters of a nanoid.
const NANOID_CHARS: usize = 21;

/// The tenant's generated id: a nanoid, whose 21 characters of 6 bits fit one word.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct TenantId(u128);

impl TenantId {
    /// A new id from random bytes.
    pub fn generate(random: impl Fn(usize) -> Vec<u8>) -> Self {
        let text = nanoid::format(random, &nanoid::alphabet::SAFE, NANOID_CHARS);
        text.parse().expect("a nanoid has 21 characters of the alphabet")
    }

    /// The id as bytes, for keys and hashes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The id from [`Self::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, DecodeError> {
        let id = u128::from_be_bytes(bytes);
        if id >> (6 * NANOID_CHARS) == 0 {
            Ok(Self(id))
        } else {
            Err(DecodeError::invalid("a tenant id", "too large"))
        }
    }
}

/// The nanoid alphabet in the order of its bytes, so that packed ids sort like their texts.
const ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

impl FromStr for TenantId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || {
            IdError::new(
                text,
                "a tenant id",
                "it is a nanoid of 21 characters from A-Z a-z 0-9 _ -",
            )
        };
        if text.len() != NANOID_CHARS {
            return Err(error());
        }
        let mut id = 0_u128;
        for byte in text.bytes() {
            let digit = ALPHABET.binary_search(&byte).map_err(|_| error())?;
            id = id << 6 | digit as u128;
        }
        Ok(Self(id))
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..NANOID_CHARS).rev() {
            let digit = (self.0 >> (6 * place)) & 63;
            let index = usize::try_from(digit).expect("6 bits fit");
            write!(f, "{}", char::from(ALPHABET[index]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<TenantId> for String {
    fn from(id: TenantId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for TenantId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks `text` and takes it as an id.
            pub fn new(text: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.into())) } else { Err(IdError::new(text, $what, $rule)) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(&text)
            }
        }
    };
}

text_id!(
    /// What a subject names: a document. Usually a nanoid; any short text without control characters will do.
    EntityId,
    "an entity id",
    "it has 1 to 128 bytes and no control characters",
    |text| !text.is_empty() && text.len() <= ENTITY_ID_BYTES_MAX && !text.chars().any(char::is_control)
);

text_id!(
    /// `type/field`, e.g. `post/title`.
    Predicate,
    "a predicate",
    "it is type/field, each 1 to 64 letters, digits, _ or -, not starting with a digit or -",
    |text| text.split_once('/').is_some_and(|(kind, field)| is_name(kind) && is_name(field))
);

text_id!(
    /// A place that nodes are in, e.g. `eu-west`.
    RegionName,
    "a region",
    "it has 1 to 32 lower-case letters, digits and dashes, and starts with a letter",
    |text| text.len() <= 32
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
);

text_id!(
    /// The unique name of a tenant: `app`, or `app/name`.
    TenantName,
    "a tenant name",
    "it is app or app/name, each 1 to 64 letters, digits, _ or -, not starting with a digit or -",
    |text| text.split_once('/').map_or_else(|| is_name(text), |(app, name)| is_name(app) && is_name(name))
);

/// Whether `text` may name a type, a field or an app.
pub fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

impl EntityId {
    /// A new nanoid from random bytes.
    pub fn generate(random: impl Fn(usize) -> Vec<u8>) -> Self {
        Self(nanoid::format(random, &nanoid::alphabet::SAFE, NANOID_CHARS).into())
    }
}

impl Predicate {
    /// The part before the slash.
    pub fn entity_type(&self) -> &str {
        self.0.split_once('/').map_or("", |(kind, _)| kind)
    }

    /// The part after the slash.
    pub fn field(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, field)| field)
    }

    /// Names that begin with `_` are Halcyon's own.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('_') || self.field().starts_with('_')
    }
}

/// A node of the cluster. The control plane hands the numbers out and never uses one twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let digits = text.strip_prefix('n').unwrap_or(text);
        digits
            .parse()
            .map(Self)
            .map_err(|_| IdError::new(text, "a node id", "it is an n and a number, as `node list` shows it"))
    }
}

/// Who committed a change set first: a node, in one of its incarnations for one tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OriginId {
    /// The node.
    pub node: NodeId,
    /// Drawn from clock and chance when it first takes a set after a start, or after it entered a placement, so that no
    /// disk can repeat it.
    pub incarnation: u64,
}

impl OriginId {
    /// Bytes of [`Self::to_bytes`].
    pub const BYTES: usize = 16;

    /// An incarnation: 44 bits of milliseconds, then 20 bits of chance.
    pub const fn draw(node: NodeId, wall_millis: u64, random: u64) -> Self {
        Self {
            node,
            incarnation: wall_millis << 20 | random >> 44,
        }
    }

    /// An incarnation that is later than another, whatever a clock says.
    pub const fn draw_after(incarnation: u64, node: NodeId, random: u64) -> Self {
        Self::draw(node, (incarnation >> 20) + 1, random)
    }

    /// Bytes that sort like the ids.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        (u128::from(self.node.0) << 64 | u128::from(self.incarnation)).to_be_bytes()
    }

    /// The id from [`Self::to_bytes`].
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let word = u128::from_be_bytes(bytes);
        let low = |word: u128| u64::try_from(word & u128::from(u64::MAX)).expect("64 bits fit");
        Self {
            node: NodeId(low(word >> 64)),
            incarnation: low(word),
        }
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}", self.node, self.incarnation)
    }
}

/// Place in an origin's sequence for one tenant. The first change set has 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Seq(pub u64);

impl Seq {
    /// The place after this one.
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which commit brought a fact in: its origin and the place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// The origin.
    pub origin: OriginId,
    /// The place in its sequence.
    pub seq: Seq,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_checked_at_the_edge() {
        for good in ["post/title", "_deleted/x", "a/b-c_9"] {
            assert!(Predicate::new(good).is_ok(), "{good}");
        }
        for bad in ["title", "post/", "/title", "post/ti tle", "9post/x", "a/b/c", "post/-x"] {
            assert!(Predicate::new(bad).is_err(), "{bad}");
        }
        assert!(EntityId::new("").is_err() && EntityId::new("a\nb").is_err());
        assert!(EntityId::new(&"x".repeat(129)).is_err());
        assert!(RegionName::new("eu-west").is_ok() && RegionName::new("EU").is_err());
        assert!(TenantName::new("app/name").is_ok() && TenantName::new("app/a/b").is_err());
    }

    proptest! {
        #[test]
        fn a_tenant_id_reads_back_and_sorts_like_its_text(a in "[A-Za-z0-9_-]{21}", b in "[A-Za-z0-9_-]{21}") {
            let (x, y): (TenantId, TenantId) = (a.parse().unwrap(), b.parse().unwrap());
            prop_assert_eq!(x.to_string(), a.clone());
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(TenantId::from_bytes(x.to_bytes()), Ok(x));
        }

        #[test]
        fn an_origin_reads_back(node: u64, incarnation: u64) {
            let origin = OriginId { node: NodeId(node), incarnation };
            prop_assert_eq!(OriginId::from_bytes(origin.to_bytes()), origin);
        }
    }
}
