//! What pods ask of nodes and nodes of pods: node selectors, taints, tolerations (core/v1).

use crate::{Object, Time};
use serde::{Deserialize, Serialize};

/// core/v1 NodeSelector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelector {
    /// Of which one must match.
    pub node_selector_terms: Vec<NodeTerm>,
}

/// core/v1 NodeSelectorTerm.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTerm {
    /// On labels.
    pub match_expressions: Vec<NodeRequirement>,
    /// On fields, of which there is the name.
    pub match_fields: Vec<NodeRequirement>,
}

/// core/v1 NodeSelectorRequirement.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeRequirement {
    /// A label or a field.
    pub key: String,
    /// In, NotIn, Exists, DoesNotExist, Gt, Lt.
    pub operator: String,
    /// What it is compared with.
    pub values: Vec<String>,
}

impl NodeSelector {
    /// Whether any term matches.
    pub fn matches(&self, node: &Object) -> bool {
        self.node_selector_terms.iter().any(|term| term.matches(node))
    }

    /// The one node that a term names by its name.
    pub fn node_name(&self) -> Option<&str> {
        let mut fields = self.node_selector_terms.iter().flat_map(|term| &term.match_fields);
        let named = fields.find(|r| r.key == "metadata.name" && r.operator == "In" && r.values.len() == 1)?;
        named.values.first().map(String::as_str)
    }
}

impl NodeTerm {
    /// Whether all requirements hold. A term that requires nothing matches nothing.
    pub fn matches(&self, node: &Object) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        let field = |key: &str| (key == "metadata.name").then(|| node.name());
        self.match_expressions
            .iter()
            .all(|requirement| requirement.holds(node.label(&requirement.key)))
            && self
                .match_fields
                .iter()
                .all(|requirement| requirement.holds(field(&requirement.key)))
    }
}

impl NodeRequirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = || value.is_some_and(|value| self.values.iter().any(|listed| listed == value));
        let compared = |holds: fn(i64, i64) -> bool| {
            let numbers = (
                value.and_then(|value| value.parse().ok()),
                self.values.first().map(|bound| bound.parse()),
            );
            matches!(numbers, (Some(value), Some(Ok(bound))) if self.values.len() == 1 && holds(value, bound))
        };
        match self.operator.as_str() {
            "In" => listed(),
            "NotIn" => !listed(),
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "Gt" => compared(|value, bound| value > bound),
            "Lt" => compared(|value, bound| value < bound),
            _ => false,
        }
    }
}

/// core/v1 Taint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Taint {
    /// Its name.
    pub key: String,
    /// What tolerations compare with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// NoSchedule, PreferNoSchedule, NoExecute.
    pub effect: String,
    /// Since when, told for NoExecute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_added: Option<Time>,
}

impl Taint {
    /// Whether it keeps pods off that do not tolerate it.
    pub fn repels(&self) -> bool {
        self.effect == "NoSchedule" || self.effect == "NoExecute"
    }

    /// Whether one of the tolerations is for it.
    pub fn tolerated_by(&self, tolerations: &[Toleration]) -> bool {
        tolerations.iter().any(|toleration| toleration.tolerates(self))
    }
}

/// core/v1 Toleration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Toleration {
    /// Which taint; empty: every one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key: String,
    /// Equal or Exists; empty is Equal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operator: String,
    /// What Equal compares.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
    /// Which effect; empty: every one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub effect: String,
    /// How long NoExecute is tolerated; absent: for ever.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

impl Toleration {
    /// core/v1 Toleration.ToleratesTaint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        let effect = self.effect.is_empty() || self.effect == taint.effect;
        let key = self.key.is_empty() || self.key == taint.key;
        effect
            && key
            && match self.operator.as_str() {
                "" | "Equal" => self.value == taint.value,
                "Exists" => true,
                _ => false,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupVersionKind, Revision};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn node_terms_match_as_the_api_says() {
        let node = {
            let metadata = json!({"name": "n1", "labels": {"zone": "a", "cpus": "8"}});
            let kind = Arc::new(GroupVersionKind::new("", "v1", "Node"));
            Object::from_value(kind, Revision(1), &json!({"metadata": metadata})).expect("node")
        };
        let cases = [
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["a"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["7"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "cpus", "operator": "Lt", "values": ["8"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "zone", "operator": "Gt", "values": ["7"]}]}),
                false,
            ),
            (
                json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}),
                true,
            ),
            (
                json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}),
                false,
            ),
            (json!({}), false),
        ];
        for (term, expected) in cases {
            let parsed: NodeTerm = serde_json::from_value(term.clone()).expect("term");
            assert_eq!(parsed.matches(&node), expected, "{term}");
        }
    }

    #[test]
    fn tolerations_match_as_the_api_says() {
        let taint = Taint {
            key: "k".into(),
            value: "v".into(),
            effect: "NoSchedule".into(),
            time_added: None,
        };
        let cases = [
            (
                json!({"key": "k", "operator": "Equal", "value": "v", "effect": "NoSchedule"}),
                true,
            ),
            (json!({"key": "k", "value": "v"}), true),
            (json!({"key": "k", "value": "w"}), false),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "j", "operator": "Exists"}), false),
        ];
        for (toleration, expected) in cases {
            let parsed: Toleration = serde_json::from_value(toleration.clone()).expect("toleration");
            assert_eq!(parsed.tolerates(&taint), expected, "{toleration}");
        }
    }
}
