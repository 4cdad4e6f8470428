//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy: plugins that users write as expressions.
//!
//! Policies and bindings are compiled when they change, before their writer is answered.

mod mutating;
mod params;
pub(crate) mod typecheck;
mod validating;

pub(super) use mutating::{Memory, mutate};
pub(super) use validating::validate;

use super::{
    Request,
    asked::authorizer,
    conditions::Conditions,
    expressions::{Expression, Inputs, Variable, Vocabulary, Wanted, compile_variables},
    hooks::review,
    matching::{Form, Matcher},
};
use crate::{json, metrics::Conditioned};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock},
};
use strata_meta::{Status, WatchEvent};

/// A policy, compiled.
pub(super) struct Policy {
    name: String,
    ignores_failure: bool,
    /// apiVersion and kind of its params.
    param_kind: Option<(String, String)>,
    matcher: Matcher,
    conditions: Conditions,
    variables: Vec<Variable>,
    validations: Vec<Validation>,
    annotations: Vec<(String, Expression)>,
    mutations: Vec<Mutation>,
    reinvoked: bool,
}

/// One rule of a validating policy.
struct Validation {
    expression: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: String,
}

/// One change of a mutating policy.
enum Mutation {
    /// An object that is applied.
    Apply(Expression),
    /// Patch operations.
    Patch(Expression),
}

impl Policy {
    fn read(name: &str, value: &Value) -> Self {
        let nothing = Value::Null;
        let spec = value.get("spec").unwrap_or(&nothing);
        let param_kind = json::get(spec, "paramKind")
            .map(|k| (json::text(k, "apiVersion").to_owned(), json::text(k, "kind").to_owned()));
        let params = param_kind.is_some();
        let mut vocabulary = Vocabulary {
            params,
            authorizer: true,
            patches: json::get(spec, "mutations").is_some(),
            ..Vocabulary::default()
        };
        let pairs: Vec<(String, String)> = json::list(spec, "variables")
            .iter()
            .map(|v| (json::text(v, "name").to_owned(), json::text(v, "expression").to_owned()))
            .collect();
        let variables = match pairs.as_slice() {
            [] => Vec::new(),
            pairs => compile_variables(&mut vocabulary, pairs),
        };
        let env = vocabulary.env();
        vocabulary.authorizer = false;
        let messages = vocabulary.env();
        let validation = |v: &Value| Validation {
            expression: Expression::new(&env, json::text(v, "expression"), Wanted::Bool),
            message: json::text(v, "message").to_owned(),
            message_expression: json::get(v, "messageExpression")
                .and_then(Value::as_str)
                .map(|source| Expression::new(&messages, source, Wanted::Text)),
            reason: json::text(v, "reason").to_owned(),
        };
        let annotation = |a: &Value| {
            let source = json::text(a, "valueExpression").trim();
            let expression = Expression::new(&env, source, Wanted::TextOrNull);
            (json::text(a, "key").to_owned(), expression)
        };
        let mutation = |m: &Value| match json::text(m, "patchType") {
            "JSONPatch" => {
                let source = json::text(m, "jsonPatch.expression").trim();
                Mutation::Patch(Expression::new(&env, source, Wanted::Patches))
            }
            _ => {
                let source = json::text(m, "applyConfiguration.expression").trim();
                Mutation::Apply(Expression::new(&env, source, Wanted::Object))
            }
        };
        Self {
            name: name.to_owned(),
            ignores_failure: json::text(spec, "failurePolicy") == "Ignore",
            param_kind,
            matcher: Matcher::read_policy(spec.get("matchConstraints").unwrap_or(&nothing)),
            conditions: Conditions::read(spec, params),
            validations: json::list(spec, "validations").iter().map(validation).collect(),
            annotations: json::list(spec, "auditAnnotations").iter().map(annotation).collect(),
            mutations: json::list(spec, "mutations").iter().map(mutation).collect(),
            reinvoked: json::text(spec, "reinvocationPolicy") == "IfNeeded",
            variables,
        }
    }
}

/// Where and with what a policy is in force.
pub(super) struct Binding {
    name: String,
    policy: String,
    /// `spec.paramRef`.
    params: Option<Value>,
    matcher: Option<Matcher>,
    actions: Vec<String>,
}

impl Binding {
    fn read(name: &str, value: &Value) -> Self {
        let actions = json::list(value, "spec.validationActions").iter();
        Self {
            name: name.to_owned(),
            policy: json::text(value, "spec.policyName").to_owned(),
            params: json::get(value, "spec.paramRef").cloned(),
            matcher: json::get(value, "spec.matchResources").map(Matcher::read_policy),
            actions: actions.filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }
}

/// A policy and its bindings.
pub(super) type Bound = (Arc<Policy>, Vec<Arc<Binding>>);

/// All policies of one kind that are bound, in order of name.
#[derive(Default)]
pub(super) struct Policies(RwLock<State>);

#[derive(Default)]
struct State {
    policies: BTreeMap<String, Arc<Policy>>,
    bindings: BTreeMap<String, Arc<Binding>>,
    bound: Arc<Vec<Bound>>,
}

impl Policies {
    /// What is in force now.
    pub(super) fn bound(&self) -> Arc<Vec<Bound>> {
        self.0.read().expect("no panic under this lock").bound.clone()
    }

