//! Sizes and times as people write them.

use std::time::Duration;

const SIZES: &[(&str, u64)] =
    &[("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1_000)];

/// Milliseconds of each unit, longest name first where one ends like another.
const TIMES: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("min", 60_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads `8GiB`, `512 MiB`, `4096`.
///
/// # Errors
/// What it must be.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let expected = || "a size such as `512MiB`, `8GiB` or a number of bytes".to_owned();
    let (digits, unit) = split(text);
    let factor = match unit {
        "" | "B" => 1,
        unit => SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?.1,
    };
    digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(expected)
}

/// Reads `250ms`, `10s`, `5m`, `24h`. A number alone is refused: nobody knows its unit.
///
/// # Errors
/// What it must be.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected = || "a time such as `250ms`, `10s`, `5m` or `24h`".to_owned();
    let (digits, unit) = split(text);
    let factor = TIMES.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?.1;
    let millis = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(expected)?;
    Ok(Duration::from_millis(millis))
}

pub(super) fn show_bytes(bytes: u64) -> String {
    let exact = SIZES[..3].iter().find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    match exact {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => bytes.to_string(),
    }
}

pub(super) fn show_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1_000) => format!("{}s", millis / 1_000),
        _ => format!("{millis}ms"),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_read_back_what_they_show() {
        for bytes in [0, 1, 1_000, 1_024, 512 << 20, 8 << 30] {
            assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
        }
        for millis in [0, 1, 250, 1_000, 90_000, 600_000] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }

    #[test]
    fn what_has_no_unit_or_is_negative_is_no_time() {
        for text in ["10", "-1s", "s", "", "1y", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in ["-1", "8 gigs", "", "99999999999GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
        assert_eq!(parse_bytes("8 GiB"), Ok(8 << 30));
    }
}
