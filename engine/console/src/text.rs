//! How ids, sizes, times and lists are written for people.

/// The first twelve digits.
pub(crate) fn short(id: &str) -> String {
    let bare = id.strip_prefix("sha256:").unwrap_or(id);
    bare.get(..12).unwrap_or(bare).to_owned()
}

/// At most so many characters, the last one an ellipsis if there were more.
pub(crate) fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(most.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Four digits and a decimal unit: `2.14MB`.
pub(crate) fn size(bytes: f64) -> String {
    with_units(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 4)
}

/// Three digits and a decimal unit.
pub(crate) fn size3(bytes: f64) -> String {
    with_units(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB", "PB"], 3)
}

/// Four digits and a binary unit: `1.944GiB`.
pub(crate) fn binary_size(bytes: f64) -> String {
    with_units(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"], 4)
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

/// Seconds since then as docker says them, with "ago".
pub(crate) fn since(then: i64) -> String {
    format!("{} ago", strata_human(jiff::Timestamp::now().as_second() - then))
}

fn strata_human(seconds: i64) -> String {
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

/// A moment as Go prints it: `2026-01-02 03:04:05 +0000 UTC`.
pub(crate) fn moment(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let text = time.to_string();
    format!("{} +0000 UTC", text.trim_end_matches('Z').replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_four_digits() {
        for (bytes, expected) in [
            (0.0, "0B"),
            (999.0, "999B"),
            (2_140_000.0, "2.14MB"),
            (1_234_567.0, "1.235MB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
        assert_eq!(binary_size(1024.0 * 1024.0 * 1.5), "1.5MiB");
        assert_eq!(size3(1_234_567.0), "1.23MB");
    }

    #[test]
    fn texts_are_cut_with_an_ellipsis() {
        assert_eq!(ellipsis("abc", 3), "abc");
        assert_eq!(ellipsis("abcd", 3), "ab…");
        assert_eq!(short("sha256:0123456789abcdef"), "0123456789ab");
    }
}