    /// Takes note of a change of a policy, or of a binding.
    pub(super) fn apply(&self, is_binding: bool, event: &WatchEvent) {
        let Some(object) = event.object() else { return };
        let name = object.name();
        let value = match event {
            WatchEvent::Deleted(_) => None,
            _ => object
                .to_value()
                .inspect_err(|error| tracing::error!(%error, name, "a policy cannot be read"))
                .ok(),
        };
        // Compiled before the lock is taken: requests read under it.
        let policy = value
            .as_ref()
            .filter(|_| !is_binding)
            .map(|v| Arc::new(Policy::read(name, v)));
        let binding = value
            .as_ref()
            .filter(|_| is_binding)
            .map(|v| Arc::new(Binding::read(name, v)));
        let mut state = self.0.write().expect("no panic under this lock");
        match (policy, binding) {
            (Some(policy), _) => drop(state.policies.insert(name.to_owned(), policy)),
            (_, Some(binding)) => drop(state.bindings.insert(name.to_owned(), binding)),
            _ if is_binding => drop(state.bindings.remove(name)),
            _ => drop(state.policies.remove(name)),
        }
        let bindings_of = |policy: &str| -> Vec<Arc<Binding>> {
            let own = state.bindings.values().filter(|b| b.policy == policy);
            own.cloned().collect()
        };
        let bound = state.policies.values().map(|p| (p.clone(), bindings_of(&p.name)));
        let bound: Vec<Bound> = bound.filter(|(_, bindings)| !bindings.is_empty()).collect();
        state.bound = Arc::new(bound);
    }
}

/// Reviews and configurations are never asked about, or nobody could undo a mistake.
fn is_exempt(request: &Request<'_>) -> bool {
    let group = request.row.resource.group.as_str();
    super::hooks::is_exempt(request) || matches!(group, "authentication.k8s.io" | "authorization.k8s.io")
}

/// The namespace of a request as expressions see it; null for what lives in none.
fn namespace_object(request: &Request<'_>) -> Result<Value, Status> {
    if request.namespace.is_empty() || request.is_row("", "namespaces") {
        return Ok(Value::Null);
    }
    let namespace = request.core.resource("", "namespaces").get("", request.namespace);
    let Some(namespace) = namespace else {
        let resource = strata_meta::GroupResource::new("", "namespaces");
        return Err(Status::not_found(&resource, request.namespace));
    };
    let mut value = namespace.to_value().map_err(Status::internal)?;
    json::remove(&mut value, "metadata.managedFields");
    Ok(value)
}

/// A request in the form a policy is shown it.
struct Seen {
    object: Value,
    old: Value,
    attributes: Value,
    namespace: Value,
}

impl Seen {
    async fn new(request: &Request<'_>, form: &Form, new: Option<&Value>, old: Option<&Value>) -> Result<Self, Status> {
        Ok(Self {
            object: review::shown(request, form, new).await?,
            old: review::shown(request, form, old).await?,
            attributes: review::attributes(request, form),
            namespace: namespace_object(request)?,
        })
    }

    /// What the expressions of a policy see.
    fn inputs<'a>(&'a self, request: &Request<'_>, policy: &'a Policy, params: &'a Value) -> Inputs<'a> {
        let mut inputs = Inputs::new(&self.object, &self.old, &self.attributes, &policy.variables);
        inputs.namespace = &self.namespace;
        inputs.params = params;
        inputs.authorizer = Some(authorizer(request));
        inputs
    }

    /// Whether the policy's match conditions hold. Errors: what failed.
    async fn concerns<'a>(
        &'a self,
        request: &Request<'_>,
        policy: &'a Policy,
        params: &'a Value,
        step: &'static str,
    ) -> Result<bool, String> {
        if policy.conditions.is_empty() {
            return Ok(true);
        }
        let of = Conditioned {
            name: &policy.name,
            kind: "policy",
            step,
            operation: request.operation,
        };
        let inputs = || self.condition_inputs(request, params);
        let holds = policy.conditions.hold(request, inputs, policy.ignores_failure, of);
        holds.await
    }

    /// What match conditions see: the same without the namespace.
    fn condition_inputs<'a>(&'a self, request: &Request<'_>, params: &'a Value) -> Inputs<'a> {
        let mut inputs = Inputs::new(&self.object, &self.old, &self.attributes, &[]);
        inputs.params = params;
        inputs.authorizer = Some(authorizer(request));
        inputs
    }
}
