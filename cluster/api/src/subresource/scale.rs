//! scale: the replicas of a workload as autoscaling/v1 Scale.

use crate::{
    admission::{self, Request},
    codec::{body_media, decode_body, decode_patched, read_body},
    encode::{Negotiated, Shape, value_response},
    json,
    pipeline::Call,
    registry::Row,
    schema::RowSchema,
    strategy::age,
    verbs::{
        Change, Part, Patched, WriteOptions, apply_change, check_address, field_manager, find, patch_value,
        read_config, refused, undecodable,
    },
};
use http::Response;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use strata_http::Body;
use strata_meta::{GroupVersionKind, LabelSelector, Status, StatusCause, Time};
use strata_schema::apply::{self, BuiltinKind, Filter, Replicas, Write};

fn gvk() -> GroupVersionKind {
    GroupVersionKind::new("autoscaling", "v1", "Scale")
}

pub(super) async fn serve(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let (namespace, name) = (call.info.namespace.clone(), call.info.name.clone());
    if call.info.verb == "get" {
        let object = find(row, &namespace, &name)?;
        let object = row.view(&row.ready(&call.core, object).await?)?;
        let value = object.to_value().map_err(Status::internal)?;
        needs_replicas(row, &value)?;
        let scale = scale_of(row, &value);
        return Ok(match form.shape {
            Shape::Table => value_response(200, &table_of(&scale, form), form),
            Shape::Partial => value_response(200, &partial_of(&scale, form), form),
            _ => value_response(200, &scale, form),
        });
    }
    let is_patch = call.info.verb == "patch";
    let options = WriteOptions::read(call, if is_patch { "PatchOptions" } else { "UpdateOptions" })?;
    let bytes = read_body(body).await?;
    let mut put = match is_patch {
        true => None,
        false => {
            let media = body_media(&call.headers)?;
            let decoded = decode_body(&gvk(), media, &bytes, options.validation, &mut call.warnings);
            let mut scale = decoded.map_err(|status| undecoded(row, status))?;
            check_address(row, &mut scale, &namespace, &name)?;
            Some(scale)
        }
    };
    if let Some(scale) = &mut put {
        check_address(row, scale, &namespace, &name)?;
    }
    let headers = call.headers.clone();
    let manager = field_manager(call);
    let config = match headers.get(http::header::CONTENT_TYPE) {
        Some(media) if is_patch && media.as_bytes().starts_with(b"application/apply-patch+yaml") => {
            Some(read_config(call, &gvk(), &bytes, options.validation)?)
        }
        _ if is_patch => {
            crate::audit::patch(&bytes);
            None
        }
        _ => None,
    };
    find(row, &namespace, &name)?;
    let write = Write {
        kind: &*SCALE,
        manager: &manager,
        subresource: "scale",
        filter: &Filter::default(),
        now: Time::now(),
    };
    let force = call.query.is_true("force");
    let paths = versions(call, row);
    let change = Change {
        core: &call.core,
        user: &call.user,
        row,
        namespace: &namespace,
        name: &name,
        part: Part::Main,
        subresource: "scale",
        dry_run: options.dry_run,
        demands_revision: false,
        manager: None,
    };
    let updated = apply_change(&change, &mut call.warnings, |old, said| {
        let replicas = Replicas {
            paths: &paths,
            version: &row.gvk.api_version(),
        };
        let entries = &old["metadata"]["managedFields"];
        let mut live = scale_of(row, old);
        if let Some(entries) = replicas.to_scale(entries).map_err(Status::internal)? {
            live["metadata"]["managedFields"] = entries;
        }
        let scale = match (&put, &config) {
            (Some(scale), _) => account(&write, &live, scale.clone()),
            (None, Some(config)) => apply::apply(&write, Some(&live), config, force).map_err(refused)?,
            (None, None) => {
                let (media, mut strict) = (media_type(&headers), Vec::new());
                let body = (&bytes[..], options.validation);
                let patched = patch_value(&gvk(), &row.schema, media, body, &live, &mut strict)?;
                let said_of = (options.validation, &strict[..], &[][..]);
                let Patched { value, shown, converts } = patched;
                let decoded = decode_patched(&RowSchema::Builtin, &gvk(), (value, converts), said_of, said)
                    .map_err(|status| undecodable(&shown, status))?;
                account(&write, &live, decoded)
            }
        };
        let mut new = scaled(row, old, &scale, put.is_some())?;
        let entries = replicas.to_parent(entries, &scale["metadata"]["managedFields"]);
        match entries.map_err(Status::internal)? {
            Some(entries) => json::set(&mut new, "metadata.managedFields", entries),
            None => drop(json::remove(&mut new, "metadata.managedFields")),
        }
        Ok(new)
    })
    .await?;
    let value = row.view(&updated)?.to_value().map_err(Status::internal)?;
    Ok(value_response(200, &scale_of(row, &value), form))
}

/// What upstream's decoder makes of a wrong scale of a custom resource, whose scheme does not know its type.
fn undecoded(row: &Row, mut status: Status) -> Status {
    if row.schema.is_custom() && status.message.contains(" cannot be handled as a Scale: json: ") {
        status.message = "no kind is registered for the type v1.Scale in scheme \"pkg/runtime/scheme.go:111\"".into();
    }
    status
}

