//! Label and field selectors (k8s.io/apimachinery/pkg/labels and fields).

use crate::names;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// A conjunction of label requirements; the default selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Requirement {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// metav1.LabelSelector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// Equality requirements.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Set requirements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// metav1.LabelSelectorRequirement; also core/v1 NodeSelectorRequirement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LabelSelectorRequirement {
    /// The label.
    pub key: String,
    /// In, NotIn, Exists, DoesNotExist (and for nodes Gt, Lt).
    pub operator: String,
    /// What the label is compared with.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// Why a selector is not valid; the text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

impl Selector {
    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// A selector of equalities; an empty map selects everything.
    pub fn from_map(labels: &BTreeMap<String, String>) -> Self {
        let requirement = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        };
        Self {
            requirements: labels.iter().map(requirement).collect(),
        }
    }

    /// Reads the query form: `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>3`.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { rest: text };
        let mut requirements = Vec::new();
        parser.skip_space();
        while !parser.rest.is_empty() {
            requirements.push(parser.requirement()?);
            parser.skip_space();
            if parser.rest.is_empty() {
                break;
            }
            if !parser.take(",") {
                return Err(SelectorError(format!(
                    "found '{}', expected: ',' or 'end of string'",
                    parser.rest
                )));
            }
            parser.skip_space();
            if parser.rest.is_empty() {
                return Err(SelectorError("found '', expected: identifier after ','".into()));
            }
        }
        Ok(Self { requirements })
    }

    /// Its requirements as the API writes them, without comparisons of numbers, which it has no form for.
    pub fn requirements(&self) -> Vec<LabelSelectorRequirement> {
        let shown = |r: &Requirement| {
            let operator = match r.operator {
                Operator::In => "In",
                Operator::NotIn => "NotIn",
                Operator::Exists => "Exists",
                Operator::DoesNotExist => "DoesNotExist",
                Operator::GreaterThan | Operator::LessThan => return None,
            };
            Some(LabelSelectorRequirement {
                key: r.key.clone(),
                operator: operator.to_owned(),
                values: r.values.clone(),
            })
        };
        self.requirements.iter().filter_map(shown).collect()
    }

    /// Whether labels, looked up by key, satisfy every requirement.
    pub fn matches_with<'a>(&self, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|r| r.matches(lookup(&r.key)))
    }

    /// Whether a label map satisfies every requirement.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object's labels satisfy every requirement.
    pub fn matches_object(&self, object: &crate::Object) -> bool {
        self.is_everything() || self.matches_with(|key| object.label(key))
    }
}

impl LabelSelector {
    /// The selector this stands for. An empty one selects everything; what an absent one
    /// selects is for the caller to know.
    pub fn to_selector(&self) -> Result<Selector, SelectorError> {
        let mut selector = Selector::from_map(&self.match_labels);
        for e in &self.match_expressions {
            selector.requirements.push(Requirement::from_expression(e)?);
        }
        Ok(selector)
    }
}

impl LabelSelectorRequirement {
    /// Whether one value (absent: no such label) satisfies this requirement.
    pub fn matches(&self, value: Option<&str>) -> Result<bool, SelectorError> {
        Ok(Requirement::from_expression(self)?.matches(value))
    }
}

