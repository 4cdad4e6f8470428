//! The audit log: who asked what of the server, and what came of it, as a policy says (audit.k8s.io/v1).
//!
//! A [`Trail`] follows one request through its stages; what it has to say goes to the [`sink`]s, a file and a webhook.

mod file;
mod hook;
mod options;
mod policy;
mod sink;
mod text;

pub use options::{AuditBatch, AuditDelivery, AuditLog, AuditMode, AuditOptions, AuditTruncate, AuditWebhook};

use crate::{
    core::Core,
    encode::conversion::conversion_of,
    metrics::waits::{Layer, Layers},
    pipeline::{Call, RequestBody},
    request::RequestInfo,
    schema::RowSchema,
};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt, future::Either};
use http::{
    HeaderMap, HeaderValue, Request, Response,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use http_body_util::BodyExt;
use policy::{Level, Policy, Rule};
use serde_json::{Value, json};
use sink::Sinks;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use strata_auth::{Notes, UserInfo};
use strata_http::Body;
use strata_meta::{GoDuration, GroupVersionKind, MicroTime, Status};
use strata_schema::{protobuf, structural::as_written_down};

/// The largest answer that is written down.
const ANSWER_LIMIT: usize = 16 << 20;
/// The longest user agent.
const AGENT_LIMIT: usize = 1024;

/// What is written down, and where.
pub(crate) struct Audit {
    policy: Policy,
    sinks: Sinks,
}

tokio::task_local! {
    /// The trail of the request that the task answers.
    static TRAIL: Arc<Trail>;
}

/// A note about the request that the task answers, if it is followed.
pub(crate) fn note(key: &str, value: &str) {
    // Without a trail nobody reads it.
    let _ = TRAIL.try_with(|trail| trail.annotate(key, value));
}

/// A note that is made only where the request's own object is written down.
pub(crate) fn note_of_object(key: &str, value: impl FnOnce() -> String) {
    let _ = TRAIL.try_with(|trail| {
        if trail.rule.level >= Level::Request {
            trail.annotate(key, &value());
        }
    });
}

/// The object that a request brings, once it is understood: in the version it came in, with its defaults.
pub(crate) fn brought(schema: &RowSchema, gvk: &GroupVersionKind, object: &Value) {
    let _ = TRAIL.try_with(|trail| {
        trail.name_object(object);
        if trail.rule.level >= Level::Request {
            let mut whole = as_written_down(object).into_owned();
            schema.apply_defaults(gvk, &mut whole);
            if let Some(conversion) = conversion_of(gvk) {
                conversion.settle(&mut whole);
            }
            trail.asked(whole, &gvk.api_version(), &gvk.kind);
        }
    });
}

/// The options that a deletion brings, in the version that upstream's log has them in.
pub(crate) fn options(options: &Value) {
    let _ = TRAIL.try_with(|trail| {
        if trail.rule.level >= Level::Request {
            trail.asked(options.clone(), "meta.k8s.io/__internal", "DeleteOptions");
        }
    });
}

/// The patch that a request brings. One that is no JSON is not written down.
pub(crate) fn patch(bytes: &[u8]) {
    let _ = TRAIL.try_with(|trail| {
        if trail.rule.level >= Level::Request
            && let Ok(patch) = serde_json::from_slice(bytes)
        {
            trail.edit(|event| event["requestObject"] = patch);
        }
    });
}

/// Left in the extensions of an answer that upstream writes past its log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unlogged;

/// Answers a request within its trail.
pub(crate) fn within<F: Future>(trail: Option<Arc<Trail>>, answering: F) -> impl Future<Output = F::Output> {
    match trail {
        Some(trail) => Either::Left(TRAIL.scope(trail, answering)),
        None => Either::Right(answering),
    }
}

/// Where a request comes from, left in its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) address: SocketAddr,
    /// How long it took to find out whose it is.
    pub(crate) recognised: Duration,
}

/// Of what takes longer it is told where the time went.
const SLOW: Duration = Duration::from_millis(500);

/// One request on its way.
pub(crate) struct Trail {
    sinks: Sinks,
    rule: Rule,
    event: Mutex<Value>,
}

