//! Carries out the planner's longer actions: sandbox up, container up, container down,
//! everything gone. Each runs beside the pod's worker and reports to it.

use crate::{
    cgroups,
    container::{self, Parts},
    context::{Context, container_reference, pod_reference},
    dns::{self, Resolv},
    env,
    fields::PodView,
    handler::{self, Target},
    hostports,
    pod::{Container, Handler, Pod, Resources},
    pull::PullError,
};
use std::{fs, path::Path, sync::Arc, time::Duration};
use strata_client::EventType;
use strata_engine::{ContainerId, Network, SandboxConfig, SandboxId};
use strata_task::CancellationToken;
use strata_volume::PodVolumes;

/// A failed step: the waiting reason it shows as, and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepError {
    /// Such as `CreateContainerError`.
    pub reason: String,
    /// Sentence to the reason.
    pub message: String,
}

impl StepError {
    fn new(reason: &str, message: impl ToString) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.to_string(),
        }
    }
}

/// A sandbox that came up, with the pod's volumes.
pub struct SandboxUp {
    /// The sandbox.
    pub id: SandboxId,
    /// The pod's address; empty in the node's network.
    pub ip: String,
}

/// A container that shall come up.
pub struct Wanted<'a> {
    /// Its specification.
    pub container: &'a Container,
    /// Which instance.
    pub attempt: u32,
    /// The container whose processes it sees; an empty id if that does not run.
    pub target: Option<ContainerId>,
}

/// A container that came up.
pub struct ContainerUp {
    /// The container.
    pub id: ContainerId,
    /// The image's full name and identity.
    pub image: (String, String),
    /// The resources it was given.
    pub resources: Resources,
    /// Why its process could not be started; it counts as an instance that ended at once.
    pub failed: Option<String>,
}

/// Provides the volumes of a pod; failures become FailedMount events.
pub async fn set_up_volumes(context: &Context, pod: &Pod, ip: &str) -> Result<PodVolumes, StepError> {
    let view = PodView {
        pod,
        node: &context.facts,
        ip,
    };
    context.volumes.set_up(&view).await.map_err(|(volume, e)| {
        let message = format!("MountVolume.SetUp failed for volume {volume:?} : {e}");
        context
            .events
            .event(&pod_reference(pod), EventType::Warning, "FailedMount", message.clone());
        StepError::new("ContainerCreating", message)
    })
}

/// Makes the pod's directory, cgroup and sandbox.
pub async fn run_sandbox(context: &Context, pod: &Pod, attempt: u32) -> Result<SandboxUp, StepError> {
    let options = &context.options;
    let failed = |e: &dyn ToString| {
        let message = format!("Failed to create pod sandbox: {}", e.to_string());
        context.events.event(
            &pod_reference(pod),
            EventType::Warning,
            "FailedCreatePodSandBox",
            message.clone(),
        );
        StepError::new("ContainerCreating", message)
    };
    let network = match (pod.spec.host_network, context.network.get()) {
        (true, _) => Network::Host,
        (false, Some(network)) => Network::Pod(network),
        (false, None) => return Err(failed(&"the node has no pod network yet (no podCIDR)")),
    };
    let meta = &pod.metadata;
    let users = match pod.has_own_users() {
        false => None,
        true => Some(tokio::task::block_in_place(|| context.users.of(&meta.uid)).map_err(|e| failed(&e))?),
    };
    let hostname = dns::node_name(pod, &options.cluster_domain).map_err(|e| failed(&e))?;
    let config = SandboxConfig {
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.to_string(),
        attempt,
        hostname: hostname.clone(),
        log_dir: options
            .log_dir
            .join(format!("{}_{}_{}", meta.namespace, meta.name, meta.uid)),
        network,
        host_pid: pod.spec.host_pid,
        host_ipc: pod.spec.host_ipc,
        users,
        share_process_namespace: pod.spec.share_process_namespace == Some(true),
        sysctls: pod
            .spec
            .security_context
            .sysctls
            .iter()
            .map(|s| (crate::admission::dotted(&s.name), s.value.clone()))
            .collect(),
        resources: Some(cgroups::of_pod(context, pod)),
        labels: container::pod_labels(pod),
        ..SandboxConfig::new(container::cgroup_parent(&options.cgroup_root, pod))
    };
    let sandbox = options.engine.run_sandbox(config).await.map_err(|e| failed(&e))?;
    let ip = sandbox.ip.map(|ip| ip.to_string()).unwrap_or_default();
    if let Err(why) = hostports::publish(context, pod, &sandbox.id, &ip).await {
        if let Err(error) = gone(options.engine.remove_sandbox(&sandbox.id).await) {
            tracing::warn!(sandbox = %sandbox.id, %error, "removing a sandbox without its ports failed");
        }
        return Err(failed(&why));
    }
    lay_out(context, pod, &ip).map_err(|e| failed(&e))?;
    Ok(SandboxUp { id: sandbox.id, ip })
}

