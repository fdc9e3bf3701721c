//! Sums of numbers that come out the same in any order, and from which a number can be taken away again.
//!
//! A sum is kept exactly and rounded once, when it is read. So a live query that adds and takes away shows, to the
//! last bit, what a fresh evaluation shows. Whole numbers, the common case, sum up in one word; the first other number
//! opens a fixed-point register as wide as all of `f64` (Kulisch's accumulator, in limbs of 32 bits).

use crate::value::Number;

/// Limbs of the register: the 2,098 bits from the least subnormal to the greatest number, and 64 and more for carries.
const LIMBS: usize = 69;

/// Bits of a limb that are in use; the rest of its word takes carries.
const LIMB_BITS: usize = 32;

/// Additions after which carries must move up, long before a word is full.
const ADDITIONS_MAX: u32 = 1 << 30;

/// The place of the bit that stands for one.
const ONE_BIT: usize = 1_074;

/// Whole numbers below this magnitude go the short way. A sum of 2⁶⁴ of them fits its word.
const SHORT_MAX: f64 = 4_611_686_018_427_387_904.0;

/// An exact sum.
#[derive(Debug, Clone, Default)]
pub struct ExactSum {
    whole: i128,
    register: Option<Box<Register>>,
    plus_infinities: i64,
    minus_infinities: i64,
}

#[derive(Debug, Clone)]
struct Register {
    limbs: [i64; LIMBS],
    additions: u32,
}

impl ExactSum {
    /// Adds a number.
    pub fn add(&mut self, number: Number) {
        self.put(number.get(), 1);
    }

    /// Takes away a number that was added.
    pub fn remove(&mut self, number: Number) {
        self.put(number.get(), -1);
    }

    /// The sum, rounded to the nearest number (ties to even). `None` where both infinities meet.
    pub fn get(&self) -> Option<Number> {
        let sum = match (self.plus_infinities != 0, self.minus_infinities != 0) {
            (true, true) => return None,
            (true, false) => f64::INFINITY,
            (false, true) => f64::NEG_INFINITY,
            (false, false) => self.finite(),
        };
        Some(Number::new(sum).expect("neither rounding nor infinity makes a NaN"))
    }

    /// The sum, divided by how many numbers it is of. `None` for none, and where both infinities meet.
    pub fn average(&self, count: u64) -> Option<Number> {
        #[expect(clippy::cast_precision_loss, reason = "no store holds 2^53 triples")]
        let count = count as f64;
        let average = self.get()?.get() / count;
        Number::new(average).ok()
    }

    fn put(&mut self, number: f64, sign: i64) {
        if number == f64::INFINITY {
            self.plus_infinities += sign;
        } else if number == f64::NEG_INFINITY {
            self.minus_infinities += sign;
        } else if number.abs() < SHORT_MAX && number.fract() == 0.0 {
            #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^62")]
            let whole = number as i64;
            self.whole += i128::from(whole) * i128::from(sign);
        } else {
            let register = self.register.get_or_insert_with(Box::default);
            register.put(number, sign);
        }
    }

    fn finite(&self) -> f64 {
        let Some(register) = &self.register else {
            #[expect(clippy::cast_precision_loss, reason = "this is the rounding")]
            return self.whole as f64;
        };
        let mut register = register.clone();
        register.put_whole(self.whole);
        register.round()
    }
}

impl Default for Register {
    fn default() -> Self {
        Self {
            limbs: [0; LIMBS],
            additions: 0,
        }
    }
}

impl Register {
    fn put(&mut self, number: f64, sign: i64) {
        let bits = number.to_bits();
        let fraction = bits & ((1 << 52) - 1);
        let exponent = usize::try_from((bits >> 52) & 0x7ff).expect("11 bits fit");
        let (mantissa, place) = if exponent == 0 {
            (fraction, 0)
        } else {
            (fraction | 1 << 52, exponent - 1)
        };
        let sign = if number.is_sign_negative() { -sign } else { sign };
        self.put_at(u128::from(mantissa), place, sign);
    }

    fn put_whole(&mut self, whole: i128) {
        let sign = if whole < 0 { -1 } else { 1 };
        let magnitude = whole.unsigned_abs();
        self.put_at(magnitude & u128::from(u64::MAX), ONE_BIT, sign);
        self.put_at(magnitude >> 64, ONE_BIT + 64, sign);
    }

    /// Adds a magnitude of at most 64 bits whose lowest bit stands at `place`.
    fn put_at(&mut self, magnitude: u128, place: usize, sign: i64) {
        let mut rest = magnitude << (place % LIMB_BITS);
        let mut limb = place / LIMB_BITS;
        while rest != 0 {
            let low = i64::try_from(rest & 0xffff_ffff).expect("32 bits fit");
            self.limbs[limb] += sign * low;
            rest >>= LIMB_BITS;
            limb += 1;
        }
        self.additions += 1;
        if self.additions >= ADDITIONS_MAX {
            self.carry();
        }
    }

    /// Brings every limb but the last into its 32 bits.
    fn carry(&mut self) {
        let mut carry = 0;
        for limb in &mut self.limbs[..LIMBS - 1] {
            let sum = *limb + carry;
            *limb = sum & 0xffff_ffff;
            carry = sum >> LIMB_BITS;
        }
        self.limbs[LIMBS - 1] += carry;
        self.additions = 0;
    }

