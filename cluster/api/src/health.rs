//! /healthz, /livez, /readyz, /version, /metrics.

use crate::{
    encode::{JSON, Negotiated, text_response, value_response},
    metrics,
    pipeline::Call,
};
use http::Response;
use serde_json::{Value, json};
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
        _ => {
            let (endpoint, check) = path
                .strip_prefix('/')?
                .split_once('/')
                .map_or((&path[1..], None), |(e, c)| (e, Some(c)));
            if !matches!(endpoint, "healthz" | "livez" | "readyz") {
                return None;
            }
            checks(call, endpoint, check).await?
        }
    };
    Some(response)
}

/// The named checks of an endpoint, or one of them.
async fn checks(call: &Call, endpoint: &str, only: Option<&str>) -> Option<Response<Body>> {
    let core = &call.core;
    let ready = endpoint == "readyz";
    let mut all: Vec<(&str, bool)> = vec![("ping", true), ("log", true), ("cache", core.is_alive())];
    if ready {
        all.push(("poststarthook/bootstrap", core.is_ready() || core.cancel.is_cancelled()));
        all.push(("shutdown", !core.cancel.is_cancelled()));
    }
    let services = match &core.encryption {
        Some(encryption) => encryption.check().await,
        None => None,
    };
    if let Some(said) = &services {
        all.push(("kms-providers", said.is_ok()));
    }
    if let Some(only) = only {
        all.retain(|(name, _)| *name == only);
        if all.is_empty() {
            return None;
        }
    }
    let excluded: Vec<&str> = call.query.all("exclude").collect();
    let failed = all.iter().any(|(name, ok)| !ok && !excluded.contains(name));
    let lines: String = all
        .iter()
        .map(|(name, ok)| match (excluded.contains(name), ok) {
            (true, _) => format!("[+]{name} excluded: ok\n"),
            (_, true) => format!("[+]{name} ok\n"),
            (_, false) => format!("[-]{name} failed: reason withheld\n"),
        })
        .collect();
    Some(match failed {
        true => text_response(500, format!("{lines}{endpoint} check failed\n")),
        false if call.query.bool("verbose").is_some() => {
            text_response(200, format!("{lines}{endpoint} check passed\n"))
        }
        false if only.is_some() => {
            let mut response = text_response(200, "ok");
            response.headers_mut().remove("x-content-type-options");
            response
        }
        false => text_response(200, "ok"),
    })
}
