//! `strata server` and `strata node`: runs until told to stop.

use crate::{
    addons,
    cli::{NodeArgs, ServerArgs},
    failure::{During, Outcome},
    instance::Instance,
    join, plane,
    worker::{self, WorkerOptions},
};
use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};
use strata_agent::Drain;
use strata_api::{ApiServer, LogFilter};
use strata_auth::UserInfo;
use strata_client::{Client, Informer, Patch, Scope, resources};
use strata_http::ServerTls;
use strata_shim::Helper;
use strata_task::CancellationToken;
use tokio::signal::unix::{SignalKind, signal};

/// Runs a control plane, and a node if there is a helper for one.
pub async fn run(args: ServerArgs, helper: Option<Helper>, log_filter: LogFilter) -> Outcome {
    let began = std::time::Instant::now();
    let mut args = args;
    // What cannot be used is said before anything is begun.
    args.node.configuration()?;
    let (asked, cancel) = stop_on_signal()?;
    let running = Arc::new(OnceLock::new());
    let drain = Arc::new(OnceLock::new());
    tokio::spawn(leave(
        asked,
        running.clone(),
        drain.clone(),
        args.api.shutdown_delay_duration,
        cancel.clone(),
    ));
    args.data_dir = make_private_dir(&args.data_dir)?;
    let instance = Instance::open(&args.data_dir)?;
    let ip = worker::node_ip(&args.node)?;
    let plane = plane::start(&args, ip, &instance, log_filter, &cancel).await?;
    // Nobody else sets it.
    let _ = running.set(plane.api.clone());
    if !args.no_controllers {
        addons::install(&plane.admin(), &instance).await?;
    }
    let worker = match helper {
        None => None,
        Some(helper) => Some(start_worker(&args, &plane, &instance, helper, &cancel).await?),
    };
    if let Some(worker) = &worker {
        // Nobody else sets it.
        let _ = drain.set(worker.drain());
    }
    tracing::info!(address = %plane.address, elapsed = ?began.elapsed(), "ready");
    notify("READY=1");
    cancel.cancelled().await;
    notify("STOPPING=1");
    if let Some(worker) = worker {
        worker.join().await;
    }
    plane.join().await;
    Ok(())
}

async fn start_worker(
    args: &ServerArgs,
    plane: &plane::Plane,
    instance: &Instance,
    helper: Helper,
    cancel: &CancellationToken,
) -> Outcome<worker::Worker> {
    let name = worker::node_name(&args.node);
    let ip = worker::node_ip(&args.node)?;
    tokio::spawn(mark_control_plane(plane.admin(), name.clone(), cancel.clone()));
    let leaf = plane
        .ca
        .issue_server(std::slice::from_ref(&name), &[ip])
        .during("issuing the node's certificate")?;
    let ca = plane.ca.ca_pem().as_bytes();
    let tls = ServerTls::new(leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes(), Some(ca));
    let tls = Arc::new(tls.during("making the node's TLS configuration")?);
    let (issuer, renewed_name) = (plane.ca.clone(), name.clone());
    let renew = move || issuer.issue_server(std::slice::from_ref(&renewed_name), &[ip]);
    tokio::spawn(strata_auth::keep_renewed(tls.clone(), leaf, renew, cancel.clone()));
    let options = WorkerOptions {
        data_dir: args.data_dir.clone(),
        settings: args.node.clone(),
        client: plane.api.client(UserInfo::node(&name)),
        name,
        ip,
        tls,
        listener: worker::agent_listener()?,
        instance: instance.name.clone(),
        cluster_cidr: instance.cluster_cidr.clone(),
        service_cidr: instance.service_cidr.clone(),
        dns: instance.dns,
        helper,
    };
    worker::start(options, cancel).await
}

