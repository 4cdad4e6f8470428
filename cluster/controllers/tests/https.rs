//! The client's HTTPS transport against the real API server on loopback.

#![allow(clippy::unwrap_used)]

mod support;

use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc};
use strata_client::{
    Client, ClientAuth, DeleteOptions, HttpsConfig, Informer, LeaseKeeper, LeaseSettings, ListParams, Patch, Scope,
    discovery, resources::*,
};
use strata_http::{Limits, ServerTls, serve};
use strata_meta::{ObjectKey, Reason};
use strata_task::CancellationToken;
use support::{Cluster, DEADLINE};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

/// A listener in front of a cluster's API server.
struct Front {
    address: SocketAddr,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Front {
    async fn open(cluster: &Cluster, address: &str) -> Self {
        let leaf = cluster
            .ca
            .issue_server(&["localhost".into()], &["127.0.0.1".parse().unwrap()])
            .unwrap();
        let ca = cluster.ca.ca_pem().as_bytes();
        let tls = Arc::new(ServerTls::new(leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes(), Some(ca)).unwrap());
        let listener = TcpListener::bind(address).await.unwrap();
        let (address, cancel) = (listener.local_addr().unwrap(), CancellationToken::new());
        let (stop, handler) = (cancel.clone(), cluster.api.handler());
        let limits = Limits {
            shutdown_grace: std::time::Duration::from_millis(100),
            ..Limits::default()
        };
        let task = tokio::spawn(async move { serve(listener, tls, limits, stop, handler).await.unwrap() });
        Self { address, cancel, task }
    }

    fn client(&self, cluster: &Cluster, auth: ClientAuth) -> Client {
        let server = format!("https://localhost:{}", self.address.port());
        Client::https(HttpsConfig {
            server,
            ca_pem: cluster.ca.ca_pem().into(),
            auth,
        })
        .unwrap()
    }

    fn admin(&self, cluster: &Cluster) -> Client {
        let leaf = cluster.ca.issue_client("admin", &["system:masters"]).unwrap();
        let auth = ClientAuth::Certificate {
            cert_pem: leaf.cert_pem.into(),
            key_pem: leaf.key_pem.into(),
        };
        self.client(cluster, auth)
    }

    async fn close(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

async fn next(told: &mut mpsc::UnboundedReceiver<String>) -> String {
    tokio::time::timeout(DEADLINE, told.recv())
        .await
        .expect("in time")
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verbs_failures_and_discovery_travel_over_https() {
    let cluster = Cluster::start().await;
    let front = Front::open(&cluster, "127.0.0.1:0").await;
    let client = front.admin(&cluster);
    let map = json!({"metadata": {"name": "a b", "labels": {"x": "y"}}, "data": {"k": "v"}});
    let refused = client.create(CONFIG_MAPS, "default", &map).await.unwrap_err();
    assert_eq!(
        refused.status().map(|s| (s.reason, s.code)),
        Some((Reason::Invalid, 422))
    );
    for name in ["a", "b", "c"] {
        let mut map = map.clone();
        map["metadata"]["name"] = json!(name);
        client.create(CONFIG_MAPS, "default", &map).await.unwrap();
    }
    let again = json!({"metadata": {"name": "a"}});
    assert!(
        client
            .create(CONFIG_MAPS, "default", &again)
            .await
            .unwrap_err()
            .is_already_exists()
    );
    let read = client.get(CONFIG_MAPS, "default", "a").await.unwrap();
    assert_eq!((read.label("x"), read.kind.kind.as_str()), (Some("y"), "ConfigMap"));
    let changed = client
        .patch(
            CONFIG_MAPS,
            "default",
            "a",
            None,
            Patch::Merge(json!({"data": {"k": "w"}})),
        )
        .await
        .unwrap();
    assert!(changed.revision > read.revision);
    let stale = client
        .update(CONFIG_MAPS, "default", "a", &read.to_value().unwrap())
        .await
        .unwrap_err();
    assert!(stale.is_conflict(), "{stale}");
    let params = ListParams {
        limit: Some(2),
        ..ListParams::labels("x in (y)")
    };
    let page = client.list(CONFIG_MAPS, Some("default"), params.clone()).await.unwrap();
    assert_eq!(page.items.len(), 2);
    let rest = ListParams {
        continue_token: page.continue_token,
        ..params
    };
    assert_eq!(
        client
            .list(CONFIG_MAPS, Some("default"), rest)
            .await
            .unwrap()
            .items
            .len(),
        1
    );
    client
        .delete(CONFIG_MAPS, "default", "a", DeleteOptions::default())
        .await
        .unwrap();
    assert!(
        client
            .get(CONFIG_MAPS, "default", "a")
            .await
            .unwrap_err()
            .is_not_found()
    );

    let over_https = discovery::discover(&client).await.unwrap();
    let inside = discovery::discover(&cluster.client).await.unwrap();
    assert_eq!(over_https.resources, inside.resources);
    assert!(
        over_https
            .of_kind("apps", "Deployment")
            .unwrap()
            .can("deletecollection")
    );
    assert!(over_https.failures.is_empty(), "{:?}", over_https.failures);
    let every = |resource| over_https.resources.iter().any(|s| s.resource == resource);
    assert!(
        [PODS, NODES, DEPLOYMENTS, ENDPOINT_SLICES, LEASES]
            .into_iter()
            .all(every)
    );
    front.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_informer_survives_the_loss_of_its_server() {
    let cluster = Cluster::start().await;
    let front = Front::open(&cluster, "127.0.0.1:0").await;
    let address = front.address.to_string();
    let client = front.admin(&cluster);
    let scope = Scope {
        namespace: Some("default".into()),
        label_selector: "t=1".into(),
        ..Scope::default()
    };
    let informer = Informer::<Value>::start(&client, CONFIG_MAPS, scope, cluster.cancel.clone());
    let (sender, mut told) = mpsc::unbounded_channel();
    informer.on_change(move |change| {
        let sign = match (&change.old, &change.new) {
            (None, _) => '+',
            (_, Some(_)) => '~',
            (_, None) => '-',
        };
        let _ = sender.send(format!("{sign}{}", change.key.name));
    });
    informer.synced().await;
    let make = async |name: &str, label: &str| {
        let map = json!({"metadata": {"name": name, "labels": {"t": label}}});
        cluster.client.create(CONFIG_MAPS, "default", &map).await.unwrap();
    };
    make("a", "1").await;
    assert_eq!(next(&mut told).await, "+a");
    make("other", "2").await;
    make("b", "1").await;
    assert_eq!(next(&mut told).await, "+b");
    // Leaving the selection is a deletion.
    let relabel = Patch::Merge(json!({"metadata": {"labels": {"t": "2"}}}));
    cluster
        .client
        .patch(CONFIG_MAPS, "default", "b", None, relabel)
        .await
        .unwrap();
    assert_eq!(next(&mut told).await, "-b");

    front.close().await;
    make("c", "1").await;
    cluster
        .client
        .delete(CONFIG_MAPS, "default", "a", DeleteOptions::default())
        .await
        .unwrap();
    let front = Front::open(&cluster, &address).await;
    assert_eq!([next(&mut told).await, next(&mut told).await], ["+c", "-a"]);
    assert!(informer.get(&ObjectKey::new("default", "c")).is_some());
    front.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_are_checked_both_ways() {
    let cluster = Cluster::start().await;
    let front = Front::open(&cluster, "127.0.0.1:0").await;
    let denied = async |auth| {
        front
            .client(&cluster, auth)
            .list(SECRETS, None, ListParams::default())
            .await
            .unwrap_err()
    };
    assert_eq!(denied(ClientAuth::None).await.status().map(|s| s.code), Some(403));
    assert_eq!(
        denied(ClientAuth::Token("nonsense".into()))
            .await
            .status()
            .map(|s| s.code),
        Some(401)
    );

    cluster.namespace("shop").await;
    let ask = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
    let token = cluster
        .client
        .create_subresource(SERVICE_ACCOUNTS, "shop", "default", "token", &ask)
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{}\n", token["status"]["token"].as_str().unwrap())).unwrap();
    let error = denied(ClientAuth::TokenFile(file)).await;
    assert!(
        error.to_string().contains("system:serviceaccount:shop:default"),
        "{error}"
    );

    // A server that another authority vouches for is not spoken to.
    let stranger = tempfile::tempdir().unwrap();
    let stranger = strata_auth::ClusterCa::open_or_create(stranger.path()).unwrap();
    let server = format!("https://127.0.0.1:{}", front.address.port());
    let config = HttpsConfig {
        server,
        ca_pem: stranger.ca_pem().into(),
        auth: ClientAuth::None,
    };
    let error = Client::https(config).unwrap().get(NODES, "", "n").await.unwrap_err();
    assert!(
        error.status().is_none() && error.to_string().contains("certificate"),
        "{error}"
    );
    let odd = HttpsConfig {
        server: "http://127.0.0.1".into(),
        ca_pem: stranger.ca_pem().into(),
        auth: ClientAuth::None,
    };
    assert!(Client::https(odd).is_err());
    front.close().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_made_renewed_and_taken_over_after_interference() {
    let cluster = Cluster::start().await;
    let settings = LeaseSettings {
        namespace: "kube-node-lease".into(),
        name: "n1".into(),
        holder: "n1".into(),
        duration: std::time::Duration::from_secs(40),
        renew_every: std::time::Duration::from_secs(10),
        owner: None,
    };
    let mut keeper = LeaseKeeper::new(cluster.client.clone(), settings);
    let renewed = async || {
        let lease = cluster
            .client
            .get(LEASES, "kube-node-lease", "n1")
            .await
            .unwrap()
            .to_value()
            .unwrap();
        assert_eq!(
            (&lease["spec"]["holderIdentity"], &lease["spec"]["leaseDurationSeconds"]),
            (&json!("n1"), &json!(40))
        );
        lease["spec"]["renewTime"].as_str().unwrap().to_owned()
    };
    keeper.renew().await.unwrap();
    let first = renewed().await;
    keeper.renew().await.unwrap();
    let second = renewed().await;
    assert!(second > first);
    let touch = Patch::Merge(json!({"metadata": {"labels": {"touched": "yes"}}}));
    cluster
        .client
        .patch(LEASES, "kube-node-lease", "n1", None, touch)
        .await
        .unwrap();
    keeper.renew().await.unwrap();
    assert!(renewed().await > second);
    cluster
        .client
        .delete(LEASES, "kube-node-lease", "n1", DeleteOptions::default())
        .await
        .unwrap();
    keeper.renew().await.unwrap();
    renewed().await;
    cluster.stop().await;
}
