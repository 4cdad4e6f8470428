//! Lengths of time in the settings: Go's durations, never negative.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::{fmt, str::FromStr, time::Duration};

/// metav1.Duration: never negative here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(Duration);

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
        let read: strata_meta::GoDuration = text.parse()?;
        let length = read.length().ok_or_else(|| format!("{text:?} is negative"))?;
        Ok(Self(length))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        strata_meta::GoDuration::from(self.0).fmt(f)
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
    fn lengths_are_gos_durations_and_not_negative() {
        let read: GoDuration = "1m30s".parse().expect("a duration");
        assert_eq!(
            (read.get(), read.to_string()),
            (Duration::from_secs(90), "1m30s".to_owned())
        );
        for bad in ["", "5", "-5s", "1x", "9999999h"] {
            assert!(bad.parse::<GoDuration>().is_err(), "{bad}");
        }
    }
}
