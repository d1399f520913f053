//! A timer wheel whose timers may ring too soon: what is armed looks at its deadline then, and arms itself again.
//!
//! So a deadline that moves costs nothing until the old one has come. Timers are links of lists, one list for each tick,
//! and taking one back leaves nothing behind.

use std::time::Duration;

use hither_protocol::Moment;

/// How finely time is told: what is due waits no longer than this for its tick.
pub(super) const TICK: Duration = Duration::from_millis(64);
const TICK_NANOS: u64 = TICK.as_nanos() as u64;
/// Ticks ahead, about nine minutes. What is due later rings that often before.
const BUCKETS: u64 = 8_192;
const NONE: u32 = u32::MAX;

/// Timers, one for each slot.
#[derive(Debug)]
pub(super) struct Wheel {
    /// The tick that came last. Its bucket and those before it are empty once [`ring`](Self::ring) found none.
    current: u64,
    heads: Box<[u32]>,
    links: Vec<Link>,
    armed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: u32,
    next: u32,
    bucket: u32,
}

impl Link {
    const UNARMED: Self = Self { previous: NONE, next: NONE, bucket: NONE };
}

impl Wheel {
    pub(super) fn new(now: Moment) -> Self {
        let heads = vec![NONE; BUCKETS as usize].into_boxed_slice();
        Self { current: now.0 / TICK_NANOS, heads, links: Vec::new(), armed: 0 }
    }

    /// Rings for this slot at the first tick that is not before `at`, or sooner. It must not be armed.
    pub(super) fn arm(&mut self, slot: u32, at: Moment) {
        let place = slot as usize;
        if place >= self.links.len() {
            self.links.resize(place + 1, Link::UNARMED);
        }
        debug_assert_eq!(self.links[place].bucket, NONE, "a slot has one timer");
        let tick = at.0.div_ceil(TICK_NANOS).clamp(self.current + 1, self.current + BUCKETS - 1);
        let bucket = tick % BUCKETS;
        let head = std::mem::replace(&mut self.heads[bucket as usize], slot);
        self.links[place] = Link { previous: NONE, next: head, bucket: bucket as u32 };
        if head != NONE {
            self.links[head as usize].previous = slot;
        }
        self.armed += 1;
    }

    pub(super) fn is_armed(&self, slot: u32) -> bool {
        self.links.get(slot as usize).is_some_and(|link| link.bucket != NONE)
    }

    /// Takes the slot's timer back, if it is armed.
    pub(super) fn disarm(&mut self, slot: u32) {
        if !self.is_armed(slot) {
            return;
        }
        let Link { previous, next, bucket } = std::mem::replace(&mut self.links[slot as usize], Link::UNARMED);
        match previous {
            NONE => self.heads[bucket as usize] = next,
            previous => self.links[previous as usize].next = next,
        }
        if next != NONE {
            self.links[next as usize].previous = previous;
        }
        self.armed -= 1;
    }

    /// The next slot whose tick has come; it is no longer armed. To be called until there is none.
    pub(super) fn ring(&mut self, now: Moment) -> Option<u32> {
        let last = now.0 / TICK_NANOS;
        if self.armed == 0 {
            self.current = self.current.max(last);
            return None;
        }
        // One round finds all.
        self.current = self.current.max(last.saturating_sub(BUCKETS));
        loop {
            let slot = self.heads[(self.current % BUCKETS) as usize];
            if slot != NONE {
                self.disarm(slot);
                return Some(slot);
            }
            if self.current >= last {
                return None;
            }
            self.current += 1;
        }
    }

    /// When the next slot rings, if it is before `limit`.
    pub(super) fn next_before(&self, limit: Moment) -> Option<Moment> {
        if self.armed == 0 {
            return None;
        }
        (self.current..self.current + BUCKETS)
            .take_while(|tick| tick.saturating_mul(TICK_NANOS) < limit.0)
            .find(|tick| self.heads[(tick % BUCKETS) as usize] != NONE)
            .map(|tick| Moment(tick * TICK_NANOS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ticks: u64) -> Moment {
        Moment(ticks * TICK_NANOS)
    }

    fn ring(wheel: &mut Wheel, now: Moment) -> Vec<u32> {
        std::iter::from_fn(|| wheel.ring(now)).collect()
    }

    #[test]
    fn a_timer_rings_at_the_first_tick_that_is_not_before_its_time() {
        let mut wheel = Wheel::new(at(1_000));
        wheel.arm(0, Moment(at(1_003).0 + 1));
        assert_eq!(wheel.next_before(at(2_000)), Some(at(1_004)));
        assert_eq!(wheel.next_before(at(1_004)), None);
        assert_eq!(ring(&mut wheel, Moment(at(1_004).0 - 1)), []);
        assert_eq!(ring(&mut wheel, at(1_004)), [0]);
        assert_eq!(ring(&mut wheel, at(1_004)), []);
        assert!(!wheel.is_armed(0));
    }

    #[test]
    fn a_timer_that_is_taken_back_leaves_the_others_of_its_tick() {
        for taken in 0..4 {
            let mut wheel = Wheel::new(at(0));
            for slot in 0..4 {
                wheel.arm(slot, at(3));
            }
            wheel.disarm(taken);
            wheel.disarm(taken);
            let mut rang = ring(&mut wheel, at(3));
            rang.sort_unstable();
            assert_eq!(rang, (0..4).filter(|&slot| slot != taken).collect::<Vec<_>>());
            assert_eq!(wheel.armed, 0);
        }
    }

    #[test]
    fn a_far_timer_rings_too_soon_rather_than_never() {
        let mut wheel = Wheel::new(at(0));
        wheel.arm(0, at(3 * BUCKETS));
        let early = wheel.next_before(Moment(u64::MAX));
        assert_eq!(early, Some(at(BUCKETS - 1)));
        assert_eq!(ring(&mut wheel, at(BUCKETS - 1)), [0]);
        wheel.arm(0, Moment(u64::MAX));
        assert!(wheel.is_armed(0));
    }

    #[test]
    fn a_leap_over_many_rounds_misses_no_timer() {
        let mut wheel = Wheel::new(at(5));
        for slot in 0..BUCKETS as u32 - 1 {
            wheel.arm(slot, at(6 + u64::from(slot)));
        }
        assert_eq!(ring(&mut wheel, at(100 * BUCKETS)).len(), BUCKETS as usize - 1);
        wheel.arm(0, at(100 * BUCKETS + 1));
        assert_eq!(ring(&mut wheel, at(100 * BUCKETS + 1)), [0]);
    }
}
