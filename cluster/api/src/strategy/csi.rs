//! CSINode, CSIDriver, VolumeAttachment, VolumeAttributesClass, CSIStorageCapacity
//! (k8s.io/kubernetes/pkg/apis/storage/validation).

use super::{
    Causes, Column, columns,
    row::{ROW, Row},
};
use crate::{
    json,
    validate::{
        Field,
        formats::label_selector,
        storage::{csi_driver, inline_volume},
    },
};
use serde_json::Value;
use strata_meta::names;

pub(super) static CSI_NODES: Row = Row {
    returns_deleted: true,
    unconditional: false,
    columns: &[
        columns::NAME,
        columns::column(
            "Drivers",
            "integer",
            "Drivers indicates the number of CSI drivers registered on the node",
            |cx| json::list(cx.object, "spec.drivers").len().into(),
        ),
        columns::AGE,
    ],
    validate: csi_node,
    validate_update: |new, old, causes| {
        for driver in Field::root(new).at("spec.drivers").items() {
            let named = |other: &&Value| json::text(other, "name") == driver.at("name").text();
            for other in json::list(old, "spec.drivers").iter().filter(named) {
                let fixed = |driver: &Value| {
                    let mut driver = driver.clone();
                    json::remove(&mut driver, "allocatable");
                    driver
                };
                let (now, was) = (fixed(driver.value()), fixed(other));
                if !json::equal(Some(&now), Some(&was)) {
                    causes.push(
                        driver
                            .named("spec.drivers")
                            .invalid_shown(go_driver(&now), "field is immutable"),
                    );
                }
            }
        }
    },
    ..ROW
};

pub(super) static CSI_DRIVERS: Row = Row {
    returns_deleted: true,
    unconditional: false,
    columns: &[
        columns::NAME,
        columns::column(
            "AttachRequired",
            "boolean",
            "Whether volumes are attached first.",
            |cx| {
                json::get(cx.object, "spec.attachRequired")
                    .cloned()
                    .unwrap_or(true.into())
            },
        ),
        columns::column(
            "PodInfoOnMount",
            "boolean",
            "Whether the driver is told about the pod.",
            |cx| columns::flag(cx, "spec.podInfoOnMount"),
        ),
        columns::column(
            "StorageCapacity",
            "boolean",
            "Whether the driver publishes capacity.",
            |cx| columns::flag(cx, "spec.storageCapacity"),
        ),
        columns::column("TokenRequests", "string", "Audiences of the tokens it gets.", |cx| {
            let requests = json::list(cx.object, "spec.tokenRequests");
            let texts: Vec<&str> = requests.iter().map(|r| json::text(r, "audience")).collect();
            if texts.is_empty() {
                "<unset>".into()
            } else {
                texts.join(",").into()
            }
        }),
        columns::column(
            "RequiresRepublish",
            "boolean",
            "Whether volumes are published again.",
            |cx| columns::flag(cx, "spec.requiresRepublish"),
        ),
        columns::column(
            "Modes",
            "string",
            "Which kinds of volume it serves.",
            |cx| match columns::joined(cx, "spec.volumeLifecycleModes") {
                Value::String(text) => columns::or_none(&text),
                other => other,
            },
        ),
        columns::AGE,
    ],
    validate: csi_driver_spec,
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
        let required = now.at("attachRequired").named("spec.attachedRequired");
        required.unchanged(causes, &was.at("attachRequired"));
        now.at("volumeLifecycleModes")
            .unchanged(causes, &was.at("volumeLifecycleModes"));
    },
    warnings: |new, old| {
        let spec = Field::root(new).at("spec");
        if old.is_some_and(|old| json::same(new, old, "spec")) {
            return Vec::new();
        }
        if spec.at("tokenRequests").is_empty() || spec.at("serviceAccountTokenInSecrets").is_set() {
            return Vec::new();
        }
        let why = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes";
        vec![why.to_owned()]
    },
    ..ROW
};

