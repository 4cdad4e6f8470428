//! Requests and limits as the kernel understands them, and the quality of service they buy.

use crate::{
    pod::{Container, Pod, Resources},
    requests,
};
use strata_meta::Quantity;

/// core/v1 PodQOSClass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Every container's limits equal its requests, for cpu and memory.
    Guaranteed,
    /// Some request or limit.
    Burstable,
    /// None.
    BestEffort,
}

impl Qos {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The cgroup of the class below that of all pods; guaranteed pods have none of their own.
    pub fn cgroup(self) -> &'static str {
        match self {
            Self::Guaranteed => "",
            Self::Burstable => "/burstable",
            Self::BestEffort => "/besteffort",
        }
    }
}

/// The class of a pod (upstream `ComputePodQOS`).
pub fn qos_class(pod: &Pod) -> Qos {
    const COMPUTE: [&str; 2] = ["cpu", "memory"];
    let positive = |q: Option<&Quantity>| q.is_some_and(|q| !q.is_zero());
    let mut any = false;
    let mut guaranteed = true;
    let whole = pod
        .spec
        .resources
        .as_ref()
        .filter(|r| !r.limits.is_empty() || !r.requests.is_empty());
    // What is said of the pod as a whole counts alone.
    let each = pod
        .lasting_containers()
        .map(|c| &c.resources)
        .filter(|_| whole.is_none());
    for resources in whole.into_iter().chain(each) {
        for name in COMPUTE {
            let (limit, request) = (resources.limits.get(name), resources.requests.get(name));
            any |= positive(limit) || positive(request);
            // A limit without a request is a request of the same size (defaulting).
            guaranteed &= positive(limit) && request.is_none_or(|r| Some(r) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// What a pod asks for of a resource.
pub fn pod_request(pod: &Pod, name: &str) -> Quantity {
    requests::pod_requests(pod).get(name).copied().unwrap_or_default()
}

/// The limits of a pod's containers together; nothing if none has one.
pub fn pod_limit(pod: &Pod, name: &str) -> Option<Quantity> {
    requests::pod_limits(pod).get(name).filter(|q| !q.is_zero()).copied()
}

/// The limit that holds for the pod as a whole: its own, or the sum if every container has one.
fn binding_limit(pod: &Pod, name: &str) -> Option<Quantity> {
    let limited = |r: &Resources| r.limits.get(name).is_some_and(|q| !q.is_zero());
    let bound =
        pod.spec.resources.as_ref().is_some_and(limited) || pod.lasting_containers().all(|c| limited(&c.resources));
    pod_limit(pod, name).filter(|_| bound)
}

/// CFS period in microseconds.
pub const CPU_PERIOD: u64 = 100_000;

/// What the cgroup of a container or pod is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cgroup {
    /// Relative weight (v1 scale, 2 to 262144).
    pub cpu_shares: u64,
    /// Microseconds per [`CPU_PERIOD`].
    pub cpu_quota: Option<i64>,
    /// Bytes.
    pub memory_limit: Option<i64>,
}

/// Relative weight of so many thousandths of a core (upstream `MilliCPUToShares`).
pub fn cpu_shares(milli: i64) -> u64 {
    (milli.max(0).unsigned_abs() * 1024 / 1000).clamp(2, 262_144)
}

fn cpu_quota(milli: i64) -> i64 {
    // The kernel refuses less than a millisecond.
    (milli * (CPU_PERIOD as i64) / 1000).max(1000)
}

/// The cgroup of one container.
pub fn container_cgroup(container: &Container) -> Cgroup {
    let limits = &container.resources.limits;
    let request = container.resources.requests.get("cpu").or_else(|| limits.get("cpu"));
    let positive = |name: &str| limits.get(name).filter(|q| !q.is_zero());
    Cgroup {
        cpu_shares: cpu_shares(request.map_or(0, Quantity::milli_value)),
        cpu_quota: positive("cpu").map(|q| cpu_quota(q.milli_value())),
        memory_limit: positive("memory").map(Quantity::value),
    }
}

/// The cgroup of a whole pod: the sum of its containers, limited only if all of them are, or as the pod itself says.
pub fn pod_cgroup(pod: &Pod) -> Cgroup {
    Cgroup {
        cpu_shares: cpu_shares(pod_request(pod, "cpu").milli_value()),
        cpu_quota: binding_limit(pod, "cpu").map(|q| cpu_quota(q.milli_value())),
        memory_limit: binding_limit(pod, "memory").map(|q| q.value()),
    }
}

/// How readily the kernel ends a container's processes when memory is short
/// (upstream `GetContainerOOMScoreAdjust`).
pub fn oom_score_adj(pod: &Pod, container: &Container, node_memory: i64) -> i32 {
    if pod.is_critical() {
        return -997;
    }
    match qos_class(pod) {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let request = memory_share(pod, container);
            let adjust = 1000 - (i128::from(request) * 1000 / i128::from(node_memory.max(1))) as i64;
            adjust.clamp(3, 999) as i32
        }
    }
}

/// The memory a container asks for, with its part of what the pod asks for beyond its containers.
fn memory_share(pod: &Pod, container: &Container) -> i64 {
    let of = |c: &Container| c.resources.requests.get("memory").map_or(0, Quantity::value);
    let whole = pod.spec.resources.as_ref().and_then(|r| r.requests.get("memory"));
    let Some(whole) = whole else {
        return of(container);
    };
    let sharers = || {
        let sidecars = pod.spec.init_containers.iter().filter(|c| c.is_sidecar());
        pod.spec.containers.iter().chain(sidecars)
    };
    let spare = whole.value() - sharers().map(of).sum::<i64>();
    let count = i64::try_from(sharers().count()).unwrap_or(i64::MAX).max(1);
    of(container) + spare.max(0) / count
}

/// The value of `limits.cpu` and the like in units of the divisor, rounded up.
/// A limit that is not set is what the node has.
pub fn field_value(
    container: &Container,
    resource: &str,
    divisor: Option<Quantity>,
    node: &dyn Fn(&str) -> Quantity,
) -> Option<String> {
    let (kind, name) = resource.split_once('.')?;
    let resources = &container.resources;
    let value = match kind {
        "limits" => resources.limits.get(name).copied().unwrap_or_else(|| node(name)),
        "requests" => resources
            .requests
            .get(name)
            .or_else(|| resources.limits.get(name))
            .copied()
            .unwrap_or_default(),
        _ => return None,
    };
    let divisor = divisor.filter(|d| !d.is_zero()).unwrap_or(Quantity::from_units(1));
    let (value, unit) = if name == "cpu" {
        (value.milli_value(), divisor.milli_value())
    } else {
        (value.value(), divisor.value())
    };
    let unit = unit.max(1);
    Some(((value + unit - 1) / unit).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(resources: &[serde_json::Value]) -> Pod {
        let containers: Vec<_> = resources.iter().map(|r| json!({"name": "c", "resources": r})).collect();
        serde_json::from_value(json!({"spec": {"containers": containers}})).expect("pod")
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
        let some = json!({"requests": {"cpu": "100m"}});
        assert_eq!(qos_class(&pod(std::slice::from_ref(&full))), Qos::Guaranteed);
        assert_eq!(qos_class(&pod(&[full.clone(), some.clone()])), Qos::Burstable);
        assert_eq!(qos_class(&pod(&[json!({})])), Qos::BestEffort);
        assert_eq!(qos_class(&pod(&[json!({"limits": {"cpu": "1"}})])), Qos::Burstable);
    }

    #[test]
    fn cgroups_hold_what_the_pod_asks_for() {
        let full = json!({"limits": {"cpu": "500m", "memory": "1Mi"}, "requests": {"cpu": "250m"}});
        let p = pod(&[full.clone(), full]);
        let one = container_cgroup(&p.spec.containers[0]);
        assert_eq!(
            one,
            Cgroup {
                cpu_shares: 256,
                cpu_quota: Some(50_000),
                memory_limit: Some(1 << 20)
            }
        );
        let all = pod_cgroup(&p);
        assert_eq!(
            all,
            Cgroup {
                cpu_shares: 512,
                cpu_quota: Some(100_000),
                memory_limit: Some(2 << 20)
            }
        );
        assert_eq!(pod_cgroup(&pod(&[json!({})])).memory_limit, None);
    }

    #[test]
    fn sidecars_count_beside_what_starts_after_them_and_the_pod_speaks_for_all() {
        let container = |name: &str, cpu: &str, policy: Option<&str>| json!({"name": name, "restartPolicy": policy, "resources": {"requests": {"cpu": cpu}}});
        let spec = json!({
            "initContainers": [container("side", "1", Some("Always")), container("init", "5", None)],
            "containers": [container("c", "2", None)],
            "overhead": {"cpu": "1"},
        });
        let mut p: Pod = serde_json::from_value(json!({ "spec": spec })).expect("pod");
        assert_eq!(
            pod_request(&p, "cpu").value(),
            7,
            "the sidecar beside the init container, and overhead"
        );
        assert_eq!(pod_limit(&p, "cpu"), None);
        let whole = json!({"requests": {"cpu": "3", "memory": "1Gi"}, "limits": {"cpu": "3", "memory": "1Gi"}});
        p.spec.resources = Some(serde_json::from_value(whole).expect("resources"));
        assert_eq!(qos_class(&p), Qos::Guaranteed);
        let given = pod_cgroup(&p);
        assert_eq!((given.cpu_shares, given.cpu_quota), (4096, Some(400_000)));
        assert_eq!(given.memory_limit, Some(1 << 30));
    }

    #[test]
    fn resource_fields_are_rounded_up_in_units_of_the_divisor() {
        let p = pod(&[json!({"limits": {"cpu": "1500m", "memory": "100Mi"}})]);
        let node = |_: &str| Quantity::from_units(4);
        let c = &p.spec.containers[0];
        assert_eq!(field_value(c, "limits.cpu", None, &node).as_deref(), Some("2"));
        assert_eq!(
            field_value(c, "limits.cpu", "1m".parse().ok(), &node).as_deref(),
            Some("1500")
        );
        assert_eq!(
            field_value(c, "limits.memory", "1Mi".parse().ok(), &node).as_deref(),
            Some("100")
        );
        assert_eq!(
            field_value(&p.spec.containers[0], "limits.pods", None, &node).as_deref(),
            Some("4")
        );
    }
}