/// Writes what every container of a pod is shown of its network and name. Errors: a sentence.
fn lay_out(context: &Context, pod: &Pod, ip: &str) -> Result<(), String> {
    let options = &context.options;
    let dir = context.volumes.pod_dir(&pod.metadata.uid);
    let resolv = dns::pod_resolv(pod, &options.cluster_dns, &options.cluster_domain, &host_resolv());
    let hosts = if pod.spec.host_network {
        dns::node_hosts_file(
            pod,
            &fs::read_to_string("/etc/hosts").unwrap_or_else(|_| "127.0.0.1\tlocalhost\n".into()),
        )
    } else {
        dns::hosts_file(pod, ip, &options.cluster_domain)
    };
    let name = if pod.spec.host_network {
        options.node_name.clone()
    } else {
        dns::node_name(pod, &options.cluster_domain).map_err(|e| e.to_string())?
    };
    let files = [
        ("etc-hosts", hosts),
        ("resolv.conf", resolv.render()),
        ("hostname", format!("{name}\n")),
    ];
    write_files(&dir, files).map_err(|e| format!("writing {}: {e}", dir.display()))
}

/// Completes a sandbox that an earlier agent made, which may have ended before it had written the pod's files, and leads
/// the node's ports to it.
pub async fn adopt(context: &Context, pod: &Pod, sandbox: &SandboxId, ip: &str) -> Result<(), StepError> {
    tokio::task::block_in_place(|| lay_out(context, pod, ip))
        .map_err(|why| StepError::new("ContainerCreating", why))?;
    publish_ports(context, pod, sandbox, ip).await?;
    Ok(())
}

/// Leads the node's ports to a sandbox that an earlier agent made; what fails is said.
async fn publish_ports(context: &Context, pod: &Pod, sandbox: &SandboxId, ip: &str) -> Result<(), StepError> {
    hostports::publish(context, pod, sandbox, ip).await.map_err(|why| {
        let message = format!("ports of the node do not lead to the pod: {why}");
        context.events.event(
            &pod_reference(pod),
            EventType::Warning,
            "HostPortFailed",
            message.clone(),
        );
        StepError::new("ContainerCreating", message)
    })
}

/// Takes the node's ports back from a sandbox that goes; what fails is said.
pub async fn withdraw_ports(context: &Context, sandbox: &SandboxId) {
    if let Err(error) = hostports::withdraw(context, sandbox).await {
        tracing::warn!(%sandbox, error, "taking ports back failed");
    }
}

/// The node's resolver configuration; systemd-resolved's stub is of no use in a pod.
fn host_resolv() -> Resolv {
    let read = |path: &str| fs::read_to_string(path).map(|text| Resolv::parse(&text));
    let own = read("/etc/resolv.conf").unwrap_or_else(|_| Resolv::default());
    if own.nameservers.iter().any(|server| server == "127.0.0.53") {
        read("/run/systemd/resolve/resolv.conf").unwrap_or(own)
    } else {
        own
    }
}

fn write_files<const N: usize>(dir: &Path, files: [(&str, String); N]) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    for (name, text) in files {
        let path = dir.join(name);
        // Containers may be reading it.
        if !fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
            fs::write(&path, text)?;
        }
        // Whatever user a container runs as must be able to read these.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    }
    Ok(())
}