pub(super) static ATTACHMENTS: Row = Row {
    returns_deleted: true,
    unconditional: false,
    columns: &[
        columns::NAME,
        columns::column("Attacher", "string", "Who attaches.", |cx| {
            columns::text(cx, "spec.attacher")
        }),
        columns::column("PV", "string", "The volume.", |cx| {
            columns::text(cx, "spec.source.persistentVolumeName")
        }),
        columns::column("Node", "string", "The node.", |cx| columns::text(cx, "spec.nodeName")),
        columns::column("Attached", "boolean", "Whether it is done.", |cx| {
            columns::flag(cx, "status.attached")
        }),
        Column {
            // As upstream has it.
            format: "name",
            ..columns::AGE
        },
    ],
    validate: attachment,
    validate_update: |new, old, causes| {
        let (now, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
        if !json::equal(Some(now.value()), Some(was.value())) {
            causes.push(now.invalid("field is immutable"));
        }
    },
    ..ROW
};

pub(super) static ATTRIBUTE_CLASSES: Row = Row {
    returns_deleted: true,
    columns: &[
        columns::NAME,
        columns::column("DriverName", "string", "The driver.", |cx| {
            columns::text(cx, "driverName")
        }),
        columns::AGE,
    ],
    validate: |object, causes| {
        let root = Field::root(object);
        driver_name(&root.at("driverName"), causes);
        parameters(&root.at("parameters"), causes);
        if root.at("parameters").is_empty() {
            causes.push(
                root.at("parameters")
                    .required("must contain at least one key/value pair"),
            );
        }
    },
    validate_update: |new, old, causes| {
        for name in ["driverName", "parameters"] {
            if !json::same(new, old, name) {
                let why = format!("updates to {name} are forbidden.");
                causes.push(Field::root(new).at(name).forbidden(&why));
            }
        }
    },
    ..ROW
};

pub(super) static CAPACITIES: Row = Row {
    unconditional: false,
    validate: |object, causes| {
        let root = Field::root(object);
        label_selector(&root.at("nodeTopology"), causes);
        let class = root.at("storageClassName");
        causes.extend(
            names::dns1123_subdomain(class.text())
                .iter()
                .map(|why| class.invalid_as(class.text(), why)),
        );
        let capacity = root.at("capacity");
        if let Some(amount) = capacity.quantity().filter(|q| q.is_negative()) {
            causes.push(capacity.invalid_as(amount.to_string(), "must be greater than or equal to 0"));
        }
    },
    validate_update: |new, old, causes| {
        for name in ["nodeTopology", "storageClassName"] {
            Field::root(new).at(name).unchanged(causes, &Field::root(old).at(name));
        }
    },
    ..ROW
};

fn csi_node(object: &Value, causes: &mut Causes) {
    let mut seen = Vec::new();
    for driver in Field::root(object).at("spec.drivers").items() {
        let (name, id) = (driver.at("name"), driver.at("nodeID"));
        csi_driver(&name, causes);
        id.needs(causes);
        if id.text().len() > 256 {
            causes.push(id.invalid("must be 256 characters or less"));
        }
        driver.at("allocatable.count").not_negative(causes);
        if seen.contains(&name.text()) {
            causes.push(name.duplicate());
        }
        seen.push(name.text());
        let mut keys = Vec::new();
        for key in driver.at("topologyKeys").items() {
            // Upstream names the driver.
            let named = key.named(driver.path());
            named.needs(causes);
            if keys.contains(&key.text()) {
                causes.push(named.duplicate());
            }
            keys.push(key.text());
            named.problems(causes, names::qualified_name(key.text()));
        }
    }
}

/// A driver of a node as upstream prints it: by Go's names.
fn go_driver(driver: &Value) -> String {
    let part = |name: &str| Value::from(json::text(driver, name));
    let keys = json::get(driver, "topologyKeys").unwrap_or(&Value::Null);
    format!(
        "{{\"Name\":{},\"NodeID\":{},\"TopologyKeys\":{keys},\"Allocatable\":null}}",
        part("name"),
        part("nodeID")
    )
}

fn csi_driver_spec(object: &Value, causes: &mut Causes) {
    let spec = Field::root(object).at("spec");
    for (name, path) in [
        ("attachRequired", "spec.attachedRequired"),
        ("podInfoOnMount", "spec.podInfoOnMount"),
        ("storageCapacity", "spec.storageCapacity"),
    ] {
        if !spec.at(name).is_set() {
            causes.push(spec.at(name).named(path).required(""));
        }
    }
    spec.at("fsGroupPolicy")
        .if_one_of(causes, &["File", "None", "ReadWriteOnceWithFSType"]);
    let mut audiences = Vec::new();
    for request in spec.at("tokenRequests").items() {
        let (audience, seconds) = (request.at("audience"), request.at("expirationSeconds"));
        if audiences.contains(&audience.text()) {
            causes.push(audience.duplicate());
            continue;
        }
        audiences.push(audience.text());
        if seconds.int().is_some_and(|n| n < 600) {
            causes.push(seconds.invalid("may not specify a duration less than 10 minutes"));
        }
        if seconds.int().is_some_and(|n| n > 1 << 32) {
            causes.push(seconds.invalid("may not specify a duration larger than 2^32 seconds"));
        }
    }
    let modes = spec.at("volumeLifecycleModes");
    for mode in modes.items() {
        mode.named(modes.path()).if_one_of(causes, &["Persistent", "Ephemeral"]);
    }
    let period = spec.at("nodeAllocatableUpdatePeriodSeconds");
    if period.int().is_some_and(|n| n < 10) {
        causes.push(period.invalid("must be greater than or equal to 10 seconds"));
    }
    let secrets = spec.at("serviceAccountTokenInSecrets");
    if secrets.is_set() && spec.at("tokenRequests").is_empty() {
        causes.push(secrets.invalid("serviceAccountTokenInSecrets is set but no tokenRequests are specified"));
    }
}

fn attachment(object: &Value, causes: &mut Causes) {
    let root = Field::root(object);
    let (spec, status) = (root.at("spec"), root.at("status"));
    csi_driver(&spec.at("attacher"), causes);
    let source = spec.at("source");
    let (inline, name) = (source.at("inlineVolumeSpec"), source.at("persistentVolumeName"));
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (inline.is_set(), name.is_set()) {
        (false, false) => causes.push(source.required(ONE)),
        (true, true) => causes.push(source.forbidden(ONE)),
        (false, true) if name.is_empty() => {
            causes.push(name.required("must specify non empty persistentVolumeName"));
        }
        (false, true) => {}
        (true, false) => inline_volume(&inline, causes),
    }
    let node = spec.at("nodeName");
    let problems = names::dns1123_subdomain(node.text());
    causes.extend(problems.iter().map(|why| node.invalid_as(node.text(), why)));
    for error in ["attachError", "detachError"] {
        let error = status.at(error);
        if error.at("message").text().len() > 1024 {
            causes.push(error.at("message").too_long(256 << 10));
        }
        error.at("errorCode").within(causes, 0, i64::from(i32::MAX));
    }
    if name.is_set() {
        name.problems(causes, names::dns1123_subdomain(name.text()));
    }
}

/// The name of a provisioner, of any case.
pub(super) fn driver_name(name: &Field<'_>, causes: &mut Causes) {
    if name.is_empty() {
        causes.push(name.required(""));
        return;
    }
    let lower = name.text().to_lowercase();
    let problems = names::qualified_name(&lower);
    causes.extend(problems.iter().map(|why| name.invalid_as(lower.as_str(), why)));
}

/// Parameters of a class.
pub(super) fn parameters(field: &Field<'_>, causes: &mut Causes) {
    const MOST: usize = 512;
    const BYTES: usize = 256 << 10;
    if field.len() > MOST {
        causes.push(field.too_long(MOST));
        return;
    }
    let mut total = 0;
    for (key, value) in field.entries() {
        if key.is_empty() {
            causes.push(field.invalid_as("", "field can not be empty."));
        }
        total += key.len() + value.text().len();
    }
    if total > BYTES {
        causes.push(field.too_long(BYTES));
    }
}
