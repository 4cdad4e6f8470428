//! The API on a socket: routes as rows, each with its handler.

use crate::call::{Call, decode, reply};
use crate::daemon::{Daemon, Inner};
use crate::error::{Answer, ApiError};
use crate::{
    archive, attach, create, events, exec, images, inspect, life, logs, netapi, refused, registry, remove, stats,
    system, transfer, volumes,
};
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use strata_http::Body;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

/// Connections at a time; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// Bytes of a request's header.
const HEADER_BYTES: usize = 256 << 10;
/// From the first byte of a header to its end.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);

type Handler = fn(Arc<Inner>, Call) -> BoxFuture<'static, Answer<Response<Body>>>;

/// A kind of request: `{}` stands for one part of the path, `{*}` for one or more.
struct Route {
    method: &'static str,
    path: &'static str,
    handler: Handler,
}

macro_rules! routes {
    ($($method:ident $path:literal $handler:path;)*) => {
        &[$(Route {
            method: stringify!($method),
            path: $path,
            handler: |inner, call| Box::pin($handler(inner, call)),
        }),*]
    };
}

const ROUTES: &[Route] = routes! {
    HEAD "/_ping" system::ping;
    GET "/_ping" system::ping;
    GET "/version" system::version;
    GET "/info" system::info;
    GET "/system/df" system::df;
    GET "/events" events::watch;
    POST "/auth" registry::auth;
    GET "/distribution/{*}/json" registry::describe;
    GET "/containers/json" inspect::list;
    POST "/containers/create" create::create;
    POST "/containers/prune" remove::prune;
    GET "/containers/{}/json" inspect::inspect;
    GET "/containers/{}/archive" archive::get;
    HEAD "/containers/{}/archive" archive::get;
    PUT "/containers/{}/archive" archive::put;
    GET "/containers/{}/export" archive::export;
    GET "/containers/{}/changes" archive::changes;
    POST "/commit" archive::commit;
    GET "/containers/{}/logs" logs::logs;
    GET "/containers/{}/stats" stats::stats;
    GET "/containers/{}/top" stats::top;
    POST "/containers/{}/attach" attach::attach;
    POST "/containers/{}/start" life::start;
    POST "/containers/{}/stop" life::stop;
    POST "/containers/{}/restart" life::restart;
    POST "/containers/{}/kill" life::kill;
    POST "/containers/{}/pause" life::pause;
    POST "/containers/{}/unpause" life::unpause;
    POST "/containers/{}/rename" life::rename;
    POST "/containers/{}/resize" life::resize;
    POST "/containers/{}/wait" life::wait;
    POST "/containers/{}/update" life::update;
    POST "/containers/{}/exec" exec::create;
    DELETE "/containers/{}" remove::delete;
    POST "/exec/{}/start" exec::start;
    POST "/exec/{}/resize" exec::resize;
    GET "/exec/{}/json" exec::inspect;
    GET "/images/json" images::list;
    POST "/images/create" transfer::create;
    POST "/images/load" transfer::load;
    GET "/images/get" transfer::save;
    GET "/images/search" refused::search;
    POST "/images/prune" images::prune;
    POST "/build" refused::build;
    POST "/build/prune" refused::prune_builds;
    GET "/plugins" refused::plugins;
    GET "/images/{*}/json" images::inspect;
    GET "/images/{*}/history" images::history;
    GET "/images/{*}/get" transfer::save_one;
    POST "/images/{*}/push" transfer::push;
    POST "/images/{*}/tag" images::tag;
    DELETE "/images/{*}" images::remove;
    GET "/networks" netapi::list;
    POST "/networks/create" netapi::create;
    POST "/networks/prune" netapi::prune;
    GET "/networks/{}" netapi::inspect;
    DELETE "/networks/{}" netapi::remove;
    POST "/networks/{}/connect" netapi::connect;
    POST "/networks/{}/disconnect" netapi::disconnect;
    GET "/volumes" volumes::list;
    POST "/volumes/create" volumes::create;
    POST "/volumes/prune" volumes::prune;
    GET "/volumes/{}" volumes::inspect;
    DELETE "/volumes/{}" volumes::remove;
    GET "/swarm" refused::swarm;
    POST "/swarm/{*}" refused::swarm;
    GET "/nodes" refused::swarm;
    GET "/services" refused::swarm;
    POST "/services/create" refused::swarm;
    GET "/tasks" refused::swarm;
    GET "/secrets" refused::swarm;
    GET "/configs" refused::swarm;
};

