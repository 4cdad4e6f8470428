//! Devices of plugins, processors for containers alone, and the order in which a machine that goes down ends its pods.

use bytes::Bytes;
use futures::future::BoxFuture;
use std::{path::Path, sync::Arc, time::Duration};
use strata_e2e::{Registry, Server, build_busybox};
use strata_http::{GrpcAnswer, GrpcClient, GrpcService, GrpcStatus, serve_grpc};
use strata_task::CancellationToken;
use tokio::{net::UnixListener, runtime::Runtime, sync::mpsc};

const RESOURCE: &str = "example.com/thing";

/// A field of a protobuf message that holds text or a message.
fn field(number: u8, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let length = u8::try_from(content.len()).expect("short messages only");
    assert!(length < 128, "short messages only");
    [&[number << 3 | 2, length], content].concat()
}

/// A device plugin of two things, one of them broken.
struct Plugin;

impl GrpcService for Plugin {
    fn call(self: Arc<Self>, method: String, message: Bytes) -> BoxFuture<'static, Result<GrpcAnswer, GrpcStatus>> {
        Box::pin(async move {
            match method.as_str() {
                "/v1beta1.DevicePlugin/ListAndWatch" => {
                    let device = |id: &str, health: &str| field(1, [field(1, id), field(2, health)].concat());
                    let both = [device("one", "Healthy"), device("two", "Unhealthy")].concat();
                    let (sender, receiver) = mpsc::channel(1);
                    tokio::spawn(async move {
                        sender.send(Ok(both.into())).await.expect("a node that listens");
                        sender.closed().await;
                    });
                    Ok(GrpcAnswer::Many(receiver))
                }
                "/v1beta1.DevicePlugin/Allocate" => {
                    assert!(message.windows(3).any(|bytes| bytes == b"one"), "{message:?}");
                    let variable = field(1, [field(1, "THING"), field(2, "one")].concat());
                    let node = [field(1, "/dev/thing"), field(2, "/dev/null"), field(3, "rw")].concat();
                    Ok(GrpcAnswer::One(field(1, [variable, field(3, node)].concat()).into()))
                }
                _ => Err(GrpcStatus::new(GrpcStatus::UNIMPLEMENTED, method)),
            }
        })
    }
}

/// Starts the plugin and tells the node of it; it ends with the token.
fn start_plugin(runtime: &Runtime, folder: &Path) -> CancellationToken {
    let cancel = CancellationToken::new();
    std::fs::create_dir_all(folder).expect("the folder of plugins");
    let socket = folder.join("thing.sock");
    // One that ended before leaves its socket.
    let _ = std::fs::remove_file(&socket);
    runtime.block_on(async {
        let listener = UnixListener::bind(&socket).expect("a socket");
        tokio::spawn(serve_grpc(listener, cancel.clone(), Arc::new(Plugin)));
        let node = GrpcClient::new(folder.join("kubelet.sock").to_string_lossy());
        let message = [field(1, "v1beta1"), field(2, "thing.sock"), field(3, RESOURCE)].concat();
        let registered = node
            .call("/v1beta1.Registration/Register", &message, Duration::from_secs(10))
            .await;
        registered.expect("registered");
    });
    cancel
}

