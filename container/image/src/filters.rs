//! Docker's `--filter` for images.

use crate::{ImageError, ImageStore, Summary};
use std::collections::BTreeMap;

/// Conditions of which an image must meet one for each key.
#[derive(Clone, Debug, Default)]
pub struct ImageFilters(BTreeMap<String, Vec<String>>);

const KEYS: &[&str] = &["dangling", "label", "label!", "before", "since", "until", "reference"];

impl ImageFilters {
    /// From `key=value` texts.
    pub fn parse(texts: &[String]) -> Result<Self, ImageError> {
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for text in texts {
            let (key, value) = text.split_once('=').unwrap_or((text.as_str(), ""));
            let key = key.trim().to_lowercase();
            if !KEYS.contains(&key.as_str()) || value.is_empty() {
                return Err(ImageError::Filter(text.clone()));
            }
            found.entry(key).or_default().push(value.trim().to_owned());
        }
        Ok(Self(found))
    }

    /// Whether a key was given.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The images of a list that meet the conditions, with those of their names that do.
    pub fn apply(&self, store: &ImageStore, images: Vec<Summary>) -> Result<Vec<Summary>, ImageError> {
        let mut bounds = (i64::MIN, i64::MAX);
        for (key, values) in &self.0 {
            for value in values {
                let moment = || -> Result<i64, ImageError> {
                    let image = store.resolve(value)?.ok_or_else(|| ImageError::Absent(value.clone()))?;
                    Ok(crate::inspect::seconds(image.created.as_deref()))
                };
                match key.as_str() {
                    "since" => bounds.0 = bounds.0.max(moment()?.saturating_add(1)),
                    "before" => bounds.1 = bounds.1.min(moment()?.saturating_sub(1)),
                    "until" => bounds.1 = bounds.1.min(moment_of(value)?),
                    _ => {}
                }
            }
        }
        let mut kept = Vec::new();
        for mut image in images {
            if !(bounds.0..=bounds.1).contains(&image.created) || !self.fits(&image) {
                continue;
            }
            if let Some(patterns) = self.0.get("reference") {
                image
                    .names
                    .retain(|(name, _)| patterns.iter().any(|pattern| matches_name(pattern, name)));
                if image.names.is_empty() {
                    continue;
                }
            }
            kept.push(image);
        }
        Ok(kept)
    }

    fn fits(&self, summary: &Summary) -> bool {
        let labels = &summary.image.config.labels;
        let labelled = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
            None => labels.contains_key(wanted),
        };
        let none: Vec<String> = Vec::new();
        let values = |key: &str| self.0.get(key).unwrap_or(&none);
        let dangling = summary.image.repo_tags.is_empty();
        values("label").iter().all(labelled)
            && !values("label!").iter().any(labelled)
            && values("dangling")
                .iter()
                .all(|value| matches!(value.as_str(), "true" | "1") == dangling)
    }
}

/// `until`: a moment, seconds since 1970, or how long ago.
fn moment_of(text: &str) -> Result<i64, ImageError> {
    if let Ok(moment) = text.parse::<jiff::Timestamp>() {
        return Ok(moment.as_second());
    }
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds);
    }
    let invalid = || ImageError::Filter(format!("until={text}"));
    let ago = text.parse::<jiff::SignedDuration>().map_err(|_| invalid())?;
    Ok(jiff::Timestamp::now().as_second().saturating_sub(ago.as_secs()))
}

/// Whether a stored name fits a pattern such as `team/*:1.*`, in its full or its familiar form, tag or not.
fn matches_name(pattern: &str, name: &str) -> bool {
    let familiar = crate::inspect::familiar(name);
    [name, familiar.as_str()].into_iter().any(|form| {
        let bare = match form.rsplit_once([':', '@']) {
            Some((bare, tag)) if !tag.contains('/') => bare,
            _ => form,
        };
        let bare = bare.strip_suffix("@sha256").unwrap_or(bare);
        glob(pattern.as_bytes(), form.as_bytes()) || glob(pattern.as_bytes(), bare.as_bytes())
    })
}

/// `*` and `?` without `/`, as Go's path.Match; linear but for one remembered star.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut pos, mut star) = (0, 0, None);
    while pos < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, pos));
                at += 1;
            }
            Some(wanted) if *wanted == text[pos] || (*wanted == b'?' && text[pos] != b'/') => {
                at += 1;
                pos += 1;
            }
            _ => match star {
                Some((place, from)) if text[from] != b'/' => {
                    star = Some((place, from + 1));
                    at = place + 1;
                    pos = from + 1;
                }
                _ => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_names_as_docker_matches_them() {
        for (pattern, name, expected) in [
            ("busybox", "docker.io/library/busybox:latest", true),
            ("busy*", "docker.io/library/busybox:latest", true),
            ("busybox:l*t", "docker.io/library/busybox:latest", true),
            ("*/*", "docker.io/team/app:1", true),
            ("*", "docker.io/team/app:1", false),
            ("team/*:2", "docker.io/team/app:1", false),
            ("localhost:5000/*", "localhost:5000/app:1", true),
            ("b?sybox", "docker.io/library/busybox:1", true),
        ] {
            assert_eq!(matches_name(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn conditions_that_do_not_exist_are_errors() {
        for bad in ["nope=1", "label", "dangling="] {
            assert!(ImageFilters::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
        for text in ["2026-01-01T00:00:00Z", "1700000000", "24h", "1h30m"] {
            assert!(moment_of(text).is_ok(), "{text}");
        }
        assert!(moment_of("soon").is_err());
    }
}
