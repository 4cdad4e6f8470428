//! One server of a registry: any request, with login, retries and redirects.
//!
//! Redirects are followed here and not by the HTTP client, because whatever authenticates
//! (a token, a header of hosts.toml) must stay with the host it was meant for.

use crate::Credentials;
use crate::hosts::{Endpoint, is_loopback};
use crate::login::{Challenge, basic, bounded_body, challenge, fetch_token};
use crate::transport::{Transport, root_cause};
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Body, Method, Response, StatusCode, Url};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::Mutex as AsyncMutex;
use tokio_util::io::ReaderStream;

const MAX_ERROR_BODY: usize = 64 << 10;
/// Tries of a request that failed in a way that may pass.
pub(crate) const ATTEMPTS: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_millis(200);
const MAX_REDIRECTS: usize = 10;
const MAX_LOCATION: usize = 16 << 10;
/// Bytes read from a file for one piece of a body.
const PIECE: usize = 256 << 10;

/// A server and what was learnt about it.
pub(crate) struct Server {
    pub endpoint: Endpoint,
    transport: Arc<Transport>,
    /// What the last answer showed to work; empty before.
    scheme: Mutex<&'static str>,
    authorization: AsyncMutex<Option<String>>,
}

/// What a login is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// For the server itself; mirrors never get to see them.
    pub credentials: Option<Credentials>,
    /// `repository:NAME:ACTIONS`, always asked for.
    pub scope: String,
}

/// One request.
pub(crate) struct Call {
    pub method: Method,
    pub target: Target,
    pub headers: Vec<(HeaderName, String)>,
    pub content: Content,
    /// A busy server is not asked again: what was sent may have arrived in part.
    pub once: bool,
}

/// Where a request goes.
#[derive(Clone)]
pub(crate) enum Target {
    /// Below the endpoint's path.
    Tail(String),
    /// An address that the server gave.
    Address(Url),
}

/// What a request carries; it can be sent again.
#[derive(Clone)]
pub(crate) enum Content {
    None,
    Bytes(Bytes),
    /// A part of a file; bytes handed to the connection are counted.
    File {
        path: PathBuf,
        offset: u64,
        length: u64,
        sent: Arc<AtomicU64>,
    },
}

/// How a request ended badly.
#[derive(Debug)]
pub(crate) enum Failure {
    NotFound,
    Denied(String),
    Status {
        status: StatusCode,
        text: String,
        url: String,
    },
    Transport(String),
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    #[serde(default)]
    errors: Vec<ErrorItem>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

impl Call {
    /// A request without content.
    pub fn new(method: Method, tail: impl Into<String>) -> Self {
        Self {
            method,
            target: Target::Tail(tail.into()),
            headers: Vec::new(),
            content: Content::None,
            once: false,
        }
    }

