//! What the types of matched resources say about a policy's expressions, told in its status.
//!
//! Expressions run on whatever they are given; this is a hint to their author, as from upstream's
//! validating-admission-policy-status-controller.

use super::super::expressions::Vocabulary;
use crate::{
    cache::{EventKind, Filter, Frame, Start},
    core::Core,
    json,
    registry::Row,
    verbs::{Change, Part, apply_change},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use strata_auth::{GROUP_MASTERS, UserInfo};
use strata_cel::{AdditionalProperties, DeclType, Schema, Type};
use strata_meta::Status;
use strata_task::CancellationToken;

const GROUP: &str = "admissionregistration.k8s.io";
const PLURAL: &str = "validatingadmissionpolicies";
const CONTROLLER: &str = "validatingadmissionpolicy-status";
/// Kinds that one policy is checked against.
const MAX_TYPES: usize = 10;
/// Nesting of a schema that is followed.
const MAX_DEPTH: usize = 24;

/// Checks each policy that was not checked yet, until cancelled.
pub(crate) async fn run(core: Arc<Core>, cancel: CancellationToken) {
    let policies = core.resource(GROUP, PLURAL);
    let Some(row) = core.registry.get(GROUP, "v1", PLURAL) else {
        return;
    };
    while !cancel.is_cancelled() {
        let start = Start::Initial { end_bookmark: false };
        let Ok(mut watch) = policies.watch(Filter::default(), start, false) else {
            return;
        };
        loop {
            let frame = tokio::select! {
                () = cancel.cancelled() => return,
                frame = watch.next() => frame,
            };
            match frame {
                // Cut off or closed: the state is read anew.
                None => break,
                Some(Frame::Event { kind, object, .. }) if kind != EventKind::Deleted => {
                    if let Err(status) = check_one(&core, &row, object.name()).await {
                        tracing::warn!(
                            policy = object.name(),
                            why = status.message,
                            "the status was not written"
                        );
                    }
                }
                Some(_) => {}
            }
        }
    }
}

async fn check_one(core: &Arc<Core>, row: &Arc<Row>, name: &str) -> Result<(), Status> {
    let Some(policy) = core.resource(GROUP, PLURAL).get("", name) else {
        return Ok(());
    };
    let policy = policy.to_value().map_err(Status::internal)?;
    let generation = json::int(&policy, "metadata.generation").unwrap_or(0);
    if json::int(&policy, "status.observedGeneration").unwrap_or(0) >= generation {
        return Ok(());
    }
    let server = core.clone();
    // Schemas are large: not on a thread that answers requests.
    let checking = tokio::task::spawn_blocking(move || warnings(&server, &policy));
    let warnings = checking.await.map_err(Status::internal)?;
    let user = UserInfo::new("system:apiserver", &[GROUP_MASTERS]);
    let change = Change {
        manager: Some(CONTROLLER),
        ..Change::own(core, &user, row, ("", name), Part::Status)
    };
    let mut unheard = Vec::new();
    let written = apply_change(&change, &mut unheard, |old, _| {
        let mut new = old.clone();
        json::set(&mut new, "status.observedGeneration", generation);
        let checked = match warnings.as_slice() {
            [] => json!({}),
            some => json!({"expressionWarnings": some}),
        };
        json::set(&mut new, "status.typeChecking", checked);
        Ok(new)
    });
    match written.await {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

/// A kind, and what is declared of it.
struct Known {
    /// `apps/v1, Kind=Deployment`.
    shown: String,
    decl: Arc<DeclType>,
}

fn warnings(core: &Core, policy: &Value) -> Vec<Value> {
    let kinds = matched(core, policy);
    let param = json::get(policy, "spec.paramKind").map(|kind| {
        let (version, kind) = (json::text(kind, "apiVersion"), json::text(kind, "kind"));
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let rows = core.registry.rows();
        let row = rows
            .iter()
            .find(|r| r.gvk.group == group && r.gvk.version == version && r.gvk.kind == kind);
        row.and_then(|row| declare(row)).map(Arc::new)
    });
    let variables: Vec<(&str, &str)> = json::list(policy, "spec.variables")
        .iter()
        .map(|v| (json::text(v, "name"), json::text(v, "expression")))
        .collect();
    let mut found = Vec::new();
    for (at, validation) in json::list(policy, "spec.validations").iter().enumerate() {
        for member in ["expression", "messageExpression"] {
            let source = json::text(validation, member);
            if source.is_empty() {
                continue;
            }
            let problems: Vec<String> = kinds
                .iter()
                .filter_map(|kind| problem(kind, param.as_ref(), &variables, source))
                .collect();
            if !problems.is_empty() {
                found.push(json!({"fieldRef": format!("spec.validations[{at}].{member}"),
                    "warning": problems.join("\n")}));
            }
        }
    }
    found
}

/// What is wrong with an expression when the object is of a kind.
fn problem(
    kind: &Known,
    param: Option<&Option<Arc<DeclType>>>,
    variables: &[(&str, &str)],
    source: &str,
) -> Option<String> {
    let mut vocabulary = Vocabulary {
        params: param.is_some(),
        authorizer: true,
        object: Some(kind.decl.clone()),
        param: param.cloned().flatten(),
        variables: Some(BTreeMap::new()),
        ..Vocabulary::default()
    };
    for (name, source) in variables {
        let compiled = vocabulary.env().compile(source);
        let output = compiled.map_or(Type::Dyn, |checked| checked.output_type().clone());
        if let Some(known) = &mut vocabulary.variables {
            known.insert((*name).to_owned(), output);
        }
    }
    let issues = vocabulary.env().compile(source).err()?;
    Some(format!("{}: {issues}\n", kind.shown))
}

/// The kinds that the rules name without a wildcard.
fn matched(core: &Core, policy: &Value) -> Vec<Known> {
    let rows = core.registry.rows();
    let mut found: BTreeSet<(String, String, String)> = BTreeSet::new();
    for rule in json::list(policy, "spec.matchConstraints.resourceRules") {
        let texts = |path| {
            let list = json::list(rule, path).iter();
            list.filter_map(Value::as_str).collect::<Vec<_>>()
        };
        let (groups, versions, resources) = (texts("apiGroups"), texts("apiVersions"), texts("resources"));
        if groups.iter().chain(&versions).any(|text| text.contains('*')) {
            continue;
        }
        let named = rows.iter().filter(|row| {
            groups.contains(&row.gvk.group.as_str())
                && versions.contains(&row.gvk.version.as_str())
                && resources.contains(&row.resource.resource.as_str())
        });
        let keys = named.map(|row| {
            (
                row.gvk.group.clone(),
                row.gvk.version.clone(),
                row.resource.resource.clone(),
            )
        });
        found.extend(keys.take(MAX_TYPES.saturating_sub(found.len())));
    }
    let known = |(group, version, plural): &(String, String, String)| {
        let row = rows.get(group, version, plural)?;
        let decl = Arc::new(declare(row)?);
        let shown = format!("{group}/{version}, Kind={}", row.gvk.kind);
        Some(Known { shown, decl })
    };
    found.iter().filter_map(known).collect()
}

/// What is declared of a row's objects: by its definition, or by the description of the built-in kinds.
fn declare(row: &Row) -> Option<DeclType> {
    let node = match row.schema.custom() {
        Some(custom) => Node::build(&custom.schema_value()?, &Value::Null, &mut Vec::new()),
        None => {
            let (own, schemas) = strata_schema::openapi_definitions(&row.gvk)?;
            Node::build(&own, &schemas, &mut Vec::new())
        }
    };
    DeclType::from_schema(&node, &row.gvk.kind, true)
}

/// A schema of an OpenAPI description, references resolved.
#[derive(Default)]
struct Node {
    value: Value,
    items: Option<Box<Node>>,
    properties: Option<Vec<(String, Node)>>,
    others: Option<Box<Node>>,
}

impl Node {
    /// `around` names the references that lead here: one that comes back to itself is an object of which nothing is
    /// known, as upstream has it. Without that a schema of schemas would never end.
    fn build<'v>(value: &'v Value, schemas: &'v Value, around: &mut Vec<&'v str>) -> Self {
        let name = reference(value);
        if name.is_some_and(|name| around.contains(&name)) || around.len() > MAX_DEPTH {
            return Self {
                value: json!({"type": "object"}),
                ..Self::default()
            };
        }
        let value = name.and_then(|name| schemas.get(name)).unwrap_or(value);
        // Every step down counts, so that nothing is too deep.
        around.push(name.unwrap_or(""));
        let mut child = |member: &'v Value| Self::build(member, schemas, around);
        let items = value.get("items").filter(|m| m.is_object()).map(&mut child);
        let others = value.get("additionalProperties").filter(|m| m.is_object());
        let others = others.map(&mut child);
        let properties = value.get("properties").and_then(Value::as_object);
        let properties = properties.map(|all| all.iter().map(|(name, p)| (name.clone(), child(p))).collect());
        around.pop();
        Self {
            items: items.map(Box::new),
            properties,
            others: others.map(Box::new),
            // Only its own words are asked for from here on.
            value: shallow(value),
        }
    }

    fn text(&self, name: &str) -> &str {
        self.value.get(name).and_then(Value::as_str).unwrap_or("")
    }

    fn flag(&self, name: &str) -> bool {
        self.value.get(name) == Some(&Value::Bool(true))
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.value.get(name).and_then(Value::as_i64)
    }
}

/// What a schema refers to, by itself or in an `allOf` of one.
fn reference(value: &Value) -> Option<&str> {
    let own = value.get("$ref").and_then(Value::as_str);
    let alone = json::list(value, "allOf")
        .first()
        .and_then(|one| one.get("$ref"))
        .and_then(Value::as_str);
    own.or(alone).and_then(|path| path.rsplit('/').next())
}

fn shallow(value: &Value) -> Value {
    let members = value.as_object().into_iter().flatten();
    let own = members.filter(|(name, _)| !matches!(name.as_str(), "properties" | "items" | "description"));
    Value::Object(own.map(|(name, v)| (name.clone(), v.clone())).collect())
}

impl Schema for Node {
    fn kind(&self) -> &str {
        self.text("type")
    }
    fn format(&self) -> &str {
        self.text("format")
    }
    fn items(&self) -> Option<&Self> {
        self.items.as_deref()
    }
    fn properties(&self) -> Option<Vec<(&str, &Self)>> {
        let all = self.properties.as_ref()?;
        Some(all.iter().map(|(name, node)| (name.as_str(), node)).collect())
    }
    fn additional_properties(&self) -> AdditionalProperties<'_, Self> {
        match (&self.others, self.value.get("additionalProperties")) {
            (Some(node), _) => AdditionalProperties::Schema(node),
            (None, Some(Value::Bool(_))) => AdditionalProperties::Bool,
            _ => AdditionalProperties::Absent,
        }
    }
    fn is_required(&self, property: &str) -> bool {
        json::list(&self.value, "required").iter().any(|name| name == property)
    }
    fn has_default(&self) -> bool {
        self.value.get("default").is_some()
    }
    fn nullable(&self) -> bool {
        self.flag("nullable")
    }
    fn max_length(&self) -> Option<i64> {
        self.number("maxLength")
    }
    fn max_items(&self) -> Option<i64> {
        self.number("maxItems")
    }
    fn max_properties(&self) -> Option<i64> {
        self.number("maxProperties")
    }
    fn longest_enum(&self) -> Option<u64> {
        let texts = self.value.get("enum")?.as_array()?.iter().filter_map(Value::as_str);
        texts.map(|text| text.len() as u64).max()
    }
    fn int_or_string(&self) -> bool {
        self.flag("x-kubernetes-int-or-string") || self.format() == "int-or-string"
    }
    fn embedded_resource(&self) -> bool {
        self.flag("x-kubernetes-embedded-resource")
    }
    fn preserve_unknown_fields(&self) -> bool {
        self.flag("x-kubernetes-preserve-unknown-fields")
    }
    fn list_type(&self) -> &str {
        self.text("x-kubernetes-list-type")
    }
    fn list_map_keys(&self) -> Vec<String> {
        let keys = json::list(&self.value, "x-kubernetes-list-map-keys").iter();
        keys.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let to = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
        let properties: serde_json::Map<String, Value> = (0..20)
            .map(|at| (format!("p{at}"), json!({"allOf": [to("a")]})))
            .collect();
        let schemas = json!({"a": {"type": "object", "properties": properties}});
        let node = Node::build(
            &json!({"type": "object", "properties": {"root": to("a")}}),
            &schemas,
            &mut Vec::new(),
        );
        let child = |node: &Node, name: &str| {
            let all = node.properties.as_ref().expect("properties").iter();
            all.filter(|(found, _)| found == name)
                .map(|(_, node)| node.text("type").to_owned())
                .next()
        };
        assert_eq!(child(&node, "root").as_deref(), Some("object"));
        let root = &node.properties.as_ref().expect("properties")[0].1;
        assert_eq!(child(root, "p3").as_deref(), Some("object"));
        let p3 = &root.properties.as_ref().expect("properties")[3].1;
        assert!(p3.properties.is_none());
    }
}
