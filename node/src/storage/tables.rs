//! Every table of a shard's index, what its keys and values are, and the steps from one format to the next.
//!
//! All keys begin with the tenant's number, so a tenant is one range of each table. `n` below is a number in an
//! encoding that keeps order ([`super::keys::put_number`]): its length, then its bytes. Names are interned per tenant;
//! a number is never used again. A new format of a table is a new table (the name ends in the format) and a step in
//! [`super::base`]'s `migrate`.

use redb::TableDefinition;

type Bytes = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// What a shard's file is: `format` -> the version of all that is written here; `watermark` -> the last log frame that
/// is folded in; `tenants` -> the number that the next tenant gets; `log` -> the id of the log that belongs to it;
/// `erased` -> 1 while files may hold bytes of a tenant that was erased.
pub(super) const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta-1");

/// Tenants. Key: the tenant id, 16 bytes. Value: [`super::state::TenantState`].
pub(super) const TENANTS: Bytes = TableDefinition::new("tenants-1");

/// The tables whose rows live in the overlay first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    /// Key: tenant n, kind (1 byte), text. Value: n, the number the text was given.
    Names,
    /// The other way. Key: tenant n, kind, n. Value: the text; a predicate's has a byte of flags before it.
    Ids,
    /// Every register and element. Key: tenant n, subject n, predicate n, 0 for the register or 1 and the element's
    /// value as [`super::keys::put_value`] has it. Value: [`super::facts::Stored`].
    Cells,
    /// Live facts by value; refs in reverse through it. Key: tenant n, predicate n, the value as
    /// [`super::keys::put_value`] has it, 0 or 1 for the part, subject (4 bytes). No value.
    Values,
    /// Deleted entities. Key: tenant n, subject n. Value: [`super::facts::Tomb`].
    Tombstones,
    /// Entities by type. Key: tenant n, type n, subject n. No value. A row may outlive the entity's last fact.
    Types,
    /// Which facts the commits of each origin still hold. Key: tenant n, origin n, seq n, then the fact's place
    /// ([`super::keys::Place`]). No value. A fact that is overwritten leaves, so this never outgrows the facts.
    ByOrigin,
    /// What says that a fact is gone. Key: tenant n, the moment it was received (8 bytes), the fact's place. No value.
    Collectable,
    /// Client numbers. Key: tenant n, client n, origin n. Value: `TakenNumbers`.
    Numbers,
    /// Changes that are kept without being understood. Key: tenant n, origin n, seq n, place in the set n. Value: the
    /// timestamp (24 bytes), the kind, the body.
    Opaque,
    /// Tenants that were erased and whose rows the next fold removes. Key: tenant n. No value.
    Erased,
}

/// How many there are.
pub(super) const TABLES: usize = 11;

impl Table {
    /// All of them.
    pub(super) const ALL: [Self; TABLES] = [
        Self::Names,
        Self::Ids,
        Self::Cells,
        Self::Values,
        Self::Tombstones,
        Self::Types,
        Self::ByOrigin,
        Self::Collectable,
        Self::Numbers,
        Self::Opaque,
        Self::Erased,
    ];

    /// The table's name in the file, with its format.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Names => "names-1",
            Self::Ids => "ids-1",
            Self::Cells => "cells-1",
            Self::Values => "values-1",
            Self::Tombstones => "tombstones-1",
            Self::Types => "types-1",
            Self::ByOrigin => "by-origin-1",
            Self::Collectable => "collectable-1",
            Self::Numbers => "numbers-1",
            Self::Opaque => "opaque-1",
            Self::Erased => "erased-1",
        }
    }

    /// For redb.
    pub(super) const fn definition(self) -> Bytes {
        TableDefinition::new(self.name())
    }

    /// Rows of these are only ever put where there is none, and removed where there is one. So a row that comes and
    /// goes within one layer leaves nothing behind.
    pub(super) const fn is_index(self) -> bool {
        matches!(self, Self::Values | Self::ByOrigin | Self::Collectable)
    }
}
