//! Speaking with a registry: OCI distribution v2, pulling only.

use crate::config::MANIFEST_TYPES;
use crate::hosts::Endpoint;
use crate::login::{Challenge, basic, bounded_body, challenge, fetch_token};
use crate::transport::{Transport, root_cause};
use crate::{Credentials, Digest, ImageError, Reference};
use reqwest::header::{ACCEPT, AUTHORIZATION, RANGE, WWW_AUTHENTICATE};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Mutex as AsyncMutex;

/// Manifests and configurations; the distribution specification suggests 4 MiB.
pub(crate) const MAX_DOCUMENT: usize = 8 << 20;
const MAX_ERROR_BODY: usize = 64 << 10;
/// Tries of a request that failed in a way that may pass.
const ATTEMPTS: u32 = 4;
const FIRST_DELAY: Duration = Duration::from_millis(200);

/// A registry as seen by one pull.
pub(crate) struct Registry {
    transport: Arc<Transport>,
    reference: Reference,
    credentials: Option<Credentials>,
    servers: Vec<Server>,
}

struct Server {
    endpoint: Endpoint,
    /// What the last answer showed to work; empty before.
    scheme: Mutex<&'static str>,
    authorization: AsyncMutex<Option<String>>,
}

/// How a request ended badly.
#[derive(Debug)]
enum Failure {
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

impl Registry {
    pub fn new(
        transport: Arc<Transport>,
        reference: Reference,
        credentials: Option<Credentials>,
        endpoints: Vec<Endpoint>,
    ) -> Self {
        let servers = endpoints
            .into_iter()
            .map(|endpoint| Server {
                scheme: Mutex::new(if endpoint.guess { "" } else { endpoint.scheme }),
                authorization: AsyncMutex::new(None),
                endpoint,
            })
            .collect();
        Self {
            transport,
            reference,
            credentials,
            servers,
        }
    }

    /// The manifest or index of a tag or digest, and its digest.
    pub async fn manifest(&self, selector: &str) -> Result<(Vec<u8>, Digest), ImageError> {
        let wanted: Option<Digest> = selector.parse().ok();
        let mut last = Failure::NotFound;
        for server in &self.servers {
            if wanted.is_none() && !server.endpoint.resolve {
                continue;
            }
            let tail = format!("manifests/{selector}");
            match self.document(server, &tail, MANIFEST_TYPES).await {
                Ok(body) => {
                    let digest = Digest::of(&body);
                    if let Some(wanted) = wanted.filter(|wanted| *wanted != digest) {
                        last = Failure::Transport(format!("content of {wanted} has digest {digest}"));
                        continue;
                    }
                    return Ok((body, digest));
                }
                Err(failure) => last = self.next_server(server, failure),
            }
        }
        Err(self.explain(last))
    }

    /// A small blob, checked.
    pub async fn small_blob(&self, digest: Digest) -> Result<Vec<u8>, ImageError> {
        let mut last = Failure::NotFound;
        for server in self.servers.iter().filter(|server| server.endpoint.pull) {
            match self.document(server, &format!("blobs/{digest}"), "*/*").await {
                Ok(body) if Digest::of(&body) == digest => return Ok(body),
                Ok(body) => {
                    last = Failure::Transport(format!("content of {digest} has digest {}", Digest::of(&body)));
                }
                Err(failure) => last = self.next_server(server, failure),
            }
        }
        Err(self.explain_blob(digest, last))
    }

    /// The bytes of a blob from `offset`; the answer says where it really starts.
    pub async fn blob(&self, digest: Digest, offset: u64) -> Result<(Response, u64), ImageError> {
        let mut last = Failure::NotFound;
        for server in self.servers.iter().filter(|server| server.endpoint.pull) {
            match self.send(server, &format!("blobs/{digest}"), "*/*", offset).await {
                Ok(response) => {
                    let start = if response.status() == StatusCode::PARTIAL_CONTENT {
                        offset
                    } else {
                        0
                    };
                    return Ok((response, start));
                }
                Err(failure) => last = self.next_server(server, failure),
            }
        }
        Err(self.explain_blob(digest, last))
    }

    async fn document(&self, server: &Server, tail: &str, accept: &str) -> Result<Vec<u8>, Failure> {
        let mut attempt = 0;
        loop {
            let response = self.send(server, tail, accept, 0).await?;
            match bounded_body(response, MAX_DOCUMENT).await {
                Ok(body) => return Ok(body),
                Err(why) if attempt + 1 >= ATTEMPTS => return Err(Failure::Transport(why)),
                Err(_) => attempt += 1,
            }
        }
    }

    /// One GET with login and retries; the answer has a good status.
    async fn send(&self, server: &Server, tail: &str, accept: &str, offset: u64) -> Result<Response, Failure> {
        let mut delay = FIRST_DELAY;
        let mut logged_in = false;
        let mut attempt = 1;
        loop {
            let (response, url) = self.send_once(server, tail, accept, offset).await?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && !logged_in {
                logged_in = true;
                self.log_in(server, &response).await?;
                continue;
            }
            let busy = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            if !busy || attempt >= ATTEMPTS {
                return Err(refusal(response, url).await);
            }
            attempt += 1;
            tokio::time::sleep(delay).await;
            delay *= 2;
        }
    }