/// Pulls, configures, creates and starts a container, and runs its postStart hook.
pub async fn start_container(
    context: &Arc<Context>,
    pod: &Pod,
    wanted: Wanted<'_>,
    sandbox: &SandboxUp,
    volumes: &PodVolumes,
    ending: &CancellationToken,
) -> Result<ContainerUp, StepError> {
    let Wanted {
        container,
        attempt,
        target: sees,
    } = wanted;
    let about = container_reference(pod, &container.name);
    let event = |kind, reason: &str, message: String| context.events.event(&about, kind, reason, message);
    let pull = async {
        let image = context.puller.image(pod, container, &about).await?;
        Ok((image, context.puller.volumes(pod, container, &about).await?))
    };
    // A pod that is to end does not wait for a registry.
    let (image, image_volumes) = tokio::select! {
        images = pull => images.map_err(|e: PullError| StepError::new(e.reason, e.message))?,
        () = ending.cancelled() => return Err(StepError::new("ContainerCreating", "the pod is to end")),
    };
    let resolved = (
        image
            .repo_tags
            .first()
            .cloned()
            .unwrap_or_else(|| container.image.clone()),
        image
            .repo_digests
            .first()
            .cloned()
            .unwrap_or_else(|| image.id.to_string()),
    );
    let view = PodView {
        pod,
        node: &context.facts,
        ip: &sandbox.ip,
    };
    let config_error = |message: String| {
        event(EventType::Warning, "Failed", format!("Error: {message}"));
        StepError::new("CreateContainerConfigError", message)
    };
    let environment = env::make(&view, container, service_links(context, pod), &context.objects).await;
    let environment = environment.map_err(|e| config_error(e.to_string()))?;
    let pod_dir = context.volumes.pod_dir(&pod.metadata.uid);
    let config = tokio::task::block_in_place(|| {
        container::configure(Parts {
            options: &context.options,
            view: &view,
            container,
            attempt,
            image,
            volumes,
            image_volumes,
            env: environment.into_pairs(),
            pod_dir: &pod_dir,
            target: sees,
        })
    })
    .map_err(|e| config_error(e.to_string()))?;
    let resources = container.resources.clone();
    let mut config = config;
    let equipped = context.managers.equip(pod, &container.name, &mut config).await;
    equipped.map_err(config_error)?;
    let engine = &context.options.engine;
    let id = match engine.create_container(&sandbox.id, config).await {
        Ok(id) => id,
        Err(e) => {
            event(EventType::Warning, "Failed", format!("Error: {e}"));
            return match e {
                // What the container itself asks for cannot be run: it counts as one that ended at once.
                strata_engine::Error::Runtime { .. } => Ok(ContainerUp {
                    id: ContainerId::from(strata_meta::Uid::random().as_str()),
                    image: resolved,
                    resources,
                    failed: Some(e.to_string()),
                }),
                e => Err(StepError::new("CreateContainerError", e)),
            };
        }
    };
    event(EventType::Normal, "Created", "Container created".to_owned());
    if let Err(e) = engine.start_container(&id).await {
        event(EventType::Warning, "Failed", format!("Error: {e}"));
        return Ok(ContainerUp {
            id,
            image: resolved,
            resources,
            failed: Some(e.to_string()),
        });
    }
    event(EventType::Normal, "Started", "Container started".to_owned());
    if let Some(hook) = &container.lifecycle.post_start {
        let target = target(context, &id, container, &sandbox.ip);
        if let Err(why) = handler::run(&target, hook, HOOK_TIMEOUT).await {
            event(
                EventType::Warning,
                "FailedPostStartHook",
                format!("PostStartHook failed: {why}"),
            );
            stop_container(context, pod, container, &id, &sandbox.ip, ("FailedPostStartHook", None)).await;
        }
    }
    Ok(ContainerUp {
        id,
        image: resolved,
        resources,
        failed: None,
    })
}

/// Hooks are bounded by the grace of the pod; one that starts a container has no such bound
/// upstream, so this only keeps a lost hook from holding a task forever.
const HOOK_TIMEOUT: Duration = Duration::from_secs(3600);

fn service_links(context: &Context, pod: &Pod) -> Vec<(String, String)> {
    let links = pod.spec.enable_service_links != Some(false);
    let all = context.services.list();
    let wanted = all.iter().filter(|(key, _)| {
        let master = key.namespace.as_ref() == "default" && key.name.as_ref() == "kubernetes";
        master || links && key.namespace.as_ref() == pod.metadata.namespace
    });
    let services: Vec<_> = wanted.map(|(_, service)| service.clone()).collect();
    env::service_variables(services.iter().map(AsRef::as_ref))
}

/// Where handlers of a container act.
pub fn target(context: &Context, id: &ContainerId, container: &Container, ip: &str) -> Target {
    let node_ip = || context.facts.ips.first().cloned().unwrap_or_default();
    Target {
        engine: context.options.engine.clone(),
        id: id.clone(),
        container: container.clone(),
        ip: if ip.is_empty() { node_ip() } else { ip.to_owned() },
    }
}

