//! Questions that are answered and not kept: access and token reviews.

use crate::{
    admission::{self, Operation, Request},
    codec::{FieldValidation, body_media, decode_body, read_body},
    components,
    encode::value_response,
    json, legacy_tokens,
    pipeline::Call,
    registry::Row,
    tracking,
    verbs::{WriteOptions, field_manager, match_namespace},
};
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_auth::{Attributes, Decision, Notes, TokenError, UserInfo};
use strata_http::Body;
use strata_meta::{FieldSelector, GroupKind, LabelSelector, Selector, Status, StatusCause, Time};

/// Answers a request about a kind that is not stored.
pub(crate) async fn serve(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    if components::serves(row) {
        return components::serve(call, row);
    }
    let form = call.untabled_form()?;
    let options = WriteOptions::read(call, "CreateOptions")?;
    let media = body_media(&call.headers)?;
    let bytes = read_body(body).await?;
    let mut value = decode_body(&row.gvk, media, &bytes, FieldValidation::Ignore, &mut call.warnings)?;
    row.schema.apply_defaults(&row.gvk, &mut value);
    match_namespace(&mut value, &call.info.namespace)?;
    value = tracking::account_review(&row.gvk, &field_manager(call), "", value);
    let place = (
        call.info.namespace.clone(),
        json::text(&value, "metadata.name").to_owned(),
    );
    let request =
        Request::new(&call.core, &call.user, row, Operation::Create, (&place.0, &place.1)).dry(options.dry_run);
    value = admission::admit(&request, value, None, &mut call.warnings).await?;
    match row.gvk.kind.as_str() {
        "Binding" => {
            let name = json::text(&value, "metadata.name").to_owned();
            if name.is_empty() {
                return Err(Status::bad_request("Name parameter required."));
            }
            return crate::subresource::bind(call, &name, &value).await;
        }
        "SelfSubjectAccessReview" => {
            let user = call.user.clone();
            access(call, row, &mut value, &user).await?;
        }
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            check_subject(row, &value, &call.info.namespace)?;
            let user = subject(&value);
            access(call, row, &mut value, &user).await?;
        }
        "SelfSubjectRulesReview" => rules(call, &mut value)?,
        "SelfSubjectReview" => {
            value = json!({"kind": row.gvk.kind, "apiVersion": row.gvk.api_version(),
                "metadata": {"creationTimestamp": Time::now()}, "status": {"userInfo": &*call.user}});
        }
        "TokenReview" => token(call, &mut value).await?,
        _ => return Err(Status::method_not_allowed()),
    }
    Ok(value_response(201, &value, form))
}

fn subject(value: &Value) -> UserInfo {
    let texts = |path: &str| -> Vec<String> {
        json::list(value, path)
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect()
    };
    UserInfo {
        name: json::text(value, "spec.user").to_owned(),
        uid: json::text(value, "spec.uid").to_owned(),
        groups: texts("spec.groups"),
        extra: json::members(value, "spec.extra")
            .map(|(key, list)| {
                let values = list.as_array().into_iter().flatten().filter_map(Value::as_str);
                (key.clone(), values.map(str::to_owned).collect())
            })
            .collect(),
    }
}

/// The kind as refusals name it: upstream knows the group alone.
fn unnamed(row: &Row) -> GroupKind {
    GroupKind {
        group: row.gvk.group.clone(),
        kind: String::new(),
    }
}

/// What is asked about: exactly one of a resource and a path.
fn asked(value: &Value, causes: &mut Vec<StatusCause>) {
    let attributes = ["spec.resourceAttributes", "spec.nonResourceAttributes"].map(|path| json::get(value, path));
    match attributes {
        [Some(_), Some(path)] => {
            let why = "cannot be specified in combination with resourceAttributes";
            causes.push(StatusCause::invalid("spec.nonResourceAttributes", path, why));
        }
        [None, None] => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            causes.push(StatusCause::invalid("spec.resourceAttributes", Null, why));
        }
        _ => {}
    }
}

/// Nothing as Go prints it.
struct Null;

impl std::fmt::Debug for Null {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("null")
    }
}

/// A review says whom it is about, and one in a namespace asks about that one.
fn check_subject(row: &Row, value: &Value, namespace: &str) -> Result<(), Status> {
    let mut causes = Vec::new();
    asked(value, &mut causes);
    if json::text(value, "spec.user").is_empty() && json::list(value, "spec.groups").is_empty() {
        let why = "at least one of user or group must be specified";
        causes.push(StatusCause::invalid("spec.user", "", why));
    }
    if row.namespaced {
        let stated = json::text(value, "spec.resourceAttributes.namespace");
        if json::get(value, "spec.resourceAttributes").is_some() && stated != namespace {
            let why = "must match metadata.namespace";
            causes.push(StatusCause::invalid("spec.resourceAttributes.namespace", stated, why));
        }
        if let Some(path) = json::get(value, "spec.nonResourceAttributes") {
            let why = "disallowed on this kind of request";
            causes.push(StatusCause::invalid("spec.nonResourceAttributes", path, why));
        }
    }
    match causes.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid(&unnamed(row), "", causes)),
    }
}

