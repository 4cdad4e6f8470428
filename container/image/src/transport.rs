//! HTTP clients for registries: roots of trust, proxies, name resolution.

use crate::ProxyOptions;
use crate::hosts::{TlsSettings, is_loopback};
use crate::resolver::Resolver;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A registry that does not even accept in this time is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// No byte in this time ends a transfer; it is resumed.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// More different TLS settings than any machine has.
const MAX_CLIENTS: usize = 64;

/// Where distributions keep the system's certificate authorities.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/var/lib/ca-certificates/ca-bundle.pem",
];

/// The clients of a store; connections are kept open between pulls.
pub(crate) struct Transport {
    proxy: ProxyOptions,
    provider: Arc<CryptoProvider>,
    system_roots: OnceLock<RootCertStore>,
    clients: Mutex<HashMap<(TlsSettings, bool), reqwest::Client>>,
}

impl Transport {
    pub fn new(proxy: ProxyOptions) -> Self {
        Self {
            proxy,
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            system_roots: OnceLock::new(),
            clients: Mutex::new(HashMap::new()),
        }
    }

    /// The client for a server; loopback servers are never reached through a proxy.
    pub fn client(&self, authority: &str, tls: &TlsSettings) -> Result<reqwest::Client, String> {
        let direct = is_loopback(authority);
        let key = (tls.clone(), direct);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(tls, direct)?;
        if clients.len() >= MAX_CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    fn build(&self, tls: &TlsSettings, direct: bool) -> Result<reqwest::Client, String> {
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(self.tls(tls)?)
            .dns_resolver(Arc::new(Resolver))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // connection.rs follows them, with what may be told to another host.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("strata/", env!("CARGO_PKG_VERSION")))
            .no_proxy();
        if !direct {
            for (url, kind) in [
                (&self.proxy.http, ProxyKind::Http),
                (&self.proxy.https, ProxyKind::Https),
            ] {
                if !url.is_empty() {
                    builder = builder.proxy(self.proxy(url, kind)?);
                }
            }
        }
        builder.build().map_err(|error| root_cause(&error))
    }

    fn proxy(&self, url: &str, kind: ProxyKind) -> Result<reqwest::Proxy, String> {
        let proxy = match kind {
            ProxyKind::Http => reqwest::Proxy::http(url),
            ProxyKind::Https => reqwest::Proxy::https(url),
        };
        let proxy = proxy.map_err(|error| format!("proxy setting: {}", root_cause(&error)))?;
        Ok(proxy.no_proxy(reqwest::NoProxy::from_string(&self.proxy.no_proxy)))
    }

    fn tls(&self, settings: &TlsSettings) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = if settings.skip_verify {
            let verifier = Arc::new(AcceptAny(Arc::clone(&self.provider)));
            builder.dangerous().with_custom_certificate_verifier(verifier)
        } else {
            let mut roots = self.system_roots.get_or_init(system_roots).clone();
            for pem in &settings.roots {
                let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(pem).flatten());
                if added == 0 {
                    return Err("a configured certificate authority file holds no certificate".into());
                }
            }
            builder.with_root_certificates(roots)
        };
        let mut config = match &settings.client {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).flatten().collect();
                let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("client key: {error}"))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| format!("client certificate: {error}"))?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

enum ProxyKind {
    Http,
    Https,
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for path in SYSTEM_ROOTS {
        if let Ok(pem) = std::fs::read(path) {
            roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
            if !roots.is_empty() {
                return roots;
            }
        }
    }
    tracing::warn!("no certificate authorities found on this machine; TLS registries need their own in hosts.toml");
    roots
}

/// The innermost error's text: what the user can act on.
pub(crate) fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = cause.to_string();
    // "Connection refused (os error 111)": the number helps nobody.
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// For `skip_verify`: signatures are still checked, names and issuers are not.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
