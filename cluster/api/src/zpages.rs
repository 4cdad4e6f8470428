//! /statusz and /flagz: what the server is and how it was started (KEP-4827, KEP-4828).

use crate::{
    encode::{Media, failure_response, json_response, text_response},
    health,
    pipeline::Call,
};
use http::{HeaderValue, Response, header::ACCEPT};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt::Write as _};
use strata_http::Body;
use strata_meta::{Reason, Status, Time};

const COMPONENT: &str = "apiserver";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";

/// How a page is shown.
enum Form {
    Text,
    /// In a version of config.k8s.io.
    Object(Media, &'static str),
}

/// Answers /statusz.
pub(crate) fn status(call: &Call) -> Response<Body> {
    let began = call.core.began;
    let up = Time::now().seconds_since(began).max(0);
    let version = health::version();
    let binary = "1.36.3";
    let paths = paths();
    let text = || {
        let (hours, minutes, seconds) = (up / 3600, up / 60 % 60, up % 60);
        let listed = paths.join(" ");
        let go = version["goVersion"].as_str().unwrap_or("");
        format!(
            "\nStarted: {began}\nUp: {hours} hr {minutes:02} min {seconds:02} sec\nGo version: {go}\nBinary version: {binary}\nEmulation version: 1.36\nPaths: {listed}\n"
        )
    };
    let object = || {
        json!({"startTime": began, "uptimeSeconds": up, "goVersion": version["goVersion"],
            "binaryVersion": binary, "emulationVersion": "1.36", "paths": paths})
    };
    page(call, "Statusz", text, object)
}

/// Answers /flagz.
pub(crate) fn flags(call: &Call) -> Response<Body> {
    let flags = &call.core.flags;
    let text = || {
        flags.iter().fold(String::new(), |mut out, (name, value)| {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{name}={value}");
            out
        })
    };
    page(call, "Flagz", text, || json!({"flags": flags}))
}

/// The folders of the paths that are not the API's.
fn paths() -> Vec<String> {
    let others = ["/flagz", "/metrics", "/statusz", "/version"].map(str::to_owned);
    let folders: BTreeSet<String> = health::paths()
        .filter_map(|path| path.split('/').nth(1).map(|folder| format!("/{folder}")))
        .chain(others)
        .collect();
    folders.into_iter().collect()
}

fn page(call: &Call, kind: &str, text: impl Fn() -> String, object: impl Fn() -> Value) -> Response<Body> {
    let path = kind.to_lowercase();
    let Some(form) = form(call, kind) else {
        let why = "only the following media types are accepted: application/json, application/yaml, text/plain";
        return failure_response(&Status::failure(Reason::NotAcceptable, why), &call.headers);
    };
    let (media, version) = match form {
        Form::Text => {
            let mut response = text_response(200, format!("\n{COMPONENT} {path}\n{WARNING}\n{}", text()));
            response.headers_mut().remove("x-content-type-options");
            return response;
        }
        Form::Object(media, version) => (media, version),
    };
    let mut value = object();
    value["kind"] = json!(kind);
    value["apiVersion"] = json!(format!("config.k8s.io/{version}"));
    value["metadata"] = json!({"name": COMPONENT});
    let (encoded, name) = match media {
        Media::Yaml => (serde_saphyr::to_string(&value).map_err(Status::internal), "yaml"),
        _ => (serde_json::to_string_pretty(&value).map_err(Status::internal), "json"),
    };
    let encoded = match encoded {
        Ok(encoded) => encoded,
        Err(status) => return failure_response(&status, &call.headers),
    };
    let mut response = json_response(200, Body::full(encoded));
    let media = format!("application/{name};g=config.k8s.io;v={version};as={kind}");
    if let Ok(media) = HeaderValue::from_str(&media) {
        response.headers_mut().insert("content-type", media);
    }
    if version == "v1alpha1" {
        let warning =
            format!("299 - \"This version of the {path} endpoint is deprecated. Please use a newer version.\"");
        if let Ok(warning) = HeaderValue::from_str(&warning) {
            response.headers_mut().insert("warning", warning);
        }
    }
    response
}

/// The first clause that can be served: text, or the object by its whole name.
fn form(call: &Call, kind: &str) -> Option<Form> {
    let accept = call.headers.get(ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    if accept.trim().is_empty() {
        return Some(Form::Text);
    }
    accept.split(',').find_map(|clause| {
        let mut parts = clause.split(';').map(str::trim);
        let media = parts.next()?;
        let parameters: Vec<&str> = parts.filter(|p| !p.starts_with("q=")).collect();
        let named =
            parameters.contains(&"g=config.k8s.io") && parameters.iter().any(|p| p.strip_prefix("as=") == Some(kind));
        let version = ["v1beta1", "v1alpha1"]
            .into_iter()
            .find(|v| parameters.iter().any(|p| p.strip_prefix("v=") == Some(v)));
        match (media, version.filter(|_| named)) {
            ("application/json" | "application/*" | "*/*", Some(version)) => Some(Form::Object(Media::Json, version)),
            ("application/yaml", Some(version)) => Some(Form::Object(Media::Yaml, version)),
            ("text/plain" | "text/*" | "*/*", None) if !parameters.iter().any(|p| p.starts_with("as=")) => {
                Some(Form::Text)
            }
            _ => None,
        }
    })
}
