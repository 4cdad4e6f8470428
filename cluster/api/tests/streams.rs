//! log, exec, port-forward and proxy reach the agent of the pod's node, and kubectl gets its streams.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use serde_json::json;
use std::{net::SocketAddr, sync::Arc};
use strata_client::resources::{ENDPOINT_SLICES, NODES, PODS, SERVICES};
use strata_http::{Body, Handler, Limits, Peer, ServerTls, portforward, remotecommand, serve};
use strata_task::CancellationToken;
use support::TestServer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What stands at the node's address: it speaks the agent's protocols and runs no containers.
struct Agent;

impl Handler for Agent {
    fn call(&self, mut request: Request<Incoming>, peer: Peer) -> BoxFuture<'static, Response<Body>> {
        assert!(peer.certificates.is_some(), "the server shows its certificate");
        let path = request.uri().path().to_owned();
        let query = request.uri().query().unwrap_or("").to_owned();
        let told = format!("{} {path} {query}\n", request.method());
        let response = match path.split('/').nth(1) {
            Some("exec") => {
                let options = remotecommand::Options::from_query(&query);
                match remotecommand::accept(&mut request, options) {
                    Ok(accepted) => {
                        tokio::spawn(run(accepted.session, told));
                        accepted.response
                    }
                    Err(refused) => *refused,
                }
            }
            Some("portForward") => match portforward::accept(&mut request) {
                Ok(accepted) => {
                    tokio::spawn(echo(accepted.session));
                    accepted.response
                }
                Err(refused) => *refused,
            },
            Some("containerLogs") if query.contains("tailLines=7") => {
                let mut refused = Response::new(Body::full(
                    "container \"c\" in pod \"p\" is waiting to start: ContainerCreating",
                ));
                *refused.status_mut() = http::StatusCode::BAD_REQUEST;
                refused
            }
            _ => Response::new(Body::full(told)),
        };
        Box::pin(async move { response })
    }
}

async fn run(session: BoxFuture<'static, Result<remotecommand::Session, strata_http::Error>>, told: String) {
    let mut session = session.await.unwrap();
    let mut out = session.stdout.take().unwrap();
    out.write_all(told.as_bytes()).await.unwrap();
    if let Some(mut stdin) = session.stdin.take() {
        let mut given = Vec::new();
        stdin.read_to_end(&mut given).await.unwrap();
        out.write_all(&given).await.unwrap();
    }
    out.shutdown().await.unwrap();
    drop(out);
    session.control.finish(&remotecommand::Outcome::Exit(3)).await;
}

async fn echo(session: BoxFuture<'static, Result<portforward::PortForward, strata_http::Error>>) {
    let mut forwards = session.await.unwrap();
    while let Some(mut forward) = forwards.next().await {
        tokio::spawn(async move {
            let mut given = [0; 4];
            forward.data.read_exact(&mut given).await.unwrap();
            forward
                .data
                .write_all(format!("{} to {}", String::from_utf8_lossy(&given), forward.port).as_bytes())
                .await
                .unwrap();
            forward.data.shutdown().await.unwrap();
        });
    }
}

async fn agent(server: &TestServer, cancel: &CancellationToken) -> SocketAddr {
    let leaf = server
        .ca
        .issue_server(&["n1".into()], &["127.0.0.1".parse().unwrap()])
        .unwrap();
    let tls = ServerTls::new(
        leaf.cert_pem.as_bytes(),
        leaf.key_pem.as_bytes(),
        Some(server.ca.ca_pem().as_bytes()),
    )
    .unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cancel = cancel.clone();
    let limits = Limits {
        shutdown_grace: std::time::Duration::from_millis(100),
        ..Limits::default()
    };
    tokio::spawn(async move { serve(listener, Arc::new(tls), limits, cancel, Arc::new(Agent)).await });
    address
}

/// A node at the agent's address and a running pod on it.
async fn populate(server: &TestServer, address: SocketAddr) {
    let client = server.client();
    let node = json!({"metadata": {"name": "n1"}, "status": {
        "addresses": [{"type": "InternalIP", "address": address.ip()}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": address.port()}}}});
    client.create(NODES, "", &node).await.unwrap();
    let pod =
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i"}]}});
    client.create(PODS, "default", &pod).await.unwrap();
    let status = json!({"status": {"phase": "Running", "podIP": "10.244.0.9", "podIPs": [{"ip": "10.244.0.9"}]}});
    client
        .patch(
            PODS,
            "default",
            "p",
            Some("status"),
            strata_client::Patch::Merge(status),
        )
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_reaches_the_agent_through_the_server() {
    let server = TestServer::start().await.with_account().await;
    let cancel = CancellationToken::new();
    let address = agent(&server, &cancel).await;
    populate(&server, address).await;

    assert_eq!(
        server.ok("logs p --tail=5").await,
        "GET /containerLogs/default/p/c tailLines=5\n"
    );
    let waiting = server.kubectl("logs p --tail=7").await;
    assert_eq!(
        waiting.err,
        "Error from server (BadRequest): container \"c\" in pod \"p\" is waiting to start: ContainerCreating\n"
    );
    let other = server.kubectl("logs p -c none").await;
    assert!(other.err.contains("container none is not valid for pod p"), "{other:?}");

    let said = server.feed("exec -i p -- cat -n", "given").await;
    assert_eq!(
        said.out, "GET /exec/default/p/c input=1&output=1&error=1&command=cat&command=-n\ngiven",
        "{said:?}"
    );
    assert!(!said.ok && said.err.contains("exit code 3"), "{said:?}");

    let mut forward = tokio::process::Command::new("kubectl");
    forward
        .args(["port-forward", "pod/p", ":8080"])
        .env("KUBECONFIG", server.kubeconfig())
        .kill_on_drop(true);
    let mut forward = forward.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = tokio::io::BufReader::new(forward.stdout.take().unwrap());
    let mut line = String::new();
    tokio::io::AsyncBufReadExt::read_line(&mut lines, &mut line)
        .await
        .unwrap();
    let port: u16 = line
        .split(" -> ")
        .next()
        .unwrap()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(b"ping").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "ping to 8080");
    forward.kill().await.unwrap();

    let stats = server
        .ok("get --raw /api/v1/nodes/n1/proxy/stats/summary?only_cpu=1")
        .await;
    assert_eq!(stats, "GET /stats/summary only_cpu=1\n");
    cancel.cancel();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_are_proxied_to_a_ready_endpoint() {
    let server = TestServer::start().await.with_account().await;
    let client = server.client();
    let service = json!({"metadata": {"name": "web"}, "spec": {"ports": [{"name": "http", "port": 80}]}});
    client.create(SERVICES, "default", &service).await.unwrap();
    let none = server
        .kubectl("get --raw /api/v1/namespaces/default/services/web/proxy/")
        .await;
    assert!(
        none.err.contains("no endpoints available for service \"web\""),
        "{none:?}"
    );
    let slice = json!({"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}, "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}], "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": false}}]});
    client.create(ENDPOINT_SLICES, "default", &slice).await.unwrap();
    let unready = server
        .kubectl("get --raw /api/v1/namespaces/default/services/web:http/proxy/")
        .await;
    assert!(
        unready.err.contains("no endpoints available for service \"web\""),
        "{unready:?}"
    );
    server.stop().await;
}
