//! Who manages which fields (KEP-555): accounts of writes, kept in `metadata.managedFields`.
//!
//! Every write that a client makes is accounted for before admission and strategies change it, so
//! that nobody owns what the server adds.

use crate::{core::Core, encode::conversion::conversion_for, json, registry::Row, schema::RowSchema};
use bytes::Bytes;
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};
use strata_meta::{GroupVersionKind, Time};
use strata_schema::{
    KindInfo, Schema,
    apply::{self, BuiltinKind, Convert, CustomKind, Filter, Write},
    structural::Structural,
};

/// The manager of what the server makes at its start.
pub(crate) const SERVER: &str = "kube-apiserver";

/// Every built-in kind with every version it is written in.
static BUILTIN: LazyLock<HashMap<GroupVersionKind, BuiltinKind>> = LazyLock::new(|| {
    let kinds = Schema::builtin().kinds().iter().filter(|kind| kind.served_by_default);
    kinds.map(|kind| (kind.gvk(), builtin(kind))).collect()
});

/// What server-side apply and the account of managers know of a row's kind.
pub(crate) enum Tracked {
    /// From the table.
    Builtin(&'static BuiltinKind),
    /// From a CustomResourceDefinition.
    Custom(Box<CustomKind>),
}

impl Tracked {
    /// The kind of a row as it is now.
    pub(crate) fn of(core: &Core, row: &Row) -> Self {
        match &row.schema {
            RowSchema::Builtin => Self::Builtin(&BUILTIN[&*row.gvk]),
            RowSchema::Structural(version) => Self::Custom(Box::new(custom(core, row, version.structural()))),
        }
    }

    /// As apply takes it.
    pub(crate) fn kind(&self) -> &dyn apply::Kind {
        match self {
            Self::Builtin(kind) => *kind,
            Self::Custom(kind) => &**kind,
        }
    }
}

fn custom(core: &Core, row: &Row, schema: &Arc<Structural>) -> CustomKind {
    let rows = core.registry.rows();
    let others = rows.iter().filter_map(|other| {
        let same = other.resource == row.resource && other.gvk.version != row.gvk.version;
        let schema = other.schema.structural_shared().filter(|_| same)?;
        Some((other.gvk.api_version(), schema))
    });
    CustomKind::new(&row.gvk, schema, others.collect())
}

fn builtin(kind: &KindInfo) -> BuiltinKind {
    let known = "kinds of resources are in the table";
    let mut tracked = BuiltinKind::new(&kind.gvk()).expect(known);
    let others = Schema::builtin().kinds().iter().filter(|other| {
        let here = (other.group, other.version) == (kind.group, kind.version);
        // What another group's API says of the same objects is not known here, upstream neither.
        !here && other.kind == kind.kind && other.group == kind.group && other.plural == kind.plural
    });
    for other in others {
        let version = other.gvk().group_version();
        tracked = tracked
            .with_version(&version, between(kind, other), between(other, kind))
            .expect(known);
    }
    tracked
}

/// From one served version to another, by the stored one.
fn between(from: &KindInfo, to: &KindInfo) -> Convert {
    let to_stored = conversion_for(from).map(|conversion| conversion.to_stored);
    let from_stored = conversion_for(to).map(|conversion| conversion.from_stored);
    Box::new(move |value| {
        for step in [to_stored, from_stored].into_iter().flatten() {
            step(value);
        }
    })
}

/// What of a write through a path of the API counts: not what strategies reset.
pub(crate) fn filter(row: &Row, subresource: &str) -> &'static Filter {
    static NOTHING: LazyLock<Filter> = LazyLock::new(Filter::default);
    static STATUS: LazyLock<Filter> = LazyLock::new(|| Filter::without(&[&["status"]]));
    static SPEC: LazyLock<Filter> = LazyLock::new(|| Filter::without(&[&["spec"]]));
    static SPEC_STATUS: LazyLock<Filter> = LazyLock::new(|| Filter::without(&[&["spec"], &["status"]]));
    static SPEC_METADATA: LazyLock<Filter> = LazyLock::new(|| Filter::without(&[&["spec"], &["metadata"]]));
    static DEPLOYMENT: LazyLock<Filter> = LazyLock::new(|| Filter::without(&[&["spec"], &["metadata", "labels"]]));
    static POD: LazyLock<Filter> = LazyLock::new(|| {
        let metadata: [&[&str]; 2] = [&["metadata", "deletionTimestamp"], &["metadata", "ownerReferences"]];
        Filter::without(&[&["spec"], metadata[0], metadata[1]])
    });
    static REQUEST: LazyLock<Filter> = LazyLock::new(|| Filter::without(&[&["spec"], &["status", "conditions"]]));
    static APPROVAL: LazyLock<Filter> = LazyLock::new(|| Filter::without(&[&["spec"], &["status", "certificate"]]));
    match (row.resource.resource.as_str(), subresource) {
        ("certificatesigningrequests", "") => &SPEC_STATUS,
        ("certificatesigningrequests", "status") => &REQUEST,
        ("certificatesigningrequests", "approval") => &APPROVAL,
        ("pods", "status") => &POD,
        ("deployments", "status") if row.gvk.group == "apps" => &DEPLOYMENT,
        (plural, "status") if keeps_metadata(&row.gvk.group, plural) => &SPEC_METADATA,
        (_, "status") => &SPEC,
        ("namespaces", "finalize") => &STATUS,
        (_, "") if row.has_status() => &STATUS,
        _ => &NOTHING,
    }
}

