//! create.

use super::{WriteOptions, options::field_manager};
use crate::{
    admission::{self, Operation, Request},
    codec::{body_media, decode_row, read_body},
    core::{Core, WriteError},
    encode::object_response,
    json,
    pipeline::Call,
    registry::Row,
    strategy::drop_disabled,
    tracking,
    validate::{self, MetadataTurn, NameRule},
};
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_auth::UserInfo;
use strata_http::Body;
use strata_meta::{GroupResource, Object, Reason, Revision, Status, StatusCause, Time, Uid};
use strata_store::Expect;

/// How often a generated name that is taken is made anew (KEP-4420).
const NAME_ATTEMPTS: usize = 8;

/// A new object.
pub(crate) async fn create(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let options = WriteOptions::read(call, "CreateOptions")?;
    let media = body_media(&call.headers)?;
    let bytes = read_body(body).await?;
    let value = decode_row(row, media, &bytes, options.validation, &mut call.warnings)?;
    drop(bytes);
    let namespace = call.info.namespace.clone();
    let manager = field_manager(call);
    let creation = Creation {
        core: &call.core,
        user: &call.user,
        row,
        namespace: &namespace,
        manager: Some(&manager),
        dry_run: options.dry_run,
    };
    let made = create_object(&creation, value, &mut call.warnings).await?;
    Ok(object_response(201, row, &made, form, call.include_object()?))
}

/// How an object comes to be.
pub(crate) struct Creation<'a> {
    /// The server.
    pub(crate) core: &'a Arc<Core>,
    /// Who.
    pub(crate) user: &'a UserInfo,
    /// What.
    pub(crate) row: &'a Arc<Row>,
    /// Where; ignored for kinds outside namespaces.
    pub(crate) namespace: &'a str,
    /// Who manages its fields; `None` when that has been accounted for already.
    pub(crate) manager: Option<&'a str>,
    /// Everything but the write.
    pub(crate) dry_run: bool,
}

impl<'a> Creation<'a> {
    /// An object that the server makes of itself and accounts for as its own.
    pub(crate) fn own(core: &'a Arc<Core>, user: &'a UserInfo, row: &'a Arc<Row>, namespace: &'a str) -> Self {
        Self {
            core,
            user,
            row,
            namespace,
            manager: Some(tracking::SERVER),
            dry_run: false,
        }
    }
}

/// Makes an object of a decoded body. Errors: 409 when the name is taken, and all that admission and validation say.
pub(crate) async fn create_object(
    creation: &Creation<'_>,
    mut value: Value,
    warnings: &mut Vec<String>,
) -> Result<Arc<Object>, Status> {
    let Creation { core, user, row, .. } = *creation;
    let namespace = if row.namespaced { creation.namespace } else { "" };
    let stated = json::get(&value, "metadata.resourceVersion").is_some_and(|v| v != "" && v != "0");
    // What is not stored cannot be stored at the wrong revision (upstream too).
    if stated && !creation.dry_run {
        let mut status = Status::failure(
            Reason::Unknown,
            "resourceVersion should not be set on objects to be created",
        );
        status.code = 500;
        return Err(status);
    }
    match_namespace(&mut value, namespace)?;
    row.schema.apply_defaults(&row.gvk, &mut value);
    if let Some(conversion) = row.conversion {
        conversion.settle(&mut value);
    }
    if let Some(manager) = creation.manager {
        for member in ["deletionTimestamp", "deletionGracePeriodSeconds"] {
            json::object_mut(&mut value, "metadata").remove(member);
        }
        value = tracking::account(core, row, manager, "", None, value);
    }
    // From here on everything is in the stored version: rules are written for that one.
    if let Some(conversion) = row.conversion {
        (conversion.to_stored)(&mut value);
    }
    let name = json::text(&value, "metadata.name").to_owned();
    let request = Request::new(core, user, row, Operation::Create, (namespace, &name)).dry(creation.dry_run);
    admission::mutate(&request, Some(&mut value), None, warnings).await?;
    match_namespace(&mut value, namespace)?;
    let generate = json::text(&value, "metadata.generateName").to_owned();
    let generated = !generate.is_empty() && json::text(&value, "metadata.name").is_empty();
    let template = generated.then(|| value.clone());
    for attempt in 1.. {
        if generated {
            json::set(&mut value, "metadata.name", generated_name(&generate));
        }
        let outcome = create_once(creation, &request, value, warnings).await;
        match (outcome, &template) {
            (Err(status), Some(again)) if status.is_already_exists() => {
                if attempt == NAME_ATTEMPTS {
                    return Err(name_conflict(&row.resource, &status));
                }
                value = again.clone();
            }
            (outcome, _) => return outcome,
        }
    }
    unreachable!("the loop returns")
}

