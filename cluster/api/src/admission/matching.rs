//! Which requests a configured webhook or policy is asked about.

use super::{Operation, Request, request::kind_of};
use crate::{json, registry::Row};
use serde_json::Value;
use std::sync::Arc;
use strata_meta::{GroupResource, GroupVersionKind, LabelSelector, Selector, Status};

/// A rule of a webhook or policy.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
    /// Names of objects; all when empty.
    names: Vec<String>,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subject<'a> {
    pub(super) operation: Operation,
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) resource: &'a str,
    pub(super) subresource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
}

impl<'a> Subject<'a> {
    fn of(request: &'a Request<'_>, row: &'a Row) -> Self {
        Self {
            operation: request.operation,
            group: &row.resource.group,
            version: &row.gvk.version,
            resource: &row.resource.resource,
            subresource: request.subresource,
            namespace: request.rule_namespace(),
            name: request.name,
        }
    }
}

impl Rule {
    /// Reads a RuleWithOperations or NamedRuleWithOperations.
    pub(super) fn read(value: &Value) -> Self {
        let texts = |path| {
            let list = json::list(value, path).iter();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: texts("resources"),
            scope: json::text(value, "scope").to_owned(),
            names: texts("resourceNames"),
        }
    }

    /// All rules of a list.
    pub(super) fn read_all(value: &Value, path: &str) -> Vec<Self> {
        json::list(value, path).iter().map(Self::read).collect()
    }

    /// Whether the rule is about a request.
    pub(super) fn matches(&self, subject: &Subject<'_>) -> bool {
        let named = |list: &[String], text: &str| list.iter().any(|item| item == "*" || item == text);
        let resource = self.resources.iter().any(|item| {
            let (resource, sub) = item.split_once('/').unwrap_or((item, ""));
            (resource == "*" || resource == subject.resource) && (sub == "*" || sub == subject.subresource)
        });
        self.in_scope(subject)
            && named(&self.operations, subject.operation.as_str())
            && named(&self.groups, subject.group)
            && named(&self.versions, subject.version)
            && resource
            && (self.names.is_empty() || self.names.iter().any(|n| n == subject.name))
    }

    fn in_scope(&self, subject: &Subject<'_>) -> bool {
        let is_namespace = (subject.group, subject.resource) == ("", "namespaces");
        let clustered = is_namespace || subject.namespace.is_empty();
        match self.scope.as_str() {
            "" | "*" => true,
            "Namespaced" => !clustered,
            "Cluster" => clustered,
            _ => false,
        }
    }
}

/// The form in which a webhook or policy is shown a request.
#[derive(Clone)]
pub(super) struct Form {
    /// The row whose version it is.
    pub(super) row: Option<Arc<Row>>,
    /// The kind.
    pub(super) kind: GroupVersionKind,
    /// Group and plural name.
    pub(super) resource: GroupResource,
}

/// Selectors and rules together: which requests, and in which form.
#[derive(Clone, Debug, Default)]
pub(super) struct Matcher {
    namespaces: Selectors,
    objects: Selectors,
    pub(super) rules: Vec<Rule>,
    excluded: Vec<Rule>,
    equivalent: bool,
    /// Whether no rules at all mean every request.
    all_without_rules: bool,
}

/// A selector that was read once; one that cannot be read fails each request it would be asked about.
#[derive(Clone, Debug)]
struct Selectors(Result<Selector, String>);

impl Default for Selectors {
    fn default() -> Self {
        Self(Ok(Selector::from_map(&std::collections::BTreeMap::new())))
    }
}

impl Selectors {
    fn read(value: Option<&Value>) -> Self {
        let Some(value) = value else {
            return Self::default();
        };
        let selector = serde_json::from_value::<LabelSelector>(value.clone()).map_err(|e| e.to_string());
        Self(selector.and_then(|s| s.to_selector().map_err(|e| e.to_string())))
    }

    fn get(&self) -> Result<&Selector, Status> {
        self.0.as_ref().map_err(Status::internal)
    }
}

impl Matcher {
    /// Reads a webhook, or the match constraints of a policy (whose rules are `resourceRules`).
    pub(super) fn read(value: &Value) -> Self {
        let mut rules = Rule::read_all(value, "rules");
        rules.extend(Rule::read_all(value, "resourceRules"));
        Self {
            namespaces: Selectors::read(json::get(value, "namespaceSelector")),
            objects: Selectors::read(json::get(value, "objectSelector")),
            rules,
            excluded: Rule::read_all(value, "excludeResourceRules"),
            equivalent: json::text(value, "matchPolicy") != "Exact",
            all_without_rules: false,
        }
    }

    /// Reads the MatchResources of a policy or binding, where no rules mean all.
    pub(super) fn read_policy(value: &Value) -> Self {
        Self {
            all_without_rules: true,
            ..Self::read(value)
        }
    }

