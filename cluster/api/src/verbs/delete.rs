//! delete and deletecollection.

use super::{WriteOptions, deadline::Deadline, find, list_page, list_query, request_filter};
use crate::{
    admission::{self, Operation, Request},
    cache::StoredForm,
    codec::{BodyMedia, body_media, read_body},
    core::{Core, WriteError},
    encode::{list_response, object_response, value_response},
    json,
    pipeline::Call,
    registry::Row,
    strategy::Collection,
    validate,
};
use bytes::Bytes;
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_auth::UserInfo;
use strata_http::Body;
use strata_meta::{GroupKind, GroupResource, GroupVersionKind, Object, ObjectError, Revision, Status, Time};
use strata_schema::protobuf;
use strata_store::Expect;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// metav1.DeleteOptions as far as the server acts on it.
#[derive(Clone, Debug, Default)]
pub(crate) struct DeleteOptions {
    pub(crate) grace: Option<i64>,
    pub(crate) uid: Option<String>,
    pub(crate) resource_version: Option<String>,
    /// `Some(true)` orphans, `Some(false)` does not.
    pub(crate) orphan: Option<bool>,
    pub(crate) foreground: bool,
    /// Whether the policy is the background's, in so many words.
    pub(crate) background: bool,
    pub(crate) dry_run: bool,
    /// Whether admission is passed by, for what the server removes of its own accord.
    pub(crate) unasked: bool,
}

impl DeleteOptions {
    /// From a DeleteOptions object. Errors: 422.
    pub(crate) fn from_value(value: &Value) -> Result<Self, Status> {
        let causes = validate::delete_options(value);
        if !causes.is_empty() {
            let kind = GroupKind {
                group: "meta.k8s.io".into(),
                kind: "DeleteOptions".into(),
            };
            return Err(Status::invalid(&kind, "", causes));
        }
        let policy = json::text(value, "propagationPolicy");
        let text = |path| json::get(value, path).and_then(Value::as_str).map(str::to_owned);
        Ok(Self {
            grace: json::int(value, "gracePeriodSeconds"),
            uid: text("preconditions.uid"),
            resource_version: text("preconditions.resourceVersion"),
            orphan: match policy {
                "" => json::get(value, "orphanDependents").and_then(Value::as_bool),
                other => Some(other == "Orphan"),
            },
            foreground: policy == "Foreground",
            background: policy == "Background",
            dry_run: !json::list(value, "dryRun").is_empty(),
            unasked: false,
        })
    }

    async fn read(call: &Call, body: Body) -> Result<Self, Status> {
        let bytes = read_body(body).await?;
        let query = &call.query;
        let mut value: Value = match (bytes.is_empty(), body_media(&call.headers)?) {
            (true, _) => json!({}),
            (false, BodyMedia::Json) => serde_json::from_slice(&bytes).map_err(|e| {
                let why = strata_schema::syntax_error(&bytes).unwrap_or_else(|| e.to_string());
                Status::bad_request(format_args!("couldn't get version/kind; json parse error: {why}"))
            })?,
            (false, BodyMedia::Protobuf) => {
                let kind = GroupVersionKind::new("meta.k8s.io", "v1", "DeleteOptions");
                let raw = protobuf::open(&bytes).map_err(Status::bad_request)?.raw;
                protobuf::decode_message(&kind, raw).map_err(Status::bad_request)?
            }
            (false, BodyMedia::Yaml) => crate::yaml::read(&bytes).map_err(Status::bad_request)?.value,
        };
        check_kind(&value)?;
        if !bytes.is_empty() {
            crate::audit::options(&value);
        }
        if bytes.is_empty() {
            if let Ok(seconds) = query.get("gracePeriodSeconds").parse::<i64>() {
                json::set(&mut value, "gracePeriodSeconds", seconds);
            }
            if !query.get("propagationPolicy").is_empty() {
                json::set(&mut value, "propagationPolicy", query.get("propagationPolicy"));
            }
            if let Some(orphan) = query.bool("orphanDependents") {
                json::set(&mut value, "orphanDependents", orphan);
            }
        }
        let mut options = Self::from_value(&value)?;
        options.dry_run |= WriteOptions::read(call, "DeleteOptions")?.dry_run;
        Ok(options)
    }
}

