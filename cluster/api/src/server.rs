//! Starting and holding the server.

use crate::{
    ApiOptions, Error, aggregate,
    audit::Audit,
    bootstrap,
    cache::{self},
    components::{Health, Shown},
    core::Core,
    encrypt::{self, Reload},
    extension, flow, identity,
    inprocess::InProcess,
    pipeline::HttpHandler,
};
use std::{
    collections::VecDeque,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use strata_auth::UserInfo;
use strata_client::{Client, Transport};
use strata_http::Handler;
use strata_meta::Revision;
use strata_task::{CancellationToken, TaskTracker};

/// How often quiet watchers are told how far they are (upstream: about a minute).
const BOOKMARKS: Duration = Duration::from_secs(50);
/// How often the objects that must be there are looked for (upstream: ten seconds).
const MAINTENANCE: Duration = Duration::from_secs(10);
/// How often history is forgotten, and so how old a continue token may become (upstream: five minutes).
const COMPACTION: Duration = Duration::from_secs(300);

/// A running API server. Dropping it stops its tasks; it does not listen itself: give
/// [`ApiServer::handler`] to [`strata_http::serve`].
pub struct ApiServer {
    core: Arc<Core>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    /// What follows the store: it ends last, for every write waits to be seen by readers.
    followers: TaskTracker,
    follow: CancellationToken,
}

impl ApiServer {
    /// Loads the cache, follows the store and writes what every cluster has. Errors: the store's, and
    /// settings that cannot be used.
    pub async fn start(options: ApiOptions) -> Result<Self, Error> {
        let cancel = CancellationToken::new();
        let (options, encryption) = encrypted(options).await?;
        let core = Arc::new(Core::new(options, encryption, cancel.clone())?);
        let server = Self {
            core,
            tasks: TaskTracker::new(),
            cancel,
            followers: TaskTracker::new(),
            follow: CancellationToken::new(),
        };
        server.observe();
        let revision = cache::load(&*server.core.store, &server.core.cache).await?;
        server.follow(revision);
        server.keep_time();
        server.tasks.spawn(Audit::run(server.core.clone()));
        bootstrap::run(&server.core).await?;
        server
            .tasks
            .spawn(extension::controller::run(server.core.clone(), server.cancel.clone()));
        server.tasks.spawn(crate::admission::policy::typecheck::run(
            server.core.clone(),
            server.cancel.clone(),
        ));
        server.core.set_started();
        server.background(aggregate::keep(server.core.clone()));
        server.background(flow::keep(server.core.clone()));
        server.background(identity::keep(server.core.clone()));
        server.background(crate::legacy_tokens::keep(server.core.clone()));
        let core = server.core.clone();
        server.background(async move { core.authorizer.run().await });
        if let Some(encryption) = server.core.encryption.clone() {
            server.background(async move { encryption.run().await });
        }
        tracing::info!(revision = revision.0, "API server ready");
        Ok(server)
    }

    /// Answers requests from the network.
    pub fn handler(&self) -> Arc<dyn Handler> {
        Arc::new(HttpHandler(self.core.clone()))
    }

    /// A client inside the process, for a fixed user: same authorisation and admission, shared objects.
    pub fn client(&self, user: UserInfo) -> Client {
        Client::new(self.transport(user)).counted(self.core.metrics.clients.clone(), "in-process")
    }

    /// What [`ApiServer::client`] speaks through.
    pub fn transport(&self, user: UserInfo) -> Arc<dyn Transport> {
        Arc::new(InProcess::new(self.core.clone(), user))
    }

    /// The scheduler and the controllers run in this process too; component statuses ask them how they are.
    pub fn runs(&self, scheduler: Health, controllers: Health) {
        self.core.components.run(scheduler, controllers);
    }

    /// What a part that runs in this process counts is on the page of metrics, too.
    pub fn counts(&self, shown: Shown) {
        self.core.components.count(shown);
    }

    /// Whether `/readyz` says so.
    pub fn is_ready(&self) -> bool {
        self.core.is_ready()
    }

    /// `/readyz` says from now on that no new client should come; everything is answered as before.
    pub fn announce_shutdown(&self) {
        self.core.set_leaving();
    }

    /// Ends watches, so that their connections end: what a server that stops does first.
    pub fn drain(&self) {
        for resource in self.core.cache.all() {
            resource.close_watches();
        }
    }

    /// Ends watches and background tasks, and waits for them.
    pub async fn stop(&self) {
        self.cancel.cancel();
        for resource in self.core.cache.all() {
            resource.close_watches();
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.follow.cancel();
        self.followers.close();
        self.followers.wait().await;
    }

    /// Something that goes on until the server stops.
    fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move { cancel.run_until_cancelled(task).await });
    }

    /// Those who must know of a change before its writer is answered.
    fn observe(&self) {
        let core = &self.core;
        for plural in ["roles", "clusterroles", "rolebindings", "clusterrolebindings"] {
            let rbac = core.rbac.clone();
            core.resource("rbac.authorization.k8s.io", plural)
                .observe(Box::new(move |event, _| {
                    if let Err(error) = rbac.apply(event) {
                        tracing::error!(%error, "an RBAC object cannot be read and grants nothing");
                    }
                }));
        }
        for (group, plural) in [
            ("", "pods"),
            ("", "persistentvolumes"),
            ("storage.k8s.io", "volumeattachments"),
            ("resource.k8s.io", "resourceslices"),
        ] {
            let nodes = core.nodes.clone();
            core.resource(group, plural).observe(Box::new(move |event, _| {
                if let Err(error) = nodes.apply(event) {
                    tracing::error!(%error, "an object cannot be read and opens nothing to its node");
                }
            }));
        }
        self.observe_aggregation();
        let server = Arc::downgrade(core);
        core.resource("apiextensions.k8s.io", "customresourcedefinitions")
            .observe(Box::new(move |event, _| {
                if let Some(core) = server.upgrade() {
                    core.extensions.observe(&core, event);
                }
            }));
        for plural in crate::admission::Configured::RESOURCES {
            let configured = core.configured.clone();
            core.resource("admissionregistration.k8s.io", plural)
                .observe(Box::new(move |event, _| configured.apply(plural, event)));
        }
        for plural in ["flowschemas", "prioritylevelconfigurations"] {
            let server = Arc::downgrade(core);
            core.resource("flowcontrol.apiserver.k8s.io", plural)
                .observe(Box::new(move |event, _| {
                    if let Some(core) = server.upgrade() {
                        core.flow.observe(event);
                    }
                }));
        }
        let services = core.services.clone();
        core.resource("", "services")
            .observe(Box::new(move |event, before| services.observe(event, before)));
    }

    /// Which API servers there are besides, and where they are reached.
    fn observe_aggregation(&self) {
        let core = &self.core;
        let server = Arc::downgrade(core);
        core.resource("apiregistration.k8s.io", "apiservices")
            .observe(Box::new(move |event, _| {
                if let Some(core) = server.upgrade() {
                    core.aggregator.observe(event);
                }
            }));
        for (group, plural, label) in [
            ("", "services", None),
            ("discovery.k8s.io", "endpointslices", Some("kubernetes.io/service-name")),
        ] {
            let server = Arc::downgrade(core);
            core.resource(group, plural).observe(Box::new(move |event, _| {
                if let (Some(core), Some(object)) = (server.upgrade(), event.object()) {
                    let service = label.map_or(Some(object.name()), |label| object.label(label));
                    core.aggregator
                        .endpoints_changed(object.namespace(), service.unwrap_or(""));
                }
            }));
        }
    }

    fn follow(&self, from: Revision) {
        let core = self.core.clone();
        let cancel = self.follow.clone();
        self.followers.spawn(async move {
            let fed = cache::feed(core.store.clone(), core.cache.clone(), from, cancel).await;
            if let Err(why) = fed {
                tracing::error!(why, "the store's history broke off: the server answers no more");
                core.broken.store(true, Ordering::Release);
                core.cancel.cancel();
            }
        });
    }

    fn keep_time(&self) {
        let (core, cancel) = (self.core.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            let mut bookmarks = tokio::time::interval(BOOKMARKS);
            let mut maintenance = tokio::time::interval(MAINTENANCE);
            let mut compaction = tokio::time::interval(COMPACTION);
            let mut marks: VecDeque<Revision> = VecDeque::new();
            loop {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    _ = bookmarks.tick() => core.cache.bookmark(),
                    _ = maintenance.tick() => if core.is_ready() {
                        cancel.run_until_cancelled(bootstrap::maintain(&core)).await;
                    },
                    _ = compaction.tick() => {
                        marks.push_back(core.cache.progress().applied());
                        if marks.len() > 1 && let Some(oldest) = marks.pop_front() {
                            core.cache.compact(oldest);
                            if let Err(error) = core.store.compact(oldest).await {
                                tracing::warn!(%error, "compacting the store");
                            }
                        }
                    }
                }
            }
        });
    }
}

/// With a store that encrypts, if that is configured, and everything in it written as it should be.
async fn encrypted(mut options: ApiOptions) -> Result<(ApiOptions, Option<Arc<Reload>>), Error> {
    let Some(settings) = options.encryption.clone() else {
        return Ok((options, None));
    };
    let opened = Reload::open(settings, encrypt::Times::default(), options.store.clone()).await;
    let encryption = Arc::new(opened.map_err(|why| Error::Setting {
        setting: "encryption-provider-config",
        why,
    })?);
    let rewritten = encryption.store().rewrite().await?;
    if rewritten > 0 {
        tracing::info!(rewritten, "values are encrypted as configured now");
    }
    options.store = encryption.store().clone();
    Ok((options, Some(encryption)))
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
