//! Kinds that differ from the plainest one only in their columns or an answer or two.

use super::{
    Strategy, columns,
    row::{ROW, Row},
};
use crate::json;
use serde_json::Value;

const COUNTED: Row = Row { counts: true, ..ROW };

static PLAIN_COUNTED: Row = COUNTED;

static AGED: Row = Row {
    columns: &[columns::NAME, columns::AGE],
    ..ROW
};

static RUNTIME_CLASSES: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("Handler", "string", "Which runtime runs the pods.", |cx| {
            columns::text(cx, "handler")
        }),
        columns::AGE,
    ],
    validate_update: |new, old, causes| {
        let (now, was) = (crate::validate::Field::root(new), crate::validate::Field::root(old));
        now.at("handler").unchanged(causes, &was.at("handler"));
    },
    ..ROW
};

static WEBHOOKS: Row = Row {
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
    ..COUNTED
};

static POLICIES: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("Validations", "integer", "How many rules there are", |cx| {
            json::list(cx.object, "spec.validations").len().into()
        }),
        columns::column(
            "ParamKind",
            "string",
            "The kind of the parameters",
            |cx| match json::get(cx.object, "spec.paramKind") {
                Some(kind) => format!("{}/{}", json::text(kind, "apiVersion"), json::text(kind, "kind")).into(),
                None => "<unset>".into(),
            },
        ),
        columns::AGE,
    ],
    ..COUNTED
};

static POLICY_BINDINGS: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("PolicyName", "string", "The policy", |cx| {
            columns::text(cx, "spec.policyName")
        }),
        columns::column("ParamRef", "string", "The parameters", |cx| {
            let part = |path| json::text(cx.object, path);
            match (part("spec.paramRef.namespace"), part("spec.paramRef.name")) {
                (_, "") => "<unset>".into(),
                ("", name) => format!("*/{name}").into(),
                (namespace, name) => format!("{namespace}/{name}").into(),
            }
        }),
        columns::AGE,
    ],
    ..COUNTED
};

static FLOW_SCHEMAS: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("PriorityLevel", "string", "Where requests queue.", |cx| {
            columns::text(cx, "spec.priorityLevelConfiguration.name")
        }),
        columns::column("MatchingPrecedence", "string", "Lower is asked first.", |cx| {
            columns::count(cx, "spec.matchingPrecedence")
        }),
        columns::column("DistinguisherMethod", "string", "What tells flows apart.", |cx| {
            columns::or_none(json::text(cx.object, "spec.distinguisherMethod.type"))
        }),
        columns::AGE,
        columns::column(
            "MissingPL",
            "string",
            "references a broken or non-existent PriorityLevelConfiguration",
            |cx| {
                let conditions = json::list(cx.object, "status.conditions").iter();
                let dangling = conditions.into_iter().find(|c| json::text(c, "type") == "Dangling");
                dangling.map_or("?", |c| json::text(c, "status")).into()
            },
        ),
    ],
    ..COUNTED
};

static PRIORITY_LEVELS: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("Type", "string", "Limited or Exempt.", |cx| {
            columns::text(cx, "spec.type")
        }),
        columns::column("NominalConcurrencyShares", "string", "The share of all seats.", |cx| {
            number_or_none(cx, "spec.limited.nominalConcurrencyShares")
        }),
        columns::column("Queues", "string", "How many queues there are.", |cx| {
            number_or_none(cx, "spec.limited.limitResponse.queuing.queues")
        }),
        columns::column("HandSize", "string", "How many queues a flow is dealt.", |cx| {
            number_or_none(cx, "spec.limited.limitResponse.queuing.handSize")
        }),
        columns::column("QueueLengthLimit", "string", "How long a queue may be.", |cx| {
            number_or_none(cx, "spec.limited.limitResponse.queuing.queueLengthLimit")
        }),
        columns::AGE,
    ],
    ..COUNTED
};

fn number_or_none(cx: &super::CellContext<'_>, path: &str) -> Value {
    json::int(cx.object, path).map_or("<none>".into(), Value::from)
}

static SERVICE_CIDRS: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("CIDRs", "string", "The ranges.", |cx| columns::joined(cx, "spec.cidrs")),
        columns::AGE,
    ],
    ..COUNTED
};

static ADDRESSES: Row = Row {
    columns: &[
        columns::NAME,
        columns::column("ParentRef", "string", "What has the address.", |cx| {
            let part = |name: &str| json::text(cx.object, &format!("spec.parentRef.{name}"));
            let dot = if part("group").is_empty() { "" } else { "." };
            let slash = if part("namespace").is_empty() { "" } else { "/" };
            format!(
                "{}{dot}{}{slash}{}/{}",
                part("resource"),
                part("group"),
                part("namespace"),
                part("name")
            )
            .into()
        }),
        columns::AGE,
    ],
    ..COUNTED
};

pub(super) fn strategy_for(group: &str, plural: &str) -> Option<&'static dyn Strategy> {
    Some(match (group, plural) {
        ("node.k8s.io", "runtimeclasses") => &RUNTIME_CLASSES,
        (_, "mutatingwebhookconfigurations" | "validatingwebhookconfigurations") => &WEBHOOKS,
        (_, "validatingadmissionpolicies") => &POLICIES,
        (_, "validatingadmissionpolicybindings") => &POLICY_BINDINGS,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &FLOW_SCHEMAS,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &PRIORITY_LEVELS,
        ("networking.k8s.io", "servicecidrs") => &SERVICE_CIDRS,
        ("networking.k8s.io", "ipaddresses") => &ADDRESSES,
        ("resource.k8s.io", "deviceclasses" | "resourceclaimtemplates") => &AGED,
        (
            "apps"
            | "batch"
            | "policy"
            | "networking.k8s.io"
            | "discovery.k8s.io"
            | "scheduling.k8s.io"
            | "admissionregistration.k8s.io"
            | "resource.k8s.io",
            _,
        ) => &PLAIN_COUNTED,
        _ => return None,
    })
}
