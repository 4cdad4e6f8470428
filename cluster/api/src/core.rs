//! What every request needs: rows, cache, store, authorisation.

use crate::{
    access::Lookup,
    admission::Configured,
    aggregate::Aggregator,
    allocator::ServiceAllocator,
    audit::Audit,
    cache::{Cache, ResourceCache, StoredForm, key_of, prefix_of, value_of},
    components::Components,
    encrypt,
    extension::Extensions,
    flow::Flow,
    impersonate::Impersonation,
    metrics::{
        Metrics,
        waits::{self, Layer},
    },
    options::{Dialer, LogFilter},
    outside::{Authorization, Outside},
    registry::{Registry, Row},
    stored_size,
    usage::{self, Usage},
    webhook::WebhookClients,
};
use bytes::Bytes;
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use strata_auth::{Authenticator, Leaf, NodeAuthorizer, Rbac, TokenIssuer};
use strata_meta::{Object, ObjectKey, Revision, Status, Time};
use strata_store::{Error as StoreError, Expect, LeaseId, Store};
use strata_task::CancellationToken;
use tokio::sync::Semaphore;

/// Requests at a time, by whether they change something (upstream's defaults).
const READS_IN_FLIGHT: usize = 400;
const WRITES_IN_FLIGHT: usize = 200;

/// Upstream's `--event-ttl`, and how long one lease takes new events.
const EVENT_TTL: Duration = Duration::from_secs(3600);
const EVENT_LEASE_SHARED: Duration = Duration::from_secs(60);

/// Locks that writers who were overtaken wait at, so that each gets its turn.
const TURNS: usize = 64;

/// The server's parts.
pub(crate) struct Core {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Arc<Cache>,
    pub(crate) registry: Registry,
    pub(crate) extensions: Arc<Extensions>,
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Authorization,
    pub(crate) impersonation: Impersonation,
    pub(crate) rbac: Arc<Rbac>,
    pub(crate) nodes: Arc<NodeAuthorizer>,
    pub(crate) issuer: Arc<TokenIssuer>,
    /// The longest life of a token that somebody asks for, in seconds.
    pub(crate) longest_token: Option<i64>,
    pub(crate) services: Arc<ServiceAllocator>,
    pub(crate) metrics: Metrics,
    pub(crate) aggregator: Aggregator,
    pub(crate) flow: Flow,
    pub(crate) usage: Usage,
    /// The scheduler and the controllers, where this process runs them.
    pub(crate) components: Components,
    pub(crate) audit: Option<Audit>,
    pub(crate) encryption: Option<Arc<encrypt::Reload>>,
    pub(crate) openapi: crate::openapi::Cache,
    pub(crate) log_filter: Option<LogFilter>,
    pub(crate) outside: Outside,
    pub(crate) dialer: Arc<dyn Dialer>,
    pub(crate) webhooks: WebhookClients,
    pub(crate) configured: Arc<Configured>,
    pub(crate) agent_identity: Option<Leaf>,
    pub(crate) ca_pem: String,
    pub(crate) advertise: SocketAddr,
    pub(crate) reads: Arc<Semaphore>,
    pub(crate) writes: Arc<Semaphore>,
    pub(crate) cancel: CancellationToken,
    turns: Vec<tokio::sync::Mutex<()>>,
    event_lease: tokio::sync::Mutex<Option<(LeaseId, Instant)>>,
    /// When the server started.
    pub(crate) began: Time,
    /// The command line it was started with.
    pub(crate) flags: std::collections::BTreeMap<String, String>,
    started: AtomicBool,
    leaving: AtomicBool,
    pub(crate) broken: AtomicBool,
}

/// Why a write did not happen.
pub(crate) enum WriteError {
    /// The state is another; its revision, if there is one.
    Conflict(Option<Revision>),
    /// Anything else.
    Failed(Status),
}

impl WriteError {
    /// Whether a write failed because the object is larger than the store takes.
    pub(crate) fn is_too_large<T>(outcome: &Result<T, Self>) -> bool {
        matches!(outcome, Err(Self::Failed(status)) if status.reason == strata_meta::Reason::RequestEntityTooLarge)
    }
}