    fn round(mut self) -> f64 {
        self.carry();
        let negative = self.limbs[LIMBS - 1] < 0;
        if negative {
            for limb in &mut self.limbs {
                *limb = -*limb;
            }
            self.carry();
        }
        let magnitude = self.round_magnitude();
        if negative { -magnitude } else { magnitude }
    }

    fn round_magnitude(&self) -> f64 {
        let Some(last) = self.limbs.iter().rposition(|limb| *limb != 0) else {
            return 0.0;
        };
        let top_bit = self.limbs[last].ilog2() as usize;
        let highest = last * LIMB_BITS + top_bit;
        if highest < 53 {
            return f64::from_bits(self.bits(0));
        }
        let lowest = highest - 52;
        let mantissa = self.bits(lowest) & ((1 << 53) - 1);
        let half = self.bit(lowest - 1);
        let below = (0..lowest - 1).any(|place| self.bit(place));
        let up = half && (below || mantissa & 1 == 1);
        // A mantissa that rounds up to 2^53 carries into the exponent, which is then right.
        let bits = ((lowest as u64 + 1) << 52) + (mantissa - (1 << 52)) + u64::from(up);
        if bits >= f64::INFINITY.to_bits() {
            f64::INFINITY
        } else {
            f64::from_bits(bits)
        }
    }

    /// 64 bits from `place` upwards.
    fn bits(&self, place: usize) -> u64 {
        let limb = |at: usize| u128::from(self.limbs.get(at).map_or(0, |limb| limb.cast_unsigned()));
        let at = place / LIMB_BITS;
        let window = limb(at) | limb(at + 1) << 32 | limb(at + 2) << 64;
        u64::try_from((window >> (place % LIMB_BITS)) & u128::from(u64::MAX)).expect("64 bits fit")
    }

    fn bit(&self, place: usize) -> bool {
        self.limbs[place / LIMB_BITS] >> (place % LIMB_BITS) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(numbers: &[f64]) -> ExactSum {
        let mut sum = ExactSum::default();
        for &number in numbers {
            sum.add(Number::new(number).unwrap());
        }
        sum
    }

    #[track_caller]
    fn check(numbers: &[f64], expected: Option<f64>) {
        assert_eq!(sum(numbers).get().map(Number::get), expected, "{numbers:?}");
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        check(&[], Some(0.0));
        check(&[1.0, 2.0, -3.0], Some(0.0));
        check(&[0.1; 10], Some(1.0));
        check(&[1e308, 1.0, -1e308], Some(1.0));
        check(&[1e308, 1e308, -1e308], Some(1e308));
        check(&[1e308, 1e308], Some(f64::INFINITY));
        check(&[-1e308, -1e308], Some(f64::NEG_INFINITY));
        check(&[5e-324, 5e-324], Some(1e-323));
        check(&[5e-324, 1e300, -5e-324], Some(1e300));
        check(&[f64::MAX, f64::MIN], Some(0.0));
        check(&[9_007_199_254_740_992.0, 1.0, 0.5], Some(9_007_199_254_740_994.0));
        check(&[9_007_199_254_740_992.0, 1.0], Some(9_007_199_254_740_992.0));
        check(&[-0.5, 0.25], Some(-0.25));
    }

    #[test]
    fn infinities_stay_and_cancel_to_nothing() {
        check(&[f64::INFINITY, 1.0], Some(f64::INFINITY));
        check(&[f64::NEG_INFINITY, 1.5], Some(f64::NEG_INFINITY));
        check(&[f64::INFINITY, f64::NEG_INFINITY], None);
        assert_eq!(sum(&[]).average(0), None);
        assert_eq!(sum(&[1.0, 2.0]).average(2).map(Number::get), Some(1.5));
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>().prop_filter("NaN", |number| !number.is_nan()),
            (-1000..1000_i32).prop_map(f64::from),
            (-1000..1000_i32).prop_map(|number| f64::from(number) / 16.0),
        ]
    }

    proptest! {
        #[test]
        fn it_is_the_exact_sum_rounded_once(parts in proptest::collection::vec((any::<i32>(), 0..60_u32), 0..20)) {
            let numbers: Vec<f64> = parts.iter().map(|&(m, k)| f64::from(m) * 2_f64.powi(30 - k.cast_signed())).collect();
            let exact: i128 = parts.iter().map(|&(m, k)| i128::from(m) << (60 - k)).sum();
            #[expect(clippy::cast_precision_loss, reason = "this is the rounding")]
            let expected = exact as f64 / 2_f64.powi(30);
            prop_assert_eq!(sum(&numbers).get().map(Number::get), Some(expected));
        }

        #[test]
        fn what_was_added_can_be_taken_away(
            stay in proptest::collection::vec(number(), 0..8), go in proptest::collection::vec(number(), 0..8),
        ) {
            let mut both = sum(&go);
            for &number in &stay {
                both.add(Number::new(number).unwrap());
            }
            for &number in &go {
                both.remove(Number::new(number).unwrap());
            }
            prop_assert_eq!(both.get(), sum(&stay).get());
        }
    }
}
