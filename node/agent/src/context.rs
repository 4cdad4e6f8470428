//! What all pods of a node share.

use crate::{
    admission::OwnNode,
    env::Service,
    managers::Managers,
    options::{AgentOptions, NetworkSlot, NodeFacts},
    orders::Orders,
    pod::Pod,
    pull::Puller,
    state::NodeState,
    tries::Tries,
    users::UserRanges,
};
use std::sync::Arc;
use strata_client::{EventRecorder, Informer, ObjectReference};
use strata_net::HostPorts;
use strata_volume::{LocalVolumes, ObjectCache, VolumeManager};
use tokio::sync::{Notify, watch};

/// What all pods of a node share.
pub struct Context {
    /// The agent's settings.
    pub options: AgentOptions,
    /// The node.
    pub facts: NodeFacts,
    /// Volumes.
    pub volumes: VolumeManager,
    /// Volumes made on this node's disk.
    pub local_volumes: LocalVolumes,
    /// Config maps and secrets.
    pub objects: Arc<ObjectCache>,
    /// Images.
    pub puller: Puller,
    /// Events.
    pub events: EventRecorder,
    /// Services, for the environment.
    pub services: Informer<Service>,
    /// The pod network, once there is one.
    pub network: NetworkSlot,
    /// Ports of the node that lead to pods, or why there can be none.
    pub ports: Result<Arc<HostPorts>, String>,
    /// The node as the API shows it.
    pub node: Informer<OwnNode>,
    /// Which ids of the machine pods' users are.
    pub users: UserRanges,
    /// Told when a pod gives back what it had of the node.
    pub room: Notify,
    /// How probes go.
    pub tries: Tries,
    /// What the node says about itself.
    pub state: watch::Sender<NodeState>,
    /// Who has which processors and devices for itself.
    pub managers: Arc<Managers>,
    /// What the node decides about pods.
    pub orders: Orders,
}

/// The node, as an event is about it.
pub fn node_reference(context: &Context) -> ObjectReference {
    let name = &context.options.node_name;
    ObjectReference {
        kind: "Node".into(),
        name: name.clone(),
        // Upstream's identity of nodes in events.
        uid: name.as_str().into(),
        ..ObjectReference::default()
    }
}

/// The pod, as an event is about it.
pub fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        resource_version: pod.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// A container of the pod, as an event is about it.
pub fn container_reference(pod: &Pod, container: &str) -> ObjectReference {
    let named = |list: &[crate::pod::Container]| list.iter().any(|c| c.name == container);
    let list = if named(&pod.spec.init_containers) {
        "initContainers"
    } else if named(&pod.spec.ephemeral_containers) {
        "ephemeralContainers"
    } else {
        "containers"
    };
    pod_reference(pod).with_field(format!("spec.{list}{{{container}}}"))
}
