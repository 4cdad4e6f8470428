//! The cgroups above those of pods: all pods together, and each class of service.
//!
//! The names below the instance's own cgroup are the kubelet's: `kubepods`, in it guaranteed pods, `burstable` and
//! `besteffort`. Guaranteed pods have what they ask for before the two classes share the rest.

use crate::{
    configuration::Configuration,
    container,
    context::Context,
    options::NodeFacts,
    pod::Pod,
    resources::{self, Qos, cpu_shares},
};
use std::sync::Arc;
use strata_client::Informer;
use strata_engine::Resources;
use strata_meta::Quantity;
use strata_task::CancellationToken;
use tokio::sync::watch;

/// The cgroup of all pods.
pub fn root(cgroup_root: &str) -> String {
    format!("{cgroup_root}/kubepods")
}

/// Bytes that all pods together may use: what the machine has less what is kept for others. The eviction threshold
/// is not taken off, so that eviction comes before the kernel's choice.
pub fn memory_of_pods(configuration: &Configuration, facts: &NodeFacts) -> i64 {
    facts
        .memory_bytes
        .saturating_sub(configuration.reserved("memory").value())
        .max(0)
}

/// What the cgroup of a pod is given.
pub fn of_pod(context: &Context, pod: &Pod) -> Resources {
    let configuration = &context.options.configuration;
    let mut given = container::engine_resources(resources::pod_cgroup(pod));
    given.pids_limit = Some(configuration.pod_pids_limit).filter(|limit| *limit > 0);
    if !configuration.cpu_cfs_quota {
        (given.cpu_quota, given.cpu_period) = (None, None);
    }
    given
}

/// What the cgroup of all pods is given.
fn of_all(configuration: &Configuration, facts: &NodeFacts) -> Resources {
    let mut given = Resources::default();
    if !configuration.enforces_allocatable() {
        return given;
    }
    let cores = Quantity::from_milli(facts.cpu_milli).minus(configuration.reserved("cpu"));
    given.cpu_shares = Some(cpu_shares(cores.milli_value()));
    // Without anything kept for others the limit would be the machine itself.
    if !configuration.reserved("memory").is_zero() {
        given.memory_limit = Some(memory_of_pods(configuration, facts));
    }
    let kept = configuration.reserved("pid").value();
    if kept > 0
        && let Ok(processes) = crate::eviction::Processes::read()
    {
        given.pids_limit = Some((processes.most - kept).max(1));
    }
    given
}

/// What the class of burstable pods weighs: all they ask for together.
fn burstable_shares<'p>(pods: impl Iterator<Item = &'p Pod>) -> u64 {
    let burstable = pods.filter(|pod| !pod.is_finished() && resources::qos_class(pod) == Qos::Burstable);
    let milli = burstable.map(|pod| resources::pod_request(pod, "cpu").milli_value());
    cpu_shares(milli.fold(0_i64, i64::saturating_add))
}

/// Keeps the classes' weights true until cancelled.
pub async fn keep(context: Arc<Context>, pods: Informer<Pod>, cancel: CancellationToken) {
    let options = &context.options;
    let root = root(&options.cgroup_root);
    set(&context, &root, of_all(&options.configuration, &context.facts)).await;
    let lowest = Resources {
        cpu_shares: Some(cpu_shares(0)),
        ..Resources::default()
    };
    set(&context, &format!("{root}{}", Qos::BestEffort.cgroup()), lowest).await;
    let burstable = format!("{root}{}", Qos::Burstable.cgroup());
    let (changed, mut changes) = watch::channel(());
    pods.on_change(move |_| changed.send_replace(()));
    let mut given = None;
    loop {
        changes.borrow_and_update();
        let all = pods.list();
        let shares = burstable_shares(all.iter().map(|(_, pod)| &**pod));
        if given != Some(shares) {
            let weight = Resources {
                cpu_shares: Some(shares),
                ..Resources::default()
            };
            set(&context, &burstable, weight).await;
            given = Some(shares);
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            more = changes.changed() => if more.is_err() { return },
        }
    }
}

async fn set(context: &Context, path: &str, given: Resources) {
    if let Err(error) = context.options.engine.set_cgroup(path, given).await {
        tracing::warn!(cgroup = path, %error, "a class of pods does not have its share");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn burstable_pods_weigh_what_they_ask_for_and_all_pods_leave_what_is_kept() {
        let pod = |resources: serde_json::Value, phase: &str| -> Pod {
            let pod =
                json!({"spec": {"containers": [{"name": "c", "resources": resources}]}, "status": {"phase": phase}});
            serde_json::from_value(pod).expect("a pod")
        };
        let asks = json!({"requests": {"cpu": "500m"}});
        let full = json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
        let pods = [
            pod(asks.clone(), "Running"),
            pod(asks.clone(), "Pending"),
            pod(asks, "Failed"),
            pod(full, "Running"),
        ];
        assert_eq!(burstable_shares(pods.iter()), 1024);
        assert_eq!(burstable_shares([].iter()), 2);
        let facts = NodeFacts {
            cpu_milli: 4000,
            memory_bytes: 8 << 30,
            ..NodeFacts::default()
        };
        assert_eq!(of_all(&Configuration::default(), &facts).memory_limit, None);
        let kept = "systemReserved: {cpu: 500m, memory: 1Gi}\nkubeReserved: {cpu: 500m, memory: 1Gi}";
        let given = of_all(&Configuration::read(kept).expect("a configuration"), &facts);
        assert_eq!((given.cpu_shares, given.memory_limit), (Some(3072), Some(6 << 30)));
    }
}
