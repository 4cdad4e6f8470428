//! ServiceAccount: every pod runs as one, with a token volume that the agent fills.

use super::{Operation, Request, Round};
use crate::{
    cache::{EventKind, Filter, Frame, Start},
    json,
    verbs::random_suffix,
};
use futures::future::BoxFuture;
use serde_json::{Value, json};
use std::time::Duration;
use strata_meta::Status;

/// How long the account may take to appear: right after the namespace, its controller is at work.
const PATIENCE: Duration = Duration::from_secs(1);
const MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const MIRROR: &str = "kubernetes.io/config.mirror";

fn applies(request: &Request<'_>) -> bool {
    request.is("", "pods") && request.operation == Operation::Create
}

fn account_of(pod: &Value) -> &str {
    match json::text(pod, "spec.serviceAccountName") {
        "" => "default",
        name => name,
    }
}

fn is_mirror(pod: &Value) -> bool {
    json::get(pod, "metadata.annotations").is_some_and(|a| a.get(MIRROR).is_some())
}

/// Gives a new pod its account, for which it waits a little.
pub(super) fn admit<'a>(
    request: &'a Request<'a>,
    _round: &'a mut Round,
    new: Option<&'a mut Value>,
    _old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    Box::pin(async move {
        let Some(pod) = new else { return Ok(()) };
        wait(request, pod).await;
        mutate(request, pod)
    })
}

/// Waits a little for the account of a new pod.
async fn wait(request: &Request<'_>, pod: &Value) {
    if !applies(request) || is_mirror(pod) {
        return;
    }
    let accounts = request.core.resource("", "serviceaccounts");
    let name = account_of(pod);
    if accounts.get(request.namespace, name).is_some() {
        return;
    }
    let filter = Filter {
        namespace: Some(request.namespace.to_owned()),
        name: Some(name.to_owned()),
        ..Filter::default()
    };
    let Ok(mut watch) = accounts.watch(filter, Start::Initial { end_bookmark: false }, false) else {
        return;
    };
    let appears = async {
        while let Some(frame) = watch.next().await {
            if matches!(
                frame,
                Frame::Event {
                    kind: EventKind::Added,
                    ..
                }
            ) {
                break;
            }
        }
    };
    // The plugin itself says what is missing.
    let _ = tokio::time::timeout(PATIENCE, appears).await;
}

fn mutate(request: &Request<'_>, pod: &mut Value) -> Result<(), Status> {
    if !applies(request) {
        return Ok(());
    }
    if is_mirror(pod) {
        if !json::text(pod, "spec.serviceAccountName").is_empty() {
            return Err(request.forbidden_object(Some(pod), "a mirror pod may not reference service accounts"));
        }
        return Ok(());
    }
    let name = account_of(pod).to_owned();
    json::set(pod, "spec.serviceAccountName", name.as_str());
    // The deprecated name of the same field.
    json::set(pod, "spec.serviceAccount", name.as_str());
    let accounts = request.core.resource("", "serviceaccounts");
    let Some(account) = accounts.get(request.namespace, &name) else {
        let namespace = request.namespace;
        return Err(request.forbidden_object(
            Some(pod),
            format_args!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"),
        ));
    };
    let account = account.to_value().map_err(Status::internal)?;
    let mounts = json::get(pod, "spec.automountServiceAccountToken")
        .or_else(|| json::get(&account, "automountServiceAccountToken"))
        .and_then(Value::as_bool)
        .unwrap_or(true);
    if mounts {
        mount_token(pod);
    }
    if json::list(pod, "spec.imagePullSecrets").is_empty() && !json::list(&account, "imagePullSecrets").is_empty() {
        json::copy(&account, &mut *pod, "imagePullSecrets");
        if let Some(secrets) = json::remove(pod, "imagePullSecrets") {
            json::set(pod, "spec.imagePullSecrets", secrets);
        }
    }
    Ok(())
}

fn mount_token(pod: &mut Value) {
    let mut volume = json::list(pod, "spec.volumes")
        .iter()
        .map(|v| json::text(v, "name"))
        .find(|name| name.starts_with("kube-api-access-"))
        .map(str::to_owned);
    let mut used = false;
    for list in ["containers", "initContainers"] {
        let containers = pod
            .get_mut("spec")
            .and_then(|s| s.get_mut(list))
            .and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if json::list(container, "volumeMounts")
                .iter()
                .any(|m| json::text(m, "mountPath") == MOUNT)
            {
                continue;
            }
            let name = volume.get_or_insert_with(|| format!("kube-api-access-{}", random_suffix(5)));
            let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT});
            let mounts = json::object_mut(container, "")
                .entry("volumeMounts")
                .or_insert_with(|| json!([]));
            if let Some(mounts) = mounts.as_array_mut() {
                mounts.push(mount);
                used = true;
            }
        }
    }
    let Some(name) = volume.filter(|_| used) else {
        return;
    };
    if json::list(pod, "spec.volumes")
        .iter()
        .any(|v| json::text(v, "name") == name)
    {
        return;
    }
    let volumes = json::object_mut(pod, "spec")
        .entry("volumes")
        .or_insert_with(|| json!([]));
    if let Some(volumes) = volumes.as_array_mut() {
        volumes.push(token_volume(&name));
    }
}

/// The token lives an hour and 7 s, so that one refreshed at 80% never meets a server that extends it.
fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_gets_the_token_once() {
        let mut pod = json!({"spec": {"containers": [{"name": "a"}, {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT}]}]}});
        mount_token(&mut pod);
        let once = pod.clone();
        mount_token(&mut pod);
        assert_eq!(pod, once);
        assert_eq!(json::list(&pod, "spec.volumes").len(), 1);
        assert_eq!(
            pod["spec"]["containers"][0]["volumeMounts"][0]["name"],
            pod["spec"]["volumes"][0]["name"]
        );
        assert_eq!(
            pod["spec"]["containers"][1]["volumeMounts"].as_array().map(Vec::len),
            Some(1)
        );
    }
}