impl Core {
    /// Parts that know each other, with nothing loaded yet. Errors: a setting that cannot be used.
    pub(crate) fn new(
        options: crate::ApiOptions,
        encryption: Option<Arc<encrypt::Reload>>,
        cancel: CancellationToken,
    ) -> Result<Self, crate::Error> {
        let cache = Arc::new(Cache::new());
        let registry = Registry::builtin(&cache, if options.usage { usage::rows() } else { Vec::new() });
        let rbac = Arc::new(Rbac::new());
        let nodes = Arc::new(NodeAuthorizer::new());
        let services = Arc::new(ServiceAllocator::new(
            &options.service_cidr,
            options.node_ports.clone(),
        )?);
        let lookup = Arc::new(Lookup::new(&cache));
        Ok(Self {
            authenticator: Authenticator::new(options.issuer.clone(), lookup)
                .believing(options.front_proxy.as_ref().map(|front| front.believed.clone())),
            impersonation: Impersonation::default(),
            authorizer: Outside::authorization(&options.outside, nodes.clone(), rbac.clone())?,
            store: options.store,
            cache,
            registry,
            extensions: Arc::default(),
            rbac,
            nodes,
            issuer: options.issuer,
            longest_token: options.longest_token,
            services,
            metrics: Metrics::default(),
            flow: Flow::new(),
            usage: Usage::default(),
            components: Components::default(),
            outside: Outside::open(&options.outside)?,
            encryption,
            log_filter: options.log_filter,
            openapi: crate::openapi::Cache::default(),
            audit: options.audit.as_ref().map(Audit::open).transpose()?,
            aggregator: Aggregator::new(options.front_proxy),
            dialer: options.dialer,
            webhooks: WebhookClients::default(),
            configured: Arc::default(),
            agent_identity: options.agent_identity,
            ca_pem: options.ca_pem,
            advertise: options.advertise,
            reads: Arc::new(Semaphore::new(READS_IN_FLIGHT)),
            writes: Arc::new(Semaphore::new(WRITES_IN_FLIGHT)),
            cancel,
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
            event_lease: tokio::sync::Mutex::default(),
            began: Time::now(),
            flags: options.flags,
            started: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        })
    }

    /// Everything is in place.
    pub(crate) fn set_started(&self) {
        self.started.store(true, Ordering::Release);
    }

