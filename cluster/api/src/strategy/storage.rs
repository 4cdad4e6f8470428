//! PersistentVolume, PersistentVolumeClaim, StorageClass.

use super::csi::{driver_name, parameters};
use super::{
    Causes, CellContext, columns,
    row::{ROW, Row},
};
use crate::{
    json,
    validate::{
        Field, claim_spec,
        storage::{volume_sources, volume_spec},
    },
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use strata_meta::{Quantity, StatusCause, Time};

pub(super) static VOLUMES: Row = Row {
    returns_deleted: true,
    columns: &[
        columns::NAME,
        columns::column("Capacity", "string", "How much the volume holds.", |cx| {
            columns::text(cx, "spec.capacity.storage")
        }),
        columns::column("Access Modes", "string", "How the volume can be mounted.", |cx| {
            modes(cx, "spec.accessModes")
        }),
        columns::column(
            "Reclaim Policy",
            "string",
            "What becomes of the volume when its claim goes.",
            |cx| columns::text(cx, "spec.persistentVolumeReclaimPolicy"),
        ),
        columns::column("Status", "string", "What has become of the volume.", phase),
        columns::column(
            "Claim",
            "string",
            "The claim that has the volume.",
            |cx| match json::get(cx.object, "spec.claimRef") {
                Some(claim) => format!("{}/{}", json::text(claim, "namespace"), json::text(claim, "name")).into(),
                None => "".into(),
            },
        ),
        columns::column("StorageClass", "string", "StorageClass of the pv", |cx| {
            columns::text(cx, "spec.storageClassName")
        }),
        columns::column(
            "VolumeAttributesClass",
            "string",
            "VolumeAttributesClass of the pv",
            |cx| columns::or_unset(json::text(cx.object, "spec.volumeAttributesClassName")),
        ),
        columns::column("Reason", "string", "Why the status is what it is.", |cx| {
            columns::text(cx, "status.reason")
        }),
        columns::AGE,
        columns::wide("VolumeMode", "string", "Filesystem or Block.", |cx| {
            columns::or_unset(json::text(cx.object, "spec.volumeMode"))
        }),
    ],
    prepare_create: |object| {
        json::set(
            object,
            "status",
            json!({"phase": "Pending", "lastPhaseTransitionTime": Time::now()}),
        );
    },
    warnings: |new, _| {
        const OLD: &[(&str, &str)] = &[
            ("cephfs", "spec.cephfs: deprecated in v1.28, non-functional in v1.31+"),
            (
                "photonPersistentDisk",
                "spec.photonPersistentDisk: deprecated in v1.11, non-functional in v1.16+",
            ),
            ("scaleIO", "spec.scaleIO: deprecated in v1.16, non-functional in v1.22+"),
            (
                "storageos",
                "spec.storageOS: deprecated in v1.22, non-functional in v1.25+",
            ),
            (
                "glusterfs",
                "spec.glusterfs: deprecated in v1.25, non-functional in v1.26+",
            ),
            ("rbd", "spec.rbd: deprecated in v1.28, non-functional in v1.31+"),
        ];
        let spec = Field::root(new).at("spec");
        let given = OLD.iter().filter(|(name, _)| spec.at(name).is_set());
        given.map(|(_, why)| (*why).to_owned()).collect()
    },
    validate: volume,
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
        for source in volume_sources() {
            if !json::equal(Some(now.at(source).value()), Some(was.at(source).value())) {
                causes.push(
                    now.named("spec.persistentvolumesource")
                        .forbidden("spec.persistentvolumesource is immutable after creation"),
                );
            }
        }
        now.at("volumeMode")
            .named("volumeMode")
            .unchanged(causes, &was.at("volumeMode"));
        let class = now.at("volumeAttributesClassName");
        if was.at("volumeAttributesClassName").is_set() && !class.is_set() {
            causes.push(class.forbidden("update from non-nil value to nil is forbidden"));
        }
    },
    ..ROW
};

