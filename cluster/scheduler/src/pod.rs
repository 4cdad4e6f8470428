//! What placement reads of a pod.

use crate::{
    affinity::{Affinity, NodeAffinity, PodAffinity, selector},
    body,
    resources::{Actual, ContainerRequest, ResourceList, Resources, Usual, effective, pod_request},
    volumes::{RawVolume, Volumes},
};
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};
use strata_meta::{Object, ObjectError, Selector, Time, placement::Toleration, selector::LabelSelector};

/// A pod as the scheduler keeps it: the object everyone shares, and what is decided by.
#[derive(Debug)]
pub struct Pod {
    /// The whole, for its name, identity and labels.
    pub object: Arc<Object>,
    /// Where it is placed; empty while it waits.
    pub node_name: Box<str>,
    pub(crate) scheduler_name: Box<str>,
    pub(crate) priority: i32,
    /// Whether it has succeeded or failed, and so uses nothing.
    pub(crate) finished: bool,
    pub(crate) gated: bool,
    pub(crate) never_preempts: bool,
    /// Seconds since 1970, or the end of time before it has started.
    pub(crate) started: i64,
    pub(crate) requests: Resources,
    /// Thousandths of a CPU and bytes of memory, with usual amounts where nothing is asked for.
    pub(crate) usual: (i64, i64),
    /// Whether it is being deleted to make room for another.
    pub(crate) preempted: bool,
    pub(crate) volumes: Option<Arc<Volumes>>,
    pub(crate) ports: Box<[HostPort]>,
    pub(crate) pod_affinity: Option<Box<PodAffinity>>,
    /// Only of a pod that waits.
    pub(crate) wish: Option<Box<Wish>>,
}

/// What a waiting pod says about where it wants to be.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub node_selector: BTreeMap<String, String>,
    pub node_affinity: NodeAffinity,
    pub tolerations: Vec<Toleration>,
    pub spread: Vec<Spread>,
    pub images: Vec<Box<str>>,
    pub containers: usize,
    /// What nodes are ranked by: as [`Pod::requests`], with usual amounts where a container asks
    /// for nothing, and without what the pod asks for as a whole, as upstream has it.
    pub usual: Resources,
    /// Features that its node has to declare.
    pub features: Vec<&'static str>,
    /// Where room has been made for it, as the API tells.
    pub nominated: Option<Box<str>>,
    pub generation: i64,
    /// The present condition PodScheduled: status, reason, message.
    pub condition: Option<(String, String, String)>,
}

/// One topology spread constraint.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    pub max_skew: i64,
    pub topology_key: Box<str>,
    pub hard: bool,
    /// All must match; none selects nothing.
    pub selectors: Vec<Selector>,
    pub min_domains: usize,
    pub honor_affinity: bool,
    pub honor_taints: bool,
}

/// A port of the node that a pod takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostPort {
    pub address: Box<str>,
    pub protocol: Box<str>,
    pub port: u16,
}

impl HostPort {
    pub fn conflicts(&self, other: &Self) -> bool {
        let all = |address: &str| address == "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.address == other.address || all(&self.address) || all(&other.address))
    }
}

impl Pod {
    /// Reads a pod.
    pub fn read(object: &Arc<Object>) -> Result<Self, ObjectError> {
        let RawPod { metadata, spec, status } = body::read(object)?;
        let requests = spec.request(&status, Usual::default());
        let usual = spec.request(&status, spec.usual(&requests));
        let wish = if spec.node_name.is_empty() {
            let mut wish = Wish::read(object, &metadata, &spec, &status)?;
            wish.usual = spec.containers_request(&status, Usual::ALL);
            Some(Box::new(wish))
        } else {
            None
        };
        Ok(Self {
            object: object.clone(),
            scheduler_name: spec.scheduler_name.as_str().into(),
            priority: spec.priority,
            finished: status.phase == "Succeeded" || status.phase == "Failed",
            gated: !spec.scheduling_gates.is_empty(),
            never_preempts: spec.preemption_policy == "Never",
            started: status.start_time.map_or(i64::MAX, |time| time.as_second()),
            requests,
            preempted: object.deleting && status.preempted(),
            volumes: Volumes::read(&spec.volumes, object.name()).map(Arc::new),
            usual: (usual.milli_cpu, usual.memory),
            ports: host_ports(&spec),
            pod_affinity: spec
                .affinity
                .as_ref()
                .map_or(Ok(None), |affinity| PodAffinity::read(affinity, object))?,
            wish,
            node_name: spec.node_name.into(),
        })
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.object.namespace()
    }

    /// Whether it is being deleted.
    pub fn deleting(&self) -> bool {
        self.object.deleting
    }

    /// The wish; an empty one for a pod that is placed.
    pub(crate) fn wish(&self) -> &Wish {
        static NONE: std::sync::LazyLock<Wish> = std::sync::LazyLock::new(Wish::default);
        self.wish.as_deref().unwrap_or(&NONE)
    }

