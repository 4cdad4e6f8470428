//! Moments as clients write them, and how long ago they were.

use crate::error::{Answer, ApiError};
use std::time::Duration;
use strata_meta::GoDuration;

/// Nanoseconds since 1970 of `1700000000`, `1700000000.000000001` or RFC 3339; nothing of an empty text.
pub(crate) fn parse(text: &str) -> Answer<Option<i128>> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = || ApiError::invalid(format!("invalid time {text:?}"));
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(Some(moment.as_nanosecond()));
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i128 = seconds.parse().map_err(|_| invalid())?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: i128 = digits.parse().map_err(|_| invalid())?;
    Ok(Some(seconds * 1_000_000_000 + nanos))
}

/// [`parse`], or a duration such as `10m` before now.
pub(crate) fn parse_past(text: &str) -> Answer<Option<i128>> {
    // A bare number is a moment.
    match text.parse::<GoDuration>() {
        Ok(before) if text.contains(char::is_alphabetic) => Ok(Some(
            jiff::Timestamp::now().as_nanosecond() - i128::from(before.nanos()),
        )),
        _ => parse(text),
    }
}

/// How long it is until then; nothing if that was.
pub(crate) fn until(nanos: i128) -> Duration {
    let left = nanos - jiff::Timestamp::now().as_nanosecond();
    Duration::from_nanos(u64::try_from(left).unwrap_or(0))
}

/// How long ago an RFC 3339 moment was, as people say it ("3 minutes").
pub(crate) fn ago(text: &str) -> String {
    let then = text.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    strata_template::elapsed(jiff::Timestamp::now().as_second() - then)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_in_both_forms() {
        assert_eq!(parse("").expect("valid"), None);
        assert_eq!(parse("1.5").expect("valid"), Some(1_500_000_000));
        assert_eq!(parse("1970-01-01T00:00:02Z").expect("valid"), Some(2_000_000_000));
        assert!(parse("yesterday").is_err());
    }
}
