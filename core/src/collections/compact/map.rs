//! The map itself.

use std::{
    borrow::Borrow,
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    iter,
    ops::{Bound, Index, RangeBounds},
    slice, vec,
};

use super::{Entry, Iter, OccupiedEntry, RUN_MAX, Range, Spot, VacantEntry};

/// A map in the order of its keys.
#[derive(Clone)]
pub struct Map<K, V> {
    /// None is empty.
    runs: Vec<Vec<(K, V)>>,
    length: usize,
}

type Entries<K, V> = iter::Flatten<vec::IntoIter<Vec<(K, V)>>>;
type EntriesMut<'a, K, V> = iter::Flatten<slice::IterMut<'a, Vec<(K, V)>>>;

impl<K, V> Map<K, V> {
    /// A map of nothing.
    pub const fn new() -> Self {
        Self {
            runs: Vec::new(),
            length: 0,
        }
    }

    /// How many entries there are.
    pub const fn len(&self) -> usize {
        self.length
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes out everything.
    pub fn clear(&mut self) {
        *self = Self::new();
    }

    /// All entries, the least key first.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter::new(&self.runs, self.length)
    }

    /// The same, to be changed.
    pub fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = (&K, &mut V)> {
        fn split<K, V>((key, value): &mut (K, V)) -> (&K, &mut V) {
            (key, value)
        }
        let entries: EntriesMut<'_, K, V> = self.runs.iter_mut().flatten();
        entries.map(split)
    }

    /// All keys, the least first.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator + Clone {
        self.iter().map(|(key, _)| key)
    }

    /// All values, that of the least key first.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator + Clone {
        self.iter().map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn values_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut V> {
        self.iter_mut().map(|(_, value)| value)
    }

    /// All keys, for good.
    pub fn into_keys(self) -> impl DoubleEndedIterator<Item = K> {
        self.into_iter().map(|(key, _)| key)
    }

    /// All values, for good.
    pub fn into_values(self) -> impl DoubleEndedIterator<Item = V> {
        self.into_iter().map(|(_, value)| value)
    }

    /// The least key and its value.
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next()
    }

    /// The greatest key and its value.
    pub fn last_key_value(&self) -> Option<(&K, &V)> {
        self.iter().next_back()
    }

    /// Takes out the least key.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        (self.length > 0).then(|| self.take(Spot { run: 0, at: 0 }))
    }

    /// Takes out the greatest key.
    pub fn pop_last(&mut self) -> Option<(K, V)> {
        let run = self.runs.len().checked_sub(1)?;
        let at = self.runs[run].len() - 1;
        Some(self.take(Spot { run, at }))
    }

    /// Keeps what `keeps` says.
    pub fn retain(&mut self, mut keeps: impl FnMut(&K, &mut V) -> bool) {
        self.length = 0;
        self.runs.retain_mut(|run| {
            run.retain_mut(|(key, value)| keeps(key, value));
            self.length += run.len();
            !run.is_empty()
        });
    }

    #[cfg(test)]
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn at(&self, spot: Spot) -> &(K, V) {
        &self.runs[spot.run][spot.at]
    }

    pub(super) fn at_mut(&mut self, spot: Spot) -> &mut (K, V) {
        &mut self.runs[spot.run][spot.at]
    }

    /// Takes out what is there.
    pub(super) fn take(&mut self, spot: Spot) -> (K, V) {
        let run = &mut self.runs[spot.run];
        let entry = run.remove(spot.at);
        if run.is_empty() {
            self.runs.remove(spot.run);
        }
        self.length -= 1;
        entry
    }

    /// Puts an entry where its key belongs. Returns where it is now.
    pub(super) fn put(&mut self, mut spot: Spot, entry: (K, V)) -> Spot {
        if self.runs.is_empty() {
            self.runs.push(Vec::new());
        }
        if self.runs[spot.run].len() == RUN_MAX {
            spot = self.cut(spot);
        }
        self.runs[spot.run].insert(spot.at, entry);
        self.length += 1;
        spot
    }

    /// Cuts the run of a place in two. Returns where the place is now.
    fn cut(&mut self, Spot { run, at }: Spot) -> Spot {
        // Keys often come in their order: what is behind them stays full.
        let is_end = run + 1 == self.runs.len() && at == RUN_MAX;
        let middle = if is_end { RUN_MAX } else { RUN_MAX / 2 };
        let upper = self.runs[run].split_off(middle);
        self.runs.insert(run + 1, upper);
        if middle < at || is_end {
            let (run, at) = (run + 1, at - middle);
            return Spot { run, at };
        }
        Spot { run, at }
    }
}