pub(super) static CLAIMS: Row = Row {
    returns_deleted: true,
    columns: &[
        columns::NAME,
        columns::column("Status", "string", "What has become of the claim.", phase),
        columns::column("Volume", "string", "The volume it has.", |cx| {
            columns::text(cx, "spec.volumeName")
        }),
        columns::column("Capacity", "string", "How much the volume holds.", |cx| {
            match bound(cx) {
                true => columns::text(cx, "status.capacity.storage"),
                false => "".into(),
            }
        }),
        columns::column(
            "Access Modes",
            "string",
            "How the volume can be mounted.",
            |cx| match bound(cx) {
                true => modes(cx, "status.accessModes"),
                false => "".into(),
            },
        ),
        columns::column("StorageClass", "string", "StorageClass of the pvc", |cx| {
            columns::text(cx, "spec.storageClassName")
        }),
        columns::column(
            "VolumeAttributesClass",
            "string",
            "VolumeAttributesClass of the pvc",
            |cx| columns::or_unset(json::text(cx.object, "spec.volumeAttributesClassName")),
        ),
        columns::AGE,
        columns::wide("VolumeMode", "string", "Filesystem or Block.", |cx| {
            columns::or_unset(json::text(cx.object, "spec.volumeMode"))
        }),
    ],
    prepare_create: |object| {
        json::set(object, "status", json!({"phase": "Pending"}));
        agree_on_source(object);
    },
    warnings: |new, _| {
        let storage = Field::root(new).at("spec.resources.requests.storage");
        match storage.quantity().filter(|q| q.milli_value() % 1000 != 0) {
            Some(amount) => vec![format!(
                "spec.resources.requests[storage]: fractional byte value {:?} is invalid, must be an integer",
                amount.to_string()
            )],
            None => Vec::new(),
        }
    },
    validate: |object, causes| claim_spec(&Field::root(object).at("spec"), causes),
    validate_update: claim_update,
    ..ROW
};

pub(super) static CLASSES: Row = Row {
    returns_deleted: true,
    columns: &[
        super::Column {
            format: "name",
            ..columns::column("Name", "string", "Name must be unique within a namespace.", |cx| {
                columns::name_or_default(cx, "storageclass.kubernetes.io/is-default-class")
            })
        },
        columns::column("Provisioner", "string", "Who makes volumes.", |cx| {
            columns::text(cx, "provisioner")
        }),
        columns::column(
            "ReclaimPolicy",
            "string",
            "What becomes of volumes when their claims go.",
            |cx| {
                let policy = json::text(cx.object, "reclaimPolicy");
                if policy.is_empty() { "Delete" } else { policy }.into()
            },
        ),
        columns::column("VolumeBindingMode", "string", "When volumes are made.", |cx| {
            let mode = json::text(cx.object, "volumeBindingMode");
            if mode.is_empty() { "Immediate" } else { mode }.into()
        }),
        columns::column("AllowVolumeExpansion", "string", "Whether volumes can grow.", |cx| {
            columns::flag(cx, "allowVolumeExpansion")
        }),
        columns::AGE,
    ],
    validate: |object, causes| {
        let root = Field::root(object);
        driver_name(&root.at("provisioner"), causes);
        parameters(&root.at("parameters"), causes);
        if !root.at("reclaimPolicy").is_empty() {
            root.at("reclaimPolicy").if_one_of(causes, &["Delete", "Retain"]);
        }
        let mode = root.at("volumeBindingMode");
        if mode.is_set() {
            mode.if_one_of(causes, &["Immediate", "WaitForFirstConsumer"]);
        } else {
            causes.push(mode.required(""));
        }
        topologies(&root.at("allowedTopologies"), causes);
    },
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new), Field::root(old));
        for name in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
            now.at(name).unchanged(causes, &was.at(name));
        }
    },
    ..ROW
};

