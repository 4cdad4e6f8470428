//! What pods are given, and what becomes of those that cannot run.

use strata_e2e::{Registry, Server, build_busybox};

#[test]
fn a_pod_sees_its_environment_volumes_names_and_token() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.ok("create configmap settings --from-literal=color=blue");
    k.ok("create secret generic keys --from-literal=pin=1234");
    k.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: full, labels: {{app: full}}}}
spec:
  restartPolicy: Never
  initContainers:
  - {{name: first, image: {image}, command: [sh, -c, "echo init > /scratch/made"], volumeMounts: [{{name: work, mountPath: /scratch}}]}}
  containers:
  - name: main
    image: {image}
    command: [sh, -ec]
    args:
    - |
      echo color=$COLOR pin=$PIN pod=$POD ip=$IP cpu=$CPU expanded=$(POD)
      cat /scratch/made /settings/color /keys/pin /info/labels; echo
      stat -L -c %a /keys/pin
      test -s /var/run/secrets/kubernetes.io/serviceaccount/token && echo token
      nslookup kubernetes.default.svc.cluster.local | tail -n +3
      nslookup kube-dns.kube-system | tail -n +3
      grep full /etc/hosts
    env:
    - {{name: COLOR, valueFrom: {{configMapKeyRef: {{name: settings, key: color}}}}}}
    - {{name: PIN, valueFrom: {{secretKeyRef: {{name: keys, key: pin}}}}}}
    - {{name: POD, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}
    - {{name: IP, valueFrom: {{fieldRef: {{fieldPath: status.podIP}}}}}}
    - {{name: CPU, valueFrom: {{resourceFieldRef: {{resource: limits.cpu}}}}}}
    resources: {{limits: {{cpu: "1", memory: 64Mi}}}}
    volumeMounts:
    - {{name: work, mountPath: /scratch}}
    - {{name: settings, mountPath: /settings}}
    - {{name: keys, mountPath: /keys}}
    - {{name: info, mountPath: /info}}
  volumes:
  - {{name: work, emptyDir: {{}}}}
  - {{name: settings, configMap: {{name: settings}}}}
  - {{name: keys, secret: {{secretName: keys, defaultMode: 0400}}}}
  - {{name: info, downwardAPI: {{items: [{{path: labels, fieldRef: {{fieldPath: metadata.labels}}}}]}}}}
"#
    ));
    k.until("get pod full -o jsonpath={.status.phase}", |out| {
        out == "Succeeded" || out == "Failed"
    });
    let logs = k.ok("logs full");
    let phase = k.ok("get pod full -o jsonpath={.status.phase}");
    assert_eq!(phase, "Succeeded", "{logs}\n{}", k.ok("describe pod full"));
    let ip = k.ok("get pod full -o jsonpath={.status.podIP}");
    for expected in [
        format!("color=blue pin=1234 pod=full ip={ip} cpu=1 expanded=full"),
        "init\nblue1234app=\"full\"".to_owned(),
        "\n400\n".to_owned(),
        "token".to_owned(),
        "10.96.".to_owned(),
        format!("{ip}\tfull"),
    ] {
        assert!(logs.contains(&expected), "{expected:?} is not in\n{logs}");
    }
}

#[test]
fn a_pod_that_cannot_run_says_why() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    let waiting = |pod: &str, field: &str| {
        format!("get pod {pod} -o jsonpath={{.status.containerStatuses[0].state.waiting.{field}}}")
    };

    k.ok(&format!("run absent --image={}/nothing:1", registry.address()));
    k.until(&waiting("absent", "reason"), |out| {
        out == "ErrImagePull" || out == "ImagePullBackOff"
    });
    assert!(k.ok(&waiting("absent", "message")).contains("not found"));

    k.ok("run down --image=localhost:1/nothing:1");
    k.until(&waiting("down", "message"), |out| out.contains("refused"));

    k.apply("apiVersion: v1\nkind: Pod\nmetadata: {name: name}\nspec: {containers: [{name: name, image: \"Bad_NAME:::\"}]}\n");
    k.until(&waiting("name", "reason"), |out| out == "InvalidImageName");

    k.ok(&format!("run command --image={image} --command -- /no/such/program"));
    k.until(&waiting("command", "reason"), |out| out == "CrashLoopBackOff");
    let why = k.ok("get pod command -o jsonpath={.status.containerStatuses[0].lastState.terminated.message}");
    assert!(why.contains("/no/such/program"), "{why}");

    k.ok(&format!("run crash --image={image} --command -- sh -c 'exit 3'"));
    k.until(&waiting("crash", "reason"), |out| out == "CrashLoopBackOff");
    let code = k.ok("get pod crash -o jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}");
    assert_eq!(code, "3");

    k.ok("run map --image=strata.local/hello --image-pull-policy=IfNotPresent --overrides '{\"spec\":{\"containers\":[{\"name\":\"map\",\"image\":\"strata.local/hello\",\"envFrom\":[{\"configMapRef\":{\"name\":\"none\"}}]}]}}'");
    k.until(&waiting("map", "reason"), |out| out == "CreateContainerConfigError");
    assert!(
        k.ok(&waiting("map", "message"))
            .contains("configmap \"none\" not found")
    );
}

#[test]
fn probes_decide_about_readiness_and_restarts() {
    let registry = Registry::start();
    let image = build_busybox().push(&registry, "busybox:1");
    let server = Server::start(&[]);
    let k = server.kubectl();
    k.apply(&format!(
        r#"
apiVersion: v1
kind: Pod
metadata: {{name: sick}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: sick
    image: {image}
    command: [sh, -c, "touch /tmp/live; sleep 1000"]
    livenessProbe: {{exec: {{command: [test, -e, /tmp/live]}}, periodSeconds: 1, failureThreshold: 1}}
    readinessProbe: {{exec: {{command: [test, -e, /tmp/ready]}}, periodSeconds: 1}}
"#
    ));
    k.until("get pod sick -o jsonpath={.status.phase}", |out| out == "Running");
    assert_eq!(
        k.ok("get pod sick -o jsonpath={.status.containerStatuses[0].ready}"),
        "false"
    );
    k.ok("exec sick -- touch /tmp/ready");
    k.ok("wait --for=condition=Ready pod/sick --timeout=30s");
    k.ok("exec sick -- rm /tmp/live");
    k.until(
        "get pod sick -o jsonpath={.status.containerStatuses[0].restartCount}",
        |out| out == "1",
    );
    assert!(k.ok("get events").contains("Unhealthy"));
}
