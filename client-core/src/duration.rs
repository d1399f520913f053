//! Durations as people write them: `250ms`, `2s`, `10m`, `24h`.

use std::time::Duration;

use hither_protocol::{ErrorCode, Refusal};

/// Reads a whole number with a unit: `ms`, `s`, `m` or `h`.
///
/// # Errors
/// `InvalidArgument`.
pub fn parse_duration(text: &str) -> Result<Duration, Refusal> {
    let invalid = || {
        Refusal::new(ErrorCode::InvalidArgument, format!("{text:?} is no duration: write a number and ms, s, m or h"))
    };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    milliseconds.map(Duration::from_millis).ok_or_else(invalid)
}

/// Writes what [`parse_duration`] reads, in the largest unit that is exact to the millisecond.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    match milliseconds {
        0 => "0ms".to_owned(),
        _ if milliseconds.is_multiple_of(3_600_000) => format!("{}h", milliseconds / 3_600_000),
        _ if milliseconds.is_multiple_of(60_000) => format!("{}m", milliseconds / 60_000),
        _ if milliseconds.is_multiple_of(1_000) => format!("{}s", milliseconds / 1_000),
        _ => format!("{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_reads_back_what_it_shows() {
        for text in ["250ms", "2s", "10m", "24h", "1500ms"] {
            assert_eq!(parse_duration(text).map(format_duration).as_deref(), Ok(text));
        }
        for text in ["", "5", "s", "-1s", "1.5s", "5 s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
