//! How a container's output is kept: `LogConfig`.

use crate::config::LogConfig;
use crate::error::{Answer, ApiError};
use strata_engine::LogRotation;

/// What docker's driver `local` keeps.
const USUAL: LogRotation = LogRotation {
    max_bytes: 20 << 20,
    max_files: 5,
};
/// Most files of one log.
const MOST_FILES: u32 = 1000;

/// Refuses drivers and options that there are not.
pub(crate) fn check(config: &LogConfig) -> Answer<()> {
    let refuse = |sentence: String| Err(ApiError::invalid(sentence));
    let kind = match config.kind.as_str() {
        "none" => return Ok(()),
        kind @ ("local" | "json-file") => kind,
        other => return refuse(format!("logger: no log driver named '{other}' is registered")),
    };
    for (key, value) in &config.config {
        match (key.as_str(), value.as_str()) {
            ("mode", "" | "blocking") | ("compress", "" | "false" | "0") | ("max-size" | "max-file", _) => {}
            ("mode", "non-blocking") | ("max-buffer-size", _) => {
                return refuse("logger: the mode non-blocking is not supported".into());
            }
            ("mode", other) => return refuse(format!("logger: logging mode not supported: {other}")),
            ("compress", _) => return refuse("logger: rotated logs are not compressed here".into()),
            ("labels" | "labels-regex" | "env" | "env-regex" | "tag", _) if kind == "json-file" => {
                return refuse(format!("logger: the log opt '{key}' is not supported"));
            }
            _ if kind == "local" => return refuse(format!("unknown log opt '{key}' for log driver {kind}")),
            _ => return refuse(format!("unknown log opt '{key}' for {kind} log driver")),
        }
    }
    Ok(())
}

/// When a log is rotated.
pub(crate) fn rotation(config: &LogConfig) -> Answer<LogRotation> {
    let failed = |why: &str| {
        ApiError::internal(format!(
            "failed to create task for container: failed to initialize logging driver: {why}"
        ))
    };
    let local = config.kind != "json-file";
    // docker's json-file grows for ever unless it is given a size; here it is kept within the same bounds.
    let mut all = USUAL;
    if !local && config.config.contains_key("max-size") {
        all.max_files = 1;
    }
    if let Some(text) = config.config.get("max-size") {
        let bytes = bytes(text, if local { 1024.0 } else { 1000.0 }).ok_or_else(|| failed(&invalid_size(text)))?;
        all.max_bytes = bytes;
        if bytes == 0 {
            return Err(failed("max-size must be a positive number"));
        }
    }
    if let Some(text) = config.config.get("max-file") {
        let number: i64 = text
            .parse()
            .map_err(|_| failed(&format!("strconv.Atoi: parsing {text:?}: invalid syntax")))?;
        if number < 1 {
            return Err(failed("max-file cannot be less than 1"));
        }
        all.max_files = u32::try_from(number).unwrap_or(MOST_FILES).min(MOST_FILES);
    }
    Ok(all)
}

fn invalid_size(text: &str) -> String {
    format!("invalid size: '{text}'")
}

/// `10m`, with units of that many to the next.
fn bytes(text: &str, base: f64) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let end = lower
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(lower.len());
    let number: f64 = lower[..end].parse().ok()?;
    let unit = lower[end..].trim().trim_end_matches('b').trim_end_matches('i');
    let power = ["", "k", "m", "g", "t", "p"].iter().position(|known| *known == unit)?;
    Some((number * base.powi(i32::try_from(power).ok()?)) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: &str, options: &[(&str, &str)]) -> LogConfig {
        LogConfig {
            kind: kind.into(),
            config: options
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn drivers_and_options_are_carried_out_or_refused() {
        let told = |kind: &str, options: &[(&str, &str)]| check(&config(kind, options)).err().map(|e| e.message);
        assert_eq!(told("none", &[("anything", "x")]), None);
        assert_eq!(told("local", &[("max-size", "1m"), ("compress", "false")]), None);
        assert_eq!(
            told("syslog", &[]).as_deref(),
            Some("logger: no log driver named 'syslog' is registered")
        );
        assert_eq!(
            told("json-file", &[("size", "1")]).as_deref(),
            Some("unknown log opt 'size' for json-file log driver")
        );
        assert!(told("local", &[("mode", "non-blocking")]).is_some() && told("local", &[("tag", "x")]).is_some());
    }

    #[test]
    fn logs_are_rotated_as_the_driver_says() {
        let of = |kind: &str, options: &[(&str, &str)]| {
            rotation(&config(kind, options))
                .map(|all| (all.max_bytes, all.max_files))
                .ok()
        };
        assert_eq!(of("local", &[]), Some((20 << 20, 5)));
        assert_eq!(of("json-file", &[]), Some((20 << 20, 5)));
        assert_eq!(of("json-file", &[("max-size", "10k")]), Some((10_000, 1)));
        assert_eq!(
            of("json-file", &[("max-size", "10k"), ("max-file", "3")]),
            Some((10_000, 3))
        );
        assert_eq!(of("local", &[("max-size", "10k")]), Some((10_240, 5)));
        for bad in [
            ("max-file", "0"),
            ("max-file", "x"),
            ("max-size", "0"),
            ("max-size", "x"),
        ] {
            assert_eq!(of("local", &[bad]), None, "{bad:?}");
        }
    }
}
