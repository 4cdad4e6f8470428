//! What becomes of pods that the node refuses, changes while they run, begins anew, or runs by itself.

use strata_e2e::{Registry, Server, build_busybox, eventually};

const HELLO: &str = "strata.local/hello";

#[test]
fn a_pod_that_does_not_fit_on_its_node_is_refused_with_the_reason() {
    let server = Server::start(&[]);
    let k = server.kubectl();
    let node = k.ok("get nodes -o jsonpath={.items[0].metadata.name}");
    let bound = |name: &str, spec: &str| {
        k.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{nodeName: {node}, {spec}}}\n"
        ));
        k.until(&format!("get pod {name} -o jsonpath={{.status.phase}}"), |out| {
            out == "Failed"
        });
        k.ok(&format!(
            "get pod {name} -o jsonpath={{.status.reason}}:{{.status.message}}"
        ))
    };
    let containers = format!("containers: [{{name: c, image: {HELLO}}}]");
    let large = format!("containers: [{{name: c, image: {HELLO}, resources: {{requests: {{cpu: 1k}}}}}}]");
    let said = bound("large", &large);
    assert!(
        said.starts_with(
            "OutOfcpu:Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: "
        ),
        "{said}"
    );
    assert_eq!(
        bound("elsewhere", &format!("nodeSelector: {{disk: fast}}, {containers}")),
        "NodeAffinity:Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    );
    assert_eq!(
        bound(
            "unsafe",
            &format!("securityContext: {{sysctls: [{{name: kernel.msgmax, value: '1'}}]}}, {containers}")
        ),
        "SysctlForbidden:Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted"
    );
    let ported =
        format!("containers: [{{name: c, image: {HELLO}, ports: [{{containerPort: 8080, hostPort: 18080}}]}}]");
    k.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: first}}\nspec: {{{ported}}}\n"
    ));
    k.ok("wait --for=condition=Ready pod/first --timeout=60s");
    let said = bound("second", &ported);
    assert!(said.starts_with("NodePorts:"), "{said}");
    assert!(k.ok("get events").contains("NodePorts"));
}

#[test]
fn ports_of_the_node_lead_to_a_pod_while_it_is_there() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    let pod = |name: &str, address: &str| {
        k.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{terminationGracePeriodSeconds: 1, containers: [{{name: c, image: {image}, \
             command: [sh, -c, 'mkdir /w; echo {name} > /w/index.html; exec httpd -f -p 80 -h /w'], \
             ports: [{{containerPort: 80, hostPort: 18090, hostIP: {address}}}]}}]}}\n"
        ));
        k.ok(&format!("wait --for=condition=Ready pod/{name} --timeout=60s"));
    };
    pod("one", "127.0.0.1");
    pod("two", "127.0.0.2");
    assert_eq!(answer("127.0.0.1:18090"), "one");
    assert_eq!(answer("127.0.0.2:18090"), "two");
    k.ok("delete pod one");
    let refused = std::net::TcpStream::connect("127.0.0.1:18090").map_err(|e| e.kind());
    assert_eq!(refused.err(), Some(std::io::ErrorKind::ConnectionRefused));
    assert_eq!(answer("127.0.0.2:18090"), "two");
}

/// The body that a server answers with, once it does.
fn answer(address: &str) -> String {
    use std::io::{Read, Write};
    eventually(address, || {
        let mut stream = std::net::TcpStream::connect(address).map_err(|e| e.to_string())?;
        stream
            .write_all(b"GET /index.html HTTP/1.0\r\n\r\n")
            .map_err(|e| e.to_string())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.to_string())?;
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.trim().to_owned());
        body.ok_or_else(|| format!("no answer but {text:?}"))
    })
}