impl Audit {
    /// Opens the sinks. Errors: a policy or a destination that cannot be used.
    pub(crate) fn open(options: &AuditOptions) -> Result<Self, crate::Error> {
        Ok(Self {
            policy: Policy::parse(&options.policy).map_err(|why| crate::Error::Setting {
                setting: "audit-policy-file",
                why,
            })?,
            sinks: Sinks::open(options)?,
        })
    }

    /// Writes what there is until the server stops.
    pub(crate) async fn run(core: Arc<Core>) {
        if let Some(audit) = &core.audit {
            audit.sinks.run(&core).await;
        }
    }

    /// Prometheus text under upstream's names.
    pub(crate) fn render(&self, out: &mut String) {
        self.sinks.render(out);
    }

    /// Begins to follow a request, if the policy has anything about it written down. Errors: its arrival could not
    /// be, and must.
    pub(crate) async fn begin(
        &self,
        call: &Call,
        request: &Request<RequestBody>,
        id: &HeaderValue,
    ) -> Result<Option<Arc<Trail>>, Untold> {
        let trail = self.follow(&call.user, &call.info, request, id);
        if let Some(trail) = &trail
            && !trail.tell("RequestReceived").await
        {
            self.sinks.rejected();
            return Err(Untold);
        }
        Ok(trail)
    }

    /// Tells of a request whose sender is not known.
    pub(crate) async fn refused(
        &self,
        info: &RequestInfo,
        request: &Request<RequestBody>,
        id: &HeaderValue,
        status: &Status,
    ) {
        if let Some(trail) = self.follow(&UserInfo::default(), info, request, id) {
            let status = json!(status);
            let code = status["code"].as_u64().unwrap_or(500);
            trail.edit(|event| event["responseStatus"] = short(&status, code as u16));
            if trail.rule.level == Level::RequestResponse {
                trail.edit(|event| event["responseObject"] = status);
            }
            trail.tell("ResponseStarted").await;
        }
    }

    fn follow(
        &self,
        user: &UserInfo,
        info: &RequestInfo,
        request: &Request<RequestBody>,
        id: &HeaderValue,
    ) -> Option<Arc<Trail>> {
        let rule = self.policy.rule(user, info);
        self.sinks.judged(rule.level.name());
        if rule.level == Level::None {
            return None;
        }
        let headers = request.headers();
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": rule.level.name(),
            "auditID": id.to_str().unwrap_or(""), "stage": "RequestReceived",
            "requestURI": request.uri().path_and_query().map_or("", |p| p.as_str()), "verb": info.verb,
            "user": user, "sourceIPs": sources(headers, request.extensions().get::<Source>()),
            "requestReceivedTimestamp": MicroTime::now(),
        });
        if let Some(agent) = headers.get("user-agent").and_then(|a| a.to_str().ok()) {
            event["userAgent"] = match agent.get(..AGENT_LIMIT) {
                Some(start) if agent.len() > AGENT_LIMIT => json!(format!("{start}...TRUNCATED")),
                _ => json!(agent),
            };
        }
        if info.is_resource {
            let parts = [
                ("resource", &info.resource),
                ("namespace", &info.namespace),
                ("name", &info.name),
                ("apiGroup", &info.group),
                ("apiVersion", &info.version),
                ("subresource", &info.subresource),
            ];
            let named = parts.into_iter().filter(|(_, value)| !value.is_empty());
            event["objectRef"] = named.map(|(member, value)| (member.to_owned(), json!(value))).collect();
        }
        for (key, value) in request
            .extensions()
            .get::<Notes>()
            .into_iter()
            .flat_map(|n| &n.annotations)
        {
            event["annotations"][*key] = json!(value);
        }
        Some(Arc::new(Trail {
            sinks: self.sinks.clone(),
            rule,
            event: Mutex::new(event),
        }))
    }
}

/// The arrival of a request could not be told, and must be.
pub(crate) struct Untold;

impl Untold {
    /// What upstream answers then.
    pub(crate) fn answer(&self, request: &Request<RequestBody>) -> Response<Body> {
        let uri = request.uri().path_and_query().map_or("", |p| p.as_str());
        let why = format!("Internal Server Error: {uri:?}: failed to store audit event\n");
        crate::encode::text_response(500, why)
    }
}

