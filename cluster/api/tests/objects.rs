//! Lives of objects: status and spec apart, grace, finalizers, bindings, tokens, evictions, two versions of one object.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use serde_json::{Value, json};
use strata_auth::UserInfo;
use strata_client::{Client, DeleteOptions, Error, ListParams, Patch, Propagation, resources::*};
use support::TestServer;

fn pod(name: &str) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}})
}

async fn value(client: &Client, resource: strata_client::Resource, name: &str) -> Value {
    client.get(resource, "default", name).await.unwrap().to_value().unwrap()
}

fn said(error: &Error) -> &str {
    &error.status().unwrap().message
}

#[tokio::test]
async fn spec_and_status_are_written_apart() {
    let server = TestServer::start().await.with_account().await;
    let client = server.client();
    let mut deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        "status": {"replicas": 9}});
    client.create(DEPLOYMENTS, "default", &deployment).await.unwrap();
    let made = value(&client, DEPLOYMENTS, "d").await;
    assert_eq!(
        (&made["status"]["replicas"], &made["metadata"]["generation"]),
        (&Value::Null, &json!(1))
    );
    deployment["spec"]["replicas"] = json!(7);
    deployment["status"]["replicas"] = json!(3);
    client
        .update_status(DEPLOYMENTS, "default", "d", &deployment)
        .await
        .unwrap();
    let status = value(&client, DEPLOYMENTS, "d").await;
    assert_eq!(
        (
            &status["spec"]["replicas"],
            &status["status"]["replicas"],
            &status["metadata"]["generation"]
        ),
        (&json!(1), &json!(3), &json!(1))
    );
    deployment["status"]["replicas"] = json!(5);
    client.update(DEPLOYMENTS, "default", "d", &deployment).await.unwrap();
    let spec = value(&client, DEPLOYMENTS, "d").await;
    assert_eq!(
        (
            &spec["spec"]["replicas"],
            &spec["status"]["replicas"],
            &spec["metadata"]["generation"]
        ),
        (&json!(7), &json!(3), &json!(2))
    );
    let scale = Patch::Merge(json!({"spec": {"replicas": 4}}));
    client
        .patch(DEPLOYMENTS, "default", "d", Some("scale"), scale)
        .await
        .unwrap();
    let scaled = value(&client, DEPLOYMENTS, "d").await;
    assert_eq!(
        (&scaled["spec"]["replicas"], &scaled["metadata"]["generation"]),
        (&json!(4), &json!(3))
    );
    let same = client.update(DEPLOYMENTS, "default", "d", &scaled).await.unwrap();
    assert_eq!(
        json!(same.revision.to_string()),
        scaled["metadata"]["resourceVersion"],
        "nothing changed, nothing written"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_pod_is_bound_once_and_goes_gracefully() {
    let server = TestServer::start().await.with_account().await;
    let client = server.client();
    client.create(PODS, "default", &pod("p")).await.unwrap();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    client
        .create_subresource(PODS, "default", "p", "binding", &binding)
        .await
        .unwrap();
    let bound = value(&client, PODS, "p").await;
    assert_eq!(
        (&bound["spec"]["nodeName"], &bound["metadata"]["generation"]),
        (&json!("n1"), &json!(1))
    );
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
    let again = client
        .create_subresource(PODS, "default", "p", "binding", &binding)
        .await
        .unwrap_err();
    assert!(
        again.is_conflict() && said(&again).contains("pod p is already assigned to node \"n1\""),
        "{again}"
    );

    client
        .delete(PODS, "default", "p", DeleteOptions::default())
        .await
        .unwrap();
    let going = value(&client, PODS, "p").await;
    assert_eq!(
        (
            &going["metadata"]["deletionGracePeriodSeconds"],
            &going["metadata"]["generation"]
        ),
        (&json!(30), &json!(2))
    );
    let agent = server.api.client(UserInfo::node("n1"));
    let other = server.api.client(UserInfo::node("n2"));
    let now = DeleteOptions {
        grace_period_seconds: Some(0),
        uid: Some(serde_json::from_value(going["metadata"]["uid"].clone()).unwrap()),
        ..DeleteOptions::default()
    };
    assert_eq!(
        other
            .delete(PODS, "default", "p", now.clone())
            .await
            .unwrap_err()
            .status()
            .unwrap()
            .code,
        403
    );
    agent.delete(PODS, "default", "p", now).await.unwrap();
    assert!(client.get(PODS, "default", "p").await.unwrap_err().is_not_found());

    client.create(PODS, "default", &pod("q")).await.unwrap();
    client
        .delete(PODS, "default", "q", DeleteOptions::default())
        .await
        .unwrap();
    assert!(
        client.get(PODS, "default", "q").await.unwrap_err().is_not_found(),
        "nobody runs it: it goes at once"
    );
    server.stop().await;
}

#[tokio::test]
async fn finalizers_and_propagation_hold_an_object() {
    let server = TestServer::start().await;
    let client = server.client();
    let map = json!({"metadata": {"name": "c", "finalizers": ["a.b/c"]}});
    client.create(CONFIG_MAPS, "default", &map).await.unwrap();
    let foreground = DeleteOptions {
        propagation: Some(Propagation::Foreground),
        ..DeleteOptions::default()
    };
    client.delete(CONFIG_MAPS, "default", "c", foreground).await.unwrap();
    let held = value(&client, CONFIG_MAPS, "c").await;
    assert_eq!(held["metadata"]["finalizers"], json!(["a.b/c", "foregroundDeletion"]));
    let more = Patch::Merge(json!({"metadata": {"finalizers": ["a.b/c", "d.e/f"]}}));
    let refused = client.patch(CONFIG_MAPS, "default", "c", None, more).await.unwrap_err();
    assert!(
        said(&refused).contains(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{\"d.e/f\"}"
        ),
        "{refused}"
    );
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    client.patch(CONFIG_MAPS, "default", "c", None, none).await.unwrap();
    assert!(
        client
            .get(CONFIG_MAPS, "default", "c")
            .await
            .unwrap_err()
            .is_not_found()
    );

    for i in 0..5 {
        let map = json!({"metadata": {"name": format!("x{i}"), "labels": {"even": (i % 2 == 0).to_string()}}});
        client.create(CONFIG_MAPS, "default", &map).await.unwrap();
    }
    client
        .delete_collection(
            CONFIG_MAPS,
            "default",
            ListParams::labels("even=true"),
            DeleteOptions::default(),
        )
        .await
        .unwrap();
    let left = client
        .list(CONFIG_MAPS, Some("default"), ListParams::default())
        .await
        .unwrap();
    assert_eq!(
        left.items.iter().map(|o| o.name().to_owned()).collect::<Vec<_>>(),
        ["x1", "x3"]
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_get_tokens_for_their_own_pods_only() {
    let server = TestServer::start().await.with_account().await;
    let client = server.client();
    client.create(PODS, "default", &pod("p")).await.unwrap();
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    client
        .create_subresource(PODS, "default", "p", "binding", &binding)
        .await
        .unwrap();
    let uid = value(&client, PODS, "p").await["metadata"]["uid"].clone();
    let bound = json!({"spec": {"audiences": [], "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid}}});
    let ask = |user: UserInfo, body: Value| {
        let client = server.api.client(user);
        async move {
            client
                .create_subresource(SERVICE_ACCOUNTS, "default", "default", "token", &body)
                .await
        }
    };
    let issued = ask(UserInfo::node("n1"), bound.clone()).await.unwrap();
    assert!(issued["status"]["token"].as_str().unwrap().split('.').count() == 3);
    assert_eq!(
        ask(UserInfo::node("n2"), bound)
            .await
            .unwrap_err()
            .status()
            .unwrap()
            .code,
        403
    );
    let free = json!({"spec": {"audiences": []}});
    assert_eq!(
        ask(UserInfo::node("n1"), free)
            .await
            .unwrap_err()
            .status()
            .unwrap()
            .code,
        403
    );
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": issued["status"]["token"]}});
    let said = server
        .feed("create -f - -o jsonpath={.status.user.username}", &review.to_string())
        .await;
    assert_eq!(said.out, "system:serviceaccount:default:default", "{said:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_disruption_budget_guards_evictions() {
    let server = TestServer::start().await.with_account().await;
    let client = server.client();
    client.create(PODS, "default", &pod("p")).await.unwrap();
    let running = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    client
        .patch(PODS, "default", "p", Some("status"), Patch::Merge(running))
        .await
        .unwrap();
    let budget =
        json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}});
    client.create(POD_DISRUPTION_BUDGETS, "default", &budget).await.unwrap();
    let status = |allowed: i64| {
        Patch::Merge(
            json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": 1,
        "desiredHealthy": 1, "expectedPods": 1}}),
        )
    };
    client
        .patch(POD_DISRUPTION_BUDGETS, "default", "b", Some("status"), status(0))
        .await
        .unwrap();
    let eviction = json!({"metadata": {"name": "p"}});
    let refused = client
        .create_subresource(PODS, "default", "p", "eviction", &eviction)
        .await
        .unwrap_err();
    assert_eq!(
        (refused.status().unwrap().code, said(&refused)),
        (429, "Cannot evict pod as it would violate the pod's disruption budget.")
    );
    client
        .patch(POD_DISRUPTION_BUDGETS, "default", "b", Some("status"), status(1))
        .await
        .unwrap();
    client
        .create_subresource(PODS, "default", "p", "eviction", &eviction)
        .await
        .unwrap();
    assert!(client.get(PODS, "default", "p").await.unwrap_err().is_not_found());
    assert_eq!(
        value(&client, POD_DISRUPTION_BUDGETS, "b").await["status"]["disruptionsAllowed"],
        0
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_event_apis_show_the_same_events() {
    let server = TestServer::start().await;
    let client = server.client();
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        "reason": "Pulled", "message": "done", "type": "Normal", "source": {"component": "agent"}, "count": 2});
    client.create(EVENTS, "default", &event).await.unwrap();
    let other = value(&client, EVENTS_V1, "e").await;
    assert_eq!(
        (
            &other["apiVersion"],
            &other["regarding"]["name"],
            &other["note"],
            &other["deprecatedCount"]
        ),
        (&json!("events.k8s.io/v1"), &json!("p"), &json!("done"), &json!(2))
    );
    // The newer interface lets only the series of an event change.
    let note = Patch::Merge(json!({"note": "really done"}));
    let refused = client.patch(EVENTS_V1, "default", "e", None, note).await.unwrap_err();
    assert!(refused.to_string().contains("field is immutable"), "{refused}");
    let message = Patch::Merge(json!({"message": "really done"}));
    client.patch(EVENTS, "default", "e", None, message).await.unwrap();
    assert_eq!(value(&client, EVENTS_V1, "e").await["note"], "really done");
    let params = ListParams {
        field_selector: "involvedObject.name=p,reason=Pulled".into(),
        ..ListParams::default()
    };
    assert_eq!(
        client.list(EVENTS, Some("default"), params).await.unwrap().items.len(),
        1
    );
    assert_eq!(
        server
            .ok("get events.v1.events.k8s.io -o jsonpath={.items[0].note}")
            .await,
        "really done"
    );
    server.stop().await;
}

#[tokio::test]
async fn nobody_grants_more_than_they_hold() {
    let server = TestServer::start().await;
    let client = server.client();
    let role = |verbs: Value| json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]});
    client.create(ROLES, "default", &role(json!(["get"]))).await.unwrap();
    let editor = json!({"metadata": {"name": "editor"}, "rules": [
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["create", "update", "get"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]});
    client.create(ROLES, "default", &editor).await.unwrap();
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "editor"},
        "subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}]});
    client.create(ROLE_BINDINGS, "default", &binding).await.unwrap();
    let eve = server.api.client(UserInfo::new("eve", &[]));
    eve.update(ROLES, "default", "r", &role(json!(["get"]))).await.unwrap();
    let refused = eve
        .update(ROLES, "default", "r", &role(json!(["get", "delete"])))
        .await
        .unwrap_err();
    assert!(said(&refused).contains("is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"configmaps\"], Verbs:[\"delete\"]}"), "{refused}");
    server.stop().await;
}
