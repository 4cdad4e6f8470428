//! A real server on loopback and the real kubectl.

#![allow(dead_code, reason = "each test uses some of it")]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

pub mod beside;

use std::{net::SocketAddr, path::PathBuf, process::Stdio, sync::Arc};
use strata_api::{ApiOptions, ApiServer};
use strata_auth::{ClusterCa, Leaf, TokenIssuer, UserInfo, kubeconfig};
use strata_client::{Client, Transport};
use strata_http::{ServerTls, serve};
use strata_store::{MemoryStore, Store};
use strata_task::CancellationToken;
use tokio::io::AsyncWriteExt;

/// A server with its own authority, listening on an ephemeral port.
pub struct TestServer {
    pub api: Arc<ApiServer>,
    pub address: SocketAddr,
    pub ca: ClusterCa,
    pub admin: Leaf,
    pub directory: tempfile::TempDir,
    cancel: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl TestServer {
    pub async fn start() -> Self {
        Self::over(Arc::new(MemoryStore::new())).await
    }

    pub async fn over(store: Arc<dyn Store>) -> Self {
        Self::with(store, |_| {}).await
    }

    /// A server whose options are adjusted.
    pub async fn with(store: Arc<dyn Store>, adjust: impl FnOnce(&mut ApiOptions)) -> Self {
        strata_http::install_crypto();
        let directory = tempfile::tempdir().unwrap();
        let ca = ClusterCa::open_or_create(directory.path()).unwrap();
        let issuer =
            TokenIssuer::open_or_create(directory.path(), "https://kubernetes.default.svc.cluster.local").unwrap();
        let leaf = ca
            .issue_server(&["localhost".into()], &["127.0.0.1".parse().unwrap()])
            .unwrap();
        let tls = ServerTls::new(
            leaf.cert_pem.as_bytes(),
            leaf.key_pem.as_bytes(),
            Some(ca.ca_pem().as_bytes()),
        )
        .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut options = ApiOptions::new(
            store,
            Arc::new(issuer),
            ca.ca_pem().to_owned(),
            "10.1.2.3:6443".parse().unwrap(),
        );
        options.agent_identity = Some(
            ca.issue_client("kube-apiserver-kubelet-client", &["system:masters"])
                .unwrap(),
        );
        adjust(&mut options);
        let api = Arc::new(ApiServer::start(options).await.unwrap());
        let cancel = CancellationToken::new();
        let (handler, stop) = (api.handler(), cancel.clone());
        let limits = strata_http::Limits {
            shutdown_grace: std::time::Duration::from_millis(200),
            ..strata_http::Limits::default()
        };
        let serving = tokio::spawn(async move { serve(listener, Arc::new(tls), limits, stop, handler).await.unwrap() });
        let admin = ca.issue_client("admin", &["system:masters"]).unwrap();
        let server = Self {
            api,
            address,
            ca,
            admin,
            directory,
            cancel,
            serving,
        };
        std::fs::write(
            server.kubeconfig(),
            kubeconfig(&server.url(), server.ca.ca_pem(), &server.admin, "test"),
        )
        .unwrap();
        server
    }

    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    pub fn client(&self) -> Client {
        self.api.client(UserInfo::new("admin", &["system:masters"]))
    }

    /// The raw way into the server for a user.
    pub fn transport(&self, user: UserInfo) -> Arc<dyn Transport> {
        self.api.transport(user)
    }

    /// A default service account in the default namespace, as its controller would make it.
    pub async fn with_account(self) -> Self {
        let account =
            serde_json::json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
        let accounts = strata_client::resources::SERVICE_ACCOUNTS;
        self.client().create(accounts, "default", &account).await.unwrap();
        self
    }

    /// Runs kubectl with words split at spaces.
    pub async fn kubectl(&self, words: &str) -> Said {
        self.kubectl_with(&words.split(' ').collect::<Vec<_>>(), "").await
    }

    /// Runs kubectl and expects it to succeed; its output.
    pub async fn ok(&self, words: &str) -> String {
        let said = self.kubectl(words).await;
        assert!(said.ok, "kubectl {words}: {said:?}");
        said.out
    }

    /// `kubectl VERB -f -` with a manifest; its output.
    pub async fn feed(&self, words: &str, manifest: &str) -> Said {
        self.kubectl_with(&words.split(' ').collect::<Vec<_>>(), manifest).await
    }

    pub async fn kubectl_with(&self, words: &[&str], input: &str) -> Said {
        let mut child = tokio::process::Command::new("kubectl")
            .args(words)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input.as_bytes()).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(std::time::Duration::from_secs(60), child.wait_with_output());
        let output = output.await.expect("kubectl ends").unwrap();
        Said {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub async fn stop(self) {
        self.cancel.cancel();
        self.api.stop().await;
        self.serving.await.unwrap();
    }
}
