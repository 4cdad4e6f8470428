//! What probes and lifecycle hooks do: run a command, ask over HTTP, open a connection.

use crate::{
    grpc,
    pod::{Container, Handler, HttpGetAction},
};
use http::{Request, Uri, header};
use http_body_util::BodyExt;
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{sync::Arc, time::Duration};
use strata_engine::{ContainerId, Engine};
use strata_http::{Body, BoxedIo, Connection};
use strata_meta::IntOrString;
use tokio::net::TcpStream;

/// Bytes of an answer that a failure's message may quote.
const QUOTE: usize = 10 << 10;

/// Where a handler acts.
#[derive(Clone)]
pub struct Target {
    /// The engine.
    pub engine: Engine,
    /// The container.
    pub id: ContainerId,
    /// Its specification, for named ports.
    pub container: Container,
    /// The pod's address (the node's, in the node's network).
    pub ip: String,
}

/// Runs a handler; the error is a sentence for an event.
pub async fn run(target: &Target, handler: &Handler, timeout: Duration) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        return exec_action(target, &exec.command, timeout).await;
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
        return Ok(());
    }
    let attempt = async {
        if let Some(get) = &handler.http_get {
            http_get(target, get).await
        } else if let Some(tcp) = &handler.tcp_socket {
            connect(host(target, &tcp.host), port(target, &tcp.port)?)
                .await
                .map(|_| ())
        } else if let Some(action) = &handler.grpc {
            return grpc::check(&target.ip, action, timeout).await;
        } else {
            Err("no handler is given".to_owned())
        }
    };
    match tokio::time::timeout(timeout, attempt).await {
        Ok(result) => result,
        Err(_) => Err(format!("timed out after {timeout:?} (context deadline exceeded)")),
    }
}

async fn exec_action(target: &Target, command: &[String], timeout: Duration) -> Result<(), String> {
    match target.engine.exec_sync(&target.id, command.to_vec(), timeout).await {
        Ok(result) if result.exit_code == 0 => Ok(()),
        Ok(result) => {
            let output = [result.stdout, result.stderr].concat();
            let output = &output[..output.len().min(QUOTE)];
            Err(String::from_utf8_lossy(output).into_owned())
        }
        Err(strata_engine::Error::Timeout { .. }) => Err(format!("command timed out after {timeout:?}: {command:?}")),
        Err(e) => Err(e.to_string()),
    }
}

fn host<'a>(target: &'a Target, named: &'a str) -> &'a str {
    if named.is_empty() { &target.ip } else { named }
}

fn port(target: &Target, port: &IntOrString) -> Result<u16, String> {
    match port {
        IntOrString::Int(n) => u16::try_from(*n).map_err(|_| format!("invalid port number: {n}")),
        IntOrString::String(name) => {
            let named = target
                .container
                .ports
                .iter()
                .find(|p| &p.name == name)
                .map(|p| p.container_port);
            named
                .or_else(|| name.parse().ok())
                .ok_or_else(|| format!("couldn't find port: {name}"))
        }
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let stream = TcpStream::connect((host, port))
        .await
        .map_err(|e| format!("dial tcp {host}:{port}: {e}"))?;
    // Latency is what a probe measures; the option failing changes nothing else.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

async fn http_get(target: &Target, get: &HttpGetAction) -> Result<(), String> {
    let (host, port) = (host(target, &get.host), port(target, &get.port)?);
    let secure = get.scheme.eq_ignore_ascii_case("HTTPS");
    let scheme = if secure { "https" } else { "http" };
    let path = if get.path.starts_with('/') {
        get.path.clone()
    } else {
        format!("/{}", get.path)
    };
    let url = format!("{scheme}://{host}:{port}{path}");
    let describe = |e: &dyn std::fmt::Display| format!("Get {url:?}: {e}");
    let tcp = connect(host, port).await.map_err(|e| describe(&e))?;
    let io: BoxedIo = if secure {
        Box::new(unverified_tls(tcp, host).await.map_err(|e| describe(&e))?)
    } else {
        Box::new(tcp)
    };
    let mut connection = Connection::http1(io).await.map_err(|e| describe(&e))?;
    let request = probe_request(get, &path, host, port).map_err(|e| describe(&e))?;
    let answer = connection.send(request).await.map_err(|e| describe(&e))?;
    let status = answer.status();
    if status.is_success() || status.is_redirection() {
        return Ok(());
    }
    // The body is read for good manners only as far as it is quoted.
    let mut body = answer.into_body();
    let _ = body.frame().await;
    Err(format!("HTTP probe failed with statuscode: {}", status.as_u16()))
}

fn probe_request(get: &HttpGetAction, path: &str, host: &str, port: u16) -> Result<Request<Body>, http::Error> {
    let uri: Uri = path.parse()?;
    let given = |name: &str| get.http_headers.iter().any(|h| h.name.eq_ignore_ascii_case(name));
    let mut request = Request::get(uri);
    if !given("host") {
        request = request.header(header::HOST, format!("{host}:{port}"));
    }
    if !given("user-agent") {
        request = request.header(header::USER_AGENT, "kube-probe/1.36");
    }
    if !given("accept") {
        request = request.header(header::ACCEPT, "*/*");
    }
    for h in &get.http_headers {
        request = request.header(h.name.as_str(), h.value.as_str());
    }
    request.header(header::CONNECTION, "close").body(Body::empty())
}

async fn unverified_tls(tcp: TcpStream, host: &str) -> Result<tokio_rustls::client::TlsStream<TcpStream>, String> {
    let config = ClientConfig::builder()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(Arc::new(ring::default_provider()))))
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(name, tcp).await.map_err(|e| e.to_string())
}

/// Probes ask whether a server answers, not who it is: upstream skips verification, and so
/// must this, because pods serve certificates the node knows nothing about.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
