//! A set: a map of nothing but keys.

use std::{
    borrow::Borrow,
    fmt, iter,
    ops::{BitAnd, BitOr, RangeBounds, Sub},
};

use super::{Iter, Map};

/// A set in the order of its members.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set<T>(Map<T, ()>);

/// Takes the key of an entry.
type Key<E, T> = fn(E) -> T;

impl<T> Set<T> {
    /// A set of nothing.
    pub const fn new() -> Self {
        Self(Map::new())
    }

    /// How many members there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes out everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// All members, the least first.
    pub fn iter(&self) -> <&Self as IntoIterator>::IntoIter {
        self.into_iter()
    }

    /// The least member.
    pub fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    /// The greatest member.
    pub fn last(&self) -> Option<&T> {
        self.iter().next_back()
    }

    /// Takes out the least member.
    pub fn pop_first(&mut self) -> Option<T> {
        Some(self.0.pop_first()?.0)
    }

    /// Takes out the greatest member.
    pub fn pop_last(&mut self) -> Option<T> {
        Some(self.0.pop_last()?.0)
    }

    /// Keeps what `keeps` says.
    pub fn retain(&mut self, mut keeps: impl FnMut(&T) -> bool) {
        self.0.retain(|member, ()| keeps(member));
    }
}

impl<T: Ord> Set<T> {
    /// Whether this is a member.
    pub fn contains<Q: Ord + ?Sized>(&self, member: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.contains_key(member)
    }

    /// A member as it is here.
    pub fn get<Q: Ord + ?Sized>(&self, member: &Q) -> Option<&T>
    where
        T: Borrow<Q>,
    {
        Some(self.0.get_key_value(member)?.0)
    }

    /// Puts in a member. Says whether it was not there.
    pub fn insert(&mut self, member: T) -> bool {
        self.0.insert(member, ()).is_none()
    }

    /// Takes out a member. Says whether it was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, member: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.remove(member).is_some()
    }

    /// The members in a range, the least first.
    pub fn range<Q, R>(&self, range: R) -> impl DoubleEndedIterator<Item = &T> + Clone
    where
        T: Borrow<Q>,
        Q: Ord + ?Sized,
        R: RangeBounds<Q>,
    {
        self.0.range(range).map(|(member, ())| member)
    }

    /// Takes over all of another set.
    pub fn append(&mut self, other: &mut Self) {
        self.0.append(&mut other.0);
    }

    /// Takes out all from this member on.
    #[must_use]
    pub fn split_off<Q: Ord + ?Sized>(&mut self, member: &Q) -> Self
    where
        T: Borrow<Q>,
    {
        Self(self.0.split_off(member))
    }

    /// Whether the other has all of these.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.iter().all(|member| other.contains(member))
    }

    /// Whether these are all that the other has, or more.
    pub fn is_superset(&self, other: &Self) -> bool {
        other.is_subset(self)
    }

    /// Whether no member is in both.
    pub fn is_disjoint(&self, other: &Self) -> bool {
        self.intersection(other).next().is_none()
    }

    /// What the other does not have.
    pub fn difference<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a T> + Clone {
        self.iter().filter(|member| !other.contains(*member))
    }

    /// What both have.
    pub fn intersection<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a T> + Clone {
        self.iter().filter(|member| other.contains(*member))
    }

    /// What either has.
    pub fn union<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a T> + Clone {
        let (mut these, mut those) = (self.iter().peekable(), other.iter().peekable());
        iter::from_fn(move || {
            let from_those = match (these.peek(), those.peek()) {
                (Some(this), Some(that)) if this == that => {
                    those.next();
                    false
                }
                (Some(this), Some(that)) => that < this,
                (this, _) => this.is_none(),
            };
            if from_those { those.next() } else { these.next() }
        })
    }
}

impl<T: Ord + Clone> BitAnd for &Set<T> {
    type Output = Set<T>;

    fn bitand(self, other: Self) -> Set<T> {
        self.intersection(other).cloned().collect()
    }
}

impl<T: Ord + Clone> BitOr for &Set<T> {
    type Output = Set<T>;

    fn bitor(self, other: Self) -> Set<T> {
        self.union(other).cloned().collect()
    }
}

impl<T: Ord + Clone> Sub for &Set<T> {
    type Output = Set<T>;

    fn sub(self, other: Self) -> Set<T> {
        self.difference(other).cloned().collect()
    }
}

impl<T> Default for Set<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Set<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self).finish()
    }
}

impl<T: Ord> Extend<T> for Set<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, members: I) {
        for member in members {
            self.insert(member);
        }
    }
}

impl<'a, T: Ord + Copy> Extend<&'a T> for Set<T> {
    fn extend<I: IntoIterator<Item = &'a T>>(&mut self, members: I) {
        self.extend(members.into_iter().copied());
    }
}

impl<T: Ord> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(members: I) -> Self {
        let mut set = Self::new();
        set.extend(members);
        set
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for Set<T> {
    fn from(members: [T; N]) -> Self {
        members.into_iter().collect()
    }
}

impl<T> IntoIterator for Set<T> {
    type Item = T;
    type IntoIter = iter::Map<<Map<T, ()> as IntoIterator>::IntoIter, Key<(T, ()), T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|(member, ())| member)
    }
}

impl<'a, T> IntoIterator for &'a Set<T> {
    type Item = &'a T;
    type IntoIter = iter::Map<Iter<'a, T, ()>, Key<(&'a T, &'a ()), &'a T>>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(member, ())| member)
    }
}
