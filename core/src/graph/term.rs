//! Terms: values in 16 bytes that copy, hash and compare without looking anything up.
//!
//! ```text
//! bits 125..128  the value's type code
//! bits  61..125  the key: a number's or a date's ordered bits, a boolean, the number of a reference's entity, the first
//!                eight bytes of a text
//! bits  32..61   of a text: its length, if it has at most eight bytes and so is all here; else its number in the
//!                dictionary
//! bits   0..32   zero: in an index this is where the subject stands, so that (object, subject) is one integer
//! ```
//!
//! Equal terms are equal values. The order of the bits is the order of values, but for texts that share their first
//! eight bytes and for references: those compare through the dictionary ([`super::Dictionary::compare`]). Keeping the
//! first bytes beside the number is how Umbra stores strings (Neumann and Freitag, "Umbra: A Disk-Based System with
//! In-Memory Performance", CIDR 2020).

use crate::value::{Number, Value};

/// An entity's number in a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntityNumber(pub u32);

/// A predicate's number in a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PredicateNumber(pub u32);

/// A value, interned. Its `Ord` is the order of the bits: exact for numbers, booleans and dates, and good enough to sort
/// equal terms together for the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(u128);

pub(super) const STRING: u8 = 0;
pub(super) const NUMBER: u8 = 1;
pub(super) const BOOLEAN: u8 = 2;
pub(super) const DATE: u8 = 3;
pub(super) const REF: u8 = 4;
pub(super) const BYTES: u8 = 5;
pub(super) const JSON: u8 = 6;

const CODE_SHIFT: u32 = 125;
const KEY_SHIFT: u32 = 61;
const TEXT_SHIFT: u32 = 32;

/// Bytes of a text that are all in the term.
pub(super) const INLINE_MAX: usize = 8;

/// Numbers of texts begin behind the lengths.
pub(super) const TEXT_FIRST: u32 = 9;

/// One more than the largest number of a text: 29 bits.
pub(super) const TEXT_END: u32 = 1 << 29;

/// The numbers from here on belong to texts that only one query knows.
pub(super) const TEXT_LOCAL: u32 = 1 << 28;

/// The numbers from here on belong to entities that only one query knows.
pub(super) const ENTITY_LOCAL: u32 = 1 << 31;

impl Term {
    /// Nothing: what an optional clause leaves. No value's term.
    pub const NULL: Self = Self::new(7, 0, 0);

    const fn new(code: u8, key: u64, text: u32) -> Self {
        Self((code as u128) << CODE_SHIFT | (key as u128) << KEY_SHIFT | (text as u128) << TEXT_SHIFT)
    }

    /// A number.
    #[inline]
    pub fn number(number: Number) -> Self {
        Self::new(NUMBER, number.ordered_bits(), 0)
    }

    /// A boolean.
    #[inline]
    pub const fn boolean(boolean: bool) -> Self {
        Self::new(BOOLEAN, boolean as u64, 0)
    }

    /// Milliseconds since 1970 UTC.
    #[inline]
    pub const fn date(millis: i64) -> Self {
        Self::new(DATE, millis.cast_unsigned() ^ 1 << 63, 0)
    }

    /// A reference to an entity; also what a subject is bound to.
    #[inline]
    pub const fn entity(entity: EntityNumber) -> Self {
        Self::new(REF, entity.0 as u64, 0)
    }

    /// A text of at most [`INLINE_MAX`] bytes.
    #[inline]
    pub(super) fn short_text(code: u8, bytes: &[u8]) -> Self {
        let len = u32::try_from(bytes.len()).expect("short");
        Self::new(code, first_bytes(bytes), len)
    }

    /// A longer text, with its number.
    #[inline]
    pub(super) fn long_text(code: u8, bytes: &[u8], number: u32) -> Self {
        debug_assert!((TEXT_FIRST..TEXT_END).contains(&number));
        Self::new(code, first_bytes(bytes), number)
    }

