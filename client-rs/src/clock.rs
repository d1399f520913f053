//! The client's clock: the only place that reads one.

use hither_protocol::{Moment, UnixMillis};

/// Now, on a clock that goes on while the machine sleeps: a lease that ended meanwhile is seen to have ended before
/// anything is done under it.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) fn now() -> Moment {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // The time since boot is never negative.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// Now, on the best clock that the platform's standard library has.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) fn now() -> Moment {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    Moment::default() + START.get_or_init(Instant::now).elapsed()
}

/// The wall clock: to compare with the end of a certificate.
pub(crate) fn wall() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
