//! The server under clients that are many, hasty or broken. Messages are written by hand: what a client sends is bytes.

#[path = "../../engine/tests/support/mod.rs"]
mod support;

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, io::Write};
use strata_cni::{Cni, CniOptions};
use strata_cri::{CgroupDriver, CriError, CriOptions, PodNetworks, Server};
use strata_http::{GrpcClient, GrpcStatus};
use support::{Bench, DEADLINE};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const CONTAINERS: usize = 10_000;

struct Served {
    bench: Bench,
    socket: PathBuf,
    client: GrpcClient,
    cancel: CancellationToken,
    server: JoinHandle<Result<(), CriError>>,
}

fn options(bench: &Bench, socket: &Path) -> CriOptions {
    let folder = bench.folder.path();
    let cni = Cni::open(CniOptions {
        conf_dir: folder.join("net.d"),
        bin_dirs: vec![folder.join("plugins")],
        state_dir: folder.join("cni"),
        namespace_dir: folder.join("netns"),
    });
    CriOptions {
        engine: bench.engine().clone(),
        networks: PodNetworks::Plugins(Arc::new(cni.expect("attachments"))),
        instance: "t".into(),
        cgroup_root: bench.cgroup.clone(),
        cgroup_driver: CgroupDriver::Cgroupfs,
        data_dir: folder.to_owned(),
        socket: socket.to_owned(),
        streaming: "127.0.0.1:0".parse().expect("address"),
        version: "1".into(),
    }
}

async fn serve(bench: Bench) -> Served {
    let socket = bench.folder.path().join("cri.sock");
    let server = Server::open(options(&bench, &socket)).await.expect("server");
    let cancel = CancellationToken::new();
    Served {
        client: GrpcClient::new(socket.to_str().expect("text")),
        server: tokio::spawn(server.run(cancel.clone())),
        bench,
        socket,
        cancel,
    }
}

impl Served {
    async fn call(&self, name: &str, request: &[u8]) -> Result<Vec<u8>, GrpcStatus> {
        let method = format!("/runtime.v1.RuntimeService/{name}");
        let answer = self.client.call(&method, request, DEADLINE).await?;
        Ok(answer.to_vec())
    }

    /// The bench, for those who have to clean up before it goes.
    async fn end(self) -> Bench {
        let socket = self.socket;
        drop(self.client);
        self.cancel.cancel();
        let ended = tokio::time::timeout(DEADLINE, self.server).await;
        ended.expect("in time").expect("no panic").expect("served");
        assert!(!socket.exists(), "the socket is left");
        self.bench
    }
}

/// A message's field that has a length.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend(content);
    out
}

