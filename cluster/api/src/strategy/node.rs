//! Node.

use super::{Causes, CellContext, Column, Strategy, columns};
use crate::{
    cache::FieldPath,
    json,
    validate::{
        Field,
        formats::cidr,
        pod::{amount, taint_effect},
    },
};
use serde_json::Value;
use strata_meta::{StatusCause, names};

pub(super) struct Node;

impl Strategy for Node {
    fn keeps_status_on_create(&self) -> bool {
        true
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let root = Field::root(object);
        taints(&root.at("spec.taints").named("metadata.taints"), causes);
        resources(&root, causes);
        let ranges = root.at("spec.podCIDRs");
        for range in ranges.items() {
            range.problems(causes, cidr(range.text()));
        }
        let families: Vec<bool> = ranges.items().map(|range| range.text().contains(':')).collect();
        match families.as_slice() {
            [first, second] if first == second => {
                causes.push(ranges.invalid("may specify no more than one CIDR for each IP family"));
            }
            [] | [_] | [_, _] => {}
            _ => causes.push(ranges.invalid("may only hold up to 2 values, one for each IP family")),
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        let (now, was) = (Field::root(new).at("spec"), Field::root(old).at("spec"));
        for (member, name) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
            if !was.at(member).is_empty() && was.at(member).value() != now.at(member).value() {
                let why = format!("node updates may not change {name} except from \"\" to valid");
                causes.push(now.at(member).forbidden(&why));
            }
        }
    }

    fn validate_status_update(&self, new: &Value, _old: &Value, causes: &mut Causes) {
        let root = Field::root(new);
        resources(&root, causes);
        let mut seen = Vec::new();
        for address in root.at("status.addresses").items() {
            if seen.contains(&address.value()) {
                causes.push(address.duplicate());
            }
            seen.push(address.value());
        }
    }

    fn selectable_fields(&self) -> &'static [FieldPath] {
        const FIELDS: &[FieldPath] = &[FieldPath::new("spec.unschedulable", "false")];
        FIELDS
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            columns::NAME,
            columns::column("Status", "string", "The status of the node", status),
            columns::column("Roles", "string", "The roles of the node", roles),
            columns::AGE,
            columns::column("Version", "string", "Kubelet Version reported by the node.", |cx| {
                columns::text(cx, "status.nodeInfo.kubeletVersion")
            }),
            columns::wide(
                "Internal-IP",
                "string",
                "List of addresses reachable to the node.",
                |cx| address(cx, "InternalIP"),
            ),
            columns::wide(
                "External-IP",
                "string",
                "List of addresses reachable to the node.",
                |cx| address(cx, "ExternalIP"),
            ),
            columns::wide(
                "OS-Image",
                "string",
                "OS Image reported by the node from /etc/os-release.",
                |cx| info(cx, "osImage"),
            ),
            columns::wide(
                "Kernel-Version",
                "string",
                "Kernel Version reported by the node from 'uname -r'.",
                kernel,
            ),
            columns::wide(
                "Container-Runtime",
                "string",
                "ContainerRuntime Version reported by the node through runtime remote API.",
                |cx| info(cx, "containerRuntimeVersion"),
            ),
        ];
        COLUMNS
    }
}

fn or_unknown(text: &str) -> Value {
    if text.is_empty() { "<unknown>" } else { text }.into()
}

fn info(cx: &CellContext<'_>, member: &str) -> Value {
    or_unknown(json::text(cx.object, &format!("status.nodeInfo.{member}")))
}

fn kernel(cx: &CellContext<'_>) -> Value {
    let part = |name: &str| json::text(cx.object, &format!("status.nodeInfo.{name}"));
    let version = if part("kernelVersion").is_empty() {
        "<unknown>"
    } else {
        part("kernelVersion")
    };
    match part("architecture") {
        "" => version.into(),
        architecture => format!("{version} ({architecture})").into(),
    }
}

fn resources(root: &Field<'_>, causes: &mut Causes) {
    for list in ["capacity", "allocatable"] {
        for (name, value) in root.at("status").at(list).entries() {
            amount(name, &value.named(format!("status.{list}.{name}")), causes);
        }
    }
}

fn taints(list: &Field<'_>, causes: &mut Causes) {
    let mut seen = Vec::new();
    for taint in list.items() {
        let (key, value, effect) = (taint.at("key"), taint.at("value"), taint.at("effect"));
        key.problems(causes, names::qualified_name(key.text()));
        let problems = names::label_value(value.text());
        if !problems.is_empty() {
            causes.push(value.invalid(problems.join(";")));
        }
        taint_effect(&effect, causes);
        if seen.contains(&(key.text(), effect.text())) {
            let text = |field: &Field<'_>| Value::from(field.text());
            let message = format!(
                "Duplicate value: {{\"Key\":{},\"Value\":{},\"Effect\":{},\"TimeAdded\":{}}}: taints must be unique by key and effect pair",
                text(&key),
                text(&value),
                text(&effect),
                taint.at("timeAdded").value()
            );
            let cause = taint.duplicate();
            causes.push(StatusCause { message, ..cause });
        }
        seen.push((key.text(), effect.text()));
    }
}

fn address(cx: &CellContext<'_>, kind: &str) -> Value {
    let found = json::list(cx.object, "status.addresses")
        .iter()
        .find(|a| json::text(a, "type") == kind);
    found.map_or("<none>", |a| json::text(a, "address")).into()
}

fn status(cx: &CellContext<'_>) -> Value {
    let ready = json::list(cx.object, "status.conditions")
        .iter()
        .find(|c| json::text(c, "type") == "Ready");
    let mut text = match ready.map(|c| json::text(c, "status")) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if json::flag(cx.object, "spec.unschedulable") {
        text.push_str(",SchedulingDisabled");
    }
    text.into()
}

fn roles(cx: &CellContext<'_>) -> Value {
    let roles: Vec<&str> = json::members(cx.object, "metadata.labels")
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) if !role.is_empty() => Some(role),
            _ => (key == "kubernetes.io/role")
                .then(|| value.as_str().unwrap_or(""))
                .filter(|role| !role.is_empty()),
        })
        .collect();
    if roles.is_empty() {
        "<none>".into()
    } else {
        roles.join(",").into()
    }
}
