use super::*;
use crate::decode_value;
use serde_json::json;

fn defaulted(api_version: &str, kind: &str, body: Value) -> Value {
    let gvk = strata_meta::GroupVersion::parse(api_version).expect("valid").kind(kind);
    let mut value = decode_value(&gvk, body).expect("valid").value;
    apply_defaults(&gvk, &mut value);
    let again = decode_value(&gvk, value.clone()).expect("valid").value;
    assert_eq!(again, value, "defaulting keeps the canonical form");
    let mut twice = value.clone();
    apply_defaults(&gvk, &mut twice);
    assert_eq!(twice, value, "defaulting twice changes nothing");
    value
}

#[test]
fn every_row_and_hook_is_of_a_type_in_the_table() {
    let schema = Schema::builtin();
    let known = |package: &str, kind: &str| {
        schema
            .types()
            .any(|(_, info)| (info.package, info.name) == (package, kind))
    };
    assert!(rows::ROWS.iter().all(|row| known(row.package, row.kind)));
    assert!(hooks::HOOKS.iter().all(|(package, kind, _)| known(package, kind)));
    assert!(!PLANS.is_empty());
}

#[test]
fn a_pod_gets_upstreams_defaults() {
    let pod = defaulted(
        "v1",
        "Pod",
        json!({"metadata": {"name": "p"}, "spec": {
        "hostNetwork": true,
        "containers": [{"name": "c", "image": "nginx", "ports": [{"containerPort": 80}],
            "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "livenessProbe": {"httpGet": {"port": 80}}, "readinessProbe": {"grpc": {"port": 1}},
            "resources": {"limits": {"cpu": "1500u", "memory": "64Mi"}, "requests": {"memory": "1Mi"}}}],
        "volumes": [{"name": "a"}, {"name": "s", "secret": {"secretName": "s"}}, {"name": "h", "hostPath": {"path": "/"}},
            {"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]}}),
    );
    assert_eq!(
        pod["spec"],
        json!({
            "hostNetwork": true, "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "securityContext": {},
            "terminationGracePeriodSeconds": 30, "schedulerName": "default-scheduler", "enableServiceLinks": true,
            "containers": [{"name": "c", "image": "nginx", "imagePullPolicy": "Always",
                "ports": [{"containerPort": 80, "hostPort": 80, "protocol": "TCP"}],
                "env": [{"name": "E", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "readinessProbe": {"grpc": {"port": 1, "service": ""}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
                "resources": {"limits": {"cpu": "2m", "memory": "64Mi"}, "requests": {"cpu": "2m", "memory": "1Mi"}},
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"}],
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}},
                {"name": "h", "hostPath": {"path": "/", "type": ""}},
                {"name": "t", "projected": {"defaultMode": 420,
                    "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}],
        })
    );
}

#[test]
fn only_pods_themselves_get_service_links_and_requests_from_limits() {
    let deployment = defaulted(
        "apps/v1",
        "Deployment",
        json!({"spec": {"selector": {}, "template": {"spec": {
        "containers": [{"name": "c", "image": "i:1", "resources": {"limits": {"cpu": 1}}}]}}}}),
    );
    let spec = &deployment["spec"];
    assert_eq!(
        (&spec["replicas"], &spec["revisionHistoryLimit"]),
        (&json!(1), &json!(10))
    );
    assert_eq!(spec["progressDeadlineSeconds"], 600);
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    assert_eq!(spec["strategy"], rolling);
    let template = &spec["template"]["spec"];
    assert_eq!(template["containers"][0]["imagePullPolicy"], "IfNotPresent");
    assert_eq!(template["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}));
    assert!(template.get("enableServiceLinks").is_none());
}

#[test]
fn a_recreate_strategy_stays_as_it_is() {
    let body = json!({"spec": {"replicas": 0, "selector": {}, "strategy": {"type": "Recreate"}, "template": {"spec": {"containers": []}}}});
    let deployment = defaulted("apps/v1", "Deployment", body);
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
    assert_eq!(deployment["spec"]["replicas"], 0);
}

#[test]
fn services_are_defaulted_by_type() {
    let service = defaulted(
        "v1",
        "Service",
        json!({"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}}),
    );
    assert_eq!(
        service["spec"],
        json!({"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": [
            {"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "protocol": "TCP", "targetPort": "web"}]})
    );
    let balanced = defaulted(
        "v1",
        "Service",
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP"},
        "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}}),
    );
    assert_eq!(balanced["spec"]["allocateLoadBalancerNodePorts"], true);
    assert_eq!(balanced["spec"]["externalTrafficPolicy"], "Cluster");
    assert_eq!(
        balanced["spec"]["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"],
        10800
    );
    assert_eq!(balanced["status"]["loadBalancer"]["ingress"][0]["ipMode"], "VIP");
    let external = defaulted(
        "v1",
        "Service",
        json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}),
    );
    assert!(external["spec"].get("internalTrafficPolicy").is_none());
}

#[test]
fn workloads_of_every_kind_are_defaulted() {
    let pod = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let job = defaulted("batch/v1", "Job", json!({"spec": {"template": pod}}));
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    assert_eq!(
        (&job["spec"]["completions"], &job["spec"]["backoffLimit"]),
        (&json!(1), &json!(6))
    );
    let cron = defaulted(
        "batch/v1",
        "CronJob",
        json!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": pod}}}}),
    );
    assert_eq!(cron["spec"]["concurrencyPolicy"], "Allow");
    assert!(cron["spec"]["jobTemplate"]["spec"].get("backoffLimit").is_none());
    let rc = defaulted("v1", "ReplicationController", json!({"spec": {"template": pod}}));
    assert_eq!(
        (&rc["spec"]["selector"], &rc["spec"]["replicas"]),
        (&json!({"a": "b"}), &json!(1))
    );
    let set = defaulted(
        "apps/v1",
        "StatefulSet",
        json!({"spec": {"selector": {}, "template": pod,
        "volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {}}]}}),
    );
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
    assert_eq!(
        set["spec"]["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    assert_eq!(set["spec"]["volumeClaimTemplates"][0]["status"]["phase"], "Pending");
    let daemons = defaulted(
        "apps/v1",
        "DaemonSet",
        json!({"spec": {"selector": {}, "template": pod}}),
    );
    assert_eq!(
        daemons["spec"]["updateStrategy"]["rollingUpdate"],
        json!({"maxSurge": 0, "maxUnavailable": 1})
    );
}

#[test]
fn other_kinds_are_defaulted() {
    let namespace = defaulted("v1", "Namespace", json!({"metadata": {"name": "n"}}));
    assert_eq!(
        namespace["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "n"})
    );
    assert_eq!(namespace["status"]["phase"], "Active");
    let node = defaulted(
        "v1",
        "Node",
        json!({"metadata": {"name": "n"}, "status": {"capacity": {"cpu": "2"}}}),
    );
    assert_eq!(node["status"]["allocatable"], json!({"cpu": "2"}));
    let binding = defaulted(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"},
        "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s", "namespace": "n"}]}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(binding["subjects"][0]["apiGroup"], "rbac.authorization.k8s.io");
    assert!(binding["subjects"][1].get("apiGroup").is_none());
    assert_eq!(defaulted("v1", "Secret", json!({}))["type"], "Opaque");
    let slice = defaulted(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        json!({"addressType": "IPv4", "endpoints": [], "ports": [{"port": 1}]}),
    );
    assert_eq!(slice["ports"], json!([{"port": 1, "name": "", "protocol": "TCP"}]));
    let policy = defaulted(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {}, "egress": [{"ports": [{}]}]}}),
    );
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    let class = defaulted("scheduling.k8s.io/v1", "PriorityClass", json!({"value": 1}));
    assert_eq!(class["preemptionPolicy"], "PreemptLowerPriority");
}

#[test]
fn pod_level_resources_follow_the_containers() {
    let pod = defaulted(
        "v1",
        "Pod",
        json!({"spec": {"resources": {"limits": {"cpu": "2", "memory": "1Gi"}}, "containers": [
        {"name": "a", "image": "i", "resources": {"requests": {"cpu": "250m"}}},
        {"name": "b", "image": "i", "resources": {"requests": {"cpu": "250m"}}}]}}),
    );
    assert_eq!(
        pod["spec"]["resources"]["requests"],
        json!({"cpu": "500m", "memory": "1Gi"})
    );
}
