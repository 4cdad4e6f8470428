//! The executor: follows Services and EndpointSlices, and keeps the kernel's tables as they say.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use strata_client::{Change, Client, Informer, Scope, resources};
use strata_meta::ObjectKey;
use strata_net::netlink::conntrack;
use strata_net::nft::{Batch, Family, NftSocket};
use strata_net::{Cidr, Instance};
use strata_task::{Backoff, CancellationToken};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::objects::{EndpointSlice, Service};
use crate::plan::{self, Balance, Frontend, Masquerade, PoolKey, Protocol, ServicePlan, Treatment};
use crate::rules;
use crate::tables::{Applied, Tables};
use crate::{Error, TablesOptions};

/// Plans put into one transaction: a batch must fit a netlink datagram.
const CHUNK: usize = 1_000;
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// Rounds of forgetting remembered clients: a packet may renew one between looking and removing.
const AFFINITY_ROUNDS: usize = 3;

/// How a node offers services.
#[derive(Clone)]
pub struct ServiceProxyOptions {
    /// Where Services and EndpointSlices come from.
    pub client: Client,
    /// This node's name, by which endpoints on it are known.
    pub node_name: String,
    /// This node's addresses; the first is what connections of the host to cluster addresses come from.
    pub node_ips: Vec<IpAddr>,
    /// Unique per server on this machine; names the table.
    pub instance: String,
    /// The range of all pods: who is outside is masqueraded.
    pub cluster_cidr: Cidr,
    /// The range of cluster addresses, if known: hosts without a default route get a route to it,
    /// and what no service answers there is refused at once.
    pub service_cidr: Option<Cidr>,
    /// Node ports are offered on local addresses in these ranges; empty: on every local address but loopback.
    pub node_port_addresses: Vec<Cidr>,
    /// The cluster DNS address (port 53) and the node's own resolver that answers for it; the
    /// resolver's address must not be a loopback address, which pods could not reach.
    pub dns: Option<(IpAddr, SocketAddr)>,
}

/// The running proxy. Dropping it stops the work and leaves the tables in place, so that
/// connections go on while the server restarts; `strata_net::cleanup` removes them.
#[derive(Debug)]
pub struct ServiceProxy {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
    cancel: CancellationToken,
}

#[derive(Debug)]
struct Shared {
    dirty: Mutex<HashSet<ObjectKey>>,
    /// Slices of each service.
    slices: Mutex<HashMap<ObjectKey, BTreeSet<ObjectKey>>>,
    notify: Notify,
    /// Transactions applied so far; 0 until the first complete one.
    applied: watch::Sender<u64>,
    programmed: Mutex<HashSet<ObjectKey>>,
}

/// What the blocking side owns.
struct Worker {
    tables: Tables,
    socket: NftSocket,
    node_ips: Vec<IpAddr>,
}

impl ServiceProxy {
    /// Makes the tables and starts following. Errors: what the kernel refused at once.
    ///
    /// Must be called within a tokio runtime whose threads are in the node's network namespace.
    pub fn start(options: ServiceProxyOptions, cancel: CancellationToken) -> Result<Self, Error> {
        let cancel = cancel.child_token();
        let shared = Arc::new(Shared {
            dirty: Mutex::default(),
            slices: Mutex::default(),
            notify: Notify::new(),
            applied: watch::Sender::new(0),
            programmed: Mutex::default(),
        });
        let worker = Worker::new(&options)?;
        let services = Informer::start(&options.client, resources::SERVICES, Scope::default(), cancel.clone());
        let slices = Informer::start(
            &options.client,
            resources::ENDPOINT_SLICES,
            Scope::default(),
            cancel.clone(),
        );
        let follower = Follower {
            shared: shared.clone(),
            services,
            slices,
            node: options.node_name.clone(),
        };
        let dns = options.dns.and_then(dns_plan);
        let token = cancel.clone();
        let task = tokio::spawn(async move {
            token.run_until_cancelled(follower.run(worker, dns)).await;
        });
        Ok(Self { shared, task, cancel })
    }

    /// Waits until every service known at the start is in the kernel.
    pub async fn synced(&self) {
        // The sender lives in `shared`, so waiting cannot fail.
        let _ = self.shared.applied.subscribe().wait_for(|applied| *applied > 0).await;
    }