/// A body may leave out that it is options, but not be something else. Errors: 400.
fn check_kind(value: &Value) -> Result<(), Status> {
    let (version, kind) = (json::text(value, "apiVersion"), json::text(value, "kind"));
    if matches!(kind, "" | "DeleteOptions") {
        return Ok(());
    }
    Err(Status::bad_request(format_args!(
        "no kind {kind:?} is registered for version {version:?} in scheme \"pkg/runtime/scheme.go:111\""
    )))
}

/// What came of a deletion.
pub(crate) enum Deleted {
    /// The object is gone; its last state.
    Gone(Arc<Object>),
    /// It waits for a grace period or finalizers.
    Pending(Arc<Object>),
}

/// Removes an object, or begins to.
pub(crate) async fn delete(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let options = DeleteOptions::read(call, body).await?;
    warn_of_orphans(call, row, &options);
    let (namespace, name) = (&call.info.namespace, &call.info.name);
    let outcome = delete_object(
        &call.core,
        &call.user,
        row,
        namespace,
        name,
        &options,
        &mut call.warnings,
    )
    .await?;
    Ok(match outcome {
        Deleted::Gone(object) if !row.strategy.returns_deleted() => {
            value_response(200, &success(&row.resource, &object), form)
        }
        Deleted::Gone(object) | Deleted::Pending(object) => {
            let object = row.ready(&call.core, object).await?;
            object_response(200, row, &object, form, call.include_object()?)
        }
    })
}

/// Who deletes a job without saying what becomes of its pods is told that they stay.
fn warn_of_orphans(call: &mut Call, row: &Row, options: &DeleteOptions) {
    let stated = options.orphan.is_some() || options.foreground || options.background;
    if !stated && row.gvk.group == "batch" && row.strategy.collection() == Collection::Orphans {
        let why = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
        call.warnings.push(why.to_owned());
    }
}

fn success(resource: &GroupResource, object: &Object) -> Value {
    let mut details = json!({"name": object.name(), "kind": resource.resource, "uid": object.uid});
    if !resource.group.is_empty() {
        json::set(&mut details, "group", resource.group.as_str());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// Removes or marks one object. Errors: 404, 409 for preconditions.
pub(crate) async fn delete_object(
    core: &Arc<Core>,
    user: &UserInfo,
    row: &Arc<Row>,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
    warnings: &mut Vec<String>,
) -> Result<Deleted, Status> {
    let request = Request::new(core, user, row, Operation::Delete, (namespace, name)).dry(options.dry_run);
    let deadline = Deadline::begin();
    loop {
        deadline.check()?;
        let stored = find(row, namespace, name)?;
        let mut value = stored.to_value().map_err(Status::internal)?;
        check_preconditions(row, &stored, options)?;
        if !options.unasked {
            // Who cannot be shown it cannot delete it either (upstream reads it first).
            row.ready(core, stored.clone()).await?;
        }
        if !options.unasked {
            admission::mutate(&request, None, Some(&value), warnings).await?;
            admission::validate(&request, None, Some(&value), warnings).await?;
        }
        let outcome = match mark(row, &mut value, options) {
            Mark::Remove if options.dry_run => return Ok(Deleted::Gone(stored)),
            Mark::Remove => {
                let removed = finish_deletion(core, row, &stored, None).await;
                match last_state(row, &stored, &value).map_err(Status::internal)? {
                    None => removed.map(Deleted::Gone),
                    Some((form, body)) => match removed {
                        Err(why) => Err(why),
                        Ok(removed) => {
                            let last =
                                Object::from_body(form.kind, removed.revision, body).map_err(Status::internal)?;
                            let last = Arc::new(last.with_edition(form.edition));
                            Ok(Deleted::Gone(row.ready(core, last).await?))
                        }
                    },
                }
            }
            Mark::Nothing => return Ok(Deleted::Pending(stored)),
            Mark::Write => {
                let body = strata_meta::encode_body(&value).map_err(Status::internal)?;
                if options.dry_run {
                    let object =
                        Object::from_body(stored.kind.clone(), stored.revision, body).map_err(Status::internal)?;
                    return Ok(Deleted::Pending(Arc::new(object)));
                }
                let cache = core.stored(row)?;
                let expect = Expect::Revision(stored.revision);
                let form = StoredForm {
                    kind: stored.kind.clone(),
                    edition: stored.edition,
                };
                core.put_as(&form, cache, stored.namespace(), name, body, expect)
                    .await
                    .map(Deleted::Pending)
            }
        };
        match outcome {
            Ok(deleted) => return Ok(deleted),
            Err(WriteError::Failed(status)) => return Err(status),
            Err(WriteError::Conflict(Some(revision))) => core.cache.progress().reach(revision).await?,
            Err(WriteError::Conflict(None)) => return Err(Status::not_found(&row.resource, name)),
        }
    }
}

/// What is told of a removed object when that is not its stored state.
fn last_state(row: &Row, stored: &Object, value: &Value) -> Result<Option<(StoredForm, Bytes)>, ObjectError> {
    if !row.strategy.is_graceful() {
        return Ok(None);
    }
    let form = StoredForm {
        kind: stored.kind.clone(),
        edition: stored.edition,
    };
    Ok(Some((form, strata_meta::encode_body(value)?)))
}

fn check_preconditions(row: &Row, stored: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let resource = GroupResource::new(&row.gvk.group, &row.gvk.kind);
    if let Some(uid) = &options.uid
        && uid != stored.uid.as_str()
    {
        let have = &stored.uid;
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({have}). The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&resource, stored.name(), why));
    }
    if let Some(revision) = &options.resource_version
        && *revision != stored.revision.to_string()
    {
        let have = stored.revision;
        let why = format!(
            "the ResourceVersion in the precondition ({revision}) does not match the ResourceVersion in record ({have}). The object might have been modified"
        );
        return Err(Status::conflict(&resource, stored.name(), why));
    }
    Ok(())
}

