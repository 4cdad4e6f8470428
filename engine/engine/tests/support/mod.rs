//! An engine with the real runtime program and images of busybox, for tests.
#![allow(dead_code)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use strata_engine::{
    ContainerConfig, ContainerId, ContainerStatus, Engine, EngineEvent, EngineOptions, Sandbox, SandboxConfig,
};
use strata_image::{Builtin, BuiltinFile, BuiltinSource, Image, ImageConfig, ImageOptions, ImageStore};
use strata_net::PodNetwork;
use strata_shim::{Connection, Helper};
use tokio::sync::broadcast::Receiver;

/// Anything that has not happened by then never will.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The runtime program, built once.
fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "-p", "strata-shim"])
            .status();
        assert!(built.expect("cargo").success(), "strata-shim does not build");
        let own = std::env::current_exe().expect("own path");
        let folder = own.parent().and_then(Path::parent).expect("target folder");
        std::fs::read(folder.join("strata-runtime")).expect("the runtime program")
    })
}

/// An engine with all that it made, gone with this value.
pub struct Bench {
    pub folder: Folder,
    pub cgroup: String,
    helper: Helper,
    pub engine: Option<Engine>,
    pub network: Option<Arc<PodNetwork>>,
}

impl Bench {
    pub async fn new() -> Self {
        Self::with_network(None).await
    }

    /// With a pod network for its sandboxes.
    pub async fn with_network(network: Option<Arc<PodNetwork>>) -> Self {
        Self::of(program(), network).await
    }

    /// With shims of another version.
    pub async fn with_program(program: &[u8]) -> Self {
        Self::of(program, None).await
    }

    async fn of(program: &[u8], network: Option<Arc<PodNetwork>>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cgroup = format!(
            "/strata-engine-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let helper = Helper::spawn(program).expect("helper");
        let mut bench = Self {
            folder: Folder::Own(tempfile::tempdir().expect("folder")),
            cgroup,
            helper,
            engine: None,
            network,
        };
        bench.open().await;
        bench
    }

    /// In a folder and a cgroup of another process, which looks after them.
    pub async fn at(folder: &Path, cgroup: String) -> Self {
        let mut bench = Self {
            folder: Folder::Given(folder.to_owned()),
            cgroup,
            helper: Helper::spawn(program()).expect("helper"),
            engine: None,
            network: None,
        };
        bench.open().await;
        bench
    }

    /// The shims of the next engine are of this version.
    pub fn renew_helper(&mut self) {
        self.helper = Helper::spawn(program()).expect("helper");
    }

    pub fn helper(&self) -> Helper {
        self.helper.clone()
    }

    /// Opens the engine as the daemon does at its start.
    pub async fn open(&mut self) {
        let path = self.folder.path();
        let images = ImageStore::open(ImageOptions::new(path.join("images"))).expect("store");
        let options = EngineOptions {
            root: path.join("engine"),
            run: path.join("run"),
            cgroup_root: self.cgroup.clone(),
            helper: self.helper.clone(),
            images,
            network: self.network.clone(),
            log_max_size: 10 << 20,
            log_max_files: 5,
        };
        self.engine = Some(Engine::open(options).await.expect("engine"));
    }

    pub fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open")
    }

    pub fn image(&self) -> Image {
        let file = |path: &str, source| BuiltinFile {
            path: path.into(),
            source,
            mode: 0o755,
        };
        let mut files = vec![file("bin/busybox", BuiltinSource::Host("/bin/busybox".into()))];
        for name in [
            "sh", "sleep", "cat", "echo", "nc", "id", "stty", "touch", "yes", "head", "hostname", "kill",
        ] {
            files.push(file(&format!("bin/{name}"), BuiltinSource::Symlink("busybox".into())));
        }
        let passwd = b"root:x:0:0::/:/bin/sh\nada:x:1000:1001::/:/bin/sh\n".to_vec();
        files.push(file("etc/passwd", BuiltinSource::Bytes(passwd)));
        files.push(file(
            "etc/group",
            BuiltinSource::Bytes(b"root:x:0:\nmore:x:77:ada\n".to_vec()),
        ));
        files.push(BuiltinFile {
            path: "tmp".into(),
            source: BuiltinSource::Directory,
            mode: 0o1777,
        });
        let config = ImageConfig {
            env: vec!["FROM=image".into()],
            ..ImageConfig::default()
        };
        self.engine()
            .images()
            .add_builtin("strata.local/busybox", Builtin { files, config })
            .expect("image")
    }

    pub async fn sandbox(&self) -> Sandbox {
        self.sandbox_with(|_| {}).await
    }

