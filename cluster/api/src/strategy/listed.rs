//! Kinds that differ from the plainest one only in their columns or an answer or two.

use super::{
    Strategy, admission, columns,
    row::{ROW, Row},
};
use crate::json;
use serde_json::Value;

const COUNTED: Row = Row { counts: true, ..ROW };

static PLAIN_COUNTED: Row = COUNTED;

static WEBHOOKS: Row = Row {
    unconditional: false,
    columns: &[
        columns::NAME,
        columns::column(
            "Webhooks",
            "integer",
            "Webhooks indicates the number of webhooks registered in this configuration",
            |cx| json::list(cx.object, "webhooks").len().into(),
        ),
        columns::AGE,
    ],
    validate: admission::webhooks,
    ..COUNTED
};

const PARAM_KIND: columns::Column =
    columns::column(
        "ParamKind",
        "string",
        "The kind of the parameters",
        |cx| match json::get(cx.object, "spec.paramKind") {
            Some(kind) => format!("{}/{}", json::text(kind, "apiVersion"), json::text(kind, "kind")).into(),
            None => "<unset>".into(),
        },
    );

static POLICIES: Row = Row {
    unconditional: false,
    columns: &[
        columns::NAME,
        columns::column("Validations", "integer", "How many rules there are", |cx| {
            json::list(cx.object, "spec.validations").len().into()
        }),
        PARAM_KIND,
        columns::AGE,
    ],
    validate: admission::validating_policy,
    ..COUNTED
};

const BINDING: &[columns::Column] = &[
    columns::NAME,
    columns::column("PolicyName", "string", "The policy", |cx| {
        columns::text(cx, "spec.policyName")
    }),
    columns::column("ParamRef", "string", "The parameters", |cx| {
        let part = |path| json::text(cx.object, path);
        match (part("spec.paramRef.namespace"), part("spec.paramRef.name")) {
            (_, "") => columns::go_selector(json::get(cx.object, "spec.paramRef.selector")),
            ("", name) => format!("*/{name}").into(),
            (namespace, name) => format!("{namespace}/{name}").into(),
        }
    }),
    columns::AGE,
];

static POLICY_BINDINGS: Row = Row {
    unconditional: false,
    columns: BINDING,
    validate: admission::validating_binding,
    ..COUNTED
};

static MUTATING_POLICIES: Row = Row {
    unconditional: false,
    columns: &[
        columns::NAME,
        columns::column("Mutations", "integer", "How many changes there are", |cx| {
            json::list(cx.object, "spec.mutations").len().into()
        }),
        PARAM_KIND,
        columns::AGE,
    ],
    validate: admission::mutating_policy,
    ..COUNTED
};

static MUTATING_BINDINGS: Row = Row {
    unconditional: false,
    columns: BINDING,
    validate: admission::mutating_binding,
    ..COUNTED
};

/// The one condition of a component.
fn healthy(component: &Value) -> Option<&Value> {
    let conditions = json::list(component, "conditions");
    conditions
        .iter()
        .find(|condition| json::text(condition, "type") == "Healthy")
}

static COMPONENTS: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("Status", "string", "Status of the component conditions", |cx| {
            healthy(cx.object)
                .map_or("Unknown", |condition| match json::text(condition, "status") {
                    "True" => "Healthy",
                    _ => "Unhealthy",
                })
                .into()
        }),
        columns::column("Message", "string", "Message of the component conditions", |cx| {
            healthy(cx.object)
                .map_or("", |condition| json::text(condition, "message"))
                .into()
        }),
        columns::column("Error", "string", "Error of the component conditions", |cx| {
            healthy(cx.object)
                .map_or("", |condition| json::text(condition, "error"))
                .into()
        }),
    ],
    ..ROW
};

pub(super) fn strategy_for(group: &str, plural: &str) -> Option<&'static dyn Strategy> {
    Some(match (group, plural) {
        ("", "componentstatuses") => &COMPONENTS,
        (_, "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => &WEBHOOKS,
        (_, "mutatingadmissionpolicies") => &MUTATING_POLICIES,
        (_, "mutatingadmissionpolicybindings") => &MUTATING_BINDINGS,
        (_, "validatingadmissionpolicies") => &POLICIES,
        (_, "validatingadmissionpolicybindings") => &POLICY_BINDINGS,
        (
            "apps"
            | "batch"
            | "policy"
            | "networking.k8s.io"
            | "discovery.k8s.io"
            | "scheduling.k8s.io"
            | "admissionregistration.k8s.io",
            _,
        ) => &PLAIN_COUNTED,
        _ => return None,
    })
}