enum Mark {
    /// Nothing holds it.
    Remove,
    /// The marked value has to be written.
    Write,
    /// It is marked already.
    Nothing,
}

/// Marks a value as being deleted, if anything holds it.
fn mark(row: &Row, value: &mut Value, options: &DeleteOptions) -> Mark {
    let collection = row.strategy.collection();
    let marks_only = row.strategy.marks_only();
    let changed = !marks_only && set_propagation(value, options, collection);
    let deleting = json::get(value, "metadata.deletionTimestamp").is_some();
    let asked = options.grace.map(|g| if g < 0 { 1 } else { g });
    if deleting {
        return remark(row, value, asked, changed);
    }
    row.strategy.prepare_delete(value);
    if marks_only {
        json::set(value, "metadata.deletionTimestamp", Time::now().to_string());
        return Mark::Write;
    }
    let grace = row.strategy.grace_period(value, asked);
    let held = !json::list(value, "metadata.finalizers").is_empty() || !row.strategy.may_go(value);
    let at_once = grace == 0 && !held;
    if at_once && !row.strategy.is_graceful() {
        return Mark::Remove;
    }
    json::set(
        value,
        "metadata.deletionTimestamp",
        Time::now().plus_seconds(grace).to_string(),
    );
    json::set(value, "metadata.deletionGracePeriodSeconds", grace);
    if let Some(generation) = json::int(value, "metadata.generation").filter(|g| *g > 0) {
        json::set(value, "metadata.generation", generation + 1);
    }
    if at_once { Mark::Remove } else { Mark::Write }
}

/// A second deletion may only shorten the grace.
fn remark(row: &Row, value: &mut Value, asked: Option<i64>, changed: bool) -> Mark {
    let present = json::int(value, "metadata.deletionGracePeriodSeconds").unwrap_or(0);
    let held = !json::list(value, "metadata.finalizers").is_empty() || !row.strategy.may_go(value);
    let shorter = asked.filter(|a| present > 0 && *a < present);
    let unchanged = |held: bool| match (changed, held) {
        (true, _) => Mark::Write,
        (false, true) => Mark::Nothing,
        (false, false) => Mark::Remove,
    };
    let Some(mut period) = shorter else {
        return unchanged(held || present > 0);
    };
    let at_once = period == 0 && !held;
    let now = Time::now();
    let began = Time::parse(json::text(value, "metadata.deletionTimestamp"))
        .unwrap_or(now)
        .plus_seconds(-present);
    let mut at = began.plus_seconds(period);
    if at < now {
        at = now;
        period = period.min(1);
    }
    json::set(value, "metadata.deletionTimestamp", at.to_string());
    json::set(value, "metadata.deletionGracePeriodSeconds", period);
    if at_once { Mark::Remove } else { Mark::Write }
}