    /// Somebody wants the server to stop: it says so, and goes on for as long as it is given.
    pub(crate) fn set_leaving(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether no new client should come.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire) || self.cancel.is_cancelled()
    }

    /// Whether everything that every cluster has is there.
    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Whether requests can be answered.
    pub(crate) fn is_ready(&self) -> bool {
        self.started.load(Ordering::Acquire) && self.is_alive() && !self.cancel.is_cancelled()
    }

    /// Whether the cache follows the store.
    pub(crate) fn is_alive(&self) -> bool {
        !self.broken.load(Ordering::Acquire)
    }

    /// A stored resource of the built-in kinds.
    pub(crate) fn resource(&self, group: &str, plural: &str) -> Arc<ResourceCache> {
        let found = self.cache.named(&prefix_of(group, plural));
        found.expect("built-in resources are registered when the server is made")
    }

    /// Where a row's objects are. Errors: 405 for rows that keep none.
    pub(crate) fn stored<'r>(&self, row: &'r Row) -> Result<&'r Arc<ResourceCache>, Status> {
        row.cache.as_ref().ok_or_else(Status::method_not_allowed)
    }

    /// The turn of a writer who was overtaken at an object; those of other objects seldom wait for it.
    pub(crate) async fn turn(&self, key: &ObjectKey) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % TURNS as u64).unwrap_or(0);
        self.turns[at].lock().await
    }

    /// Writes an encoded object and waits until readers see it.
    pub(crate) async fn put(
        &self,
        resource: &ResourceCache,
        namespace: &str,
        name: &str,
        body: Bytes,
        expect: Expect,
    ) -> Result<Arc<Object>, WriteError> {
        self.put_as(&resource.form(), resource, namespace, name, body, expect)
            .await
    }

    /// Writes an object that is encoded in a form of its own, as [`Core::put`] does.
    pub(crate) async fn put_as(
        &self,
        form: &StoredForm,
        resource: &ResourceCache,
        namespace: &str,
        name: &str,
        body: Bytes,
        expect: Expect,
    ) -> Result<Arc<Object>, WriteError> {
        let key = key_of(resource.prefix(), namespace, name);
        stored_size::check(form, &key, &body).map_err(WriteError::Failed)?;
        let value = value_of(form, &body);
        let lease = self.lease_for(resource).await.map_err(write_error)?;
        let operation = if expect == Expect::Absent { "create" } else { "update" };
        let asked = Instant::now();
        let stored = self.store.put(key, value, expect, lease).await;
        waits::took(Layer::Storage, asked.elapsed());
        self.metrics
            .storage
            .asked(operation, resource, stored.is_err(), asked.elapsed());
        let revision = stored.map_err(write_error)?;
        self.cache
            .progress()
            .reach(revision)
            .await
            .map_err(WriteError::Failed)?;
        match resource.get(namespace, name) {
            Some(object) if object.revision == revision => Ok(object),
            _ => written(form, revision, body),
        }
    }

    /// Whether an object that does not change has to be written all the same: another key is in use by now.
    pub(crate) async fn is_stale(&self, resource: &ResourceCache, object: &Object) -> Result<bool, Status> {
        let Some(encryption) = &self.encryption else {
            return Ok(false);
        };
        let key = key_of(resource.prefix(), object.namespace(), object.name());
        encryption.store().is_stale(&key).await.map_err(Status::internal)
    }

    /// Events are forgotten after an hour; those written within a minute share a lease.
    async fn lease_for(&self, resource: &ResourceCache) -> Result<Option<LeaseId>, StoreError> {
        if resource.kind().kind != "Event" {
            return Ok(None);
        }
        let mut current = self.event_lease.lock().await;
        if let Some((lease, made)) = *current
            && made.elapsed() < EVENT_LEASE_SHARED
        {
            return Ok(Some(lease));
        }
        let lease = self.store.lease_grant(EVENT_TTL + EVENT_LEASE_SHARED).await?;
        *current = Some((lease, Instant::now()));
        Ok(Some(lease))
    }

    /// Removes an object and waits until readers see it; the object as it was last, at the revision of its removal.
    pub(crate) async fn remove(&self, resource: &ResourceCache, object: &Object) -> Result<Arc<Object>, WriteError> {
        let key = key_of(resource.prefix(), object.namespace(), object.name());
        let asked = Instant::now();
        let removed = self.store.delete(&key, Expect::Revision(object.revision)).await;
        waits::took(Layer::Storage, asked.elapsed());
        self.metrics
            .storage
            .asked("delete", resource, removed.is_err(), asked.elapsed());
        let Some((revision, _)) = removed.map_err(write_error)? else {
            return Err(WriteError::Conflict(None));
        };
        self.cache
            .progress()
            .reach(revision)
            .await
            .map_err(WriteError::Failed)?;
        let mut last = object.clone();
        last.revision = revision;
        Ok(Arc::new(last))
    }
}

fn written(form: &StoredForm, revision: Revision, body: Bytes) -> Result<Arc<Object>, WriteError> {
    let object = Object::from_body(form.kind.clone(), revision, body);
    object
        .map(|object| object.with_edition(form.edition))
        .map(Arc::new)
        .map_err(|e| WriteError::Failed(Status::internal(e)))
}

fn write_error(error: StoreError) -> WriteError {
    match error {
        StoreError::Conflict { current } => WriteError::Conflict(current.map(|c| c.mod_revision)),
        StoreError::Closed => WriteError::Failed(Status::unavailable("the server is shutting down")),
        // The store's own limit, beyond what any body can be.
        StoreError::TooLarge { .. } => {
            let mut status = Status::failure(
                strata_meta::Reason::RequestEntityTooLarge,
                "Request entity too large: limit is 3145728",
            );
            status.code = 413;
            WriteError::Failed(status)
        }
        other => {
            tracing::error!(error = %other, "the store refused a write");
            WriteError::Failed(Status::internal(other))
        }
    }
}
