//! The agent's own node as the API shows it: what pods are held against.

use crate::options::{AgentOptions, NodeFacts};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use strata_client::{Client, Informer, Scope, resources};
use strata_meta::{
    GroupVersionKind, Object, ObjectError, Quantity, Revision,
    placement::{NodeSelector, Taint},
};
use strata_task::CancellationToken;

/// The agent's own node.
#[derive(Clone, Debug)]
pub struct OwnNode {
    object: Arc<Object>,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What pods may have of it.
    pub allocatable: BTreeMap<String, Quantity>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Fields {
    spec: Spec,
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Spec {
    taints: Vec<Taint>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    allocatable: BTreeMap<String, Quantity>,
}

impl OwnNode {
    /// What the API says of it.
    pub fn of(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let fields: Fields = object.decode()?;
        Ok(Self {
            object: object.clone(),
            taints: fields.spec.taints,
            allocatable: fields.status.allocatable,
        })
    }

    /// Follows it.
    pub fn follow(client: &Client, name: &str, cancel: CancellationToken) -> Informer<Self> {
        let scope = Scope {
            field_selector: format!("metadata.name={name}"),
            ..Scope::default()
        };
        Informer::start_with(client, resources::NODES, scope, cancel, Self::of)
    }

    /// Before the API has shown it: what the agent is about to register.
    pub fn expected(options: &AgentOptions, facts: &NodeFacts) -> Result<Self, ObjectError> {
        let amount = |name: &str| facts.allocatable(name).to_string();
        node_of(&json!({
            "metadata": {"name": options.node_name, "labels": crate::node::labels(&options.node_name)},
            "status": {"allocatable": {
                "cpu": amount("cpu"), "memory": amount("memory"), "ephemeral-storage": amount("ephemeral-storage"),
                "pods": amount("pods"),
            }},
        }))
    }

    /// The value of a label.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.object.label(key)
    }

    /// Whether a selector of nodes selects it.
    pub fn is_in(&self, selector: &NodeSelector) -> bool {
        selector.matches(&self.object)
    }
}

/// A node of that body.
pub fn node_of(value: &Value) -> Result<OwnNode, ObjectError> {
    let kind = Arc::new(GroupVersionKind::new("", "v1", "Node"));
    OwnNode::of(&Arc::new(Object::from_value(kind, Revision(0), value)?))
}