    pub async fn sandbox_with(&self, adjust: impl FnOnce(&mut SandboxConfig)) -> Sandbox {
        let mut config = SandboxConfig {
            namespace: "default".into(),
            name: "pod".into(),
            uid: "uid-1".into(),
            hostname: "pod-host".into(),
            log_dir: self.folder.path().join("logs"),
            ..SandboxConfig::new(format!("{}/kubepods/poduid-1", self.cgroup))
        };
        adjust(&mut config);
        self.engine().run_sandbox(config).await.expect("sandbox")
    }

    /// A container that runs a script.
    pub fn shell(&self, script: &str) -> ContainerConfig {
        self.shell_of(self.image(), script)
    }

    pub fn shell_of(&self, image: Image, script: &str) -> ContainerConfig {
        let mut config = ContainerConfig::new("c", image);
        config.command = Some(["sh", "-c", script].map(str::to_owned).into());
        config.log_path = "c/0.log".into();
        config
    }

    /// A started container.
    pub async fn start(&self, sandbox: &Sandbox, config: ContainerConfig) -> ContainerId {
        let id = self
            .engine()
            .create_container(&sandbox.id, config)
            .await
            .expect("create");
        self.engine().start_container(&id).await.expect("start");
        id
    }

    /// Runs a script to its end.
    pub async fn run(&self, sandbox: &Sandbox, config: ContainerConfig) -> ContainerStatus {
        let mut events = self.engine().events();
        let id = self.start(sandbox, config).await;
        exited(&mut events, &id).await;
        self.engine().container(&id).expect("status")
    }

    pub fn log(&self, status: &ContainerStatus) -> String {
        std::fs::read_to_string(&status.log_path).expect("log")
    }
}

/// Where an engine keeps everything.
pub enum Folder {
    Own(tempfile::TempDir),
    Given(PathBuf),
}

impl Folder {
    pub fn path(&self) -> &Path {
        match self {
            Self::Own(folder) => folder.path(),
            Self::Given(folder) => folder,
        }
    }
}

/// What a folder holds; nothing if it is not there.
pub fn names(folder: &Path) -> Vec<String> {
    let items = std::fs::read_dir(folder).into_iter().flatten().flatten();
    items
        .map(|item| item.file_name().to_string_lossy().into_owned())
        .collect()
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.engine = None;
        if matches!(self.folder, Folder::Given(_)) {
            return;
        }
        let run = self.folder.path().join("run");
        for item in std::fs::read_dir(&run).into_iter().flatten().flatten() {
            let socket = item.path().join("shim.sock");
            if let Ok(connection) = Connection::open(socket.to_str().expect("text")) {
                let _ = connection.shutdown();
            }
        }
        if run.exists() {
            let _ = strata_mount::unmount_below(&run);
        }
        if let Ok(layout) = strata_runtime::cgroup::Layout::detect()
            && let Ok(cgroup) = strata_runtime::cgroup::Cgroup::open(&layout, &self.cgroup)
        {
            let _ = cgroup.signal_all(9);
            let _ = cgroup.remove();
        }
    }
}

pub async fn exited(events: &mut Receiver<EngineEvent>, wanted: &ContainerId) -> i32 {
    let search = async {
        loop {
            match events.recv().await.expect("events") {
                EngineEvent::ContainerExited { id, exit_code, .. } if id == *wanted => return exit_code,
                _ => {}
            }
        }
    };
    tokio::time::timeout(DEADLINE, search)
        .await
        .expect("the container ends")
}

pub fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Makes a pipe with a name.
pub fn pipe(path: &Path) {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::from_raw_mode(0o666), 0).expect("pipe");
}

/// Writes a line into such a pipe when somebody reads it.
pub async fn tell(path: &Path, line: &str) {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let opening = async {
        let mut options = std::fs::OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        loop {
            match options.open(path) {
                Ok(file) => return file,
                // Nobody reads yet.
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    let mut file = tokio::time::timeout(DEADLINE, opening).await.expect("a reader");
    file.write_all(format!("{line}\n").as_bytes()).expect("write");
}

/// Waits until a log holds lines that end so.
pub async fn logged(path: &Path, wanted: &[&str]) {
    let search = async {
        loop {
            let log = std::fs::read_to_string(path).expect("log");
            if wanted.iter().all(|end| log.lines().any(|line| line.ends_with(end))) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let found = tokio::time::timeout(DEADLINE, search).await;
    assert!(found.is_ok(), "{wanted:?} are not in {}", path.display());
}

/// Whether a process runs; one that is only waiting to be reaped does not.
pub fn process_exists(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
