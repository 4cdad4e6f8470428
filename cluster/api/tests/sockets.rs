//! Watches and logs over WebSocket, as pages in browsers open them.

#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use futures::StreamExt;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};
use std::time::Duration;
use strata_client::resources::CONFIG_MAPS;
use strata_http::{
    BoxedIo, ClientTls,
    websocket::{self, Message, WebSocket},
};
use support::TestServer;

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(20);
const WATCH: &str = "/api/v1/namespaces/default/configmaps?watch=true";

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let of = |(name, value): &(&'static str, &'static str)| (name.parse().unwrap(), HeaderValue::from_static(value));
    pairs.iter().map(of).collect()
}

async fn open(
    server: &TestServer,
    path: &str,
    protocols: &[&str],
    headers: HeaderMap,
) -> Result<(WebSocket, String), strata_http::Error> {
    let identity = (server.admin.cert_pem.as_bytes(), server.admin.key_pem.as_bytes());
    let tls = ClientTls::new(server.ca.ca_pem().as_bytes(), Some(identity)).unwrap();
    let tcp = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let io: BoxedIo = Box::new(tls.http1_only().connect(tcp, "localhost").await.unwrap());
    websocket::connect(io, "localhost", path, protocols, headers).await
}

async fn next(socket: &mut WebSocket) -> Message {
    let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("in time");
    next.expect("more").unwrap()
}

#[tokio::test]
async fn a_watch_over_a_socket_tells_each_change_in_a_message_of_its_own() {
    let server = TestServer::start().await;
    let page = [("origin", "https://dashboard.example")];
    let (mut socket, protocol) = open(&server, WATCH, &["base64.binary.k8s.io"], headers(&page))
        .await
        .unwrap();
    // The form does not depend on the subprotocol, which is taken as it is.
    assert_eq!(protocol, "base64.binary.k8s.io");
    let protobuf = [page[0], ("accept", "application/vnd.kubernetes.protobuf")];
    let (mut binary, _) = open(&server, WATCH, &[], headers(&protobuf)).await.unwrap();
    for name in ["one", "two"] {
        let made = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        server.client().create(CONFIG_MAPS, "default", &made).await.unwrap();
    }
    for name in ["one", "two"] {
        let Message::Text(text) = next(&mut socket).await else {
            panic!("JSON is text");
        };
        let event: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&event["type"], &event["object"]["metadata"]["name"]),
            (&json!("ADDED"), &json!(name))
        );
        let Message::Binary(bytes) = next(&mut binary).await else {
            panic!("protobuf is binary");
        };
        // A WatchEvent without the length that stands before it in a plain answer: field 1 is the type.
        assert_eq!(&bytes[..7], b"\x0a\x05ADDED", "{bytes:?}");
        assert!(bytes.windows(3).any(|w| w == name.as_bytes()));
    }
    // A watch that ends closes the socket.
    let brief = format!("{WATCH}&timeoutSeconds=1&resourceVersion=0");
    let (mut brief, _) = open(&server, &brief, &[], headers(&page)).await.unwrap();
    let mut last = next(&mut brief).await;
    while !last.is_close() {
        last = next(&mut brief).await;
    }
    drop((socket, binary, brief));
    server.stop().await;
}

#[tokio::test]
async fn a_socket_is_refused_as_upstream_refuses_it() {
    let server = TestServer::start().await;
    let page = [("origin", "https://dashboard.example")];
    for (protocols, given, code) in [(&[][..], headers(&[]), "403"), (&["a", "b"][..], headers(&page), "400")] {
        let refused = open(&server, WATCH, protocols, given).await.err().unwrap().to_string();
        assert!(refused.contains(code), "{refused}");
    }
    server.stop().await;
}
