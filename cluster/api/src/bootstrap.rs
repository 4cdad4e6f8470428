//! What every cluster has from its first second.

use crate::{
    Error,
    core::Core,
    verbs::{Change, Creation, Part, apply_change, create_object},
};
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_auth::{GROUP_MASTERS, UserInfo};
use strata_meta::{GroupVersion, Status};

/// Writes what is missing. Errors: the first object that is refused.
pub(crate) async fn run(core: &Arc<Core>) -> Result<(), Error> {
    let user = UserInfo::new("system:apiserver", &[GROUP_MASTERS]);
    let mut first: Vec<Value> = ["default", "kube-system", "kube-public", "kube-node-lease"]
        .iter()
        .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))
        .collect();
    first.extend(priority_classes());
    let cluster_wide = |v: &Value| v["metadata"].get("namespace").is_none();
    let (cluster, namespaced): (Vec<Value>, Vec<Value>) =
        strata_auth::bootstrap_policy().into_iter().partition(cluster_wide);
    first.extend(cluster);
    ensure_all(core, &user, first).await?;
    ensure_all(core, &user, namespaced).await?;
    crate::flow::maintain(core).await;
    for object in kubernetes_service(core)
        .into_iter()
        .chain([extension_authentication(core)])
    {
        ensure(core, &user, object, true).await?;
    }
    Ok(())
}

/// Brings back the way to the API for pods, should somebody have removed it.
pub(crate) async fn maintain(core: &Arc<Core>) {
    crate::flow::maintain(core).await;
    let user = UserInfo::new("system:apiserver", &[GROUP_MASTERS]);
    if core
        .resource("", "configmaps")
        .get("kube-system", EXTENSION_AUTHENTICATION)
        .is_none()
        && let Err(error) = ensure(core, &user, extension_authentication(core), false).await
    {
        tracing::warn!(%error, "what extension API servers read cannot be brought back yet");
    }
    if core.resource("", "services").get("default", "kubernetes").is_some() {
        return;
    }
    let user = UserInfo::new("system:apiserver", &[GROUP_MASTERS]);
    for object in kubernetes_service(core) {
        if let Err(error) = ensure(core, &user, object, false).await {
            tracing::warn!(%error, "the kubernetes service cannot be brought back yet");
        }
    }
}

async fn ensure_all(core: &Arc<Core>, user: &UserInfo, objects: Vec<Value>) -> Result<(), Error> {
    try_join_all(objects.into_iter().map(|object| ensure(core, user, object, false))).await?;
    Ok(())
}

fn priority_classes() -> Vec<Value> {
    let class = |name: &str, value: i64, what: &str| {
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}, "value": value,
            "preemptionPolicy": "PreemptLowerPriority", "description": format!("Used for system critical pods that must {what}")})
    };
    vec![
        class(
            "system-node-critical",
            2_000_001_000,
            "not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// The config map that extension API servers read.
const EXTENSION_AUTHENTICATION: &str = "extension-apiserver-authentication";

/// By whom extension API servers let themselves be told who asks.
fn extension_authentication(core: &Core) -> Value {
    let mut data = json!({"client-ca-file": core.ca_pem});
    if let (Some(ca), Some(believed)) = (core.aggregator.front_proxy_ca(), core.authenticator.proxies()) {
        let list = |names: &[String]| json!(names).to_string();
        for (key, value) in [
            ("requestheader-client-ca-file", ca.to_owned()),
            ("requestheader-allowed-names", list(&believed.allowed_names)),
            ("requestheader-username-headers", list(&believed.names)),
            ("requestheader-uid-headers", list(&believed.uids)),
            ("requestheader-group-headers", list(&believed.groups)),
            ("requestheader-extra-headers-prefix", list(&believed.extra_prefixes)),
        ] {
            data[key] = json!(value);
        }
    }
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": EXTENSION_AUTHENTICATION, "namespace": "kube-system"}, "data": data})
}

/// How clients inside the cluster reach the API.
fn kubernetes_service(core: &Core) -> Vec<Value> {
    let (address, port) = (core.advertise.ip().to_string(), core.advertise.port());
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let mut objects = vec![json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"type": "ClusterIP", "clusterIP": core.services.first().to_string(), "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}]},
    })];
    // An address that only this machine can reach is no endpoint (upstream's validation refuses it too).
    if core.advertise.ip().is_loopback() || core.advertise.ip().is_unspecified() {
        return objects;
    }
    objects.push(json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    }));
    objects.push(json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": if core.advertise.is_ipv4() { "IPv4" } else { "IPv6" },
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }));
    objects
}

/// Creates an object unless it is there; `overwrite` then brings it to this state.
async fn ensure(core: &Arc<Core>, user: &UserInfo, object: Value, overwrite: bool) -> Result<(), Error> {
    let text = |path: &str| crate::json::text(&object, path).to_owned();
    let (kind, namespace, name) = (text("kind"), text("metadata.namespace"), text("metadata.name"));
    let what = format!("{kind} {namespace}/{name}");
    let refused = |status: Status| Error::Bootstrap {
        what: what.clone(),
        status: Box::new(status),
    };
    let version = GroupVersion::parse(&text("apiVersion")).unwrap_or(GroupVersion::new("", "v1"));
    let rows = core.registry.rows();
    let row = rows.iter().find(|r| *r.gvk == version.kind(&kind));
    let row = row.ok_or_else(|| refused(Status::path_not_found()))?;
    if crate::verbs::find(row, &namespace, &name).is_err() {
        let creation = Creation::own(core, user, row, &namespace);
        return match create_object(&creation, object, &mut Vec::new()).await {
            Err(status) if !status.is_already_exists() => Err(refused(status)),
            _ => Ok(()),
        };
    }
    if !overwrite {
        return Ok(());
    }
    let change = Change::own(core, user, row, (&namespace, &name), Part::Main);
    let mut unheard = Vec::new();
    let made = apply_change(&change, &mut unheard, |old, _| {
        let mut new = old.clone();
        crate::json::remove(&mut new, "metadata.resourceVersion");
        for (member, value) in object
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(m, _)| *m != "metadata" && *m != "spec")
        {
            crate::json::set(&mut new, member, value.clone());
        }
        for (member, value) in crate::json::members(&object, "spec") {
            crate::json::set(&mut new, &format!("spec.{member}"), value.clone());
        }
        row.schema.apply_defaults(&row.gvk, &mut new);
        Ok(new)
    });
    match made.await {
        Ok(_) => Ok(()),
        // The service range has changed: the address of the service stays what pods were told.
        Err(status) if kind == "Service" => {
            tracing::warn!(%status, "the kubernetes service stays as it is");
            Ok(())
        }
        Err(status) => Err(refused(status)),
    }
}