    /// The same pod, placed: what stands in for it until the API tells of it.
    pub(crate) fn placed_on(&self, node: &str) -> Self {
        Self {
            object: self.object.clone(),
            node_name: node.into(),
            scheduler_name: self.scheduler_name.clone(),
            requests: self.requests.clone(),
            ports: self.ports.clone(),
            pod_affinity: self.pod_affinity.clone(),
            volumes: self.volumes.clone(),
            wish: None,
            ..*self
        }
    }

    /// Whether an update could change where the pod fits: anything but its status.
    pub(crate) fn differs_in_wish(&self, other: &Self) -> bool {
        self.wish().generation != other.wish().generation
            || self.object.labels != other.object.labels
            || self.gated != other.gated
    }
}

impl Wish {
    fn read(object: &Object, metadata: &RawMetadata, spec: &RawSpec, status: &RawStatus) -> Result<Self, ObjectError> {
        let all = || spec.init_containers.iter().chain(&spec.containers);
        let spread = spec.topology_spread_constraints.iter().map(|raw| raw.read(object));
        let scheduled = status
            .conditions
            .iter()
            .find(|condition| condition.kind == "PodScheduled");
        Ok(Self {
            node_selector: spec.node_selector.clone(),
            node_affinity: spec
                .affinity
                .as_ref()
                .and_then(|all| all.node_affinity.clone())
                .unwrap_or_default(),
            tolerations: spec.tolerations.clone(),
            spread: spread.collect::<Result<_, _>>()?,
            images: all()
                .map(|container| &*container.image)
                .chain(spec.volumes.iter().filter_map(RawVolume::image))
                .map(normalized_image)
                .collect(),
            containers: all().count(),
            usual: Resources::default(),
            features: spec.features(),
            nominated: (!status.nominated_node_name.is_empty()).then(|| status.nominated_node_name.as_str().into()),
            generation: metadata.generation,
            condition: scheduled.map(|c| (c.status.clone(), c.reason.clone(), c.message.clone())),
        })
    }
}

/// The name that node status carries: with a tag.
pub(crate) fn normalized_image(name: &str) -> Box<str> {
    let tagged = name.rfind(':') > name.rfind('/');
    if tagged {
        name.into()
    } else {
        format!("{name}:latest").into()
    }
}

fn host_ports(spec: &RawSpec) -> Box<[HostPort]> {
    let sidecars = spec.init_containers.iter().filter(|container| container.restartable());
    let ports = spec
        .containers
        .iter()
        .chain(sidecars)
        .flat_map(|container| &container.ports);
    ports
        .filter(|port| port.host_port > 0)
        .map(|port| HostPort {
            address: if port.host_ip.is_empty() {
                "0.0.0.0"
            } else {
                &port.host_ip
            }
            .into(),
            protocol: if port.protocol.is_empty() {
                "TCP"
            } else {
                &port.protocol
            }
            .into(),
            port: port.host_port,
        })
        .collect()
}

#[derive(Deserialize)]
struct RawPod {
    metadata: RawMetadata,
    #[serde(default)]
    spec: RawSpec,
    #[serde(default)]
    status: RawStatus,
}

#[derive(Deserialize)]
struct RawMetadata {
    #[serde(default)]
    generation: i64,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpec {
    node_name: String,
    scheduler_name: String,
    priority: i32,
    preemption_policy: String,
    node_selector: BTreeMap<String, String>,
    affinity: Option<Affinity>,
    tolerations: Vec<Toleration>,
    topology_spread_constraints: Vec<RawSpread>,
    containers: Vec<RawContainer>,
    init_containers: Vec<RawContainer>,
    overhead: ResourceList,
    resources: RawResources,
    scheduling_gates: Vec<serde::de::IgnoredAny>,
    volumes: Vec<RawVolume>,
    host_network: bool,
    host_users: Option<bool>,
}

impl RawSpec {
    fn request(&self, status: &RawStatus, usual: Usual) -> Resources {
        let own = &self.resources.requests;
        let resized = status.resources.as_ref().map(|resources| {
            let actual = Actual {
                in_force: resources.requests.clone(),
                promised: status.allocated_resources.clone(),
            };
            let mut all = effective(own, &actual, status.infeasible());
            all.retain(|name, _| own.contains_key(name));
            all
        });
        self.request_beside(resized.as_ref().unwrap_or(own), status, usual)
    }

    fn containers_request(&self, status: &RawStatus, usual: Usual) -> Resources {
        self.request_beside(&ResourceList::new(), status, usual)
    }

