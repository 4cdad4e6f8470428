//! The client: verbs on resources over whatever transport.

use crate::{
    ClientMetrics, DeleteOptions, Error, HttpsConfig, ListParams, ListRequest, ObjectList, Patch, Pieces, Resource,
    Transport, WatchRequest, WorkQueue, https, request,
};
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http::Method;
use serde_json::Value;
use std::{sync::Arc, time::Instant};
use strata_meta::{GroupVersion, Object, Reason, Revision, Status, WatchEvent};

const JSON: &str = "application/json";
/// What is read of a refusal at most.
const REFUSAL_MAX: usize = 1 << 20;

/// Speaks to one API server as one identity. Cloning is cheap.
///
/// Everywhere `namespace` is `""` for cluster-scoped resources.
#[derive(Clone)]
pub struct Client {
    transport: Arc<dyn Transport>,
    metrics: Option<(Arc<ClientMetrics>, &'static str)>,
}

impl Client {
    /// Over a transport.
    pub fn new(transport: Arc<dyn Transport>) -> Self {
        Self {
            transport,
            metrics: None,
        }
    }

    /// The same, with its requests counted as requests to `host`.
    pub fn counted(mut self, metrics: Arc<ClientMetrics>, host: &'static str) -> Self {
        self.metrics = Some((metrics, host));
        self
    }

    /// An empty work queue that is counted where the client's requests are.
    pub fn queue<K: Clone + Eq + std::hash::Hash + Send + Sync + 'static>(&self, name: &str) -> WorkQueue<K> {
        match &self.metrics {
            Some((metrics, _)) => WorkQueue::named(name, metrics),
            None => WorkQueue::new(),
        }
    }

    /// Over HTTPS.
    pub fn https(config: HttpsConfig) -> Result<Self, Error> {
        Ok(Self::new(Arc::new(https::HttpsTransport::new(config)?)))
    }

    /// Reads one object.
    pub async fn get(&self, resource: Resource, namespace: &str, name: &str) -> Result<Arc<Object>, Error> {
        let path = request::path(resource, namespace, name, "");
        object(self.call(Method::GET, path, JSON, None).await?)
    }

    /// Lists; follows no continue token.
    pub async fn list(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        params: ListParams,
    ) -> Result<ObjectList, Error> {
        let namespace = namespace.map(str::to_owned);
        self.transport
            .list(ListRequest {
                resource,
                namespace,
                params,
            })
            .await
    }

    /// Watches; see [`crate::Informer`] for a cache that resumes.
    pub async fn watch(&self, request: WatchRequest) -> Result<BoxStream<'static, Result<WatchEvent, Error>>, Error> {
        self.transport.watch(request).await
    }

    /// Creates an object. apiVersion and kind are filled in when absent.
    pub async fn create(&self, resource: Resource, namespace: &str, object_: &Value) -> Result<Arc<Object>, Error> {
        let path = request::path(resource, namespace, "", "");
        object(
            self.call(Method::POST, path, JSON, Some(&typed(resource, object_)))
                .await?,
        )
    }

    /// Replaces an object; its resourceVersion, when set, must be current.
    pub async fn update(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        object_: &Value,
    ) -> Result<Arc<Object>, Error> {
        self.update_subresource(resource, namespace, name, "", object_).await
    }

    /// Replaces an object's status.
    pub async fn update_status(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        object_: &Value,
    ) -> Result<Arc<Object>, Error> {
        self.update_subresource(resource, namespace, name, "status", object_)
            .await
    }

    /// Replaces an object through one of its subresources, such as `finalize`.
    pub async fn update_subresource(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        object_: &Value,
    ) -> Result<Arc<Object>, Error> {
        let path = request::path(resource, namespace, name, subresource);
        object(
            self.call(Method::PUT, path, JSON, Some(&typed(resource, object_)))
                .await?,
        )
    }

    /// Changes an object, or one of its subresources, in part.
    pub async fn patch(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        subresource: Option<&str>,
        patch: Patch,
    ) -> Result<Arc<Object>, Error> {
        let path = request::path(resource, namespace, name, subresource.unwrap_or(""));
        let (content_type, body) = patch.parts();
        object(self.call(Method::PATCH, path, content_type, Some(body)).await?)
    }

    /// Deletes an object, or begins to: grace periods and finalizers may keep it for a while.
    pub async fn delete(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        options: DeleteOptions,
    ) -> Result<(), Error> {
        let path = request::path(resource, namespace, name, "");
        self.call(Method::DELETE, path, JSON, Some(&options.to_value()))
            .await
            .map(drop)
    }

    /// Deletes every object that a list with these parameters would return.
    pub async fn delete_collection(
        &self,
        resource: Resource,
        namespace: &str,
        params: ListParams,
        options: DeleteOptions,
    ) -> Result<(), Error> {
        let path = request::list_path(resource, Some(namespace), &params);
        self.call(Method::DELETE, path, JSON, Some(&options.to_value()))
            .await
            .map(drop)
    }

    /// Posts to a subresource (binding, token, eviction) and returns the answer.
    pub async fn create_subresource(
        &self,
        resource: Resource,
        namespace: &str,
        name: &str,
        subresource: &str,
        body: &Value,
    ) -> Result<Value, Error> {
        let path = request::path(resource, namespace, name, subresource);
        let bytes = self.call(Method::POST, path, JSON, Some(body)).await?;
        Ok(serde_json::from_slice(&bytes)?)
    }

    /// Puts nothing to a path that is no object: the path and its query say all.
    pub async fn put_path(&self, path: &str) -> Result<Bytes, Error> {
        self.call(Method::PUT, path.to_owned(), JSON, None).await
    }

    /// Deletes what is at a path that is no object.
    pub async fn delete_path(&self, path: &str) -> Result<Bytes, Error> {
        self.call(Method::DELETE, path.to_owned(), JSON, None).await
    }

    /// Reads a path that is no object, such as `/version`, accepting the media types given.
    pub async fn get_path(&self, path: &str, accept: &str) -> Result<Bytes, Error> {
        let request = http::Request::builder()
            .uri(path)
            .header(http::header::ACCEPT, accept)
            .body(Bytes::new())
            .map_err(|e| Error::Transport(format!("building the request: {e}")))?;
        successful(self.transport.send(request).await?)
    }

    /// The same of what need not fit into memory, piece by piece. Errors: a refusal; what breaks off later is an item.
    pub async fn get_pieces(&self, path: &str, accept: &str) -> Result<Pieces, Error> {
        let request = http::Request::builder()
            .uri(path)
            .header(http::header::ACCEPT, accept)
            .body(Bytes::new())
            .map_err(|e| Error::Transport(format!("building the request: {e}")))?;
        let (parts, mut body) = self.transport.open(request).await?.into_parts();
        if parts.status.is_success() {
            return Ok(body);
        }
        let mut said = Vec::new();
        while let Some(piece) = body.next().await.transpose()? {
            said.extend_from_slice(&piece);
            if said.len() > REFUSAL_MAX {
                break;
            }
        }
        Err(failure(parts.status, &said).into())
    }

    async fn call(
        &self,
        method: Method,
        uri: String,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Bytes, Error> {
        let verb = method.clone();
        let request = request::request(method, uri, content_type, body)?;
        let Some((metrics, host)) = &self.metrics else {
            return successful(self.transport.send(request).await?);
        };
        let (size, started) = (request.body().len(), Instant::now());
        let answer = self.transport.send(request).await;
        let (status, received) = match &answer {
            Ok(response) => (Some(response.status()), response.body().len()),
            Err(_) => (None, 0),
        };
        let code = status.as_ref().map_or("<error>", http::StatusCode::as_str);
        metrics.asked(verb.as_str(), host, code, started.elapsed(), (size, received));
        successful(answer?)
    }
}

