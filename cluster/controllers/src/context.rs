//! What all controllers share: options, informers, and the loop around a work queue.

use crate::{
    Error, autoscale, cronjob, daemon, deployment, disruption, endpoints, garbage, identity, job, load_balancer,
    namespace, namespace_objects, node, pod_gc, protection, quota, replicas, stateful,
    tracked::{Index, Tracked, undecoded},
    ttl,
    views::{Node, Pod, Service},
    volume,
};
use std::{fmt::Display, future::Future, hash::Hash, net::IpAddr, sync::Arc, time::Duration};
use strata_auth::TokenIssuer;
use strata_client::{Client, EventRecorder, Informer, Resource, Scope, WorkQueue, resources::*};
use strata_meta::{Object, Time};
use strata_task::{CancellationToken, Clock, SystemClock, TaskTracker};

/// The name under which the client of the shared caches is asked for; it needs to list and
/// watch everything, as upstream's `system:kube-controller-manager` may.
pub const SHARED_INFORMERS: &str = "kube-controller-manager";

/// Makes the client of a controller from its name: [`SHARED_INFORMERS`], or that of the
/// service account in kube-system which upstream gives the controller's role to.
pub type ClientFor = Arc<dyn Fn(&str) -> Client + Send + Sync>;

/// What the controllers need to know.
#[derive(Clone)]
pub struct ControllersOptions {
    /// See [`ClientFor`].
    pub client_for: ClientFor,
    /// Pod addresses of the cluster, `10.42.0.0/16`; empty: nodes get no ranges.
    pub cluster_cidr: String,
    /// The prefix length of each node's part of it.
    pub node_cidr_mask: u8,
    /// The authority that pods should trust the server by.
    pub ca_pem: String,
    /// Signs the tokens of service accounts that are kept in secrets; without it such secrets stay empty.
    pub issuer: Option<Arc<TokenIssuer>>,
    /// Where the calendar time comes from.
    pub clock: Arc<dyn Clock>,
    /// How long a node may be silent before it counts as unreachable.
    pub node_grace: Duration,
    /// The same for a node that never reported.
    pub node_startup_grace: Duration,
    /// Finished pods beyond this number are deleted; 0: none.
    pub terminated_pods: usize,
    /// How long pods of a vanished node are kept, should it come back.
    pub orphan_quarantine: Duration,
    /// What is counted of jobs, for whoever shows it.
    pub job_metrics: Arc<job::JobMetrics>,
}

impl ControllersOptions {
    /// Upstream's defaults.
    pub fn new(client_for: ClientFor) -> Self {
        Self {
            client_for,
            cluster_cidr: "10.42.0.0/16".into(),
            node_cidr_mask: 24,
            ca_pem: String::new(),
            issuer: None,
            clock: Arc::new(SystemClock),
            node_grace: Duration::from_secs(40),
            node_startup_grace: Duration::from_secs(60),
            terminated_pods: 12_500,
            orphan_quarantine: Duration::from_secs(40),
            job_metrics: Arc::default(),
        }
    }
}

/// The running controllers. Dropping it stops them.
pub struct Controllers {
    tasks: TaskTracker,
    cancel: CancellationToken,
}

impl Controllers {
    /// Starts every controller; each begins once its caches are filled.
    pub fn start(options: ControllersOptions, cancel: CancellationToken) -> Result<Self, Error> {
        let cancel = cancel.child_token();
        let tasks = TaskTracker::new();
        let context = Arc::new(Context::new(options, cancel.clone(), tasks.clone()));
        node::start(&context)?;
        replicas::start(&context);
        deployment::start(&context);
        daemon::start(&context);
        stateful::start(&context);
        job::start(&context);
        cronjob::start(&context);
        ttl::start(&context);
        disruption::start(&context);
        autoscale::start(&context);
        endpoints::start(&context);
        namespace::start(&context);
        namespace_objects::start(&context);
        garbage::start(&context);
        pod_gc::start(&context);
        protection::start(&context);
        volume::start(&context);
        load_balancer::start(&context);
        identity::start(&context);
        quota::start(&context);
        tasks.close();
        Ok(Self { tasks, cancel })
    }

    /// Tells later on whether none of them has ended.
    pub fn health(&self) -> impl Fn() -> bool + Send + Sync + use<> {
        let (tasks, started) = (self.tasks.clone(), self.tasks.len());
        move || tasks.len() >= started
    }

    /// Waits until every controller has ended, which cancellation makes them do.
    pub async fn join(self) {
        self.tasks.wait().await;
    }

    /// Ends every controller and waits for it.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.join().await;
    }
}

impl Drop for Controllers {
    fn drop(&mut self) {
        if !self.tasks.is_empty() {
            self.cancel.cancel();
        }
    }
}