#[test]
fn a_running_pod_is_debugged_and_so_is_its_node() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{containers: [{{name: c, image: {image}, command: [sleep, '1234']}}]}}\n"
    ));
    k.ok("wait --for=condition=Ready pod/web --timeout=60s");
    k.ok(&format!(
        "debug web --image={image} --target=c -c look --profile=general -- sh -c 'ps; hostname'"
    ));
    k.until(
        "get pod web -o jsonpath={.status.ephemeralContainerStatuses[0].state.terminated.reason}",
        |out| out == "Completed",
    );
    let logs = k.ok("logs web -c look");
    assert!(logs.contains("sleep 1234") && logs.contains("web"), "{logs}");
    // It is never started again, and the pod goes on.
    assert_eq!(
        k.ok("get pod web -o jsonpath={.status.ephemeralContainerStatuses[0].restartCount}:{.status.phase}"),
        "0:Running"
    );
    let node = k.ok("get nodes -o jsonpath={.items[0].metadata.name}");
    let said = k.ok(&format!(
        "debug node/{node} --image={image} --profile=sysadmin -- ls /host/etc/hostname"
    ));
    let pod = said
        .split_whitespace()
        .find(|word| word.starts_with("node-debugger-"))
        .expect("the pod's name");
    k.until(&format!("get pod {pod} -o jsonpath={{.status.phase}}"), |out| {
        out == "Succeeded"
    });
    assert!(k.ok(&format!("logs {pod}")).contains("/host/etc/hostname"));
}

#[test]
fn resources_change_in_place_or_wait_for_room() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: {image}, command: [sleep, '1000'], \
         resizePolicy: [{{resourceName: memory, restartPolicy: RestartContainer}}], \
         resources: {{requests: {{cpu: 50m, memory: 20Mi}}, limits: {{cpu: 100m, memory: 40Mi}}}}}}]}}\n"
    ));
    k.ok("wait --for=condition=Ready pod/web --timeout=60s");
    let resize = |resources: &str| {
        k.ok(&format!(
            "patch pod web --subresource resize --patch '{{\"spec\":{{\"containers\":[{{\"name\":\"c\",\"resources\":{resources}}}]}}}}'"
        ));
    };
    let status = "get pod web -o jsonpath={.status.containerStatuses[0].resources.limits.cpu}:{.status.containerStatuses[0].resources.limits.memory}:{.status.containerStatuses[0].restartCount}";
    resize(r#"{"limits":{"cpu":"200m"}}"#);
    k.until(status, |out| out == "200m:40Mi:0");
    let quota =
        "exec web -- sh -c 'cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null || true'";
    assert!(k.ok(quota).contains("20000"));
    resize(r#"{"limits":{"memory":"50Mi"}}"#);
    k.until(status, |out| out == "200m:50Mi:1");
    resize(r#"{"requests":{"cpu":"900"},"limits":{"cpu":"900"}}"#);
    let pending = "get pod web -o jsonpath={.status.conditions[?(@.type==\"PodResizePending\")].reason}";
    k.until(pending, |out| out == "Deferred");
    resize(r#"{"requests":{"cpu":"60m"},"limits":{"cpu":"300m"}}"#);
    k.until(status, |out| out == "300m:50Mi:1");
    k.until(pending, str::is_empty);
    let events = k.ok("get events");
    for reason in ["ResizeStarted", "ResizeCompleted", "ResizeDeferred"] {
        assert!(events.contains(reason), "{reason} is not in\n{events}");
    }
}

#[test]
fn a_rule_has_a_container_or_all_of_them_run_again() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    // Fails with the code of the rule the first time, and ends well the second.
    let twice = "test -e /w/$NAME && exit 0; touch /w/$NAME; exit $CODE";
    let container = |name: &str, code: u32, action: &str| {
        format!(
            "{{name: {name}, image: {image}, command: [sh, -c, '{twice}'], env: [{{name: NAME, value: {name}}}, {{name: CODE, value: '{code}'}}], \
             volumeMounts: [{{name: w, mountPath: /w}}], restartPolicy: Never, \
             restartPolicyRules: [{{action: {action}, exitCodes: {{operator: In, values: [{code}]}}}}]}}"
        )
    };
    let init = format!(
        "{{name: init, image: {image}, command: [sh, -c, 'echo x >> /w/inits'], volumeMounts: [{{name: w, mountPath: /w}}]}}"
    );
    for (pod, action, restarts) in [("one", "Restart", "1:0"), ("all", "RestartAllContainers", "1:1")] {
        k.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {pod}}}\nspec: {{restartPolicy: Never, initContainers: [{init}], \
             containers: [{}], volumes: [{{name: w, emptyDir: {{}}}}]}}\n",
            container("main", 42, action)
        ));
        k.until(&format!("get pod {pod} -o jsonpath={{.status.phase}}"), |out| {
            out == "Succeeded"
        });
        let counts = k.ok(&format!(
            "get pod {pod} -o jsonpath={{.status.containerStatuses[0].restartCount}}:{{.status.initContainerStatuses[0].restartCount}}"
        ));
        assert_eq!(counts, restarts, "{pod}");
    }
}

