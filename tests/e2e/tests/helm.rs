//! A freshly created chart through its life.

use serde_json::Value;
use strata_e2e::{Helm, Kubectl, Server};

const VALUES: &str = "--set image.repository=strata.local/hello,image.tag=latest,service.port=8080 \
                      --set livenessProbe.httpGet.path=/,readinessProbe.httpGet.path=/";

/// The one release there is: revision and status.
fn release(helm: &Helm) -> (String, String) {
    let listed: Value = serde_json::from_str(&helm.ok("list -o json")).expect("helm list -o json prints JSON");
    let text = |field: &str| listed[0][field].as_str().unwrap_or_default().to_owned();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(text("name"), "shop");
    (text("revision"), text("status"))
}

fn ready_replicas(k: &Kubectl) -> String {
    k.ok("get deployment shop-web -o jsonpath={.status.readyReplicas}")
}

#[test]
fn a_created_chart_is_installed_upgraded_rolled_back_and_removed() {
    let server = Server::start(&[]);
    let k = server.kubectl();
    let Some(helm) = Helm::new(&k) else {
        eprintln!("skipped: no helm and no Go to build it");
        return;
    };
    k.ok("wait --for=condition=Ready node --all --timeout=60s");
    helm.ok("create web");

    let notes = helm.ok(&format!("install shop ./web {VALUES} --wait --timeout 60s"));
    assert!(notes.contains("STATUS: deployed"), "{notes}");
    assert_eq!(release(&helm), ("1".to_owned(), "deployed".to_owned()));
    assert_eq!(ready_replicas(&k), "1");
    let answer = k.ok("get --raw /api/v1/namespaces/default/services/shop-web:8080/proxy/");
    assert!(answer.contains("hello from shop-web"), "{answer}");

    helm.ok(&format!(
        "upgrade shop ./web {VALUES} --set replicaCount=2 --wait --timeout 60s"
    ));
    assert_eq!(release(&helm), ("2".to_owned(), "deployed".to_owned()));
    assert_eq!(ready_replicas(&k), "2");

    helm.ok("rollback shop 1 --wait --timeout 60s");
    assert_eq!(release(&helm), ("3".to_owned(), "deployed".to_owned()));
    k.until("get deployment shop-web -o jsonpath={.status.replicas}", |out| {
        out == "1"
    });
    let history = helm.ok("history shop");
    assert!(history.contains("Rollback to 1"), "{history}");

    helm.ok("uninstall shop --wait --timeout 60s");
    assert_eq!(helm.ok("list -o json").trim(), "[]");
    let left = k.ok("get all,serviceaccounts,secrets -l app.kubernetes.io/instance=shop -o name");
    assert_eq!(left, "");
    k.until("get secrets -o name", str::is_empty);
}
