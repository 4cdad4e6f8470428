//! The life of a request: read, authenticate, authorise, dispatch, answer, count.

use crate::{
    aggregate,
    audit::{self, Trail},
    core::Core,
    discovery,
    encode::{Negotiated, Offer, Shape, acceptable, failure_response, negotiate, status_response, text_response},
    flow, health,
    identify::{authenticate, forget_token},
    impersonate::impersonated,
    legacy_tokens,
    metrics::{Filter, Layer, waits},
    openapi, operations,
    registry::Row,
    request::{Query, RequestInfo, time_limit},
    review, subresource, usage,
    verbs::{self, WRITE_TIMEOUT, ran_out},
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header::CONTENT_TYPE};
use http_body::Body as _;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use strata_auth::{Notes, UserInfo};
use strata_http::{Body, Handler, Peer};
use strata_meta::{Reason, Status};

/// How long a request may wait for its turn; connections bound how many do.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// A request that may be dispatched.
pub(crate) struct Call {
    /// The server.
    pub(crate) core: Arc<Core>,
    /// Who asks.
    pub(crate) user: Arc<UserInfo>,
    /// What about.
    pub(crate) info: RequestInfo,
    /// The method.
    pub(crate) method: Method,
    /// The query parameters.
    pub(crate) query: Query,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// Whether the objects have no protobuf form: those of custom resources.
    pub(crate) is_custom: bool,
    /// Sentences for the `Warning` header.
    pub(crate) warnings: Vec<String>,
    /// The audit log's account of it, if it has one.
    pub(crate) trail: Option<Arc<Trail>>,
}

impl Call {
    /// The form of the answer. Errors: 406.
    pub(crate) fn form(&self) -> Result<Negotiated, Status> {
        // Nobody has written columns for these (upstream neither).
        let untabled = [
            "approval",
            "binding",
            "ephemeralcontainers",
            "eviction",
            "finalize",
            "resize",
            "token",
        ];
        self.negotiated(false, !untabled.contains(&self.info.subresource.as_str()))
    }

    /// The form of an answer that is no stored object and so has no table. Errors: 406.
    pub(crate) fn untabled_form(&self) -> Result<Negotiated, Status> {
        self.negotiated(false, false)
    }

    /// The form of a watch. Errors: 406.
    pub(crate) fn stream_form(&self) -> Result<Negotiated, Status> {
        self.negotiated(true, true)
    }

    fn negotiated(&self, stream: bool, tables: bool) -> Result<Negotiated, Status> {
        let offer = Offer {
            transforms: self.info.is_resource,
            tables,
            protobuf: !self.is_custom,
            stream,
        };
        let pretty = self
            .query
            .bool("pretty")
            .filter(|_| !self.query.get("pretty").is_empty());
        negotiate(&self.headers, pretty, offer)
    }

    /// The `includeObject` parameter of tables. Errors: 400.
    pub(crate) fn include_object(&self) -> Result<&str, Status> {
        match self.query.get("includeObject") {
            known @ ("" | "Metadata" | "Object" | "None") => Ok(known),
            other if self.form()?.shape == Shape::Table => Err(Status::bad_request(format_args!(
                "Unable to convert to Table as requested: includeObject: Invalid value: {other:?}: must be 'Metadata', 'Object', 'None', or empty"
            ))),
            _ => Ok(""),
        }
    }
}

/// The body of a request: from the network, where it may still become a stream, or from memory.
pub(crate) enum RequestBody {
    /// As it arrives.
    Network(hyper::body::Incoming),
    /// In hand.
    Memory(Bytes),
}

impl From<RequestBody> for Body {
    fn from(body: RequestBody) -> Self {
        match body {
            RequestBody::Network(body) => body.into(),
            RequestBody::Memory(bytes) => Body::full(bytes),
        }
    }
}

/// Answers requests from the network.
pub(crate) struct HttpHandler(pub(crate) Arc<Core>);

impl Handler for HttpHandler {
    fn handshake_failed(&self) {
        self.0.metrics.access.handshake_failed();
    }

