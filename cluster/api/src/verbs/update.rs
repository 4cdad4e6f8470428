//! update, and what it shares with patch.

use super::{
    Creation, WriteOptions, create::match_namespace, create_object, deadline::Deadline, delete::finish_deletion, find,
    options::field_manager,
};
use crate::{
    admission::{self, Operation, Request},
    codec::{body_media, decode_row, read_body},
    core::{Core, WriteError},
    encode::object_response,
    json,
    pipeline::Call,
    registry::Row,
    strategy::{LET_PASS, drop_disabled},
    subresource, tracking, validate,
};
use http::Response;
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use strata_auth::UserInfo;
use strata_http::Body;
use strata_meta::{GroupKind, Object, Revision, Status, StatusCause};
use strata_schema::apply;
use strata_store::Expect;

/// Which part of an object a write is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status.
    Status,
    /// A namespace's `spec.finalizers`.
    Finalize,
    /// A member of the spec, by path, that the main resource does not let change: ephemeral containers.
    Member(&'static str),
    /// The resources of a pod's containers.
    Resize,
    /// Anything: what the server itself does to an object on a client's behalf (binding, scale).
    Internal,
}

/// How long a writer who was overtaken waits for those before it.
const TURN: Duration = Duration::from_secs(1);

/// A write to an object that is there.
pub(crate) struct Change<'a> {
    /// The server.
    pub(crate) core: &'a Arc<Core>,
    /// Who.
    pub(crate) user: &'a UserInfo,
    /// What.
    pub(crate) row: &'a Arc<Row>,
    /// Where.
    pub(crate) namespace: &'a str,
    /// Where.
    pub(crate) name: &'a str,
    /// Which part.
    pub(crate) part: Part,
    /// The subresource as admission sees it.
    pub(crate) subresource: &'a str,
    /// Everything but the write.
    pub(crate) dry_run: bool,
    /// Whether leaving out the resourceVersion is refused for kinds that demand it.
    pub(crate) demands_revision: bool,
    /// Who manages the fields that change; `None` when that has been accounted for already.
    pub(crate) manager: Option<&'a str>,
}

impl<'a> Change<'a> {
    /// A write that the server makes of itself and accounts for as its own.
    pub(crate) fn own(
        core: &'a Arc<Core>,
        user: &'a UserInfo,
        row: &'a Arc<Row>,
        (namespace, name): (&'a str, &'a str),
        part: Part,
    ) -> Self {
        Self {
            core,
            user,
            row,
            namespace,
            name,
            part,
            subresource: if part == Part::Status { "status" } else { "" },
            dry_run: false,
            demands_revision: false,
            manager: Some(tracking::SERVER),
        }
    }
}

/// Replaces an object.
pub(crate) async fn update(call: &mut Call, row: &Arc<Row>, part: Part, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let options = WriteOptions::read(call, "UpdateOptions")?;
    let media = body_media(&call.headers)?;
    let bytes = read_body(body).await?;
    let mut value = decode_row(row, media, &bytes, options.validation, &mut call.warnings)?;
    drop(bytes);
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    check_address(row, &mut value, &namespace, &name)?;
    row.schema.apply_defaults(&row.gvk, &mut value);
    let absent = find(row, &namespace, &name).is_err();
    if absent && part == Part::Main && row.strategy.creates_on_update() {
        call.core.authorize_create(&call.user, &call.info).await?;
        let uid = json::text(&value, "metadata.uid");
        if !uid.is_empty() {
            let key = row.upstream_key(&namespace, &name);
            let key = key.trim_start_matches("/registry");
            let why = format!(
                "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: "
            );
            return Err(Status::conflict(&row.resource, &name, why));
        }
        json::remove(&mut value, "metadata.resourceVersion");
        json::remove(&mut value, "metadata.uid");
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
        return Ok(object_response(201, row, &made, form, call.include_object()?));
    }
    let manager = field_manager(call);
    let change = Change {
        core: &call.core,
        user: &call.user,
        row,
        namespace: &namespace,
        name: &name,
        part,
        subresource: &call.info.subresource,
        dry_run: options.dry_run,
        demands_revision: true,
        manager: Some(&manager),
    };
    let updated = apply_change(&change, &mut call.warnings, |_, _| Ok(value.clone())).await?;
    Ok(object_response(200, row, &updated, form, call.include_object()?))
}

