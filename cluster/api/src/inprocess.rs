//! The transport of clients inside the process: the same pipeline without TLS, JSON lists or copies.

use crate::{
    cache::{EventKind, Frame, Watch},
    core::Core,
    pipeline::{self, Origin, RequestBody},
    registry::Row,
    request::{Query, RequestInfo},
    verbs::{self, ListQuery, View, filter},
};
use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;
use std::sync::Arc;
use strata_auth::UserInfo;
use strata_client::{Error, ListRequest, ObjectList, Resource, Transport, WatchRequest, encoded};
use strata_http::Body;
use strata_meta::{GroupVersion, Revision, Status, WatchEvent};

/// A fixed user's way into the server.
pub(crate) struct InProcess {
    core: Arc<Core>,
    user: Arc<UserInfo>,
}

impl InProcess {
    /// For one user; nothing in a request can change who that is.
    pub(crate) fn new(core: Arc<Core>, user: UserInfo) -> Self {
        Self {
            core,
            user: Arc::new(user),
        }
    }

    /// Whether another API server has the objects, or nobody before they are asked for, so that there is nothing to share.
    fn is_elsewhere(&self, resource: Resource) -> bool {
        let aggregator = &self.core.aggregator;
        if resource.group == crate::usage::GROUP {
            return true;
        }
        aggregator.any()
            && aggregator
                .serving(&GroupVersion::new(resource.group, resource.version))
                .is_some()
    }

    async fn answer(&self, mut request: Request<Bytes>) -> Result<Response<Body>, Error> {
        request
            .headers_mut()
            .entry(http::header::USER_AGENT)
            .or_insert(HeaderValue::from_static(program(&self.user.name)));
        let (core, user) = (self.core.clone(), self.user.clone());
        Ok(pipeline::serve(core, user, request.map(RequestBody::Memory), Origin::Process).await)
    }

    async fn authorised(
        &self,
        verb: &'static str,
        resource: Resource,
        namespace: Option<&str>,
        fields: &str,
    ) -> Result<Arc<Row>, Status> {
        let row = self
            .core
            .registry
            .get(resource.group, resource.version, resource.plural);
        let row = row.ok_or_else(Status::path_not_found)?;
        let name = strata_meta::FieldSelector::parse(fields).ok();
        let name = name.as_ref().and_then(|f| f.required("metadata.name")).unwrap_or("");
        let info = RequestInfo {
            verb,
            is_resource: true,
            group: resource.group.to_owned(),
            version: resource.version.to_owned(),
            resource: resource.plural.to_owned(),
            namespace: namespace.unwrap_or("").to_owned(),
            name: name.to_owned(),
            ..RequestInfo::default()
        };
        let query = Query::single("fieldSelector", fields);
        self.core.authorize_request(&self.user, &info, &query).await?;
        Ok(row)
    }

    async fn list_objects(&self, request: ListRequest) -> Result<ObjectList, Status> {
        let params = &request.params;
        let namespace = request.namespace.as_deref().filter(|n| !n.is_empty());
        let row = self
            .authorised("list", request.resource, namespace, &params.field_selector)
            .await?;
        let cache = self.core.stored(&row)?;
        let filter = filter(
            &row,
            namespace.unwrap_or(""),
            &params.label_selector,
            &params.field_selector,
        )?;
        let query = ListQuery {
            revision: verbs::parse_revision(&params.resource_version)?,
            exact: false,
            limit: params.limit.map_or(0, |n| n as usize),
            continue_token: params.continue_token.clone(),
        };
        let wanted = filter.shown.clone();
        let page = verbs::list_page(&self.core, cache, filter, query).await?;
        let page = page.shown(&self.core, &row, &wanted).await?;
        let items = page
            .items
            .map(|object| row.view(&object))
            .collect::<Result<Vec<_>, Status>>()?;
        Ok(ObjectList {
            items,
            revision: page.meta.revision,
            continue_token: page.meta.continue_token,
        })
    }

    async fn watch_objects(
        &self,
        request: WatchRequest,
    ) -> Result<BoxStream<'static, Result<WatchEvent, Error>>, Status> {
        let namespace = request.namespace.as_deref().filter(|n| !n.is_empty());
        let row = self
            .authorised("watch", request.resource, namespace, &request.field_selector)
            .await?;
        let cache = self.core.stored(&row)?;
        let filter = filter(
            &row,
            namespace.unwrap_or(""),
            &request.label_selector,
            &request.field_selector,
        )?;
        let revision = Some(request.from).filter(|r| *r != Revision(0));
        let view = View::open(&self.core, &row, cache, &filter, revision).await?;
        let watch = verbs::open_watch(&self.core, cache, filter, revision, None, request.bookmarks).await?;
        let cancel = self.core.cancel.clone();
        let state = (watch, view, row);
        let core = self.core.clone();
        Ok(stream::unfold(state, move |(mut watch, mut view, row)| {
            let (cancel, core) = (cancel.clone(), core.clone());
            async move {
                let event = tokio::select! {
                    event = next_event(&core, &mut watch, &mut view, &row) => event?,
                    () = cancel.cancelled() => return None,
                };
                Some((event, (watch, view, row)))
            }
        })
        .boxed())
    }
}

async fn next_event(core: &Core, watch: &mut Watch, view: &mut View, row: &Row) -> Option<Result<WatchEvent, Error>> {
    let frame = loop {
        match view.pass(core, row, watch.next().await?).await {
            Ok(Some(frame)) => break frame,
            Ok(None) => {}
            Err(status) => return Some(Err(status.into())),
        }
    };
    Some(match frame {
        Frame::Bookmark { revision, .. } => Ok(WatchEvent::Bookmark(revision)),
        Frame::Event { kind, object, .. } => match row.view(&object) {
            Err(status) => Err(status.into()),
            Ok(object) => Ok(match kind {
                EventKind::Added => WatchEvent::Added(object),
                EventKind::Modified => WatchEvent::Modified(object),
                EventKind::Deleted => WatchEvent::Deleted(object),
            }),
        },
    })
}

/// The program that does upstream what a part of this one does, by whose name it manages fields.
fn program(user: &str) -> &'static str {
    match user {
        "system:kube-scheduler" => "kube-scheduler",
        _ if user.starts_with("system:node:") => "kubelet",
        _ if user.starts_with("system:serviceaccount:kube-system:") => "kube-controller-manager",
        "system:kube-controller-manager" => "kube-controller-manager",
        _ => "strata",
    }
}

impl Transport for InProcess {
    fn send(&self, request: Request<Bytes>) -> BoxFuture<'_, Result<Response<Bytes>, Error>> {
        async move {
            let (parts, body) = self.answer(request).await?.into_parts();
            let bytes = body
                .collect()
                .await
                .map_err(|e| Error::Transport(e.to_string()))?
                .to_bytes();
            Ok(Response::from_parts(parts, bytes))
        }
        .boxed()
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ObjectList, Error>> {
        async move {
            if self.is_elsewhere(request.resource) {
                return encoded::list(request, |get| self.answer(get)).await;
            }
            self.list_objects(request).await.map_err(Error::from)
        }
        .boxed()
    }

    fn watch(
        &self,
        request: WatchRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<WatchEvent, Error>>, Error>> {
        async move {
            if self.is_elsewhere(request.resource) {
                return encoded::watch(request, |get| self.answer(get)).await;
            }
            self.watch_objects(request).await.map_err(Error::from)
        }
        .boxed()
    }
}
