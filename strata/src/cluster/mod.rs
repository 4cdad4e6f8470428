//! Throwaway clusters on this machine: `strata cluster create|list|delete`.
//!
//! A cluster is a folder, a supervisor process that owns its nodes, and a bridge. A node is a
//! `strata server` or `strata node` in namespaces of its own; killing its pid 1 ends it whole.

mod links;
pub mod node;
mod spec;
pub mod supervisor;

use crate::{
    cli::{ClusterCommand, Output},
    failure::{During, Failure, Outcome, fail},
    plane,
};
use serde_json::{Value, json};
use spec::ClusterSpec;
use std::{
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use strata_auth::{ClusterCa, merge_kubeconfig, remove_from_kubeconfig};
use strata_client::{Client, ClientAuth, HttpsConfig, Informer, Scope, resources};
use strata_task::CancellationToken;

/// How long a supervisor may take to end its nodes.
const STOPPING: Duration = Duration::from_secs(30);
/// Pause between looks at files that another process writes.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What a new cluster is made of.
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// How many nodes.
    pub nodes: u8,
    /// Loopback ports of this machine that nodes reach at their own loopback.
    pub forward: Vec<u16>,
    /// How long the nodes may take.
    pub wait: Duration,
}

/// Carries the command out.
pub async fn run(command: ClusterCommand) -> Outcome {
    match command {
        ClusterCommand::Create {
            name,
            nodes,
            kubeconfig,
            forward,
            wait,
        } => {
            let began = Instant::now();
            let kubeconfig = kubeconfig_path(kubeconfig)?;
            let wanted = Wanted {
                name: name.clone(),
                nodes,
                forward,
                wait: Duration::from_secs(wait),
            };
            let spec = create(&wanted).await?;
            let (ca, leaf) = administrator(&spec)?;
            merge_kubeconfig(&kubeconfig, &spec.server(), ca.ca_pem(), &leaf, &context(&name))
                .during(format!("writing {}", kubeconfig.display()))?;
            println!(
                "cluster {name} is ready: {nodes} node(s) in {:.1} s",
                began.elapsed().as_secs_f64()
            );
            println!("kubectl --context {} get nodes", context(&name));
        }
        ClusterCommand::List { output } => list(output)?,
        ClusterCommand::Delete { name, kubeconfig } => {
            if !delete(&name).await? {
                return fail(format!("there is no cluster {name}; `strata cluster list` shows them"));
            }
            let path = kubeconfig_path(kubeconfig)?;
            if path.exists() {
                remove_from_kubeconfig(&path, &context(&name)).during(format!("changing {}", path.display()))?;
            }
            println!("cluster {name} deleted");
        }
    }
    Ok(())
}

fn context(name: &str) -> String {
    format!("strata-{name}")
}

fn kubeconfig_path(given: Option<PathBuf>) -> Outcome<PathBuf> {
    let from_variable = || {
        let list = std::env::var_os("KUBECONFIG")?;
        std::env::split_paths(&list)
            .next()
            .filter(|p| !p.as_os_str().is_empty())
    };
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let path = given.or_else(from_variable).or_else(home);
    path.ok_or_else(|| Failure("there is no home directory for the kubeconfig; name a file with --kubeconfig".into()))
}

/// Makes a cluster and waits until all its nodes are ready. One that does not come up is removed again.
pub async fn create(wanted: &Wanted) -> Outcome<ClusterSpec> {
    crate::check::privileges()?;
    let name = &wanted.name;
    if !strata_meta::names::dns1123_label(name).is_empty() || name.len() > 40 {
        return fail(format!(
            "{name:?} is not a cluster name: use lower case letters, digits and '-'"
        ));
    }
    let folder = spec::folder(name);
    fs::create_dir_all(spec::root()).during(format!("creating {}", spec::root().display()))?;
    // Of two who want the same name at the same time, the one who makes the folder has it.
    match fs::create_dir(&folder) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            return fail(format!(
                "there is a cluster {name} already; delete it first or choose another name"
            ));
        }
        other => other.during(format!("creating {}", folder.display()))?,
    }
    match set_up(wanted, &folder).await {
        Ok(spec) => Ok(spec),
        Err(failure) => {
            // A cluster that did not come up is of no use to anybody, its log is.
            let log = last_log_lines(&folder);
            delete(name).await?;
            fail(format!("{failure}{log}"))
        }
    }
}

async fn set_up(wanted: &Wanted, folder: &Path) -> Outcome<ClusterSpec> {
    let spec = ClusterSpec::new(&wanted.name, wanted.nodes, wanted.forward.clone())?;
    if let Err(failure) = spec.save() {
        links::remove(&spec);
        return Err(failure);
    }
    start_supervisor(folder)?;
    match tokio::time::timeout(wanted.wait, until_ready(&spec)).await {
        Ok(result) => result.map(|()| spec),
        Err(_) => fail(format!("the nodes were not ready within {} s", wanted.wait.as_secs())),
    }
}

