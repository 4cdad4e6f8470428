//! The daemon behind the commands for people: one a machine, which answers on a socket.

use crate::{
    cli::{REGISTRY_HOSTS, duration},
    failure::{During, Failure, Outcome, fail},
    worker,
};
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use strata_console::{Client, Console};
use strata_docker::{Daemon, DaemonOptions};
use strata_engine::{Engine, EngineOptions};
use strata_image::{ImageOptions, ImageStore};
use strata_shim::Helper;
use strata_task::CancellationToken;
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};

/// Settings of the daemon behind the commands for containers.
#[derive(clap::Args, Clone, Debug)]
pub struct EngineArgs {
    /// Where everything is kept; images are those of `strata image`.
    #[arg(long, env = "STRATA_DATA_DIR", default_value = "/var/lib/strata")]
    pub data_dir: PathBuf,
    /// The socket it answers on, in the language of docker's clients.
    #[arg(long, env = "STRATA_HOST", default_value = "unix:///run/strata/engine.sock")]
    pub listen: String,
    /// Folder with a HOST[:PORT]/hosts.toml for each registry.
    #[arg(long, env = REGISTRY_HOSTS, default_value = "/etc/strata/certs.d")]
    pub registry_hosts: PathBuf,
    /// End after so long without requests and running containers, such as 30s; never by default.
    #[arg(long, value_parser = duration)]
    pub idle_timeout: Option<Duration>,
}

/// A container's log is rotated at this size, and so many files are kept (as docker's driver `local`).
const LOG_SIZE: u64 = 20 << 20;
const LOG_FILES: u32 = 5;

/// Runs the daemon until it is told to stop or, with an idle timeout, until nobody needs it.
pub async fn run(args: EngineArgs, helper: Helper) -> Outcome {
    let root = args.data_dir.join("docker");
    make_folder(&root)?;
    let _lock = lock(&root)?;
    let mut term = signal(SignalKind::terminate()).during("waiting for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).during("waiting for signals")?;
    let socket = socket_path(&args.listen)?;
    let stop = CancellationToken::new();
    let daemon = open(&args, &root, helper, &stop).await?;
    let listener = listen(&socket)?;
    tracing::info!(socket = %socket.display(), "the engine is ready");
    let idle = async {
        match args.idle_timeout {
            Some(patience) if !patience.is_zero() => daemon.idle(patience).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = daemon.serve(listener) => {}
        () = idle => tracing::info!("the engine ends: nobody needs it"),
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    // Removed before anything ends, so that the next client starts the next daemon.
    let removed = fs::remove_file(&socket);
    stop.cancel();
    removed.during(format!("removing {}", socket.display()))
}

async fn open(args: &EngineArgs, root: &Path, helper: Helper, stop: &CancellationToken) -> Outcome<Daemon> {
    let options = ImageOptions {
        // So that what is pushed or saved has the digests it came with.
        keep_blobs: true,
        ..worker::image_options(&args.data_dir, &args.registry_hosts)
    };
    let images = ImageStore::open(options).during("opening the image store")?;
    let instance = instance(root)?;
    let cgroup_root = format!("/strata-{instance}");
    let engine = Engine::open(EngineOptions {
        root: root.join("engine"),
        run: PathBuf::from("/run/strata").join(&instance),
        cgroup_root: cgroup_root.clone(),
        helper,
        images: images.clone(),
        network: None,
        log_max_size: LOG_SIZE,
        log_max_files: LOG_FILES,
    });
    let engine = engine.await.during("opening the container engine")?;
    let options = DaemonOptions {
        root: root.to_owned(),
        engine,
        images,
        instance,
        cgroup_root,
        init: Some((init_program(root)?, vec!["init".into(), "--".into()])),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    Daemon::open(options, stop.clone()).await.map_err(Failure)
}

/// Carries a command for containers out; starts the daemon if nobody listens.
pub fn carry_out(command: strata_console::Command, runtime: tokio::runtime::Runtime) -> Outcome<ExitCode> {
    let settings = Settings::from_environment()?;
    let socket = settings.socket.clone();
    let start: strata_console::Start = Arc::new(move || {
        let settings = settings.clone();
        Box::pin(async move { settings.start().await.map_err(|failure| failure.0) })
    });
    let console = Console::new(Client::new(socket, Some(start)), "strata");
    match runtime.block_on(console.carry_out(command)) {
        Ok(code) => Ok(ExitCode::from(code)),
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("{}", failure.message);
            }
            Ok(ExitCode::from(failure.code))
        }
    }
}

/// Where commands find the daemon, and where one that they start keeps everything.
#[derive(Clone)]
struct Settings {
    listen: String,
    socket: PathBuf,
    data_dir: PathBuf,
}

impl Settings {
    fn from_environment() -> Outcome<Self> {
        // The same flags, variables and defaults as the daemon's own.
        let args = <EngineLine as clap::Parser>::try_parse_from(["engine"]).map_err(|e| Failure(e.to_string()))?;
        Ok(Self {
            socket: socket_path(&args.engine.listen)?,
            listen: args.engine.listen,
            data_dir: args.engine.data_dir,
        })
    }

    /// Starts the daemon and waits until it answers.
    async fn start(&self) -> Outcome {
        crate::check::privileges()?;
        let root = self.data_dir.join("docker");
        make_folder(&root)?;
        let path = root.join("engine.log");
        let doing = format!("opening {}", path.display());
        let log = File::options().create(true).append(true).open(&path).during(&doing)?;
        let errors = log.try_clone().during(&doing)?;
        let program = std::env::current_exe().during("finding this program")?;
        let mut command = std::process::Command::new(program);
        command
            .arg("engine")
            .args(["--listen", &self.listen, "--idle-timeout", IDLE])
            .arg("--data-dir")
            .arg(&self.data_dir)
            .current_dir("/")
            // A group of its own: what is typed at our terminal is not for it.
            .process_group(0)
            .stdin(std::process::Stdio::null())
            .stdout(log)
            .stderr(errors);
        let mut daemon = command.spawn().during("starting the engine")?;
        let deadline = std::time::Instant::now() + STARTING;
        loop {
            if tokio::net::UnixStream::connect(&self.socket).await.is_ok() {
                return Ok(());
            }
            let ended = daemon.try_wait().during("starting the engine")?;
            if ended.is_some() || std::time::Instant::now() > deadline {
                let text = fs::read_to_string(&path).during(format!("reading {}", path.display()))?;
                let last = text.lines().last().unwrap_or("it wrote nothing");
                return fail(format!("the engine did not start: {last}"));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

/// A command line of the daemon alone, for its defaults.
#[derive(clap::Parser)]
struct EngineLine {
    #[command(flatten)]
    engine: EngineArgs,
}

/// A daemon that commands started ends after so long without work.
const IDLE: &str = "30s";
/// How long it may take to start.
const STARTING: Duration = Duration::from_secs(30);

/// The path of `unix://PATH`.
pub fn socket_path(listen: &str) -> Outcome<PathBuf> {
    match listen.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(path.into()),
        _ => fail(format!("{listen}: give a socket as unix:///PATH")),
    }
}

fn listen(socket: &Path) -> Outcome<UnixListener> {
    let doing = format!("listening on {}", socket.display());
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder).during(&doing)?;
    }
    // The lock says that no other daemon of this data directory lives; another's socket answers.
    if std::os::unix::net::UnixStream::connect(socket).is_ok() {
        return fail(format!("{doing}: another engine listens there"));
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).during(&doing),
        _ => {}
    }
    // Made under another name and renamed: whoever finds it may connect, and nobody but root.
    let draft = socket.with_extension("draft");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).during(&doing),
        _ => {}
    }
    let listener = UnixListener::bind(&draft).during(&doing)?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).during(&doing)?;
    fs::rename(&draft, socket).during(&doing)?;
    Ok(listener)
}

