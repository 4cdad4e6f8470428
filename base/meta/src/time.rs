//! The API's two time formats.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use std::fmt;

/// A moment in whole seconds, written `2006-01-02T15:04:05Z` (metav1.Time).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

/// A moment in microseconds, written `2006-01-02T15:04:05.000000Z` (metav1.MicroTime).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MicroTime(pub Timestamp);

impl Time {
    /// The current second.
    pub fn now() -> Self {
        Self::from_second(Timestamp::now().as_second())
    }

    /// From seconds since 1970; values outside years 1 to 9999 are clamped.
    pub fn from_second(second: i64) -> Self {
        let clamped = second.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        Self(Timestamp::from_second(clamped).expect("clamped to the valid range"))
    }

    /// Seconds since 1970.
    pub fn as_second(&self) -> i64 {
        self.0.as_second()
    }

    /// This moment moved by so many seconds.
    pub fn plus_seconds(&self, seconds: i64) -> Self {
        Self::from_second(self.as_second().saturating_add(seconds))
    }

    /// Time from `earlier` to this, in seconds; negative if it lies later.
    pub fn seconds_since(&self, earlier: Time) -> i64 {
        self.as_second() - earlier.as_second()
    }

    /// As HTTP's headers have it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7).
    pub fn http_date(&self) -> String {
        self.0.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }

    /// Reads RFC 3339 text.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<Timestamp>().ok().map(|t| Self::from_second(t.as_second()))
    }
}

impl MicroTime {
    /// The current microsecond.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }

    /// Reads RFC 3339 text.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<Timestamp>().ok().map(Self)
    }

    /// Time from `earlier` to this; zero if `earlier` lies later.
    pub fn duration_since(&self, earlier: MicroTime) -> std::time::Duration {
        let gap: SignedDuration = self.0.duration_since(earlier.0);
        gap.try_into().unwrap_or(std::time::Duration::ZERO)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

impl fmt::Display for MicroTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%Y-%m-%dT%H:%M:%S.%6fZ"))
    }
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
                Self::parse(&text).ok_or_else(|| D::Error::custom(format!("parsing time {text:?}: not RFC 3339")))
            }
        }
    };
}
serde_as_text!(Time);
serde_as_text!(MicroTime);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_the_api_writes_them() {
        let t = Time::parse("2026-01-02T03:04:05+01:00").expect("valid");
        assert_eq!(t.to_string(), "2026-01-02T02:04:05Z");
        let m = MicroTime::parse("2026-01-02T03:04:05.12Z").expect("valid");
        assert_eq!(m.to_string(), "2026-01-02T03:04:05.120000Z");
    }
}
