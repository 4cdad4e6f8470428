//! Durations as Go writes them: `300ms`, `1h10m`.

use serde::{Deserialize, Deserializer, de::Error};
use std::time::Duration;

/// What Go's `time.ParseDuration` makes of a text that is not negative; nothing of anything else.
pub fn parse(text: &str) -> Option<Duration> {
    let unit = |text: &str| match text {
        "ns" => Some(1e-9),
        "us" | "µs" | "μs" => Some(1e-6),
        "ms" => Some(1e-3),
        "s" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| c != '.' && !c.is_ascii_digit())?;
        let (digits, behind) = rest.split_at(number);
        let end = behind
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(behind.len());
        let (name, behind) = behind.split_at(end);
        seconds += digits.parse::<f64>().ok()? * unit(name)?;
        rest = behind;
    }
    Duration::try_from_secs_f64(seconds).ok().filter(|_| !text.is_empty())
}

/// As Go prints a duration: `1.5ms`, `1m2.25s`.
pub(crate) fn text(time: Duration) -> String {
    let nanos = time.as_nanos();
    let fraction = |whole: u128, unit: u128| {
        let (digits, width) = (whole % unit, unit.ilog10() as usize);
        let rest = format!("{digits:0width$}");
        match rest.trim_end_matches('0') {
            "" => (whole / unit).to_string(),
            rest => format!("{}.{rest}", whole / unit),
        }
    };
    match nanos {
        0 => "0s".into(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(nanos, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(nanos, 1_000_000)),
        _ => {
            let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000);
            let minutes = nanos / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

/// A member of a configuration file.
pub(crate) fn member<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let read = parse(&text).ok_or_else(|| D::Error::custom(format_args!("time: invalid duration {text:?}")))?;
    Ok(Some(read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (nanos, told) in [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5µs"),
            (2_030_000, "2.03ms"),
            (1_000_000_000, "1s"),
            (62_250_000_000, "1m2.25s"),
            (3_600_000_000_001, "1h0m0.000000001s"),
        ] {
            assert_eq!(text(Duration::from_nanos(nanos)), told);
        }
    }

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, wanted) in [
            ("0", Some(0)),
            ("3s", Some(3000)),
            ("1.5s", Some(1500)),
            ("300ms", Some(300)),
            ("1h1m", Some(3_660_000)),
            ("", None),
            ("s", None),
            ("1", None),
            ("-1s", None),
            ("1d", None),
            ("9999999999999999999999h", None),
        ] {
            assert_eq!(parse(text), wanted.map(Duration::from_millis), "{text}");
        }
    }
}