#[test]
fn a_node_runs_the_pods_of_its_own_folder_and_shows_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let manifest = |greeting: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: own, labels: {{greeting: {greeting}}}}}\nspec: {{terminationGracePeriodSeconds: 0, containers: [{{name: c, image: {HELLO}, imagePullPolicy: IfNotPresent}}]}}\n"
        )
    };
    let path = folder.path().join("own.yaml");
    std::fs::write(&path, manifest("one")).expect("written");
    let server = Server::start(&["--pod-manifest-path", folder.path().to_str().expect("text")]);
    let k = server.kubectl();
    let node = k.ok("get nodes -o jsonpath={.items[0].metadata.name}");
    let name = format!("own-{node}");
    let uid = format!("get pod {name} -o jsonpath={{.metadata.uid}}");
    k.until("get pods -o name", |out| out.contains(&name));
    k.ok(&format!("wait --for=condition=Ready pod/{name} --timeout=60s"));
    assert!(!k.ok(&format!("logs {name}")).is_empty());
    // A mirror that is deleted comes back; what runs goes on.
    let before = k.ok(&uid);
    k.ok(&format!("delete pod {name} --wait=false"));
    k.until("get pods -o jsonpath={.items[*].metadata.uid}", |out| {
        !out.is_empty() && !out.contains(&before)
    });
    k.ok(&format!("wait --for=condition=Ready pod/{name} --timeout=60s"));
    assert_eq!(
        k.ok(&format!(
            "get pod {name} -o jsonpath={{.status.containerStatuses[0].restartCount}}"
        )),
        "0"
    );
    std::fs::write(&path, manifest("two")).expect("written");
    k.until("get pods -l greeting=two -o name", |out| out.contains(&name));
    k.ok(&format!("wait --for=condition=Ready pod/{name} --timeout=60s"));
    std::fs::remove_file(&path).expect("removed");
    k.until("get pods -o name", |out| !out.contains(&name));
}

#[test]
fn a_pod_has_users_of_its_own() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.ok("create configmap settings --from-literal=color=blue");
    k.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: apart}}\nspec: {{hostUsers: false, restartPolicy: Never, hostnameOverride: other.example, containers: [{{name: c, image: {image}, \
         command: [sh, -ec, 'cat /proc/self/uid_map; touch /w/a; stat -c %u /w/a /settings/color; cat /settings/color; hostname'], \
         volumeMounts: [{{name: w, mountPath: /w}}, {{name: s, mountPath: /settings}}]}}], \
         volumes: [{{name: w, emptyDir: {{}}}}, {{name: s, configMap: {{name: settings}}}}]}}\n"
    ));
    let phase = k.until("get pod apart -o jsonpath={.status.phase}", |out| {
        out == "Succeeded" || out == "Failed"
    });
    let logs = k.ok("logs apart");
    assert_eq!(phase, "Succeeded", "{logs}");
    let words: Vec<&str> = logs.split_whitespace().collect();
    assert_eq!(words, ["0", "65536", "65536", "0", "0", "blueother.example"]);
}