/// Kinds whose metadata a write of the status does not touch; custom resources are such.
pub(crate) fn keeps_metadata(group: &str, plural: &str) -> bool {
    match group {
        "resource.k8s.io"
        | "storagemigration.k8s.io"
        | "flowcontrol.apiserver.k8s.io"
        | "scheduling.k8s.io"
        | "internal.apiserver.k8s.io" => true,
        "networking.k8s.io" => plural == "servicecidrs",
        "storage.k8s.io" => plural == "volumeattachments",
        "admissionregistration.k8s.io" => plural == "validatingadmissionpolicies",
        group => !group.is_empty() && Schema::builtin().kinds().iter().all(|kind| kind.group != group),
    }
}

/// The object with its managers after a write that is no apply. A write that cannot be accounted
/// for leaves the object without them rather than with wrong ones.
pub(crate) fn account(
    core: &Core,
    row: &Row,
    manager: &str,
    subresource: &str,
    live: Option<&Value>,
    new: Value,
) -> Value {
    let tracked = Tracked::of(core, row);
    let write = Write {
        kind: tracked.kind(),
        manager,
        subresource,
        filter: filter(row, subresource),
        now: Time::now(),
    };
    match apply::update(&write, live, new) {
        Ok(new) => new,
        Err((why, mut new)) => {
            tracing::error!(kind = %row.gvk, %why, "managed fields are lost");
            json::remove(&mut new, "metadata.managedFields");
            new
        }
    }
}

/// What is asked of the server without being kept, with who says what in it.
pub(crate) fn account_review(gvk: &GroupVersionKind, manager: &str, subresource: &str, new: Value) -> Value {
    let Ok(kind) = BuiltinKind::new(gvk) else {
        return new;
    };
    let write = Write {
        kind: &kind,
        manager,
        subresource,
        filter: &Filter::default(),
        now: Time::now(),
    };
    apply::update(&write, None, new).unwrap_or_else(|(why, new)| {
        tracing::error!(kind = %gvk, %why, "managed fields of a review are lost");
        new
    })
}

/// The encoded object without its managers, for objects that are too large with them. `None` if it has none.
pub(crate) fn without_managers(body: &Bytes) -> Option<Bytes> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    json::remove(&mut value, "metadata.managedFields")?;
    strata_meta::encode_body(&value).ok()
}
