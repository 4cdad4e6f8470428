//! A `strata server` in a data directory of its own, and the moments of its start.

use crate::{
    Options,
    failure::{Outcome, fail},
    http2::{Http2, Target},
    process::Owned,
};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{net::UdpSocket, time::timeout};

/// Flags beside the data directory and the port.
pub const FLAGS: &str = "--log warn server --bind 127.0.0.1 --shared-disk";
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at something that has no event.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// How long one DNS query may take before it is sent again.
const DNS_PATIENCE: Duration = Duration::from_millis(20);
/// A query for the A record of kubernetes.default.svc.cluster.local (RFC 1035 section 4.1).
const QUERY: &[u8] =
    b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x0akubernetes\x07default\x03svc\x07cluster\x05local\0\0\x01\0\x01";

/// A running server; ended, and every trace of it removed, when dropped.
pub struct Server {
    // Ended before the folder goes.
    process: Option<Owned>,
    folder: TempDir,
    port: u16,
    strata: PathBuf,
    began: Instant,
}

/// What had been reached how long after the start of the process.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// /readyz answers 200 over TLS.
    pub readyz: Duration,
    /// The node has the condition Ready.
    pub node: Duration,
    /// The default namespace has its service account.
    pub account: Duration,
    /// The cluster's DNS address answers.
    pub dns: Duration,
}

impl Moments {
    /// When all of it was there.
    pub fn all(&self) -> Duration {
        self.readyz.max(self.node).max(self.account).max(self.dns)
    }
}

impl Server {
    /// Starts one on an empty data directory; does not wait.
    pub fn start(options: &Options) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("strata-").tempdir_in(&options.work)?;
        let port = free_port()?;
        let mut command = Command::new(&options.strata);
        command
            .args(FLAGS.split(' '))
            .args(["--port", &port.to_string(), "--data-dir"])
            .arg(folder.path().join("data"));
        let began = Instant::now();
        let process = Owned::start(&mut command, &folder.path().join("log"))?;
        Ok(Self {
            process: Some(process),
            folder,
            port,
            strata: options.strata.clone(),
            began,
        })
    }

    /// Starts one and waits until everything is there.
    pub async fn ready(options: &Options) -> Outcome<(Self, Moments)> {
        let mut server = Self::start(options)?;
        match timeout(PATIENCE, server.watch_start()).await {
            Ok(Ok(moments)) => Ok((server, moments)),
            Ok(Err(failure)) => fail(format!("{failure}\n{}", server.log())),
            Err(_) => fail(format!("the server is not ready after {PATIENCE:?}:\n{}", server.log())),
        }
    }

    async fn watch_start(&mut self) -> Outcome<Moments> {
        let began = self.began;
        let kubeconfig = self.data_dir().join("admin.kubeconfig");
        while !kubeconfig.exists() {
            if self.process.as_mut().is_none_or(Owned::has_ended) {
                return fail("the server has ended");
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let mut api = loop {
            let connected = match self.target() {
                Ok(target) => Http2::connect(&target).await,
                Err(failure) => Err(failure),
            };
            match connected {
                Ok(api) => break api,
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        };
        until(&mut api, "/readyz", |_| true).await?;
        let readyz = began.elapsed();
        let account = {
            let mut api = api.clone();
            async move {
                until(&mut api, "/api/v1/namespaces/default/serviceaccounts/default", |_| true).await?;
                Ok(began.elapsed())
            }
        };
        let dns = {
            let mut api = api.clone();
            async move {
                let service = until(&mut api, "/api/v1/namespaces/kube-system/services/kube-dns", |_| true).await?;
                let address = service["spec"]["clusterIP"].as_str().and_then(|a| a.parse().ok());
                match address {
                    Some(address) => ask_dns(address).await?,
                    None => return fail("the cluster has no DNS address"),
                }
                Ok(began.elapsed())
            }
        };
        let node = async move {
            until(&mut api, "/api/v1/nodes", node_is_ready).await?;
            Ok(began.elapsed())
        };
        let (account, dns, node) = futures::try_join!(account, dns, node)?;
        Ok(Moments {
            readyz,
            node,
            account,
            dns,
        })
    }

    /// Its port and the administrator's identity.
    pub fn target(&self) -> Outcome<Target> {
        Target::from_kubeconfig(&self.data_dir().join("admin.kubeconfig"), self.port)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().map_or(0, Owned::pid)
    }

    /// Where it keeps everything.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_else(|e| e.to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.take());
        // Containers outlive a server; a measurement's must not.
        let reset = Command::new(&self.strata)
            .args(["reset", "--data-dir"])
            .arg(self.data_dir())
            .output();
        match reset {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("strata reset: {}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => eprintln!("strata reset: {error}"),
        }
    }
}

/// Gets a document until it is there and satisfies. Text that is no JSON counts as null.
pub async fn until(api: &mut Http2, path: &str, holds: impl Fn(&Value) -> bool) -> Outcome<Value> {
    loop {
        let (status, body) = api.send(http::Method::GET, path, bytes::Bytes::new()).await?;
        let value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        if status == http::StatusCode::OK && holds(&value) {
            return Ok(value);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

fn node_is_ready(nodes: &Value) -> bool {
    let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
    let conditions = nodes["items"][0]["status"]["conditions"].as_array();
    conditions.is_some_and(|all| all.iter().any(ready))
}

async fn ask_dns(address: Ipv4Addr) -> Outcome {
    let mut answer = [0; 512];
    loop {
        // A new socket each time: the kernel remembers where the packets of an old one went.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        let asked = async {
            socket.connect((address, 53)).await?;
            socket.send(QUERY).await?;
            socket.recv(&mut answer).await
        };
        match timeout(DNS_PATIENCE, asked).await {
            // No error and at least one record (RFC 1035 section 4.1.1).
            Ok(Ok(n)) if n > 12 && answer[3] & 0xf == 0 && answer[7] > 0 => return Ok(()),
            Ok(_) => tokio::time::sleep(LOOK_AGAIN).await,
            Err(_) => {}
        }
    }
}

/// A port of the loopback that nobody listens on right now.
pub fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
