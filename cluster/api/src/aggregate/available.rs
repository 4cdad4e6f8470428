//! Whether extension API servers answer: checks, and the condition they give.

use super::{Remote, document, local};
use crate::{
    core::Core,
    json,
    verbs::{Change, Part, apply_change},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use strata_auth::{GROUP_MASTERS, UserInfo};
use strata_meta::{Status, Time};

/// How often everything is checked without a change (upstream's resync).
const RESYNC: Duration = Duration::from_secs(30);
/// How soon a failed check is repeated, at first; then twice as long, up to the resync.
const RETRY: Duration = Duration::from_millis(250);
/// Checks at a time.
const CHECKS: usize = 8;

/// An answer for the condition `Available`.
struct Outcome {
    status: &'static str,
    reason: &'static str,
    message: String,
}

/// Registers what the server serves and checks what others serve, until the server stops.
pub(crate) async fn keep(core: Arc<Core>) {
    let mut rows = core.registry.changes();
    let mut pause = RETRY;
    loop {
        // What is written while the server stops is never read back, so it is not waited for.
        let Some(failed) = core.cancel.run_until_cancelled(round(&core)).await else {
            return;
        };
        pause = if failed { (pause * 2).min(RESYNC) } else { RETRY };
        let wait = if failed { pause } else { RESYNC };
        tokio::select! {
            () = core.cancel.cancelled() => return,
            () = core.aggregator.changed.notified() => pause = RETRY,
            _ = rows.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
}

/// Registers and checks once; whether a check failed.
async fn round(core: &Arc<Core>) -> bool {
    local::register(core).await;
    stream::iter(core.aggregator.all())
        .map(|remote| follow(core, remote))
        .buffer_unordered(CHECKS)
        .any(|passed| async move { !passed })
        .await
}

/// Checks one server and writes down what was found; whether it answers.
async fn follow(core: &Arc<Core>, remote: Arc<Remote>) -> bool {
    let outcome = check(core, &remote).await;
    let passed = outcome.status == "True";
    if passed {
        document::refresh(core, &remote).await;
    }
    if let Err(status) = write(core, &remote, &outcome).await
        && !status.is_not_found()
    {
        tracing::warn!(%status, service = remote.name, "the condition of an APIService cannot be written");
        return false;
    }
    passed
}

async fn check(core: &Arc<Core>, remote: &Remote) -> Outcome {
    let failed = |reason, message| Outcome {
        status: "False",
        reason,
        message,
    };
    let (namespace, name) = (&remote.namespace, &remote.service);
    let Some(service) = core.resource("", "services").get(namespace, name) else {
        return failed(
            "ServiceNotFound",
            format!("service/{name} in {namespace:?} is not present"),
        );
    };
    let service = match service.to_value() {
        Ok(value) => value,
        Err(why) => {
            return failed(
                "ServiceAccessError",
                format!("service/{name} in {namespace:?} cannot be checked due to: {why}"),
            );
        }
    };
    if json::text(&service, "spec.type") == "ClusterIP"
        && let Err((reason, message)) = endpoints(core, remote, &service)
    {
        return failed(reason, message);
    }
    match document::check(core, remote).await {
        Ok(()) => Outcome {
            status: "True",
            reason: "Passed",
            message: "all checks passed".into(),
        },
        Err(why) => failed("FailedDiscoveryCheck", why),
    }
}

/// Whether the service has the port and somebody behind it.
fn endpoints(core: &Core, remote: &Remote, service: &Value) -> Result<(), (&'static str, String)> {
    let (namespace, name) = (&remote.namespace, &remote.service);
    let ports = json::list(service, "spec.ports");
    let port = ports
        .iter()
        .find(|p| json::int(p, "port") == Some(remote.port.into()))
        .ok_or_else(|| {
            let why = format!(
                "service/{name} in {namespace:?} is not listening on port {}",
                remote.port
            );
            ("ServicePortError", why)
        })?;
    let port = json::text(port, "name");
    let slices: Vec<Value> = core
        .resource("discovery.k8s.io", "endpointslices")
        .objects(Some(namespace))
        .filter(|slice| slice.label("kubernetes.io/service-name") == Some(name))
        .filter_map(|slice| slice.to_value().ok())
        .collect();
    if slices.is_empty() {
        let why = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Err(("EndpointsNotFound", why));
    }
    let serves = |slice: &Value| {
        let ready = |e: &Value| json::get(e, "conditions.ready").is_none_or(|r| r != false);
        json::list(slice, "endpoints").iter().any(ready)
            && json::list(slice, "ports")
                .iter()
                .any(|p| json::text(p, "name") == port && json::int(p, "port").is_some())
    };
    if slices.iter().any(serves) {
        return Ok(());
    }
    let why = format!("endpointslices for service/{name} in {namespace:?} have no addresses with port name {port:?}");
    Err(("MissingEndpoints", why))
}

async fn write(core: &Arc<Core>, remote: &Remote, outcome: &Outcome) -> Result<(), Status> {
    let rows = core.registry.rows();
    let row = rows.get("apiregistration.k8s.io", "v1", "apiservices");
    let row = row.ok_or_else(Status::path_not_found)?;
    let stored = crate::verbs::find(row, "", &remote.name)?
        .to_value()
        .map_err(Status::internal)?;
    if !set_condition(&mut stored.clone(), outcome) {
        return Ok(());
    }
    if outcome.status == "False" && remote.available {
        let reason = &outcome.reason;
        core.metrics.unavailable.with([&remote.name, reason]).inc();
    }
    let user = UserInfo::new("system:kube-aggregator", &[GROUP_MASTERS]);
    let change = Change::own(core, &user, row, ("", &remote.name), Part::Status);
    let mut unheard = Vec::new();
    let made = apply_change(&change, &mut unheard, |old, _| {
        let mut new = old.clone();
        set_condition(&mut new, outcome);
        Ok(new)
    });
    made.await.map(drop)
}

/// Brings the condition to an outcome; whether anything changed. The time moves only when the status does.
fn set_condition(object: &mut Value, outcome: &Outcome) -> bool {
    let mut wanted = json!({"type": "Available", "status": outcome.status, "lastTransitionTime": Time::now(),
        "reason": outcome.reason, "message": outcome.message});
    let mut conditions = json::list(object, "status.conditions").to_vec();
    match conditions.iter_mut().find(|c| json::text(c, "type") == "Available") {
        Some(known) => {
            if json::text(known, "status") == outcome.status {
                wanted["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            if *known == wanted {
                return false;
            }
            *known = wanted;
        }
        None => conditions.push(wanted),
    }
    json::set(object, "status.conditions", conditions);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_until_its_status_changes() {
        let outcome = |status, message: &str| Outcome {
            status,
            reason: "Passed",
            message: message.into(),
        };
        let mut object = json!({"status": {"conditions": [
            {"type": "Available", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z", "reason": "Passed", "message": "a"},
            {"type": "Other", "status": "True"},
        ]}});
        assert!(!set_condition(&mut object, &outcome("True", "a")));
        assert!(set_condition(&mut object, &outcome("True", "b")));
        assert_eq!(
            object["status"]["conditions"][0]["lastTransitionTime"],
            "2020-01-01T00:00:00Z"
        );
        assert!(set_condition(&mut object, &outcome("False", "b")));
        assert_ne!(
            object["status"]["conditions"][0]["lastTransitionTime"],
            "2020-01-01T00:00:00Z"
        );
        assert_eq!(object["status"]["conditions"].as_array().map(Vec::len), Some(2));
    }
}
