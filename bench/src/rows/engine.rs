//! Sandboxes and containers inside the engine, and many at once beside containerd.

use super::ratio;
use crate::{
    Options,
    failure::{Outcome, fail},
    figures::{Samples, short},
    process::Owned,
    table::Row,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use strata_engine::{ContainerConfig, Engine, EngineOptions, Network, SandboxConfig};
use strata_image::{Builtin, BuiltinFile, BuiltinSource, Image, ImageConfig, ImageOptions, ImageStore};
use strata_net::{PodNetwork, PodNetworkOptions};
use strata_shim::Helper;

const SANDBOXES: usize = 30;
const WARM_UP: usize = 3;
const PARALLEL: usize = 50;
const ROUNDS: usize = 3;
const BAR_MS: f64 = 6.0;
/// Of containerd's time.
const BAR_PARALLEL: f64 = 0.25;
/// How long containerd may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
const CGROUP: &str = "/strata-bench-engine";

/// Milliseconds.
#[derive(Debug, Default, Deserialize, Serialize)]
struct Times {
    sandbox: Vec<f64>,
    start: Vec<f64>,
    stop: Vec<f64>,
    parallel: Vec<f64>,
    containerd: Vec<f64>,
}

pub async fn measure(options: &Options) -> Outcome<Vec<Row>> {
    let output = tokio::process::Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        .arg(std::env::current_exe()?)
        .arg("--runtime")
        .arg(&options.runtime)
        .arg("--work")
        .arg(&options.work)
        .arg("engine")
        .kill_on_drop(true)
        .output()
        .await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return fail(errors.trim());
    }
    eprint!("{errors}");
    let times: Times = serde_json::from_slice(&output.stdout)?;
    Ok(rows(times))
}

fn rows(times: Times) -> Vec<Row> {
    let Times {
        sandbox,
        start,
        stop,
        parallel,
        containerd,
    } = times;
    let [sandbox, start, stop, parallel, containerd] =
        [sandbox, start, stop, parallel, containerd].map(Samples::from_numbers);
    let text = |s: &Samples| format!("{} ms (min {})", short(s.median()), short(s.min()));
    let worst = sandbox.median().max(start.median()).max(stop.median());
    vec![
        Row {
            what: "pod sandbox run / container create and start / stop, inside the engine".into(),
            strata: format!("{} / {} / {}", text(&sandbox), text(&start), text(&stop)),
            peer: "– (containerd through CRI 79 / 44 / 35 ms, published in the budget)".into(),
            ratio: "–".into(),
            bar: format!("{BAR_MS} ms each"),
            met: Some(worst <= BAR_MS),
            how: format!(
                "Median of {SANDBOXES} pods one after another: `run_sandbox` with an address on a pod network, \
                 `create_container` and `start_container` of busybox with the default seccomp profile, \
                 `stop_container` of a process that ends at SIGTERM."
            ),
        },
        Row {
            what: format!("{PARALLEL} containers in parallel, with their monitors"),
            strata: text(&parallel),
            peer: match containerd.len() {
                0 => "–".into(),
                _ => format!("containerd {}", text(&containerd)),
            },
            ratio: ratio(parallel.median(), containerd.median()),
            bar: format!("{BAR_PARALLEL}x containerd"),
            met: (containerd.len() > 0).then(|| parallel.median() <= BAR_PARALLEL * containerd.median()),
            how: format!(
                "Median of {ROUNDS} rounds in turns: {PARALLEL} busybox containers, each in a sandbox with its own \
                 shim, network namespace with loopback only and seccomp, from the first call until all run. Ours: calls \
                 of the engine. Peer: {PARALLEL} processes `ctr run --detach --seccomp --rootfs ROOTFS ID /bin/sleep \
                 1000` with containerd and runc from Debian, whose own start is part of the figure."
            ),
        },
    ]
}

/// The part of the process inside namespaces of its own. The helper must exist before any thread does.
pub fn inside(options: &Options) -> Outcome {
    let helper = Helper::spawn(&fs::read(&options.runtime)?)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let folder = tempfile::Builder::new().prefix("engine-").tempdir_in(&options.work)?;
    let measured = runtime.block_on(measure_inside(helper, folder.path()));
    // Nothing is left in it where every sandbox could be removed.
    remove_cgroups();
    println!("{}", serde_json::to_string(&measured?)?);
    Ok(())
}