#[test]
fn a_plugins_device_goes_to_one_container_at_a_time_and_comes_back_with_its_plugin() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    let runtime = Runtime::new().expect("a runtime");
    let data = server.data_dir();
    let plugin = start_plugin(&runtime, &data.join("device-plugins"));
    let has = |what: &str| format!("get nodes -o jsonpath={{.items[0].status.{what}.example\\.com/thing}}");
    k.until(&has("allocatable"), |out| out == "1");
    k.until(&has("capacity"), |out| out == "2");
    let pod = |name: &str, node: &str| {
        k.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  {node}\n  terminationGracePeriodSeconds: 0\n  containers:\n  \
             - name: c\n    image: {image}\n    command: [sh, -c, 'echo $THING; test -c /dev/thing && echo there; sleep 1000000']\n    \
             resources: {{limits: {{{RESOURCE}: 1}}}}\n"
        ));
    };
    pod("first", "");
    k.until("logs first", |out| out == "one\nthere\n");
    let lister = GrpcClient::new(data.join("pod-resources/kubelet.sock").to_string_lossy());
    let listed = runtime.block_on(lister.call("/v1.PodResourcesLister/List", &[], Duration::from_secs(10)));
    let listed = String::from_utf8_lossy(&listed.expect("listed")).into_owned();
    assert!(
        listed.contains("first") && listed.contains(RESOURCE) && listed.contains("one"),
        "{listed}"
    );

    // Bound past the scheduler, a second one is refused.
    let name = k.ok("get nodes -o jsonpath={.items[0].metadata.name}");
    pod("second", &format!("nodeName: {name}"));
    let why = "get pod second -o jsonpath={.status.phase}:{.status.reason}";
    k.until(why, |out| {
        out == "Failed:UnexpectedAdmissionError" || out == format!("Failed:OutOf{RESOURCE}")
    });

    plugin.cancel();
    k.until(&has("allocatable"), |out| out == "0");
    let _again = start_plugin(&runtime, &data.join("device-plugins"));
    k.until(&has("allocatable"), |out| out == "1");
    k.ok("delete pod first second");
    pod("third", "");
    k.until("logs third", |out| out == "one\nthere\n");
}

#[test]
fn a_guaranteed_container_has_its_processor_alone() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("kubelet.yaml");
    std::fs::write(
        &settings,
        "cpuManagerPolicy: static\nreservedSystemCPUs: '0'\nevictionHard: {}\n",
    )
    .expect("settings");
    let server = Server::start(&["--kubelet-config", settings.to_str().expect("a path")]);
    let k = server.kubectl();
    let pod = |name: &str, resources: &str| {
        k.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  \
             - {{name: c, image: {image}, command: [sleep, '1000000'], resources: {{{resources}}}}}\n"
        ));
        k.until(&format!("get pod {name} -o jsonpath={{.status.phase}}"), |out| {
            out == "Running"
        });
    };
    let allowed = |name: &str| format!("exec {name} -- grep Cpus_allowed_list /proc/1/status");
    pod("shares", "");
    pod("alone", "limits: {cpu: 1, memory: 64Mi}");
    let own = k.ok(&allowed("alone"));
    let own = own.rsplit('\t').next().expect("a list").trim().to_owned();
    assert!(own.parse::<u32>().is_ok_and(|cpu| cpu > 0), "{own:?}");
    k.until(&allowed("shares"), |out| !out.contains(&own));
    k.ok("delete pod alone");
    pod("again", "limits: {cpu: 1, memory: 64Mi}");
    assert!(k.ok(&allowed("again")).trim_end().ends_with(&own));
}

#[test]
fn a_machine_that_goes_down_ends_its_pods_first() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let folder = tempfile::tempdir().expect("a folder");
    let settings = folder.path().join("kubelet.yaml");
    std::fs::write(&settings, "shutdownGracePeriod: 20s\nevictionHard: {}\n").expect("settings");
    let flags = ["--kubelet-config", settings.to_str().expect("a path")];
    let mut server = Server::start(&flags);
    let k = server.kubectl();
    k.ok(&format!("run polite --image={image} --restart=Never --command -- sh -c 'trap \"exit 0\" TERM; while :; do sleep 0.1; done'"));
    k.until("get pod polite -o jsonpath={.status.phase}", |out| out == "Running");
    assert_eq!(server.stop(), 0);
    server.launch();
    let why = "get pod polite -o jsonpath={.status.phase}:{.status.reason}:{.status.message}";
    let expected = "Failed:Terminated:Pod was terminated in response to imminent node shutdown.";
    assert_eq!(server.kubectl().until(why, |out| out.starts_with("Failed")), expected);
}
