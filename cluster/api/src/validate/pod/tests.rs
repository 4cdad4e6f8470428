//! What is said about pods that upstream refuses.

use super::*;
use serde_json::{Value, json};

fn defaulted(spec: Value) -> Value {
    let mut pod =
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": spec});
    let gvk = strata_meta::GroupVersionKind::new("", "v1", "Pod");
    strata_schema::normalise(&gvk, &mut pod).expect("decodes");
    strata_schema::apply_defaults(&gvk, &mut pod);
    pod
}

fn said(spec: Value) -> Vec<String> {
    let pod = defaulted(spec);
    let mut causes = Vec::new();
    super::pod(&Field::root(&pod), &mut causes);
    pod_create(&Field::root(&pod), &mut causes);
    causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
}

/// A spec with one container that has more members.
fn with(container: Value) -> Value {
    let mut base = json!({"name": "c", "image": "i"});
    for (name, value) in container.as_object().into_iter().flatten() {
        base[name] = value.clone();
    }
    json!({"containers": [base], "volumes": [{"name": "v"}]})
}

fn check(table: Vec<(Value, Vec<&str>)>) {
    for (spec, expected) in table {
        assert_eq!(said(spec.clone()), expected, "{spec}");
    }
}

#[test]
fn containers_are_checked_member_by_member() {
    check(vec![
        (with(json!({})), vec![]),
        (json!({"containers": []}), vec!["spec.containers: Required value"]),
        (
            json!({"containers": [{"name": "A"}]}),
            vec![
                "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
                "spec.containers[0].image: Required value",
            ],
        ),
        (
            with(json!({"image": " i"})),
            vec!["spec.containers[0].image: Invalid value: \" i\": must not have leading or trailing whitespace"],
        ),
        (
            json!({"containers": [{"name": "a", "image": "i"}, {"name": "a", "image": "i"}]}),
            vec!["spec.containers[1].name: Duplicate value: \"a\""],
        ),
        (
            with(json!({"imagePullPolicy": "Maybe"})),
            vec![
                "spec.containers[0].imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            with(json!({"ports": [{"containerPort": 0}, {"containerPort": 70000, "protocol": "X"}]})),
            vec![
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                "spec.containers[0].ports[1].protocol: Unsupported value: \"X\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
            ],
        ),
        (
            with(json!({"ports": [{"containerPort": 1, "hostPort": 5}, {"containerPort": 2, "hostPort": 5}]})),
            vec!["spec.containers[0].ports[1].hostPort: Duplicate value: \"TCP//5\""],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i"}], "initContainers": [{"name": "c", "image": "i", "readinessProbe": {"tcpSocket": {"port": 1}}}]}),
            vec![
                "spec.initContainers[0].name: Duplicate value: \"c\"",
                "spec.initContainers[0].readinessProbe: Forbidden: may not be set for init containers without restartPolicy=Always",
            ],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i"}], "ephemeralContainers": [{"name": "d", "image": "i"}]}),
            vec!["spec.ephemeralContainers: Forbidden: cannot be set on create"],
        ),
    ]);
}

#[test]
fn probes_and_environment_are_checked() {
    check(vec![
        (
            with(json!({"livenessProbe": {}})),
            vec!["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            with(
                json!({"livenessProbe": {"httpGet": {"port": "BAD_PORT"}, "exec": {"command": ["x"]}, "successThreshold": 2}}),
            ),
            vec![
                "spec.containers[0].livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
                "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            ],
        ),
        (
            with(json!({"readinessProbe": {"tcpSocket": {"port": 0}, "periodSeconds": -1}})),
            vec![
                "spec.containers[0].readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
        (
            with(
                json!({"env": [{"name": ""}, {"name": "a=b"}, {"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            ),
            vec![
                "spec.containers[0].env[0].name: Required value",
                "spec.containers[0].env[1].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
                "spec.containers[0].env[2].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
            ],
        ),
        (
            with(
                json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.foo"}}}, {"name": "B", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]}),
            ),
            vec![
                "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.foo\": error converting fieldPath: field label not supported: spec.foo",
                "spec.containers[0].env[1].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.gpu\": supported values: \"limits.cpu\", \"limits.ephemeral-storage\", \"limits.memory\", \"requests.cpu\", \"requests.ephemeral-storage\", \"requests.memory\"",
            ],
        ),
        (
            with(json!({"lifecycle": {"preStop": {"sleep": {"seconds": 99}}}})),
            vec![
                "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 99: must be non-negative and less than terminationGracePeriodSeconds (30)",
            ],
        ),
    ]);
}

#[test]
fn resources_are_checked() {
    check(vec![
        (
            with(json!({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}})),
            vec![
                "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ],
        ),
        (
            with(json!({"resources": {"limits": {"cpus": "1"}, "requests": {"memory": "-1"}}})),
            vec![
                "spec.containers[0].resources.limits[cpus]: Invalid value: \"cpus\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.limits[cpus]: Invalid value: \"cpus\": must be a standard resource for containers",
                "spec.containers[0].resources.requests[cpus]: Invalid value: \"cpus\": must be a standard resource type or fully qualified",
                "spec.containers[0].resources.requests[cpus]: Invalid value: \"cpus\": must be a standard resource for containers",
                "spec.containers[0].resources.requests[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            with(json!({"resources": {"requests": {"example.com/gpu": "1"}}})),
            vec![
                "spec.containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources",
            ],
        ),
    ]);
}

#[test]
fn volumes_and_mounts_are_checked() {
    let volumes = |volumes: Value| json!({"containers": [{"name": "c", "image": "i"}], "volumes": volumes});
    check(vec![
        (
            with(json!({"volumeMounts": [{"name": "w", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}]})),
            vec![
                "spec.containers[0].volumeMounts[0].name: Not found: \"w\"",
                "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
            ],
        ),
        (
            with(
                json!({"volumeMounts": [{"name": "v", "mountPath": "/a", "subPath": "../x", "mountPropagation": "Bidirectional"}]}),
            ),
            vec![
                "spec.containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'",
                "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
            ],
        ),
        (
            volumes(json!([{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}])),
            vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            volumes(json!([{"name": "v"}, {"name": "v"}])),
            vec!["spec.volumes[1].name: Duplicate value: \"v\""],
        ),
        (
            volumes(json!([{"name": "v", "secret": {"defaultMode": 1000, "items": [{"key": "k", "path": "/abs"}]}}])),
            vec![
                "spec.volumes[0].secret.secretName: Required value",
                "spec.volumes[0].secret.defaultMode: Invalid value: 1000: must be a number between 0 and 0777 (octal), both inclusive",
                "spec.volumes[0].secret.items[0].path: Invalid value: \"/abs\": must be a relative path",
            ],
        ),
        (
            volumes(json!([{"name": "v", "hostPath": {"path": "", "type": "Odd"}}])),
            vec![
                "spec.volumes[0].hostPath.path: Required value",
                "spec.volumes[0].hostPath.type: Unsupported value: \"Odd\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
    ]);
}

#[test]
fn placement_and_security_are_checked() {
    let pod = |members: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}]});
        for (name, value) in members.as_object().into_iter().flatten() {
            spec[name] = value.clone();
        }
        spec
    };
    check(vec![
        (
            pod(json!({"restartPolicy": "Sometimes", "dnsPolicy": "None"})),
            vec![
                "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
            ],
        ),
        (
            pod(
                json!({"tolerations": [{"operator": "Equal"}, {"key": "a", "operator": "Is"}, {"key": "a", "effect": "NoSchedule", "tolerationSeconds": 1}]}),
            ),
            vec![
                "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
                "spec.tolerations[1].operator: Unsupported value: \"Is\": supported values: \"Equal\", \"Exists\"",
                "spec.tolerations[2].effect: Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
            ],
        ),
        (
            pod(
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}},
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname"}}]}}}),
            ),
            vec![
                "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one node selector term",
                "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
            ],
        ),
        (
            pod(json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "z", "whenUnsatisfiable": "Cry"}]})),
            vec![
                "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
                "spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: \"Cry\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
            ],
        ),
        (
            pod(
                json!({"securityContext": {"runAsUser": -1, "seccompProfile": {"type": "Localhost"}}, "activeDeadlineSeconds": 0}),
            ),
            vec![
                "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive",
                "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
                "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            ],
        ),
        (
            with(json!({"securityContext": {"privileged": true, "allowPrivilegeEscalation": false}})),
            vec![
                "spec.containers[0].securityContext: Invalid value: {\"allowPrivilegeEscalation\":false,\"privileged\":true}: cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            ],
        ),
    ]);
}

#[test]
fn little_of_a_pod_may_change() {
    let old = defaulted(with(json!({})));
    let changed = |path: &str, value: Value| {
        let mut new = old.clone();
        crate::json::set(&mut new, path, value);
        let mut causes = Vec::new();
        pod_update(&new, &old, &mut causes);
        causes
            .iter()
            .map(|c| format!("{}: {}", c.field, c.message.lines().next().unwrap_or("")))
            .collect::<Vec<_>>()
    };
    let mut containers = old["spec"]["containers"].clone();
    containers[0]["image"] = json!("j:2");
    assert_eq!(changed("spec.containers", containers.clone()), [""; 0]);
    assert_eq!(changed("spec.tolerations", json!([{"operator": "Exists"}])), [""; 0]);
    containers[0]["name"] = json!("other");
    assert!(
        changed("spec.containers", containers)[0]
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`")
    );
    assert_eq!(
        changed("spec.containers", json!([])),
        ["spec.containers: Forbidden: pod updates may not add or remove containers"]
    );
    assert_eq!(changed("spec.nodeName", json!("n")).len(), 1);
    assert_eq!(
        changed("spec.schedulingGates", json!([{"name": "g"}])),
        ["spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'"]
    );
}
