//! serviceaccounts/token: TokenRequest.

use crate::{
    admission::{self, Operation, Request, nodes::token_request},
    codec::{FieldValidation, body_media, decode_body, read_body},
    encode::value_response,
    json,
    pipeline::Call,
    registry::Row,
    verbs::{WriteOptions, find},
};
use http::Response;
use serde_json::{Value, json};
use std::sync::Arc;
use strata_auth::{BoundRef, ServiceAccountClaims};
use strata_http::Body;
use strata_meta::{GroupVersionKind, Object, Status, StatusCause, Time};

/// Ten minutes to 2^32 seconds; an hour unless asked otherwise.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const DEFAULT: i64 = 3600;

pub(super) async fn serve(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let options = WriteOptions::read(call, "CreateOptions")?;
    let gvk = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let media = body_media(&call.headers)?;
    let bytes = read_body(body).await?;
    let mut value = decode_body(&gvk, media, &bytes, FieldValidation::Ignore, &mut call.warnings)?;
    let account = find(row, &call.info.namespace, &call.info.name)?;
    let place = (account.namespace(), account.name());
    let request = Request::new(&call.core, &call.user, row, Operation::Create, place)
        .on("token")
        .dry(options.dry_run);
    value = admission::admit(&request, value, None, &mut call.warnings).await?;
    let seconds = json::int(&value, "spec.expirationSeconds").unwrap_or(DEFAULT);
    let mut causes = Vec::new();
    if seconds < SHORTEST {
        causes.push(StatusCause::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration less than 10 minutes",
        ));
    }
    if seconds > LONGEST {
        causes.push(StatusCause::invalid(
            "spec.expirationSeconds",
            seconds,
            "may not specify a duration larger than 2^32 seconds",
        ));
    }
    if !causes.is_empty() {
        return Err(Status::invalid(&gvk.group_kind(), account.name(), causes));
    }
    let mut claims = ServiceAccountClaims {
        namespace: account.namespace().to_owned(),
        name: account.name().to_owned(),
        uid: account.uid.clone(),
        expiration_seconds: seconds,
        audiences: audiences(call, &value),
        ..ServiceAccountClaims::default()
    };
    bind(call, &value, &account, &mut claims)?;
    json::set(&mut value, "spec.expirationSeconds", seconds);
    json::set(&mut value, "spec.audiences", json!(claims.audiences));
    json::set(&mut value, "metadata.name", account.name());
    json::set(&mut value, "metadata.namespace", account.namespace());
    json::set(&mut value, "metadata.creationTimestamp", json!(Time::now()));
    if options.dry_run {
        json::set(&mut value, "status", json!({"token": "", "expirationTimestamp": null}));
        return Ok(value_response(201, &value, form));
    }
    let issued = call.core.issuer.issue(&claims, Time::now()).map_err(Status::internal)?;
    json::set(
        &mut value,
        "status",
        json!({"token": issued.token, "expirationTimestamp": issued.expires}),
    );
    Ok(value_response(201, &value, form))
}

fn audiences(call: &Call, value: &Value) -> Vec<String> {
    let asked: Vec<String> = json::list(value, "spec.audiences")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    if asked.is_empty() {
        call.core.authenticator.audiences().to_vec()
    } else {
        asked
    }
}

/// Ties the token to the life of another object.
fn bind(call: &Call, value: &Value, account: &Object, claims: &mut ServiceAccountClaims) -> Result<(), Status> {
    let Some(wanted) = json::get(value, "spec.boundObjectRef") else {
        return token_request(&call.user, account.name(), value, None);
    };
    let (version, kind, name) = (
        json::text(wanted, "apiVersion"),
        json::text(wanted, "kind"),
        json::text(wanted, "name"),
    );
    let plural = match (version, kind) {
        ("v1", "Pod") => "pods",
        ("v1", "Secret") => "secrets",
        ("v1", "Node") => "nodes",
        _ => {
            return Err(Status::bad_request(format_args!(
                "cannot bind token for serviceaccount {:?} to a type with apiVersion/kind {version:?}/{kind:?}",
                account.name()
            )));
        }
    };
    let namespace = if plural == "nodes" { "" } else { account.namespace() };
    let resource = call.core.resource("", plural);
    let gone = || Status::not_found(&strata_meta::GroupResource::new("", plural), name);
    let object = resource.get(namespace, name).ok_or_else(gone)?;
    let uid = json::text(wanted, "uid");
    if !uid.is_empty() && uid != object.uid.as_str() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(
            &strata_meta::GroupResource::new("", plural),
            name,
            why,
        ));
    }
    let body = object.to_value().map_err(Status::internal)?;
    token_request(
        &call.user,
        account.name(),
        value,
        Some(&body).filter(|_| plural == "pods"),
    )?;
    let bound = Some(BoundRef {
        name: name.to_owned(),
        uid: object.uid.clone(),
    });
    match plural {
        "pods" => {
            let pod = body;
            if json::text(&pod, "spec.serviceAccountName") != account.name() {
                let why = format!(
                    "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
                    account.name()
                );
                return Err(Status::bad_request(why));
            }
            claims.pod = bound;
            let node = json::text(&pod, "spec.nodeName");
            if let Some(node) = call.core.resource("", "nodes").get("", node) {
                claims.node = Some(BoundRef {
                    name: node.name().to_owned(),
                    uid: node.uid.clone(),
                });
            }
        }
        "secrets" => claims.secret = bound,
        _ => claims.node = bound,
    }
    Ok(())
}
