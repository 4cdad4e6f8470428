//! Points and spans of time.

use crate::EvalError;
use std::fmt;

/// A point in time from year 1 to year 9999.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
    /// Seconds east of UTC, of the place it was written for; only writing it back heeds it.
    offset: i32,
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Timestamp {}

impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.seconds, self.nanoseconds).cmp(&(other.seconds, other.nanoseconds))
    }
}

/// A span of time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(pub i64);

const FIRST: i64 = -62_135_596_800;
const LAST: i64 = 253_402_300_799;
const NANO: i128 = 1_000_000_000;

impl Timestamp {
    /// So long after the epoch, or `None` outside of the years that can be written.
    pub fn new(seconds: i64, nanoseconds: u32) -> Option<Self> {
        let valid = (FIRST..=LAST).contains(&seconds) && nanoseconds < 1_000_000_000;
        valid.then_some(Self {
            seconds,
            nanoseconds,
            offset: 0,
        })
    }

    /// RFC 3339 with an offset.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if !text.is_ascii() || bytes.len() < 20 || bytes[10] != b'T' {
            return None;
        }
        let days = parse_date(&text[..10])?;
        let two = |from: usize| digits(text.get(from..from + 2)?);
        if bytes[13] != b':' || bytes[16] != b':' {
            return None;
        }
        let (hour, minute, second) = (two(11)?, two(14)?, two(17)?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let (nanoseconds, rest) = parse_fraction(&text[19..])?;
        let offset = parse_offset(rest)?;
        let time = Self::new(days * 86_400 + hour * 3600 + minute * 60 + second - offset, nanoseconds)?;
        Some(Self {
            offset: offset as i32,
            ..time
        })
    }

    /// RFC 3339, or what the `date-time` format otherwise lets pass: a space or a small `t`, no offset.
    pub(crate) fn parse_lenient(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Self::new(0, 0);
        }
        let upper = text.to_ascii_uppercase().replacen(' ', "T", 1);
        Self::parse(&upper).or_else(|| Self::parse(&format!("{upper}Z")))
    }

    pub(crate) fn parse_date(text: &str) -> Option<Self> {
        Self::new(parse_date(text)? * 86_400, 0)
    }

    pub(crate) fn plus(self, span: Duration) -> Result<Self, EvalError> {
        let total = self.total() + i128::from(span.0);
        let seconds = i64::try_from(total.div_euclid(NANO)).ok();
        let time = seconds.and_then(|s| Self::new(s, total.rem_euclid(NANO) as u32));
        let time = time.map(|time| Self {
            offset: self.offset,
            ..time
        });
        time.ok_or_else(|| EvalError::failed("timestamp overflow"))
    }

    pub(crate) fn since(self, earlier: Self) -> Result<Duration, EvalError> {
        let span = i64::try_from(self.total() - earlier.total());
        span.map(Duration).map_err(|_| EvalError::failed("integer overflow"))
    }

    fn total(self) -> i128 {
        i128::from(self.seconds) * NANO + i128::from(self.nanoseconds)
    }
}

/// Days since the epoch.
fn parse_date(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() != 10 || !text.is_ascii() || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let (year, month, day) = (digits(&text[..4])?, digits(&text[5..7])?, digits(&text[8..])?);
    let leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    (1..=length).contains(&day).then(|| days_from_civil(year, month, day))
}

fn digits(text: &str) -> Option<i64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

fn parse_fraction(text: &str) -> Option<(u32, &str)> {
    let Some(rest) = text.strip_prefix(['.', ',']) else {
        return Some((0, text));
    };
    let length = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, rest) = rest.split_at(length);
    if fraction.is_empty() {
        return None;
    }
    let padded: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some((padded.parse().ok()?, rest))
}

/// Seconds east of UTC.
fn parse_offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.bytes().next()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if text.len() != 6 || text.as_bytes()[3] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(&text[1..3])?, digits(&text[4..])?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

// "chrono-Compatible Low-Level Date Algorithms" (Howard Hinnant), days_from_civil and its inverse.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Year, month and day of so many days since the epoch.
pub(crate) fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted - era * 146_097;
    let of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let of_year = day_of_era - (365 * of_era + of_era / 4 - of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A point in time as a calendar and a clock show it.
pub(crate) struct Civil {
    pub(crate) year: i64,
    pub(crate) month: i64,
    pub(crate) day: i64,
    pub(crate) day_of_year: i64,
    /// From Sunday.
    pub(crate) weekday: i64,
    /// Seconds since midnight.
    pub(crate) clock: i64,
}

impl Timestamp {
    /// The calendar and clock of a place so many seconds east of UTC.
    pub(crate) fn civil(self, offset: i64) -> Civil {
        let local = self.seconds + offset;
        let days = local.div_euclid(86_400);
        let (year, month, day) = civil_from_days(days);
        Civil {
            year,
            month,
            day,
            day_of_year: days - days_from_civil(year, 1, 1),
            weekday: (days + 4).rem_euclid(7),
            clock: local.rem_euclid(86_400),
        }
    }
}

/// RFC 3339 with as many digits of the second as it needs.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let c = self.civil(self.offset.into());
        let (hour, minute, second) = (c.clock / 3600, c.clock / 60 % 60, c.clock % 60);
        write!(
            f,
            "{:04}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}",
            c.year, c.month, c.day
        )?;
        if self.nanoseconds != 0 {
            let fraction = format!("{:09}", self.nanoseconds);
            write!(f, ".{}", fraction.trim_end_matches('0'))?;
        }
        let (sign, minutes) = (if self.offset < 0 { '-' } else { '+' }, self.offset.abs() / 60);
        match minutes {
            0 => f.write_str("Z"),
            _ => write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60),
        }
    }
}

