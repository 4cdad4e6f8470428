//! Scopes: which objects of a kind a quota is about.

use serde_json::Value;

/// One of a quota's scopes or scope selectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `BestEffort`, `PriorityClass`, …
    pub name: String,
    operator: String,
    values: Vec<String>,
}

impl Scope {
    /// All scopes of a quota's spec.
    pub fn read_all(quota: &Value) -> Vec<Self> {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
        let plain = list(&quota["spec"]["scopes"]).into_iter().map(|name| Self {
            name: text(&name),
            operator: "Exists".into(),
            values: Vec::new(),
        });
        let expressions = list(&quota["spec"]["scopeSelector"]["matchExpressions"]);
        let selected = expressions.into_iter().map(|e| Self {
            name: text(&e["scopeName"]),
            operator: text(&e["operator"]),
            values: list(&e["values"]).iter().map(text).collect(),
        });
        plain.chain(selected).collect()
    }

    /// Whether one of an object's values of this scope is selected; an object without one is asked about once.
    pub(crate) fn selects(&self, values: &[&str]) -> bool {
        match (self.operator.as_str(), values) {
            ("Exists", values) => !values.is_empty(),
            ("NotIn" | "DoesNotExist", []) => true,
            ("In", values) => values.iter().any(|v| self.values.iter().any(|own| own == v)),
            ("NotIn", values) => values.iter().any(|v| !self.values.iter().any(|own| own == v)),
            _ => false,
        }
    }
}
