//! ServiceAccount: every pod runs as one, with a token volume that the agent fills.

use super::{Operation, Request, Round, references};
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
/// An account with this annotation is for what it names only.
const ENFORCED: &str = "kubernetes.io/enforce-mountable-secrets";
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
        return check_mirror(request, pod);
    }
    let name = account_of(pod).to_owned();
    json::set(pod, "spec.serviceAccountName", name.as_str());
    // The deprecated name of the same field.
    json::set(pod, "spec.serviceAccount", name.as_str());
    let account = find_account(request, pod, &name)?;
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

/// A pod that an agent runs by itself names nothing of the API.
fn check_mirror(request: &Request<'_>, pod: &Value) -> Result<(), Status> {
    let refuse = |why: &str| Err(request.forbidden_object(Some(pod), why));
    if !json::text(pod, "spec.serviceAccountName").is_empty() {
        return refuse("a mirror pod may not reference service accounts");
    }
    if references::names_secrets(pod) {
        return refuse("a mirror pod may not reference secrets");
    }
    let mut sources = json::list(pod, "spec.volumes")
        .iter()
        .flat_map(|volume| json::list(volume, "projected.sources"));
    if sources.any(|source| source.get("serviceAccountToken").is_some()) {
        return refuse("a mirror pod may not use ServiceAccountToken volume projections");
    }
    Ok(())
}

fn find_account(request: &Request<'_>, pod: &Value, name: &str) -> Result<Value, Status> {
    let namespace = request.namespace;
    match request.core.resource("", "serviceaccounts").get(namespace, name) {
        Some(account) => account.to_value().map_err(Status::internal),
        None => Err(request.forbidden_object(
            Some(pod),
            format_args!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"),
        )),
    }
}

/// Judges what others have made of the pod, and what containers that join it later refer to.
pub(super) fn check(request: &Request<'_>, new: Option<&Value>, _old: Option<&Value>) -> Result<(), Status> {
    let Some(pod) = new.filter(|_| request.is_row("", "pods")) else {
        return Ok(());
    };
    let creates = applies(request);
    let joins = (request.operation, request.subresource) == (Operation::Update, "ephemeralcontainers");
    if !creates && !joins {
        return Ok(());
    }
    if creates && is_mirror(pod) {
        return check_mirror(request, pod);
    }
    let name = json::text(pod, "spec.serviceAccountName");
    if name.is_empty() {
        let (namespace, pod_name) = (request.namespace, json::text(pod, "metadata.name"));
        let why = format!("no service account specified for pod {namespace}/{pod_name}");
        return Err(request.forbidden_object(new, why));
    }
    let account = find_account(request, pod, name)?;
    let enforced = json::get(&account, "metadata.annotations")
        .and_then(|a| a.get(ENFORCED))
        .and_then(Value::as_str);
    if !matches!(enforced, Some("1" | "t" | "T" | "true" | "TRUE" | "True")) {
        return Ok(());
    }
    match foreign_secret(pod, &account, joins) {
        None => Ok(()),
        Some(why) if creates => Err(request.forbidden_object(new, why)),
        Some(why) => {
            let mut status = Status::failure(strata_meta::Reason::Unknown, why);
            status.code = 500;
            Err(status)
        }
    }
}

/// What the pod refers to without its account doing so too, as a sentence.
fn foreign_secret(pod: &Value, account: &Value, joins: bool) -> Option<String> {
    let account_name = json::text(account, "metadata.name");
    let known = |list: &str, name: &str| json::list(account, list).iter().any(|s| json::text(s, "name") == name);
    let tail = format!("is not allowed because service account {account_name} does not reference that");
    let lists: &[(&str, &str)] = match joins {
        true => &[("spec.ephemeralContainers", "ephemeral container")],
        false => &[
            ("spec.initContainers", "init container"),
            ("spec.containers", "container"),
        ],
    };
    if !joins {
        for volume in json::list(pod, "spec.volumes") {
            let Some(secret) = json::get(volume, "secret") else {
                continue;
            };
            let name = json::text(secret, "secretName");
            if !known("secrets", name) {
                return Some(format!("volume with secret.secretName=\"{name}\" {tail} secret"));
            }
        }
    }
    for (list, what) in lists {
        for container in json::list(pod, list) {
            let own = json::text(container, "name");
            for variable in json::list(container, "env") {
                if let Some(secret) = json::get(variable, "valueFrom.secretKeyRef")
                    && !known("secrets", json::text(secret, "name"))
                {
                    let (variable, secret) = (json::text(variable, "name"), json::text(secret, "name"));
                    return Some(format!(
                        "{what} {own} with envVar {variable} referencing secret.secretName=\"{secret}\" {tail} secret"
                    ));
                }
            }
            for source in json::list(container, "envFrom") {
                if let Some(secret) = json::get(source, "secretRef")
                    && !known("secrets", json::text(secret, "name"))
                {
                    let secret = json::text(secret, "name");
                    return Some(format!(
                        "{what} {own} with envFrom referencing secret.secretName=\"{secret}\" {tail} secret"
                    ));
                }
            }
        }
    }
    let pulls = json::list(pod, "spec.imagePullSecrets").iter().enumerate();
    pulls
        .map(|(at, secret)| (at, json::text(secret, "name")))
        .find(|(_, name)| !joins && !known("imagePullSecrets", name))
        .map(|(at, name)| format!("imagePullSecrets[{at}].name=\"{name}\" {tail} imagePullSecret"))
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
