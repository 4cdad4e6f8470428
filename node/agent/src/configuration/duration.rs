//! Durations as Go writes them: `1m30s`, `1.5h`, `300ms`, `0s`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, str::FromStr, time::Duration};

/// metav1.Duration: never negative here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(Duration);

/// Units with their length in nanoseconds; longer names first where one begins as another.
const UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 60e9),
    ("h", 3600e9),
];

impl GoDuration {
    /// As a length of time.
    pub fn get(self) -> Duration {
        self.0
    }

    /// Whether it is none.
    pub fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl From<Duration> for GoDuration {
    fn from(length: Duration) -> Self {
        Self(length)
    }
}

impl FromStr for GoDuration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let invalid = || format!("time: invalid duration {text:?}");
        if text == "0" {
            return Ok(Self::default());
        }
        let (mut rest, mut nanos) = (text, 0.0);
        if rest.is_empty() {
            return Err(invalid());
        }
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(invalid)?;
            let (number, more) = rest.split_at(end);
            let number: f64 = number.parse().map_err(|_| invalid())?;
            let end = more
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(more.len());
            let (unit, more) = more.split_at(end);
            let (_, length) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(invalid)?;
            nanos += number * length;
            rest = more;
        }
        let length = Duration::try_from_secs_f64(nanos / 1e9).map_err(|_| invalid())?;
        // Go's durations hold 292 years; what is longer would overflow arithmetic with moments.
        (length < Duration::from_secs(292 * 365 * 86_400))
            .then_some(Self(length))
            .ok_or_else(invalid)
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, nanos) = (self.0.as_secs(), self.0.subsec_nanos());
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        match nanos {
            0 => write!(f, "{seconds}s"),
            _ => {
                let fraction = format!("{nanos:09}");
                write!(f, "{seconds}.{}s", fraction.trim_end_matches('0'))
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
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written_as_go_does() {
        for (text, millis, told) in [
            ("1m30s", 90_000, "1m30s"),
            ("1.5h", 5_400_000, "1h30m0s"),
            ("300ms", 300, "0.3s"),
            ("0", 0, "0s"),
            ("5m", 300_000, "5m0s"),
        ] {
            let read: GoDuration = text.parse().expect(text);
            assert_eq!(read.get(), Duration::from_millis(millis), "{text}");
            assert_eq!(read.to_string(), told);
        }
        for bad in ["", "5", "-5s", "s", "1x", "1e3s", "9999999h", "1.2.3s"] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
    }
}
