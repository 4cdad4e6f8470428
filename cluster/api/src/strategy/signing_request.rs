//! CertificateSigningRequest: who asks is written down by the server, who approves and who signs write
//! apart from each other.

use super::{Causes, CellContext, Column, Strategy, columns};
use crate::{cache::FieldPath, json, validate::Field};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use strata_auth::UserInfo;
use strata_meta::{StatusCause, Time};

pub(super) struct SigningRequest;

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

impl Strategy for SigningRequest {
    fn metadata_turn(&self) -> crate::validate::MetadataTurn {
        crate::validate::MetadataTurn::Last
    }

    fn record_requester(&self, object: &mut Value, user: &UserInfo) {
        let spec = json::object_mut(object, "spec");
        for member in ["username", "uid", "groups", "extra"] {
            spec.remove(member);
        }
        spec.insert("username".into(), json!(user.name));
        if !user.uid.is_empty() {
            spec.insert("uid".into(), json!(user.uid));
        }
        if !user.groups.is_empty() {
            spec.insert("groups".into(), json!(user.groups));
        }
        if !user.extra.is_empty() {
            spec.insert("extra".into(), json!(user.extra));
        }
    }

    fn validate(&self, object: &Value, causes: &mut Causes) {
        let spec = Field::root(object).at("spec");
        let request = spec.at("request");
        if let Err(why) = certificate_request(request.text()) {
            causes.push(request.invalid(why));
        }
        usages(&spec.at("usages"), causes);
        signer_name(&spec.at("signerName"), causes);
        let seconds = spec.at("expirationSeconds");
        if seconds.int().is_some_and(|n| n < 600) {
            causes.push(seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)"));
        }
        conditions(&Field::root(object).at("status.conditions"), causes);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        json::copy(old, new, "spec");
    }

    fn prepare_subresource_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        json::copy(old, new, "spec");
        if subresource == "approval" {
            stamp(new, old);
            let conditions = json::get(new, "status.conditions").cloned();
            json::copy(old, new, "status");
            match conditions {
                Some(conditions) => json::set(new, "status.conditions", conditions),
                None => drop(json::remove(new, "status.conditions")),
            }
        } else {
            for kind in ["Approved", "Denied"] {
                keep_conditions(new, old, kind);
            }
            stamp(new, old);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, causes: &mut Causes) {
        changes(new, old, "", causes);
    }

    fn validate_subresource_update(&self, subresource: &str, new: &Value, old: &Value, causes: &mut Causes) {
        self.validate(new, causes);
        changes(new, old, subresource, causes);
        let certificate = Field::root(new).at("status.certificate");
        let before = Field::root(old).at("status.certificate");
        if subresource == "status"
            && certificate.value() != before.value()
            && !certificate.is_empty()
            && let Err(why) = certificates(certificate.text())
        {
            causes.push(certificate.invalid_as("<certificate data>", why));
        }
    }

    fn selectable_fields(&self) -> &'static [FieldPath] {
        const FIELDS: &[FieldPath] = &[FieldPath::new("spec.signerName", "")];
        FIELDS
    }

    fn columns(&self) -> &'static [Column] {
        const COLUMNS: &[Column] = &[
            columns::NAME,
            columns::AGE,
            columns::column("SignerName", "string", "The requested signer.", |cx| {
                columns::or_none(json::text(cx.object, "spec.signerName"))
            }),
            columns::column("Requestor", "string", "Who made the request.", |cx| {
                json::text(cx.object, "spec.username").into()
            }),
            columns::column(
                "RequestedDuration",
                "string",
                "How long the certificate is asked to be valid.",
                |cx| match json::int(cx.object, "spec.expirationSeconds") {
                    Some(seconds) => columns::human_duration(seconds).into(),
                    None => "<none>".into(),
                },
            ),
            columns::column("Condition", "string", "What has become of the request.", state),
        ];
        COLUMNS
    }
}

fn state(cx: &CellContext<'_>) -> Value {
    let conditions = json::list(cx.object, "status.conditions");
    let has = |kind: &str| conditions.iter().any(|c| json::text(c, "type") == kind);
    let mut text = match (has("Denied"), has("Approved")) {
        (true, _) => "Denied",
        (_, true) => "Approved",
        _ => "Pending",
    }
    .to_owned();
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !json::text(cx.object, "status.certificate").is_empty() {
        text.push_str(",Issued");
    }
    text.into()
}