/// The addresses a request came through, nearest last.
fn sources(headers: &HeaderMap, peer: Option<&Source>) -> Vec<String> {
    let forwarded = headers
        .get("x-forwarded-for")
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let mut found: Vec<String> = forwarded
        .split(',')
        .map(str::trim)
        .filter(|a| a.parse::<std::net::IpAddr>().is_ok())
        .map(str::to_owned)
        .collect();
    let real = headers.get("x-real-ip").and_then(|v| v.to_str().ok());
    let real = real.and_then(|v| v.parse::<std::net::IpAddr>().ok());
    if let Some(real) = real.map(|ip| ip.to_string()).filter(|ip| !found.contains(ip)) {
        found.push(real);
    }
    let peer = peer.map(|p| p.address.ip().to_string());
    if let Some(peer) = peer.filter(|p| found.last() != Some(p)) {
        found.push(peer);
    }
    found
}

impl Trail {
    fn edit(&self, change: impl FnOnce(&mut Value)) {
        change(&mut self.event.lock().expect("no panic under this lock"));
    }

    /// As whom the request goes on.
    pub(crate) fn impersonated(&self, user: &UserInfo, constraint: Option<&str>) {
        self.edit(|event| {
            event["impersonatedUser"] = json!(user);
            if let Some(constraint) = constraint {
                event["authenticationMetadata"] = json!({"impersonationConstraint": constraint});
            }
        });
    }

    /// Where the time went, if the request took long.
    pub(crate) fn was_slow(&self, total: Duration, authentication: Duration, layers: Layers) {
        if total <= SLOW {
            return;
        }
        let layers = layers.with(Layer::Authentication, authentication);
        for (key, time) in layers.told().chain([("apiserver.latency.k8s.io/total", total)]) {
            self.annotate(key, &GoDuration::from(time).to_string());
        }
    }

    /// A note of somebody who judged the request.
    pub(crate) fn annotate(&self, key: &str, value: &str) {
        // What was said first stays, as upstream has it.
        self.edit(|event| {
            let said = &mut event["annotations"][key];
            if said.is_null() {
                *said = json!(value);
            }
        });
    }

    fn asked(&self, mut object: Value, version: &str, kind: &str) {
        object["apiVersion"] = json!(version);
        object["kind"] = json!(kind);
        let object = self.shown(object);
        self.edit(|event| event["requestObject"] = object);
    }

    /// What the path does not say of the object, its body does.
    fn name_object(&self, object: &Value) {
        for member in ["name", "namespace", "uid", "resourceVersion"] {
            let said = object["metadata"][member].as_str().unwrap_or("");
            self.edit(|event| {
                if !said.is_empty() && event["objectRef"][member].is_null() {
                    event["objectRef"][member] = json!(said);
                }
            });
        }
    }

    fn shown(&self, mut object: Value) -> Value {
        if self.rule.omits_managed_fields {
            let strip = |object: &mut Value| {
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
            };
            strip(&mut object);
            let mut each = |list: &str, strip: &mut dyn FnMut(&mut Value)| {
                let members = object.get_mut(list).and_then(Value::as_array_mut);
                members.into_iter().flatten().for_each(strip);
            };
            each("items", &mut { strip });
            each("rows", &mut |row| row.get_mut("object").into_iter().for_each(strip));
        }
        object
    }

    /// The answer's head is known. The trail ends with its body.
    pub(crate) async fn answer(self: Arc<Self>, call: &Call, response: Response<Body>) -> Response<Body> {
        let (parts, mut body) = response.into_parts();
        let code = parts.status.as_u16();
        let endless = call.info.is_long_running();
        let failed = code >= 400;
        self.edit(|event| event["responseStatus"] = json!({"metadata": {}, "code": code}));
        if endless && !failed {
            self.tell("ResponseStarted").await;
            let trail = self.clone();
            let ended = Ended(Some(trail));
            let frames = futures::stream::unfold((body, ended), |(mut body, ended)| async move {
                let frame = body.frame().await?;
                Some((frame, (body, ended)))
            });
            let frames = http_body_util::StreamBody::new(frames);
            return Response::from_parts(parts, Body::wrap(frames));
        }
        // A deletion, an eviction or a binding may be answered by a status, which is told at every level.
        let may_be_status = failed || matches!(call.info.verb, "create" | "delete");
        let is_logged = parts.extensions.get::<Unlogged>().is_none();
        if is_logged && (self.rule.level == Level::RequestResponse || may_be_status) {
            let (back, whole) = gathered(body).await;
            body = back;
            match whole.map(|bytes| readable(&bytes, &parts.headers)) {
                Some(object) => self.answered(object, code),
                None => self.annotate("audit.k8s.io/truncated", "true"),
            }
        }
        if endless {
            self.tell("ResponseStarted").await;
        }
        self.tell("ResponseComplete").await;
        Response::from_parts(parts, body)
    }

