//! The two servers: kube-apiserver with etcd, and Strata without a node or controllers.

use crate::{Options, Outcome};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    net::{IpAddr, Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use strata_auth::ClusterCa;
use strata_http::ClientTls;

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at something that has no event.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Where a server is and how it is reached.
#[derive(Clone)]
pub struct Server {
    /// On the loopback.
    pub port: u16,
    /// As the administrator.
    pub admin: ClientTls,
    /// As nobody.
    pub anonymous: ClientTls,
    /// The range of services.
    pub services: String,
    /// The audit log.
    pub audit: PathBuf,
}

/// A process of ours; ended and waited for when dropped.
pub struct Process(Child, PathBuf);

impl Process {
    fn start(command: &mut Command, log: &Path) -> Outcome<Self> {
        let file = File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self(child, log.to_owned()))
    }

    fn check(&mut self) -> Outcome {
        match self.0.try_wait()? {
            None => Ok(()),
            Some(status) => Err(self.failed(&status.to_string())),
        }
    }

    fn failed(&self, why: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let log = fs::read_to_string(&self.1).unwrap_or_else(|e| e.to_string());
        format!("{}: {why}\n{log}", self.1.display()).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is waited for just the same.
        let _ = kill_process(Pid::from_child(&self.0), Signal::TERM);
        let _ = self.0.wait();
    }
}

/// Starts Strata's API alone.
pub async fn strata(options: &Options, work: &Path) -> Outcome<(Server, Process)> {
    let (data, port, audit) = (work.join("strata"), free_port()?, work.join("strata-audit.log"));
    let mut command = Command::new(&options.strata);
    command.args([
        "--log",
        "warn",
        "server",
        "--bind",
        "127.0.0.1",
        "--no-node",
        "--no-controllers",
    ]);
    command.args(["--port", &port.to_string(), "--data-dir"]).arg(&data);
    command.args(audited(options, &audit));
    let mut process = Process::start(&mut command, &work.join("strata.log"))?;
    let kubeconfig = data.join("admin.kubeconfig");
    let began = Instant::now();
    while !kubeconfig.exists() {
        process.check()?;
        if began.elapsed() > PATIENCE {
            return Err(process.failed("no kubeconfig"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let text = fs::read_to_string(&kubeconfig)?;
    let (ca, certificate, key) = (
        field(&text, "certificate-authority-data")?,
        field(&text, "client-certificate-data")?,
        field(&text, "client-key-data")?,
    );
    let instance: serde_json::Value = serde_json::from_slice(&fs::read(data.join("instance.json"))?)?;
    let pair = instance["pair"].as_u64().ok_or("an instance without address ranges")?;
    let server = Server {
        port,
        admin: ClientTls::new(&ca, Some((&certificate, &key)))?.http1_only(),
        anonymous: ClientTls::new(&ca, None)?.http1_only(),
        services: format!("10.{}.0.0/16", 96 + pair),
        audit,
    };
    until_ready(&server, &mut process).await?;
    Ok((server, process))
}

/// A value of a kubeconfig, which stands behind its name or, folded, on the next line.
fn field(text: &str, name: &str) -> Outcome<Vec<u8>> {
    let behind = text
        .split_once(&format!("{name}:"))
        .ok_or("an incomplete kubeconfig")?
        .1;
    let mut words = behind.split_whitespace();
    let value = words
        .find(|word| !word.starts_with('>'))
        .ok_or("an incomplete kubeconfig")?;
    Ok(STANDARD.decode(value.trim_matches(['"', '\'']))?)
}

/// Starts etcd and kube-apiserver with the same range of services.
pub async fn upstream(options: &Options, work: &Path, like: &Server) -> Outcome<(Server, [Process; 2])> {
    let (pki, port) = (work.join("pki"), free_port()?);
    let ca = ClusterCa::open_or_create(&pki)?;
    let names = ["localhost".to_owned(), "kubernetes".to_owned()];
    let serving = ca.issue_server(&names, &[IpAddr::V4(Ipv4Addr::LOCALHOST)])?;
    let admin = ca.issue_client("strata-admin", &["system:masters"])?;
    let accounts = ca.issue_server(&names, &[])?;
    for (name, text) in [
        ("server.crt", &serving.cert_pem),
        ("server.key", &serving.key_pem),
        ("accounts.crt", &accounts.cert_pem),
        ("accounts.key", &accounts.key_pem),
    ] {
        strata_auth::write_private(&pki.join(name), text.as_bytes())?;
    }
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let (client, peer) = (url(free_port()?), url(free_port()?));
    let mut command = Command::new(options.peers.join("etcd"));
    command
        .arg("--data-dir")
        .arg(work.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("default={peer}"), "--log-level", "error"]);
    let etcd = Process::start(&mut command, &work.join("etcd.log"))?;
    let file = |name: &str| pki.join(name).display().to_string();
    let mut command = Command::new(options.peers.join("kube-apiserver"));
    command.args([
        format!("--etcd-servers={client}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        format!("--cert-dir={}", work.display()),
        format!("--tls-cert-file={}", file("server.crt")),
        format!("--tls-private-key-file={}", file("server.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        format!("--service-account-key-file={}", file("accounts.crt")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-cluster-ip-range={}", like.services),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--enable-bootstrap-token-auth=true".to_owned(),
        "--allow-privileged=true".to_owned(),
    ]);
    let audit = work.join("kube-audit.log");
    command.args(audited(options, &audit));
    let mut api = Process::start(&mut command, &work.join("kube-apiserver.log"))?;
    let identity = (admin.cert_pem.as_bytes(), admin.key_pem.as_bytes());
    let server = Server {
        port,
        admin: ClientTls::new(ca.ca_pem().as_bytes(), Some(identity))?.http1_only(),
        anonymous: ClientTls::new(ca.ca_pem().as_bytes(), None)?.http1_only(),
        services: like.services.clone(),
        audit,
    };
    until_ready(&server, &mut api).await?;
    // The API server first.
    Ok((server, [api, etcd]))
}

/// One policy and one file for either; the file is not begun anew.
fn audited(options: &Options, log: &Path) -> [String; 3] {
    [
        format!(
            "--audit-policy-file={}",
            options.folder.join("audit-policy.yaml").display()
        ),
        format!("--audit-log-path={}", log.display()),
        "--audit-log-maxsize=1000".to_owned(),
    ]
}

async fn until_ready(server: &Server, process: &mut Process) -> Outcome {
    let request = crate::Request {
        method: "GET".into(),
        path: "/readyz".into(),
        ..Default::default()
    };
    let began = Instant::now();
    loop {
        process.check()?;
        match crate::send::send(server, &request).await {
            Ok(answer) if answer["status"] == 200 => return Ok(()),
            other if began.elapsed() > PATIENCE => return Err(process.failed(&format!("not ready: {other:?}"))),
            _ => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

fn free_port() -> Outcome<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
