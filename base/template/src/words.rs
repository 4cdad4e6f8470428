//! How docker's tables say sizes, lengths of time and what is too long for a column.

const DECIMAL: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
const BINARY: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/// Bytes with so many digits and a decimal unit: `2.14MB`.
pub fn size(bytes: f64, digits: usize) -> String {
    with_units(bytes, 1000.0, &DECIMAL, digits)
}

/// Bytes with four digits and a binary unit: `1.944GiB`.
pub fn binary_size(bytes: f64) -> String {
    with_units(bytes, 1024.0, &BINARY, 4)
}

fn with_units(mut number: f64, base: f64, units: &[&str], digits: usize) -> String {
    let mut unit = 0;
    while number >= base && unit + 1 < units.len() {
        number /= base;
        unit += 1;
    }
    format!("{}{}", significant(number, digits), units[unit])
}

/// As C's `%.Ng` writes a number below a few thousands.
fn significant(number: f64, digits: usize) -> String {
    if number == 0.0 {
        return "0".into();
    }
    let whole = number.abs().log10().floor().max(0.0) as usize + 1;
    let decimals = match number.abs() < 1.0 {
        true => digits + (-number.abs().log10()).floor() as usize,
        false => digits.saturating_sub(whole),
    };
    let text = format!("{number:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

/// A length of time: `3 weeks`.
pub fn elapsed(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match () {
        () if seconds < 1 => "Less than a second".into(),
        () if seconds == 1 => "1 second".into(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".into(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".into(),
        () if hours < 48 => format!("{hours} hours"),
        () if hours < 24 * 14 => format!("{} days", hours / 24),
        () if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        () if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        () => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// At most so many characters, the last one an ellipsis if there were more.
pub fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// The name of an image with the tag that is meant when there is none.
pub fn tagged(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.contains(':') || name.contains('@') {
        true => name.to_owned(),
        false => format!("{name}:latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_digits_that_matter() {
        for (bytes, digits, expected) in [
            (0.0, 4, "0B"),
            (999.0, 4, "999B"),
            (2_140_000.0, 4, "2.14MB"),
            (1_234_567.0, 4, "1.235MB"),
            (1_234_567.0, 3, "1.23MB"),
            (4_261_502.0, 3, "4.26MB"),
            (187_659_947.0, 3, "188MB"),
            (1_500_000_000.0, 3, "1.5GB"),
            (13_336.0, 3, "13.3kB"),
        ] {
            assert_eq!(size(bytes, digits), expected);
        }
        assert_eq!(binary_size(1024.0 * 1024.0 * 1.5), "1.5MiB");
    }

    #[test]
    fn times_are_said_as_docker_says_them() {
        for (seconds, said) in [
            (0, "Less than a second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (70, "About a minute"),
            (180, "3 minutes"),
            (300, "5 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (7300, "2 hours"),
            (50 * 3600, "2 days"),
            (200_000, "2 days"),
            (15 * 86400, "2 weeks"),
            (1_814_400, "3 weeks"),
            (90 * 86400, "3 months"),
            (31_536_000, "12 months"),
            (70_000_000, "2 years"),
        ] {
            assert_eq!(elapsed(seconds), said, "{seconds}");
        }
    }

    #[test]
    fn texts_are_cut_with_an_ellipsis() {
        assert_eq!(ellipsis("abc", 3), "abc");
        assert_eq!(ellipsis("abcd", 3), "ab…");
    }

    #[test]
    fn an_image_without_a_tag_has_the_latest() {
        for (name, meant) in [
            ("busybox", "busybox:latest"),
            ("host:5000/busybox", "host:5000/busybox:latest"),
            ("host:5000/busybox:1", "host:5000/busybox:1"),
            ("busybox@sha256:00", "busybox@sha256:00"),
        ] {
            assert_eq!(tagged(name), meant);
        }
    }
}