    /// The term of a value that needs no dictionary.
    #[inline]
    pub fn inline(value: &Value) -> Option<Self> {
        let (code, bytes) = match value {
            Value::Number(number) => return Some(Self::number(*number)),
            Value::Boolean(boolean) => return Some(Self::boolean(*boolean)),
            Value::Date(millis) => return Some(Self::date(*millis)),
            Value::Ref(_) => return None,
            text => text_of(text)?,
        };
        (bytes.len() <= INLINE_MAX).then(|| Self::short_text(code, bytes))
    }

    /// The type code of the value.
    #[inline]
    pub const fn code(self) -> u8 {
        (self.0 >> CODE_SHIFT) as u8
    }

    #[expect(clippy::cast_possible_truncation, reason = "64 bits are meant")]
    #[inline]
    pub(super) const fn key(self) -> u64 {
        (self.0 >> KEY_SHIFT) as u64
    }

    #[expect(clippy::cast_possible_truncation, reason = "29 bits are meant")]
    #[inline]
    pub(super) const fn text_number(self) -> u32 {
        (self.0 >> TEXT_SHIFT) as u32 & (TEXT_END - 1)
    }

    /// Whether it is a string, bytes or json.
    #[inline]
    pub(super) const fn is_text(self) -> bool {
        matches!(self.code(), STRING | BYTES | JSON)
    }

    /// A list that a query has gathered, by its number there. Behind every value.
    #[inline]
    pub(crate) const fn list(number: u32) -> Self {
        Self::new(7, number as u64 + 1, 0)
    }

    /// The number of a list.
    #[inline]
    pub(crate) const fn as_list(self) -> Option<u32> {
        if self.code() == 7 && self.key() > 0 {
            #[expect(clippy::cast_possible_truncation, reason = "made of 32 bits")]
            return Some((self.key() - 1) as u32);
        }
        None
    }

    /// Whether both are of one type whose bits order like its values.
    #[inline]
    pub(crate) const fn orders_like(self, other: Self) -> bool {
        self.code() == other.code() && matches!(self.code(), NUMBER | BOOLEAN | DATE)
    }

    /// Whether it is nothing.
    #[inline]
    pub const fn is_null(self) -> bool {
        self.code() == 7 && self.key() == 0
    }

    /// Whether only one query knows it, and not the store.
    #[inline]
    pub const fn is_local(self) -> bool {
        match self.as_entity() {
            Some(entity) => entity.0 >= ENTITY_LOCAL,
            None => self.is_text() && self.text_number() >= TEXT_LOCAL,
        }
    }

    /// Whether the dictionary has the rest of it.
    #[inline]
    pub(super) const fn is_long_text(self) -> bool {
        self.text_number() >= TEXT_FIRST
    }

    /// The entity, if it is a reference.
    #[inline]
    pub const fn as_entity(self) -> Option<EntityNumber> {
        if self.code() == REF {
            #[expect(clippy::cast_possible_truncation, reason = "the key of a reference has 32 bits")]
            return Some(EntityNumber(self.key() as u32));
        }
        None
    }

    /// The number, if it is one.
    #[inline]
    pub fn as_number(self) -> Option<Number> {
        if self.code() == NUMBER {
            return Number::from_ordered_bits(self.key()).ok();
        }
        None
    }

    /// The boolean, if it is one.
    #[inline]
    pub const fn as_boolean(self) -> Option<bool> {
        if self.code() == BOOLEAN {
            return Some(self.key() == 1);
        }
        None
    }

    /// The date, if it is one.
    #[inline]
    pub const fn as_date(self) -> Option<i64> {
        if self.code() == DATE {
            return Some((self.key() ^ 1 << 63).cast_signed());
        }
        None
    }

    /// The bytes of a text that is all here. The buffer has zeros behind them.
    #[inline]
    pub(super) fn inline_bytes(self) -> ([u8; INLINE_MAX], usize) {
        (self.key().to_be_bytes(), self.text_number() as usize)
    }