fn start_supervisor(folder: &Path) -> Outcome {
    let log = File::create(folder.join("supervisor.log")).during("creating the cluster's log")?;
    let errors = log.try_clone().during("creating the cluster's log")?;
    let program = std::env::current_exe().during("finding this program")?;
    let mut command = Command::new(program);
    command
        .arg("cluster-supervisor")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors);
    // A process group of its own: a Ctrl-C meant for this command must not end the cluster.
    command
        .process_group(0)
        .spawn()
        .map(drop)
        .during("starting the cluster's supervisor")
}

async fn until_ready(spec: &ClusterSpec) -> Outcome {
    let client = loop {
        if let Some(why) = spec.failure() {
            return fail(why);
        }
        if spec.folder().join("started").exists() {
            break client(spec)?;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    };
    let cancel = CancellationToken::new();
    let _stop = cancel.clone().drop_guard();
    let nodes: Informer<Value> = Informer::start(&client, resources::NODES, Scope::default(), cancel);
    let (changed, mut changes) = tokio::sync::watch::channel(());
    nodes.on_change(move |_| changed.send_replace(()));
    loop {
        changes.borrow_and_update();
        let ready = nodes.list().iter().filter(|(_, node)| is_ready(node)).count();
        if ready >= spec.nodes.len() {
            return Ok(());
        }
        tokio::select! {
            _ = changes.changed() => {}
            why = supervisor_failure(spec) => return fail(why),
        }
    }
}

async fn supervisor_failure(spec: &ClusterSpec) -> String {
    loop {
        if let Some(why) = spec.failure() {
            return why;
        }
        tokio::time::sleep(LOOK_AGAIN * 10).await;
    }
}

fn is_ready(node: &Value) -> bool {
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| c["type"] == "Ready" && c["status"] == "True")
}

fn administrator(spec: &ClusterSpec) -> Outcome<(ClusterCa, strata_auth::Leaf)> {
    let pki = spec.nodes[0].data_dir(&spec.folder()).join("pki");
    let ca = ClusterCa::open_or_create(&pki).during("opening the cluster's certificate authority")?;
    let leaf = plane::admin(&ca)?;
    Ok((ca, leaf))
}

/// The administrator's client of a cluster.
pub fn client(spec: &ClusterSpec) -> Outcome<Client> {
    let (ca, leaf) = administrator(spec)?;
    let config = HttpsConfig {
        server: spec.server(),
        ca_pem: ca.ca_pem().as_bytes().to_vec(),
        auth: ClientAuth::Certificate {
            cert_pem: leaf.cert_pem.clone().into_bytes(),
            key_pem: leaf.key_pem.clone().into_bytes(),
        },
    };
    Client::https(config).during("connecting to the cluster")
}

fn last_log_lines(folder: &Path) -> String {
    let text = fs::read_to_string(folder.join("supervisor.log")).unwrap_or_else(|_| String::new());
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.iter().rev().map(|line| format!("; {line}")).collect()
}

/// Ends a cluster and removes every trace; false if there was none.
pub async fn delete(name: &str) -> Outcome<bool> {
    let folder = spec::folder(name);
    if !folder.exists() {
        return Ok(false);
    }
    let spec = ClusterSpec::load(&folder).ok();
    if let Some(pid) = supervisor::running(&folder) {
        strata_sys::process::kill(pid, rustix::process::Signal::TERM.as_raw()).ok();
        let gone = async {
            while supervisor::running(&folder).is_some() {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        if tokio::time::timeout(STOPPING, gone).await.is_err() {
            return fail(format!("the supervisor of cluster {name} (pid {pid}) does not end"));
        }
    }
    if let Some(spec) = spec {
        // What a killed supervisor could not remove.
        supervisor::clean_up(&spec);
    }
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e).during(format!("removing {}", folder.display()))?,
        _ => {}
    }
    node::remove_places();
    // The parent is ours too, when no other cluster is left.
    if let Some(parent) = folder.parent() {
        let _ = fs::remove_dir(parent);
    }
    Ok(true)
}

fn list(output: Output) -> Outcome {
    let mut rows = Vec::new();
    for entry in fs::read_dir(spec::root()).into_iter().flatten().flatten() {
        let Ok(spec) = ClusterSpec::load(&entry.path()) else {
            continue;
        };
        let state = if supervisor::running(&entry.path()).is_some() {
            "running"
        } else {
            "stopped"
        };
        rows.push(json!({"name": spec.name, "nodes": spec.nodes.len(), "state": state, "server": spec.server()}));
    }
    match output {
        Output::Json => println!("{}", json!(rows)),
        Output::Text => {
            println!("{:<20} {:<6} {:<8} SERVER", "NAME", "NODES", "STATE");
            for row in rows {
                let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
                println!(
                    "{:<20} {:<6} {:<8} {}",
                    text("name"),
                    row["nodes"],
                    text("state"),
                    text("server")
                );
            }
        }
    }
    Ok(())
}
