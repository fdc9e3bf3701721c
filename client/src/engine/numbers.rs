//! A set of entities by their numbers: one bit each, so that asking costs nothing beside what it guards.

use halcyon_core::graph::EntityNumber;

const BITS: u32 = u64::BITS;

/// See the module's page.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    words: Vec<u64>,
    len: usize,
}

impl Numbers {
    pub(super) const NONE: Self = Self {
        words: Vec::new(),
        len: 0,
    };

    /// False if it was there already.
    pub(super) fn insert(&mut self, number: EntityNumber) -> bool {
        let (word, bit) = place(number);
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let is_new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += usize::from(is_new);
        is_new
    }

    /// False if it was not there.
    pub(super) fn remove(&mut self, number: EntityNumber) -> bool {
        let was_there = self.contains(number);
        if was_there {
            let (word, bit) = place(number);
            self.words[word] &= !bit;
            self.len -= 1;
        }
        was_there
    }

    pub(super) fn contains(&self, number: EntityNumber) -> bool {
        let (word, bit) = place(number);
        self.words.get(word).is_some_and(|held| held & bit != 0)
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// In ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = EntityNumber> + '_ {
        let words = (0_u32..).zip(&self.words).filter(|(_, word)| **word != 0);
        words.flat_map(|(at, word)| {
            let bits = (0..BITS).filter(move |bit| word >> bit & 1 != 0);
            bits.map(move |bit| EntityNumber(at * BITS + bit))
        })
    }
}

const fn place(number: EntityNumber) -> (usize, u64) {
    ((number.0 / BITS) as usize, 1 << (number.0 % BITS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_and_go() {
        let mut numbers = Numbers::default();
        assert!(
            numbers.insert(EntityNumber(70)) && numbers.insert(EntityNumber(3)) && !numbers.insert(EntityNumber(70))
        );
        assert_eq!(numbers.iter().collect::<Vec<_>>(), [EntityNumber(3), EntityNumber(70)]);
        assert!(
            numbers.remove(EntityNumber(3)) && !numbers.remove(EntityNumber(3)) && !numbers.remove(EntityNumber(999))
        );
        assert!(numbers.len() == 1 && numbers.contains(EntityNumber(70)));
    }
}
