//! A key's place in a map.

use super::{Map, Spot};

/// A key's place, with a value or without.
#[derive(Debug)]
pub enum Entry<'a, K, V> {
    /// The key has a value.
    Occupied(OccupiedEntry<'a, K, V>),
    /// It has none.
    Vacant(VacantEntry<'a, K, V>),
}

/// The place of a key that is there.
#[derive(Debug)]
pub struct OccupiedEntry<'a, K, V> {
    pub(super) map: &'a mut Map<K, V>,
    pub(super) spot: Spot,
}

/// The place of a key that is not there.
#[derive(Debug)]
pub struct VacantEntry<'a, K, V> {
    pub(super) map: &'a mut Map<K, V>,
    pub(super) spot: Spot,
    pub(super) key: K,
}

impl<'a, K, V> Entry<'a, K, V> {
    /// The value, or this one from now on.
    pub fn or_insert(self, value: V) -> &'a mut V {
        self.or_insert_with(|| value)
    }

    /// The value, or from now on the one that is made.
    pub fn or_insert_with(self, make: impl FnOnce() -> V) -> &'a mut V {
        match self {
            Self::Occupied(entry) => entry.into_mut(),
            Self::Vacant(entry) => entry.insert(make()),
        }
    }

    /// The same, made of the key.
    pub fn or_insert_with_key(self, make: impl FnOnce(&K) -> V) -> &'a mut V {
        match self {
            Self::Occupied(entry) => entry.into_mut(),
            Self::Vacant(entry) => {
                let value = make(&entry.key);
                entry.insert(value)
            }
        }
    }

    /// The value, or its type's default from now on.
    pub fn or_default(self) -> &'a mut V
    where
        V: Default,
    {
        self.or_insert_with(V::default)
    }

    /// Changes the value if there is one.
    #[must_use]
    pub fn and_modify(mut self, modify: impl FnOnce(&mut V)) -> Self {
        if let Self::Occupied(entry) = &mut self {
            modify(entry.get_mut());
        }
        self
    }
}

impl<'a, K, V> OccupiedEntry<'a, K, V> {
    /// The value.
    pub fn get(&self) -> &V {
        &self.map.at(self.spot).1
    }

    /// The value, to be changed.
    pub fn get_mut(&mut self) -> &mut V {
        &mut self.map.at_mut(self.spot).1
    }

    /// The same, for as long as the map is borrowed.
    pub fn into_mut(self) -> &'a mut V {
        &mut self.map.at_mut(self.spot).1
    }

    /// Gives another value; returns the one before.
    pub fn insert(&mut self, value: V) -> V {
        std::mem::replace(self.get_mut(), value)
    }

    /// Takes the key out.
    pub fn remove(self) -> V {
        self.map.take(self.spot).1
    }
}

impl<'a, K, V> VacantEntry<'a, K, V> {
    /// Gives the key a value.
    pub fn insert(self, value: V) -> &'a mut V {
        let spot = self.map.put(self.spot, (self.key, value));
        &mut self.map.at_mut(spot).1
    }
}
