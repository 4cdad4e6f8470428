//! The peer of the API rows: kube-apiserver and etcd, alone, durable, on the same disk.

use crate::{
    Options,
    failure::{Outcome, fail},
    http2::{Http2, Target},
    process::Owned,
    server::{free_port, until},
};
use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use strata_auth::ClusterCa;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

/// What the table says about the flags.
pub const FLAGS: &str = "etcd 3.6.16 with its default flags (fsync on) over plain HTTP on the loopback; kube-apiserver \
    v1.36.3 `--authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction`, client certificate, its \
    other flags at their defaults";
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Both, running; ended and removed when dropped.
pub struct Upstream {
    // In this order: the API server first.
    api: Owned,
    etcd: Owned,
    _folder: TempDir,
    target: Target,
    /// From the start of etcd to /readyz.
    pub readyz: Duration,
}

impl Upstream {
    /// Whether both were built.
    pub fn is_there(options: &Options) -> bool {
        ["etcd", "kube-apiserver"]
            .iter()
            .all(|name| options.peers.join(name).exists())
    }

    /// Starts both at once on an empty folder and waits for /readyz. The certificates are there before the clock runs.
    pub async fn ready(options: &Options) -> Outcome<Self> {
        let folder = tempfile::Builder::new().prefix("upstream-").tempdir_in(&options.work)?;
        let port = free_port()?;
        let target = certificates(&folder.path().join("pki"), port)?;
        let (client, peer) = (free_port()?, free_port()?);
        let began = Instant::now();
        let etcd = Owned::start(
            &mut etcd(options, folder.path(), client, peer),
            &folder.path().join("etcd.log"),
        )?;
        let log = folder.path().join("kube-apiserver.log");
        let mut api = Owned::start(&mut kube_apiserver(options, folder.path(), client, port), &log)?;
        let ready = async {
            let mut connection = loop {
                match Http2::connect(&target).await {
                    Ok(connection) => break connection,
                    Err(_) if api.has_ended() => return fail("kube-apiserver has ended"),
                    Err(_) => sleep(LOOK_AGAIN).await,
                }
            };
            until(&mut connection, "/readyz", |_| true).await
        };
        match timeout(PATIENCE, ready).await {
            Ok(Ok(_)) => {}
            other => {
                let why = match other {
                    Ok(Err(failure)) => failure.to_string(),
                    _ => "kube-apiserver is not ready".to_owned(),
                };
                let text = std::fs::read_to_string(&log).unwrap_or_else(|e| e.to_string());
                return fail(format!("{why}:\n{text}"));
            }
        }
        Ok(Self {
            readyz: began.elapsed(),
            api,
            etcd,
            _folder: folder,
            target,
        })
    }

    /// Port and identity.
    pub fn target(&self) -> Target {
        self.target.clone()
    }

    /// The processes: kube-apiserver, etcd.
    pub fn pids(&self) -> [u32; 2] {
        [self.api.pid(), self.etcd.pid()]
    }
}

fn certificates(folder: &Path, port: u16) -> Outcome<Target> {
    let ca = ClusterCa::open_or_create(folder)?;
    let names = ["localhost".to_owned(), "kubernetes".to_owned()];
    let server = ca.issue_server(&names, &[IpAddr::V4(Ipv4Addr::LOCALHOST)])?;
    let admin = ca.issue_client("bench-admin", &["system:masters"])?;
    let accounts = ca.issue_server(&names, &[])?;
    for (name, text) in [
        ("server.crt", &server.cert_pem),
        ("server.key", &server.key_pem),
        ("accounts.crt", &accounts.cert_pem),
        ("accounts.key", &accounts.key_pem),
    ] {
        strata_auth::write_private(&folder.join(name), text.as_bytes())?;
    }
    Ok(Target {
        port,
        ca: ca.ca_pem().to_owned(),
        certificate: admin.cert_pem,
        key: admin.key_pem,
    })
}

fn etcd(options: &Options, folder: &Path, client: u16, peer: u16) -> Command {
    let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
    let mut command = Command::new(options.peers.join("etcd"));
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"]);
    command
}

fn kube_apiserver(options: &Options, folder: &Path, etcd: u16, port: u16) -> Command {
    let pki = folder.join("pki");
    let file = |name: &str| pki.join(name).display().to_string();
    let mut command = Command::new(options.peers.join("kube-apiserver"));
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{etcd}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", folder.display()),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--service-account-key-file={}", file("accounts.crt")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
    ]);
    command
}