fn decoded(text: &str) -> Result<String, String> {
    let bytes = STANDARD.decode(text).map_err(|e| e.to_string())?;
    String::from_utf8(bytes).map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())
}

fn certificate_request(text: &str) -> Result<(), String> {
    let pem = decoded(text)?;
    if !pem.trim_start().starts_with("-----BEGIN CERTIFICATE REQUEST-----")
        || !pem.contains("-----END CERTIFICATE REQUEST-----")
    {
        return Err("PEM block type must be CERTIFICATE REQUEST".into());
    }
    let body: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = STANDARD
        .decode(body)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    // A SEQUENCE that holds all the bytes; the signer reads what is in it.
    if der.first() != Some(&0x30) || der.len() < 16 {
        return Err("asn1: structure error: not a certificate request".into());
    }
    Ok(())
}

fn certificates(text: &str) -> Result<(), String> {
    let pem = decoded(text)?;
    let mut found = 0;
    for line in pem.lines() {
        if let Some(kind) = line.strip_prefix("-----BEGIN ").and_then(|l| l.strip_suffix("-----")) {
            if kind != "CERTIFICATE" {
                return Err(format!("only CERTIFICATE PEM blocks are allowed, found {kind:?}"));
            }
            found += 1;
        } else if !line.starts_with("-----") && line.contains(':') {
            return Err("no PEM block headers are permitted".into());
        }
    }
    if found == 0 {
        return Err("must contain at least one CERTIFICATE PEM block".into());
    }
    Ok(())
}

fn usages(field: &Field<'_>, causes: &mut Causes) {
    if field.is_empty() {
        causes.push(field.required(""));
    }
    let mut seen = Vec::new();
    for usage in field.items() {
        usage.if_one_of(causes, USAGES);
        if seen.contains(&usage.text()) {
            causes.push(usage.duplicate());
        }
        seen.push(usage.text());
    }
}

