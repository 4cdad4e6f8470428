//! Reading from a registry: OCI distribution v2.

use crate::config::MANIFEST_TYPES;
use crate::connection::{ATTEMPTS, Access, Call, Failure, Server};
use crate::hosts::Endpoint;
use crate::login::bounded_body;
use crate::transport::Transport;
use crate::{Credentials, Digest, ImageError, Reference};
use reqwest::header::{ACCEPT, CONTENT_RANGE, HeaderValue, LINK, RANGE};
use reqwest::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Manifests and configurations; the distribution specification suggests 4 MiB.
pub(crate) const MAX_DOCUMENT: usize = 8 << 20;
/// Pages of a list of tags or referrers, and what they may name together.
const MAX_PAGES: usize = 1000;
const MAX_LISTED: usize = 100_000;

/// A repository of a registry, as seen by one operation.
pub(crate) struct Registry {
    pub(crate) reference: Reference,
    pub(crate) access: Access,
    pub(crate) servers: Vec<Server>,
}

impl Registry {
    pub fn new(
        transport: &Arc<Transport>,
        reference: Reference,
        credentials: Option<Credentials>,
        endpoints: Vec<Endpoint>,
        actions: &str,
    ) -> Self {
        let servers = endpoints
            .into_iter()
            .map(|endpoint| Server::new(Arc::clone(transport), endpoint))
            .collect();
        let scope = format!("repository:{}:{actions}", reference.repository);
        Self {
            reference,
            access: Access { credentials, scope },
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
            let tail = self.tail(server, &format!("manifests/{selector}"));
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
            let tail = self.tail(server, &format!("blobs/{digest}"));
            match self.document(server, &tail, "*/*").await {
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
            let tail = self.tail(server, &format!("blobs/{digest}"));
            let mut call = Call::new(Method::GET, tail).header(ACCEPT, "*/*");
            if offset > 0 {
                call = call.header(RANGE, format!("bytes={offset}-"));
            }
            match server.send(&self.access, &call).await {
                Ok(response) if response.status() == StatusCode::PARTIAL_CONTENT => {
                    if starts_at(&response, offset) {
                        return Ok((response, offset));
                    }
                    last = Failure::Transport("the answer is not the part that was asked for".into());
                }
                Ok(response) => return Ok((response, 0)),
                Err(failure) => last = self.next_server(server, failure),
            }
        }
        Err(self.explain_blob(digest, last))
    }

    /// All tags of the repository, in the registry's order.
    pub async fn tags(&self) -> Result<Vec<String>, ImageError> {
        #[derive(serde::Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let mut found = Vec::new();
        self.pages("tags/list", "application/json", |page: Page| {
            found.extend(page.tags.unwrap_or_default());
            found.len()
        })
        .await?;
        Ok(found)
    }

    /// A list that comes in pages (RFC 5988 links).
    pub(crate) async fn pages<T: DeserializeOwned>(
        &self,
        tail: &str,
        accept: &str,
        mut add: impl FnMut(T) -> usize,
    ) -> Result<(), ImageError> {
        let server = self.resolver()?;
        let mut call = Call::new(Method::GET, self.tail(server, tail)).header(ACCEPT, accept);
        for _ in 0..MAX_PAGES {
            let response = server.send(&self.access, &call).await.map_err(|f| self.explain(f))?;
            let next = next_page(&response);
            let body = bounded_body(response, MAX_DOCUMENT).await;
            let body = body.map_err(|why| self.explain(Failure::Transport(why)))?;
            let page = serde_json::from_slice(&body)
                .map_err(|error| self.explain(Failure::Transport(format!("{tail}: {error}"))))?;
            if add(page) > MAX_LISTED {
                break;
            }
            match next {
                Some(address) => call.target = crate::connection::Target::Address(address),
                None => return Ok(()),
            }
        }
        Err(self.explain(Failure::Transport(format!("{tail}: the list does not end"))))
    }

    /// The registry itself: the only server that is written to.
    pub(crate) fn origin(&self) -> Result<&Server, ImageError> {
        let origin = self.servers.iter().rfind(|server| server.endpoint.origin);
        origin.ok_or_else(|| self.explain(Failure::Transport("no server is configured for the registry".into())))
    }

    /// The first server that knows tags.
    fn resolver(&self) -> Result<&Server, ImageError> {
        match self.servers.iter().find(|server| server.endpoint.resolve) {
            Some(server) => Ok(server),
            None => self.origin(),
        }
    }

    async fn document(&self, server: &Server, tail: &str, accept: &str) -> Result<Vec<u8>, Failure> {
        let call = Call::new(Method::GET, tail).header(ACCEPT, accept);
        let mut attempt = 0;
        loop {
            let response = server.send(&self.access, &call).await?;
            match bounded_body(response, MAX_DOCUMENT).await {
                Ok(body) => return Ok(body),
                Err(why) if attempt + 1 >= ATTEMPTS => return Err(Failure::Transport(why)),
                // What is too large stays so.
                Err(why) if why.contains("larger than") => return Err(Failure::Transport(why)),
                Err(_) => attempt += 1,
            }
        }
    }

    /// The address of something of the repository at a server.
    pub(crate) fn tail(&self, server: &Server, rest: &str) -> String {
        // containerd tells mirrors which registry is meant.
        let namespace = if server.endpoint.origin {
            String::new()
        } else {
            let joint = if rest.contains('?') { '&' } else { '?' };
            format!("{joint}ns={}", self.reference.registry)
        };
        format!("{}/{rest}{namespace}", self.reference.repository)
    }

    fn next_server(&self, server: &Server, failure: Failure) -> Failure {
        if !server.endpoint.origin {
            tracing::info!(mirror = %server.endpoint.authority, image = %self.reference, ?failure, "mirror did not serve the image");
        }
        failure
    }

    pub(crate) fn explain(&self, failure: Failure) -> ImageError {
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

/// Whether a part of a blob begins where it was asked to; an answer that does not say is believed.
fn starts_at(response: &Response, offset: u64) -> bool {
    let range = response.headers().get(CONTENT_RANGE).map(HeaderValue::to_str);
    match range {
        None => true,
        Some(Ok(text)) => {
            text.strip_prefix("bytes ")
                .and_then(|t| t.split('-').next()?.parse().ok())
                == Some(offset)
        }
        Some(Err(_)) => false,
    }
}

/// The address in `Link: <…>; rel="next"`.
fn next_page(response: &Response) -> Option<reqwest::Url> {
    let text = response.headers().get(LINK)?.to_str().ok()?;
    let (address, rest) = text.strip_prefix('<')?.split_once('>')?;
    rest.contains("next").then(|| response.url().join(address).ok())?
}
