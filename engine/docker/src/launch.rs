//! Starting a container: its sandbox, its networks, its process. And taking up again what an earlier
//! process of the daemon started.

use crate::config::{Config, HostConfig};
use crate::daemon::Inner;
use crate::error::{Answer, ApiError, blocking};
use crate::record::{Container, Endpoint, Published, Record, Run, Status, moment, now, remove_folder};
use crate::spec::Joined;
use crate::{exit, health, mounts, netfiles, networks, resolver, spec};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, PoisonError};
use strata_engine::{AttachOptions, ContainerId, ContainerState, Error, SandboxId};

/// Starts a container that does not run. The caller holds its turn.
pub(crate) async fn start(inner: &Arc<Inner>, container: &Arc<Container>) -> Answer<()> {
    match begin(inner, container).await {
        Ok(()) => {
            inner.events.container(container, "start", &[]);
            Ok(())
        }
        Err(error) => {
            let code = exit_code_of(&error.message);
            // Who attached learns that nothing comes.
            container.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
            let note = |record: &mut Record| {
                record.state.exit_code = code;
                record.state.error.clone_from(&error.message);
                record.state.finished_at = Some(now());
                if record.state.status == Status::Restarting {
                    record.state.status = Status::Exited;
                }
            };
            tear_down(inner, container, note).await?;
            Err(error)
        }
    }
}

/// What a shell would say of such a failure.
fn exit_code_of(message: &str) -> i32 {
    if message.contains("executable file not found") || message.contains("no such file or directory") {
        127
    } else if message.contains("permission denied") || message.contains("is a directory") {
        126
    } else {
        128
    }
}

async fn begin(inner: &Arc<Inner>, container: &Arc<Container>) -> Answer<()> {
    let record = container.record();
    let (config, host) = (record.typed_config()?, record.typed_host()?);
    let joined = joined(inner, &host).await?;
    let (shared, known) = (Arc::clone(inner), record.clone());
    blocking(move || {
        mounts::prepare(&shared, &known)?;
        // What an earlier mount left in it would stand in the way of the next.
        remove_folder(&shared.container_folder(&known.id).join("work"))
    })
    .await?;
    let sandbox = inner
        .engine
        .run_sandbox(spec::sandbox(inner, &record, &config, &host))
        .await?;
    container.change(|record| {
        record.run = Some(Run {
            sandbox: sandbox.id.to_string(),
            container: String::new(),
        });
    })?;
    if host.ipc_mode != "host" && host.shm_size > 0 {
        let bytes = u64::try_from(host.shm_size).unwrap_or(0);
        inner.engine.resize_shm(&sandbox.id, bytes).await?;
    }
    connect(inner, container, &sandbox.id, &config, &host).await?;
    let names = match netfiles::has_resolver(&host) {
        true => Some(resolver::open(inner, &sandbox.id).await?),
        false => None,
    };
    let record = container.record();
    let image = crate::create::find_image(inner, &record.image_id)?;
    let shared = Arc::clone(inner);
    let all = blocking(move || {
        let files = netfiles::write(&shared, &record, &config, &host)?;
        spec::container(&shared, &record, (&config, &host), image, files, joined)
    })
    .await?;
    let tty = all.tty;
    let id = inner.engine.create_container(&sandbox.id, all).await.map_err(explain)?;
    container.change(|record| {
        record.run = Some(Run {
            sandbox: sandbox.id.to_string(),
            container: id.to_string(),
        });
    })?;
    grant(inner, container, &id, tty).await?;
    inner.engine.start_container(&id).await.map_err(explain)?;
    let status = inner.engine.container(&id)?;
    container.change(|record| {
        record.state.status = Status::Running;
        record.state.pid = status.pid.unwrap_or(0);
        record.state.started_at = Some(status.started_at.map_or_else(now, moment));
        record.state.exit_code = 0;
        record.state.error.clear();
        record.state.oom_killed = false;
        record.state.health = None;
    })?;
    attend(inner, container, names)
}

/// In docker's words, by which clients tell failures apart.
fn explain(error: Error) -> ApiError {
    match error {
        Error::Runtime { why, .. } => ApiError::invalid(format!(
            "failed to create task for container: failed to create shim task: OCI runtime create failed: strata-runtime: unable to start container process: {why}: unknown"
        )),
        other => other.into(),
    }
}

