//! Node.

use super::{CellContext, Column, Strategy, columns};
use crate::{cache::FieldPath, json};
use serde_json::Value;

pub(super) struct Node;

impl Strategy for Node {
    fn keeps_status_on_create(&self) -> bool {
        true
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
                info(cx, "kubeletVersion")
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
                |cx| info(cx, "kernelVersion"),
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
            _ => (key == "kubernetes.io/role").then(|| value.as_str().unwrap_or("")),
        })
        .collect();
    if roles.is_empty() {
        "<none>".into()
    } else {
        roles.join(",").into()
    }
}
