//! The HTTPS transport.

pub mod encoded;
mod frames;

use crate::{Error, ListParams, ListRequest, ObjectList, Pieces, Transport, WatchRequest, client, request};
use bytes::Bytes;
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderValue, Request, Response, Uri, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use strata_http::{Body, BoxError, ClientTls, HttpsClient};
use strata_meta::{Object, Revision, WatchEvent};

/// From sending a request to the head of the answer; upstream servers give up after 60 s.
const HEAD_DEADLINE: Duration = Duration::from_secs(65);
/// For the whole of an answer that is no watch.
const BODY_DEADLINE: Duration = Duration::from_secs(120);
/// What the server is asked to end a watch after, so that load moves between servers.
const WATCH_SECONDS: u64 = 480;
/// A watch that is silent for longer than it may live is dead.
const WATCH_SILENCE: Duration = Duration::from_secs(WATCH_SECONDS + 60);
/// The largest answer that is no watch.
const BODY_MAX: usize = 256 << 20;
/// How long a token that was read from a file is used; upstream reads it again each minute.
const TOKEN_AGE: Duration = Duration::from_secs(60);

/// How to reach and trust a server, and who to be there.
#[derive(Clone, Debug)]
pub struct HttpsConfig {
    /// `https://host:port`.
    pub server: String,
    /// The certificates of the authority that signed the server's.
    pub ca_pem: Vec<u8>,
    /// Who to be.
    pub auth: ClientAuth,
}

/// Who the client is.
#[derive(Clone)]
pub enum ClientAuth {
    /// The subject of a client certificate.
    Certificate {
        /// The chain, leaf first.
        cert_pem: Vec<u8>,
        /// Its private key.
        key_pem: Vec<u8>,
    },
    /// The bearer of a token.
    Token(String),
    /// The bearer of the token in a file, which is read again as it is renewed.
    TokenFile(PathBuf),
    /// Nobody in particular.
    None,
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate { .. } => "Certificate",
            Self::Token(_) => "Token",
            Self::TokenFile(_) => "TokenFile",
            Self::None => "None",
        })
    }
}

/// Speaks HTTP/2 or HTTP/1.1 over TLS to one server.
pub struct HttpsTransport {
    client: HttpsClient,
    /// Scheme and authority.
    server: Uri,
    auth: ClientAuth,
    token: Mutex<Option<(HeaderValue, Instant)>>,
}

impl HttpsTransport {
    /// Connects at the first request.
    pub fn new(config: HttpsConfig) -> Result<Self, Error> {
        let invalid = |why: &dyn fmt::Display| Error::Transport(format!("server address {:?}: {why}", config.server));
        let server: Uri = config.server.trim_end_matches('/').parse().map_err(|e| invalid(&e))?;
        if server.scheme() != Some(&http::uri::Scheme::HTTPS) || server.authority().is_none() {
            return Err(invalid(&"must be https://HOST:PORT"));
        }
        let identity = match &config.auth {
            ClientAuth::Certificate { cert_pem, key_pem } => Some((&cert_pem[..], &key_pem[..])),
            ClientAuth::Token(_) | ClientAuth::TokenFile(_) | ClientAuth::None => None,
        };
        let tls = ClientTls::new(&config.ca_pem, identity).map_err(|e| Error::Transport(e.to_string()))?;
        let client = HttpsClient::new(tls);
        Ok(Self {
            client,
            server,
            auth: config.auth,
            token: Mutex::default(),
        })
    }