/// The object is the one the path names. Errors: 400.
pub(crate) fn check_address(row: &Row, value: &mut Value, namespace: &str, name: &str) -> Result<(), Status> {
    let stated = json::text(value, "metadata.namespace");
    if row.namespaced && !namespace.is_empty() && !stated.is_empty() && stated != namespace {
        check_name(value, name)?;
        return Err(Status::bad_request(format_args!(
            "the namespace of the object ({stated}) does not match the namespace on the URL ({namespace})"
        )));
    }
    check_patched_address(row, value, namespace, name)
}

/// The same of what a patch made, where upstream words it otherwise.
pub(super) fn check_patched_address(row: &Row, value: &mut Value, namespace: &str, name: &str) -> Result<(), Status> {
    check_name(value, name)?;
    match_namespace(value, if row.namespaced { namespace } else { "" })
}

fn check_name(value: &Value, name: &str) -> Result<(), Status> {
    let stated = json::text(value, "metadata.name");
    if stated.is_empty() {
        return Err(Status::bad_request(format_args!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    } else if stated != name {
        return Err(Status::bad_request(format_args!(
            "the name of the object ({stated}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}

/// Applies a change to the present state until it is written or refused, or its time is over. `make` is given the present state
/// as the row serves it, and makes the wanted one: decoded and defaulted.
pub(crate) async fn apply_change(
    change: &Change<'_>,
    warnings: &mut Vec<String>,
    mut make: impl FnMut(&Value, &mut Vec<String>) -> Result<Value, Status>,
) -> Result<Arc<Object>, Status> {
    let core = change.core;
    let deadline = Deadline::begin();
    let mut turn = None;
    loop {
        let stored = find(change.row, change.namespace, change.name)?;
        let mut said = Vec::new();
        match attempt_change(change, &stored, &mut said, &mut make).await {
            Ok(object) => {
                warnings.append(&mut said);
                return Ok(object);
            }
            Err(Attempt::Refused(status)) => {
                warnings.append(&mut said);
                return Err(status);
            }
            Err(Attempt::Overtaken { current, retry }) => {
                if !retry {
                    return Err(outdated(change));
                }
                deadline.check()?;
                // A turn is a courtesy: nobody waits long for one who is held up by a webhook.
                if turn.is_none() {
                    turn = tokio::time::timeout(TURN, core.turn(&stored.key)).await.ok();
                }
                if let Some(revision) = current {
                    core.cache.progress().reach(revision).await?;
                }
            }
        }
    }
}

fn outdated(change: &Change<'_>) -> Status {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    Status::conflict(&change.row.resource, change.name, why)
}

enum Attempt {
    Refused(Status),
    Overtaken { current: Option<Revision>, retry: bool },
}

impl From<Status> for Attempt {
    fn from(status: Status) -> Self {
        Self::Refused(status)
    }
}

async fn attempt_change(
    change: &Change<'_>,
    stored: &Arc<Object>,
    warnings: &mut Vec<String>,
    make: &mut impl FnMut(&Value, &mut Vec<String>) -> Result<Value, Status>,
) -> Result<Arc<Object>, Attempt> {
    let row = change.row;
    let shown = row.ready(change.core, stored.clone()).await?;
    let mut old = row.view(&shown)?.to_value().map_err(Status::internal)?;
    let mut new = make(&old, warnings)?;
    if let Some(conversion) = row.conversion {
        conversion.settle(&mut new);
    }
    if let Some(manager) = change.manager {
        new = tracking::account(change.core, row, manager, change.subresource, Some(&old), new);
    }
    // From here on everything is in the stored version: rules are written for that one.
    if let Some(conversion) = row.conversion {
        (conversion.to_stored)(&mut new);
        old = stored.to_value().map_err(Status::internal)?;
    }
    let unconditional = check_preconditions(change, &new, &old)?;
    restore(change, &mut new, &old);
    let place = (change.namespace, change.name);
    let request = Request::new(change.core, change.user, row, Operation::Update, place)
        .on(change.subresource)
        .by(if change.demands_revision { "update" } else { "patch" })
        .dry(change.dry_run);
    // What the server does itself was admitted as what the client asked for; a scale is admitted as what it is.
    let scaled = change.subresource == "scale";
    let admitted = change.part == Part::Internal || scaled;
    if scaled {
        subresource::admit_scale(&request, &mut new, &old, warnings).await?;
    } else if !admitted {
        admission::mutate(&request, Some(&mut new), Some(&old), warnings).await?;
    }
    prepare(change, &mut new, &old);
    check(change, &new, &old, warnings)?;
    let _claim = change.core.services.claim(row, &mut new, Some(&old))?;
    if !admitted {
        admission::validate(&request, Some(&new), Some(&old), warnings).await?;
    }
    warnings.extend(row.strategy.warnings(&new, Some(&old)));
    json::copy(&old, &mut new, "metadata.resourceVersion");
    let same = is_same(&new, &old);
    drop(old);
    let goes = is_finished(row, &new);
    let (form, body) = row.stored(change.core, &new).await?;
    drop(new);
    if change.dry_run {
        let object = Object::from_body(form.kind, stored.revision, body).map_err(Status::internal)?;
        let object = Arc::new(object.with_edition(form.edition));
        return Ok(row.ready(change.core, object).await?);
    }
    if goes {
        return finish_deletion(change.core, row, stored, Some((form, body)))
            .await
            .map_err(|e| overtaken(e, unconditional));
    }
    let cache = change.core.stored(row)?;
    let unchanged = (same || body == *stored.body()) && form.kind == stored.kind;
    if unchanged && !change.core.is_stale(cache, stored).await? {
        return Ok(shown);
    }
    let expect = Expect::Revision(stored.revision);
    let put = |body| {
        let (namespace, name) = (stored.namespace(), stored.name());
        change.core.put_as(&form, cache, namespace, name, body, expect)
    };
    let mut written = put(body.clone()).await;
    // What is too large with its managers is kept without them (upstream too).
    if change.manager.is_some()
        && WriteError::is_too_large(&written)
        && let Some(body) = tracking::without_managers(&body)
    {
        written = put(body).await;
    }
    let written = written.map_err(|e| overtaken(e, unconditional))?;
    Ok(row.ready(change.core, written).await?)
}

/// Whether nothing changes but the times of managers.
fn is_same(new: &Value, old: &Value) -> bool {
    let is_tracked = !json::list(new, "metadata.managedFields").is_empty();
    is_tracked && apply::same_but_for_times(new, old)
}

fn overtaken(error: WriteError, retry: bool) -> Attempt {
    match error {
        WriteError::Conflict(current) => Attempt::Overtaken { current, retry },
        WriteError::Failed(status) => Attempt::Refused(status),
    }
}

/// Uid and resourceVersion of the wanted state, if it has any, are the present ones; tells whether it names no revision.
fn check_preconditions(change: &Change<'_>, new: &Value, old: &Value) -> Result<bool, Attempt> {
    let (row, name) = (change.row, change.name);
    let (uid, present) = (json::text(new, "metadata.uid"), json::text(old, "metadata.uid"));
    // What a patch makes is judged by validation alone.
    if !uid.is_empty() && uid != present && change.demands_revision {
        let key = row.upstream_key(change.namespace, name);
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {present}"
        );
        return Err(Status::conflict(&row.resource, name, why).into());
    }
    let wanted = json::text(new, "metadata.resourceVersion");
    if wanted.is_empty() || wanted == "0" {
        if change.demands_revision && !row.strategy.allows_unconditional_update() {
            let cause = StatusCause::invalid("metadata.resourceVersion", Bare("0"), "must be specified for an update");
            let resource = GroupKind {
                group: row.resource.group.clone(),
                kind: row.resource.resource.clone(),
            };
            return Err(Status::invalid(&resource, name, vec![cause]).into());
        }
        return Ok(true);
    }
    match Revision::parse(wanted) {
        None => {
            let why = format!("strconv.ParseUint: parsing {wanted:?}: invalid syntax");
            let mut status = Status::failure(strata_meta::Reason::Unknown, why);
            status.code = 500;
            Err(status.into())
        }
        Some(_) if wanted != json::text(old, "metadata.resourceVersion") => Err(Attempt::Overtaken {
            current: None,
            retry: false,
        }),
        Some(_) => Ok(false),
    }
}

/// A value that is printed as it stands.
struct Bare(&'static str);

impl std::fmt::Debug for Bare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Takes back what the written part may not touch.
fn restore(change: &Change<'_>, new: &mut Value, old: &Value) {
    let row = change.row;
    for field in ["generation", "creationTimestamp", "selfLink"] {
        json::copy(old, new, &format!("metadata.{field}"));
    }
    // Nobody takes back a deletion; who sets one is told so.
    if json::get(old, "metadata.deletionTimestamp").is_some() || change.part == Part::Status {
        json::copy(old, new, "metadata.deletionTimestamp");
    }
    if change.part == Part::Status && tracking::keeps_metadata(&row.gvk.group, &row.resource.resource) {
        for field in ["labels", "annotations", "finalizers", "ownerReferences"] {
            json::copy(old, new, &format!("metadata.{field}"));
        }
    }
    for field in ["uid", "deletionGracePeriodSeconds"] {
        let path = format!("metadata.{field}");
        if json::get(new, &path).is_none_or(|v| v == "") {
            json::copy(old, new, &path);
        }
    }
    match change.part {
        Part::Main if row.has_status() => json::copy(old, new, "status"),
        Part::Main | Part::Internal => {}
        Part::Status => keep_only(new, old, &["status"]),
        Part::Finalize => json::copy(old, new, "status"),
        Part::Resize => validate::pod::keep_resizable(new, old),
        Part::Member(path) => {
            let wanted = std::mem::replace(new, old.clone());
            json::copy(&wanted, new, "metadata.resourceVersion");
            json::copy(&wanted, new, "metadata.managedFields");
            json::copy(&wanted, new, path);
        }
    }
}

/// Every member but metadata and the named ones is as it was.
fn keep_only(new: &mut Value, old: &Value, written: &[&str]) {
    let Some(map) = new.as_object_mut() else { return };
    map.retain(|name, _| name == "metadata" || written.contains(&name.as_str()));
    for (name, member) in old.as_object().into_iter().flatten() {
        if name != "metadata" && !written.contains(&name.as_str()) {
            map.insert(name.clone(), member.clone());
        }
    }
}

fn prepare(change: &Change<'_>, new: &mut Value, old: &Value) {
    let strategy = &change.row.strategy;
    if matches!(change.part, Part::Main | Part::Member(_)) {
        drop_disabled(&change.row.gvk, new, Some(old));
    }
    match change.part {
        Part::Main => strategy.prepare_update(new, old),
        Part::Status => strategy.prepare_subresource_update(change.subresource, new, old),
        _ => {}
    }
    let counted = matches!(change.part, Part::Main | Part::Member(_) | Part::Resize);
    if counted && strategy.counts_generation() && strategy.changed(new, old) {
        let next = json::int(old, "metadata.generation").unwrap_or(0) + 1;
        json::set(new, "metadata.generation", next);
    }
}

fn check(change: &Change<'_>, new: &Value, old: &Value, warnings: &mut Vec<String>) -> Result<(), Status> {
    let row = change.row;
    let rules = &row.strategy;
    let kind = (row.gvk.group.as_str(), row.resource.resource.as_str());
    let is_main = change.part == Part::Main;
    let mut causes = validate::changed_metadata(kind, is_main, row.namespaced, new, old);
    match change.part {
        Part::Main => {
            rules.validate(new, &mut causes);
            rules.validate_update(new, old, &mut causes);
        }
        Part::Status | Part::Finalize => {
            rules.validate_subresource_update(change.subresource, new, old, &mut causes);
        }
        Part::Resize | Part::Member(_) => {
            rules.validate(new, &mut causes);
            rules.validate_subresource_update(change.subresource, new, old, &mut causes);
        }
        Part::Internal => {}
    }
    let (passed, causes): (Vec<_>, Vec<_>) = causes.into_iter().partition(|c| c.reason == LET_PASS);
    warnings.extend(passed.into_iter().map(|c| format!("{}: {}", c.field, c.message)));
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid(&row.group_kind(), change.name, causes))
    }
}

/// Whether nothing holds an object that is being deleted any longer.
fn is_finished(row: &Row, value: &Value) -> bool {
    json::get(value, "metadata.deletionTimestamp").is_some()
        && json::list(value, "metadata.finalizers").is_empty()
        && json::int(value, "metadata.deletionGracePeriodSeconds").unwrap_or(0) == 0
        && row.strategy.may_go(value)
}
