//! The process that keeps a cluster: starts its nodes, forwards ports into them, ends them.

use super::{
    links,
    node::Entry,
    spec::{ClusterSpec, NodeSpec, PORT},
};
use crate::{
    cgroups,
    cli::DataDir,
    failure::{During, Failure, Outcome},
    token,
};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::Ipv4Addr,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::Stdio,
    time::Duration,
};
use strata_net::NetworkNamespace;
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};

/// Pause between looks at a server that is starting.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a server may take to start.
const STARTING: Duration = Duration::from_secs(60);

/// The pid of a cluster's supervisor, if it runs.
pub fn running(folder: &Path) -> Option<i32> {
    let mut file = File::open(folder.join("supervisor.lock")).ok()?;
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => None,
        Err(_) => {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            text.trim().parse().ok()
        }
    }
}

/// Runs a cluster until told to stop.
pub async fn run(folder: &Path) -> Outcome {
    let spec = ClusterSpec::load(folder)?;
    let mut term = signal(SignalKind::terminate()).during("waiting for signals")?;
    let _lock = lock(folder)?;
    let mut nodes = Vec::new();
    let result = tokio::select! {
        result = keep(&spec, &mut nodes) => result,
        _ = term.recv() => Ok(()),
    };
    if let Err(failure) = &result {
        fs::write(folder.join("failed"), failure.to_string()).during("writing the cluster's failure")?;
    }
    for node in &mut nodes {
        // One that has ended already cannot be killed, which is what is wanted.
        let _ = node.kill().await;
    }
    clean_up(&spec);
    result
}

fn lock(folder: &Path) -> Outcome<File> {
    let path = folder.join("supervisor.lock");
    let mut file = File::create(&path).during(format!("creating {}", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).during("locking the cluster")?;
    write!(file, "{}", std::process::id()).during(format!("writing {}", path.display()))?;
    Ok(file)
}

/// Removes what nodes that were killed have left on this machine.
pub fn clean_up(spec: &ClusterSpec) {
    links::remove(spec);
    for node in &spec.nodes {
        let data_dir = node.data_dir(&spec.folder());
        for file in ["instance.json", "node/instance"] {
            let Ok(text) = fs::read_to_string(data_dir.join(file)) else {
                continue;
            };
            let parsed = serde_json::from_str::<serde_json::Value>(&text).ok();
            let name = parsed
                .and_then(|v| v["name"].as_str().map(str::to_owned))
                .unwrap_or(text);
            cgroups::remove(&format!("strata-{name}"));
        }
    }
}

async fn keep(spec: &ClusterSpec, nodes: &mut Vec<Child>) -> Outcome {
    let _uplink = links::open_bridge(spec)?;
    let mut server = start(spec, 0, None)?;
    let result = tokio::select! {
        // A node that ends takes the cluster with it only if it is the server.
        status = server.wait() => Err(ended(spec, status)),
        others = start_others(spec, nodes) => match others {
            Ok(()) => Err(ended(spec, server.wait().await)),
            Err(failure) => Err(failure),
        },
    };
    nodes.push(server);
    result
}

async fn start_others(spec: &ClusterSpec, nodes: &mut Vec<Child>) -> Outcome {
    let server = &spec.nodes[0];
    if spec.nodes.len() > 1 {
        let token = join_token(spec, server).await?;
        for number in 1..spec.nodes.len() {
            nodes.push(start(spec, number, Some(token.clone()))?);
        }
    } else {
        until_served(spec, server).await?;
    }
    fs::write(spec.folder().join("started"), b"").during("writing that the cluster has started")
}

fn ended(spec: &ClusterSpec, status: std::io::Result<std::process::ExitStatus>) -> Failure {
    let name = &spec.nodes[0].name;
    let how = status.map_or_else(|e| e.to_string(), |status| status.to_string());
    let log = spec.folder().join(format!("{name}.log"));
    Failure(format!("the server {name} has ended ({how}): {}", last_line(&log)))
}

fn last_line(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|_| String::new());
    text.lines().last().unwrap_or("it wrote nothing").to_owned()
}