    fn call(&self, request: Request<hyper::body::Incoming>, peer: Peer) -> BoxFuture<'static, Response<Body>> {
        let core = self.0.clone();
        Box::pin(async move {
            let mut request = request.map(RequestBody::Network);
            let started = Instant::now();
            let mut notes = Notes::default();
            let believed = authenticate(&core, request.headers(), &peer, &mut notes).await;
            if let Some(used) = notes.used.take() {
                legacy_tokens::mark(&core, &used).await;
            }
            if notes != Notes::default() {
                request.extensions_mut().insert(notes);
            }
            let name = believed.as_ref().ok().map(|user| user.name.as_str());
            core.metrics.access.authenticated(name, started);
            if name.is_some()
                && let Some(left) = strata_auth::certificate_lifetime(&peer)
            {
                core.metrics.access.certificate(left);
            }
            if core.audit.is_some() {
                let (address, recognised) = (peer.address, started.elapsed());
                request.extensions_mut().insert(audit::Source { address, recognised });
            }
            forget_token(request.headers_mut());
            if let Some(proxies) = core.authenticator.proxies() {
                proxies.forget(request.headers_mut());
            }
            match believed {
                // A write goes on when its caller has gone: what was begun is finished or refused, never left halfway.
                Ok(user) if !matches!(*request.method(), Method::GET | Method::HEAD) => {
                    let serving = tokio::spawn(serve(core, user, request, Origin::Network));
                    serving
                        .await
                        .unwrap_or_else(|why| status_response(&Status::internal(why)))
                }
                Ok(user) => serve(core, user, request, Origin::Network).await,
                Err(why) => {
                    tracing::debug!(address = %peer.address, %why, "not authenticated");
                    let query = Query::parse(request.uri().query().unwrap_or(""));
                    let info = RequestInfo::new(request.method(), &Query::decode_path(request.uri().path()), &query);
                    let status = time_limit(&info, &query).err().unwrap_or_else(Status::unauthorized);
                    let id = audit_id(request.headers());
                    if let Some(audit) = &core.audit {
                        audit.refused(&info, &request, &id, &status).await;
                    }
                    let mut refused = failure_response(&status, request.headers());
                    stamp(refused.headers_mut(), id);
                    refused
                }
            }
        })
    }
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A connection; how many are answered at a time is bounded.
    Network,
    /// The process itself, whose parts bound their own work.
    Process,
}

/// Answers the request of an authenticated user.
pub(crate) async fn serve(
    core: Arc<Core>,
    user: Arc<UserInfo>,
    request: Request<RequestBody>,
    origin: Origin,
) -> Response<Body> {
    let started = Instant::now();
    let query = Query::parse(request.uri().query().unwrap_or(""));
    let path = Query::decode_path(request.uri().path());
    let info = RequestInfo::new(request.method(), &path, &query);
    let mut call = Call {
        user,
        query,
        method: request.method().clone(),
        headers: request.headers().clone(),
        warnings: Vec::new(),
        is_custom: false,
        trail: None,
        info,
        core,
    };
    let row = match call.info.is_resource {
        true => call
            .core
            .registry
            .get(&call.info.group, &call.info.version, &call.info.resource),
        false => None,
    };
    if let Some(notes) = request.extensions().get::<Notes>() {
        call.warnings
            .extend(notes.warnings.iter().map(|warning| (*warning).to_owned()));
    }
    call.warnings.extend(row.as_ref().and_then(|row| row.deprecation()));
    call.is_custom = row.as_ref().is_some_and(|row| row.schema.is_custom());
    let id = audit_id(&call.headers);
    let source = request.extensions().get::<audit::Source>();
    let authentication = source.map_or(Duration::ZERO, |source| source.recognised);
    let core = call.core.clone();
    if let Some(audit) = &core.audit {
        // Upstream looks at the time a client grants before it looks at the client.
        call.trail = match time_limit(&call.info, &call.query) {
            Err(status) => {
                audit.refused(&call.info, &request, &id, &status).await;
                None
            }
            Ok(_) => match audit.begin(&call, &request, &id).await {
                Ok(trail) => trail,
                Err(untold) => {
                    let mut response = untold.answer(&request);
                    stamp(response.headers_mut(), id);
                    return response;
                }
            },
        };
    }
    let trail = call.trail.clone();
    let (outcome, spent) = waits::within(audit::within(
        trail.clone(),
        bounded(&mut call, row.clone(), request, origin),
    ))
    .await;
    let mut response = outcome.unwrap_or_else(|status| failure_response(&status, &call.headers));
    for warning in &call.warnings {
        let quoted = warning
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(|c: char| c.is_control(), " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append("warning", value);
        }
    }
    stamp(response.headers_mut(), id);
    tracing::debug!(
        target: "strata::audit",
        user = %call.user.name,
        verb = call.info.verb,
        path = %call.info.path,
        code = response.status().as_u16(),
        "request"
    );
    let (code, size) = (response.status().as_u16(), response.body().size_hint().lower());
    let took = started.elapsed();
    let requests = &call.core.metrics.requests;
    requests.answered(&call, row.as_deref(), code, (size, spent.body), (took, spent.waited));
    match trail {
        Some(trail) => {
            if call.info.verb != "watch" {
                trail.was_slow(took + authentication, authentication, spent.layers);
            }
            trail.answer(&call, response).await
        }
        None => response,
    }
}

