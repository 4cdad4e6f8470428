//! The contract between the client and the way to the server.

use crate::{Error, ListParams, Resource};
use bytes::Bytes;
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use std::sync::Arc;
use strata_meta::{Object, Revision, WatchEvent};

/// An answer as it comes; an `Err` item is its last.
pub type Pieces = BoxStream<'static, Result<Bytes, Error>>;

/// A way to reach an API server.
///
/// Lists and watches are methods of their own so that an in-process transport can hand
/// out the server's own `Arc<Object>` instead of JSON.
pub trait Transport: Send + Sync + 'static {
    /// Sends one request, whose URI is path and query, and reads the whole answer.
    /// A failure status is an `Ok` response here; the client turns it into an [`Error`].
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, Error>>;

    /// Sends one request and hands the answer out piece by piece, for what need not fit into memory.
    fn open(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Pieces>, Error>> {
        Box::pin(async move {
            let whole = self.send(request).await?;
            Ok(whole.map(|body| stream::once(async move { Ok(body) }).boxed()))
        })
    }

    /// Lists a resource.
    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ObjectList, Error>>;

    /// Watches a resource. The stream ends when the server closes it; an `Err` item is its last.
    fn watch(
        &self,
        request: WatchRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<WatchEvent, Error>>, Error>>;
}

/// What to list.
#[derive(Clone, Debug)]
pub struct ListRequest {
    /// The resource.
    pub resource: Resource,
    /// One namespace; absent: all.
    pub namespace: Option<String>,
    /// Restrictions.
    pub params: ListParams,
}

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// The resource.
    pub resource: Resource,
    /// One namespace; absent: all.
    pub namespace: Option<String>,
    /// Label selector, empty for all.
    pub label_selector: String,
    /// Field selector, empty for all.
    pub field_selector: String,
    /// Events after this revision.
    pub from: Revision,
    /// Whether to be told the revision when nothing happens.
    pub bookmarks: bool,
}

/// The answer to a list.
#[derive(Clone, Debug)]
pub struct ObjectList {
    /// The objects.
    pub items: Vec<Arc<Object>>,
    /// The revision that the list shows; watch from here.
    pub revision: Revision,
    /// Where the next page begins; empty when this is the last.
    pub continue_token: String,
}