async fn access(call: &Call, row: &Row, value: &mut Value, user: &UserInfo) -> Result<(), Status> {
    let resource = json::get(value, "spec.resourceAttributes").cloned();
    let path = json::get(value, "spec.nonResourceAttributes").cloned();
    let (decision, reason) = match (&resource, &path) {
        (Some(r), None) => {
            let (fields, labels) = (field_requirements(r), label_requirements(r));
            let attributes = Attributes {
                verb: json::text(r, "verb"),
                group: json::text(r, "group"),
                version: json::text(r, "version"),
                resource: json::text(r, "resource"),
                subresource: json::text(r, "subresource"),
                namespace: json::text(r, "namespace"),
                name: json::text(r, "name"),
                field_selector: fields.as_ref(),
                label_selector: labels.as_ref(),
                ..Attributes::of(user)
            };
            judged(call, &attributes).await
        }
        (None, Some(p)) => {
            let attributes = Attributes {
                verb: json::text(p, "verb"),
                path: json::text(p, "path"),
                is_resource: false,
                ..Attributes::of(user)
            };
            judged(call, &attributes).await
        }
        _ => {
            let mut causes = Vec::new();
            asked(value, &mut causes);
            return Err(Status::invalid(&unnamed(row), "", causes));
        }
    };
    let mut status = json!({"allowed": decision.is_allowed()});
    if matches!(decision, Decision::Deny(_)) {
        json::set(&mut status, "denied", true);
    }
    if !reason.is_empty() {
        json::set(&mut status, "reason", reason);
    }
    json::set(value, "status", status);
    Ok(())
}

async fn judged(call: &Call, attributes: &Attributes<'_>) -> (Decision, String) {
    let verdict = call.core.authorizer.judge(&call.core, attributes).await;
    let reason = verdict.reason(&call.core, attributes);
    (verdict.decision, reason)
}

fn label_requirements(resource: &Value) -> Option<Selector> {
    let raw = json::text(resource, "labelSelector.rawSelector");
    if !raw.is_empty() {
        return Selector::parse(raw).ok();
    }
    let requirements = json::get(resource, "labelSelector.requirements")?;
    let match_expressions = serde_json::from_value(requirements.clone()).ok()?;
    let selector = LabelSelector {
        match_expressions,
        ..LabelSelector::default()
    };
    selector.to_selector().ok().filter(|selector| !selector.is_everything())
}

fn field_requirements(resource: &Value) -> Option<FieldSelector> {
    let raw = json::text(resource, "fieldSelector.rawSelector");
    if !raw.is_empty() {
        return FieldSelector::parse(raw).ok();
    }
    let terms: Vec<(String, bool, String)> = json::list(resource, "fieldSelector.requirements")
        .iter()
        .filter_map(|r| {
            let equal = match json::text(r, "operator") {
                "In" => true,
                "NotIn" => false,
                _ => return None,
            };
            let value = json::list(r, "values").first()?.as_str()?;
            Some((json::text(r, "key").to_owned(), equal, value.to_owned()))
        })
        .collect();
    (!terms.is_empty()).then_some(FieldSelector { terms })
}

fn rules(call: &Call, value: &mut Value) -> Result<(), Status> {
    let namespace = json::text(value, "spec.namespace").to_owned();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let (mut resources, mut paths) = (Vec::new(), Vec::new());
    for rule in call.core.rbac.rules_for(&call.user, &namespace) {
        if rule.non_resource_urls.is_empty() {
            let mut shown = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
            if !rule.resource_names.is_empty() {
                json::set(&mut shown, "resourceNames", json!(rule.resource_names));
            }
            resources.push(shown);
        } else {
            paths.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false});
    if !call.core.authorizer.is_complete() {
        json::set(&mut status, "incomplete", true);
        let why = "webhook authorizer does not support user rule resolution";
        json::set(&mut status, "evaluationError", why);
    }
    json::set(value, "status", status);
    Ok(())
}

/// What those who know tokens say together: one does not know it, and the one whose it is says what is wrong with it.
fn untold(why: &TokenError) -> String {
    const UNKNOWN: &str = "invalid bearer token";
    match why {
        TokenError::Foreign | TokenError::Malformed(_) => UNKNOWN.to_owned(),
        why => format!("[{UNKNOWN}, {why}]"),
    }
}

async fn token(call: &mut Call, value: &mut Value) -> Result<(), Status> {
    let text = json::text(value, "spec.token");
    if text.is_empty() {
        return Err(Status::bad_request(
            "token is required for TokenReview in authentication",
        ));
    }
    let asked: Vec<String> = json::list(value, "spec.audiences")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let wanted = if asked.is_empty() {
        call.core.authenticator.audiences().to_vec()
    } else {
        asked
    };
    let mut notes = Notes::default();
    let known = call.core.authenticator.token(text, &wanted, &mut notes);
    for (key, said) in &notes.annotations {
        crate::audit::note(key, said);
    }
    call.warnings
        .extend(notes.warnings.iter().map(|warning| (*warning).to_owned()));
    if let Some(used) = &notes.used {
        legacy_tokens::mark(&call.core, used).await;
    }
    let status = match known {
        Ok((user, audiences)) => json!({"authenticated": true, "user": user, "audiences": audiences}),
        Err(why) => {
            let outside = &call.core.outside;
            let asked = match outside.knows_tokens() {
                true => outside.token(&call.core, text, &wanted).await.ok(),
                false => None,
            };
            match asked {
                Some((user, audiences)) => json!({"authenticated": true, "user": &*user, "audiences": audiences}),
                None => json!({"user": {}, "error": untold(&why)}),
            }
        }
    };
    json::set(value, "status", status);
    Ok(())
}