/// Labels this server's node, once there is one, with the role that `kubectl get nodes` shows.
/// Nodes may not give themselves roles (NodeRestriction), so the administrator does.
async fn mark_control_plane(admin: Client, name: String, cancel: CancellationToken) {
    let scope = Scope {
        field_selector: format!("metadata.name={name}"),
        ..Scope::default()
    };
    let stop = cancel.child_token();
    let nodes = Informer::<serde_json::Value>::start(&admin, resources::NODES, scope, stop.clone());
    let there = Arc::new(tokio::sync::Notify::new());
    let appeared = there.clone();
    nodes.on_change(move |_| appeared.notify_one());
    tokio::select! {
        () = cancel.cancelled() => return,
        () = there.notified() => stop.cancel(),
    }
    let label = serde_json::json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}});
    let patched = admin
        .patch(resources::NODES, "", &name, None, Patch::Merge(label))
        .await;
    if let Err(error) = patched {
        tracing::warn!(%error, "the node could not be labelled as the control plane's");
    }
}

/// Runs a node that joins a control plane elsewhere.
pub async fn run_node(args: NodeArgs, helper: Helper) -> Outcome {
    let mut args = args;
    args.node.configuration()?;
    let (asked, cancel) = stop_on_signal()?;
    args.data_dir = make_private_dir(&args.data_dir)?;
    let name = worker::node_name(&args.node);
    let ip = worker::node_ip(&args.node)?;
    let joined = join::join(&args, &name, ip).await?;
    tokio::spawn(joined.renewal(cancel.clone()));
    let options = WorkerOptions {
        data_dir: args.data_dir.clone(),
        settings: args.node.clone(),
        client: joined.client.clone(),
        name,
        ip,
        tls: joined.tls.clone(),
        listener: worker::agent_listener()?,
        instance: joined.instance.clone(),
        cluster_cidr: joined.cluster_cidr.clone(),
        service_cidr: joined.service_cidr.clone(),
        dns: joined.dns,
        helper,
    };
    let worker = worker::start(options, &cancel).await?;
    notify("READY=1");
    asked.cancelled().await;
    notify("STOPPING=1");
    cancel.run_until_cancelled(worker.drain().run()).await;
    cancel.cancel();
    worker.join().await;
    Ok(())
}

/// The data directory, absolute, made if need be, for root's eyes only.
fn make_private_dir(path: &Path) -> Outcome<std::path::PathBuf> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(path)
        .during(format!("creating {}", path.display()))?;
    path.canonicalize().during(format!("opening {}", path.display()))
}

/// Stops the server some time after it was asked to; until then it says so where load balancers look.
async fn leave(
    asked: CancellationToken,
    running: Arc<OnceLock<Arc<ApiServer>>>,
    drain: Arc<OnceLock<Drain>>,
    delay: Duration,
    cancel: CancellationToken,
) {
    asked.cancelled().await;
    if let Some(drain) = drain.get() {
        cancel.run_until_cancelled(drain.run()).await;
    }
    if let Some(api) = running.get() {
        api.announce_shutdown();
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = cancel.cancelled() => {}
        }
    }
    cancel.cancel();
}

/// Cancelled by the first and by the second SIGTERM or SIGINT.
pub fn stop_on_signal() -> Outcome<(CancellationToken, CancellationToken)> {
    let tokens = (CancellationToken::new(), CancellationToken::new());
    let mut term = signal(SignalKind::terminate()).during("waiting for signals")?;
    let mut int = signal(SignalKind::interrupt()).during("waiting for signals")?;
    let (first, second) = tokens.clone();
    tokio::spawn(async move {
        for stop in [first, second] {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            tracing::info!("stopping");
            stop.cancel();
        }
    });
    Ok(tokens)
}

/// Tells the service manager, if there is one (sd_notify(3)).
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
        return;
    };
    let send = || -> std::io::Result<()> {
        use std::os::{linux::net::SocketAddrExt, unix::ffi::OsStrExt};
        let socket = std::os::unix::net::UnixDatagram::unbound()?;
        match path.as_bytes().strip_prefix(b"@") {
            Some(name) => {
                let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
                socket.send_to_addr(state.as_bytes(), &address)?;
            }
            None => {
                socket.send_to(state.as_bytes(), &path)?;
            }
        }
        Ok(())
    };
    if let Err(error) = send() {
        tracing::warn!(%error, "the service manager could not be told");
    }
}