fn make_folder(path: &Path) -> Outcome {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.during(format!("creating {}", path.display()))
}

/// Whether a daemon runs on a data directory.
pub fn is_running(data_dir: &Path) -> bool {
    File::open(data_dir.join("docker/lock"))
        .is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
}

/// Held as long as the daemon runs; one that is just ending is waited for.
fn lock(root: &Path) -> Outcome<File> {
    let path = root.join("lock");
    let file = File::create(&path).during(format!("opening {}", path.display()))?;
    let deadline = std::time::Instant::now() + ENDING;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if std::time::Instant::now() < deadline => {
                std::thread::sleep(LOOK_AGAIN);
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return fail(format!("an engine is running on {}", root.display()));
            }
            Err(errno) => return Err(errno).during(format!("locking {}", path.display())),
        }
    }
}

/// How long a daemon that ends may take.
const ENDING: Duration = Duration::from_secs(5);
/// Pause between looks at its lock.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What this daemon calls its own on this machine; chosen at its first start.
fn instance(root: &Path) -> Outcome<String> {
    let path = root.join("instance");
    match fs::read_to_string(&path) {
        Ok(name) => Ok(name),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = strata_meta::Uid::random().as_str()[..6].to_owned();
            strata_auth::write_private(&path, name.as_bytes()).during(format!("writing {}", path.display()))?;
            Ok(name)
        }
        Err(error) => Err(error).during(format!("reading {}", path.display())),
    }
}

/// The small program as a file: what containers run as their first process under `--init`.
fn init_program(root: &Path) -> Outcome<PathBuf> {
    let path = root.join("init");
    if fs::read(&path).is_ok_and(|known| known == crate::embedded::RUNTIME) {
        return Ok(path);
    }
    let doing = format!("writing {}", path.display());
    let draft = root.join("init.draft");
    let mut file = File::create(&draft).during(&doing)?;
    file.write_all(crate::embedded::RUNTIME).during(&doing)?;
    file.set_permissions(fs::Permissions::from_mode(0o755)).during(&doing)?;
    drop(file);
    fs::rename(&draft, &path).during(&doing)?;
    Ok(path)
}