    async fn send_once(
        &self,
        server: &Server,
        tail: &str,
        accept: &str,
        offset: u64,
    ) -> Result<(Response, String), Failure> {
        let authorization = server.authorization.lock().await.clone();
        let known = *server.scheme.lock().unwrap_or_else(PoisonError::into_inner);
        let schemes: &[&'static str] = match known {
            "" => &["https", "http"],
            "http" => &["http"],
            _ => &["https"],
        };
        let mut last = Failure::NotFound;
        for scheme in schemes {
            let url = self.url(server, scheme, tail);
            let client = self
                .transport
                .client(&server.endpoint.authority, &server.endpoint.tls)
                .map_err(|why| Failure::Transport(format!("failed to configure {url}: {why}")))?;
            let mut request = client.get(&url).header(ACCEPT, accept);
            for (name, value) in &server.endpoint.headers {
                request = request.header(name, value);
            }
            if let Some(authorization) = &authorization {
                request = request.header(AUTHORIZATION, authorization);
            }
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            match request.send().await {
                Ok(response) => {
                    *server.scheme.lock().unwrap_or_else(PoisonError::into_inner) = scheme;
                    return Ok((response, url));
                }
                Err(error) => last = Failure::Transport(transport_text(&url, &error)),
            }
        }
        Err(last)
    }

    fn url(&self, server: &Server, scheme: &str, tail: &str) -> String {
        let Endpoint {
            authority,
            path,
            origin,
            ..
        } = &server.endpoint;
        // containerd tells mirrors which registry is meant.
        let namespace = if *origin {
            String::new()
        } else {
            format!("?ns={}", self.reference.registry)
        };
        format!(
            "{scheme}://{authority}{path}/{}/{tail}{namespace}",
            self.reference.repository
        )
    }

    /// Answers a 401: afterwards the server's authorization is set.
    async fn log_in(&self, server: &Server, response: &Response) -> Result<(), Failure> {
        let headers = response
            .headers()
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let asked = challenge(headers);
        // Credentials belong to the registry they were given for; a mirror does not get to see them.
        let credentials = self.credentials.as_ref().filter(|_| server.endpoint.origin);
        let mut authorization = server.authorization.lock().await;
        *authorization = match asked {
            None => {
                return Err(Failure::Denied(
                    "authorization failed: unknown authentication challenge".into(),
                ));
            }
            Some(Challenge::Basic) => match credentials.filter(|credentials| !credentials.username.is_empty()) {
                Some(credentials) => Some(basic(credentials)),
                None => {
                    return Err(Failure::Denied(
                        "authorization failed: no basic auth credentials".into(),
                    ));
                }
            },
            Some(Challenge::Bearer { realm, service, scope }) => {
                let scope = match scope.is_empty() {
                    true => format!("repository:{}:pull", self.reference.repository),
                    false => scope,
                };
                let plain = response.url().scheme() == "http";
                if credentials.is_some() && !plain && !realm.starts_with("https://") {
                    return Err(Failure::Denied(format!(
                        "refusing to send credentials unencrypted to {realm}"
                    )));
                }
                let client = self.realm_client(server, &realm).map_err(Failure::Transport)?;
                let token = fetch_token(&client, &realm, &service, &scope, credentials).await;
                Some(token.map_err(Failure::Denied)?)
            }
        };
        Ok(())
    }

    /// The token server may be another host, for which the endpoint's TLS settings do not hold.
    fn realm_client(&self, server: &Server, realm: &str) -> Result<reqwest::Client, String> {
        let authority = realm
            .split_once("://")
            .map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
        let same = authority.split(':').next() == server.endpoint.authority.split(':').next();
        let own = server.endpoint.tls.clone();
        self.transport
            .client(authority, &if same { own } else { Default::default() })
    }

    fn next_server(&self, server: &Server, failure: Failure) -> Failure {
        if !server.endpoint.origin {
            tracing::info!(mirror = %server.endpoint.authority, image = %self.reference, ?failure, "mirror did not serve the image");
        }
        failure
    }

    fn explain(&self, failure: Failure) -> ImageError {
        let image = self.reference.to_string();
        match failure {
            Failure::NotFound => ImageError::NotFound { image },
            Failure::Denied(why) => ImageError::Denied { image, why },
            Failure::Status { status, text, url } => {
                let why = format!(
                    "failed to resolve reference \"{image}\": unexpected status from GET request to {url}: {status}{text}"
                );
                ImageError::Registry { image, why }
            }
            Failure::Transport(why) => {
                let why = format!("failed to resolve reference \"{image}\": {why}");
                ImageError::Registry { image, why }
            }
        }
    }

    fn explain_blob(&self, digest: Digest, failure: Failure) -> ImageError {
        let image = self.reference.to_string();
        let why = match failure {
            Failure::NotFound => "not found".to_owned(),
            Failure::Denied(why) => return ImageError::Denied { image, why },
            Failure::Status { status, text, url } => {
                format!("unexpected status from GET request to {url}: {status}{text}")
            }
            Failure::Transport(why) => why,
        };
        ImageError::Registry {
            image,
            why: format!("failed to copy: content at {digest}: {why}"),
        }
    }
}

/// Upstream's form of a request that got no answer.
fn transport_text(url: &str, error: &reqwest::Error) -> String {
    let cause = root_cause(error);
    let address = reqwest::Url::parse(url)
        .ok()
        .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)));
    match address {
        Some(address) if error.is_connect() => {
            format!("failed to do request: Get \"{url}\": dial tcp {address}: connect: {cause}")
        }
        _ => format!("failed to do request: Get \"{url}\": {cause}"),
    }
}

async fn refusal(response: Response, url: String) -> Failure {
    let status = response.status();
    // The body only makes the text better.
    let body = bounded_body(response, MAX_ERROR_BODY).await.unwrap_or_default();
    let told = serde_json::from_slice::<ErrorBody>(&body).unwrap_or_default();
    let first = told.errors.first();
    match status {
        StatusCode::NOT_FOUND => Failure::NotFound,
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
