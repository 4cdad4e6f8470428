//! A real server on loopback for this crate's tests, and connections to it.

use crate::{Body, BoxedIo, ClientTls, Handler, Limits, Peer, ServerTls, serve};
use futures::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// An authority, a server certificate for `localhost`, and a client certificate.
pub(crate) struct Certificates {
    pub(crate) ca: String,
    pub(crate) server: (String, String),
    pub(crate) client: (String, String),
}

pub(crate) fn certificates() -> Certificates {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("key");
    let ca = params.self_signed(&key).expect("authority").pem();
    let issuer = Issuer::new(params, key);
    let leaf = |names: Vec<String>| {
        let key = KeyPair::generate().expect("key");
        let certificate = CertificateParams::new(names)
            .expect("names")
            .signed_by(&key, &issuer)
            .expect("leaf");
        (certificate.pem(), key.serialize_pem())
    };
    let (server, client) = (
        leaf(vec!["localhost".into(), "127.0.0.1".into()]),
        leaf(vec!["somebody".into()]),
    );
    Certificates { ca, server, client }
}

type Function = dyn Fn(Request<Incoming>, Peer) -> BoxFuture<'static, Response<Body>> + Send + Sync;

struct FunctionHandler(Box<Function>);

impl Handler for FunctionHandler {
    fn call(&self, request: Request<Incoming>, peer: Peer) -> BoxFuture<'static, Response<Body>> {
        (self.0)(request, peer)
    }
}

/// A server that ends when this is dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) certificates: Certificates,
    pub(crate) tls: Arc<ServerTls>,
    pub(crate) cancel: CancellationToken,
    pub(crate) task: tokio::task::JoinHandle<std::io::Result<()>>,
    _stop: DropGuard,
}

impl TestServer {
    pub(crate) async fn start<F>(limits: Limits, function: F) -> Self
    where
        F: Fn(Request<Incoming>, Peer) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    {
        let certificates = certificates();
        let (certificate, key) = &certificates.server;
        let tls = ServerTls::new(certificate.as_bytes(), key.as_bytes(), Some(certificates.ca.as_bytes()));
        let tls = Arc::new(tls.expect("TLS"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let cancel = CancellationToken::new();
        let handler = Arc::new(FunctionHandler(Box::new(function)));
        let task = tokio::spawn(serve(listener, tls.clone(), limits, cancel.clone(), handler));
        let _stop = cancel.clone().drop_guard();
        Self {
            address,
            certificates,
            tls,
            cancel,
            task,
            _stop,
        }
    }

    pub(crate) fn client_tls(&self, identified: bool) -> ClientTls {
        let (certificate, key) = &self.certificates.client;
        let identity = identified.then_some((certificate.as_bytes(), key.as_bytes()));
        ClientTls::new(self.certificates.ca.as_bytes(), identity).expect("TLS")
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// A TLS connection that speaks HTTP/1.1.
    pub(crate) async fn connect(&self) -> BoxedIo {
        let tcp = TcpStream::connect(self.address).await.expect("connected");
        Box::new(
            self.client_tls(false)
                .http1_only()
                .connect(tcp, "localhost")
                .await
                .expect("handshake"),
        )
    }
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("in time")
}
