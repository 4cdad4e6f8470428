//! The life of a request: read, authenticate, authorise, dispatch, answer, count.

use crate::{
    aggregate,
    core::Core,
    discovery,
    encode::{Negotiated, negotiate, status_response, text_response},
    health,
    impersonate::impersonated,
    registry::Row,
    request::{Query, RequestInfo},
    review, subresource, verbs,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};
use strata_auth::UserInfo;
use strata_http::{Body, Handler, Peer};
use strata_meta::{Reason, Status};

/// Upstream's `--request-timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

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
    /// Sentences for the `Warning` header.
    pub(crate) warnings: Vec<String>,
}

impl Call {
    /// The form of the answer. Errors: 406.
    pub(crate) fn form(&self) -> Result<Negotiated, Status> {
        negotiate(&self.headers, self.query.is_true("pretty"))
    }

    /// The `includeObject` parameter of tables.
    pub(crate) fn include_object(&self) -> &str {
        self.query.get("includeObject")
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
    fn call(&self, request: Request<hyper::body::Incoming>, peer: Peer) -> BoxFuture<'static, Response<Body>> {
        let core = self.0.clone();
        Box::pin(async move {
            let request = request.map(RequestBody::Network);
            match core.authenticator.authenticate(request.headers(), &peer) {
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
                    status_response(&Status::unauthorized())
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
    let served = row.is_some();
    let outcome = bounded(&mut call, row, request, origin).await;
    let mut response = outcome.unwrap_or_else(|status| status_response(&status));
    for warning in &call.warnings {
        let quoted = warning
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace(|c: char| c.is_control(), " ");
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            response.headers_mut().append("warning", value);
        }
    }
    let headers = response.headers_mut();
    headers.insert("audit-id", audit_id(&call.headers));
    headers
        .entry("cache-control")
        .or_insert(HeaderValue::from_static("no-cache, private"));
    tracing::debug!(
        target: "strata::audit",
        user = %call.user.name,
        verb = call.info.verb,
        path = %call.info.path,
        code = response.status().as_u16(),
        "request"
    );
    call.core
        .metrics
        .record(&call.info, served, response.status().as_u16(), started.elapsed());
    response
}

/// How logs name the request: as the client does, or a name of its own.
fn audit_id(asked: &HeaderMap) -> HeaderValue {
    let stated = asked.get("audit-id").filter(|id| (1..=64).contains(&id.len()));
    stated.cloned().unwrap_or_else(|| {
        let id = HeaderValue::from_str(strata_meta::Uid::random().as_str());
        id.expect("hexadecimal digits are a header value")
    })
}

/// Counts a request while it is being answered.
struct InFlight<'a>(&'a AtomicI64);

impl<'a> InFlight<'a> {
    fn enter(gauge: &'a AtomicI64) -> Self {
        gauge.fetch_add(1, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// As whom the caller says, when it is the request's turn, within the limits of concurrency and time.
async fn bounded(
    call: &mut Call,
    row: Option<Arc<Row>>,
    request: Request<RequestBody>,
    origin: Origin,
) -> Result<Response<Body>, Status> {
    let core = call.core.clone();
    call.user = impersonated(&core, call.user.clone(), &call.headers)?;
    let endless = call.info.is_long_running();
    if origin == Origin::Process || (endless && call.info.verb != "watch") {
        return timed(call, row, request, endless).await;
    }
    let admitted = core.flow.admit(call, row.as_deref()).await?;
    // Nothing else bounds a level that lets everything through.
    let _slot = match admitted.is_exempt() && !endless {
        false => None,
        true => {
            let slots = if is_read(call) { &core.reads } else { &core.writes };
            let turn = tokio::time::timeout(QUEUE_TIMEOUT, slots.acquire()).await;
            Some(turn.map_err(|_| Status::too_many_requests("Too many requests, please try again later.", 1))?)
        }
    };
    let outcome = timed(call, row, request, endless).await;
    let mut response = outcome.unwrap_or_else(|status| status_response(&status));
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
    endless: bool,
) -> Result<Response<Body>, Status> {
    let core = call.core.clone();
    if endless {
        let _count = InFlight::enter(&core.metrics.long_running);
        return authorised(call, row, request).await;
    }
    let gauge = if is_read(call) {
        &core.metrics.reads
    } else {
        &core.metrics.writes
    };
    let _count = InFlight::enter(gauge);
    match tokio::time::timeout(REQUEST_TIMEOUT, authorised(call, row, request)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Status::failure(
            Reason::Timeout,
            "Timeout: request did not complete within the allotted timeout",
        )),
    }
}

async fn authorised(
    call: &mut Call,
    row: Option<Arc<Row>>,
    request: Request<RequestBody>,
) -> Result<Response<Body>, Status> {
    if call.info.is_resource && call.info.resource.is_empty() {
        return Ok(not_found());
    }
    call.core.authorize(&call.user, &call.info, &call.query)?;
    if let Some(remote) = call.core.aggregator.of(&call.info.path) {
        return aggregate::forward(call, &remote, request).await;
    }
    match (call.info.is_resource, row) {
        (true, Some(row)) => dispatch(call, &row, request).await,
        (true, None) => Ok(not_found()),
        (false, _) => plain(call),
    }
}

/// What upstream answers for paths that nothing serves.
pub(crate) fn not_found() -> Response<Body> {
    text_response(404, "404 page not found\n")
}

fn plain(call: &Call) -> Result<Response<Body>, Status> {
    if let Some(response) = health::serve(call) {
        return Ok(response);
    }
    match discovery::serve(call)? {
        Some(response) => Ok(response),
        None => Ok(not_found()),
    }
}

async fn dispatch(call: &mut Call, row: &Arc<Row>, request: Request<RequestBody>) -> Result<Response<Body>, Status> {
    let sub = call.info.subresource.clone();
    if !sub.is_empty() {
        let Some(served) = row.subresource(&sub) else {
            return Ok(not_found());
        };
        if !served.verbs.iter().any(|v| v == call.info.verb) {
            return Err(Status::method_not_allowed());
        }
        return subresource::serve(call, row, request).await;
    }
    // An object in a namespace has no other address.
    let nowhere = row.namespaced && call.info.namespace.is_empty() && row.cache.is_some();
    if nowhere && !matches!(call.info.verb, "list" | "watch") {
        return if call.info.name.is_empty() {
            Err(Status::method_not_allowed())
        } else {
            Ok(not_found())
        };
    }
    if !row.allows(call.info.verb) {
        return Err(Status::method_not_allowed());
    }
    if row.cache.is_none() {
        return review::serve(call, row, request.into_body().into()).await;
    }
    match call.info.verb {
        "get" => verbs::get(call, row).await,
        "list" => verbs::list(call, row).await,
        "watch" => verbs::watch(call, row).await,
        "create" => verbs::create(call, row, request.into_body().into()).await,
        "update" => verbs::update(call, row, verbs::Part::Main, request.into_body().into()).await,
        "patch" => verbs::patch(call, row, verbs::Part::Main, request.into_body().into()).await,
        "delete" => verbs::delete(call, row, request.into_body().into()).await,
        "deletecollection" => verbs::delete_collection(call, row, request.into_body().into()).await,
        _ => Err(Status::method_not_allowed()),
    }
}
