//! serviceaccounts/token: TokenRequest.

use crate::{
    admission::{self, Operation, Request},
    codec::{FieldValidation, body_media, decode_body, read_body},
    encode::value_response,
    json,
    pipeline::Call,
    registry::Row,
    verbs::{WriteOptions, field_manager, find, match_namespace},
};
use http::Response;
use serde_json::{Value, json};
use std::sync::{Arc, LazyLock};
use strata_auth::{BoundRef, ServiceAccountClaims};
use strata_http::Body;
use strata_meta::{GroupResource, GroupVersionKind, Object, Status, StatusCause, Time};
use strata_schema::apply::{self, BuiltinKind, Filter, Write};

/// Ten minutes to 2^32 seconds; an hour unless asked otherwise.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const DEFAULT: i64 = 3600;

pub(super) async fn serve(call: &mut Call, row: &Arc<Row>, body: Body) -> Result<Response<Body>, Status> {
    let form = call.form()?;
    let options = WriteOptions::read(call, "CreateOptions")?;
    let gvk = gvk();
    let media = body_media(&call.headers)?;
    let bytes = read_body(body).await?;
    let mut value = decode_body(&gvk, media, &bytes, FieldValidation::Ignore, &mut call.warnings)?;
    let name = call.info.name.clone();
    match_namespace(&mut value, &call.info.namespace)?;
    json::set_default(&mut value, "spec.expirationSeconds", DEFAULT);
    value = account(value, &field_manager(call));
    let place = (call.info.namespace.clone(), name.clone());
    let request = Request::new(&call.core, &call.user, row, Operation::Create, (&place.0, &place.1))
        .on("token")
        .dry(options.dry_run);
    value = admission::admit(&request, value, None, &mut call.warnings).await?;
    let stated = json::text(&value, "metadata.name");
    if !stated.is_empty() && stated != name {
        let why = "must match the service account name if specified";
        let cause = StatusCause::invalid("metadata.name", stated, why);
        return Err(Status::invalid(&gvk.group_kind(), &name, vec![cause]));
    }
    let account = find(row, &call.info.namespace, &name)?;
    let uid = json::text(&value, "metadata.uid");
    if !uid.is_empty() && uid != account.uid.as_str() {
        let why = format!(
            "the UID in the token request ({uid}) does not match the UID of the service account ({})",
            account.uid
        );
        return Err(Status::conflict(&GroupResource::new(&gvk.group, &gvk.kind), &name, why));
    }
    let seconds = json::int(&value, "spec.expirationSeconds").unwrap_or(DEFAULT);
    check_duration(&gvk, seconds)?;
    let mut claims = ServiceAccountClaims {
        namespace: account.namespace().to_owned(),
        name: account.name().to_owned(),
        uid: account.uid.clone(),
        expiration_seconds: seconds,
        audiences: audiences(call, &value),
        ..ServiceAccountClaims::default()
    };
    bind(call, &value, &account, &mut claims)?;
    claims.expiration_seconds = shortened(call, seconds);
    json::set(&mut value, "spec.expirationSeconds", claims.expiration_seconds);
    json::set(&mut value, "spec.audiences", json!(claims.audiences));
    json::set(&mut value, "metadata.name", account.name());
    json::set(&mut value, "metadata.namespace", account.namespace());
    json::set(&mut value, "metadata.uid", account.uid.as_str());
    json::set(&mut value, "metadata.creationTimestamp", json!(Time::now()));
    // A dry run changes nothing anyway: the token is made just the same (upstream too).
    let issued = call.core.issuer.issue(&claims, Time::now()).map_err(Status::internal)?;
    crate::audit::note(
        "authentication.kubernetes.io/issued-credential-id",
        &format!("JTI={}", issued.id),
    );
    json::set(
        &mut value,
        "status",
        json!({"token": issued.token, "expirationTimestamp": issued.expires}),
    );
    Ok(value_response(201, &value, form))
}

/// The request with its managers: of a request too they are told.
fn account(value: Value, manager: &str) -> Value {
    let write = Write {
        kind: &*REQUEST,
        manager,
        subresource: "token",
        filter: &Filter::default(),
        now: Time::now(),
    };
    apply::update(&write, None, value).unwrap_or_else(|(why, value)| {
        tracing::error!(%why, "managed fields of a token request are lost");
        value
    })
}

/// What the account of managers knows of token requests.
static REQUEST: LazyLock<BuiltinKind> =
    LazyLock::new(|| BuiltinKind::new(&gvk()).expect("the table has token requests"));

fn gvk() -> GroupVersionKind {
    GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest")
}

/// Errors: 422.
fn check_duration(gvk: &GroupVersionKind, seconds: i64) -> Result<(), Status> {
    let why = match seconds {
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        SHORTEST..=LONGEST => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    let cause = StatusCause::invalid("spec.expirationSeconds", seconds, why);
    Err(Status::invalid(&gvk.group_kind(), "", vec![cause]))
}

/// No more than the server gives; who asked for more is told.
fn shortened(call: &mut Call, seconds: i64) -> i64 {
    match call.core.longest_token {
        Some(longest) if seconds > longest => {
            let told = format!("requested expiration of {seconds} seconds shortened to {longest} seconds");
            call.warnings.push(told);
            longest
        }
        _ => seconds,
    }
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
        return Ok(());
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
            let group = version.split_once('/').map_or("", |(group, _)| group);
            let version = version.split_once('/').map_or(version, |(_, version)| version);
            return Err(Status::bad_request(format_args!(
                "cannot bind token to object of type {group}/{version}, Kind={kind}"
            )));
        }
    };
    let namespace = if plural == "nodes" { "" } else { account.namespace() };
    let resource = call.core.resource("", plural);
    let gone = || Status::not_found(&GroupResource::new("", plural), name);
    let object = resource.get(namespace, name).ok_or_else(gone)?;
    let uid = json::text(wanted, "uid");
    if !uid.is_empty() && uid != object.uid.as_str() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(Status::conflict(&GroupResource::new("", kind), name, why));
    }
    let body = object.to_value().map_err(Status::internal)?;
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
            if !node.is_empty() {
                // Of one that is not registered the name is told just the same.
                let found = call.core.resource("", "nodes").get("", node);
                claims.node = Some(BoundRef {
                    name: node.to_owned(),
                    uid: found.map(|found| found.uid.clone()).unwrap_or_default(),
                });
            }
        }
        "secrets" => claims.secret = bound,
        _ => claims.node = bound,
    }
    Ok(())
}
