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