/// What every answer carries.
fn stamp(headers: &mut HeaderMap, id: HeaderValue) {
    headers.insert("audit-id", id);
    headers
        .entry("cache-control")
        .or_insert(HeaderValue::from_static("no-cache, private"));
}

/// How logs name the request: as the client does, or a name of its own.
fn audit_id(asked: &HeaderMap) -> HeaderValue {
    let stated = asked.get("audit-id").filter(|id| (1..=64).contains(&id.len()));
    stated.cloned().unwrap_or_else(|| {
        let id = HeaderValue::from_str(strata_meta::Uid::random().as_str());
        id.expect("hexadecimal digits are a header value")
    })
}

/// As whom the caller says, when it is the request's turn, within the limits of concurrency and time.
async fn bounded(
    call: &mut Call,
    row: Option<Arc<Row>>,
    mut request: Request<RequestBody>,
    origin: Origin,
) -> Result<Response<Body>, Status> {
    let core = call.core.clone();
    let caller = call.user.clone();
    let limit = time_limit(&call.info, &call.query)?;
    let asked = Instant::now();
    let acting = match impersonated(&core, &caller, &call.headers, (&call.info, &call.query)).await {
        Ok(acting) => acting,
        Err(status) => return Ok(refused(&status, call)),
    };
    let access = &core.metrics.access;
    access.passed(Filter::Impersonation, asked.elapsed());
    if let Some(acting) = acting {
        waits::took(Layer::Impersonation, asked.elapsed());
        call.user = acting.user;
        if let Some(trail) = &call.trail {
            trail.impersonated(&call.user, acting.constraint.as_deref());
        }
        // Nobody behind this point is to act on it again.
        strata_http::proxy::remove_impersonation(request.headers_mut());
    }
    let endless = limit.is_none();
    if origin == Origin::Process || (endless && call.info.verb != "watch") {
        return timed(call, row, request, limit).await;
    }
    let waiting = core.metrics.requests.waiting(is_read(call));
    let asked = Instant::now();
    let admitted = core.flow.admit(call, row.as_deref()).await;
    access.passed(Filter::Turn, asked.elapsed());
    drop(waiting);
    let mut admitted = match admitted {
        Ok(admitted) => admitted,
        Err(answer) => {
            core.metrics.requests.terminated(call, row.as_deref(), 429);
            return Ok(*answer);
        }
    };
    // Nothing else bounds a level that lets everything through.
    let slot = match admitted.is_exempt() && !endless {
        false => None,
        true => {
            let slots = if is_read(call) { &core.reads } else { &core.writes };
            let turn = tokio::time::timeout(QUEUE_TIMEOUT, slots.clone().acquire_owned()).await;
            let Some(slot) = turn.ok().and_then(Result::ok) else {
                return Ok(flow::too_many_requests(1));
            };
            Some(slot)
        }
    };
    let (outcome, seats) = flow::holding(
        core.flow.parking.clone(),
        admitted.take_seats(),
        slot,
        timed(call, row, request, limit),
    )
    .await;
    admitted.return_seats(seats);
    let mut response = outcome.unwrap_or_else(|status| failure_response(&status, &call.headers));
    admitted.label(response.headers_mut());
    admitted.finish();
    Ok(response)
}

