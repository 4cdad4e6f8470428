//! A daemon with the real runtime program, an image of busybox, and a client that speaks plain HTTP.
#![allow(dead_code)]

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use strata_docker::{Daemon, DaemonOptions};
use strata_engine::{Engine, EngineOptions};
use strata_image::{Builtin, BuiltinFile, BuiltinSource, ImageConfig, ImageOptions, ImageStore};
use strata_shim::{Connection, Helper};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

/// Anything that has not happened by then never will.
pub const DEADLINE: Duration = Duration::from_secs(60);

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

/// A daemon with all that it made, gone with this value.
pub struct Bench {
    folder: tempfile::TempDir,
    instance: String,
    helper: Helper,
    stop: CancellationToken,
    serving: Option<tokio::task::JoinHandle<()>>,
}

impl Bench {
    pub async fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut bench = Self {
            folder: tempfile::tempdir().expect("folder"),
            instance: format!("docker-test-{}-{number}", std::process::id()),
            helper: Helper::spawn(program()).expect("helper"),
            stop: CancellationToken::new(),
            serving: None,
        };
        bench.open().await;
        bench
    }

    fn cgroup(&self) -> String {
        format!("/strata-{}", self.instance)
    }

    fn run_folder(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("engine.sock")
    }

    pub fn container_folders(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("docker/containers"))
            .expect("folder")
            .count()
    }

    async fn open(&mut self) {
        let path = self.folder.path();
        let images = ImageStore::open(ImageOptions::new(path.join("images"))).expect("store");
        add_image(&images);
        let engine = Engine::open(EngineOptions {
            root: path.join("docker/engine"),
            run: self.run_folder(),
            cgroup_root: self.cgroup(),
            helper: self.helper.clone(),
            images: images.clone(),
            network: None,
            log_max_size: 1 << 20,
            log_max_files: 3,
        });
        let options = DaemonOptions {
            root: path.join("docker"),
            engine: engine.await.expect("engine"),
            images,
            instance: self.instance.clone(),
            cgroup_root: self.cgroup(),
            init: None,
            version: "test".into(),
        };
        self.stop = CancellationToken::new();
        let daemon = Daemon::open(options, self.stop.clone()).await.expect("daemon");
        let listener = UnixListener::bind(self.socket()).expect("socket");
        self.serving = Some(tokio::spawn(async move { daemon.serve(listener).await }));
    }

    /// Ends the daemon without a word to its containers, and opens another one.
    pub async fn reopen(&mut self) {
        self.stop.cancel();
        if let Some(serving) = self.serving.take() {
            serving.await.expect("served");
        }
        std::fs::remove_file(self.socket()).expect("socket");
        self.open().await;
    }

    async fn send(&self, method: &str, path: &str, body: Option<Value>, upgrade: bool) -> Response<Incoming> {
        let stream = UnixStream::connect(self.socket()).await.expect("connected");
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .expect("http");
        tokio::spawn(connection.with_upgrades());
        let mut request = Request::builder().method(method).uri(path).header("host", "test");
        if upgrade {
            request = request.header("connection", "Upgrade").header("upgrade", "tcp");
        }
        let body = body.map_or(Bytes::new(), |body| Bytes::from(body.to_string()));
        let request = request.body(Full::new(body)).expect("request");
        sender.send_request(request).await.expect("an answer")
    }

    /// The status and the answer's bytes.
    pub async fn raw(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Bytes) {
        let exchange = async {
            let response = self.send(method, path, body, false).await;
            let status = response.status();
            (status, response.into_body().collect().await.expect("body").to_bytes())
        };
        tokio::time::timeout(DEADLINE, exchange).await.expect("in time")
    }

    /// The status and the answer as JSON.
    pub async fn ask(&self, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let (status, bytes) = self.raw(method, path, body).await;
        let value = match bytes.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&bytes).expect("JSON"),
        };
        (status, value)
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask("GET", path, None).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        value
    }

    pub async fn post(&self, path: &str, body: Option<Value>) -> Value {
        let (status, value) = self.ask("POST", path, body).await;
        assert!(status.is_success(), "{path}: {status} {value}");
        value
    }

    /// A container that runs a script; its identity.
    pub async fn create(&self, name: &str, script: &str, more: Value) -> String {
        let mut body = json!({"Image": "busybox", "Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}});
        for (key, value) in more.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let made = self.post(&format!("/containers/create?name={name}"), Some(body)).await;
        made["Id"].as_str().expect("an identity").to_owned()
    }

    pub async fn start(&self, name: &str) {
        self.post(&format!("/containers/{name}/start"), None).await;
    }

    /// Waits for the end; the exit code.
    pub async fn wait(&self, name: &str) -> i64 {
        let answer = self.post(&format!("/containers/{name}/wait"), None).await;
        answer["StatusCode"].as_i64().expect("a code")
    }

    pub async fn logs(&self, name: &str) -> Vec<(u8, String)> {
        let (_, bytes) = self
            .raw("GET", &format!("/containers/{name}/logs?stdout=1&stderr=1"), None)
            .await;
        frames(&bytes)
    }

    pub async fn state(&self, name: &str) -> Value {
        self.get(&format!("/containers/{name}/json")).await["State"].clone()
    }

    /// Takes a connection over.
    pub async fn hijack(&self, path: &str, body: Option<Value>) -> TokioIo<hyper::upgrade::Upgraded> {
        let response = self.send("POST", path, body, true).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS, "{path}");
        TokioIo::new(hyper::upgrade::on(response).await.expect("upgraded"))
    }
}

/// The pieces of a stream that is cut into frames.
pub fn frames(mut bytes: &[u8]) -> Vec<(u8, String)> {
    let mut all = Vec::new();
    while bytes.len() >= 8 {
        let length = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        all.push((bytes[0], String::from_utf8_lossy(&bytes[8..8 + length]).into_owned()));
        bytes = &bytes[8 + length..];
    }
    all
}

fn add_image(images: &ImageStore) {
    let file = |path: &str, source| BuiltinFile {
        path: path.into(),
        source,
        mode: 0o755,
    };
    let mut files = vec![file("bin/busybox", BuiltinSource::Host("/bin/busybox".into()))];
    for name in [
        "sh", "sleep", "cat", "echo", "nslookup", "id", "touch", "httpd", "wget", "kill",
    ] {
        files.push(file(&format!("bin/{name}"), BuiltinSource::Symlink("busybox".into())));
    }
    files.push(file("data/from-image", BuiltinSource::Bytes(b"image\n".to_vec())));
    files.push(file("tmp", BuiltinSource::Directory));
    let config = ImageConfig {
        env: vec!["PATH=/bin".into()],
        cmd: vec!["sh".into()],
        ..ImageConfig::default()
    };
    images
        .add_builtin("docker.io/library/busybox:latest", Builtin { files, config })
        .expect("image");
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
        for item in std::fs::read_dir(self.run_folder()).into_iter().flatten().flatten() {
            let socket = item.path().join("shim.sock");
            if let Ok(connection) = Connection::open(socket.to_str().expect("text")) {
                let _ = connection.shutdown();
            }
        }
        if self.run_folder().exists() {
            let _ = strata_mount::unmount_below(&self.run_folder());
        }
        let _ = strata_net::cleanup(&self.instance);
        if let Ok(layout) = strata_runtime::cgroup::Layout::detect()
            && let Ok(cgroup) = strata_runtime::cgroup::Cgroup::open(&layout, &self.cgroup())
        {
            let _ = cgroup.signal_all(9);
            let _ = cgroup.remove();
        }
    }
}
