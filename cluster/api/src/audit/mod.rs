//! The audit log: who asked what of the server, and what came of it, as a policy says (audit.k8s.io/v1).
//!
//! A [`Trail`] follows one request through its stages; what it has to say goes to the [`sink`]s, a file and a webhook.

mod policy;
mod sink;

pub use sink::{AuditLog, AuditOptions};

use crate::{
    core::Core,
    pipeline::{Call, RequestBody},
    registry::Row,
};
use bytes::Bytes;
use futures::future::Either;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Limited};
use policy::{Level, Policy, Rule};
use serde_json::{Value, json};
use sink::Sinks;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use strata_auth::UserInfo;
use strata_http::Body;
use strata_meta::{GroupVersionKind, MicroTime, Status};

/// The largest answer that is written down whole.
const ANSWER_LIMIT: usize = 8 << 20;

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

/// Answers a request within its trail.
pub(crate) fn within<F: Future>(trail: Option<Arc<Trail>>, answering: F) -> impl Future<Output = F::Output> {
    match trail {
        Some(trail) => Either::Left(TRAIL.scope(trail, answering)),
        None => Either::Right(answering),
    }
}

/// Where a request comes from, left in its extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source(pub(crate) SocketAddr);

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

    /// Begins to follow a request, if the policy has anything about it written down.
    pub(crate) async fn begin(
        &self,
        call: &Call,
        request: &Request<RequestBody>,
        id: &HeaderValue,
    ) -> Option<Arc<Trail>> {
        let rule = self.policy.rule(&call.user, &call.info);
        if rule.level == Level::None {
            return None;
        }
        let info = &call.info;
        let mut event = json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": rule.level.name(),
            "auditID": id.to_str().unwrap_or(""), "stage": "RequestReceived",
            "requestURI": request.uri().path_and_query().map_or("", |p| p.as_str()), "verb": info.verb,
            "user": &*call.user, "sourceIPs": sources(&call.headers, request.extensions().get::<Source>()),
            "requestReceivedTimestamp": MicroTime::now(),
        });
        if let Some(agent) = call.headers.get("user-agent").and_then(|a| a.to_str().ok()) {
            event["userAgent"] = json!(agent.chars().take(1024).collect::<String>());
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
        let trail = Arc::new(Trail {
            sinks: self.sinks.clone(),
            rule,
            event: Mutex::new(event),
        });
        trail.tell("RequestReceived").await;
        Some(trail)
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
    let peer = peer.map(|p| p.0.ip().to_string());
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

    /// Takes the request's body down, if it is to be written. Errors: 413.
    pub(crate) async fn take_body(
        &self,
        call: &Call,
        row: Option<&Row>,
        request: Request<RequestBody>,
    ) -> Result<Request<RequestBody>, Status> {
        let writes = matches!(
            call.info.verb,
            "create" | "update" | "patch" | "delete" | "deletecollection"
        );
        let is_named = self.rule.level >= Level::Request || call.info.verb == "create";
        if !is_named || !writes || call.info.is_long_running() {
            return Ok(request);
        }
        let (parts, body) = request.into_parts();
        let bytes = crate::codec::read_body(body.into()).await?;
        let object = match call.info.verb {
            "create" | "update" if call.info.subresource.is_empty() => {
                whole(&bytes, row, &call.headers).or_else(|| readable(&bytes, None, &call.headers))
            }
            "delete" | "deletecollection" => options(&bytes),
            _ => readable(&bytes, None, &call.headers),
        };
        if call.info.is_resource && call.info.verb == "create" {
            self.name_object(object.as_ref());
        }
        if self.rule.level >= Level::Request
            && let Some(object) = self.shown(object)
        {
            self.edit(|event| event["requestObject"] = object);
        }
        Ok(Request::from_parts(parts, RequestBody::Memory(bytes)))
    }

    /// What the path does not say of the object, its body does.
    fn name_object(&self, object: Option<&Value>) {
        for (member, path) in [("name", "name"), ("namespace", "namespace"), ("uid", "uid")] {
            let said = object.and_then(|o| o["metadata"][path].as_str()).unwrap_or("");
            self.edit(|event| {
                if !said.is_empty() && event["objectRef"][member].is_null() {
                    event["objectRef"][member] = json!(said);
                }
            });
        }
    }

    fn shown(&self, object: Option<Value>) -> Option<Value> {
        let mut object = object?;
        if self.rule.omits_managed_fields {
            let strip = |object: &mut Value| {
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("managedFields");
                }
            };
            strip(&mut object);
            object
                .get_mut("items")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
                .for_each(strip);
        }
        Some(object)
    }

    /// The answer's head is known. The trail ends with its body.
    pub(crate) async fn answer(
        self: Arc<Self>,
        call: &Call,
        row: Option<&Row>,
        response: Response<Body>,
    ) -> Response<Body> {
        let (parts, mut body) = response.into_parts();
        let code = parts.status.as_u16();
        let endless = call.info.is_long_running();
        self.edit(|event| event["responseStatus"] = json!({"metadata": {}, "code": code}));
        if endless {
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
        let failed = code >= 400;
        // A deletion may be answered by a status, which is told at every level.
        let may_be_status = failed || call.info.verb == "delete";
        if self.rule.level == Level::RequestResponse || may_be_status {
            match Limited::new(body, ANSWER_LIMIT).collect().await {
                Ok(whole) => {
                    let bytes = whole.to_bytes();
                    let object = readable(&bytes, row, &parts.headers);
                    if may_be_status && let Some(status) = object.as_ref().filter(|o| o["kind"] == "Status") {
                        self.edit(|event| event["responseStatus"] = short(status, code));
                    }
                    if self.rule.level == Level::RequestResponse
                        && let Some(object) = self.shown(object)
                    {
                        self.edit(|event| event["responseObject"] = object);
                    }
                    body = Body::full(bytes);
                }
                Err(why) => {
                    self.tell("ResponseComplete").await;
                    let status = Status::internal(format_args!("the answer cannot be audited: {why}"));
                    return crate::encode::status_response(&status);
                }
            }
        }
        self.tell("ResponseComplete").await;
        Response::from_parts(parts, body)
    }

    /// What is known at a stage; nothing when the policy leaves it out.
    fn told(&self, stage: &str) -> Option<Bytes> {
        if self.rule.omits(stage) {
            return None;
        }
        let mut event = self.event.lock().expect("no panic under this lock");
        event["stage"] = json!(stage);
        event["stageTimestamp"] = json!(MicroTime::now());
        serde_json::to_vec(&*event).ok().map(Bytes::from)
    }

    async fn tell(&self, stage: &str) {
        if let Some(line) = self.told(stage) {
            self.sinks.send(line).await;
        }
    }
}