    /// What the containers ask for, with the pod's own figures.
    fn request_beside(&self, own: &ResourceList, status: &RawStatus, usual: Usual) -> Resources {
        fn request<'a>(
            container: &'a RawContainer,
            statuses: &[RawContainerStatus],
            infeasible: bool,
        ) -> ContainerRequest<'a> {
            let of_it = statuses.iter().find(|status| status.name == container.name);
            let resizing = of_it.and_then(RawContainerStatus::actual);
            let asked = &container.resources.requests;
            ContainerRequest {
                requests: match resizing {
                    Some(actual) => Cow::Owned(effective(asked, &actual, infeasible)),
                    None => Cow::Borrowed(asked),
                },
                restartable: container.restartable(),
            }
        }
        let infeasible = status.infeasible();
        let init: Vec<_> = self
            .init_containers
            .iter()
            .map(|container| {
                // One that ends before the others is not resized.
                let statuses = &status.init_container_statuses[..];
                request(
                    container,
                    if container.restartable() { statuses } else { &[] },
                    infeasible,
                )
            })
            .collect();
        let containers: Vec<_> = self
            .containers
            .iter()
            .map(|container| request(container, &status.container_statuses, infeasible))
            .collect();
        pod_request(&init, &containers, own, &self.overhead, usual)
    }

    /// A pod that asks as a whole has usual amounts only for what nobody in it asks for.
    fn usual(&self, requests: &Resources) -> Usual {
        let own = &self.resources.requests;
        let whole = own
            .keys()
            .any(|name| name == "cpu" || name == "memory" || name.starts_with("hugepages-"));
        let asks = |name: &str| {
            let mut all = self.containers.iter().chain(&self.init_containers);
            own.contains_key(name)
                || self.overhead.contains_key(name)
                || all.any(|container| container.resources.requests.contains_key(name))
        };
        Usual {
            cpu: !whole || requests.milli_cpu == 0 && !asks("cpu"),
            memory: !whole || requests.memory == 0 && !asks("memory"),
        }
    }

    fn features(&self) -> Vec<&'static str> {
        let mut features = Vec::new();
        let mut rules = self
            .containers
            .iter()
            .chain(&self.init_containers)
            .flat_map(|container| &container.restart_policy_rules);
        if rules.any(|rule| rule.action == "RestartAllContainers") {
            features.push("RestartAllContainersOnContainerExits");
        }
        if self.host_network && self.host_users == Some(false) {
            features.push("UserNamespacesHostNetworkSupport");
        }
        features
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawContainer {
    name: String,
    image: String,
    ports: Vec<RawPort>,
    resources: RawResources,
    restart_policy: String,
    restart_policy_rules: Vec<RawRestartRule>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawRestartRule {
    action: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawResources {
    requests: ResourceList,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawPort {
    host_port: u16,
    #[serde(rename = "hostIP")]
    host_ip: String,
    protocol: String,
}

/// core/v1 TopologySpreadConstraint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct RawSpread {
    max_skew: i64,
    topology_key: String,
    when_unsatisfiable: String,
    label_selector: Option<LabelSelector>,
    match_label_keys: Vec<String>,
    min_domains: Option<usize>,
    node_affinity_policy: Option<String>,
    node_taints_policy: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawStatus {
    phase: String,
    start_time: Option<Time>,
    conditions: Vec<RawCondition>,
    nominated_node_name: String,
    container_statuses: Vec<RawContainerStatus>,
    init_container_statuses: Vec<RawContainerStatus>,
    resources: Option<RawResources>,
    allocated_resources: ResourceList,
}

impl RawStatus {
    fn infeasible(&self) -> bool {
        let pending = self
            .conditions
            .iter()
            .find(|condition| condition.kind == "PodResizePending");
        pending.is_some_and(|condition| condition.reason == "Infeasible")
    }

    fn preempted(&self) -> bool {
        let target = self
            .conditions
            .iter()
            .find(|condition| condition.kind == "DisruptionTarget");
        target.is_some_and(|condition| condition.status == "True" && condition.reason == "PreemptionByScheduler")
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawContainerStatus {
    name: String,
    resources: Option<RawResources>,
    allocated_resources: ResourceList,
}

impl RawContainerStatus {
    /// Absent before the node has said what is in force.
    fn actual(&self) -> Option<Actual> {
        let resources = self.resources.as_ref()?;
        Some(Actual {
            in_force: resources.requests.clone(),
            promised: self.allocated_resources.clone(),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
    reason: String,
    message: String,
}

impl RawContainer {
    fn restartable(&self) -> bool {
        self.restart_policy == "Always"
    }
}

impl RawSpread {
    /// A default for pods that say nothing: its selectors come from what a pod belongs to.
    pub fn of_no_pod(&self) -> Spread {
        self.with(Vec::new())
    }

    fn read(&self, pod: &Object) -> Result<Spread, ObjectError> {
        let mut selectors: Vec<Selector> = self.label_selector.iter().map(selector).collect::<Result<_, _>>()?;
        let known = self
            .match_label_keys
            .iter()
            .filter_map(|key| Some((key.clone(), pod.label(key)?.to_owned())));
        let matched: BTreeMap<_, _> = known.collect();
        if !matched.is_empty() && !selectors.is_empty() {
            selectors.push(Selector::from_map(&matched));
        }
        Ok(self.with(selectors))
    }

    fn with(&self, selectors: Vec<Selector>) -> Spread {
        Spread {
            max_skew: self.max_skew,
            topology_key: self.topology_key.as_str().into(),
            hard: self.when_unsatisfiable == "DoNotSchedule",
            selectors,
            min_domains: self.min_domains.unwrap_or(1),
            honor_affinity: self.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: self.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}
