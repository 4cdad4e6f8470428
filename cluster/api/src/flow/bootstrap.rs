//! The objects that every cluster has, brought back when they are gone or changed, and conditions of FlowSchemas.

use crate::{
    core::Core,
    json,
    registry::Row,
    tracking::{self, Tracked},
    verbs::{Change, Creation, Part, apply_change, create_object, find},
};
use futures::future::join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_auth::{
    GROUP_AUTHENTICATED, GROUP_MASTERS, GROUP_NODES, GROUP_SERVICE_ACCOUNTS, GROUP_UNAUTHENTICATED, UserInfo,
};
use strata_meta::{Status, Time};
use strata_schema::apply::{self, Write};

/// `true`: the server keeps the spec as it should be; set to `false` by who wants another.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Who writes the objects, and who says what has become of them (upstream's names).
const MANAGER: &str = "api-priority-and-fairness-config-producer-v1";
const CONSUMER: &str = "api-priority-and-fairness-config-consumer-v1";
const EVERYBODY: [&str; 2] = [GROUP_UNAUTHENTICATED, GROUP_AUTHENTICATED];

/// Those without which the server would not know where to put a request.
pub(super) fn mandatory() -> impl Iterator<Item = Value> {
    let levels = [
        object(
            "PriorityLevelConfiguration",
            "exempt",
            json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        object(
            "PriorityLevelConfiguration",
            "catch-all",
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}}),
        ),
    ];
    let schemas = [
        schema("exempt", "exempt", 1, "", &groups(&[GROUP_MASTERS]), everything()),
        schema(
            "catch-all",
            "catch-all",
            10000,
            "ByUser",
            &groups(&EVERYBODY),
            everything(),
        ),
    ];
    levels.into_iter().chain(schemas)
}

fn suggested() -> impl Iterator<Item = Value> {
    let levels = [
        ("system", 30, 33, (64, 6)),
        ("node-high", 40, 25, (64, 6)),
        ("leader-election", 10, 0, (16, 4)),
        ("workload-high", 40, 50, (128, 6)),
        ("workload-low", 100, 90, (128, 6)),
        ("global-default", 20, 50, (128, 6)),
    ];
    let levels = levels.map(|(name, shares, lendable, (queues, hand))| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing}});
        object(
            "PriorityLevelConfiguration",
            name,
            json!({"type": "Limited", "limited": limited}),
        )
    });
    let users = |names: &[&str]| -> Vec<Value> {
        names
            .iter()
            .map(|n| json!({"kind": "User", "user": {"name": n}}))
            .collect()
    };
    let accounts = || json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}});
    let (manager, scheduler) = ("system:kube-controller-manager", "system:kube-scheduler");
    let leases = |verbs: Value| resource_rule(&verbs, "coordination.k8s.io", json!(["leases"]), false);
    let probes =
        json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    let own_node = json!({"resourceRules": [
        resource_rule(&json!(["*"]), "", json!(["nodes", "nodes/status"]), true), leases(json!(["*"]))]});
    let elections = json!({"resourceRules": [leases(json!(["get", "create", "update"]))]});
    let electors = [users(&[manager, scheduler]), vec![accounts()]].concat();
    let schemas = [
        schema("probes", "exempt", 2, "", &groups(&EVERYBODY), probes),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            &electors,
            elections,
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            "ByUser",
            &groups(&[GROUP_NODES]),
            own_node,
        ),
        schema(
            "system-nodes",
            "system",
            500,
            "ByUser",
            &groups(&[GROUP_NODES]),
            everything(),
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            &users(&[manager]),
            everything(),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            "ByNamespace",
            &users(&[scheduler]),
            everything(),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            &[accounts()],
            everything(),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            "ByUser",
            &groups(&[GROUP_SERVICE_ACCOUNTS]),
            everything(),
        ),
        schema(
            "global-default",
            "global-default",
            9900,
            "ByUser",
            &groups(&EVERYBODY),
            everything(),
        ),
    ];
    levels.into_iter().chain(schemas)
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "spec": spec,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}}})
}

fn schema(name: &str, level: &str, precedence: i64, distinguisher: &str, subjects: &[Value], mut rule: Value) -> Value {
    rule["subjects"] = json!(subjects);
    let mut spec =
        json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule]});
    if !distinguisher.is_empty() {
        spec["distinguisherMethod"] = json!({"type": distinguisher});
    }
    object("FlowSchema", name, spec)
}

fn groups(names: &[&str]) -> Vec<Value> {
    names
        .iter()
        .map(|n| json!({"kind": "Group", "group": {"name": n}}))
        .collect()
}