/// `domain/path`, as in kubernetes.io/kubelet-serving.
fn signer_name(field: &Field<'_>, causes: &mut Causes) {
    let name = field.text();
    if name.is_empty() {
        causes.push(field.required(""));
        return;
    }
    if name == "kubernetes.io/legacy-unknown" {
        causes.push(field.invalid("the legacy signerName is not allowed via this API version"));
    }
    match name.split_once('/') {
        None => causes
            .push(field.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'")),
        Some((domain, path)) => {
            field.problems(causes, strata_meta::names::dns1123_subdomain(domain));
            if !domain.contains('.') {
                causes.push(field.invalid("should be a domain with at least two segments separated by dots"));
            }
            field.problems(causes, strata_meta::names::dns1123_subdomain(path));
        }
    }
}

fn conditions(field: &Field<'_>, causes: &mut Causes) {
    let mut seen: Vec<&str> = Vec::new();
    for condition in field.items() {
        let kind = condition.at("type");
        kind.needs(causes);
        let status = condition.at("status");
        if status.is_empty() {
            causes.push(status.required(""));
        } else if matches!(kind.text(), "Approved" | "Denied" | "Failed") {
            status.if_one_of(causes, &["True"]);
        } else {
            status.if_one_of(causes, &["False", "True", "Unknown"]);
        }
        let other = match kind.text() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(&other) {
            causes.push(field.invalid_as(kind.text(), "Approved and Denied conditions are mutually exclusive"));
        }
        if seen.contains(&kind.text()) {
            causes.push(kind.duplicate());
        }
        seen.push(kind.text());
    }
}

fn of_kind<'v>(object: &'v Value, kind: &'v str) -> impl Iterator<Item = &'v Value> {
    let conditions = json::list(object, "status.conditions").iter();
    conditions.filter(move |c| json::text(c, "type") == kind)
}

/// What a write may not change: only approval approves, only status issues, and no condition goes away.
fn changes(new: &Value, old: &Value, subresource: &str, causes: &mut Causes) {
    for kind in ["Approved", "Denied", "Failed"] {
        let (now, before): (Vec<_>, Vec<_>) = (of_kind(new, kind).collect(), of_kind(old, kind).collect());
        if now.is_empty() && !before.is_empty() {
            let why = format!("updates may not remove a condition of type {kind:?}");
            causes.push(StatusCause::forbidden("status.conditions", &why));
        } else if kind != "Failed" && subresource != "approval" && now != before {
            let verb = if before.is_empty() { "add" } else { "modify" };
            let why = format!("updates may not {verb} a condition of type {kind:?}");
            causes.push(StatusCause::forbidden("status.conditions", &why));
        }
    }
    let before = json::text(old, "status.certificate");
    if json::text(new, "status.certificate") != before {
        if subresource != "status" {
            let why = "updates may not set certificate content";
            causes.push(StatusCause::forbidden("status.certificate", why));
        } else if !before.is_empty() {
            let why = "updates may not modify existing certificate content";
            causes.push(StatusCause::forbidden("status.certificate", why));
        }
    }
}

fn conditions_mut(object: &mut Value) -> impl Iterator<Item = &mut Value> {
    let list = object
        .get_mut("status")
        .and_then(|s| s.get_mut("conditions"))
        .and_then(Value::as_array_mut);
    list.into_iter().flatten()
}

/// Conditions of a kind stay as they were when there are as many as there were.
fn keep_conditions(new: &mut Value, old: &Value, kind: &str) {
    let before: Vec<Value> = of_kind(old, kind).cloned().collect();
    if of_kind(new, kind).count() != before.len() {
        return;
    }
    let now = conditions_mut(new).filter(|c| json::text(c, "type") == kind);
    for (condition, old) in now.zip(before) {
        *condition = old;
    }
}

/// Times that were left out.
fn stamp(new: &mut Value, old: &Value) {
    let now = json!(Time::now());
    for condition in conditions_mut(new) {
        json::set_default(condition, "lastUpdateTime", now.clone());
        let same = of_kind(old, json::text(condition, "type"))
            .find(|c| json::text(c, "status") == json::text(condition, "status"))
            .and_then(|c| json::get(c, "lastTransitionTime"));
        let moment = same.cloned().unwrap_or_else(|| now.clone());
        json::set_default(condition, "lastTransitionTime", moment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Value {
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode([0x30u8; 40])
        );
        json!({"metadata": {"name": "a"}, "spec": {"request": STANDARD.encode(pem), "usages": ["client auth"],
            "signerName": "kubernetes.io/kube-apiserver-client", "username": "forged", "groups": ["system:masters"]}, "status": {}})
    }

    fn said(causes: &Causes) -> Vec<String> {
        causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
    }

    #[test]
    fn the_requester_is_whoever_asks() {
        let mut object = request();
        SigningRequest.record_requester(&mut object, &UserInfo::new("node-1", &["joiners"]));
        assert_eq!(json::text(&object, "spec.username"), "node-1");
        assert_eq!(object["spec"]["groups"], json!(["joiners", "system:authenticated"]));
        let mut causes = Vec::new();
        SigningRequest.validate(&object, &mut causes);
        assert_eq!(said(&causes), [""; 0]);
    }

    #[test]
    fn only_the_approval_subresource_approves_and_only_status_issues() {
        let old = request();
        let mut new = old.clone();
        new["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}], "certificate": "eA=="});
        SigningRequest.prepare_subresource_update("approval", &mut new, &old);
        assert!(json::get(&new, "status.certificate").is_none());
        assert!(json::get(&new["status"]["conditions"][0], "lastUpdateTime").is_some());
        let mut causes = Vec::new();
        SigningRequest.validate_subresource_update("approval", &new, &old, &mut causes);
        assert_eq!(said(&causes), [""; 0]);
        SigningRequest.validate_subresource_update("status", &new, &old, &mut causes);
        assert_eq!(
            said(&causes),
            ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
        );
    }

    #[test]
    fn bad_requests_are_refused() {
        let mut object = request();
        object["spec"] = json!({"request": "eA==", "usages": ["signing", "signing", "flying"], "signerName": "x", "expirationSeconds": 5});
        let mut causes = Vec::new();
        SigningRequest.validate(&object, &mut causes);
        let fields: Vec<&str> = causes.iter().map(|c| c.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "spec.request",
                "spec.usages[1]",
                "spec.usages[2]",
                "spec.signerName",
                "spec.expirationSeconds"
            ]
        );
    }
}
