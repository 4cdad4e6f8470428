//! Keys that repeat in a value of a JSON patch are told twice, as upstream tells them: by its decoder of the patch, and
//! by that of the outcome, into which the value goes as it was written unless a later operation looks inside.

use crate::jsonpatch::Operation;
use serde_json::Value;

/// What the sentence about a key of an operation's value begins with.
const TOLD: &str = "json patch duplicate field \"[";

/// A key that repeats in the outcome of a patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Repeat {
    /// The value it was written in, as a JSON pointer.
    pub(crate) within: String,
    /// The key's place below.
    key: String,
}

impl Repeat {
    /// As strict field validation says it of an object, in which the value is; `None` when it is not.
    pub(crate) fn sentence(&self, object: &Value) -> Option<String> {
        object.pointer(&self.within)?;
        let (mut at, mut place) = (object, String::new());
        for part in self.within.split('/').skip(1) {
            let name = part.replace("~1", "/").replace("~0", "~");
            match at {
                Value::Array(items) => {
                    place.push_str(&format!("[{name}]"));
                    at = items.get(name.parse::<usize>().ok()?)?;
                }
                other => {
                    if !place.is_empty() {
                        place.push('.');
                    }
                    place.push_str(&name);
                    at = other.get(&name)?;
                }
            }
        }
        let dot = if self.key.starts_with('[') { "" } else { "." };
        Some(format!("duplicate field {:?}", format!("{place}{dot}{}", self.key)))
    }
}

/// The keys that repeat in the outcome of operations, of those that strict validation objects to in the operations.
/// What is put at the end of a list is not followed.
pub(super) fn of_outcome(operations: &[Operation], strict: &[String]) -> Vec<Repeat> {
    let told = strict.iter().filter_map(|sentence| {
        let (at, rest) = sentence.strip_prefix(TOLD)?.split_once(']')?;
        let rest = rest.strip_prefix(".value")?.strip_suffix('"')?;
        let key = rest.strip_prefix('.').unwrap_or(rest);
        Some((at.parse::<usize>().ok()?, key.to_owned()))
    });
    let mut found: Vec<Repeat> = told
        .filter_map(|(at, key)| {
            let (first, later) = operations.get(at..)?.split_first()?;
            let (op, path, _) = first.address();
            let lasts = matches!(op, "add" | "replace") && !path.is_empty() && !path.ends_with("/-");
            lasts.then(|| {
                followed(path, later).into_iter().map(move |within| Repeat {
                    within,
                    key: key.clone(),
                })
            })
        })
        .flatten()
        .collect();
    found.sort_by(|a, b| a.within.cmp(&b.within));
    found
}

/// Where a value is after more operations as it was written.
fn followed(path: &str, later: &[Operation]) -> Vec<String> {
    let mut places = vec![path.to_owned()];
    for operation in later {
        let (op, to, from) = operation.address();
        let copied = op == "copy" && places.iter().any(|place| place == from);
        let below = |place: &str, other: &str| {
            other.len() > place.len() && other.starts_with(place) && other.as_bytes()[place.len()] == b'/'
        };
        let changes = op != "test";
        let moved = if op == "move" { from } else { "" };
        places.retain(|place| {
            let inside = below(place, to) || below(place, from);
            let replaced = changes
                && (place == to || below(to, place) || (!moved.is_empty() && (place == moved || below(moved, place))));
            !inside && !replaced
        });
        if copied && !to.ends_with("/-") {
            places.push(to.to_owned());
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(patch: &Value, strict: &[&str], outcome: &Value) -> Vec<String> {
        let operations: Vec<Operation> = serde_json::from_value(patch.clone()).expect("operations");
        let strict: Vec<String> = strict.iter().map(|sentence| (*sentence).to_owned()).collect();
        let found = of_outcome(&operations, &strict);
        found.iter().filter_map(|repeat| repeat.sentence(outcome)).collect()
    }

    #[test]
    fn a_key_repeats_in_the_outcome_unless_somebody_looked_inside() {
        let strict = ["json patch duplicate field \"[0].value.b\""];
        let add = json!({"op": "add", "path": "/data", "value": {"b": "2"}});
        let outcome = json!({"data": {"b": "2"}, "metadata": {"labels": {"b": "2"}}, "list": [{"b": "2"}]});
        let once = ["duplicate field \"data.b\""];
        assert_eq!(told(&json!([add]), &strict, &outcome), once);
        for later in [
            json!({"op": "replace", "path": "/data/b", "value": "3"}),
            json!({"op": "replace", "path": "/data", "value": {}}),
            json!({"op": "test", "path": "/data/b", "value": "3"}),
            json!({"op": "remove", "path": "/data"}),
        ] {
            assert!(told(&json!([add, later]), &strict, &outcome).is_empty(), "{later}");
        }
        let copy = json!({"op": "copy", "from": "/data", "path": "/metadata/labels"});
        let twice = ["duplicate field \"data.b\"", "duplicate field \"metadata.labels.b\""];
        assert_eq!(told(&json!([add, copy]), &strict, &outcome), twice);
        let item = json!({"op": "add", "path": "/list/0", "value": {"b": "2"}});
        assert_eq!(
            told(&json!([item]), &strict, &outcome),
            ["duplicate field \"list[0].b\""]
        );
        let elsewhere = json!({"op": "add", "path": "/nowhere", "value": {"b": "2"}});
        assert!(told(&json!([elsewhere]), &strict, &outcome).is_empty());
    }
}
