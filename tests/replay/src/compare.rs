//! Where two answers differ, and where they may.

use crate::Outcome;
use serde_json::Value;
use std::{fmt, fs, path::Path};

/// As many differences may be allowed.
const MOST: usize = 20;
/// Longer values are cut when they are shown.
const SHOWN: usize = 220;

/// One place where answers differ.
pub struct Difference {
    /// Member names joined by dots; list members by their place.
    pub path: String,
    theirs: Option<Value>,
    ours: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<Value>| match value {
            None => "(absent)".to_owned(),
            Some(value) => {
                let text = value.to_string();
                match text.char_indices().nth(SHOWN) {
                    Some((at, _)) => format!("{}…", &text[..at]),
                    None => text,
                }
            }
        };
        write!(
            f,
            "{}\n        upstream {}\n        strata   {}",
            self.path,
            text(&self.theirs),
            text(&self.ours)
        )
    }
}

/// All differences.
pub fn differences(theirs: &Value, ours: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", Some(theirs), Some(ours), &mut found);
    found
}

fn walk(path: &str, theirs: Option<&Value>, ours: Option<&Value>, found: &mut Vec<Difference>) {
    if theirs == ours {
        return;
    }
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match (theirs, ours) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            for (name, value) in a {
                walk(&below(name), Some(value), b.get(name), found);
            }
            for (name, value) in b.iter().filter(|(name, _)| !a.contains_key(*name)) {
                walk(&below(name), None, Some(value), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for at in 0..a.len().max(b.len()) {
                walk(&below(&at.to_string()), a.get(at), b.get(at), found);
            }
        }
        _ => found.push(Difference {
            path: path.to_owned(),
            theirs: theirs.cloned(),
            ours: ours.cloned(),
        }),
    }
}

/// Paths at which answers may differ, each with its reason.
pub struct Allowed(Vec<(String, bool)>);

impl Allowed {
    /// Reads `PATH  REASON` lines; `*` stands for one name, `**` for any number. Errors: too many, or one without a reason.
    pub fn read(path: &Path) -> Outcome<Self> {
        let text = fs::read_to_string(path)?;
        let mut list = Vec::new();
        for line in text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#')) {
            let (path, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            if reason.trim().is_empty() {
                return Err(format!("{path} is allowed to differ without a reason").into());
            }
            list.push((path.to_owned(), false));
        }
        if list.len() > MOST {
            return Err(format!("{} differences are allowed; {MOST} may be", list.len()).into());
        }
        Ok(Self(list))
    }

    /// Allows more for this run.
    pub fn also(&mut self, paths: &[String]) {
        self.0.extend(paths.iter().map(|path| (path.clone(), false)));
    }

    /// Whether a path may differ.
    pub fn covers(&mut self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('.').collect();
        let found = self.0.iter_mut().find(|(pattern, _)| {
            let pattern: Vec<&str> = pattern.split('.').collect();
            matches(&pattern, &parts)
        });
        found.map(|entry| entry.1 = true).is_some()
    }

    /// Those that did not differ.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter(|(_, seen)| !seen).map(|(path, _)| path.as_str())
    }
}

fn matches(pattern: &[&str], parts: &[&str]) -> bool {
    match (pattern, parts) {
        ([], []) => true,
        (["**", rest @ ..], _) => matches(rest, parts) || (!parts.is_empty() && matches(pattern, &parts[1..])),
        ([first, rest @ ..], [part, more @ ..]) => (*first == "*" || first == part) && matches(rest, more),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn differences_are_named_by_path_and_only_listed_paths_may_differ() {
        let found = differences(&json!({"a": [{"b": 1}, 2], "c": 1}), &json!({"a": [{"b": 2}], "d": 1}));
        let paths: Vec<&str> = found.iter().map(|d| d.path.as_str()).collect();
        assert_eq!(paths, ["a.0.b", "a.1", "c", "d"]);
        let mut allowed = Allowed(vec![("a.*.b".into(), false), ("**.d".into(), false)]);
        assert!(allowed.covers("a.0.b") && allowed.covers("x.y.d") && allowed.covers("d"));
        assert!(!allowed.covers("a.1") && !allowed.covers("a.0.b.c"));
    }
}
