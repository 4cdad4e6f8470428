//! One request over one connection, and its answer as a value.

use crate::{Outcome, Request, answer, servers::Server};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use std::time::Duration;
use strata_schema::protobuf;
use tokio::{net::TcpStream, time::timeout};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(40);
/// How long a frame of a stream may take that is waited for.
const FRAME_PATIENCE: Duration = Duration::from_secs(5);

/// Headers that are compared. Those that tell moments or lengths are compared by their presence only.
const HEADERS: [&str; 12] = [
    "content-type",
    "content-encoding",
    "vary",
    "warning",
    "retry-after",
    "cache-control",
    "location",
    "allow",
    "www-authenticate",
    "x-content-type-options",
    "connection",
    "upgrade",
];
const PRESENT: [&str; 4] = [
    "etag",
    "audit-id",
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
];

/// Sends a request; `{status, headers, body}`.
pub async fn send(server: &Server, request: &Request) -> Outcome<Value> {
    let tls = if request.anonymous {
        &server.anonymous
    } else {
        &server.admin
    };
    let tcp = TcpStream::connect(("127.0.0.1", server.port)).await?;
    tcp.set_nodelay(true)?;
    let stream = tls.connect(tcp, "127.0.0.1").await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends with the answer.
    let connection = tokio::spawn(connection);
    let answer = timeout(PATIENCE, sender.send_request(http_request(server, request)?)).await??;
    let outcome = read(request, answer).await;
    drop(sender);
    connection.abort();
    outcome
}

fn http_request(server: &Server, request: &Request) -> Outcome<http::Request<Full<Bytes>>> {
    let (body, media) = body(request)?;
    let mut builder = http::Request::builder()
        .method(request.method.as_str())
        .uri(&request.path)
        .header("host", format!("127.0.0.1:{}", server.port))
        .header("user-agent", "replay/v1");
    for (name, default) in [("accept", "application/json"), ("content-type", media)] {
        if let Some(value) = request.header(name, default) {
            builder = builder.header(name, value);
        }
    }
    for (name, value) in &request.headers {
        if !matches!(
            name.to_ascii_lowercase().as_str(),
            "accept" | "content-type" | "user-agent"
        ) {
            builder = builder.header(name, value);
        }
    }
    Ok(builder.body(Full::new(body))?)
}

/// The body, and its media type unless the request names another.
fn body(request: &Request) -> Outcome<(Bytes, &'static str)> {
    if request.body.is_empty() {
        return Ok((Bytes::new(), ""));
    }
    if !request.protobuf {
        return Ok((request.body.clone().into(), "application/json"));
    }
    let value: Value = serde_json::from_str(&request.body)?;
    let text = |name: &str| {
        value[name]
            .as_str()
            .ok_or_else(|| format!("a protobuf body without {name}"))
    };
    let (group, version) = text("apiVersion")?.split_once('/').unwrap_or(("", text("apiVersion")?));
    let bytes = answer::encode(group, version, text("kind")?, &value)?;
    Ok((bytes.into(), protobuf::MEDIA_TYPE))
}

async fn read(request: &Request, answer: http::Response<Incoming>) -> Outcome<Value> {
    let (parts, mut body) = answer.into_parts();
    let mut headers = Map::new();
    for name in HEADERS {
        let values: Vec<&str> = parts
            .headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .collect();
        if !values.is_empty() {
            headers.insert(name.into(), json!(values));
        }
    }
    for name in PRESENT {
        if parts.headers.contains_key(name) {
            headers.insert(name.into(), json!("present"));
        }
    }
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("");
    let (media, coding) = (header("content-type"), header("content-encoding"));
    let decoded = match request.frames {
        Some(count) => {
            let mut bytes = Vec::new();
            let mut frames = answer::frames(media, &bytes)?;
            while frames.len() < count {
                match timeout(FRAME_PATIENCE, body.frame()).await {
                    Ok(Some(Ok(frame))) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |d| d)),
                    Ok(Some(Err(error))) => return Err(error.into()),
                    Ok(None) | Err(_) => break,
                }
                frames = answer::frames(media, &bytes)?;
            }
            frames.truncate(count);
            Value::Array(frames)
        }
        None => {
            let bytes = timeout(PATIENCE, body.collect()).await??.to_bytes();
            answer::decode(media, coding, &bytes)?
        }
    };
    Ok(json!({"status": parts.status.as_u16(), "headers": headers, "etag": header("etag"), "body": decoded}))
}