impl Daemon {
    /// Answers requests on the socket until the daemon is stopped.
    pub async fn serve(&self, listener: UnixListener) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        let stop = self.inner.stop.clone();
        loop {
            let slot = tokio::select! {
                slot = Arc::clone(&slots).acquire_owned() => slot,
                () = stop.cancelled() => return,
            };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _)) => {
                    let inner = Arc::clone(&self.inner);
                    tokio::spawn(async move {
                        let _slot = slot;
                        connection(inner, stream).await;
                    });
                }
                Err(error) => {
                    if let Err(error) = strata_http::survive_accept(error).await {
                        return tracing::error!(%error, "the socket gives no connections any more");
                    }
                }
            }
        }
    }
}

async fn connection(inner: Arc<Inner>, stream: UnixStream) {
    let stop = inner.stop.clone();
    let service = service_fn(move |request| {
        let inner = Arc::clone(&inner);
        async move { Ok::<_, Infallible>(respond(inner, request).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .half_close(true);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

async fn respond(inner: Arc<Inner>, request: Request<Incoming>) -> Response<Body> {
    let busy = inner.activity.begin();
    let answer = match find(request.method().as_str(), request.uri().path()) {
        Ok((handler, names)) => handler(Arc::clone(&inner), Call::new(request, names)).await,
        Err(error) => Err(error),
    };
    let mut response = answer.unwrap_or_else(|error| match error.status {
        StatusCode::NOT_MODIFIED => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
        }
        status => reply(status, &json!({"message": error.message})),
    });
    response.body_mut().hold(busy);
    for (name, value) in [
        ("api-version", system::API_VERSION),
        ("docker-experimental", "false"),
        ("ostype", "linux"),
        ("server", "Strata"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// The handler of a request, and what stands in the gaps of its path.
fn find(method: &str, path: &str) -> Answer<(Handler, Vec<String>)> {
    let path = without_version(path)?;
    let mut known_path = false;
    for route in ROUTES {
        if let Some(names) = matches(route.path, path) {
            if route.method == method {
                return Ok((route.handler, names));
            }
            known_path = true;
        }
    }
    if known_path {
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"));
    }
    Err(ApiError::not_found("page not found"))
}

fn without_version(path: &str) -> Answer<&str> {
    let Some((version, rest)) = path.strip_prefix("/v").and_then(|rest| rest.split_once('/')) else {
        return Ok(path);
    };
    let number = crate::call::version;
    match number(version) {
        None => Ok(path),
        Some(asked) if Some(asked) > number(system::API_VERSION) => Err(ApiError::invalid(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            system::API_VERSION
        ))),
        Some(asked) if Some(asked) < number(system::MIN_API_VERSION) => Err(ApiError::invalid(format!(
            "client version {version} is too old. Minimum supported API version is {}, please upgrade your client to a newer version",
            system::MIN_API_VERSION
        ))),
        Some(_) => Ok(&path[path.len() - rest.len() - 1..]),
    }
}

fn matches(pattern: &str, path: &str) -> Option<Vec<String>> {
    let wanted: Vec<&str> = pattern.split('/').collect();
    let given: Vec<&str> = path.split('/').collect();
    let mut names = Vec::new();
    let mut at = 0;
    for (number, part) in wanted.iter().enumerate() {
        let after = wanted.len() - number - 1;
        match *part {
            "{*}" => {
                let end = given.len().checked_sub(after).filter(|end| *end > at)?;
                names.push(decode(&given[at..end].join("/"), false));
                at = end;
            }
            "{}" => {
                let name = given.get(at).filter(|name| !name.is_empty())?;
                names.push(decode(name, false));
                at += 1;
            }
            literal => {
                if *given.get(at)? != literal {
                    return None;
                }
                at += 1;
            }
        }
    }
    (at == given.len()).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_with_their_names() {
        let names = |pattern: &str, path: &str| matches(pattern, path);
        assert_eq!(names("/a/{}/b", "/a/x%20y/b"), Some(vec!["x y".into()]));
        assert_eq!(names("/a/{}/b", "/a//b"), None);
        assert_eq!(
            names("/images/{*}/json", "/images/r.io:5/x/y:z/json"),
            Some(vec!["r.io:5/x/y:z".into()])
        );
        assert_eq!(names("/images/{*}/json", "/images/json"), None);
        assert_eq!(names("/images/json", "/images/json"), Some(vec![]));
    }

    #[test]
    fn versions_are_taken_within_bounds() {
        assert_eq!(without_version("/v1.47/info").expect("known"), "/info");
        assert_eq!(without_version("/volumes").expect("none"), "/volumes");
        assert!(without_version("/v9.1/info").is_err() && without_version("/v1.2/info").is_err());
        assert!(find("GET", "/v1.44/containers/x/json").is_ok());
        let error = find("PUT", "/info").expect_err("wrong method");
        assert_eq!(error.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(
            find("GET", "/nothing").expect_err("unknown").status,
            StatusCode::NOT_FOUND
        );
    }
}
