//! Webhook configurations, admission policies and their bindings
//! (k8s.io/kubernetes/pkg/apis/admissionregistration/validation).

use super::{Causes, webhook_address::client_config};
use crate::{
    admission::expressions::{Vocabulary, Wanted, compile},
    validate::{Field, formats},
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use strata_cel::{Env, Type};
use strata_meta::names;

const FAILURE: [&str; 2] = ["Fail", "Ignore"];
const MATCH: [&str; 2] = ["Equivalent", "Exact"];
const SIDE_EFFECTS: [&str; 2] = ["None", "NoneOnDryRun"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
const REINVOCATION: [&str; 2] = ["IfNeeded", "Never"];
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const REASONS: [&str; 3] = ["Forbidden", "Invalid", "RequestEntityTooLarge"];
const MAX_CONDITIONS: usize = 64;
const MAX_ANNOTATIONS: usize = 20;
const MAX_ANNOTATION_EXPRESSION: usize = 5 * 1024;

/// A webhook configuration.
pub(super) fn webhooks(object: &Value, causes: &mut Causes) {
    let mut seen = BTreeSet::new();
    for hook in Field::root(object).at("webhooks").items() {
        let name = hook.at("name");
        qualified_domain(&name, causes);
        for rule in hook.at("rules").items() {
            rule_with_operations(&rule, causes);
        }
        hook.at("failurePolicy").if_one_of(causes, &FAILURE);
        hook.at("matchPolicy").if_one_of(causes, &MATCH);
        let effects = hook.at("sideEffects");
        if effects.is_set() {
            effects.if_one_of(causes, &SIDE_EFFECTS);
        } else {
            causes.push(effects.required("must specify one of None, NoneOnDryRun"));
        }
        let timeout = hook.at("timeoutSeconds");
        if timeout.int().is_some_and(|t| !(1..=30).contains(&t)) {
            causes.push(timeout.invalid("the timeout value must be between 1 and 30 seconds"));
        }
        for selector in ["namespaceSelector", "objectSelector"] {
            formats::label_selector(&hook.at(selector), causes);
        }
        hook.at("reinvocationPolicy").if_one_of(causes, &REINVOCATION);
        client_config(&hook.at("clientConfig"), causes);
        conditions(&hook.at("matchConditions"), false, causes);
        review_versions(&hook.at("admissionReviewVersions"), causes);
        if !name.is_empty() && !seen.insert(name.text()) {
            causes.push(name.duplicate());
        }
    }
}

fn qualified_domain(name: &Field<'_>, causes: &mut Causes) {
    let problems = names::dns1123_subdomain(name.text());
    if name.is_empty() {
        causes.push(name.required(""));
    } else if !problems.is_empty() {
        causes.push(name.invalid(problems.join(",")));
    } else if name.text().split('.').count() < 3 {
        causes.push(name.invalid("should be a domain with at least three segments separated by dots"));
    }
}

fn has_wildcard(list: &Field<'_>) -> bool {
    list.items().any(|item| item.text() == "*")
}

fn rule_with_operations(rule: &Field<'_>, causes: &mut Causes) {
    let operations = rule.at("operations");
    if operations.is_empty() {
        causes.push(operations.required(""));
    }
    if operations.len() > 1 && has_wildcard(&operations) {
        causes.push(operations.invalid("if '*' is present, must not specify other operations"));
    }
    for operation in operations.items().filter(|o| !OPERATIONS.contains(&o.text())) {
        causes.push(operation.not_supported(&OPERATIONS));
    }
    for (list, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
        let field = rule.at(list);
        if field.is_empty() {
            causes.push(field.required(""));
        }
        if field.len() > 1 && has_wildcard(&field) {
            causes.push(field.invalid(format_args!("if '*' is present, must not specify other {what}")));
        }
    }
    for version in rule.at("apiVersions").items().filter(Field::is_empty) {
        causes.push(version.required(""));
    }
    resources(&rule.at("resources"), causes);
    rule.at("scope").if_one_of(causes, &["*", "Cluster", "Namespaced"]);
}

fn resources(list: &Field<'_>, causes: &mut Causes) {
    if list.is_empty() {
        causes.push(list.required(""));
    }
    let (mut all_subs, mut all_resources) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for item in list.items() {
        let text = item.text();
        if text.is_empty() {
            causes.push(item.required(""));
            continue;
        }
        let Some((resource, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if all_subs.contains(resource) {
            causes.push(item.invalid(format_args!("if '{resource}/*' is present, must not specify {text}")));
        }
        if all_resources.contains(sub) {
            causes.push(item.invalid(format_args!("if '*/{sub}' is present, must not specify {text}")));
        }
        if sub == "*" {
            all_subs.insert(resource);
        }
        if resource == "*" {
            all_resources.insert(sub);
        }
    }
    let has = |text: &str| list.items().any(|item| item.text() == text);
    if list.len() > 1 && has("*/*") {
        causes.push(list.invalid("if '*/*' is present, must not specify other resources"));
    }
    if has("*") && plain {
        causes.push(list.invalid("if '*' is present, must not specify other resources without subresources"));
    }
}

fn review_versions(versions: &Field<'_>, causes: &mut Causes) {
    if versions.is_empty() {
        causes.push(versions.required("must specify one of v1, v1beta1"));
        return;
    }
    let mut seen = BTreeSet::new();
    for version in versions.items() {
        if !seen.insert(version.text()) {
            causes.push(version.invalid("duplicate version"));
            continue;
        }
        version.problems(causes, names::dns1035_label(version.text()));
    }
    if !REVIEWS.iter().any(|known| seen.contains(known)) {
        causes.push(versions.invalid("must include at least one of v1, v1beta1"));
    }
}

fn conditions(list: &Field<'_>, params: bool, causes: &mut Causes) {
    if list.len() > MAX_CONDITIONS {
        causes.push(list.too_many(MAX_CONDITIONS));
    }
    if list.is_empty() {
        return;
    }
    let vocabulary = Vocabulary {
        params,
        authorizer: true,
        ..Vocabulary::default()
    };
    let env = vocabulary.env();
    let mut seen = BTreeSet::new();
    for condition in list.items().take(MAX_CONDITIONS) {
        let expression = condition.at("expression");
        if expression.text().trim().is_empty() {
            causes.push(expression.required(""));
        } else {
            compiles(&env, &expression, Wanted::Bool, causes);
        }
        let name = condition.at("name");
        if name.is_empty() {
            causes.push(name.required(""));
            continue;
        }
        name.problems(causes, names::qualified_name(name.text()));
        if !seen.insert(name.text()) {
            causes.push(name.duplicate());
        }
    }
}

/// Compiles an expression; its type, or dyn when it does not compile.
fn compiles(env: &Env, expression: &Field<'_>, wanted: Wanted, causes: &mut Causes) -> Type {
    match compile(env, expression.text(), wanted) {
        Ok(compiled) => compiled.output,
        Err(why) => {
            causes.push(expression.invalid(why));
            Type::Dyn
        }
    }
}

/// What both kinds of policy have in common; the vocabulary of their expressions.
fn policy(spec: &Field<'_>, patches: bool, causes: &mut Causes) -> Vocabulary {
    spec.at("failurePolicy").needs_one_of(causes, &FAILURE);
    let kind = spec.at("paramKind");
    if kind.is_set() {
        param_kind(&kind, causes);
    }
    let constraints = spec.at("matchConstraints");
    if constraints.is_set() {
        match_resources(&constraints, causes);
        let rules = constraints.at("resourceRules");
        if rules.is_empty() {
            causes.push(rules.required(""));
        }
    } else {
        causes.push(constraints.required(""));
    }
    conditions(&spec.at("matchConditions"), kind.is_set(), causes);
    let mut vocabulary = Vocabulary {
        params: kind.is_set(),
        authorizer: true,
        patches,
        ..Vocabulary::default()
    };
    let list = spec.at("variables");
    if !list.is_empty() {
        vocabulary.variables = Some(BTreeMap::new());
    }
    for variable in list.items() {
        let name = variable.at("name");
        if name.text().trim().is_empty() {
            causes.push(name.required("name is not specified"));
        } else if !is_identifier(name.text()) {
            causes.push(name.invalid("must be a valid CEL identifier"));
        }
        let expression = variable.at("expression");
        if expression.text().trim().is_empty() {
            causes.push(expression.required("expression is not specified"));
            continue;
        }
        let output = compiles(&vocabulary.env(), &expression, Wanted::Any, causes);
        if let Some(known) = &mut vocabulary.variables {
            known.insert(name.text().to_owned(), output);
        }
    }
    vocabulary
}

fn is_identifier(name: &str) -> bool {
    const RESERVED: [&str; 21] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ];
    let mut letters = name.bytes();
    let first = letters.next().is_some_and(|b| b == b'_' || b.is_ascii_alphabetic());
    first && letters.all(|b| b == b'_' || b.is_ascii_alphanumeric()) && !RESERVED.contains(&name)
}

fn param_kind(kind: &Field<'_>, causes: &mut Causes) {
    let version = kind.at("apiVersion");
    match version.text().split('/').collect::<Vec<_>>().as_slice() {
        [""] => causes.push(version.required("")),
        [only] => version.problems(
            causes,
            [names::dns1035_label(only).join(",")]
                .into_iter()
                .filter(|w| !w.is_empty()),
        ),
        [group, own] => {
            for problems in [names::dns1123_subdomain(group), names::dns1035_label(own)] {
                if !problems.is_empty() {
                    causes.push(version.invalid(problems.join(",")));
                }
            }
        }
        _ => {
            let why = format!("unexpected GroupVersion string: {}", version.text());
            causes.push(version.invalid(why));
        }
    }
    let name = kind.at("kind");
    let problems = names::dns1035_label(&name.text().to_lowercase());
    if name.is_empty() {
        causes.push(name.required(""));
    } else if !problems.is_empty() {
        let why = format!(
            "may have mixed case, but should otherwise match: {}",
            problems.join(",")
        );
        causes.push(name.invalid(why));
    }
}

fn match_resources(field: &Field<'_>, causes: &mut Causes) {
    field.at("matchPolicy").needs_one_of(causes, &MATCH);
    for selector in ["namespaceSelector", "objectSelector"] {
        let selector = field.at(selector);
        if selector.is_set() {
            formats::label_selector(&selector, causes);
        } else {
            causes.push(selector.required(""));
        }
    }
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in field.at(list).items() {
            let mut seen = BTreeSet::new();
            for name in rule.at("resourceNames").items() {
                name.problems(causes, names::path_segment(name.text()));
                if !seen.insert(name.text()) {
                    causes.push(name.duplicate());
                }
            }
            rule_with_operations(&rule, causes);
        }
    }
}

/// A ValidatingAdmissionPolicy.
pub(super) fn validating_policy(object: &Value, causes: &mut Causes) {
    let root = Field::root(object);
    let spec = root.at("spec");
    let mut vocabulary = policy(&spec, false, causes);
    let env = vocabulary.env();
    // A message is not for asking what somebody may do.
    vocabulary.authorizer = false;
    let messages = vocabulary.env();
    let (validations, annotations) = (spec.at("validations"), spec.at("auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        let why = "validations or auditAnnotations must contain at least one item";
        causes.push(validations.required(why));
        causes.push(annotations.required(why));
    }
    for validation in validations.items() {
        one_validation(&validation, (&env, &messages), causes);
    }
    audit_annotations(&annotations, root.at("metadata.name").text(), &env, causes);
}

fn one_validation(validation: &Field<'_>, (env, messages): (&Env, &Env), causes: &mut Causes) {
    let expression = validation.at("expression");
    if expression.text().trim().is_empty() {
        causes.push(expression.required("expression is not specified"));
    } else {
        compiles(env, &expression, Wanted::Bool, causes);
    }
    let computed = validation.at("messageExpression");
    if !computed.text().is_empty() {
        if computed.text().trim().is_empty() {
            causes.push(computed.invalid("must be non-empty if specified"));
        } else {
            compiles(messages, &computed, Wanted::Text, causes);
        }
    }
    let message = validation.at("message");
    let text = message.text();
    if !text.is_empty() && text.trim().is_empty() {
        causes.push(message.invalid("must be non-empty if specified"));
    } else if text.trim().contains(['\n', '\r']) {
        causes.push(message.invalid("must not contain line breaks"));
    }
    validation.at("reason").if_one_of(causes, &REASONS);
}

fn audit_annotations(list: &Field<'_>, policy: &str, env: &Env, causes: &mut Causes) {
    if list.len() > MAX_ANNOTATIONS {
        causes.push(list.invalid(format_args!(
            "must not have more than {MAX_ANNOTATIONS} auditAnnotations"
        )));
    }
    let mut seen = BTreeSet::new();
    for annotation in list.items() {
        let key = annotation.at("key");
        let whole = format!("{policy}/{}", key.text());
        for why in names::qualified_name(&whole) {
            causes.push(key.invalid_as(whole.as_str(), why));
        }
        let expression = annotation.at("valueExpression");
        let text = expression.text().trim();
        if text.is_empty() {
            causes.push(expression.required("valueExpression is not specified"));
        } else if text.len() > MAX_ANNOTATION_EXPRESSION {
            let why = format!("must not exceed {MAX_ANNOTATION_EXPRESSION} bytes in length");
            causes.push(expression.required(&why));
        } else {
            compiles(env, &expression, Wanted::TextOrNull, causes);
        }
        if !seen.insert(key.text()) {
            causes.push(key.duplicate());
        }
    }
}

/// A MutatingAdmissionPolicy.
pub(super) fn mutating_policy(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    let env = policy(&spec, true, causes).env();
    mutating_operations(&spec.at("matchConstraints"), causes);
    let mutations = spec.at("mutations");
    if mutations.is_empty() {
        causes.push(mutations.required("mutations must contain at least one item"));
    }
    for mutation in mutations.items() {
        let (patch, apply) = (mutation.at("jsonPatch"), mutation.at("applyConfiguration"));
        let kind = mutation.at("patchType");
        let (own, other, wanted) = match kind.text() {
            "" => {
                causes.push(kind.required(""));
                continue;
            }
            "JSONPatch" => (patch, apply, Wanted::Patches),
            "ApplyConfiguration" => (apply, patch, Wanted::Object),
            _ => {
                causes.push(kind.not_supported(&["ApplyConfiguration", "JSONPatch"]));
                continue;
            }
        };
        let expression = own.at("expression");
        if !own.is_set() {
            causes.push(own.required(&format!("must be specified when patchType is {}", kind.text())));
        } else if expression.text().trim().is_empty() {
            causes.push(expression.required(""));
        } else {
            compiles(&env, &expression, wanted, causes);
        }
        if other.is_set() {
            let shown = other.path().rsplit('.').next().unwrap_or("").to_owned();
            let why = format!("must not be specified when patchType is {}", kind.text());
            causes.push(other.invalid_as(format!("{{{shown}}}"), why));
        }
    }
    spec.at("reinvocationPolicy").needs_one_of(causes, &REINVOCATION);
}

fn mutating_operations(matched: &Field<'_>, causes: &mut Causes) {
    let path = format!("{}.resourceRules.operations", matched.path());
    for rule in matched.at("resourceRules").items() {
        let operations = rule.at("operations");
        for operation in operations.items().filter(|o| !MUTATING_OPERATIONS.contains(&o.text())) {
            causes.push(operation.named(path.as_str()).not_supported(&MUTATING_OPERATIONS));
        }
    }
}

fn binding(spec: &Field<'_>, causes: &mut Causes) {
    let policy = spec.at("policyName");
    if policy.is_empty() {
        causes.push(policy.required(""));
    } else {
        policy.problems(causes, names::dns1123_subdomain(policy.text()));
    }
    let reference = spec.at("paramRef");
    if reference.is_set() {
        param_reference(&reference, causes);
    }
    let matched = spec.at("matchResources");
    if matched.is_set() {
        match_resources(&matched, causes);
    }
}

fn param_reference(reference: &Field<'_>, causes: &mut Causes) {
    const EXCLUSIVE: &str = "name and selector are mutually exclusive";
    let (name, selector) = (reference.at("name"), reference.at("selector"));
    if !name.is_empty() {
        name.problems(causes, names::path_segment(name.text()));
        if selector.is_set() {
            causes.push(name.forbidden(EXCLUSIVE));
        }
    }
    if selector.is_set() {
        formats::label_selector(&selector, causes);
        if !name.is_empty() {
            causes.push(selector.forbidden(EXCLUSIVE));
        }
    }
    if name.is_empty() && !selector.is_set() {
        causes.push(reference.required("one of name or selector must be specified"));
    }
    reference
        .at("parameterNotFoundAction")
        .needs_one_of(causes, &["Deny", "Allow"]);
}

/// A ValidatingAdmissionPolicyBinding.
pub(super) fn validating_binding(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    binding(&spec, causes);
    let actions = spec.at("validationActions");
    let mut seen = BTreeSet::new();
    for action in actions.items() {
        if !matches!(action.text(), "Audit" | "Deny" | "Warn") {
            causes.push(action.not_supported(&["Audit", "Deny", "Warn"]));
        }
        if !seen.insert(action.text()) {
            causes.push(action.duplicate());
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        causes.push(actions.invalid("must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)"));
    }
    if seen.is_empty() {
        causes.push(actions.required("at least one validation action is required"));
    }
}

/// A MutatingAdmissionPolicyBinding.
pub(super) fn mutating_binding(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    binding(&spec, causes);
    mutating_operations(&spec.at("matchResources"), causes);
}
