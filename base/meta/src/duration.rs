//! Lengths of time as Go writes them: `1h30m0s`, `2.5s`, `300ms`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, str::FromStr, time::Duration};

/// Units with their length in nanoseconds.
const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// The largest number of nanoseconds below zero.
const LIMIT: u64 = 1 << 63;

/// A length of time in nanoseconds, which may be negative: Go's `time.Duration`, metav1.Duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GoDuration(i64);

impl GoDuration {
    /// Of so many nanoseconds.
    pub fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// In nanoseconds.
    pub fn nanos(self) -> i64 {
        self.0
    }

    /// Nothing if it is negative.
    pub fn length(self) -> Option<Duration> {
        u64::try_from(self.0).ok().map(Duration::from_nanos)
    }
}

/// The longest there is for what is longer.
impl From<Duration> for GoDuration {
    fn from(length: Duration) -> Self {
        Self(i64::try_from(length.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Go's `time.ParseDuration`, its errors included.
impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("time: invalid duration {}", quoted(text));
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self(0));
        }
        if rest.is_empty() {
            return Err(invalid());
        }
        let mut total = 0u64;
        while !rest.is_empty() {
            let (whole, after) = digits(rest);
            let (fraction, after) = after.strip_prefix('.').map_or(("", after), digits);
            if whole.is_empty() && fraction.is_empty() {
                return Err(invalid());
            }
            let end = after
                .find(|c: char| c == '.' || c.is_ascii_digit())
                .unwrap_or(after.len());
            let (name, after) = after.split_at(end);
            if name.is_empty() {
                return Err(format!("time: missing unit in duration {}", quoted(text)));
            }
            let Some((_, unit)) = UNITS.iter().find(|(known, _)| *known == name) else {
                return Err(format!(
                    "time: unknown unit {} in duration {}",
                    quoted(name),
                    quoted(text)
                ));
            };
            total = part(whole, fraction, *unit)
                .and_then(|part| total.checked_add(part))
                .filter(|total| *total <= LIMIT)
                .ok_or_else(invalid)?;
            rest = after;
        }
        match (negative, i64::try_from(total)) {
            (false, Ok(nanos)) => Ok(Self(nanos)),
            (true, Ok(nanos)) => Ok(Self(-nanos)),
            (true, Err(_)) => Ok(Self(i64::MIN)),
            (false, Err(_)) => Err(invalid()),
        }
    }
}

/// The digits that a text begins with, and what follows.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// Nanoseconds of `whole.fraction` units; nothing if they are too many.
fn part(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let whole = match whole {
        "" => 0,
        whole => whole.parse::<u64>().ok()?.checked_mul(unit)?,
    };
    // What does not fit any more is too small to count.
    let (mut digits, mut scale) = (0u64, 1f64);
    for digit in fraction.bytes().map(|byte| u64::from(byte - b'0')) {
        match digits.checked_mul(10).and_then(|more| more.checked_add(digit)) {
            Some(more) if more <= LIMIT => digits = more,
            _ => break,
        }
        scale *= 10.0;
    }
    let rest = (digits as f64 * (unit as f64 / scale)) as u64;
    whole.checked_add(rest).filter(|nanos| *nanos <= LIMIT)
}

/// As Go's errors quote: bytes that are not ASCII by their numbers.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..0x80 => out.push(char::from(byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push('"');
    out
}

/// Go's `time.Duration.String`.
impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.unsigned_abs();
        let fraction = |whole: u64, rest: u64, width: usize| match rest {
            0 => whole.to_string(),
            _ => format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0')),
        };
        if self.0 < 0 {
            f.write_str("-")?;
        }
        match total {
            0 => f.write_str("0s"),
            1..1_000 => write!(f, "{total}ns"),
            1_000..1_000_000 => write!(f, "{}\u{b5}s", fraction(total / 1_000, total % 1_000, 3)),
            1_000_000..1_000_000_000 => write!(f, "{}ms", fraction(total / 1_000_000, total % 1_000_000, 6)),
            _ => {
                let seconds = total / 1_000_000_000;
                let last = fraction(seconds % 60, total % 1_000_000_000, 9);
                match (seconds / 3600, seconds / 60 % 60) {
                    (0, 0) => write!(f, "{last}s"),
                    (0, minutes) => write!(f, "{minutes}m{last}s"),
                    (hours, minutes) => write!(f, "{hours}h{minutes}m{last}s"),
                }
            }
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("-0", 0),
            ("1h30m", 5_400_000_000_000),
            ("2.5s", 2_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("-10ms", -10_000_000),
            ("+3us", 3_000),
            ("1\u{b5}s", 1_000),
            ("1\u{3bc}s", 1_000),
            ("0.3333333333333333333h", 1_200_000_000_000),
            ("9007199254.740993s", 9_007_199_254_740_993_000),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(text.parse().map(GoDuration::nanos), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_in_gos_words() {
        for (text, error) in [
            ("", r#"time: invalid duration """#),
            ("-", r#"time: invalid duration "-""#),
            (".s", r#"time: invalid duration ".s""#),
            ("s", r#"time: invalid duration "s""#),
            ("10", r#"time: missing unit in duration "10""#),
            ("1.5", r#"time: missing unit in duration "1.5""#),
            ("3d", r#"time: unknown unit "d" in duration "3d""#),
            ("1 s", r#"time: unknown unit " s" in duration "1 s""#),
            ("1\u{e4}", r#"time: unknown unit "\xc3\xa4" in duration "1\xc3\xa4""#),
            (
                "9223372036854775808ns",
                r#"time: invalid duration "9223372036854775808ns""#,
            ),
            ("9999999999h", r#"time: invalid duration "9999999999h""#),
        ] {
            assert_eq!(text.parse::<GoDuration>(), Err(error.to_owned()));
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5\u{b5}s"),
            (2_030_000, "2.03ms"),
            (1_000_000_000, "1s"),
            (62_250_000_000, "1m2.25s"),
            (300_000_000_000, "5m0s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
            (-90_000_000_000, "-1m30s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(GoDuration(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(GoDuration(nanos)));
        }
    }
}
