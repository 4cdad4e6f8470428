//! Numbers as Go's `strconv` shows them, because values of `le` are compared as text by dashboards.

/// A number as Prometheus clients written in Go show it: `0.005`, `1`, `1e+06`, `5e-07`, `+Inf`.
pub fn shown(number: f64) -> String {
    if number.is_nan() {
        return "NaN".into();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    // Rust's shortest digits are Go's; only from which exponent on it is written differs.
    let scientific = format!("{number:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse().unwrap_or(0) {
        -4..=5 => number.to_string(),
        exponent => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", i32::abs(exponent))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn numbers_look_as_go_shows_them() {
        for (number, expected) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.005, "0.005"),
            (1.25, "1.25"),
            (-3.5, "-3.5"),
            (1e6, "1e+06"),
            (100_000.0, "100000"),
            (12_582_912.0, "1.2582912e+07"),
            (1_700_000_000.5, "1.7000000005e+09"),
            (5e-7, "5e-07"),
            (0.0001, "0.0001"),
            (f64::INFINITY, "+Inf"),
            (f64::NAN, "NaN"),
        ] {
            assert_eq!(shown(number), expected, "{number}");
        }
    }
}
