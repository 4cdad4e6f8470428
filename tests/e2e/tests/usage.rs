//! What nodes and pods use, as `kubectl top` shows it.

use strata_e2e::Server;

#[test]
fn kubectl_top_shows_nodes_pods_and_containers_until_another_server_does() {
    let server = Server::start(&["--node-name", "here"]);
    let k = server.kubectl();
    k.ok("create deployment web --image=strata.local/hello --replicas=2");
    k.ok("rollout status deployment web --timeout=60s");
    let node = k.ok("top node --no-headers");
    let cells: Vec<&str> = node.split_whitespace().collect();
    assert!(
        cells[0] == "here" && cells[1].ends_with('m') && cells[3].ends_with("Mi"),
        "{node}"
    );
    // A container that started within the last second has no figures yet.
    let pods = k.until("top pod --containers --no-headers -l app=web", |out| {
        out.lines().count() == 2
    });
    for line in pods.lines() {
        let cells: Vec<&str> = line.split_whitespace().collect();
        assert!(cells[0].starts_with("web-") && cells[1] == "hello", "{line}");
        assert!(cells[2].ends_with('m') && cells[3].ends_with("Mi"), "{line}");
    }
    let list = k.ok("get --raw /apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dweb");
    let list: serde_json::Value = serde_json::from_str(&list).expect("JSON");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "{list}");
    let one = &list["items"][0];
    assert!(one["window"].as_str().is_some_and(|w| w.ends_with('s')), "{one}");
    assert!(one["containers"][0]["usage"]["memory"].is_string(), "{one}");
    let absent = k.refused("get --raw /apis/metrics.k8s.io/v1beta1/nodes/nowhere");
    assert!(absent.contains("nodes \"nowhere\" not found"), "{absent}");

    k.apply(
        r"
apiVersion: apiregistration.k8s.io/v1
kind: APIService
metadata: {name: v1beta1.metrics.k8s.io}
spec:
  group: metrics.k8s.io
  version: v1beta1
  service: {name: metrics-server, namespace: kube-system}
  insecureSkipTLSVerify: true
  groupPriorityMinimum: 100
  versionPriority: 100
",
    );
    let elsewhere = k.refused("get --raw /apis/metrics.k8s.io/v1beta1/nodes");
    assert!(elsewhere.contains("unable to handle the request"), "{elsewhere}");
    k.ok("delete apiservice v1beta1.metrics.k8s.io");
    k.until("get apiservice v1beta1.metrics.k8s.io", |out| out.contains("Local"));
    k.ok("top node");
}

/// What a Prometheus or a metrics-server has: an account, its token, and the role that lets it scrape nodes.
const SCRAPER: &str = r#"
apiVersion: v1
kind: ServiceAccount
metadata: {name: scraper}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: stranger}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: scraper}
rules:
- {apiGroups: [""], resources: [nodes/metrics, nodes/stats, nodes/pods], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: scraper}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: scraper}
subjects: [{kind: ServiceAccount, name: scraper, namespace: default}]
"#;

#[test]
fn a_node_answers_those_whom_the_api_permits_and_nobody_else() {
    let server = Server::start(&["--node-name", "here"]);
    let k = server.kubectl();
    k.apply(SCRAPER);
    k.ok("run web --image=strata.local/hello");
    k.ok("wait pod web --for=condition=Ready --timeout=60s");
    let node = k.json("get node here");
    let address = node["status"]["addresses"][0]["address"].as_str().expect("an address");
    let port = &node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    let authority = server.data_dir().join("pki/ca.crt");
    let asking = |token: &str, path: &str| {
        let bare = strata_e2e::Kubectl::new("/dev/null".into());
        let authority = authority.display();
        // kubectl would ask for a name if it was given nothing.
        let token = match token {
            "" => "--username=nobody --password=nothing".to_owned(),
            token => format!("--token={token}"),
        };
        bare.run(&format!(
            "--server=https://{address}:{port} --certificate-authority={authority} {token} get --raw {path}"
        ))
    };
    let token = |account: &str| k.ok(&format!("create token {account}")).trim().to_owned();
    let (scraper, stranger) = (token("scraper"), token("stranger"));

    for (path, expected) in [
        ("/metrics", "kubelet_running_pods 1"),
        (
            "/metrics/resource",
            "container_cpu_usage_seconds_total{container=\"web\"",
        ),
        (
            "/metrics/cadvisor",
            "container_memory_working_set_bytes{container=\"web\",id=\"/",
        ),
        (
            "/metrics/cadvisor",
            "container_network_receive_bytes_total{container=\"\",id=\"/",
        ),
        ("/stats/summary", "\"podRef\""),
        ("/pods", "\"kind\":\"PodList\""),
    ] {
        let run = asking(&scraper, path);
        assert_eq!(run.code, 0, "{path}: {}", run.stderr);
        assert!(
            run.stdout.contains(expected),
            "{path} has no {expected}:\n{}",
            run.stdout
        );
    }
    let elsewhere = asking(&scraper, "/configz");
    let sentence = "Forbidden (user=system:serviceaccount:default:scraper, verb=get, resource=nodes, subresource(s)=[configz proxy])";
    assert!(elsewhere.stderr.contains(sentence), "{elsewhere:?}");
    let refused = asking(&stranger, "/metrics/cadvisor");
    assert!(refused.stderr.contains("subresource(s)=[metrics])"), "{refused:?}");
    for token in ["", "nonsense"] {
        let unknown = asking(token, "/metrics");
        assert!(
            unknown.code != 0 && unknown.stderr.contains("You must be logged in"),
            "{unknown:?}"
        );
    }
}
