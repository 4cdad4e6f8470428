//! Durations as Go writes them: `1h30m`, `2.5s`.

/// Nanoseconds of a text as Go's `time.ParseDuration` reads it; nothing if it is no duration.
pub fn duration(text: &str) -> Option<i64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let end = unit
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(unit.len());
        total += number
            * match &unit[..end] {
                "ns" => 1.0,
                "us" | "\u{b5}s" | "\u{3bc}s" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                _ => return None,
            };
        rest = &unit[end..];
    }
    let nanos = sign * total;
    let something = text.bytes().any(|byte| byte.is_ascii_digit());
    (something && nanos.abs() < i64::MAX as f64).then_some(nanos as i64)
}

#[cfg(test)]
mod tests {
    use super::duration;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("2.5s", Some(2_500_000_000)),
            ("-10ms", Some(-10_000_000)),
            ("0", Some(0)),
            ("1\u{b5}s", Some(1000)),
            ("", None),
            ("-", None),
            ("10", None),
            ("s", None),
            ("3d", None),
            ("1700000000", None),
            ("9999999999h", None),
        ] {
            assert_eq!(duration(text), expected, "{text}");
        }
    }
}
