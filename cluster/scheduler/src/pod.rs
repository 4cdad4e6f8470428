//! What placement reads of a pod.

use crate::{
    affinity::{Affinity, NodeAffinity, PodAffinity, selector},
    body,
    resources::{ContainerRequest, ResourceList, Resources, pod_request},
};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::Arc};
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
        let waiting = spec.node_name.is_empty();
        let request = |usual| {
            let init: Vec<_> = spec.init_containers.iter().map(RawContainer::request).collect();
            let containers: Vec<_> = spec.containers.iter().map(RawContainer::request).collect();
            pod_request(&init, &containers, &spec.resources.requests, &spec.overhead, usual)
        };
        let usual = request(true);
        let wish = if waiting {
            Some(Box::new(Wish::read(object, &metadata, &spec, &status)?))
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
            requests: request(false),
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
            images: all().map(|container| normalized_image(&container.image)).collect(),
            containers: all().count(),
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
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawContainer {
    image: String,
    ports: Vec<RawPort>,
    resources: RawResources,
    restart_policy: String,
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

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawSpread {
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

    fn request(&self) -> ContainerRequest<'_> {
        ContainerRequest {
            requests: &self.resources.requests,
            restartable: self.restartable(),
        }
    }
}

impl RawSpread {
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
        Ok(Spread {
            max_skew: self.max_skew,
            topology_key: self.topology_key.as_str().into(),
            hard: self.when_unsatisfiable == "DoNotSchedule",
            selectors,
            min_domains: self.min_domains.unwrap_or(1),
            honor_affinity: self.node_affinity_policy.as_deref() != Some("Ignore"),
            honor_taints: self.node_taints_policy.as_deref() == Some("Honor"),
        })
    }
}