    /// With one more header.
    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Server {
    pub fn new(transport: Arc<Transport>, endpoint: Endpoint) -> Self {
        Self {
            scheme: Mutex::new(if endpoint.guess { "" } else { endpoint.scheme }),
            authorization: AsyncMutex::new(None),
            transport,
            endpoint,
        }
    }

    /// Sends a request until there is a good answer or no hope.
    pub async fn send(&self, access: &Access, call: &Call) -> Result<Response, Failure> {
        let mut delay = FIRST_DELAY;
        let mut logged_in = false;
        let mut attempt = 1;
        loop {
            let (response, url) = self.send_once(call).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && !logged_in {
                logged_in = true;
                self.log_in(access, &response).await?;
                continue;
            }
            let busy = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            if !busy || call.once || attempt >= ATTEMPTS {
                return Err(refusal(response, &call.method, url).await);
            }
            attempt += 1;
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
    }

    async fn send_once(&self, call: &Call) -> Result<(Response, String), Failure> {
        let known = *self.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        let schemes: &[&'static str] = match (known, &call.target) {
            (_, Target::Address(_)) => &[""],
            ("", _) => &["https", "http"],
            ("http", _) => &["http"],
            _ => &["https"],
        };
        let mut last = Failure::NotFound;
        for scheme in schemes {
            let url = match &call.target {
                Target::Tail(tail) => {
                    let text = format!("{scheme}://{}{}/{tail}", self.endpoint.authority, self.endpoint.path);
                    Url::parse(&text).map_err(|error| Failure::Transport(format!("{text}: {error}")))?
                }
                Target::Address(url) => url.clone(),
            };
            match self.follow(call, url).await {
                Ok(found) => {
                    if !scheme.is_empty() {
                        *self.scheme.lock().unwrap_or_else(PoisonError::into_inner) = scheme;
                    }
                    return Ok(found);
                }
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Sends one request and follows where it is sent on to.
    async fn follow(&self, call: &Call, first: Url) -> Result<(Response, String), Failure> {
        let mut url = first;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.exchange(call, &url).await?;
            let reading = call.method == Method::GET || call.method == Method::HEAD;
            let follows = match response.status().as_u16() {
                307 | 308 => true,
                301..=303 => reading,
                _ => false,
            };
            if !follows {
                return Ok((response, url.into()));
            }
            let next = location(&response)?;
            if url.scheme() == "https" && next.scheme() != "https" {
                let why = format!("refusing to follow a redirect from {url} to plain {next}");
                return Err(Failure::Transport(why));
            }
            url = next;
        }
        Err(Failure::Transport(format!(
            "{url}: stopped after {MAX_REDIRECTS} redirects"
        )))
    }

    async fn exchange(&self, call: &Call, url: &Url) -> Result<Response, Failure> {
        let client = self.client(url)?;
        let mut request = client.request(call.method.clone(), url.clone());
        if self.is_own(url) {
            for (name, value) in &self.endpoint.headers {
                request = request.header(name, value);
            }
            if let Some(authorization) = &*self.authorization.lock().await {
                request = request.header(AUTHORIZATION, authorization);
            }
        }
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        request = match &call.content {
            // Some registries refuse an upload without a length.
            Content::None if call.method == Method::POST || call.method == Method::PUT => {
                request.header(CONTENT_LENGTH, "0")
            }
            Content::None => request,
            Content::Bytes(bytes) => request.body(bytes.clone()),
            Content::File {
                path,
                offset,
                length,
                sent,
            } => {
                let body = file_body(path, *offset, *length, sent)
                    .await
                    .map_err(|error| Failure::Transport(format!("read {}: {error}", path.display())))?;
                request.header(CONTENT_LENGTH, length.to_string()).body(body)
            }
        };
        request
            .send()
            .await
            .map_err(|error| Failure::Transport(transport_text(&call.method, url, &error)))
    }

    /// The endpoint's TLS settings hold for what it redirects to as well, but a loopback's leniency does not.
    fn client(&self, url: &Url) -> Result<reqwest::Client, Failure> {
        let authority = authority(url);
        let lenient = self.endpoint.guess && !is_loopback(&authority);
        let tls = if lenient {
            Default::default()
        } else {
            self.endpoint.tls.clone()
        };
        self.transport
            .client(&authority, &tls)
            .map_err(|why| Failure::Transport(format!("failed to configure {url}: {why}")))
    }

    /// Whether that address is this server and not one it points to.
    fn is_own(&self, url: &Url) -> bool {
        let secure_enough = self.endpoint.guess || url.scheme() == self.endpoint.scheme;
        let own = Url::parse(&format!("{}://{}", url.scheme(), self.endpoint.authority));
        secure_enough
            && own.is_ok_and(|own| {
                own.host_str() == url.host_str() && own.port_or_known_default() == url.port_or_known_default()
            })
    }

    /// Answers a 401: afterwards the server's authorization is set.
    async fn log_in(&self, access: &Access, response: &Response) -> Result<(), Failure> {
        if !self.is_own(response.url()) {
            let why = "server message: a server that it redirects to asks for credentials";
            return Err(Failure::Denied(why.into()));
        }
        let headers = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let asked = challenge(headers);
        // Credentials belong to the registry they were given for; a mirror does not get to see them.
        let credentials = access.credentials.as_ref().filter(|_| self.endpoint.origin);
        let denied = |why: &str| Failure::Denied(format!("authorization failed: {why}"));
        let mut authorization = self.authorization.lock().await;
        *authorization = match asked {
            None => return Err(denied("unknown authentication challenge")),
            Some(Challenge::Basic) => match credentials.filter(|credentials| !credentials.username.is_empty()) {
                Some(credentials) => Some(basic(credentials)),
                None => return Err(denied("no basic auth credentials")),
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = scopes(&access.scope, &scope);
                let plain = response.url().scheme() == "http";
                if credentials.is_some() && !plain && !realm.starts_with("https://") {
                    return Err(Failure::Denied(format!(
                        "refusing to send credentials unencrypted to {realm}"
                    )));
                }
                let client = self.realm_client(&realm).map_err(Failure::Transport)?;
                let token = fetch_token(&client, &realm, &service, &scope, credentials).await;
                Some(token.map_err(Failure::Denied)?)
            }
        };
        Ok(())
    }

    /// The token server may be another host, for which the endpoint's TLS settings do not hold.
    fn realm_client(&self, realm: &str) -> Result<reqwest::Client, String> {
        let authority = realm
            .split_once("://")
            .map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
        let same = crate::hosts::host_of(authority) == crate::hosts::host_of(&self.endpoint.authority);
        let own = self.endpoint.tls.clone();
        self.transport
            .client(authority, &if same { own } else { Default::default() })
    }
}

/// The wanted scope, and what the server asks for beyond it (as for the source of a mount).
fn scopes(wanted: &str, asked: &str) -> String {
    let resource = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| resource.to_owned());
    let mut all: Vec<&str> = wanted.split_ascii_whitespace().collect();
    for scope in asked.split_ascii_whitespace() {
        match all.iter_mut().find(|known| resource(known) == resource(scope)) {
            // The server knows better than we what it wants, unless it wants less.
            Some(known) if scope.len() > known.len() => *known = scope,
            Some(_) => {}
            None => all.push(scope),
        }
    }
    all.join(" ")
}

fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Where an answer points to; only http and https, and of a sane length.
pub(crate) fn location(response: &Response) -> Result<Url, Failure> {
    let from = response.url();
    let failed = |why: &str| Failure::Transport(format!("{from}: {why}"));
    let value = response
        .headers()
        .get(LOCATION)
        .ok_or_else(|| failed("answer without a location"))?;
    let text = value.to_str().map_err(|_| failed("location is no text"))?;
    if text.len() > MAX_LOCATION {
        return Err(failed("location is too long"));
    }
    let url = from
        .join(text)
        .map_err(|error| failed(&format!("location {text:?}: {error}")))?;
    if matches!(url.scheme(), "http" | "https") && url.has_host() {
        Ok(url)
    } else {
        Err(failed(&format!("location {text:?} leads to no web server")))
    }
}

async fn file_body(path: &PathBuf, offset: u64, length: u64, sent: &Arc<AtomicU64>) -> std::io::Result<Body> {
    let mut file = tokio::fs::File::open(path).await?;
    file.seek(std::io::SeekFrom::Start(offset)).await?;
    let sent = Arc::clone(sent);
    sent.store(offset, Ordering::Relaxed);
    let pieces = ReaderStream::with_capacity(file.take(length), PIECE);
    Ok(Body::wrap_stream(futures::StreamExt::inspect(pieces, move |piece| {
        if let Ok(piece) = piece {
            sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    })))
}

/// Upstream's form of a request that got no answer.
fn transport_text(method: &Method, url: &Url, error: &reqwest::Error) -> String {
    let cause = root_cause(error);
    let verb = match *method {
        Method::GET => "Get",
        Method::HEAD => "Head",
        Method::POST => "Post",
        Method::PUT => "Put",
        Method::PATCH => "Patch",
        _ => "Delete",
    };
    let address = url
        .host_str()
        .and_then(|host| Some(format!("{host}:{}", url.port_or_known_default()?)));
    match address {
        Some(address) if error.is_connect() => {
            format!("failed to do request: {verb} \"{url}\": dial tcp {address}: connect: {cause}")
        }
        _ => format!("failed to do request: {verb} \"{url}\": {cause}"),
    }
}

async fn refusal(response: Response, method: &Method, url: String) -> Failure {
    let status = response.status();
    // The body only makes the text better.
    let body = bounded_body(response, MAX_ERROR_BODY).await.unwrap_or_default();
    let told = serde_json::from_slice::<ErrorBody>(&body).unwrap_or_default();
    let first = told.errors.first();
    match status {
        StatusCode::NOT_FOUND if *method == Method::GET || *method == Method::HEAD => Failure::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let told = first.map(|item| format!("{}: {}", item.code.to_lowercase(), item.message));
            let told = told.unwrap_or_else(|| format!("unexpected status {status}"));
            Failure::Denied(format!("server message: {told}"))
        }
        _ => {
            let text = first.map(|item| format!(": {}: {}", item.code.to_lowercase(), item.message));
            Failure::Status {
                status,
                text: text.unwrap_or_default(),
                url,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_asks_for_what_is_wanted_and_what_the_server_adds() {
        for (wanted, asked, expected) in [
            ("repository:a:pull", "", "repository:a:pull"),
            ("repository:a:pull,push", "repository:a:pull", "repository:a:pull,push"),
            ("repository:a:pull", "repository:a:pull,push", "repository:a:pull,push"),
            (
                "repository:a:pull,push",
                "repository:a:pull,push repository:b:pull",
                "repository:a:pull,push repository:b:pull",
            ),
        ] {
            assert_eq!(scopes(wanted, asked), expected);
        }
    }
}
