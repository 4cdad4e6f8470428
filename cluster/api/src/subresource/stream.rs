//! log, exec, attach and portforward: checked here, answered by the agent of the pod's node.

use super::agent::dial_agent;
use crate::{
    admission, json,
    pipeline::{Call, RequestBody},
    registry::Row,
    request::{encode_component, number},
    verbs::find,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;
use std::sync::Arc;
use strata_http::{
    Body, proxy,
    websocket::{self, Encoding},
};
use strata_meta::{GroupKind, Reason, Status, StatusCause, Time};

/// Bytes of an agent's refusal that are passed on (upstream's limit).
const REFUSAL: usize = 2048;

pub(super) async fn serve(
    call: &mut Call,
    row: &Arc<Row>,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Status> {
    let sub = call.info.subresource.clone();
    // Options are read before the pod, as upstream's decoding comes first.
    let options = match sub.as_str() {
        "log" => log_options(call)?,
        "portforward" => ports(call)?,
        _ => Vec::new(),
    };
    let pod = find(row, &call.info.namespace, &call.info.name)?;
    let pod = pod.to_value().map_err(Status::internal)?;
    if sub != "log" && call.info.verb == "get" {
        // A WebSocket is opened by GET, but what it does is what POST does.
        let info = call.info.clone();
        call.core.authorize_create(&call.user, &info).await?;
    }
    if sub != "log" {
        admission::connect(call, row).await?;
    }
    let path = match sub.as_str() {
        "log" => agent_path("containerLogs", call, Some(container(call, &pod)?), &options),
        "portforward" => agent_path("portForward", call, None, &options),
        _ => command_path(call, &pod)?,
    };
    let node = json::text(&pod, "spec.nodeName");
    if node.is_empty() {
        return match sub.as_str() {
            "log" => {
                let mut empty = Response::new(Body::empty());
                *empty.status_mut() = StatusCode::NO_CONTENT;
                Ok(empty)
            }
            _ => Err(Status::bad_request(format_args!(
                "pod {} does not have a host assigned",
                call.info.name
            ))),
        };
    }
    let (mut parts, body) = request.into_parts();
    let RequestBody::Network(body) = body else {
        return Err(Status::bad_request(
            "streams are not served to clients inside the process",
        ));
    };
    parts.uri = path.parse().map_err(Status::bad_request)?;
    if sub == "log" && websocket::is_upgrade(&parts.headers) {
        return logs_over_socket(call, row, Request::from_parts(parts, ()), node).await;
    }
    let upstream = dial_agent(&call.core, &row.resource, node).await?;
    let forwarded = proxy::forward(Request::from_parts(parts, body), upstream, call.core.cancel.clone());
    let response = forwarded
        .await
        .map_err(|e| Status::internal(format_args!("error dialing backend: {e}")))?;
    match sub.as_str() {
        "log" => logs(call, response).await,
        _ => Ok(response),
    }
}

/// Logs as messages, which begin with an empty one as upstream's do.
async fn logs_over_socket(
    call: &Call,
    row: &Row,
    mut request: Request<()>,
    node: &str,
) -> Result<Response<Body>, Status> {
    let asked = Request::get(request.uri())
        .body(Body::empty())
        .map_err(Status::internal)?;
    let upstream = dial_agent(&call.core, &row.resource, node).await?;
    let forwarded = proxy::forward(asked, upstream, call.core.cancel.clone()).await;
    let answer = forwarded.map_err(|e| Status::internal(format_args!("error dialing backend: {e}")))?;
    let answer = logs(call, answer).await?;
    let accepted = match websocket::accept(&mut request, &["", "binary.k8s.io", "base64.binary.k8s.io"]) {
        Ok(accepted) => accepted,
        Err(refusal) => return Ok(*refusal),
    };
    let encoding = match accepted.protocol.as_str() {
        "base64.binary.k8s.io" => Encoding::Base64,
        _ => Encoding::Binary,
    };
    let first = stream::once(async { Ok(Bytes::new()) });
    let messages = first.chain(answer.into_body().into_data_stream());
    tokio::spawn(async move {
        let sent = match accepted.socket.await {
            Ok(socket) => websocket::send_all(socket, encoding, messages).await,
            Err(error) => Err(error),
        };
        if let Err(error) = sent {
            tracing::debug!(%error, "a log over WebSocket ended");
        }
    });
    Ok(accepted.response)
}

/// Logs are text; a refusal becomes a status with the agent's sentence.
async fn logs(call: &Call, mut response: Response<Body>) -> Result<Response<Body>, Status> {
    let code = response.status().as_u16();
    if code < 400 {
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        return Ok(response);
    }
    let collected = Limited::new(response.into_body(), REFUSAL).collect().await;
    let bytes = collected.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Err(match code {
        400 => Status::bad_request(text),
        404 => {
            let mut status = Status::not_found(&strata_meta::GroupResource::new("", "pods/log"), &call.info.name);
            status.message = format!("the server could not find the requested resource: {text}");
            status
        }
        500 => Status::internal(text),
        _ => {
            let mut status = Status::failure(Reason::Unknown, text);
            status.code = code;
            status
        }
    })
}

/// The names of all containers, as messages list them.
fn container_names(pod: &Value) -> Vec<&str> {
    ["spec.containers", "spec.initContainers", "spec.ephemeralContainers"]
        .iter()
        .flat_map(|list| json::list(pod, list))
        .map(|c| json::text(c, "name"))
        .collect()
}

/// The container asked for, or the only one. Errors: 400.
fn container<'a>(call: &'a Call, pod: &'a Value) -> Result<&'a str, Status> {
    let wanted = call.query.get("container");
    let name = &call.info.name;
    if !wanted.is_empty() {
        return match container_names(pod).contains(&wanted) {
            true => Ok(wanted),
            false => Err(Status::bad_request(format_args!(
                "container {wanted} is not valid for pod {name}"
            ))),
        };
    }
    let names = |list: &str| {
        json::list(pod, list)
            .iter()
            .map(|c| json::text(c, "name"))
            .collect::<Vec<_>>()
    };
    match names("spec.containers").as_slice() {
        [only] => Ok(only),
        [] => Err(Status::bad_request(format_args!(
            "a container name must be specified for pod {name}"
        ))),
        many => {
            let init = names("spec.initContainers");
            let choose = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                many.join(" ")
            );
            Err(Status::bad_request(match init.as_slice() {
                [] => choose,
                init => format!("{choose} or one of the init containers: [{}]", init.join(" ")),
            }))
        }
    }
}

fn agent_path(endpoint: &str, call: &Call, container: Option<&str>, pairs: &[(&str, String)]) -> String {
    let mut path = format!(
        "/{endpoint}/{}/{}",
        encode_component(&call.info.namespace),
        encode_component(&call.info.name)
    );
    if let Some(container) = container {
        path.push('/');
        path.push_str(&encode_component(container));
    }
    for (i, (name, value)) in pairs.iter().enumerate() {
        path.push(if i == 0 { '?' } else { '&' });
        path.push_str(&format!("{name}={}", encode_component(value)));
    }
    path
}

/// Parameters of the agent.
type Pairs = Vec<(&'static str, String)>;

/// What is asked of a log. Errors: 400 for what cannot be read, 422 for what may not be asked.
fn log_options(call: &Call) -> Result<Pairs, Status> {
    let query = &call.query;
    let since = query.whole("sinceSeconds")?;
    let time = query.get("sinceTime");
    if !time.is_empty() && Time::parse(time).is_none() {
        return Err(Status::bad_request(format_args!(
            "parsing time {time:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {time:?} as \"2006\""
        )));
    }
    let (tail, limit) = (query.whole("tailLines")?, query.whole("limitBytes")?);
    let mut causes = Vec::new();
    if let Some(lines) = tail.filter(|n| *n < 0) {
        causes.push(StatusCause::invalid(
            "tailLines",
            lines,
            "must be greater than or equal to 0",
        ));
    }
    let positive = |name, number: Option<i64>| {
        let number = number.filter(|n| *n < 1)?;
        Some(StatusCause::invalid(name, number, "must be greater than 0"))
    };
    causes.extend(positive("limitBytes", limit));
    if since.is_some() && !time.is_empty() {
        let why = "at most one of `sinceTime` or `sinceSeconds` may be specified";
        causes.push(StatusCause::forbidden("[]", why));
    } else {
        causes.extend(positive("sinceSeconds", since));
    }
    if query.all("stream").next().is_some() {
        causes.push(StatusCause::forbidden("stream", "may not be specified"));
    }
    if !causes.is_empty() {
        let kind = GroupKind {
            group: String::new(),
            kind: "PodLogOptions".into(),
        };
        return Err(Status::invalid(&kind, &call.info.name, causes));
    }
    let flags = ["follow", "previous", "timestamps", "insecureSkipTLSVerifyBackend"];
    let flags = flags.iter().filter(|name| query.is_true(name));
    let mut pairs: Pairs = flags.map(|name| (*name, "true".to_owned())).collect();
    let numbers = [("tailLines", tail), ("limitBytes", limit), ("sinceSeconds", since)];
    pairs.extend(numbers.iter().filter_map(|(name, n)| Some((*name, (*n)?.to_string()))));
    if !time.is_empty() {
        pairs.push(("sinceTime", time.to_owned()));
    }
    Ok(pairs)
}

fn command_path(call: &Call, pod: &Value) -> Result<String, Status> {
    let container = container(call, pod)?;
    let query = &call.query;
    let mut pairs: Vec<(&str, String)> = [
        ("stdin", "input"),
        ("stdout", "output"),
        ("stderr", "error"),
        ("tty", "tty"),
    ]
    .iter()
    .filter(|(name, _)| query.is_true(name))
    .map(|(_, name)| (*name, "1".to_owned()))
    .collect();
    // What follows upstream's agent says, and a pod without a node has none.
    let assigned = !json::text(pod, "spec.nodeName").is_empty();
    if assigned && !pairs.iter().any(|(name, _)| *name != "tty") {
        return Err(Status::bad_request(
            "you must specify at least one of stdin, stdout, stderr",
        ));
    }
    if call.info.subresource == "exec" {
        pairs.extend(query.all("command").map(|word| ("command", word.to_owned())));
        if assigned && pairs.iter().all(|(name, _)| *name != "command") {
            return Err(Status::bad_request("you must specify at least one command"));
        }
    }
    Ok(agent_path(&call.info.subresource, call, Some(container), &pairs))
}

/// The ports to forward. Errors: 400.
fn ports(call: &Call) -> Result<Pairs, Status> {
    let asked = call.query.all("ports").flat_map(|list| list.split(','));
    asked
        .map(|port| match number::<u16>("ParseUint", port) {
            Ok(number) => Ok(("port", number.to_string())),
            Err(why) => Err(Status::bad_request(format_args!("cannot convert to []int32: {why}"))),
        })
        .collect()
}