fn media_type(headers: &http::HeaderMap) -> &str {
    let stated = headers.get(http::header::CONTENT_TYPE);
    stated.and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// What the account of managers knows of scales.
static SCALE: LazyLock<BuiltinKind> = LazyLock::new(|| BuiltinKind::new(&gvk()).expect("the table has scales"));

/// The scale with its managers after a write that is no apply.
fn account(write: &Write<'_>, live: &Value, new: Value) -> Value {
    apply::update(write, Some(live), new).unwrap_or_else(|(why, new)| {
        tracing::error!(%why, "managed fields of a scale are lost");
        new
    })
}

/// Every version of a row's kind, and where it has its replicas.
fn versions(call: &Call, row: &Row) -> Vec<(String, Vec<String>)> {
    let rows = call.core.registry.rows();
    let same = rows.iter().filter(|other| other.resource == row.resource);
    let path = |row: &Row| paths(row).0.split('.').map(str::to_owned).collect();
    same.map(|row| (row.gvk.api_version(), path(row))).collect()
}

/// Where a row's numbers are: the wanted one, the present one, and the selector as text, `""` where it is structured.
fn paths(row: &Row) -> (&str, &str, &str) {
    match row.schema.custom().and_then(|custom| custom.version().scale.as_ref()) {
        None => ("spec.replicas", "status.replicas", ""),
        Some(scale) => (
            scale.spec.trim_start_matches('.'),
            scale.status.trim_start_matches('.'),
            scale.selector.trim_start_matches('.'),
        ),
    }
}

/// A custom resource without a number cannot be shown as a scale. Errors: 500.
fn needs_replicas(row: &Row, value: &Value) -> Result<(), Status> {
    let (spec, ..) = paths(row);
    if row.schema.is_custom() && json::get(value, spec).is_none() {
        let why = format!("the spec replicas field {:?} does not exist", format!(".{spec}"));
        return Err(Status::internal(why));
    }
    Ok(())
}

/// Admits a change of the scale; what a webhook makes of the replicas goes into `new`. Errors: the first refusal.
pub(crate) async fn admit_scale(
    request: &Request<'_>,
    new: &mut Value,
    old: &Value,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let row = request.row;
    let before = scale_of(row, old);
    let admitted = admission::admit(request, scale_of(row, new), Some(&before), warnings).await?;
    json::set(new, paths(row).0, json::int(&admitted, "spec.replicas").unwrap_or(0));
    Ok(())
}

fn partial_of(scale: &Value, form: Negotiated) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{}", form.meta_version),
        "metadata": scale["metadata"]})
}

/// The columns upstream has for a scale.
fn table_of(scale: &Value, form: Negotiated) -> Value {
    let column = |name: &str, kind: &str, format: &str| json!({"name": name, "type": kind, "format": format, "description": "", "priority": 0});
    let count = |path: &str| json::int(scale, path).unwrap_or(0);
    let metadata = &scale["metadata"];
    let created = age(json::text(scale, "metadata.creationTimestamp"), Time::now());
    json!({
        "kind": "Table",
        "apiVersion": format!("meta.k8s.io/{}", form.meta_version),
        "metadata": {"resourceVersion": metadata["resourceVersion"]},
        "columnDefinitions": [
            column("Name", "string", ""), column("Desired", "integer", ""),
            column("Available", "integer", ""), column("Age", "string", ""),
        ],
        "rows": [{
            "cells": [metadata["name"], count("spec.replicas"), count("status.replicas"), created],
            "object": {"kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{}", form.meta_version), "metadata": metadata},
        }],
    })
}

fn scaled(row: &Row, old: &Value, scale: &Value, keeps_revision: bool) -> Result<Value, Status> {
    let replicas = json::int(scale, "spec.replicas").unwrap_or(0);
    let name = json::text(old, "metadata.name");
    if replicas < 0 && !row.schema.is_custom() {
        let cause = StatusCause::invalid("spec.replicas", replicas, "must be greater than or equal to 0");
        return Err(Status::invalid(&gvk().group_kind(), name, vec![cause]));
    }
    let mut new = old.clone();
    json::remove(&mut new, "metadata.resourceVersion");
    let stated = json::text(scale, "metadata.resourceVersion");
    if !stated.is_empty() && (keeps_revision || stated != json::text(old, "metadata.resourceVersion")) {
        json::set(&mut new, "metadata.resourceVersion", stated);
    }
    let uid = json::text(scale, "metadata.uid");
    if !uid.is_empty() && uid != json::text(old, "metadata.uid") {
        let key = row.upstream_key(json::text(old, "metadata.namespace"), name);
        let why = format!(
            "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            json::text(old, "metadata.uid")
        );
        return Err(Status::conflict(&row.resource, name, why));
    }
    json::set(&mut new, paths(row).0, replicas);
    Ok(new)
}

fn scale_of(row: &Row, value: &Value) -> Value {
    let (spec_path, status_path, selector_path) = paths(row);
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(member) = value["metadata"].get(field) {
            metadata[field] = member.clone();
        }
    }
    let selector = match json::get(value, "spec.selector") {
        _ if row.schema.is_custom() => match selector_path {
            "" => String::new(),
            path => json::text(value, path).to_owned(),
        },
        None => String::new(),
        Some(s) if s.get("matchLabels").is_some() || s.get("matchExpressions").is_some() => {
            serde_json::from_value::<LabelSelector>(s.clone())
                .ok()
                .and_then(|s| s.to_selector().ok())
                .map_or(String::new(), |s| s.to_string())
        }
        // ReplicationController: a plain map.
        Some(s) => {
            let pairs = s.as_object().into_iter().flatten();
            pairs
                .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
                .collect::<Vec<_>>()
                .join(",")
        }
    };
    let mut spec = json!({});
    if let Some(replicas) = json::int(value, spec_path).filter(|r| *r != 0) {
        spec["replicas"] = json!(replicas);
    }
    let mut status = json!({"replicas": json::int(value, status_path).unwrap_or(0)});
    if !selector.is_empty() {
        status["selector"] = json!(selector);
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status})
}