impl<K: Ord, V> Map<K, V> {
    /// Where a key is, or the place in a run that it would take.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<Spot, Spot>
    where
        K: Borrow<Q>,
    {
        let is_before = |run: &Vec<(K, V)>| run.last().is_some_and(|(last, _)| last.borrow() < key);
        let mut run = self.runs.partition_point(is_before);
        let Some(entries) = self.runs.get(run) else {
            // Behind everything: the last run takes it.
            run = run.saturating_sub(1);
            let at = self.runs.last().map_or(0, Vec::len);
            return Err(Spot { run, at });
        };
        match entries.binary_search_by(|(one, _)| one.borrow().cmp(key)) {
            Ok(at) => Ok(Spot { run, at }),
            Err(at) => Err(Spot { run, at }),
        }
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let spot = self.find(key).ok()?;
        Some(&self.at(spot).1)
    }

    /// A key as it is here, and its value.
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (key, value) = self.at(self.find(key).ok()?);
        Some((key, value))
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        let spot = self.find(key).ok()?;
        Some(&mut self.at_mut(spot).1)
    }

    /// Whether there is such a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Gives a key a value; returns the one that it had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(spot) => Some(std::mem::replace(&mut self.at_mut(spot).1, value)),
            Err(spot) => {
                self.put(spot, (key, value));
                None
            }
        }
    }

    /// Takes out a key; returns its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let spot = self.find(key).ok()?;
        Some(self.take(spot).1)
    }

    /// A key's place, to be looked at and filled.
    pub fn entry(&mut self, key: K) -> Entry<'_, K, V> {
        match self.find(&key) {
            Ok(spot) => Entry::Occupied(OccupiedEntry { map: self, spot }),
            Err(spot) => Entry::Vacant(VacantEntry { map: self, spot, key }),
        }
    }

    /// Takes over all of another map, whose values count.
    pub fn append(&mut self, other: &mut Self) {
        self.extend(std::mem::take(other));
    }

    /// Takes out all from this key on.
    pub fn split_off<Q: Ord + ?Sized>(&mut self, key: &Q) -> Self
    where
        K: Borrow<Q>,
    {
        let spot = self.find(key).unwrap_or_else(|spot| spot);
        let mut upper = Self::new();
        if let Some(run) = self.runs.get_mut(spot.run) {
            let cut = run.split_off(spot.at);
            upper.runs = self.runs.split_off(spot.run + 1);
            upper.runs.insert(0, cut);
            for map in [&mut *self, &mut upper] {
                map.runs.retain(|run| !run.is_empty());
                map.length = map.runs.iter().map(Vec::len).sum();
            }
        }
        upper
    }

    /// The entries whose keys lie in a range, the least first.
    pub fn range<Q, R>(&self, range: R) -> Range<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
        R: RangeBounds<Q>,
    {
        let from = match range.start_bound() {
            Bound::Unbounded => Spot { run: 0, at: 0 },
            Bound::Included(key) => self.find(key).unwrap_or_else(|spot| spot),
            Bound::Excluded(key) => self.find(key).map_or_else(|spot| spot, Spot::next),
        };
        let to = match range.end_bound() {
            Bound::Unbounded => Spot {
                run: self.runs.len(),
                at: 0,
            },
            Bound::Included(key) => self.find(key).map_or_else(|spot| spot, Spot::next),
            Bound::Excluded(key) => self.find(key).unwrap_or_else(|spot| spot),
        };
        Range::new(&self.runs, from, to)
    }
}

impl Spot {
    const fn next(self) -> Self {
        Self {
            run: self.run,
            at: self.at + 1,
        }
    }
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Map<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.length == other.length && self.iter().eq(other)
    }
}

impl<K: Eq, V: Eq> Eq for Map<K, V> {}

impl<K: PartialOrd, V: PartialOrd> PartialOrd for Map<K, V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.iter().partial_cmp(other)
    }
}

impl<K: Ord, V: Ord> Ord for Map<K, V> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.iter().cmp(other)
    }
}

impl<K: Hash, V: Hash> Hash for Map<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.length.hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl<K: Ord, V> Extend<(K, V)> for Map<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord + Borrow<Q>, Q: Ord + ?Sized, V> Index<&Q> for Map<K, V> {
    type Output = V;

    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("whoever indexes knows that the key is there")
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = Entries<K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.runs.into_iter().flatten()
    }
}

impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut Map<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = iter::Map<EntriesMut<'a, K, V>, fn(&'a mut (K, V)) -> (&'a K, &'a mut V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.runs.iter_mut().flatten().map(|(key, value)| (key, value))
    }
}
