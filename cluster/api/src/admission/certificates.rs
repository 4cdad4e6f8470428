//! Who may approve and who may issue which certificates
//! (k8s.io/kubernetes/plugin/pkg/admission/certificates).

use super::{Operation, Request};
use crate::json;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::{
    FutureExt,
    future::{BoxFuture, ready},
};
use serde_json::Value;
use strata_auth::{Attributes, RequestedNames};
use strata_meta::Status;

const GROUP: &str = "certificates.k8s.io";

/// Approval needs `approve` on the signer or on all of its domain.
pub(super) fn approval<'a>(
    request: &'a Request<'a>,
    _new: Option<&'a Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    match old {
        Some(old) if is_change(request, "approval") => permitted(request, "approve", old).boxed(),
        _ => ready(Ok(())).boxed(),
    }
}

/// Issuing needs `sign` on the signer or on all of its domain.
pub(super) fn signing<'a>(
    request: &'a Request<'a>,
    new: Option<&'a Value>,
    old: Option<&'a Value>,
) -> BoxFuture<'a, Result<(), Status>> {
    let same = |path| json::same(new.unwrap_or(&Value::Null), old.unwrap_or(&Value::Null), path);
    match old {
        Some(old) if is_change(request, "status") && !(same("status.certificate") && same("status.conditions")) => {
            permitted(request, "sign", old).boxed()
        }
        _ => ready(Ok(())).boxed(),
    }
}

fn is_change(request: &Request<'_>, subresource: &str) -> bool {
    is_request(request) && request.operation == Operation::Update && request.subresource == subresource
}

/// What the request was for when it was made decides: it may not change.
async fn permitted(request: &Request<'_>, verb: &str, old: &Value) -> Result<(), Status> {
    let name = json::text(old, "spec.signerName");
    let domain = name.split_once('/').map_or("", |(domain, _)| domain);
    if may(request, verb, name).await || may(request, verb, &format!("{domain}/*")).await {
        return Ok(());
    }
    Err(request.forbidden(format_args!(
        "user not permitted to {verb} requests with signerName {name:?}"
    )))
}

/// Nobody becomes a superuser by a certificate.
pub(super) fn subject(request: &Request<'_>, new: Option<&Value>, _old: Option<&Value>) -> Result<(), Status> {
    let Some(new) = new else { return Ok(()) };
    let creates = request.operation == Operation::Create && request.subresource.is_empty();
    if !is_request(request)
        || !creates
        || json::text(new, "spec.signerName") != "kubernetes.io/kube-apiserver-client"
        || !asks_for_masters(json::text(new, "spec.request"))
    {
        return Ok(());
    }
    Err(request.forbidden_object(
        Some(new),
        "use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed",
    ))
}

fn is_request(request: &Request<'_>) -> bool {
    request.row.resource.group == GROUP && request.row.resource.resource == "certificatesigningrequests"
}

async fn may(request: &Request<'_>, verb: &str, signer: &str) -> bool {
    let attributes = Attributes {
        verb,
        group: GROUP,
        version: "*",
        resource: "signers",
        name: signer,
        ..Attributes::of(request.user)
    };
    let decision = request.core.authorizer.decide(request.core, &attributes).await;
    decision.is_allowed()
}

/// What a request asks to be called. Errors: a sentence.
pub(super) fn names_of(object: &Value) -> Result<RequestedNames, String> {
    let pem = STANDARD
        .decode(json::text(object, "spec.request"))
        .map_err(|e| e.to_string())?;
    let pem = String::from_utf8(pem).map_err(|e| e.to_string())?;
    RequestedNames::parse(&pem).map_err(|e| e.to_string())
}

/// Whether an organization of the subject is `system:masters`: the attribute's object identifier
/// (X.520 organizationName, 2.5.4.10), a string's tag, its length, the text.
fn asks_for_masters(request: &str) -> bool {
    const ORGANIZATION: [u8; 5] = [0x06, 0x03, 0x55, 0x04, 0x0a];
    let text = strata_auth::GROUP_MASTERS.as_bytes();
    let pem = STANDARD.decode(request).unwrap_or_else(|_| request.as_bytes().to_vec());
    let lines = String::from_utf8_lossy(&pem);
    let body: String = lines
        .lines()
        .filter(|l| !l.starts_with("-----"))
        .map(str::trim)
        .collect();
    let Ok(der) = STANDARD.decode(body) else {
        return false;
    };
    der.windows(ORGANIZATION.len() + 2 + text.len()).any(|window| {
        let (identifier, string) = window.split_at(ORGANIZATION.len());
        identifier == ORGANIZATION && usize::from(string[1]) == text.len() && &string[2..] == text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn superusers_are_recognised_in_the_request() {
        let wrapped = |text: &str| {
            let mut der = vec![
                0x30,
                0x40,
                0x06,
                0x03,
                0x55,
                0x04,
                0x0a,
                0x0c,
                u8::try_from(text.len()).unwrap(),
            ];
            der.extend(text.as_bytes());
            let pem = format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
                STANDARD.encode(der)
            );
            STANDARD.encode(pem)
        };
        assert!(asks_for_masters(&wrapped("system:masters")));
        assert!(!asks_for_masters(&wrapped("system:nodes")));
        assert!(!asks_for_masters("nonsense"));
    }
}