    /// Waits until a service has tables (even if they only refuse).
    pub async fn programmed(&self, service: &ObjectKey) {
        let mut applied = self.shared.applied.subscribe();
        let _ = applied
            .wait_for(|_| lock(&self.shared.programmed).contains(service))
            .await;
    }

    /// Counts applied transactions: changes tell when tables have changed.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied.subscribe()
    }

    /// Stops the work and waits for it. The tables stay.
    pub async fn stop(mut self) {
        self.cancel.cancel();
        // The task ends by cancellation only; a panic was already reported by the runtime.
        let _ = (&mut self.task).await;
    }
}

impl Drop for ServiceProxy {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

struct Follower {
    shared: Arc<Shared>,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    node: String,
}

impl Follower {
    async fn run(self, mut worker: Worker, dns: Option<(ObjectKey, ServicePlan)>) {
        let shared = self.shared.clone();
        self.services.on_change(move |change| shared.service_changed(change));
        let shared = self.shared.clone();
        self.slices.on_change(move |change| shared.slice_changed(change));
        self.services.synced().await;
        self.slices.synced().await;
        let mut backoff = Backoff::new(RETRY_FIRST, RETRY_MAX);
        let mut anew = true;
        loop {
            let mut keys = std::mem::take(&mut *lock(&self.shared.dirty));
            let mut plans = Vec::new();
            if anew {
                keys.extend(self.services.list().into_iter().map(|(key, _)| key));
                plans.extend(dns.clone());
            }
            plans.extend(keys.iter().map(|key| (key.clone(), self.plan(key))));
            let applied = tokio::task::spawn_blocking(move || {
                let result = worker.apply(plans, anew);
                (worker, result)
            });
            let result;
            (worker, result) = match applied.await {
                Ok(returned) => returned,
                // The runtime is going away, or the worker panicked, which the runtime reported.
                Err(error) => return tracing::error!(%error, "service tables are no longer kept"),
            };
            anew = result.is_err();
            match result {
                Ok(()) => {
                    backoff.reset();
                    self.report(keys);
                    self.shared.notify.notified().await;
                }
                Err(error) => {
                    tracing::warn!(%error, "service tables could not be changed and are built anew");
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }

    fn plan(&self, key: &ObjectKey) -> ServicePlan {
        let Some(service) = self.services.get(key) else {
            return ServicePlan::default();
        };
        let names = lock(&self.shared.slices).get(key).cloned().unwrap_or_default();
        let slices: Vec<_> = names.iter().filter_map(|name| self.slices.get(name)).collect();
        plan::plan(&self.node, &service, &slices)
    }

    fn report(&self, keys: HashSet<ObjectKey>) {
        let mut programmed = lock(&self.shared.programmed);
        for key in keys {
            if self.services.get(&key).is_some() {
                programmed.insert(key);
            } else {
                programmed.remove(&key);
            }
        }
        drop(programmed);
        self.shared.applied.send_modify(|applied| *applied += 1);
    }
}

impl Shared {
    fn service_changed(&self, change: &Change<Service>) {
        self.mark(change.key.clone());
    }

    fn slice_changed(&self, change: &Change<EndpointSlice>) {
        let owner = |slice: &Option<Arc<EndpointSlice>>| {
            let name = slice.as_ref().and_then(|slice| slice.service_name().map(str::to_owned));
            name.map(|name| ObjectKey::new(&change.key.namespace, &name))
        };
        let (old, new) = (owner(&change.old), owner(&change.new));
        {
            let mut slices = lock(&self.slices);
            if let Some(old) = old.as_ref().filter(|old| new.as_ref() != Some(*old))
                && let Some(names) = slices.get_mut(old)
            {
                names.remove(&change.key);
                if names.is_empty() {
                    slices.remove(old);
                }
            }
            if let Some(new) = &new {
                slices.entry(new.clone()).or_default().insert(change.key.clone());
            }
        }
        old.into_iter().chain(new).for_each(|service| self.mark(service));
    }

    fn mark(&self, service: ObjectKey) {
        lock(&self.dirty).insert(service);
        self.notify.notify_one();
    }
}

impl Worker {
    fn new(options: &ServiceProxyOptions) -> Result<Self, Error> {
        let instance = Instance::new(&options.instance)?;
        if let Some(range) = options.service_cidr {
            let source = options.node_ips.iter().find(|address| address.is_ipv4()).copied();
            strata_net::route_virtual(&options.instance, range, source)?;
        }
        // The first transaction of `apply` makes the tables: until then those of an earlier run serve on.
        let tables = TablesOptions {
            table: instance.service_table(),
            cluster_cidr: options.cluster_cidr,
            service_cidr: options.service_cidr,
            node_port_addresses: options.node_port_addresses.clone(),
        };
        let (tables, _) = Tables::new(tables, false)?;
        let socket = NftSocket::open()?;
        Ok(Self {
            tables,
            socket,
            node_ips: options.node_ips.clone(),
        })
    }

    /// Applies the plans; `anew` starts from empty tables. After an error the tables are in doubt,
    /// and the next call must start anew with every plan.
    fn apply(&mut self, plans: Vec<(ObjectKey, ServicePlan)>, anew: bool) -> Result<(), Error> {
        let mut install = None;
        if anew {
            let existing = self.socket.tables(Family::Ipv4)?;
            let replace = existing.iter().any(|table| table == self.tables.table());
            install = Some(self.tables.reset(replace)?);
        }
        self.change(plans, install)
    }

    /// The tables' own making and the first services are one transaction: there is no moment without services.
    fn change(&mut self, plans: Vec<(ObjectKey, ServicePlan)>, mut install: Option<Batch>) -> Result<(), Error> {
        let mut left = plans.into_iter().peekable();
        while left.peek().is_some() || install.is_some() {
            let batch = install.take().unwrap_or_else(|| self.tables.batch());
            let update = self.tables.change(left.by_ref().take(CHUNK).collect(), batch)?;
            let applied = update.commit(&mut self.socket)?;
            self.forget(&applied);
        }
        Ok(())
    }

    /// Lets go of flows and remembered clients that still point to endpoints which are gone.
    /// A failure is no reason to build tables anew: the state ages out.
    fn forget(&mut self, update: &Applied) {
        if update.touches_udp() {
            let forgotten = conntrack::forget(|connection| update.outdated(connection, &self.node_ips));
            match forgotten {
                Ok(0) => {}
                Ok(count) => tracing::debug!(count, "forgot UDP flows to endpoints that are gone"),
                Err(error) => tracing::warn!(%error, "UDP flows to endpoints that are gone were not forgotten"),
            }
        }
        if update.touches_affinity()
            && let Err(error) = self.forget_clients(update)
        {
            tracing::warn!(%error, "clients of endpoints that are gone were not forgotten");
        }
    }

    fn forget_clients(&mut self, update: &Applied) -> Result<(), Error> {
        let table = self.tables.table().to_owned();
        for _ in 0..AFFINITY_ROUNDS {
            let elements = self.socket.elements(Family::Ipv4, &table, rules::AFFINITY)?;
            let gone: Vec<_> = elements
                .into_iter()
                .filter(|element| update.forgotten(element))
                .collect();
            if gone.is_empty() {
                break;
            }
            for element in gone {
                let mut batch = Batch::new(Family::Ipv4, &table);
                batch.delete_elements(rules::AFFINITY, &[element]);
                // It may expire in between.
                if let Err(error) = self.socket.apply(batch)
                    && error.errno() != Some(2)
                {
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }
}

/// The plan that leads the cluster DNS address to the node's own resolver. Its key sorts before
/// every service, so that no Service takes the address away.
fn dns_plan((address, listener): (IpAddr, SocketAddr)) -> Option<(ObjectKey, ServicePlan)> {
    let (IpAddr::V4(address), SocketAddr::V4(listener)) = (address, listener) else {
        tracing::warn!(%address, %listener, "cluster DNS is offered on IPv4 only");
        return None;
    };
    let mut plan = ServicePlan::default();
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let pool = PoolKey {
            port: "dns".into(),
            protocol,
            local: true,
        };
        let balance = Balance {
            pool: pool.clone(),
            inside: None,
            masquerade: Masquerade::Never,
            affinity: None,
        };
        let frontend = Frontend {
            address: Some(address),
            protocol,
            port: 53,
        };
        plan.frontends
            .insert(frontend, (Treatment::Balance(balance), Vec::new()));
        plan.pools.insert(pool, vec![listener]);
    }
    Some((ObjectKey::new("", "dns"), plan))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every critical section leaves its data whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