/// Options, clients and caches.
pub(crate) struct Context {
    pub options: ControllersOptions,
    pub cancel: CancellationToken,
    tasks: TaskTracker,
    pub pods: Informer<Pod>,
    /// By [`owner_index`].
    pub pods_by_owner: Arc<Index<Pod>>,
    pub pods_by_namespace: Arc<Index<Pod>>,
    pub pods_by_node: Arc<Index<Pod>>,
    pub nodes: Informer<Node>,
    pub services: Informer<Service>,
    pub namespaces: Informer<Arc<Object>>,
    pub replica_sets: Informer<Arc<Object>>,
    pub replica_sets_by_owner: Arc<Index<Arc<Object>>>,
    pub revisions: Informer<Arc<Object>>,
    pub revisions_by_owner: Arc<Index<Arc<Object>>>,
    pub jobs: Informer<Arc<Object>>,
    pub jobs_by_owner: Arc<Index<Arc<Object>>>,
    pub job_metrics: Arc<job::JobMetrics>,
}

impl Context {
    fn new(options: ControllersOptions, cancel: CancellationToken, tasks: TaskTracker) -> Self {
        let client = (options.client_for)(SHARED_INFORMERS);
        let pods = Informer::start_with(&client, PODS, Scope::default(), cancel.clone(), Tracked::decode);
        let objects = |resource| Informer::start_with(&client, resource, Scope::default(), cancel.clone(), undecoded);
        let replica_sets = objects(REPLICA_SETS);
        let revisions = objects(CONTROLLER_REVISIONS);
        let jobs = objects(JOBS);
        Self {
            pods_by_owner: Index::new(&pods, |pod| vec![owner_index(pod)]),
            pods_by_namespace: Index::new(&pods, |pod| vec![pod.key.namespace.clone()]),
            pods_by_node: Index::new(&pods, |pod| match pod.view.node.as_str() {
                "" => Vec::new(),
                node => vec![node.into()],
            }),
            pods,
            nodes: Informer::start_with(&client, NODES, Scope::default(), cancel.clone(), Tracked::decode),
            services: Informer::start_with(&client, SERVICES, Scope::default(), cancel.clone(), Tracked::decode),
            namespaces: objects(NAMESPACES),
            replica_sets_by_owner: Index::new(&replica_sets, |set| vec![owner_index(set)]),
            replica_sets,
            revisions_by_owner: Index::new(&revisions, |revision| vec![owner_index(revision)]),
            revisions,
            jobs_by_owner: Index::new(&jobs, |job| vec![owner_index(job)]),
            jobs,
            job_metrics: options.job_metrics.clone(),
            options,
            cancel,
            tasks,
        }
    }

    /// The client of one controller.
    pub fn client(&self, controller: &str) -> Client {
        (self.options.client_for)(controller)
    }

    /// A work queue, counted under upstream's name for it.
    pub fn queue<K: Clone + Eq + Hash + Send + Sync + 'static>(&self, name: &str) -> WorkQueue<K> {
        self.client(SHARED_INFORMERS).queue(name)
    }

    /// A recorder whose events say which controller they are from.
    pub fn events(&self, controller: &str) -> EventRecorder {
        EventRecorder::new(self.client(controller), controller, "")
    }

    /// Follows a resource with the shared client, keeping whole objects.
    pub fn objects(&self, resource: Resource) -> Informer<Arc<Object>> {
        let client = self.client(SHARED_INFORMERS);
        Informer::start_with(&client, resource, Scope::default(), self.cancel.clone(), undecoded)
    }

    /// The present second.
    pub fn now(&self) -> Time {
        let since = self.options.clock.now().duration_since(std::time::UNIX_EPOCH);
        Time::from_second(since.map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)))
    }

    /// Works on a queue from when the caches are `ready` until cancellation.
    pub fn run<K, R, F, Fut, E>(&self, queue: &WorkQueue<K>, workers: usize, ready: R, reconcile: F)
    where
        K: Clone + Eq + Hash + Display + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Duration>, E>> + Send,
        E: Display + Send,
    {
        let (queue, cancel) = (queue.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            if cancel.run_until_cancelled(ready).await.is_none() {
                return;
            }
            // A reconcile that is under way is not cut off in the middle of a write.
            tokio::join!(queue.run(workers, reconcile), async {
                cancel.cancelled().await;
                queue.shutdown();
            });
        });
    }
}

/// The controller's uid, or that nobody manages the object in its namespace.
pub(crate) fn owner_index(object: &Object) -> Arc<str> {
    match object.controller() {
        Some(owner) => owner.uid.0.clone(),
        None => orphans_of(object.namespace()),
    }
}

/// The index key of a namespace's objects that nobody manages. A uid holds no slash.
pub(crate) fn orphans_of(namespace: &str) -> Arc<str> {
    format!("orphans/{namespace}").into()
}

/// Whether an address is of a family as Services name it.
pub(crate) fn is_of_family(address: &str, family: &str) -> bool {
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    }
}