fn resource_rule(verbs: &Value, group: &str, resources: Value, cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn everything() -> Value {
    json!({"resourceRules": [resource_rule(&json!(["*"]), "*", json!(["*"]), true)],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
}

/// Creates what is missing and restores what was changed by accident. Errors are logged; the next time helps.
pub(crate) async fn maintain(core: &Arc<Core>) {
    let user = UserInfo::new("system:apiserver", &[GROUP_MASTERS]);
    let is_mandatory = mandatory().map(|o| (o, true));
    let all = is_mandatory.chain(suggested().map(|o| (o, false)));
    // Together: the store makes writes that come at the same time durable at once.
    let restored = all.map(|(object, must)| {
        let user = &user;
        async move {
            if let Err(status) = restore(core, user, &object, must).await {
                let name = json::text(&object, "metadata.name");
                tracing::warn!(%status, name, "flow control cannot be set up yet");
            }
        }
    });
    join_all(restored).await;
}

async fn restore(core: &Arc<Core>, user: &UserInfo, object: &Value, must: bool) -> Result<(), Status> {
    let plural = match json::text(object, "kind") {
        "FlowSchema" => "flowschemas",
        _ => "prioritylevelconfigurations",
    };
    let name = json::text(object, "metadata.name");
    let row = core
        .registry
        .get(GROUP, "v1", plural)
        .ok_or_else(Status::path_not_found)?;
    let Ok(stored) = find(&row, "", name) else {
        let creation = Creation {
            core,
            user,
            row: &row,
            namespace: "",
            manager: Some(MANAGER),
            dry_run: false,
        };
        let made = create_object(&creation, object.clone(), &mut Vec::new()).await;
        return match made {
            Err(status) if !status.is_already_exists() => Err(status),
            _ => Ok(()),
        };
    };
    let stored = stored.to_value().map_err(Status::internal)?;
    let automatic = stored["metadata"]["annotations"][AUTO_UPDATE] != "false";
    let mut wanted = object.clone();
    row.schema.apply_defaults(&row.gvk, &mut wanted);
    if (!must && !automatic) || wanted["spec"] == stored["spec"] {
        return Ok(());
    }
    respec(core, user, &row, name, &wanted["spec"]).await
}

/// Writes the spec of an object as its producer.
async fn respec(core: &Arc<Core>, user: &UserInfo, row: &Arc<Row>, name: &str, spec: &Value) -> Result<(), Status> {
    let change = Change {
        manager: Some(MANAGER),
        ..Change::own(core, user, row, ("", name), Part::Main)
    };
    let mut unheard = Vec::new();
    let made = apply_change(&change, &mut unheard, |old, _| {
        let mut new = old.clone();
        new["spec"] = spec.clone();
        Ok(new)
    });
    made.await.map(drop)
}

/// Applies the condition of a FlowSchema as its consumer.
async fn set_condition(
    core: &Arc<Core>,
    user: &UserInfo,
    row: &Arc<Row>,
    name: &str,
    condition: &Value,
) -> Result<(), Status> {
    let change = Change {
        manager: None,
        ..Change::own(core, user, row, ("", name), Part::Status)
    };
    let config = json!({"apiVersion": row.gvk.api_version(), "kind": row.gvk.kind,
        "metadata": {"name": name}, "status": {"conditions": [condition]}});
    let tracked = Tracked::of(core, row);
    let write = Write {
        kind: tracked.kind(),
        manager: CONSUMER,
        subresource: "status",
        filter: tracking::filter(row, "status"),
        now: Time::now(),
    };
    let mut unheard = Vec::new();
    let made = apply_change(&change, &mut unheard, |old, _| {
        let mut new = apply::apply(&write, Some(old), &config, true).map_err(Status::internal)?;
        json::remove(&mut new, "metadata.resourceVersion");
        Ok(new)
    });
    made.await.map(drop)
}

/// Says of each FlowSchema whether its level exists.
pub(super) async fn conditions(core: &Arc<Core>) {
    let user = UserInfo::new("system:apiserver", &[GROUP_MASTERS]);
    let levels = core.resource(GROUP, "prioritylevelconfigurations");
    let Some(row) = core.registry.get(GROUP, "v1", "flowschemas") else {
        return;
    };
    for object in core.resource(GROUP, "flowschemas").objects(None) {
        let Ok(value) = object.to_value() else { continue };
        let level = json::text(&value, "spec.priorityLevelConfiguration.name");
        let (status, reason, rest) = match levels.get("", level) {
            Some(_) => ("False", "Found", "it exists"),
            None => ("True", "NotFound", "there is no such object"),
        };
        let join = if status == "False" { "and" } else { "but" };
        let message =
            format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {join} {rest}");
        let conditions = json::list(&value, "status.conditions");
        let known = conditions.iter().find(|c| json::text(c, "type") == "Dangling");
        if known.is_some_and(|c| c["status"] == status && c["reason"] == reason && c["message"] == message.as_str()) {
            continue;
        }
        let wanted = json!({"type": "Dangling", "status": status, "reason": reason, "message": message,
            "lastTransitionTime": Time::now()});
        if let Err(status) = set_condition(core, &user, &row, object.name(), &wanted).await
            && !status.is_not_found()
        {
            tracing::warn!(%status, name = object.name(), "the condition of a FlowSchema cannot be written yet");
        }
    }
}
