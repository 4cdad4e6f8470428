//! Puts the agent together.

use crate::{
    admission::OwnNode,
    cgroups,
    configuration::ConfigurationError,
    context::Context,
    devices,
    env::Service,
    eviction::Evictor,
    manager::PodManager,
    managers::{self, Managers},
    node::{self, NodeReporter},
    options::{AgentOptions, NetworkSlot},
    orders::Orders,
    pod::Pod,
    pull::Puller,
    server::Server,
    shutdown::Drain,
    state::NodeState,
    tries::Tries,
    users::UserRanges,
};
use serde::Deserialize;
use std::{net::IpAddr, path::PathBuf, sync::Arc};
use strata_client::{EventRecorder, Informer, Scope, resources};
use strata_http::Limits;
use strata_meta::{Object, ObjectError, ObjectKey};
use strata_net::{Cidr, HostPorts, NodeRoutes};
use strata_task::{CancellationToken, TaskTracker};
use strata_volume::{LocalVolumes, ObjectCache, VolumeManager};
use tokio::sync::{Notify, watch};

/// Why an agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A directory cannot be made or the machine cannot be looked at.
    #[error("{0}: {1}")]
    Io(&'static str, std::io::Error),
    /// The settings contradict themselves.
    #[error("the node's configuration: {0}")]
    Configuration(#[from] ConfigurationError),
}

/// A running agent.
pub struct Agent {
    tasks: TaskTracker,
    drain: Drain,
}

impl Agent {
    /// Starts an agent; it registers its node, and runs what the API gives it until cancelled.
    pub fn start(options: AgentOptions, cancel: CancellationToken) -> Result<Self, AgentError> {
        std::fs::create_dir_all(&options.pods_dir).map_err(|e| AgentError::Io("creating the directory of pods", e))?;
        std::fs::create_dir_all(&options.log_dir).map_err(|e| AgentError::Io("creating the directory of logs", e))?;
        std::fs::create_dir_all(options.plugins_dir.join("device-plugins"))
            .map_err(|e| AgentError::Io("creating the directory of plugins", e))?;
        let facts = node::facts(&options).map_err(|e| AgentError::Io("looking at the machine", e))?;
        let client = options.client.clone();
        let name = options.node_name.clone();
        let (objects, refresh) = ObjectCache::new(client.clone(), cancel.child_token());
        let objects = Arc::new(objects);
        let events = EventRecorder::new(client.clone(), "kubelet", &name);
        let scope = Scope {
            field_selector: format!("spec.nodeName={name}"),
            ..Scope::default()
        };
        let raw = Informer::start_with(&client, resources::PODS, scope.clone(), cancel.clone(), share);
        let pods: Informer<Pod> = Informer::start(&client, resources::PODS, scope, cancel.clone());
        let network = NetworkSlot::default();
        let state = NodeState {
            problem: Some("container runtime network not ready: no podCIDR yet".to_owned()),
            ..NodeState::default()
        };
        let state = watch::channel(state).0;
        let managers = Managers::new(
            &options.configuration,
            &options.plugins_dir,
            state.clone(),
            pods.clone(),
        )?;
        let managers = Arc::new(managers);
        let context = Arc::new(Context {
            local_volumes: LocalVolumes::new(options.volumes_dir.clone()),
            volumes: VolumeManager::new(client.clone(), objects.clone(), options.pods_dir.clone()),
            puller: Puller::new(options.images.clone(), objects.clone(), events.clone()),
            services: Informer::<Service>::start(&client, resources::SERVICES, Scope::default(), cancel.clone()),
            objects,
            events,
            facts: facts.clone(),
            network: network.clone(),
            ports: host_ports(&options.instance),
            node: OwnNode::follow(&client, &name, cancel.clone()),
            users: UserRanges::new(options.pods_dir.clone()),
            room: Notify::new(),
            tries: Tries::default(),
            managers: managers.clone(),
            state,
            orders: Orders::default(),
            options: options.clone(),
        });
        let tasks = TaskTracker::new();
        let server = Server::new(context.clone(), pods.clone(), raw);
        tasks.spawn(serve(options.clone(), server, cancel.clone()));
        tasks.spawn(keep_network(context.clone(), cancel.clone()));
        let reporter = NodeReporter::new(context.clone());
        tasks.spawn({
            let (options, cancel) = (options.clone(), cancel.clone());
            async move {
                if let Some(node) = node::register(&options, &cancel).await {
                    reporter.run(node, cancel).await;
                }
            }
        });
        tasks.spawn(cgroups::keep(context.clone(), pods.clone(), cancel.clone()));
        tasks.spawn(managers.clone().keep_shared(options.engine.clone(), cancel.clone()));
        tasks.spawn(serve_plugins(managers, options.plugins_dir.clone(), cancel.clone()));
        let thresholds = options.configuration.thresholds()?;
        tasks.spawn(Evictor::new(context.clone(), pods.clone(), thresholds).run(cancel.clone()));
        let drain = Drain::new(context.clone(), pods.clone());
        tasks.spawn(PodManager::new(context, pods, cancel).run(refresh));
        tasks.close();
        Ok(Self { tasks, drain })
    }

    /// Ends its pods, for when the machine goes down.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Waits until everything has ended after a cancellation.
    pub async fn join(&self) {
        self.tasks.wait().await;
    }
}

/// A node whose kernel has no rules for them runs pods without ports of its own all the same.
fn host_ports(instance: &str) -> Result<Arc<HostPorts>, String> {
    HostPorts::open(instance).map(Arc::new).map_err(|error| {
        tracing::warn!(%error, "ports of this node cannot lead to pods");
        format!("ports of the node cannot lead to pods: {error}")
    })
}

fn share(object: &Arc<Object>) -> Result<Arc<Object>, ObjectError> {
    Ok(object.clone())
}

/// Serves the sockets of plugins, until cancelled.
async fn serve_plugins(managers: Arc<Managers>, folder: PathBuf, cancel: CancellationToken) {
    let socket = folder.join("pod-resources/kubelet.sock");
    let devices = devices::serve(managers.devices.clone(), cancel.clone());
    let (devices, resources) = tokio::join!(devices, managers::serve_pod_resources(managers, &socket, cancel));
    for (what, served) in [("device plugins", devices), ("the pod resources API", resources)] {
        if let Err(error) = served {
            tracing::error!(%error, what, "a socket cannot be served");
        }
    }
}

async fn serve(options: AgentOptions, server: Server, cancel: CancellationToken) {
    let listener = options.listener.try_clone().and_then(tokio::net::TcpListener::from_std);
    match listener {
        Ok(listener) => {
            if let Err(error) =
                strata_http::serve(listener, options.tls, Limits::default(), cancel, Arc::new(server)).await
            {
                tracing::error!(%error, "the agent's API is no longer served");
            }
        }
        Err(error) => tracing::error!(%error, "the agent's API cannot be served"),
    }
}

/// The agent's projection of a node: what routes are made of.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    spec: NodeSpec,
    status: NodeStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeStatus {
    addresses: Vec<NodeAddress>,
    conditions: Vec<NodeCondition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct NodeCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Node {
    /// Whether the control plane has given the node up; only a report of its own changes that.
    fn is_unknown(&self) -> bool {
        self.status
            .conditions
            .iter()
            .any(|c| c.kind == "Ready" && c.status == "Unknown")
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// Follows the nodes: makes the own pod network once its range is known, and keeps a route
/// to every other node's range.
async fn keep_network(context: Arc<Context>, cancel: CancellationToken) {
    let (options, slot) = (&context.options, &context.network);
    let say = |problem: Option<String>| {
        context.state.send_modify(|state| state.problem = problem);
    };
    let nodes: Informer<Node> = Informer::start(&options.client, resources::NODES, Scope::default(), cancel.clone());
    let (changed, mut changes) = watch::channel(());
    nodes.on_change(move |_| changed.send_replace(()));
    let mut routes: Option<NodeRoutes> = None;
    loop {
        changes.borrow_and_update();
        let own = nodes.get(&ObjectKey::new("", &options.node_name));
        if own.as_ref().is_some_and(|node| node.is_unknown()) {
            // Saying the same again makes the reporter report.
            context.state.send_modify(|_| {});
        }
        if slot.get().is_none()
            && let Some(cidr) = own.map(|n| n.spec.pod_cidr.clone()).filter(|cidr| !cidr.is_empty())
        {
            let factory = options.network.clone();
            let made = tokio::task::spawn_blocking(move || factory(&cidr)).await;
            match made {
                Ok(Ok(network)) => {
                    slot.set(network);
                    say(None);
                }
                Ok(Err(why)) => {
                    tracing::error!(why, "the pod network cannot be made");
                    say(Some(format!("container runtime network not ready: {why}")));
                }
                Err(_) => return,
            }
        }
        if slot.get().is_some() {
            sync_routes(options, &nodes, &mut routes);
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            result = changes.changed() => if result.is_err() { return },
        }
    }
}

fn sync_routes(options: &AgentOptions, nodes: &Informer<Node>, routes: &mut Option<NodeRoutes>) {
    let route = |(key, node): (ObjectKey, Arc<Node>)| {
        if key.name.as_ref() == options.node_name {
            return None;
        }
        let cidr: Cidr = node.spec.pod_cidr.parse().ok()?;
        let internal = node.status.addresses.iter().find(|a| a.kind == "InternalIP")?;
        let address: IpAddr = internal.address.parse().ok()?;
        Some((cidr, address))
    };
    let mut wanted: Vec<(Cidr, IpAddr)> = nodes.list().into_iter().filter_map(route).collect();
    wanted.sort_by_key(|(_, address)| *address);
    if routes.is_none() {
        match NodeRoutes::new(&options.instance) {
            Ok(made) => *routes = Some(made),
            Err(error) => tracing::error!(%error, "routes to other nodes cannot be made"),
        }
    }
    if let Some(routes) = routes
        && let Err(error) = routes.sync(&wanted)
    {
        tracing::warn!(%error, "routes to other nodes are not complete");
    }
}