/// Those who attached before the start get their streams.
async fn grant(inner: &Inner, container: &Container, id: &ContainerId, tty: bool) -> Answer<()> {
    let waiting = std::mem::take(&mut *container.waiting.lock().unwrap_or_else(PoisonError::into_inner));
    for one in waiting {
        if one.grant.is_closed() {
            continue;
        }
        let session = inner.engine.attach(id, one.options).await?;
        // One who has gone meanwhile does not matter.
        let _ = one.grant.send(session.into_parts());
    }
    keep_resizer(inner, container, id, tty).await
}

async fn keep_resizer(inner: &Inner, container: &Container, id: &ContainerId, tty: bool) -> Answer<()> {
    let resizer = if tty {
        let session = inner.engine.attach(id, AttachOptions::default()).await?;
        Some(session.resizer())
    } else {
        None
    };
    *container.resizer.lock().unwrap_or_else(PoisonError::into_inner) = resizer;
    Ok(())
}

/// What goes on beside a running container: its health, its names.
fn attend(inner: &Arc<Inner>, container: &Arc<Container>, names: Option<resolver::Sockets>) -> Answer<()> {
    let token = container.fresh_run();
    let record = container.record();
    let config = record.typed_config()?;
    if let Some(check) = config.healthcheck.filter(health::is_on) {
        health::watch(inner, container, check, config.shell, token.clone())?;
    }
    if let Some(names) = names {
        resolver::serve(inner, container, names, token);
    }
    Ok(())
}

/// Namespaces taken over from other containers.
async fn joined(inner: &Inner, host: &HostConfig) -> Answer<Joined> {
    let other = |mode: &str| -> Answer<Option<(i32, Option<Run>)>> {
        let Some(name) = mode.strip_prefix("container:") else {
            return Ok(None);
        };
        let other = inner.find(name)?;
        let record = other.record();
        if !record.state.status.is_alive() {
            return Err(ApiError::conflict(format!(
                "cannot join the namespaces of a non running container: {}",
                record.id
            )));
        }
        Ok(Some((record.state.pid, record.run)))
    };
    if let Some(name) = host.ipc_mode.strip_prefix("container:") {
        let donor = inner.find(name)?;
        if !matches!(donor.lock().host["IpcMode"].as_str(), Some("shareable" | "host")) {
            return Err(ApiError::internal(format!(
                "failed to join IPC namespace: can't join IPC of container {}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)",
                donor.id
            )));
        }
    }
    let path = |found: &Option<(i32, Option<Run>)>, kind: &str| {
        found.as_ref().map(|(pid, _)| format!("/proc/{pid}/ns/{kind}"))
    };
    let (network, ipc, pid) = (
        other(&host.network_mode)?,
        other(&host.ipc_mode)?,
        other(&host.pid_mode)?,
    );
    let shm = ipc.as_ref().and_then(|(_, run)| run.as_ref()).map(|run| {
        let shm = inner.engine.shm(&SandboxId::from(run.sandbox.as_str()));
        shm.to_string_lossy().into_owned()
    });
    Ok(Joined {
        network: path(&network, "net"),
        ipc: path(&ipc, "ipc"),
        pid: path(&pid, "pid"),
        // This process's own is the machine's.
        uts: (host.uts_mode == "host").then(|| format!("/proc/{}/ns/uts", std::process::id())),
        shm,
    })
}

/// Puts the sandbox on the container's networks and opens its ports.
async fn connect(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    sandbox: &SandboxId,
    config: &Config,
    host: &HostConfig,
) -> Answer<()> {
    let record = container.record();
    if !record
        .networks
        .keys()
        .any(|name| !networks::WITHOUT_BRIDGE.contains(&name.as_str()))
    {
        return Ok(());
    }
    let netns = inner.engine.network_namespace(sandbox).await?;
    let network = inner.networks.find(&host.network_mode).ok();
    let binding = network.and_then(|network| network.bridge_options().binding);
    let wanted = wanted_ports(config, host, binding.unwrap_or(Ipv4Addr::UNSPECIFIED))?;
    let (shared, container, mode) = (Arc::clone(inner), Arc::clone(container), host.network_mode.clone());
    blocking(move || connect_all(&shared, &container, &netns, &mode, wanted)).await
}

