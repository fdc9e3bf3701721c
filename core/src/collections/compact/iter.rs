//! Ways along a map, from both ends.

use super::Spot;

/// The entries between two places.
#[derive(Debug)]
pub struct Range<'a, K, V> {
    runs: &'a [Vec<(K, V)>],
    from: Spot,
    /// Not of them.
    to: Spot,
}

impl<'a, K, V> Range<'a, K, V> {
    pub(super) fn new(runs: &'a [Vec<(K, V)>], from: Spot, to: Spot) -> Self {
        Self { runs, from, to }
    }
}

impl<'a, K, V> Iterator for Range<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        while self.from < self.to {
            let run = self.runs.get(self.from.run)?;
            if let Some((key, value)) = run.get(self.from.at) {
                self.from.at += 1;
                return Some((key, value));
            }
            self.from = Spot {
                run: self.from.run + 1,
                at: 0,
            };
        }
        None
    }
}

impl<K, V> DoubleEndedIterator for Range<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        while self.from < self.to {
            if self.to.at == 0 {
                self.to.run -= 1;
                self.to.at = self.runs[self.to.run].len();
                continue;
            }
            self.to.at -= 1;
            let (key, value) = &self.runs[self.to.run][self.to.at];
            return Some((key, value));
        }
        None
    }
}

impl<K, V> Clone for Range<'_, K, V> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

/// All entries of a map.
#[derive(Debug)]
pub struct Iter<'a, K, V> {
    range: Range<'a, K, V>,
    left: usize,
}

impl<'a, K, V> Iter<'a, K, V> {
    pub(super) fn new(runs: &'a [Vec<(K, V)>], left: usize) -> Self {
        let (from, to) = (Spot { run: 0, at: 0 }, Spot { run: runs.len(), at: 0 });
        let range = Range::new(runs, from, to);
        Self { range, left }
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.range.next()?;
        self.left -= 1;
        Some(next)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        let next = self.range.next_back()?;
        self.left -= 1;
        Some(next)
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        let range = self.range.clone();
        Self { range, ..*self }
    }
}
