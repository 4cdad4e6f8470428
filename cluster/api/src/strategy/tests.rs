//! What is said about objects that upstream refuses, kind by kind, and what tables show.

use super::*;
use crate::json;
use serde_json::json;
use strata_meta::GroupVersionKind;

/// An object as the pipeline hands it to its strategy.
fn prepared(object: &Value) -> (Value, &'static dyn Strategy) {
    let api_version = json::text(object, "apiVersion");
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let kind = json::text(object, "kind");
    let gvk = GroupVersionKind::new(group, version, kind);
    let schema = strata_schema::Schema::builtin();
    let info = schema.kinds().iter().find(|k| k.gvk() == gvk).expect("a built-in kind");
    let mut object = object.clone();
    json::set_default(&mut object, "metadata.name", "x");
    json::set_default(&mut object, "metadata.uid", "u-1");
    strata_schema::normalise(&gvk, &mut object).expect("decodes");
    crate::schema::RowSchema::Builtin.apply_defaults(&gvk, &mut object);
    if info.namespaced {
        json::set_default(&mut object, "metadata.namespace", "default");
    }
    if let Some(conversion) = crate::encode::conversion::conversion_for(info) {
        (conversion.to_stored)(&mut object);
    }
    let strategy = strategy_for(group, info.plural);
    strategy.prepare_create(&mut object);
    (object, strategy)
}

fn lines(causes: &Causes) -> Vec<String> {
    causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect()
}

/// What is said about a new object.
pub(super) fn said(object: &Value) -> Vec<String> {
    let (object, strategy) = prepared(object);
    let mut causes = Vec::new();
    strategy.validate(&object, &mut causes);
    strategy.validate_create(&object, &mut causes);
    lines(&causes)
}

/// What is said about a change of one member.
fn said_of_change(object: &Value, path: &str, value: Value) -> Vec<String> {
    let (old, strategy) = prepared(object);
    let mut new = old.clone();
    json::set(&mut new, path, value);
    strategy.prepare_update(&mut new, &old);
    let mut causes = Vec::new();
    strategy.validate_update(&new, &old, &mut causes);
    lines(&causes)
}

fn check(table: &[(Value, &[&str])]) {
    for (object, expected) in table {
        assert_eq!(said(object), *expected, "{object}");
    }
}

fn template() -> Value {
    json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}})
}

fn workload(api: &str, kind: &str, members: Value) -> Value {
    let mut object = json!({"apiVersion": api, "kind": kind, "spec": {"template": template()}});
    for (name, value) in members.as_object().into_iter().flatten() {
        json::set(&mut object, &format!("spec.{name}"), value.clone());
    }
    object
}