/// Tells the end of a stream when that comes, however it comes.
struct Ended(Option<Arc<Trail>>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(trail) = self.0.take()
            && let Some(line) = trail.told("ResponseComplete")
        {
            trail.sinks.send_now(line);
        }
    }
}

/// A body as JSON, whatever it came as; absent when it is none.
fn readable(bytes: &[u8], row: Option<&Row>, headers: &HeaderMap) -> Option<Value> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Some(value);
    }
    let (media, row) = (crate::codec::body_media(headers).ok()?, row?);
    let (mut unheard, ignore) = (Vec::new(), crate::codec::FieldValidation::Ignore);
    let decoded = crate::codec::decode_row(row, media, bytes, ignore, &mut unheard).ok();
    let (group, version) = (&row.gvk.group, &row.gvk.version);
    let list = GroupVersionKind::new(group, version, &row.list_kind);
    decoded.or_else(|| crate::codec::decode_body(&list, media, bytes, ignore, &mut unheard).ok())
}

/// A body as the object that it means: with its kind and its defaults.
fn whole(bytes: &[u8], row: Option<&Row>, headers: &HeaderMap) -> Option<Value> {
    let row = row?;
    let media = crate::codec::body_media(headers).ok()?;
    let (mut unheard, ignore) = (Vec::new(), crate::codec::FieldValidation::Ignore);
    let mut object = crate::codec::decode_row(row, media, bytes, ignore, &mut unheard).ok()?;
    if row.cache.is_some() {
        row.schema.apply_defaults(&row.gvk, &mut object);
    }
    object["apiVersion"] = json!(row.gvk.api_version());
    object["kind"] = json!(row.gvk.kind);
    Some(object)
}

/// The options of a deletion, in the version that upstream's log has them in.
fn options(bytes: &[u8]) -> Option<Value> {
    let mut options: Value = serde_json::from_slice(bytes).ok().filter(Value::is_object)?;
    options["apiVersion"] = json!("meta.k8s.io/__internal");
    options["kind"] = json!("DeleteOptions");
    Some(options)
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