impl Requirement {
    fn from_expression(e: &LabelSelectorRequirement) -> Result<Self, SelectorError> {
        let operator = match e.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => Operator::GreaterThan,
            "Lt" => Operator::LessThan,
            other => {
                return Err(SelectorError(format!(
                    "{other:?} is not a valid label selector operator"
                )));
            }
        };
        Self::new(&e.key, operator, e.values.clone())
    }

    fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, SelectorError> {
        if let Some(problem) = names::qualified_name(key).first() {
            return Err(SelectorError(format!("<nil>: Invalid value: {key:?}: {problem}")));
        }
        let fits = match operator {
            Operator::In | Operator::NotIn => !values.is_empty(),
            Operator::Exists | Operator::DoesNotExist => values.is_empty(),
            Operator::GreaterThan | Operator::LessThan => values.len() == 1 && values[0].parse::<i64>().is_ok(),
        };
        if !fits && matches!(operator, Operator::GreaterThan | Operator::LessThan) && values.len() == 1 {
            let value = &values[0];
            return Err(SelectorError(format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            )));
        }
        if !fits {
            return Err(SelectorError(format!(
                "values: Invalid value: {values:?}: wrong number or type of values for the operator"
            )));
        }
        Ok(Self {
            key: key.to_owned(),
            operator,
            values,
        })
    }

    fn matches(&self, value: Option<&str>) -> bool {
        let listed = |v: &str| self.values.iter().any(|x| x == v);
        let number = |v: &str| v.parse::<i64>().ok().zip(self.values[0].parse::<i64>().ok());
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value.and_then(number).is_some_and(|(have, want)| have > want),
            Operator::LessThan => value.and_then(number).is_some_and(|(have, want)| have < want),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let mut values: Vec<&str> = r.values.iter().map(|value| &**value).collect();
            values.sort_unstable();
            let values = values.join(",");
            match r.operator {
                Operator::In if r.values.len() == 1 => write!(f, "{comma}{}={values}", r.key)?,
                Operator::In => write!(f, "{comma}{} in ({values})", r.key)?,
                Operator::NotIn if r.values.len() == 1 => write!(f, "{comma}{}!={values}", r.key)?,
                Operator::NotIn => write!(f, "{comma}{} notin ({values})", r.key)?,
                Operator::Exists => write!(f, "{comma}{}", r.key)?,
                Operator::DoesNotExist => write!(f, "{comma}!{}", r.key)?,
                Operator::GreaterThan => write!(f, "{comma}{}>{values}", r.key)?,
                Operator::LessThan => write!(f, "{comma}{}<{values}", r.key)?,
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn word(&mut self) -> &'a str {
        self.skip_space();
        let end = self
            .rest
            .find(|c: char| c.is_whitespace() || "=!(),<>".contains(c))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.take("!") {
            let key = self.word();
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        let key = self.word();
        self.skip_space();
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        for (token, operator) in [
            ("==", Operator::In),
            ("=", Operator::In),
            ("!=", Operator::NotIn),
            (">", Operator::GreaterThan),
            ("<", Operator::LessThan),
        ] {
            if self.take(token) {
                self.skip_space();
                if self.rest.starts_with('!') {
                    return Err(SelectorError("found '!', expected: identifier".into()));
                }
                let value = self.word().to_owned();
                return self.with_valid_values(key, operator, vec![value]);
            }
        }
        let operator = match self.word() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            other => {
                return Err(SelectorError(format!(
                    "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                )));
            }
        };
        let values = self.parenthesised()?;
        self.with_valid_values(key, operator, values)
    }

    fn with_valid_values(
        &self,
        key: &str,
        operator: Operator,
        values: Vec<String>,
    ) -> Result<Requirement, SelectorError> {
        for value in &values {
            if let Some(problem) = names::label_value(value).first() {
                return Err(SelectorError(format!(
                    "values[0][{key}]: Invalid value: {value:?}: {problem}"
                )));
            }
        }
        Requirement::new(key, operator, values)
    }

    fn parenthesised(&mut self) -> Result<Vec<String>, SelectorError> {
        self.skip_space();
        if !self.take("(") {
            return Err(SelectorError(format!("found '{}', expected: '('", self.rest)));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.word().to_owned());
            self.skip_space();
            if self.take(")") {
                values.sort();
                values.dedup();
                return Ok(values);
            }
            if !self.take(",") {
                return Err(SelectorError(format!("found '{}', expected: ',' or ')'", self.rest)));
            }
        }
    }
}

/// A conjunction of `path=value` and `path!=value` terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FieldSelector {
    /// The terms: path, whether it must be equal, value.
    pub terms: Vec<(String, bool, String)>,
}

impl FieldSelector {
    /// Reads the query form: `metadata.name=a,status.phase!=Failed`, with `\,`, `\=` and `\\` escaped.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let terms = split_unescaped(text)
            .into_iter()
            .filter(|term| !term.is_empty())
            .map(|term| parse_field_term(&term))
            .collect::<Result<_, _>>()?;
        Ok(Self { terms })
    }

    /// Whether it selects everything.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether values, looked up by path, satisfy every term; an absent field is the empty text.
    pub fn matches_with(&self, lookup: impl Fn(&str) -> String) -> bool {
        self.terms
            .iter()
            .all(|(path, equal, value)| (lookup(path) == *value) == *equal)
    }

    /// The value the path must equal, if one term says so.
    pub fn required(&self, path: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|(p, equal, _)| p == path && *equal)
            .map(|(_, _, value)| value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (path, equal, value)) in self.terms.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            let op = if *equal { "=" } else { "!=" };
            let value = value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{comma}{path}{op}{value}")?;
        }
        Ok(())
    }
}

fn split_unescaped(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ',' => terms.push(String::new()),
            '\\' => {
                let last = terms.len() - 1;
                terms[last].push(c);
                terms[last].extend(chars.next());
            }
            _ => {
                let last = terms.len() - 1;
                terms[last].push(c);
            }
        }
    }
    terms
}

fn parse_field_term(term: &str) -> Result<(String, bool, String), SelectorError> {
    let invalid = || SelectorError(format!("invalid selector: '{term}'; can't understand '{term}'"));
    let at = term.find(['=', '!']).ok_or_else(invalid)?;
    let (path, rest) = term.split_at(at);
    let (equal, value) = match rest {
        r if r.starts_with("!=") => (false, &r[2..]),
        r if r.starts_with("==") => (true, &r[2..]),
        r if r.starts_with('=') => (true, &r[1..]),
        _ => return Err(invalid()),
    };
    let mut plain = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(e @ ('\\' | ',' | '=')) => plain.push(e),
                _ => {
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence in value: {value}"
                    )));
                }
            },
            '=' => return Err(invalid()),
            _ => plain.push(c),
        }
    }
    Ok((path.to_owned(), equal, plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn label_selectors_select_as_upstream() {
        let have = labels(&[("app", "web"), ("tier", "front"), ("n", "5")]);
        for (text, expected) in [
            ("", true),
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (web, api),!gone", true),
            ("app notin (web)", false),
            ("absent notin (x)", true),
            ("absent!=x", true),
            ("n>4,n<6", true),
            ("n>5", false),
            ("tier", true),
            ("!tier", false),
        ] {
            assert_eq!(Selector::parse(text).expect(text).matches(&have), expected, "{text}");
        }
        for bad in ["a b", "a in", "a in (b", "=x", "a=b,", "n>x", "a=b=c", "a,,b"] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn field_selectors_unescape_and_match() {
        let s = FieldSelector::parse(r"metadata.name=a\,b,status.phase!=Failed").expect("valid");
        assert_eq!(s.required("metadata.name"), Some("a,b"));
        assert!(s.matches_with(|path| if path == "metadata.name" {
            "a,b".into()
        } else {
            "Running".into()
        }));
        assert!(FieldSelector::parse("x").is_err());
    }
}