/// Writes an object that admission has had its way with.
async fn create_once(
    creation: &Creation<'_>,
    request: &Request<'_>,
    mut value: Value,
    warnings: &mut Vec<String>,
) -> Result<Arc<Object>, Status> {
    let (core, row, namespace) = (request.core, request.row, request.namespace);
    let cache = core.stored(row)?;
    fill_system_fields(&mut value);
    let name = json::text(&value, "metadata.name").to_owned();
    // What is taken from the server's ranges is taken first (upstream too).
    let _claim = core.services.claim(row, &mut value, None)?;
    prepare(row, &mut value, request.user);
    let causes = problems(row, &value);
    if !causes.is_empty() {
        return Err(Status::invalid(&row.group_kind(), &name, causes));
    }
    admission::validate(request, Some(&value), None, warnings).await?;
    warnings.extend(row.strategy.warnings(&value, None));
    let (form, body) = row.stored(core, &value).await?;
    drop(value);
    if request.dry_run {
        if cache.get(namespace, &name).is_some() {
            return Err(taken(row, cache, namespace, &name));
        }
        let object = Object::from_body(form.kind, Revision(0), body).map_err(Status::internal)?;
        return row.ready(core, Arc::new(object.with_edition(form.edition))).await;
    }
    let put = |body| core.put_as(&form, cache, namespace, &name, body, Expect::Absent);
    let mut written = put(body.clone()).await;
    // What is too large with its managers is kept without them (upstream too).
    if creation.manager.is_some()
        && WriteError::is_too_large(&written)
        && let Some(body) = tracking::without_managers(&body)
    {
        written = put(body).await;
    }
    match written {
        Ok(object) => row.ready(core, object).await,
        Err(WriteError::Conflict(_)) => Err(taken(row, cache, namespace, &name)),
        Err(WriteError::Failed(status)) => Err(status),
    }
}

/// The name is another object's, which may be on its way out.
fn taken(row: &Row, cache: &crate::cache::ResourceCache, namespace: &str, name: &str) -> Status {
    let mut status = Status::already_exists(&row.resource, name);
    let present = cache.get(namespace, name).and_then(|object| object.to_value().ok());
    if present.is_some_and(|object| json::get(&object, "metadata.deletionTimestamp").is_some()) {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// What is wrong with a new object.
fn problems(row: &Row, value: &Value) -> Vec<StatusCause> {
    let strategy = &row.strategy;
    let metadata = |rule| validate::metadata(value, row.namespaced, rule);
    let turn = strategy.metadata_turn();
    let mut causes = Vec::new();
    let finalizers = || validate::new_finalizers(&row.gvk.group, &row.resource.resource, value);
    if turn == MetadataTurn::First {
        causes = metadata(strategy.name_rule());
        causes.extend(finalizers());
    }
    strategy.validate(value, &mut causes);
    if turn == MetadataTurn::Between {
        causes.extend(metadata(strategy.name_rule()));
        causes.extend(finalizers());
    }
    strategy.validate_create(value, &mut causes);
    if causes.is_empty() && turn == MetadataTurn::Last {
        causes = metadata(NameRule::PathSegment);
    }
    causes
}

/// The namespace of the path is the object's. Errors: 400 when the object says another.
pub(crate) fn match_namespace(value: &mut Value, namespace: &str) -> Result<(), Status> {
    let stated = json::text(value, "metadata.namespace");
    if namespace.is_empty() {
        json::remove(value, "metadata.namespace");
    } else if stated.is_empty() {
        json::set(value, "metadata.namespace", namespace);
    } else if stated != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// What only the server sets, whatever the body says.
fn fill_system_fields(value: &mut Value) {
    let metadata = json::object_mut(value, "metadata");
    for name in [
        "resourceVersion",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        metadata.remove(name);
    }
    metadata.insert("uid".into(), json!(Uid::random()));
    metadata.insert("creationTimestamp".into(), json!(Time::now()));
}

fn prepare(row: &Row, value: &mut Value, user: &UserInfo) {
    let strategy = &row.strategy;
    if row.has_status() && !strategy.keeps_status_on_create() && !row.schema.is_custom() {
        // From here on everything is in the stored version.
        let stored = row.conversion.and(row.cache.as_ref()).map(|cache| cache.kind());
        let unset = strata_schema::unset_member(stored.as_ref().unwrap_or(&row.gvk), "status");
        json::set(value, "status", unset.unwrap_or_else(|| json!({})));
    }
    if strategy.counts_generation() {
        json::set(value, "metadata.generation", 1);
    }
    drop_disabled(&row.gvk, value, None);
    strategy.prepare_create(value);
    strategy.record_requester(value, user);
}

/// Upstream's alphabet: no vowels, no digits that look like letters.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// `length` random characters of generated names.
pub(crate) fn random_suffix(length: usize) -> String {
    let random = Uid::random();
    let hex = random.as_str().replace('-', "");
    let pick = |i: usize| {
        let at = i * 4 % 28;
        let number = usize::from_str_radix(&hex[at..at + 4], 16).unwrap_or(0);
        ALPHABET[number % ALPHABET.len()] as char
    };
    (0..length).map(pick).collect()
}

fn generated_name(base: &str) -> String {
    const LONGEST: usize = 63 - 5;
    let mut end = base.len().min(LONGEST);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &base[..end], random_suffix(5))
}

fn name_conflict(resource: &GroupResource, status: &Status) -> Status {
    let name = status.details.as_ref().map_or("", |d| d.name.as_str());
    let mut conflict = Status::already_exists(resource, name);
    conflict.message = format!(
        "{}, the server was not able to generate a unique name for the object",
        conflict.message
    );
    if let Some(details) = &mut conflict.details {
        details.retry_after_seconds = 1;
    }
    conflict
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_a_label() {
        let name = generated_name(&"a".repeat(80));
        assert_eq!(name.len(), 63);
        assert_ne!(generated_name("web-"), generated_name("web-"));
        assert!(strata_meta::names::dns1123_label(&generated_name("web-")).is_empty());
    }
}
