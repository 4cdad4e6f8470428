//! The daemon ends, as by SIGKILL, after every step of making and removing a pod; the next one finds all of it again,
//! and when it has removed that, nothing is left. A full disk leaves nothing either.

#[path = "../tests/support/mod.rs"]
mod support;

use crate::steps::simulated::end_after;
use crate::{Engine, EngineOptions, ImageVolume, SandboxConfig};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use strata_image::{ImageOptions, ImageStore};
use support::{Bench, DEADLINE};

const FOLDER: &str = "STRATA_ENGINE_TEST_FOLDER";
const CGROUP: &str = "STRATA_ENGINE_TEST_CGROUP";
const STEPS: &str = "STRATA_ENGINE_TEST_STEPS";
/// More than there are; a test that never ends is worse than one that fails.
const MOST: usize = 200;

fn pod(cgroup: &str, folder: &Path) -> SandboxConfig {
    SandboxConfig {
        namespace: "default".into(),
        name: "pod".into(),
        uid: "uid-1".into(),
        hostname: "pod-host".into(),
        log_dir: folder.join("logs"),
        keep_cgroup: true,
        ..SandboxConfig::new(format!("{cgroup}/pods/one"))
    }
}

/// The whole life of a pod.
async fn live(bench: &Bench, config: SandboxConfig) {
    let sandbox = bench.engine().run_sandbox(config).await.expect("sandbox");
    let mut container = bench.shell("exec sleep 1000");
    container.image_volumes.push(ImageVolume {
        image: container.image.clone(),
        sub_path: String::new(),
        container_path: "/volume".into(),
    });
    let id = bench.start(&sandbox, container).await;
    bench.engine().remove_container(&id).await.expect("removed");
    bench.engine().remove_sandbox(&sandbox.id).await.expect("removed");
}

/// Run by the test below, which says where and after which step it ends.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the test below"]
async fn a_daemon_that_ends() {
    let variable = |name: &str| std::env::var(name).expect("run by another test");
    let (folder, cgroup) = (PathBuf::from(variable(FOLDER)), variable(CGROUP));
    let bench = Bench::at(&folder, cgroup.clone()).await;
    // Before the steps count.
    bench.image();
    end_after(variable(STEPS).parse().expect("a number"));
    live(&bench, pod(&cgroup, &folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_daemon_was_doing_the_next_one_takes_back() {
    let own = std::env::current_exe().expect("own path");
    let mut bench = Bench::new().await;
    let folder = bench.folder.path().to_owned();
    let mut told = Vec::new();
    for steps in 0.. {
        assert!(steps < MOST, "there is no end of steps");
        bench.engine = None;
        let ended = Command::new(&own)
            .args(["--exact", "crash_tests::a_daemon_that_ends", "--ignored", "--nocapture"])
            .env(FOLDER, &folder)
            .env(CGROUP, &bench.cgroup)
            .env(STEPS, steps.to_string())
            .output()
            .expect("the test program");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        bench.open().await;
        let engine = bench.engine().clone();
        for container in engine.list_containers() {
            let removed = tokio::time::timeout(DEADLINE, engine.remove_container(&container.id)).await;
            removed.expect("in time").unwrap_or_else(|e| panic!("{said}: {e}"));
        }
        for sandbox in engine.list_sandboxes() {
            let removed = tokio::time::timeout(DEADLINE, engine.remove_sandbox(&sandbox.id)).await;
            removed.expect("in time").unwrap_or_else(|e| panic!("{said}: {e}"));
        }
        let left = left(&engine, &folder, &bench.cgroup);
        assert!(left.is_empty(), "{said}: {left:?}");
        if ended.status.success() {
            break;
        }
        assert_eq!(ended.status.signal(), Some(9), "{said}");
        told.push(said);
    }
    assert!(told.len() > 15, "too few steps: {told:?}");
}

/// What a pod that has gone left behind.
fn left(engine: &Engine, folder: &Path, cgroup: &str) -> Vec<String> {
    let mut left = Vec::new();
    for part in ["engine/sandboxes", "engine/containers", "run"] {
        let path = folder.join(part);
        left.extend(support::names(&path).into_iter().map(|name| format!("{part}/{name}")));
    }
    let mounts = strata_mount::mount_points().expect("mounts");
    let below = mounts.into_iter().filter(|mount| mount.starts_with(folder));
    left.extend(below.map(|mount| mount.display().to_string()));
    left.extend(engine.images().lease_owners().expect("leases"));
    let layout = strata_runtime::cgroup::Layout::detect().expect("cgroups");
    for hierarchy in layout.hierarchies() {
        let pod = hierarchy.directory(&format!("{cgroup}/pods/one"));
        left.extend(Path::new(&pod).exists().then_some(pod));
        let shims = hierarchy.directory(&format!("{cgroup}/shims/cgroup.procs"));
        let shims = std::fs::read_to_string(shims).unwrap_or_default();
        left.extend(shims.lines().map(|pid| format!("shim {pid}")));
    }
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_leaves_nothing_behind() {
    let mut bench = Bench::new().await;
    let folder = bench.folder.path().to_owned();
    let small = folder.join("small");
    std::fs::create_dir(&small).expect("folder");
    strata_mount::mount_tmpfs(&small, Some(256 << 10)).expect("tmpfs");
    let images = ImageStore::open(ImageOptions::new(folder.join("images"))).expect("store");
    let engine = Engine::open(EngineOptions {
        root: small.join("engine"),
        run: folder.join("run"),
        cgroup_root: bench.cgroup.clone(),
        helper: bench.helper(),
        images,
        network: None,
        log_max_size: 0,
        log_max_files: 1,
    });
    bench.engine = Some(engine.await.expect("engine"));
    let sandbox = bench
        .engine()
        .run_sandbox(pod(&bench.cgroup, &folder))
        .await
        .expect("room");
    let before = support::names(&small.join("engine/containers")).len();
    // All but a little: the record of a container does not fit, its folders do.
    fill(&small.join("filler"), 0);
    let refused = bench.engine().create_container(&sandbox.id, bench.shell("true")).await;
    assert!(refused.is_err());
    assert_eq!(support::names(&small.join("engine/containers")).len(), before);
    assert!(bench.engine().list_containers().is_empty());
    assert!(bench.engine().images().lease_owners().expect("leases").is_empty());
    let refused = bench.engine().run_sandbox(pod(&bench.cgroup, &folder)).await;
    assert!(refused.is_err());
    assert_eq!(support::names(&small.join("engine/sandboxes")).len(), 1);
    std::fs::remove_file(small.join("filler")).expect("room again");
    bench.start(&sandbox, bench.shell("exec sleep 1000")).await;
    bench.engine().remove_sandbox(&sandbox.id).await.expect("removed");
    bench.engine = None;
    strata_mount::unmount_below(&small).expect("unmounted");
}

/// Fills a file system up but for some bytes.
fn fill(path: &Path, room: u64) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("file");
    while file.write_all(&[0; 4096]).is_ok() {}
    let length = file.metadata().expect("length").len();
    file.set_len(length.saturating_sub(room)).expect("some room");
}