/// Puts in or takes out the finalizers that the propagation policy stands for.
fn set_propagation(value: &mut Value, options: &DeleteOptions, collection: Collection) -> bool {
    if collection == Collection::Ignored {
        return false;
    }
    let before = json::list(value, "metadata.finalizers").to_vec();
    let has = |name: &str| before.iter().any(|f| f == name);
    // Without a policy the object's own finalizers decide, then what its kind does.
    let by_kind = || collection == Collection::Orphans && !has(FOREGROUND);
    let stated = options
        .orphan
        .or((options.foreground || options.background).then_some(false));
    let orphan = stated.unwrap_or_else(|| has(ORPHAN) || by_kind());
    let foreground = !orphan && (options.foreground || (options.orphan.is_none() && has(FOREGROUND)));
    let mut after: Vec<Value> = before
        .iter()
        .filter(|f| *f != ORPHAN && *f != FOREGROUND)
        .cloned()
        .collect();
    if orphan {
        after.push(json!(ORPHAN));
    }
    if foreground {
        after.push(json!(FOREGROUND));
    }
    let changed = after.len() != before.len() || after.iter().any(|f| !before.contains(f));
    if changed {
        if after.is_empty() {
            json::remove(value, "metadata.finalizers");
        } else {
            json::set(value, "metadata.finalizers", after);
        }
    }
    changed
}

/// Removes what nothing holds; `last` is the state that made it so, if it was not stored.
pub(super) async fn finish_deletion(
    core: &Arc<Core>,
    row: &Arc<Row>,
    stored: &Arc<Object>,
    last: Option<(StoredForm, Bytes)>,
) -> Result<Arc<Object>, WriteError> {
    let cache = core.stored(row).map_err(WriteError::Failed)?;
    let removed = core.remove(cache, stored).await?;
    match last {
        None => Ok(removed),
        Some((form, body)) => {
            // Who emptied the finalizers is shown the revision before the removal (upstream too).
            let object = Object::from_body(form.kind, stored.revision, body);
            let object = object.map_err(|e| WriteError::Failed(Status::internal(e)))?;
            let object = Arc::new(object.with_edition(form.edition));
            row.ready(core, object).await.map_err(WriteError::Failed)
        }
    }
}

/// Removes every object that the selectors match.
pub(crate) async fn delete_collection(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let mut query = list_query(call)?;
    let newest = matches!(query.revision, None | Some(Revision(0)));
    // Upstream deletes page by page, and a page of a revision is of exactly that.
    query.exact |= !newest && call.query.get("resourceVersionMatch").is_empty();
    let filter = request_filter(row, &call.info, &call.query)?;
    let options = DeleteOptions::read(call, body).await?;
    warn_of_orphans(call, row, &options);
    let wanted = filter.shown.clone();
    let mut page = list_page(&call.core, call.core.stored(row)?, filter, query).await?;
    if !wanted.is_empty() {
        page = page.shown(&call.core, row, &wanted).await?;
    }
    let mut deleted = Vec::new();
    for object in page.items {
        let outcome = delete_object(
            &call.core,
            &call.user,
            row,
            object.namespace(),
            object.name(),
            &options,
            &mut call.warnings,
        )
        .await;
        match outcome {
            Ok(Deleted::Gone(_) | Deleted::Pending(_)) => deleted.push(object),
            Err(status) if status.is_not_found() => {}
            Err(status) => return Err(status),
        }
    }
    if row.converts_elsewhere() {
        deleted = row.present(&call.core, deleted).await?;
    }
    list_response(row, &page.meta, form, call.include_object()?, deleted.into_iter())
}