fn connect_all(
    inner: &Inner,
    container: &Container,
    netns: &OwnedFd,
    mode: &str,
    wanted: Vec<Published>,
) -> Answer<()> {
    let mut all = container.record().networks;
    // The one it was asked for comes first and leads out, unless another is preferred.
    let mut order: Vec<String> = all.keys().cloned().collect();
    order.sort_by_key(|name| (std::cmp::Reverse(all[name].config.gw_priority), name != mode));
    let mut first = None;
    for (number, name) in order.iter().enumerate() {
        let network = inner.networks.find(name).map_err(|error| {
            let why = error.message;
            ApiError::new(error.status, format!("failed to set up container networking: {why}"))
        })?;
        if !network.is_bridge() {
            continue;
        }
        let place = inner.networks.connect(
            &network,
            &all[name],
            &format!("{}{number}", network.bridge_options().link_prefix),
            number == 0,
            netns.as_fd(),
        )?;
        first = first.or(place.ip);
        all.insert(name.clone(), place);
        // Noted at once, so that a failure of the next takes this one back.
        container.change(|record| record.networks.clone_from(&all))?;
        tell_network(inner, container, &network.id, name, "connect");
    }
    if let Some(ip) = first {
        let published = inner.networks.publish(&container.id, ip, wanted)?;
        container.change(|record| record.ports = published)?;
    }
    Ok(())
}

pub(crate) fn tell_network(inner: &Inner, container: &Container, network: &str, name: &str, what: &str) {
    let attributes = [("container", container.id.as_str()), ("name", name), ("type", "bridge")];
    let attributes: BTreeMap<String, String> = attributes
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    inner.events.tell("network", what, network, attributes);
}

/// The ports to open: those asked for, and with `-P` all that are exposed; `usual` is the address of those that
/// name none.
pub(crate) fn wanted_ports(config: &Config, host: &HostConfig, usual: Ipv4Addr) -> Answer<Vec<Published>> {
    let mut all = Vec::new();
    for (port, bindings) in &host.port_bindings {
        let (number, protocol) = parse_port(port)?;
        let none = vec![crate::config::PortBinding::default()];
        let bindings = bindings.as_ref().filter(|list| !list.is_empty()).unwrap_or(&none);
        for binding in bindings {
            let host_ip = match binding.host_ip.as_str() {
                "" => usual,
                // The other family's every address, which old clients add of themselves.
                "::" => continue,
                text => text
                    .parse()
                    .map_err(|_| ApiError::invalid(format!("invalid IP address in port binding: {text}")))?,
            };
            let (host_port, last_host_port) = host_ports(&binding.host_port)?;
            all.push(Published {
                host_ip,
                host_port,
                last_host_port,
                port: number,
                protocol: protocol.clone(),
            });
        }
    }
    if host.publish_all_ports {
        for port in config.exposed_ports.keys() {
            let (number, protocol) = parse_port(port)?;
            if !all
                .iter()
                .any(|known| known.port == number && known.protocol == protocol)
            {
                all.push(Published {
                    host_ip: usual,
                    host_port: 0,
                    last_host_port: 0,
                    port: number,
                    protocol,
                });
            }
        }
    }
    Ok(all)
}

/// `80`, or `80-90` of which one will do; 0 and 0 of an empty text.
fn host_ports(text: &str) -> Answer<(u16, u16)> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err(ApiError::invalid(format!("invalid port specification: \"{text}\""))),
    }
}

/// `80/tcp`
pub(crate) fn parse_port(text: &str) -> Answer<(u16, String)> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let number = number.parse().ok().filter(|number| *number > 0);
    match number {
        Some(number) if matches!(protocol.as_str(), "tcp" | "udp") => Ok((number, protocol)),
        _ => Err(ApiError::invalid(format!("invalid port specification: \"{text}\""))),
    }
}

/// Takes back whatever a start made: ports, links, sandbox. Goes on after a failure, and logs it.
///
/// What else is to be noted of the container is written with the fact that nothing of it runs: a daemon that is
/// killed between the two would leave one that runs for ever.
pub(crate) async fn tear_down(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    note: impl FnOnce(&mut Record),
) -> Answer<()> {
    container.end_run();
    let record = container.record();
    let mut problems = Vec::new();
    let (shared, known) = (Arc::clone(inner), record.clone());
    let closed = blocking(move || {
        let ports = shared.networks.unpublish(&known.id);
        let places: Vec<&Endpoint> = known.networks.values().collect();
        places
            .into_iter()
            .map(|place| shared.networks.disconnect(place))
            .fold(ports, Result::and)
    });
    problems.extend(closed.await.err());
    for (name, place) in &record.networks {
        if !place.endpoint_id.is_empty() {
            tell_network(inner, container, &place.network_id, name, "disconnect");
        }
    }
    if let Some(run) = &record.run {
        let removed = inner
            .engine
            .remove_sandbox(&SandboxId::from(run.sandbox.as_str()))
            .await;
        problems.extend(removed.err().map(ApiError::from));
    }
    *container.resizer.lock().unwrap_or_else(PoisonError::into_inner) = None;
    for error in problems {
        tracing::warn!(container = %record.id, %error, "could not clean up after a container");
    }
    container.change(|record| {
        record.run = None;
        record.ports.clear();
        record.state.pid = 0;
        for place in record.networks.values_mut() {
            *place = Endpoint {
                config: place.config.clone(),
                network_id: place.network_id.clone(),
                ..Endpoint::default()
            };
        }
        note(record);
    })
}

