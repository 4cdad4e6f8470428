//! /healthz, /livez, /readyz, /version, and the way to /metrics, /statusz and /flagz.

use crate::{
    core::Core,
    encode::{JSON, Negotiated, text_response, value_response},
    metrics,
    pipeline::Call,
    zpages,
};
use http::Response;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use strata_http::Body;

/// The API's version and ours.
pub const GIT_VERSION: &str = concat!("v1.36.3+strata", env!("CARGO_PKG_VERSION"));

/// What `/version` and the aggregated documents say: the API's version and ours.
pub(crate) fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "go1.26",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, architecture()),
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Answers if the path is one of these.
pub(crate) async fn serve(call: &Call) -> Option<Response<Body>> {
    let path = call.info.path.trim_end_matches('/');
    let response = match path {
        // As upstream, in JSON whatever the caller accepts.
        "/version" => value_response(200, &version(), Negotiated { pretty: true, ..JSON }),
        "/metrics" => metrics::serve(call),
        "/metrics/slis" => metrics::slis(call),
        "/statusz" => zpages::status(call),
        "/flagz" => zpages::flags(call),
        _ => {
            let (endpoint, check) = path
                .strip_prefix('/')?
                .split_once('/')
                .map_or((&path[1..], None), |(e, c)| (e, Some(c)));
            let endpoint = ["healthz", "livez", "readyz"].into_iter().find(|e| *e == endpoint)?;
            checks(call, endpoint, check).await?
        }
    };
    Some(response)
}

/// What upstream's server does once after its start, as far as this one does it too: done when it is started.
const STEPS: [&str; 22] = [
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/generic-apiserver-start-informers",
    "poststarthook/priority-and-fairness-config-consumer",
    "poststarthook/priority-and-fairness-filter",
    "poststarthook/start-apiextensions-informers",
    "poststarthook/start-apiextensions-controllers",
    "poststarthook/crd-informer-synced",
    "poststarthook/start-system-namespaces-controller",
    "poststarthook/start-cluster-authentication-info-controller",
    "poststarthook/start-kube-apiserver-identity-lease-controller",
    "poststarthook/start-kube-apiserver-identity-lease-garbage-collector",
    "poststarthook/storage-readiness",
    "poststarthook/start-service-ip-repair-controllers",
    "poststarthook/rbac/bootstrap-roles",
    "poststarthook/scheduling/bootstrap-system-priority-classes",
    "poststarthook/priority-and-fairness-config-producer",
    "poststarthook/bootstrap-controller",
    "poststarthook/start-kubernetes-service-cidr-controller",
    "poststarthook/apiservice-registration-controller",
    "poststarthook/apiservice-discovery-controller",
    "poststarthook/kube-apiserver-autoregistration",
    "autoregister-completion",
];

/// What is behind an endpoint, in upstream's order; a failed check says why.
async fn checked(core: &Core, endpoint: &str) -> Vec<(&'static str, Result<(), String>)> {
    let holds = |ok: bool, why: &str| if ok { Ok(()) } else { Err(why.to_owned()) };
    let follows = holds(core.is_alive(), "the cache does not follow the store");
    let ready = endpoint == "readyz";
    let mut all = vec![("ping", Ok(())), ("log", Ok(())), ("etcd", follows.clone())];
    if ready {
        all.push(("etcd-readiness", follows.clone()));
        all.push(("informer-sync", follows));
    }
    let started = holds(core.is_started(), "not finished");
    all.extend(STEPS.iter().map(|step| (*step, started.clone())));
    if let Some(encryption) = &core.encryption
        && let Some(said) = encryption.check().await
    {
        all.push(("kms-providers", said.map_err(|why| why.to_string())));
    }
    if ready {
        all.push(("shutdown", holds(!core.is_leaving(), "process is shutting down")));
    }
    all
}

/// The paths of the checks and their endpoints.
pub(crate) fn paths() -> impl Iterator<Item = String> {
    ["healthz", "livez", "readyz"].into_iter().flat_map(|endpoint| {
        let more: &[&str] = match endpoint {
            "readyz" => &["etcd-readiness", "informer-sync", "shutdown"],
            _ => &[],
        };
        let names = ["ping", "log", "etcd"].iter().chain(more).chain(&STEPS);
        let below = names.map(move |name| format!("/{endpoint}/{name}"));
        std::iter::once(format!("/{endpoint}")).chain(below).collect::<Vec<_>>()
    })
}

/// One check, or all of an endpoint.
async fn checks(call: &Call, endpoint: &'static str, only: Option<&str>) -> Option<Response<Body>> {
    let all = checked(&call.core, endpoint).await;
    if let Some(only) = only {
        let (_, outcome) = all.into_iter().find(|(name, _)| *name == only)?;
        return Some(match outcome {
            Err(why) => text_response(500, format!("internal server error: {why}\n")),
            Ok(()) => {
                let mut response = text_response(200, "ok");
                response.headers_mut().remove("x-content-type-options");
                response
            }
        });
    }
    let excluded: BTreeSet<&str> = call.query.all("exclude").collect();
    let mut unknown = excluded.clone();
    let mut lines = String::new();
    let mut failed = false;
    for (name, outcome) in &all {
        if excluded.contains(name) {
            unknown.remove(name);
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        call.core.metrics.health.observe(name, endpoint, outcome.is_ok());
        match outcome {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            // The endpoint is public; why is told to those who may ask for the check.
            Err(why) => {
                failed = true;
                tracing::warn!(endpoint, check = name, why, "a health check failed");
                lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.iter().map(|name| format!("{name:?}")).collect();
        let names = names.join(",");
        lines.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {names}\n"
        ));
    }
    Some(match (failed, call.query.all("verbose").next()) {
        (true, _) => text_response(500, format!("{lines}{endpoint} check failed\n")),
        (false, Some(_)) => text_response(200, format!("{lines}{endpoint} check passed\n")),
        (false, None) => text_response(200, "ok"),
    })
}
