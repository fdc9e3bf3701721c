//! A tape of choices: what random tests are made of.
//!
//! A generator asks the tape to choose among so many; behind the end of the tape it always gets the first, which is the
//! plainest. So a shorter tape, or one of smaller numbers, makes a simpler case: whoever shrinks the tape (proptest
//! does, as any vector) shrinks the case, and the tape alone replays it.

/// A tape that is being read.
#[derive(Debug)]
pub struct Choices<'a> {
    tape: &'a [u16],
}

impl<'a> Choices<'a> {
    /// From the beginning.
    pub const fn new(tape: &'a [u16]) -> Self {
        Self { tape }
    }

    /// A number below `count`, which is not zero.
    pub fn below(&mut self, count: usize) -> usize {
        let Some((first, rest)) = self.tape.split_first() else {
            return 0;
        };
        self.tape = rest;
        usize::from(*first) % count
    }

    /// True in one of so many cases.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }

    /// One of these.
    pub fn pick<'b, T>(&mut self, of: &'b [T]) -> &'b T {
        &of[self.below(of.len())]
    }
}