fn is_read(call: &Call) -> bool {
    matches!(call.info.verb, "get" | "list" | "head" | "options")
}

/// Counted, and cut off when it takes too long.
async fn timed(
    call: &mut Call,
    row: Option<Arc<Row>>,
    request: Request<RequestBody>,
    limit: Option<Duration>,
) -> Result<Response<Body>, Status> {
    let core = call.core.clone();
    let Some(limit) = limit else {
        let lasting = core.metrics.requests.lasting(call, row.as_deref());
        let mut response = authorised(call, row, request).await?;
        // Counted until the stream ends.
        response.body_mut().hold(lasting);
        return Ok(response);
    };
    let _count = core.metrics.requests.executing(is_read(call));
    // A write is bounded by itself as well, and says so in other words.
    let written = !is_read(call) && limit > WRITE_TIMEOUT;
    let limit = if written { WRITE_TIMEOUT } else { limit };
    waits::end_at(Instant::now() + limit);
    match tokio::time::timeout(limit, authorised(call, row.clone(), request)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            core.metrics.requests.terminated(call, row.as_deref(), 504);
            if written {
                return Err(ran_out());
            }
            Err(Status::failure(
                Reason::Timeout,
                "Timeout: request did not complete within the allotted timeout",
            ))
        }
    }
}