impl Duration {
    /// A signed sequence of decimal numbers with units: `1h30m`, `-1.5s`, `300ms`.
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Some(Self(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let (amount, unit, tail) = parse_part(rest)?;
            total = total.checked_add(amount_of(amount, unit)?)?;
            if total > i128::from(i64::MAX) + 1 {
                return None;
            }
            rest = tail;
        }
        i64::try_from(if negative { -total } else { total }).ok().map(Self)
    }

    /// As `parse`, or what the `duration` format otherwise lets pass: days and weeks, spelled units.
    pub(crate) fn parse_lenient(text: &str) -> Option<Self> {
        Self::parse(text).or_else(|| {
            let text = text.trim();
            let split = text.find(|c: char| c.is_ascii_alphabetic())?;
            let number: f64 = text[..split].trim().parse().ok()?;
            let unit: f64 = match text[split..].trim() {
                "ns" | "nano" | "nanos" | "nanosecond" | "nanoseconds" => 1.0,
                "us" | "micro" | "micros" | "microsecond" | "microseconds" => 1e3,
                "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1e6,
                "s" | "sec" | "secs" | "second" | "seconds" => 1e9,
                "m" | "min" | "mins" | "minute" | "minutes" => 60e9,
                "h" | "hr" | "hour" | "hours" => 3600e9,
                "d" | "day" | "days" => 86_400e9,
                "w" | "wk" | "week" | "weeks" => 604_800e9,
                _ => return None,
            };
            Some(Self((number * unit) as i64))
        })
    }
}

/// A number's digits and how many of them are behind the point.
type Amount = (i128, u32);

fn parse_part(text: &str) -> Option<(Amount, i128, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, rest) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') || whole.len() > 19 {
        return None;
    }
    // Digits beyond what a nanosecond can hold do not count.
    let fraction = &fraction[..fraction.len().min(15)];
    let digits = format!("0{whole}{fraction}").parse().ok()?;
    let end = rest
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => NANO,
        "m" => 60 * NANO,
        "h" => 3600 * NANO,
        _ => return None,
    };
    Some(((digits, fraction.len() as u32), unit, rest))
}

fn amount_of((digits, fraction): Amount, unit: i128) -> Option<i128> {
    Some(digits.checked_mul(unit)? / 10_i128.pow(fraction))
}

/// As `string()` writes a span: seconds, with the fraction it needs.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Upstream goes through a double of seconds.
        let seconds = (self.0 / 1_000_000_000) as f64 + (self.0 % 1_000_000_000) as f64 / 1e9;
        write!(f, "{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for text in [
            "1970-01-01T00:00:00Z",
            "2024-02-29T23:59:59.123Z",
            "0001-01-01T00:00:00Z",
            "9999-12-31T23:59:59.999999999Z",
        ] {
            assert_eq!(Timestamp::parse(text).map(|t| t.to_string()).as_deref(), Some(text));
        }
        assert_eq!(
            Timestamp::parse("2024-01-01T01:00:00+02:00"),
            Timestamp::parse("2023-12-31T23:00:00Z")
        );
        let east = Timestamp::parse("2024-01-01T01:00:00+02:00").map(|t| t.to_string());
        assert_eq!(east.as_deref(), Some("2024-01-01T01:00:00+02:00"));
        for bad in [
            "2023-02-29T00:00:00Z",
            "2024-01-01",
            "2024-01-01T24:00:00Z",
            "2024-01-01 00:00:00Z",
        ] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn spans_are_read_and_written() {
        for (text, nanoseconds) in [("1h30m", 5400e9), ("-1.5s", -1.5e9), ("0", 0.0), ("1.5us", 1500.0)] {
            assert_eq!(Duration::parse(text), Some(Duration(nanoseconds as i64)), "{text}");
        }
        for bad in ["", "1", "h", "1d", "1h 1m", "99999999999h", "."] {
            assert_eq!(Duration::parse(bad), None, "{bad}");
        }
        assert_eq!(Duration(5_400_000_000_000).to_string(), "5400s");
        assert_eq!(Duration(1_500_000).to_string(), "0.0015s");
    }
}
