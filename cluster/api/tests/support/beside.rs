//! An HTTPS server of a test's own beside the API server, which calls it.

use super::TestServer;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use strata_auth::ClusterCa;
use strata_client::Client;
use strata_http::{Handler, Limits, ServerTls, serve};
use strata_task::CancellationToken;

/// Serves on loopback with a certificate of the authority, until cancelled.
pub async fn listen(ca: &ClusterCa, handler: impl Handler + 'static, cancel: &CancellationToken) -> SocketAddr {
    let names = (["localhost".to_owned()], ["127.0.0.1".parse().unwrap()]);
    let leaf = ca.issue_server(&names.0, &names.1).unwrap();
    let tls = ServerTls::new(leaf.cert_pem.as_bytes(), leaf.key_pem.as_bytes(), None).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let limits = Limits {
        shutdown_grace: Duration::from_millis(50),
        ..Limits::default()
    };
    let stop = cancel.clone();
    tokio::spawn(async move { serve(listener, Arc::new(tls), limits, stop, Arc::new(handler)).await });
    address
}

/// An API server and what it calls.
pub struct Beside<H> {
    pub server: TestServer,
    pub client: Client,
    pub hook: H,
    pub address: SocketAddr,
    cancel: CancellationToken,
}

impl<H: Handler + Clone + 'static> Beside<H> {
    pub async fn start(hook: H) -> Self {
        let server = TestServer::start().await;
        let cancel = CancellationToken::new();
        let address = listen(&server.ca, hook.clone(), &cancel).await;
        Self {
            client: server.client(),
            server,
            hook,
            address,
            cancel,
        }
    }
}

impl<H> Beside<H> {
    /// The `clientConfig` of a path.
    pub fn place(&self, path: &str) -> Value {
        let bundle = STANDARD.encode(self.server.ca.ca_pem());
        json!({"url": format!("https://{}{path}", self.address), "caBundle": bundle})
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.server.stop().await;
    }
}
