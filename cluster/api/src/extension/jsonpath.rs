//! JSONPath as printer columns, scale and selectable fields use it.

use serde_json::Value;

/// A path that has been read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct JsonPath {
    steps: Box<[Step]>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Member(Box<str>),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    Every,
    Below,
    Where(Box<[Step]>, Compare, Box<Value>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Compare {
    Exists,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`. Errors: a sentence.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let inner = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).unwrap_or(text);
        let steps = steps(inner.strip_prefix('$').unwrap_or(inner))?;
        Ok(Self { steps: steps.into() })
    }

    /// A path of members only: their names.
    pub(crate) fn members(&self) -> Option<Vec<&str>> {
        let member = |step: &'_ Step| match step {
            Step::Member(name) => Some(name.to_string()),
            _ => None,
        };
        self.steps.iter().all(|s| member(s).is_some()).then(|| {
            let names = self.steps.iter().filter_map(|step| match step {
                Step::Member(name) => Some(&**name),
                _ => None,
            });
            names.collect()
        })
    }

    /// The first value that the path leads to.
    pub(crate) fn first<'v>(&self, value: &'v Value) -> Option<&'v Value> {
        find(&self.steps, value).into_iter().next()
    }
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut rest = text;
    let mut found = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix("..") {
            found.push(Step::Below);
            rest = after;
            if !rest.starts_with('[') {
                let (name, after) = name(rest)?;
                found.push(name);
                rest = after;
            }
        } else if let Some(after) = rest.strip_prefix('.') {
            if after.is_empty() {
                break;
            }
            if after.starts_with('[') {
                rest = after;
                continue;
            }
            let (step, after) = name(after)?;
            found.push(step);
            rest = after;
        } else if rest.starts_with('[') {
            let end = closing(rest).ok_or_else(|| format!("unterminated array in {text:?}"))?;
            found.push(bracket(&rest[1..end])?);
            rest = &rest[end + 1..];
        } else {
            let (step, after) = name(rest)?;
            found.push(step);
            rest = after;
        }
    }
    Ok(found)
}

/// A name up to the next unescaped dot or bracket.
fn name(text: &str) -> Result<(Step, &str), String> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            '.' | '[' => {
                end = at;
                break;
            }
            c if c.is_whitespace() || "{}()|,".contains(c) => {
                return Err(format!("unrecognized character in action: {c:?}"));
            }
            c => name.push(c),
        }
    }
    match name.as_str() {
        "" => Err("empty name in path".into()),
        "*" => Ok((Step::Every, &text[end..])),
        _ => Ok((Step::Member(name.into()), &text[end..])),
    }
}

/// Where the bracket that `text` begins with closes.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            (_, Some(_)) => {}
            ('\'' | '"', None) => quote = Some(c),
            ('[', None) => depth += 1,
            (']', None) => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"']
        .into_iter()
        .find_map(|q| text.strip_prefix(q).and_then(|t| t.strip_suffix(q)))
}

fn bracket(inner: &str) -> Result<Step, String> {
    let inner = inner.trim();
    if inner == "*" {
        return Ok(Step::Every);
    }
    if let Some(name) = quoted(inner) {
        return Ok(Step::Member(name.into()));
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|t| t.strip_suffix(')')) {
        return condition(filter);
    }
    let whole = |text: &str| {
        text.trim()
            .parse::<i64>()
            .map_err(|_| format!("invalid array index {inner}"))
    };
    if let Some((from, to)) = inner.split_once(':') {
        let bound = |text: &str| match text.trim() {
            "" => Ok(None),
            text => whole(text).map(Some),
        };
        return Ok(Step::Slice(bound(from)?, bound(to)?));
    }
    whole(inner).map(Step::Index)
}

fn condition(filter: &str) -> Result<Step, String> {
    const SIGNS: &[(&str, Compare)] = &[
        ("==", Compare::Equal),
        ("!=", Compare::Unequal),
        ("<=", Compare::LessOrEqual),
        (">=", Compare::GreaterOrEqual),
        ("<", Compare::Less),
        (">", Compare::Greater),
    ];
    let own = |text: &str| steps(text.trim().strip_prefix('@').unwrap_or(text.trim()));
    let first = SIGNS
        .iter()
        .filter_map(|(sign, compare)| filter.find(sign).map(|at| (at, *sign, *compare)))
        .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
    let Some((at, sign, compare)) = first else {
        return Ok(Step::Where(own(filter)?.into(), Compare::Exists, Box::default()));
    };
    let right = filter[at + sign.len()..].trim();
    let value = match quoted(right) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(right).map_err(|_| format!("unrecognized operand {right}"))?,
    };
    Ok(Step::Where(own(&filter[..at])?.into(), compare, Box::new(value)))
}

fn find<'v>(steps: &[Step], value: &'v Value) -> Vec<&'v Value> {
    let Some((step, rest)) = steps.split_first() else {
        return vec![value];
    };
    let each = |values: Vec<&'v Value>| values.into_iter().flat_map(|v| find(rest, v)).collect();
    match step {
        Step::Member(name) => each(value.get(&**name).into_iter().collect()),
        Step::Index(at) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            each(
                position(*at, list.len())
                    .and_then(|at| list.get(at))
                    .into_iter()
                    .collect(),
            )
        }
        Step::Slice(from, to) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let bound = |at: &Option<i64>, open: usize| at.map_or(Some(open), |at| position(at, list.len()));
            let (from, to) = (
                bound(from, 0).unwrap_or(0),
                bound(to, list.len()).unwrap_or(0).min(list.len()),
            );
            each(list.get(from..to).map_or(Vec::new(), |l| l.iter().collect()))
        }
        Step::Every => each(members(value)),
        Step::Below => {
            let mut found: Vec<&Value> = find(rest, value);
            for member in members(value) {
                found.extend(find(steps, member));
            }
            found
        }
        Step::Where(path, compare, wanted) => {
            let list = value.as_array().map_or(&[][..], Vec::as_slice);
            let fits = |item: &&Value| match (find(path, item).first(), compare) {
                (found, Compare::Exists) => found.is_some(),
                (Some(have), _) => holds(have, *compare, wanted),
                (None, _) => false,
            };
            each(list.iter().filter(fits).collect())
        }
    }
}

fn position(at: i64, length: usize) -> Option<usize> {
    let at = if at < 0 { at + length as i64 } else { at };
    usize::try_from(at).ok()
}

fn members(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(list) => list.iter().collect(),
        Value::Object(map) => map.values().collect(),
        _ => Vec::new(),
    }
}

fn holds(have: &Value, compare: Compare, wanted: &Value) -> bool {
    let order = match (have, wanted) {
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
        _ => (have == wanted).then_some(std::cmp::Ordering::Equal),
    };
    match compare {
        Compare::Exists => true,
        Compare::Equal => order.is_some_and(std::cmp::Ordering::is_eq),
        Compare::Unequal => !order.is_some_and(std::cmp::Ordering::is_eq),
        Compare::Less => order.is_some_and(std::cmp::Ordering::is_lt),
        Compare::LessOrEqual => order.is_some_and(std::cmp::Ordering::is_le),
        Compare::Greater => order.is_some_and(std::cmp::Ordering::is_gt),
        Compare::GreaterOrEqual => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let value = json!({"metadata": {"labels": {"a.b/c": "x"}}, "spec": {"list": [{"n": 1}, {"n": 2}]},
            "status": {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]}});
        for (path, expected) in [
            (".spec.list[1].n", Some(json!(2))),
            (".spec.list[-1].n", Some(json!(2))),
            ("spec.list[*].n", Some(json!(1))),
            (".spec.list[1:].n", Some(json!(2))),
            (r#".status.conditions[?(@.type=="Ready")].status"#, Some(json!("True"))),
            (".status.conditions[?(@.type=='Absent')].status", None),
            (".metadata.labels['a.b/c']", Some(json!("x"))),
            (r".metadata.labels.a\.b/c", Some(json!("x"))),
            ("..n", Some(json!(1))),
            (".spec.nothing", None),
        ] {
            let parsed = JsonPath::parse(path).expect(path);
            assert_eq!(parsed.first(&value), expected.as_ref(), "{path}");
        }
        assert!(JsonPath::parse(".spec.list[").is_err());
    }
}