#[test]
fn workloads_are_checked() {
    let selector = json!({"matchLabels": {"app": "a"}});
    let deployment = |members: Value| workload("apps/v1", "Deployment", members);
    check(&[
        (deployment(json!({"selector": selector})), &[]),
        (
            deployment(json!({})),
            &[
                "spec.selector: Required value",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            deployment(json!({"selector": {}})),
            &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
        ),
        (
            deployment(json!({"selector": {"matchLabels": {"app": "b"}}, "replicas": -1})),
            &[
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
            ],
        ),
        (
            deployment(
                json!({"selector": selector, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            ),
            &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0"],
        ),
        (
            deployment(json!({"selector": selector, "minReadySeconds": 700})),
            &["spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds"],
        ),
        (
            deployment(json!({"selector": selector, "template.spec.restartPolicy": "Never"})),
            &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
        ),
        (
            workload(
                "apps/v1",
                "DaemonSet",
                json!({"selector": selector, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}}),
            ),
            &[
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ],
        ),
        (
            workload(
                "apps/v1",
                "StatefulSet",
                json!({"selector": selector, "podManagementPolicy": "Any", "serviceName": "A"}),
            ),
            &[
                "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
                "spec.serviceName: Invalid value: \"A\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        ),
        (
            json!({"apiVersion": "v1", "kind": "ReplicationController", "spec": {"replicas": 1, "selector": {"app": "b"}, "template": template()}}),
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
            ],
        ),
    ]);
    let object = deployment(json!({"selector": selector}));
    assert_eq!(
        said_of_change(&object, "spec.selector", json!({"matchLabels": {"app": "z"}})),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"z\"}}: field is immutable"]
    );
    assert_eq!(said_of_change(&object, "spec.replicas", json!(5)), [""; 0]);
    let set = workload("apps/v1", "StatefulSet", json!({"selector": selector}));
    assert_eq!(said_of_change(&set, "spec.replicas", json!(5)), [""; 0]);
    assert_eq!(said_of_change(&set, "spec.serviceName", json!("s")).len(), 1);
}

#[test]
fn jobs_select_their_own_pods() {
    let job = workload("batch/v1", "Job", json!({"template.spec.restartPolicy": "Never"}));
    let (made, _) = prepared(&job);
    assert_eq!(
        made["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u-1"}})
    );
    assert_eq!(
        json::get(&made, "spec.template.metadata.labels").unwrap()["job-name"],
        "x"
    );
    check(&[
        (job.clone(), &[]),
        (
            workload("batch/v1", "Job", json!({})),
            &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
        ),
        (
            workload(
                "batch/v1",
                "Job",
                json!({"template.spec.restartPolicy": "Never", "parallelism": -1, "completionMode": "Indexed"}),
            ),
            &[
                "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
                "spec.completions: Required value: when completion mode is Indexed",
            ],
        ),
        (
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "spec": {"schedule": "bad", "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}}),
            &["spec.schedule: Invalid value: \"bad\": expected exactly 5 fields, found 1: [bad]"],
        ),
    ]);
    assert_eq!(said_of_change(&job, "spec.parallelism", json!(2)), [""; 0]);
    assert_eq!(
        said_of_change(&job, "spec.template.spec.hostNetwork", json!(true)).len(),
        1
    );
}

#[test]
fn services_are_checked() {
    let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": spec});
    check(&[
        (service(json!({"ports": [{"port": 80}]})), &[]),
        (service(json!({})), &["spec.ports: Required value"]),
        (service(json!({"clusterIP": "None", "clusterIPs": ["None"]})), &[]),
        (
            service(json!({"ports": [{"port": 0}, {"port": 80, "name": "a", "targetPort": "BAD"}]})),
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[0].targetPort: Invalid value: 0: must be between 1 and 65535, inclusive",
                "spec.ports[1].targetPort: Invalid value: \"BAD\": must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "spec.ports[1].targetPort: Invalid value: \"BAD\": must contain at least one letter (a-z)",
            ],
        ),
        (
            service(json!({"type": "ExternalName"})),
            &["spec.externalName: Required value"],
        ),
        (
            service(json!({"type": "Magic", "ports": [{"port": 1}]})),
            &[
                "spec.type: Unsupported value: \"Magic\": supported values: \"ClusterIP\", \"ExternalName\", \"LoadBalancer\", \"NodePort\"",
            ],
        ),
        (
            service(
                json!({"ports": [{"port": 1, "nodePort": 30000}], "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            ),
            &[
                "spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'",
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: Invalid value: 0: must be greater than 0 and less than 86400",
            ],
        ),
        (
            service(
                json!({"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 1}], "externalIPs": ["127.0.0.1"]}),
            ),
            &[
                "spec.clusterIPs[0]: Invalid value: \"None\": may not be set to 'None' for NodePort services",
                "spec.externalIPs[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ],
        ),
    ]);
    let held = service(json!({"ports": [{"port": 80}], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}));
    assert_eq!(
        said_of_change(&held, "spec.clusterIPs", json!(["10.0.0.2"])),
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
}

#[test]
fn a_change_of_type_wipes_what_the_new_type_lacks() {
    let balanced = json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "ports": [{"port": 80, "nodePort": 30080}], "loadBalancerClass": "a/b"}});
    let (old, strategy) = prepared(&balanced);
    for (kind, gone) in [
        (
            "ClusterIP",
            vec![
                "allocateLoadBalancerNodePorts",
                "loadBalancerClass",
                "externalTrafficPolicy",
            ],
        ),
        ("ExternalName", vec!["clusterIP", "clusterIPs", "externalTrafficPolicy"]),
    ] {
        let mut new = old.clone();
        json::set(&mut new, "spec.type", kind);
        json::set(&mut new, "spec.externalName", "a.b");
        strategy.prepare_update(&mut new, &old);
        let mut causes = Vec::new();
        strategy.validate(&new, &mut causes);
        assert_eq!(lines(&causes), [""; 0], "{new}");
        assert!(gone.iter().all(|name| new["spec"].get(name).is_none()), "{new}");
        assert!(new["spec"]["ports"][0].get("nodePort").is_none(), "{new}");
    }
}

#[test]
fn secrets_fold_texts_and_need_their_keys() {
    let secret = |kind: &str, data: Value| json!({"apiVersion": "v1", "kind": "Secret", "type": kind, "data": data});
    let mut texts = secret("Opaque", json!({"a": "eA=="}));
    texts["stringData"] = json!({"b": "y"});
    let (made, _) = prepared(&texts);
    assert_eq!(made["data"], json!({"a": "eA==", "b": "eQ=="}));
    assert!(made.get("stringData").is_none());
    check(&[
        (
            secret("kubernetes.io/tls", json!({"tls.crt": "eA=="})),
            &["data[tls.key]: Required value"],
        ),
        (
            secret("kubernetes.io/dockerconfigjson", json!({})),
            &["data[.dockerconfigjson]: Required value"],
        ),
        (
            secret("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "eA=="})),
            &[
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\": invalid character looking for beginning of value",
            ],
        ),
        (
            secret("kubernetes.io/basic-auth", json!({})),
            &["data[username]: Required value", "data[password]: Required value"],
        ),
        (
            secret("kubernetes.io/service-account-token", json!({})),
            &["metadata.annotations[kubernetes.io/service-account.name]: Required value"],
        ),
    ]);
    let fixed =
        json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "immutable": true, "data": {"a": "eA=="}});
    assert_eq!(
        said_of_change(&fixed, "data", json!({"a": "eQ=="})),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    assert_eq!(
        said_of_change(&secret("Opaque", json!({})), "type", json!("other")),
        ["type: Invalid value: \"other\": field is immutable"]
    );
}

#[test]
fn roles_and_bindings_are_checked() {
    let rbac = "rbac.authorization.k8s.io/v1";
    check(&[
        (
            json!({"apiVersion": rbac, "kind": "Role", "rules": [{"verbs": [], "nonResourceURLs": ["/x"]}, {"verbs": ["get"]}]}),
            &[
                "rules[0].verbs: Required value: verbs must contain at least one value",
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
                "rules[1].apiGroups: Required value: resource rules must supply at least one api group",
                "rules[1].resources: Required value: resource rules must supply at least one resource",
            ],
        ),
        (
            json!({"apiVersion": rbac, "kind": "ClusterRoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
                "subjects": [{"kind": "ServiceAccount", "name": "s"}, {"kind": "Robot", "name": "r"}]}),
            &[
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
                "subjects[0].namespace: Required value",
                "subjects[1].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ],
        ),
    ]);
    let binding = json!({"apiVersion": rbac, "kind": "RoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"}});
    let causes = said_of_change(&binding, "roleRef.name", json!("q"));
    assert!(causes[0].ends_with("cannot change roleRef"), "{causes:?}");
}

#[test]
fn smaller_kinds_are_checked() {
    check(&[
        (
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "spec": {"leaseDurationSeconds": 0}}),
            &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
        (
            json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 2_000_000_000}),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        (
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"minAvailable": "x%"}}),
            &[
                "spec.minAvailable: Invalid value: \"x%\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            ],
        ),
        (
            json!({"apiVersion": "v1", "kind": "Endpoints", "subsets": [{"addresses": [{"ip": "127.0.0.1"}], "ports": [{"port": 0}]}]}),
            &[
                "subsets[0].addresses[0].ip: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
                "subsets[0].ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "endpoints": [{"addresses": []}, {"addresses": ["::1"]}]}),
            &[
                "endpoints[0].addresses: Required value: must contain at least 1 address",
                "endpoints[1].addresses: Invalid value: \"::1\": must be an IPv4 address",
                "endpoints[1].addresses[0]: Invalid value: \"::1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
            ],
        ),
        (
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"rules": [{"host": "1.2.3.4", "http": {"paths": [{"path": "a", "pathType": "Prefix", "backend": {"service": {"name": "s"}}}]}}]}}),
            &[
                "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
                "spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path",
                "spec.rules[0].http.paths[0].backend: Required value: port name or number is required",
            ],
        ),
        (
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": {"podSelector": {}, "ingress": [{"from": [{}], "ports": [{"endPort": 5}]}]}}),
            &[
                "spec.ingress[0].ports[0].endPort: Invalid value: 5: may not be specified when `port` is not specified",
                "spec.ingress[0].from[0]: Required value: must specify a peer",
            ],
        ),
        (
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"accessModes": ["Odd"]}}),
            &[
                "spec.accessModes: Unsupported value: \"Odd\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
                "spec.resources[storage]: Required value",
            ],
        ),
        (
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {"minReplicas": 3, "maxReplicas": 2, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
            &["spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`"],
        ),
        (
            json!({"apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}}),
            &["involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"],
        ),
        (
            json!({"apiVersion": "v1", "kind": "Node", "spec": {"taints": [{"key": "a", "effect": "Sleep"}]}}),
            &[
                "metadata.taints[0].effect: Unsupported value: \"Sleep\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\"",
            ],
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a b": "c"}}),
            &[
                "data[a b]: Invalid value: \"a b\": a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            ],
        ),
    ]);
}

/// Headings of the columns with their cells; wide ones in brackets.
fn table(object: &Value) -> String {
    let (object, strategy) = prepared(object);
    let cx = CellContext {
        object: &object,
        now: Time::from_second(1_000_000),
    };
    let shown = |column: &Column| {
        let cell = match (column.cell)(&cx) {
            Value::String(text) => text,
            other => other.to_string(),
        };
        match column.priority {
            0 => format!("{}={cell}", column.name),
            _ => format!("[{}={cell}]", column.name),
        }
    };
    strategy.columns().iter().map(shown).collect::<Vec<_>>().join(" ")
}

#[test]
fn tables_show_what_kubectl_users_know() {
    // 1970-01-12T13:41:40Z is 300 seconds before the moment of the table.
    let born = json!({"name": "x", "creationTimestamp": "1970-01-12T13:41:40Z"});
    let with_meta = |mut object: Value| {
        for (name, value) in born.as_object().into_iter().flatten() {
            json::set(&mut object, &format!("metadata.{name}"), value.clone());
        }
        object
    };
    let selector = json!({"matchLabels": {"app": "a"}});
    let mut job = workload("batch/v1", "Job", json!({"template.spec.restartPolicy": "Never"}));
    json::set(
        &mut job,
        "status",
        json!({"succeeded": 1, "startTime": "1970-01-12T13:41:40Z", "conditions": [{"type": "Complete", "status": "True"}]}),
    );
    for (object, expected) in [
        (
            workload("apps/v1", "ReplicaSet", json!({"selector": selector, "replicas": 3})),
            "Name=x Desired=3 Current=0 Ready=0 Age=5m [Containers=c] [Images=i:1] [Selector=app=a]",
        ),
        (
            workload("apps/v1", "StatefulSet", json!({"selector": selector})),
            "Name=x Ready=0/1 Age=5m [Containers=c] [Images=i:1]",
        ),
        (
            workload("apps/v1", "DaemonSet", json!({"selector": selector})),
            "Name=x Desired=0 Current=0 Ready=0 Up-to-date=0 Available=0 Node Selector=<none> Age=5m [Containers=c] [Images=i:1] [Selector=app=a]",
        ),
        (
            job,
            "Name=x Status=Complete Completions=1/1 Duration=5m Age=5m [Containers=c] [Images=i:1] [Selector=batch.kubernetes.io/controller-uid=u-1]",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Service", "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
                "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}], "selector": {"app": "a"}}}),
            "Name=x Type=LoadBalancer Cluster-IP=10.0.0.1 External-IP=<pending> Port(s)=80:30080/TCP,53/UDP Age=5m [Selector=app=a]",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Event", "type": "Normal", "reason": "Made", "message": " made it ", "count": 2,
                "involvedObject": {"kind": "Pod", "name": "p"}, "lastTimestamp": "1970-01-12T13:46:30Z", "firstTimestamp": "1970-01-12T13:41:40Z", "source": {"component": "s", "host": "h"}}),
            "Last Seen=10s Type=Normal Reason=Made Object=pod/p [Subobject=] [Source=s, h] Message=made it [First Seen=5m] [Count=2] [Name=x]",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
                "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.2"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1", "architecture": "amd64", "osImage": "Debian", "containerRuntimeVersion": "strata://0"}}}),
            "Name=x Status=Ready,SchedulingDisabled Roles=control-plane,worker Age=5m Version=v1.36.0 [Internal-IP=10.0.0.2] [External-IP=<none>] [OS-Image=Debian] [Kernel-Version=6.1 (amd64)] [Container-Runtime=strata://0]",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Pod", "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i"}]}}),
            "Name=x Ready=0/1 Status=Pending Restarts=0 Age=5m [IP=<none>] [Node=n] [Nominated Node=<none>] [Readiness Gates=<none>]",
        ),
        (
            json!({"apiVersion": "v1", "kind": "Endpoints", "subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "1.1.1.2"}], "ports": [{"port": 1}, {"port": 2}]}]}),
            "Name=x Endpoints=1.1.1.1:1,1.1.1.2:1,1.1.1.1:2 + 1 more... Age=5m",
        ),
        (
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": ["1.1.1.1"]}]}),
            "Name=x AddressType=IPv4 Ports=80 Endpoints=1.1.1.1 Age=5m",
        ),
        (
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "roleRef": {"kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "ServiceAccount", "namespace": "n", "name": "s"}, {"kind": "Group", "name": "g"}]}),
            "Name=x Role=ClusterRole/view Age=5m [Users=] [Groups=g] [ServiceAccounts=n/s]",
        ),
        (
            json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {"volumeName": "v", "storageClassName": "fast", "accessModes": ["ReadWriteOnce"]}}),
            "Name=x Status=Pending Volume=v Capacity= Access Modes= StorageClass=fast VolumeAttributesClass=<unset> Age=5m [VolumeMode=Filesystem]",
        ),
        (
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
            "Name=x Reference=Deployment/d Targets=cpu: <unknown>/80% MinPods=1 MaxPods=3 Replicas=0 Age=5m",
        ),
        (
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "spec": {"minAvailable": 1}}),
            "Name=x Min Available=1 Max Unavailable=N/A Allowed Disruptions=0 Age=5m",
        ),
        (
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "spec": {"tls": [{}], "rules": [{"host": "a.b"}]}}),
            "Name=x Class=<none> Hosts=a.b Address= Ports=80, 443 Age=5m",
        ),
        (
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}}),
            "Name=x Data=1 Age=5m",
        ),
    ] {
        assert_eq!(table(&with_meta(object)), expected);
    }
}