/// Takes up what an earlier process left: running containers go on, ended ones are noted as such.
pub(crate) async fn recover(inner: &Arc<Inner>) -> Answer<()> {
    let all = inner.all();
    for container in &all {
        for place in container.record().networks.values() {
            inner.networks.adopt(place);
        }
    }
    drop_strangers(inner, &all).await;
    let mut again = Vec::new();
    for container in &all {
        let record = container.record();
        let Some(run) = &record.run else {
            if record.state.status == Status::Restarting {
                again.push(Arc::clone(container));
            }
            continue;
        };
        let id = ContainerId::from(run.container.as_str());
        match inner.engine.container(&id) {
            Ok(status) if status.state == ContainerState::Running => {
                resume(inner, container, &record, &id, status.pid.unwrap_or(0)).await?;
            }
            Ok(status) if status.state == ContainerState::Exited => {
                exit::ended(inner, container, &status.into()).await;
            }
            _ => {
                // Made and not started, or gone with the machine.
                let ran = record.state.status.is_alive();
                let policy = record.typed_host()?.restart_policy.name;
                let note = |record: &mut Record| {
                    if ran {
                        record.state.status = Status::Exited;
                        record.state.exit_code = 255;
                        record.state.finished_at = Some(now());
                    }
                };
                tear_down(inner, container, note).await?;
                if ran && matches!(policy.as_str(), "always" | "unless-stopped") {
                    again.push(Arc::clone(container));
                }
            }
        }
    }
    settle_networks(inner).await?;
    for container in again {
        let inner = Arc::clone(inner);
        tokio::spawn(async move {
            let _turn = container.turn.lock().await;
            if let Err(error) = start(&inner, &container).await {
                tracing::warn!(container = %container.id, %error, "could not restart a container");
            }
        });
    }
    Ok(())
}

async fn resume(
    inner: &Arc<Inner>,
    container: &Arc<Container>,
    record: &Record,
    id: &ContainerId,
    pid: i32,
) -> Answer<()> {
    container.change(|record| {
        record.state.pid = pid;
        if !record.state.status.is_alive() {
            record.state.status = Status::Running;
        }
    })?;
    let tty = record.typed_config()?.tty;
    keep_resizer(inner, container, id, tty).await?;
    if let Some(ip) = record.networks.values().find_map(|place| place.ip) {
        let (shared, name, ports) = (Arc::clone(inner), record.id.clone(), record.ports.clone());
        if let Err(error) = blocking(move || shared.networks.publish(&name, ip, ports)).await {
            tracing::warn!(container = record.id, %error, "could not keep the ports of a running container");
        }
    }
    let names = match &record.run {
        Some(run) if netfiles::has_resolver(&record.typed_host()?) => {
            Some(resolver::open(inner, &SandboxId::from(run.sandbox.as_str())).await?)
        }
        _ => None,
    };
    attend(inner, container, names)
}

/// Sandboxes that no container has: their creation was interrupted.
async fn drop_strangers(inner: &Arc<Inner>, all: &[Arc<Container>]) {
    for sandbox in inner.engine.list_sandboxes() {
        let owned = all.iter().any(|container| {
            let record = container.lock();
            record
                .run
                .as_ref()
                .is_some_and(|run| run.sandbox == sandbox.id.as_str())
        });
        if !owned && let Err(error) = inner.engine.remove_sandbox(&sandbox.id).await {
            tracing::warn!(sandbox = %sandbox.id, %error, "could not remove a sandbox that nobody has");
        }
    }
}

async fn settle_networks(inner: &Arc<Inner>) -> Answer<()> {
    let inner = Arc::clone(inner);
    blocking(move || {
        let places: Vec<String> = inner
            .all()
            .iter()
            .flat_map(|container| container.record().networks.into_values())
            .map(|place| place.endpoint_id)
            .collect();
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        inner.networks.settle(&places)
    })
    .await
}