/// How often a message has a field that has a length; it has no others.
fn count(mut message: &[u8], number: u8) -> usize {
    let mut found = 0;
    while let [tag, rest @ ..] = message {
        let (mut length, mut shift, mut at) = (0usize, 0, 0);
        loop {
            length |= usize::from(rest[at] & 0x7f) << shift;
            (shift, at) = (shift + 7, at + 1);
            if rest[at - 1] & 0x80 == 0 {
                break;
            }
        }
        found += usize::from(*tag == (number << 3 | 2));
        message = &rest[at + length..];
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_send_garbage_harm_nobody() {
    let served = serve(Bench::new().await).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // A frame of headers that promises more than comes, and one of a size that nobody sends.
    let half = [preface.as_slice(), &[0, 0, 50, 1, 4, 0, 0, 0, 1, 0x83]].concat();
    let huge = [preface.as_slice(), &[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], &[7; 70_000]].concat();
    let mut held = Vec::new();
    for garbage in [
        b"".as_slice(),
        b"\0",
        b"GET / HTTP/1.1\r\n\r\n",
        &[0xff; 100_000],
        preface,
        &half,
        &huge,
    ] {
        for _ in 0..20 {
            let mut stream = UnixStream::connect(&served.socket).expect("connected");
            // The server may have heard enough.
            let _ = stream.write_all(garbage);
            held.push(stream);
        }
    }
    served.call("Version", b"").await.expect("answered beside them");
    drop(held);
    for (name, request, code) in [
        ("Nonsense", b"".as_slice(), GrpcStatus::UNIMPLEMENTED),
        ("RunPodSandbox", b"\xff\xff\xff", GrpcStatus::INTERNAL),
        ("RunPodSandbox", b"", GrpcStatus::INVALID_ARGUMENT),
        ("RunPodSandbox", &field(1, b""), GrpcStatus::INVALID_ARGUMENT),
        ("CreateContainer", b"", GrpcStatus::INVALID_ARGUMENT),
        (
            "CreateContainer",
            &field(2, &field(1, b"")),
            GrpcStatus::INVALID_ARGUMENT,
        ),
        ("PodSandboxStatus", &field(1, b"absent"), GrpcStatus::NOT_FOUND),
        ("ContainerStatus", &field(1, b"../../etc"), GrpcStatus::NOT_FOUND),
        ("ContainerStatus", b"", GrpcStatus::INVALID_ARGUMENT),
        ("ExecSync", &field(1, b"absent"), GrpcStatus::NOT_FOUND),
        ("Exec", b"", GrpcStatus::INVALID_ARGUMENT),
        ("PortForward", &field(1, b"absent"), GrpcStatus::NOT_FOUND),
        ("UpdatePodSandboxResources", &field(1, b"absent"), GrpcStatus::NOT_FOUND),
        ("CheckpointContainer", &field(1, b"absent"), GrpcStatus::NOT_FOUND),
    ] {
        let refused = served.call(name, request).await.expect_err(name);
        assert_eq!(refused.code, code, "{name}: {refused}");
    }
    for name in ["StopPodSandbox", "RemovePodSandbox", "StopContainer", "RemoveContainer"] {
        served.call(name, &field(1, b"absent")).await.expect("nothing to do");
    }
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_does_not_take_the_first_ones_socket() {
    let served = serve(Bench::new().await).await;
    let second = Server::open(options(&served.bench, &served.socket)).await;
    assert!(matches!(second, Err(CriError::InUse(_))), "{:?}", second.err());
    served.call("Version", b"").await.expect("the first one answers");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kubelets_range_of_pods_is_kept() {
    let served = serve(Bench::new().await).await;
    let range = |text: &str| field(1, &field(1, &field(1, text.as_bytes())));
    served
        .call("UpdateRuntimeConfig", &range("10.1.0.0/24,fd00::/64"))
        .await
        .expect("a range");
    let refused = served.call("UpdateRuntimeConfig", &range("nonsense")).await;
    assert_eq!(refused.expect_err("nonsense").code, GrpcStatus::INVALID_ARGUMENT);
    served.call("UpdateRuntimeConfig", b"").await.expect("nothing to do");
    let told = strata_cri::told_range(served.bench.folder.path()).expect("kept");
    assert_eq!(told.to_string(), "10.1.0.0/24");
    served.end().await;
}

/// A pod with the host's network: its mode is a number, which [`field`] has not.
fn host_pod() -> Vec<u8> {
    let metadata = [field(1, b"pod"), field(2, b"uid"), field(3, b"default")].concat();
    let linux = field(2, &field(1, &[1 << 3, 2]));
    field(1, &[field(1, &metadata), field(8, &linux)].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_a_pod_that_is_nobody_elses_change_while_it_runs() {
    let served = serve(Bench::new().await).await;
    let answer = served.call("RunPodSandbox", &host_pod()).await.expect("a pod");
    let id = answer[2..].to_vec();
    let taken = served
        .call("RunPodSandbox", &host_pod())
        .await
        .expect_err("its name is taken");
    assert_eq!(taken.code, GrpcStatus::ALREADY_EXISTS);
    let bytes: u64 = 64 << 20;
    // memory_limit_in_bytes, as a number of seven bits a byte.
    let limit = [4 << 3, 0x80, 0x80, 0x80, 0x20];
    let update = [field(1, &id), field(3, &limit)].concat();
    served
        .call("UpdatePodSandboxResources", &update)
        .await
        .expect("changed");
    let layout = strata_runtime::cgroup::Layout::detect().expect("cgroups");
    let memory = layout.hierarchy("memory").expect("memory");
    let pods = PathBuf::from(memory.directory(&served.bench.cgroup));
    let pod = support::names(&pods).into_iter().find(|name| name.starts_with("pod"));
    let pod = pods.join(pod.expect("the pod's cgroup"));
    let file = ["memory.limit_in_bytes", "memory.max"].map(|name| pod.join(name));
    let file = file.into_iter().find(|path| path.exists()).expect("a limit");
    assert_eq!(fs::read_to_string(file).expect("read").trim(), bytes.to_string());
    for name in ["StopPodSandbox", "UpdatePodSandboxResources", "RemovePodSandbox"] {
        let answer = served.call(name, &update[..id.len() + 2]).await;
        let refused = name == "UpdatePodSandboxResources";
        assert_eq!(answer.is_err(), refused, "{name}: {answer:?}");
    }
    assert!(!pod.exists(), "the pod's cgroup is left");
    served.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_containers_are_listed_in_good_time() {
    let mut bench = Bench::new().await;
    bench.engine = None;
    // In memory: making so many files on a disk takes longer than all the rest.
    let root = bench.folder.path().join("engine");
    strata_mount::mount_tmpfs(&root, None).expect("tmpfs");
    write_records(&root);
    bench.open().await;
    let served = serve(bench).await;
    // Read once, from memory then.
    served.call("ListContainers", b"").await.expect("listed");
    let begun = Instant::now();
    let all = served.call("ListContainers", b"").await.expect("listed");
    let took = begun.elapsed();
    assert_eq!(count(&all, 1), CONTAINERS);
    // Some 100 ms in a program that is not optimised.
    assert!(took < Duration::from_secs(5), "{took:?}");
    let one = served.call("ListContainers", &field(1, &field(1, b"c00007"))).await;
    assert_eq!(count(&one.expect("listed"), 1), 1);
    let stats = served.call("ListPodSandboxStats", b"").await.expect("listed");
    assert_eq!(count(&stats, 1), 0, "the sandbox is not ready");
    let _bench = served.end().await;
    strata_mount::unmount(&root).expect("unmounted");
}

/// A stopped sandbox with many ended containers, as an earlier process left them.
fn write_records(root: &Path) {
    let time = r#"{"secs_since_epoch":1,"nanos_since_epoch":0}"#;
    let sandbox = root.join("sandboxes/s");
    fs::create_dir_all(&sandbox).expect("folder");
    let record = format!(
        r#"{{"id":"s","namespace":"n","name":"p","uid":"u","attempt":0,"hostname":"h","log_dir":"/l","network":"None",
        "host_pid":false,"host_ipc":false,"cgroup_parent":"/strata-none/p","created_at":{time},"stopped":true}}"#
    );
    fs::write(sandbox.join("sandbox.json"), record).expect("record");
    // ContainerMemo { request { config { metadata { name } } } }
    let memo = field(1, &field(2, &field(1, &field(1, b"name"))));
    let memo = base64(&memo);
    for number in 0..CONTAINERS {
        let id = format!("c{number:05}");
        let folder = root.join("containers").join(&id);
        fs::create_dir_all(&folder).expect("folder");
        let record = format!(
            r#"{{"record":{{"id":"{id}","sandbox_id":"s","name":"c","attempt":{number},"created_at":{time},"image":"i",
            "image_id":"i","stop_signal":15,"cgroup":"/strata-none/p/{id}","log_path":"","tty":false,"stdin":false,
            "memo":"{memo}"}},"life":{{"state":"Exited","exit_code":0}}}}"#
        );
        fs::write(folder.join("container.json"), record).expect("record");
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    STANDARD.encode(bytes)
}