fn remove_cgroups() {
    let (Ok(layout), path) = (strata_runtime::cgroup::Layout::detect(), CGROUP) else {
        return;
    };
    if let Ok(cgroup) = strata_runtime::cgroup::Cgroup::open(&layout, path) {
        // A cgroup that is not empty any more is a failure told elsewhere.
        let _ = cgroup.signal_all(9);
        let _ = cgroup.remove();
    }
}

async fn measure_inside(helper: Helper, folder: &Path) -> Outcome<Times> {
    let images = ImageStore::open(ImageOptions::new(folder.join("images"))).map_err(said)?;
    let cidr = "10.199.0.0/16".parse().map_err(said)?;
    let network = PodNetwork::open(PodNetworkOptions {
        state_dir: folder.join("network"),
        cidr,
        cluster_cidr: cidr,
        instance: "bench".into(),
        mtu: 0,
    });
    let network = network.map_err(said)?;
    let engine = Engine::open(EngineOptions {
        root: folder.join("engine"),
        run: folder.join("run"),
        cgroup_root: CGROUP.into(),
        helper,
        images: images.clone(),
        network: Some(network.clone()),
        log_max_size: 10 << 20,
        log_max_files: 5,
    });
    let engine = engine.await.map_err(said)?;
    let image = busybox(&images)?;
    let mut times = Times::default();
    for number in 0..WARM_UP + SANDBOXES {
        let lived = one_after_another(&engine, &image, &network, folder, number).await?;
        if number >= WARM_UP {
            let [sandbox, start, stop] = lived.map(|d| d.as_secs_f64() * 1e3);
            times.sandbox.push(sandbox);
            times.start.push(start);
            times.stop.push(stop);
        }
    }
    let containerd = Containerd::start(folder).await?;
    for round in 0..ROUNDS {
        times.parallel.push(in_parallel(&engine, &image, folder, round).await?);
        if let Some(containerd) = &containerd {
            times.containerd.push(containerd.in_parallel(round)?);
        }
    }
    Ok(times)
}

fn said(error: impl std::fmt::Display) -> crate::failure::Failure {
    crate::failure::Failure::Said(error.to_string())
}

fn busybox(images: &ImageStore) -> Outcome<Image> {
    let file = |name: &str, source| BuiltinFile {
        path: format!("bin/{name}"),
        source,
        mode: 0o755,
    };
    let files = vec![
        file("busybox", BuiltinSource::Host(super::containers::busybox()?.into())),
        file("sh", BuiltinSource::Symlink("busybox".into())),
        file("sleep", BuiltinSource::Symlink("busybox".into())),
    ];
    let builtin = Builtin {
        files,
        config: ImageConfig::default(),
    };
    images.add_builtin("strata.local/bench", builtin).map_err(said)
}

fn sandbox(folder: &Path, uid: &str, network: Network) -> SandboxConfig {
    SandboxConfig {
        namespace: "bench".into(),
        name: uid.into(),
        uid: uid.into(),
        attempt: 0,
        hostname: "bench".into(),
        log_dir: folder.join("logs").join(uid),
        network,
        host_pid: false,
        host_ipc: false,
        share_process_namespace: false,
        sysctls: BTreeMap::new(),
        cgroup_parent: format!("{CGROUP}/pods/pod{uid}"),
        resources: None,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    }
}

fn container(image: &Image, script: &str) -> ContainerConfig {
    let mut config = ContainerConfig::new("main", image.clone());
    config.command = Some(["/bin/sh", "-c", script].map(str::to_owned).into());
    config.log_path = "main/0.log".into();
    config
}

async fn one_after_another(
    engine: &Engine,
    image: &Image,
    network: &Arc<PodNetwork>,
    folder: &Path,
    number: usize,
) -> Outcome<[Duration; 3]> {
    let uid = format!("one-{number}");
    let began = Instant::now();
    let config = sandbox(folder, &uid, Network::Pod(network.clone()));
    let pod = engine.run_sandbox(config).await.map_err(said)?;
    let run = began.elapsed();
    let began = Instant::now();
    let script = "trap 'exit 0' TERM; echo ready; while :; do sleep 1000 & wait; done";
    let id = engine
        .create_container(&pod.id, container(image, script))
        .await
        .map_err(said)?;
    engine.start_container(&id).await.map_err(said)?;
    let start = began.elapsed();
    // Until the trap is set SIGTERM would be ignored, as by any first process of a pid namespace.
    let log = folder.join("logs").join(&uid).join("main/0.log");
    while !fs::read_to_string(&log).is_ok_and(|text| text.contains("ready")) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    engine.stop_container(&id, Duration::from_secs(5)).await.map_err(said)?;
    let stop = began.elapsed();
    engine.stop_sandbox(&pod.id).await.map_err(said)?;
    engine.remove_sandbox(&pod.id).await.map_err(said)?;
    Ok([run, start, stop])
}