/// `allowedTopologies` of a class: no term may say what another one says.
fn topologies(list: &Field<'_>, causes: &mut Causes) {
    // Upstream's list of terms seen begins with as many empty ones.
    let mut seen = vec![BTreeMap::new(); list.len().min(1)];
    for term in list.items() {
        let mut keys: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        let expressions = term.at("matchLabelExpressions");
        for expression in expressions.items() {
            let (key, values) = (expression.at("key"), expression.at("values"));
            let mut set = BTreeSet::new();
            values.needs(causes);
            for value in values.items() {
                if !set.insert(value.text()) {
                    causes.push(value.duplicate());
                }
            }
            let problems = strata_meta::names::qualified_name(key.text());
            causes.extend(problems.iter().map(|why| key.invalid_as(key.text(), why)));
            if keys.insert(key.text(), set).is_some() {
                causes.push(key.duplicate());
            }
        }
        if seen.contains(&keys) {
            causes.push(expressions.duplicate_as(""));
        }
        seen.push(keys);
    }
}

fn bound(cx: &CellContext<'_>) -> bool {
    !json::text(cx.object, "spec.volumeName").is_empty()
}

fn phase(cx: &CellContext<'_>) -> Value {
    if json::get(cx.object, "metadata.deletionTimestamp").is_some() {
        return "Terminating".into();
    }
    columns::text(cx, "status.phase")
}

fn modes(cx: &CellContext<'_>, path: &str) -> Value {
    let given = json::list(cx.object, path);
    let short = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let texts = short
        .iter()
        .filter(|(mode, _)| given.iter().any(|g| g == mode))
        .map(|(_, s)| *s);
    texts.collect::<Vec<_>>().join(",").into()
}

fn volume(object: &Value, causes: &mut Causes) {
    volume_spec(&Field::root(object).at("spec"), causes);
}

/// `dataSource` and `dataSourceRef` say the same, unless the latter says more (KEP-1495). A
/// `dataSource` that is neither a claim nor a snapshot is dropped.
fn agree_on_source(claim: &mut Value) {
    let populates = |source: &Value| {
        matches!(
            (json::text(source, "apiGroup"), json::text(source, "kind")),
            ("", "PersistentVolumeClaim") | ("snapshot.storage.k8s.io", "VolumeSnapshot")
        )
    };
    if json::get(claim, "spec.dataSource").is_some_and(|source| !populates(source)) {
        json::remove(claim, "spec.dataSource");
    }
    let (source, reference) = (
        json::get(claim, "spec.dataSource").cloned(),
        json::get(claim, "spec.dataSourceRef").cloned(),
    );
    match (source, reference) {
        (Some(source), None) => json::set(claim, "spec.dataSourceRef", source),
        (None, Some(reference)) if json::text(&reference, "namespace").is_empty() => {
            json::set(claim, "spec.dataSource", reference);
        }
        _ => {}
    }
}

fn claim_update(new: &Value, old: &Value, causes: &mut Causes) {
    let mut fixed = new.clone();
    let amount =
        |object: &Value| -> Option<Quantity> { json::text(object, "spec.resources.requests.storage").parse().ok() };
    let is_bound = json::text(old, "status.phase") == "Bound";
    if json::text(old, "spec.volumeName").is_empty() {
        json::copy(old, &mut fixed, "spec.volumeName");
    }
    if let (Some(now), Some(was)) = (amount(new), amount(old)) {
        let status: Option<Quantity> = json::text(old, "status.capacity.storage").parse().ok();
        if now < was && status.is_none_or(|have| now <= have) {
            let why = "field can not be less than status.capacity";
            causes.push(StatusCause::forbidden("spec.resources.requests.storage", why));
        }
        if is_bound || now == was {
            json::copy(old, &mut fixed, "spec.resources.requests");
        }
    }
    if json::get(old, "spec.storageClassName").is_none() {
        json::copy(old, &mut fixed, "spec.storageClassName");
    }
    json::copy(old, &mut fixed, "spec.volumeAttributesClassName");
    if !json::same(&fixed, old, "spec") {
        let why =
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        causes.push(StatusCause::forbidden("spec", why));
    }
}