/// What one who may not is told, as upstream's gate says it.
fn refused(status: &Status, call: &Call) -> Response<Body> {
    let mut response = failure_response(status, &call.headers);
    let headers = response.headers_mut();
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

async fn authorised(
    call: &mut Call,
    row: Option<Arc<Row>>,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Status> {
    if call.info.is_resource && call.info.resource.is_empty() {
        return Ok(not_found());
    }
    let started = Instant::now();
    let allowed = match &call.trail {
        None => call.core.authorize_request(&call.user, &call.info, &call.query).await,
        Some(trail) => {
            let (allowed, reason) = call.core.judge_request(&call.user, &call.info, &call.query).await;
            let decision = if allowed.is_ok() { "allow" } else { "forbid" };
            trail.annotate("authorization.k8s.io/decision", decision);
            trail.annotate("authorization.k8s.io/reason", &reason);
            allowed
        }
    };
    let took = started.elapsed();
    waits::took(Layer::Authorization, took);
    call.core.metrics.access.authorized(allowed.is_ok(), took);
    if let Err(status) = allowed {
        return Ok(refused(&status, call));
    }
    if let Some(remote) = call.core.aggregator.of(&call.info.path) {
        return aggregate::forward(call, &remote, request).await;
    }
    match (call.info.is_resource, row) {
        (true, Some(row)) => dispatch(call, &row, request).await,
        (true, None) => unknown_resource(call),
        (false, _) if call.info.path.starts_with("/debug/") => {
            let answer = operations::serve(call, request).await;
            answer.unwrap_or_else(|| Ok(not_found()))
        }
        (false, _) => plain(call).await,
    }
}

/// What upstream answers for paths that nothing serves.
pub(crate) fn not_found() -> Response<Body> {
    text_response(404, "404 page not found\n")
}

/// Within a group that is served it is the resource that is missing, elsewhere the path.
fn unknown_resource(call: &Call) -> Result<Response<Body>, Status> {
    if serves_group(call, &call.info.group) {
        Err(Status::path_not_found())
    } else {
        Ok(not_found())
    }
}

fn serves_group(call: &Call, group: &str) -> bool {
    let rows = call.core.registry.rows();
    rows.iter().any(|row| row.gvk.group == group && !row.schema.is_custom())
}

async fn plain(call: &Call) -> Result<Response<Body>, Status> {
    if let Some(response) = health::serve(call).await {
        return Ok(response);
    }
    if openapi::is_asked(&call.info.path) {
        return openapi::serve(call).await;
    }
    match discovery::serve(call)? {
        Some(response) => Ok(response),
        None => match call
            .info
            .path
            .trim_matches('/')
            .split('/')
            .collect::<Vec<_>>()
            .as_slice()
        {
            ["apis", group, _] if serves_group(call, group) => Err(Status::path_not_found()),
            ["api", _] => Err(Status::path_not_found()),
            _ => Ok(not_found()),
        },
    }
}

/// What upstream's router checks before anything else. Errors: 406, 415.
fn routed(call: &Call) -> Result<(), Status> {
    acceptable(&call.headers, matches!(call.info.verb, "list" | "watch"))?;
    if call.info.verb != "patch" {
        return Ok(());
    }
    let media = call
        .headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let known = match media.split(';').next().unwrap_or("").trim() {
        "application/json-patch+json" | "application/merge-patch+json" | "application/apply-patch+yaml" => true,
        "application/strategic-merge-patch+json" => !call.is_custom,
        _ => false,
    };
    if known {
        return Ok(());
    }
    // Custom resources are not found by upstream's router.
    if call.is_custom {
        return Err(crate::schema::no_such_patch());
    }
    let mut status = Status::failure(Reason::UnsupportedMediaType, "415: Unsupported Media Type");
    status.details = Some(Box::default());
    Err(status)
}

async fn dispatch(call: &mut Call, row: &Arc<Row>, request: Request<RequestBody>) -> Result<Response<Body>, Status> {
    let custom = row
        .schema
        .custom()
        .and_then(|custom| custom.version().deprecation.clone());
    let sub = call.info.subresource.clone();
    if (custom.is_some() || row.deprecation().is_some()) && (sub.is_empty() || row.subresource(&sub).is_some()) {
        audit::note("k8s.io/deprecated", "true");
    }
    call.warnings.extend(custom);
    if !sub.is_empty() {
        let unknown = || match row.schema.is_custom() {
            true => Status::not_found(&row.resource, &call.info.name),
            false => Status::path_not_found(),
        };
        let served = row.subresource(&sub).ok_or_else(unknown)?;
        if call.method == Method::HEAD || !served.verbs.iter().any(|v| v == call.info.verb) {
            return Err(Status::method_not_allowed());
        }
        if !call.info.is_long_running() {
            routed(call)?;
        }
        return subresource::serve(call, row, request).await;
    }
    // An object in a namespace has no other address.
    let nowhere = row.namespaced && call.info.namespace.is_empty() && row.cache.is_some();
    if nowhere && !matches!(call.info.verb, "list" | "watch") {
        return if call.info.name.is_empty() {
            Err(Status::method_not_allowed())
        } else {
            Err(Status::path_not_found())
        };
    }
    let at_a_name = !call.info.name.is_empty();
    let has_route = match call.info.verb {
        "create" => !at_a_name,
        "update" | "patch" => at_a_name,
        _ => call.method != Method::HEAD,
    };
    if !has_route {
        return Err(Status::method_not_allowed());
    }
    routed(call)?;
    if !row.allows(call.info.verb) {
        return Err(row.not_allowed(call.info.verb));
    }
    if usage::serves(row) {
        return usage::serve(call, row).await;
    }
    if row.cache.is_none() {
        return review::serve(call, row, request.into_body().into()).await;
    }
    match call.info.verb {
        "get" => verbs::get(call, row).await,
        "list" => verbs::list(call, row).await,
        "watch" => verbs::watch(call, row, request).await,
        "create" => verbs::create(call, row, request.into_body().into()).await,
        "update" => verbs::update(call, row, verbs::Part::Main, request.into_body().into()).await,
        "patch" => verbs::patch(call, row, verbs::Part::Main, request.into_body().into()).await,
        "delete" => verbs::delete(call, row, request.into_body().into()).await,
        "deletecollection" => verbs::delete_collection(call, row, request.into_body().into()).await,
        _ => Err(Status::method_not_allowed()),
    }
}