/// Ends a running container: preStop hook, stop signal, and after the grace the hard way.
pub async fn stop_container(
    context: &Context,
    pod: &Pod,
    container: &Container,
    id: &ContainerId,
    ip: &str,
    (why, own_grace): (&str, Option<u64>),
) {
    let about = container_reference(pod, &container.name);
    let message = if why.is_empty() {
        format!("Stopping container {}", container.name)
    } else {
        why.to_owned()
    };
    context.events.event(&about, EventType::Normal, "Killing", message);
    let began = tokio::time::Instant::now();
    // A probe's own grace gives way to that of the pod's end.
    let own_grace = own_grace.filter(|_| pod.metadata.deletion_grace_period_seconds.is_none());
    let grace = Duration::from_secs(own_grace.unwrap_or_else(|| pod.grace_seconds()));
    if let Some(hook) = &container.lifecycle.pre_stop
        && !grace.is_zero()
    {
        run_pre_stop(context, pod, container, id, ip, hook, grace).await;
    }
    // Upstream leaves at least two seconds after a hook that used up the grace.
    let rest = grace.saturating_sub(began.elapsed());
    let rest = if grace.is_zero() {
        rest
    } else {
        rest.max(Duration::from_secs(2)).min(grace)
    };
    match context.options.engine.stop_container(id, rest).await {
        Ok(()) => {}
        Err(e) if e.is_not_found() => {}
        Err(error) => tracing::warn!(container = %id, %error, "stopping a container failed"),
    }
}

async fn run_pre_stop(
    context: &Context,
    pod: &Pod,
    container: &Container,
    id: &ContainerId,
    ip: &str,
    hook: &Handler,
    grace: Duration,
) {
    let target = target(context, id, container, ip);
    if let Err(why) = handler::run(&target, hook, grace).await {
        let about = container_reference(pod, &container.name);
        context.events.event(
            &about,
            EventType::Warning,
            "FailedPreStopHook",
            format!("PreStopHook failed: {why}"),
        );
    }
}

/// Removes every container and sandbox of a pod, its volumes and its directory.
pub async fn remove_everything(context: &Context, uid: &strata_meta::Uid) -> Result<(), StepError> {
    let engine = &context.options.engine;
    let failed = |e: strata_engine::Error| StepError::new("Terminating", e);
    for container in engine.list_containers() {
        if container.labels.get(container::POD_UID).map(String::as_str) == Some(uid.as_str()) {
            gone(engine.remove_container(&container.id).await).map_err(failed)?;
        }
    }
    for sandbox in engine.list_sandboxes() {
        if sandbox.uid == uid.as_str() {
            withdraw_ports(context, &sandbox.id).await;
            gone(engine.stop_sandbox(&sandbox.id).await).map_err(failed)?;
            gone(engine.remove_sandbox(&sandbox.id).await).map_err(failed)?;
        }
    }
    let (logs, ending) = (context.options.log_dir.clone(), format!("_{uid}"));
    let removed = tokio::task::spawn_blocking(move || remove_logs(&logs, &ending)).await;
    removed
        .unwrap_or_else(|e| Err(std::io::Error::other(e)))
        .map_err(|e| StepError::new("Terminating", format!("removing the pod's logs: {e}")))?;
    // The pod's directory goes last: as long as it is there, an interrupted removal is taken up again.
    context
        .volumes
        .tear_down(uid)
        .await
        .map_err(|e| StepError::new("Terminating", e))
}

/// Removes the log folder of the pod with that ending, whatever namespace and name come before.
fn remove_logs(logs: &Path, ending: &str) -> std::io::Result<()> {
    for entry in fs::read_dir(logs)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(ending) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// What is gone already need not be removed.
pub fn gone(result: Result<(), strata_engine::Error>) -> Result<(), strata_engine::Error> {
    match result {
        Err(e) if e.is_not_found() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_logs_of_the_removed_pod_go() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for name in ["default_a_123", "default_a_456", "other_a_1123"] {
            fs::create_dir_all(folder.path().join(name).join("c")).expect("a folder");
            fs::write(folder.path().join(name).join("c/0.log"), "x").expect("a log");
        }
        remove_logs(folder.path(), "_123").expect("removed");
        remove_logs(folder.path(), "_123").expect("nothing left to remove is no error");
        let mut left: Vec<_> = fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["default_a_456", "other_a_1123"]);
    }
}
