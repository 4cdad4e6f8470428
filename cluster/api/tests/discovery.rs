//! The served surface is upstream's: compared with the files that Kubernetes keeps of its own.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf};
use support::TestServer;

/// `api/discovery` of the Kubernetes module, where the machine has it.
fn recorded() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go"));
    let cache = std::env::var_os("GOMODCACHE").map(PathBuf::from);
    let root = cache.or_else(|| Some(std::env::var_os("GOPATH").map(PathBuf::from).or(home)?.join("pkg/mod")))?;
    let folder = root.join("k8s.io/kubernetes@v1.36.3/api/discovery");
    folder.is_dir().then_some(folder)
}

async fn get(server: &TestServer, path: &str) -> Option<Value> {
    let said = server.kubectl(&format!("get --raw {path}")).await;
    said.ok.then(|| serde_json::from_str(&said.out).unwrap())
}

/// Lists of resources by name, without what says nothing to a client.
fn resources(list: &Value) -> BTreeMap<String, Value> {
    let resources = list["resources"].as_array().unwrap().iter();
    resources
        .map(|r| (r["name"].as_str().unwrap().to_owned(), r.clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_group_version_and_resource_is_upstreams() {
    let Some(folder) = recorded() else {
        return;
    };
    let server = TestServer::start().await;
    let groups = get(&server, "/apis").await.unwrap();
    let mut compared = 0;
    for group in groups["groups"].as_array().unwrap() {
        let name = group["name"].as_str().unwrap();
        for version in group["versions"].as_array().unwrap() {
            let version = version["version"].as_str().unwrap();
            let file = folder.join(format!("apis__{name}__{version}.json"));
            let wanted: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            let served = get(&server, &format!("/apis/{name}/{version}")).await.unwrap();
            assert_eq!(resources(&served), resources(&wanted), "{name}/{version}");
            compared += 1;
        }
    }
    let wanted: Value = serde_json::from_slice(&std::fs::read(folder.join("api__v1.json")).unwrap()).unwrap();
    assert_eq!(
        resources(&get(&server, "/api/v1").await.unwrap()),
        resources(&wanted),
        "v1"
    );
    assert!(compared > 20, "{compared}");
    // What is off by default is recorded, too, and not served.
    for off in [
        "resource.k8s.io/v1alpha3",
        "storage.k8s.io/v1beta1",
        "networking.k8s.io/v1beta1",
    ] {
        assert_eq!(get(&server, &format!("/apis/{off}")).await, None, "{off}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_groups_come_in_upstreams_order_with_upstreams_preferences() {
    let Some(folder) = recorded() else {
        return;
    };
    let server = TestServer::start().await;
    let wanted: Value = serde_json::from_slice(&std::fs::read(folder.join("apis.json")).unwrap()).unwrap();
    let served = get(&server, "/apis").await.unwrap();
    let preferred = |list: &Value| -> Vec<Value> {
        let groups = list["groups"].as_array().unwrap().iter();
        groups
            .map(|g| json!([g["name"], g["preferredVersion"]["groupVersion"]]))
            .collect()
    };
    let served = preferred(&served);
    // The recording has every group that could be switched on.
    let known: Vec<Value> = preferred(&wanted).into_iter().filter(|g| served.contains(g)).collect();
    assert_eq!(served, known);
    server.stop().await;
}
