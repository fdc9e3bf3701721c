//! How many change sets a tenant may hand in: a token bucket for each, one second deep. Pure; `now` is an argument.

use std::{collections::BTreeMap, time::Duration};

use halcyon_core::id::TenantId;

use super::limits::RATES_MAX;

/// Buckets of all tenants.
#[derive(Debug, Default)]
pub struct Rates {
    buckets: BTreeMap<TenantId, Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    /// Nanoseconds of rate that are used up.
    used: u64,
    at: Duration,
}

const SECOND: u64 = 1_000_000_000;

impl Rates {
    /// Takes `sets` at once from a tenant's bucket of `per_second`. Otherwise says how long to wait.
    pub fn take(&mut self, tenant: TenantId, sets: u64, per_second: u64, now: Duration) -> Result<(), Duration> {
        if self.buckets.len() >= RATES_MAX && !self.buckets.contains_key(&tenant) {
            self.buckets.clear();
        }
        let bucket = self.buckets.entry(tenant).or_insert(Bucket { used: 0, at: now });
        let passed = u64::try_from(now.saturating_sub(bucket.at).as_nanos()).unwrap_or(u64::MAX);
        bucket.used = bucket.used.saturating_sub(passed);
        bucket.at = now;
        let cost = sets.saturating_mul(SECOND) / per_second.max(1);
        // A push larger than the bucket goes through a full one, or it never would.
        if bucket.used > 0 && bucket.used.saturating_add(cost) > SECOND {
            return Err(Duration::from_nanos(
                (bucket.used.saturating_add(cost) - SECOND).min(bucket.used),
            ));
        }
        bucket.used = bucket.used.saturating_add(cost);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_rate_goes_at_once_and_more_has_to_wait() {
        let (mut rates, tenant) = (Rates::default(), "abcdefghijklmnopqrstu".parse().unwrap());
        let mut take = |sets, at| rates.take(tenant, sets, 10, Duration::from_millis(at));
        assert_eq!(take(10, 0), Ok(()));
        assert_eq!(take(1, 0), Err(Duration::from_millis(100)));
        assert_eq!(take(1, 100), Ok(()));
        assert_eq!(take(100, 100), Err(Duration::from_secs(1)));
        assert_eq!(take(100, 1_100), Ok(()));
        assert_eq!(take(1, 11_000), Err(Duration::from_millis(100)).or(take(1, 11_100)));
    }
}