    fn answered(&self, object: Option<Value>, code: u16) {
        let Some(object) = object else { return };
        if object["kind"] == "Status" {
            self.edit(|event| event["responseStatus"] = short(&object, code));
        }
        if self.rule.level == Level::RequestResponse {
            let object = self.shown(object);
            self.edit(|event| event["responseObject"] = object);
        }
    }

    /// What is known at a stage; nothing when the policy leaves it out.
    fn told(&self, stage: &str) -> Option<Value> {
        if self.rule.omits(stage) {
            return None;
        }
        let mut event = self.event.lock().expect("no panic under this lock");
        event["stage"] = json!(stage);
        event["stageTimestamp"] = match stage {
            "RequestReceived" => event["requestReceivedTimestamp"].clone(),
            _ => json!(MicroTime::now()),
        };
        // Nothing comes after the last stage.
        Some(match stage {
            "ResponseComplete" => event.take(),
            _ => event.clone(),
        })
    }

    /// Whether the request may go on.
    async fn tell(&self, stage: &str) -> bool {
        match self.told(stage) {
            Some(event) => self.sinks.send(&event).await,
            None => true,
        }
    }
}

/// Tells the end of a stream when that comes, however it comes.
struct Ended(Option<Arc<Trail>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(trail) = self.0.take()
            && let Some(event) = trail.told("ResponseComplete")
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move { trail.sinks.send(&event).await });
        }
    }
}

/// A body that can still be sent, and its bytes unless they are too many or did not come.
async fn gathered(mut body: Body) -> (Body, Option<Bytes>) {
    let (mut bytes, mut whole) = (BytesMut::new(), true);
    while let Some(frame) = body.frame().await {
        match frame.map(http_body::Frame::into_data) {
            Ok(Ok(data)) => bytes.extend_from_slice(&data),
            Ok(Err(_)) => {}
            Err(_) => whole = false,
        }
        if !whole || bytes.len() > ANSWER_LIMIT {
            let begun = futures::stream::iter([Ok(http_body::Frame::data(bytes.freeze()))]);
            let rest = http_body_util::BodyStream::new(body);
            return (Body::wrap(http_body_util::StreamBody::new(begun.chain(rest))), None);
        }
    }
    let bytes = bytes.freeze();
    (Body::full(bytes.clone()), Some(bytes))
}

/// An object as JSON, whatever it was written as; absent when there is none.
fn readable(bytes: &[u8], headers: &HeaderMap) -> Option<Value> {
    let header = |name| {
        headers
            .get(name)
            .and_then(|v: &HeaderValue| v.to_str().ok())
            .unwrap_or("")
    };
    let expanded = match header(CONTENT_ENCODING) {
        "gzip" => Some(crate::encode::expand(bytes).ok()?),
        _ => None,
    };
    let bytes = expanded.as_deref().unwrap_or(bytes);
    let object = match header(CONTENT_TYPE).split(';').next().unwrap_or("") {
        protobuf::MEDIA_TYPE => protobuf::decode_to_json(bytes, None).ok().map(named_items),
        "application/yaml" => crate::yaml::read(bytes).ok().map(|document| document.value),
        _ => serde_json::from_slice(bytes).ok(),
    };
    object.filter(|object: &Value| object.get("kind").is_some())
}

/// The items of a list of metadata say in JSON what they are.
fn named_items(mut list: Value) -> Value {
    if list["kind"] == "PartialObjectMetadataList" {
        let version = list["apiVersion"].clone();
        for item in list["items"].as_array_mut().into_iter().flatten() {
            item["apiVersion"] = version.clone();
            item["kind"] = json!("PartialObjectMetadata");
        }
    }
    list
}

/// A Status as events have it.
fn short(status: &Value, code: u16) -> Value {
    let mut shown = json!({"metadata": {}, "code": code});
    for member in ["status", "message", "reason", "details"] {
        if let Some(value) = status.get(member) {
            shown[member] = value.clone();
        }
    }
    shown
}
