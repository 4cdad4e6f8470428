//! The executor with a real kernel: what the API says arrives in the tables. Needs root.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use strata_client::{Client, Error, ListRequest, ObjectList, Transport, WatchRequest};
use strata_meta::{GroupVersionKind, Object, ObjectKey, Revision, WatchEvent};
use strata_net::netlink::route::{LOOPBACK, RouteSocket};
use strata_net::nft::{Batch, Family, NftSocket};
use strata_net::{NetworkNamespace, cleanup};
use strata_service::{ServiceProxy, ServiceProxyOptions};
use strata_task::CancellationToken;
use tokio::sync::broadcast;

const DEADLINE: Duration = Duration::from_secs(5);

/// An API of lists and watches without a server: objects put here are listed and told.
#[derive(Clone)]
struct Api(Arc<ApiState>);

struct ApiState {
    objects: Mutex<Vec<(&'static str, Arc<Object>)>>,
    events: broadcast::Sender<(&'static str, WatchEvent)>,
}

impl Api {
    fn new() -> Self {
        Self(Arc::new(ApiState {
            objects: Mutex::default(),
            events: broadcast::channel(64).0,
        }))
    }

    fn put(&self, plural: &'static str, kind: &str, json: &str) {
        let mut objects = self.0.objects.lock().unwrap();
        let kind = Arc::new(GroupVersionKind {
            group: String::new(),
            version: "v1".into(),
            kind: kind.into(),
        });
        let value = serde_json::from_str(json).unwrap();
        let revision = Revision(objects.len() as u64 + 1);
        let object = Arc::new(Object::from_value(kind, revision, &value).unwrap());
        objects.push((plural, object.clone()));
        // Nobody may be watching yet.
        let _ = self.0.events.send((plural, WatchEvent::Added(object)));
    }
}

impl Transport for Api {
    fn send(&self, _: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<Bytes>, Error>> {
        async { Err(Error::Transport("only lists and watches".into())) }.boxed()
    }

    fn list(&self, request: ListRequest) -> BoxFuture<'_, Result<ObjectList, Error>> {
        let objects = self.0.objects.lock().unwrap();
        let items = objects.iter().filter(|(plural, _)| *plural == request.resource.plural);
        let items = items.map(|(_, object)| object.clone()).collect();
        let revision = Revision(objects.len() as u64);
        async move {
            Ok(ObjectList {
                items,
                revision,
                continue_token: String::new(),
            })
        }
        .boxed()
    }

    fn watch(
        &self,
        request: WatchRequest,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Result<WatchEvent, Error>>, Error>> {
        let objects = self.0.objects.lock().unwrap();
        let events = self.0.events.subscribe();
        let plural = request.resource.plural;
        let missed: Vec<_> = objects
            .iter()
            .skip(request.from.0 as usize)
            .filter(|(of, _)| *of == plural)
            .collect();
        let missed: Vec<_> = missed
            .into_iter()
            .map(|(_, object)| Ok(WatchEvent::Added(object.clone())))
            .collect();
        let live = futures::stream::unfold(events, move |mut events| async move {
            loop {
                let (of, event) = events.recv().await.ok()?;
                if of == plural {
                    return Some((Ok(event), events));
                }
            }
        });
        let stream = futures::stream::iter(missed).chain(live).boxed();
        async move { Ok(stream) }.boxed()
    }
}

fn options(api: &Api, dns: SocketAddr) -> ServiceProxyOptions {
    ServiceProxyOptions {
        client: Client::new(Arc::new(api.clone())),
        node_name: "node".into(),
        node_ips: Vec::new(),
        instance: "proxy".into(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: Some("10.96.0.0/16".parse().unwrap()),
        node_port_addresses: Vec::new(),
        dns: Some(("10.96.0.10".parse().unwrap(), dns)),
    }
}

fn put_service(api: &Api, name: &str, ip: &str, target: SocketAddr) {
    api.put("services", "Service", &format!(
        r#"{{"apiVersion": "v1", "kind": "Service", "metadata": {{"namespace": "default", "name": "{name}", "uid": "{name}"}},
             "spec": {{"type": "ClusterIP", "clusterIP": "{ip}", "ports": [{{"name": "https", "port": 443}}]}}}}"#
    ));
    api.put("endpointslices", "EndpointSlice", &format!(
        r#"{{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
             "metadata": {{"namespace": "default", "name": "{name}-1", "uid": "s-{name}", "labels": {{"kubernetes.io/service-name": "{name}"}}}},
             "endpoints": [{{"addresses": ["{}"]}}], "ports": [{{"name": "https", "port": {}}}]}}"#,
        target.ip(),
        target.port()
    ));
}

#[test]
fn services_of_the_api_become_reachable_and_survive_a_flushed_table() {
    let namespace = NetworkNamespace::create().unwrap();
    namespace.run(run).unwrap();
}

fn run() {
    let mut socket = RouteSocket::open().unwrap();
    let node = [172, 30, 0, 1].into();
    socket
        .requests()
        .set_up(LOOPBACK)
        .add_address(LOOPBACK, node, 32, None)
        .run()
        .unwrap();
    let server = TcpListener::bind("172.30.0.1:0").unwrap();
    let dns = TcpListener::bind("172.30.0.1:0").unwrap();
    let reaches = |address: &str, listener: &TcpListener| {
        let _client = TcpStream::connect_timeout(&address.parse().unwrap(), DEADLINE).unwrap();
        listener.accept().unwrap();
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let api = Api::new();
    put_service(&api, "kubernetes", "10.96.0.1", server.local_addr().unwrap());
    let proxy = runtime.block_on(async {
        let proxy = ServiceProxy::start(options(&api, dns.local_addr().unwrap()), CancellationToken::new()).unwrap();
        tokio::time::timeout(DEADLINE, proxy.synced()).await.unwrap();
        proxy
    });
    reaches("10.96.0.1:443", &server);
    reaches("10.96.0.10:53", &dns);

    // Somebody removes the table; the next change notices and builds everything again.
    let mut batch = Batch::new(Family::Ipv4, "strata-proxy-services");
    batch.delete_table();
    NftSocket::open().unwrap().apply(batch).unwrap();
    put_service(&api, "later", "10.96.0.2", server.local_addr().unwrap());
    let later = ObjectKey::new("default", "later");
    runtime.block_on(async { tokio::time::timeout(DEADLINE, proxy.programmed(&later)).await.unwrap() });
    reaches("10.96.0.1:443", &server);
    reaches("10.96.0.10:53", &dns);
    let deadline = std::time::Instant::now() + DEADLINE;
    while TcpStream::connect("10.96.0.2:443").is_err() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }

    runtime.block_on(proxy.stop());
    reaches("10.96.0.1:443", &server);
    cleanup("proxy").unwrap();
    assert!(NftSocket::open().unwrap().tables(Family::Ipv4).unwrap().is_empty());
}