    /// Sends and waits for the head of the answer.
    async fn head(&self, mut request: Request<Bytes>) -> Result<Response<Incoming>, Error> {
        let mut parts = self.server.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::from_parts(parts).map_err(|e| Error::Transport(format!("request address: {e}")))?;
        if let Some(token) = self.authorization().await? {
            request.headers_mut().insert(header::AUTHORIZATION, token);
        }
        request
            .headers_mut()
            .entry(header::USER_AGENT)
            .or_insert(HeaderValue::from_static("strata"));
        let answer = self.client.send(request.map(Body::full));
        match tokio::time::timeout(HEAD_DEADLINE, answer).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Error::Transport(error.to_string())),
            Err(_) => Err(Error::Transport(format!(
                "{}: no answer in {HEAD_DEADLINE:?}",
                self.server
            ))),
        }
    }

    async fn whole(&self, request: Request<Bytes>) -> Result<Response<Bytes>, Error> {
        let (parts, body) = self.head(request).await?.into_parts();
        let bytes = read(body).await?;
        Ok(Response::from_parts(parts, bytes))
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        match &self.auth {
            ClientAuth::Certificate { .. } | ClientAuth::None => Ok(None),
            ClientAuth::Token(token) => bearer(token).map(Some),
            ClientAuth::TokenFile(path) => {
                if let Some((header, read)) = &*self.token.lock().expect("no holder panics")
                    && read.elapsed() < TOKEN_AGE
                {
                    return Ok(Some(header.clone()));
                }
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|e| Error::Transport(format!("reading token {}: {e}", path.display())))?;
                let header = bearer(text.trim())?;
                *self.token.lock().expect("no holder panics") = Some((header.clone(), Instant::now()));
                Ok(Some(header))
            }
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| Error::Transport("the token holds characters that no header may".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn read<B>(body: B) -> Result<Bytes, Error>
where
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>>,
{
    match tokio::time::timeout(BODY_DEADLINE, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Error::Transport(format!("the answer is larger than {BODY_MAX} bytes")))
        }
        Ok(Err(error)) => Err(Error::Transport(format!("reading the answer: {error}"))),
        Err(_) => Err(Error::Transport(format!(
            "the answer took longer than {BODY_DEADLINE:?}"
        ))),
    }
}

impl Transport for HttpsTransport {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, Error>> {
        Box::pin(self.whole(request))
    }

    fn open(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Pieces>, Error>> {
        Box::pin(async move { Ok(self.head(request).await?.map(pieces)) })
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ObjectList, Error>> {
        Box::pin(encoded::list(request, |get| self.head(get)))
    }

    fn watch(
        &self,
        request: WatchRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<WatchEvent, Error>>, Error>> {
        let send = move |get| async move { Ok(self.head(get).await?.map(Body::wrap)) };
        Box::pin(encoded::watch(request, send))
    }
}

/// A body as it comes; one that sends nothing for long counts as dead.
fn pieces(body: Incoming) -> Pieces {
    let next = |body: Option<Incoming>| async {
        let mut body = body?;
        loop {
            let failure = match tokio::time::timeout(BODY_DEADLINE, body.frame()).await {
                Ok(None) => return None,
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => return Some((Ok(data), Some(body))),
                    Err(_) => continue,
                },
                Ok(Some(Err(error))) => format!("reading the answer: {error}"),
                Err(_) => format!("the answer was silent for {BODY_DEADLINE:?}"),
            };
            return Some((Err(Error::Transport(failure)), None));
        }
    };
    stream::unfold(Some(body), next).boxed()
}

fn watch_path(request: &WatchRequest) -> String {
    let params = ListParams {
        label_selector: request.label_selector.clone(),
        field_selector: request.field_selector.clone(),
        resource_version: request.from.to_string(),
        ..ListParams::default()
    };
    request::with_query(
        request::list_path(request.resource, request.namespace.as_deref(), &params),
        &[
            ("watch", "true"),
            ("allowWatchBookmarks", if request.bookmarks { "true" } else { "" }),
            ("timeoutSeconds", &WATCH_SECONDS.to_string()),
        ],
    )
}

#[derive(serde::Deserialize)]
struct RawList {
    metadata: RawListMeta,
    #[serde(default)]
    items: Option<Vec<serde_json::Value>>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawListMeta {
    resource_version: String,
    #[serde(default, rename = "continue")]
    continue_token: String,
}

fn decode_list(kind: Arc<strata_meta::GroupVersionKind>, body: &[u8]) -> Result<ObjectList, Error> {
    let list: RawList = serde_json::from_slice(body)?;
    let text = &list.metadata.resource_version;
    let revision =
        Revision::parse(text).ok_or_else(|| Error::Decode(format!("resourceVersion {text:?} is no number")))?;
    let item = |value: serde_json::Value| -> Result<Arc<Object>, Error> {
        Ok(Arc::new(Object::from_value(
            kind.clone(),
            client::revision(&value)?,
            &value,
        )?))
    };
    let items = list
        .items
        .unwrap_or_default()
        .into_iter()
        .map(item)
        .collect::<Result<_, _>>()?;
    Ok(ObjectList {
        items,
        revision,
        continue_token: list.metadata.continue_token,
    })
}
