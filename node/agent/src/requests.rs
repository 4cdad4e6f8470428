//! What a pod as a whole asks for: the sum that nodes and schedulers count with (KEP-753, KEP-2837). Pure.

use crate::pod::{Container, Pod, Resources};
use std::collections::BTreeMap;
use strata_meta::Quantity;

/// Amounts by resource.
pub type Amounts = BTreeMap<String, Quantity>;

/// What a pod requests, its overhead included (upstream `PodRequests`).
pub fn pod_requests(pod: &Pod) -> Amounts {
    whole(pod, |resources| &resources.requests)
}

/// What a pod is limited to, its overhead included where there is a limit (upstream `PodLimits`).
pub fn pod_limits(pod: &Pod) -> Amounts {
    let mut limits = of_containers(pod, |resources| &resources.limits);
    replace_by_pod_level(pod, |resources| &resources.limits, &mut limits);
    for (name, amount) in &pod.spec.overhead {
        if let Some(limit) = limits.get_mut(name) {
            *limit = limit.plus(*amount);
        }
    }
    limits
}

fn whole(pod: &Pod, pick: fn(&Resources) -> &Amounts) -> Amounts {
    let mut amounts = of_containers(pod, pick);
    replace_by_pod_level(pod, pick, &mut amounts);
    add(&mut amounts, &pod.spec.overhead);
    amounts
}

/// What the pod says of itself as a whole counts in place of its containers' sum.
fn replace_by_pod_level(pod: &Pod, pick: fn(&Resources) -> &Amounts, amounts: &mut Amounts) {
    let own = pod.spec.resources.iter().flat_map(pick);
    for (name, amount) in own.filter(|(name, _)| is_pod_level(name)) {
        amounts.insert(name.clone(), *amount);
    }
}

/// Whether a resource can be asked for by the pod as a whole.
pub fn is_pod_level(name: &str) -> bool {
    name == "cpu" || name == "memory" || name.starts_with("hugepages-")
}

/// The sum of the containers, or what the init containers need at most while they run if that is more.
/// A sidecar counts from its start on.
fn of_containers(pod: &Pod, pick: fn(&Resources) -> &Amounts) -> Amounts {
    let of = |container: &'_ Container| pick(&container.resources).clone();
    let mut sum = Amounts::new();
    for container in &pod.spec.containers {
        add(&mut sum, &of(container));
    }
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in &pod.spec.init_containers {
        let own = of(container);
        let mut now = sidecars.clone();
        add(&mut now, &own);
        if container.is_sidecar() {
            add(&mut sum, &own);
            sidecars = now.clone();
        }
        raise(&mut most, &now);
    }
    raise(&mut sum, &most);
    sum
}

fn add(to: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let sum = to.get(name).map_or(*amount, |present| present.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

fn raise(to: &mut Amounts, amounts: &Amounts) {
    for (name, amount) in amounts {
        let more = to.get(name).is_none_or(|present| amount > present);
        if more {
            to.insert(name.clone(), *amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn requests(spec: serde_json::Value) -> BTreeMap<String, String> {
        let pod: Pod = serde_json::from_value(json!({ "spec": spec })).expect("pod");
        let amounts = pod_requests(&pod);
        amounts
            .into_iter()
            .map(|(name, amount)| (name, amount.to_string()))
            .collect()
    }

    fn asks(cpu: &str) -> serde_json::Value {
        json!({"requests": {"cpu": cpu}})
    }

    #[test]
    fn init_containers_count_with_the_sidecars_before_them() {
        let spec = json!({
            "initContainers": [
                {"name": "a", "resources": asks("100m")},
                {"name": "s", "restartPolicy": "Always", "resources": asks("200m")},
                {"name": "b", "resources": asks("900m")},
            ],
            "containers": [{"name": "c", "resources": asks("300m")}],
            "overhead": {"cpu": "10m", "memory": "1Mi"},
        });
        let sum = requests(spec.clone());
        assert_eq!((sum["cpu"].as_str(), sum["memory"].as_str()), ("1110m", "1Mi"));
        let mut small = spec;
        small["initContainers"][2]["resources"] = asks("1m");
        assert_eq!(requests(small)["cpu"], "510m");
    }

    #[test]
    fn what_the_pod_says_of_itself_counts() {
        let spec = json!({
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "300m", "example.com/gpu": "1"}}}],
            "resources": {"requests": {"cpu": "1", "example.com/gpu": "7"}},
        });
        let sum = requests(spec);
        assert_eq!((sum["cpu"].as_str(), sum["example.com/gpu"].as_str()), ("1", "1"));
    }
}