    /// The form in which the request is to be shown; `None` when it is none of this one's business.
    /// Errors: a namespace that is not there, a selector that cannot be read.
    pub(super) fn form(
        &self,
        request: &Request<'_>,
        new: Option<&Value>,
        old: Option<&Value>,
    ) -> Result<Option<Form>, Status> {
        let in_namespace = self.namespace_matches(request, new);
        if matches!(in_namespace, Ok(false)) {
            return Ok(None);
        }
        let selector = self.objects.get()?;
        if !selector.is_everything() && !selects(selector, new) && !selects(selector, old) {
            return Ok(None);
        }
        let excluded = |subject: &Subject<'_>| self.excluded.iter().any(|rule| rule.matches(subject));
        if !self.excluded.is_empty() && self.first_form(request, &excluded).is_some() {
            return Ok(None);
        }
        let every = self.all_without_rules && self.rules.is_empty();
        let form = self.first_form(request, &|subject| {
            every || self.rules.iter().any(|rule| rule.matches(subject))
        });
        if form.is_some() {
            in_namespace?;
        }
        Ok(form)
    }

    fn first_form(&self, request: &Request<'_>, matches: &dyn Fn(&Subject<'_>) -> bool) -> Option<Form> {
        if matches(&Subject::of(request, request.row)) {
            return Some(Form {
                row: None,
                kind: request.kind(),
                resource: request.row.resource.clone(),
            });
        }
        if !self.equivalent {
            return None;
        }
        let row = equivalents(request)
            .into_iter()
            .find(|row| matches(&Subject::of(request, row)))?;
        Some(Form {
            kind: kind_of(&row, request.subresource, request.operation),
            resource: row.resource.clone(),
            row: Some(row),
        })
    }

    fn namespace_matches(&self, request: &Request<'_>, new: Option<&Value>) -> Result<bool, Status> {
        let name = request.rule_namespace();
        let is_namespace = request.row.resource.resource == "namespaces";
        if name.is_empty() && !is_namespace {
            return Ok(true);
        }
        let selector = self.namespaces.get()?;
        if selector.is_everything() {
            return Ok(true);
        }
        let written = matches!(request.operation, Operation::Create | Operation::Update);
        if is_namespace && request.subresource.is_empty() && written {
            return Ok(selects(selector, new));
        }
        let namespace = request.core.resource("", "namespaces").get("", name);
        match namespace {
            Some(namespace) => Ok(selector.matches_object(&namespace)),
            None => Err(Status::not_found(&GroupResource::new("", "namespaces"), name)),
        }
    }
}

fn selects(selector: &Selector, object: Option<&Value>) -> bool {
    let Some(object) = object.filter(|o| o.get("metadata").is_some()) else {
        return false;
    };
    let labels = json::get(object, "metadata.labels");
    selector.matches_with(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
}

/// Other rows of the same stored objects that have the subresource.
fn equivalents(request: &Request<'_>) -> Vec<Arc<Row>> {
    let Some(cache) = &request.row.cache else {
        return Vec::new();
    };
    let sub = request.subresource;
    let same = |row: &&Arc<Row>| {
        row.cache.as_ref().is_some_and(|c| Arc::ptr_eq(c, cache))
            && row.gvk != request.row.gvk
            && (sub.is_empty() || row.subresource(sub).is_some())
    };
    request.core.registry.rows().iter().filter(same).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_match_by_operation_group_version_resource_and_scope() {
        let rule = |operations: &[&str], groups: &[&str], versions: &[&str], resources: &[&str], scope: &str| {
            Rule::read(
                &json!({"operations": operations, "apiGroups": groups, "apiVersions": versions,
                "resources": resources, "scope": scope}),
            )
        };
        let subject = |operation, path: &'static str, namespace: &'static str| {
            let mut parts = path.split('/');
            let mut next = || parts.next().unwrap_or("");
            Subject {
                operation,
                group: next(),
                version: next(),
                resource: next(),
                subresource: next(),
                namespace,
                name: "x",
            }
        };
        let any = rule(&["*"], &["*"], &["*"], &["*"], "*");
        let all = rule(&["*"], &["*"], &["*"], &["*/*"], "*");
        let pods = rule(
            &["CREATE", "UPDATE"],
            &[""],
            &["v1"],
            &["pods", "pods/status"],
            "Namespaced",
        );
        let scales = rule(&["UPDATE"], &["apps"], &["v1"], &["*/scale"], "");
        let clustered = rule(&["*"], &["*"], &["*"], &["*"], "Cluster");
        for (rule, operation, path, namespace, expected) in [
            (&any, Operation::Create, "/v1/pods", "n", true),
            (&any, Operation::Create, "/v1/pods/status", "n", false),
            (&all, Operation::Connect, "/v1/pods/exec", "n", true),
            (&all, Operation::Create, "apps/v1/deployments", "n", true),
            (&pods, Operation::Create, "/v1/pods", "n", true),
            (&pods, Operation::Delete, "/v1/pods", "n", false),
            (&pods, Operation::Update, "/v1/pods/status", "n", true),
            (&pods, Operation::Update, "/v1/pods/resize", "n", false),
            (&pods, Operation::Update, "apps/v1/pods", "n", false),
            (&scales, Operation::Update, "apps/v1/deployments/scale", "n", true),
            (&scales, Operation::Update, "apps/v1/deployments", "n", false),
            (&clustered, Operation::Create, "/v1/pods", "n", false),
            (&clustered, Operation::Create, "/v1/namespaces", "n", true),
            (&clustered, Operation::Create, "/v1/nodes", "", true),
        ] {
            let subject = subject(operation, path, namespace);
            assert_eq!(rule.matches(&subject), expected, "{rule:?} {subject:?}");
        }
        let mut named = pods.clone();
        named.names = vec!["y".into()];
        assert!(!named.matches(&subject(Operation::Create, "/v1/pods", "n")));
    }
}