    /// The value, if it needs no dictionary.
    #[inline]
    pub(super) fn to_inline_value(self) -> Option<Value> {
        match self.code() {
            NUMBER => self.as_number().map(Value::Number),
            BOOLEAN => self.as_boolean().map(Value::Boolean),
            DATE => self.as_date().map(Value::Date),
            REF => None,
            _ if self.is_long_text() => None,
            code => {
                let (bytes, len) = self.inline_bytes();
                Some(match code {
                    BYTES => Value::Bytes(bytes[..len].into()),
                    code => {
                        let text = std::str::from_utf8(&bytes[..len]).expect("made of a text");
                        if code == JSON {
                            Value::Json(text.into())
                        } else {
                            Value::string(text)
                        }
                    }
                })
            }
        }
    }

    /// Both halves of the bits, to hash.
    #[expect(clippy::cast_possible_truncation, reason = "the two halves")]
    #[inline]
    pub(crate) const fn halves(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }

    /// A number in the order of values: exact but for texts that share their first bytes, which have one number, and for
    /// references, which have the order of their entities' numbers.
    #[inline]
    pub(crate) const fn order_key(self) -> u128 {
        self.0 >> KEY_SHIFT
    }

    /// The number of a value; none for a reference.
    pub(crate) fn order_key_of(value: &Value) -> Option<u128> {
        match text_of(value) {
            Some((code, bytes)) => Some(Self::new(code, first_bytes(bytes), 0).order_key()),
            None => Self::inline(value).map(Self::order_key),
        }
    }

    /// The numbers of the first and the last string with a prefix.
    pub(crate) fn order_keys_of_prefix(prefix: &str) -> (u128, u128) {
        let first = first_bytes(prefix.as_bytes());
        let open = u32::try_from(prefix.len() * 8).map_or(0, |bits| u64::MAX.checked_shr(bits).unwrap_or(0));
        let key = |key| Self::new(STRING, key, 0).order_key();
        (key(first), key(first | open))
    }

    /// The first and the last number of a type.
    pub(crate) const fn order_keys_of_code(code: u8) -> (u128, u128) {
        let (first, last) = (Self::new(code, 0, 0), Self::new(code, u64::MAX, 0));
        (first.order_key(), last.order_key())
    }

    #[inline]
    pub(super) const fn bits(self) -> u128 {
        self.0
    }

    #[inline]
    pub(super) const fn from_bits(bits: u128) -> Self {
        Self(bits >> TEXT_SHIFT << TEXT_SHIFT)
    }
}

/// Type code and bytes of a value that is a text: a string, bytes or json.
pub(super) fn text_of(value: &Value) -> Option<(u8, &[u8])> {
    match value {
        Value::String(text) => Some((STRING, text.as_bytes())),
        Value::Bytes(bytes) => Some((BYTES, bytes)),
        Value::Json(text) => Some((JSON, text.as_bytes())),
        _ => None,
    }
}

fn first_bytes(bytes: &[u8]) -> u64 {
    let mut first = [0; INLINE_MAX];
    let len = bytes.len().min(INLINE_MAX);
    first[..len].copy_from_slice(&bytes[..len]);
    u64::from_be_bytes(first)
}

/// An object and its subject, as an index by value holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry(u128);

impl Entry {
    /// Of its two parts.
    #[inline]
    pub const fn new(object: Term, subject: EntityNumber) -> Self {
        Self(object.0 | subject.0 as u128)
    }

    /// The first entry that a term may have.
    #[inline]
    pub const fn first(object: Term) -> Self {
        Self(object.0)
    }

    /// The last entry that a term may have.
    #[inline]
    pub const fn last(object: Term) -> Self {
        Self(object.0 | u32::MAX as u128)
    }

    /// Whether type and key of the objects are the same: else the order of the bits is the order.
    #[inline]
    pub(super) const fn shares_key(self, other: Self) -> bool {
        (self.0 ^ other.0) >> KEY_SHIFT == 0
    }

    /// The object.
    #[inline]
    pub const fn object(self) -> Term {
        Term::from_bits(self.0)
    }

    /// The subject.
    #[inline]
    pub const fn subject(self) -> EntityNumber {
        #[expect(clippy::cast_possible_truncation, reason = "the low 32 bits are meant")]
        EntityNumber(self.0 as u32)
    }
}