/// The body of a success, or the failure that the answer tells of.
pub(crate) fn successful(response: http::Response<Bytes>) -> Result<Bytes, Error> {
    if response.status().is_success() {
        return Ok(response.into_body());
    }
    Err(failure(response.status(), response.body()).into())
}

/// The Status in a failure's body, or one made of the code when there is none.
pub(crate) fn failure(code: http::StatusCode, body: &[u8]) -> Status {
    match serde_json::from_slice::<Status>(body) {
        Ok(mut status) if status.kind == "Status" && status.status != "Success" => {
            if status.code == 0 {
                status.code = code.as_u16();
            }
            status
        }
        _ => {
            let text = String::from_utf8_lossy(&body[..body.len().min(1024)]);
            let mut status = Status::failure(
                reason_of(code),
                format_args!("the server answered {code}: {}", text.trim()),
            );
            status.code = code.as_u16();
            status
        }
    }
}

fn reason_of(code: http::StatusCode) -> Reason {
    match code.as_u16() {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::MethodNotAllowed,
        409 => Reason::Conflict,
        410 => Reason::Expired,
        422 => Reason::Invalid,
        429 => Reason::TooManyRequests,
        503 => Reason::ServiceUnavailable,
        504 => Reason::Timeout,
        500..=599 => Reason::InternalError,
        _ => Reason::Unknown,
    }
}

/// An object from JSON that says its type.
fn object(bytes: Bytes) -> Result<Arc<Object>, Error> {
    let value: Value = serde_json::from_slice(&bytes)?;
    let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or("");
    let group_version = GroupVersion::parse(text("apiVersion"))
        .ok_or_else(|| Error::Decode(format!("no valid apiVersion in {}", outline(&bytes))))?;
    let kind = Arc::new(group_version.kind(text("kind")));
    Ok(Arc::new(Object::from_value(kind, revision(&value)?, &value)?))
}

fn outline(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}

/// The revision that an object or a list carries.
pub(crate) fn revision(value: &Value) -> Result<Revision, Error> {
    let text = value
        .pointer("/metadata/resourceVersion")
        .and_then(Value::as_str)
        .unwrap_or("");
    match text {
        // Virtual objects (reviews, bindings) have none.
        "" => Ok(Revision(0)),
        _ => Revision::parse(text).ok_or_else(|| Error::Decode(format!("resourceVersion {text:?} is no number"))),
    }
}

fn typed(resource: Resource, object: &Value) -> Value {
    let mut typed = object.clone();
    if let Some(map) = typed.as_object_mut() {
        map.entry("apiVersion").or_insert_with(|| resource.api_version().into());
        map.entry("kind").or_insert_with(|| resource.kind.into());
    }
    typed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_without_a_status_body_still_has_a_reason() {
        let status = failure(http::StatusCode::NOT_FOUND, b"404 page not found");
        assert_eq!((status.reason, status.code), (Reason::NotFound, 404));
        assert!(status.message.contains("404 page not found"), "{}", status.message);
    }

    #[test]
    fn a_status_body_is_taken_as_it_is() {
        let sent = Status::not_found(&crate::resources::PODS.group_resource(), "x");
        let body = serde_json::to_vec(&sent).unwrap();
        assert_eq!(failure(http::StatusCode::NOT_FOUND, &body), sent);
    }
}
