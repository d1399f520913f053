//! How long to wait before trying again.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

/// Exponential with full jitter: the n-th wait is anywhere between nothing and `min * 2^n`, at most `max`. A thousand
/// clients that lost the same server so come back evenly, not in waves.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, attempts: 0 }
    }

    /// The next wait.
    pub(crate) fn next(&mut self, random: &mut SmallRng) -> Duration {
        let ceiling = ceiling(self.min, self.max, self.attempts);
        self.attempts = self.attempts.saturating_add(1);
        jitter(ceiling, random)
    }

    /// It worked: the next wait is short again.
    pub(crate) const fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// The longest n-th wait.
pub(crate) fn ceiling(min: Duration, max: Duration, attempts: u32) -> Duration {
    2u32.checked_pow(attempts).and_then(|factor| min.checked_mul(factor)).unwrap_or(max).min(max)
}

/// Anything between nothing and `ceiling`.
pub(crate) fn jitter(ceiling: Duration, random: &mut SmallRng) -> Duration {
    let nanoseconds = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(random.random_range(0..=nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn waits_grow_to_the_most_and_are_spread_over_the_whole_range() {
        let mut random = SmallRng::seed_from_u64(1);
        let (min, max) = (Duration::from_millis(50), Duration::from_secs(10));
        let longest: Vec<u128> = (0..10).map(|attempt| ceiling(min, max, attempt).as_millis()).collect();
        assert_eq!(longest, [50, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(ceiling(min, max, u32::MAX), max);

        let mut backoff = Backoff::new(min, max);
        let waits: Vec<Duration> = (0..1_000).map(|_| backoff.next(&mut random)).collect();
        assert!(waits[0] <= min);
        assert!(waits.iter().all(|wait| *wait <= max));
        let (low, high) = (Duration::from_secs(1), Duration::from_secs(9));
        assert!(waits.iter().any(|wait| *wait < low) && waits.iter().any(|wait| *wait > high));
        backoff.reset();
        assert!(backoff.next(&mut random) <= min);
    }
}