async fn until_served(spec: &ClusterSpec, server: &NodeSpec) -> Outcome<DataDir> {
    let data_dir = server.data_dir(&spec.folder());
    let kubeconfig = data_dir.join("admin.kubeconfig");
    let served = async {
        while !kubeconfig.exists() || TcpStream::connect((server.ip, PORT)).await.is_err() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    tokio::time::timeout(STARTING, served)
        .await
        .map_err(|_| Failure("the server did not start".into()))?;
    Ok(DataDir { data_dir })
}

async fn join_token(spec: &ClusterSpec, server: &NodeSpec) -> Outcome<String> {
    let data_dir = until_served(spec, server).await?;
    let (_, ca_pem) = token::connect(&data_dir)?;
    let client = super::client(spec)?;
    token::create(&client, ca_pem, 24 * 365).await
}

fn start(spec: &ClusterSpec, number: usize, token: Option<String>) -> Outcome<Child> {
    let node = &spec.nodes[number];
    let folder = spec.folder();
    let data_dir = node.data_dir(&folder);
    fs::create_dir_all(&data_dir).during(format!("creating {}", data_dir.display()))?;
    let namespace = links::make_node(spec, number)?;
    for port in &spec.forward {
        forward(&namespace, *port)?;
    }
    let program = std::env::current_exe().during("finding this program")?;
    let entry = Entry {
        hostname: node.name.clone(),
        command: command_line(spec, number, &program, &data_dir),
        folder: data_dir.clone(),
        token,
    };
    let path = data_dir.join("entry.json");
    let text = serde_json::to_vec(&entry).during("describing a node")?;
    strata_auth::write_private(&path, &text).during(format!("writing {}", path.display()))?;
    let log = File::create(folder.join(format!("{}.log", node.name))).during("creating a node's log")?;
    let errors = log.try_clone().during("creating a node's log")?;
    let network: OwnedFd = namespace
        .as_fd()
        .try_clone_to_owned()
        .during("handing a node its network")?;
    let mut command = Command::new(program);
    command
        .arg("cluster-node")
        .arg(path)
        .stdin(Stdio::from(network))
        .stdout(log)
        .stderr(errors);
    command
        .kill_on_drop(true)
        .spawn()
        .during(format!("starting {}", node.name))
}

fn command_line(spec: &ClusterSpec, number: usize, program: &Path, data_dir: &Path) -> Vec<String> {
    let node = &spec.nodes[number];
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let mut words = vec![text(program)];
    if number == 0 {
        words.extend(["server".into(), "--port".into(), PORT.to_string()]);
    } else {
        words.extend(["node".into(), "--server".into(), spec.server()]);
    }
    for (flag, value) in [
        ("--data-dir", text(data_dir)),
        ("--node-name", node.name.clone()),
        ("--node-ip", node.ip.to_string()),
        ("--pods-dir", "/var/lib/kubelet/pods".into()),
        ("--pod-logs-dir", "/var/log/pods".into()),
        ("--plugins-dir", "/var/lib/kubelet".into()),
    ] {
        words.extend([flag.to_owned(), value]);
    }
    words.push("--shared-disk".to_owned());
    words
}

/// Makes a port of the machine's loopback appear on the node's.
fn forward(namespace: &NetworkNamespace, port: u16) -> Outcome {
    let doing = format!("forwarding port {port} into a node");
    let listener = namespace
        .run(|| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
        .during(&doing)?;
    let listener = listener.during(&doing)?;
    listener.set_nonblocking(true).during(&doing)?;
    let listener = TcpListener::from_std(listener).during(&doing)?;
    tokio::spawn(async move {
        loop {
            let Ok((mut inside, _)) = listener.accept().await else {
                // Out of descriptors, most likely: wait for some to be closed.
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            };
            tokio::spawn(async move {
                if let Ok(mut outside) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                    // Either side going away ends the pair.
                    let _ = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
                }
            });
        }
    });
    Ok(())
}