async fn in_parallel(engine: &Engine, image: &Image, folder: &Path, round: usize) -> Outcome<f64> {
    let began = Instant::now();
    let started = (0..PARALLEL).map(|number| async move {
        let config = sandbox(folder, &format!("all-{round}-{number}"), Network::None);
        let pod = engine.run_sandbox(config).await.map_err(said)?;
        let id = engine
            .create_container(&pod.id, container(image, "exec sleep 1000"))
            .await
            .map_err(said)?;
        engine.start_container(&id).await.map_err(said)?;
        Outcome::Ok(pod.id)
    });
    let pods = futures::future::try_join_all(started).await?;
    let took = began.elapsed();
    for pod in pods {
        engine.stop_sandbox(&pod).await.map_err(said)?;
        engine.remove_sandbox(&pod).await.map_err(said)?;
    }
    Ok(took.as_secs_f64() * 1e3)
}

/// The peer; ended when dropped, its containers before.
struct Containerd {
    _daemon: Owned,
    socket: String,
    rootfs: String,
}

impl Containerd {
    /// None if it is not installed.
    async fn start(folder: &Path) -> Outcome<Option<Self>> {
        if Command::new("containerd")
            .arg("--version")
            .stdout(Stdio::null())
            .status()
            .is_err()
        {
            eprintln!("  containerd is not installed: its figures are left out");
            return Ok(None);
        }
        let own = folder.join("containerd");
        fs::create_dir_all(own.join("rootfs/bin"))?;
        for name in ["proc", "dev", "sys", "run", "tmp", "etc"] {
            fs::create_dir_all(own.join("rootfs").join(name))?;
        }
        fs::copy(super::containers::busybox()?, own.join("rootfs/bin/sleep"))?;
        // A path of a socket has 107 bytes at most, so it is not below the working folder.
        let socket = format!("/run/strata-bench-{}.sock", std::process::id());
        let config = format!(
            "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = {socket:?}\n",
            own.join("root"),
            own.join("state"),
        );
        fs::write(own.join("config.toml"), config)?;
        let mut command = Command::new("containerd");
        command.arg("--config").arg(own.join("config.toml"));
        let daemon = Owned::start(&mut command, &own.join("log"))?;
        let began = Instant::now();
        let this = Self {
            _daemon: daemon,
            socket,
            rootfs: own.join("rootfs").display().to_string(),
        };
        while !this.ctr(&["version"]).status()?.success() {
            if began.elapsed() > PATIENCE {
                return fail("containerd does not answer");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(Some(this))
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command
            .args(["--address", &self.socket, "--namespace", "bench"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn in_parallel(&self, round: usize) -> Outcome<f64> {
        let name = |number: usize| format!("c{round}-{number}");
        let began = Instant::now();
        let run = |number| {
            let flags = [
                "run",
                "--detach",
                "--seccomp",
                "--rootfs",
                &self.rootfs,
                &name(number),
                "/bin/sleep",
                "1000",
            ];
            self.ctr(&flags).spawn()
        };
        let children: Vec<_> = (0..PARALLEL).map(run).collect::<Result<_, _>>()?;
        let mut good = true;
        for mut child in children {
            good &= child.wait()?.success();
        }
        let took = began.elapsed();
        for number in 0..PARALLEL {
            // What did not start cannot be removed; that it did not is told below.
            let _ = self.ctr(&["task", "rm", "--force", &name(number)]).status();
            let _ = self.ctr(&["container", "rm", &name(number)]).status();
        }
        if !good {
            return fail("ctr run failed");
        }
        Ok(took.as_secs_f64() * 1e3)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for path in [self.socket.clone(), format!("{}.ttrpc", self.socket)] {
            // One that containerd has removed itself is as good.
            let _ = fs::remove_file(path);
        }
    }
}
