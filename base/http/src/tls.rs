//! TLS both ways: a server whose certificate can be replaced while it runs, and a client.

mod anchored;

use crate::{Error, Io};
use anchored::Anchored;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use std::sync::{Arc, Once, RwLock};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Makes ring the process's crypto provider. Calling it again does nothing.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    // An error means that a provider is there already, which is what is wanted.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// The certificates in PEM text, in order. Errors: `Pem` if there is none or one is damaged.
pub fn certificates_from_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|why| Error::Pem(why.to_string()))?;
    if certificates.is_empty() {
        return Err(Error::Pem("no certificate found".into()));
    }
    Ok(certificates)
}

/// How a server does TLS: 1.2 and 1.3, ALPN h2 and http/1.1, optional client certificates.
pub struct ServerTls {
    acceptor: TlsAcceptor,
    certificate: Arc<SwappableCertificate>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
    proxies: Option<Arc<dyn ClientCertVerifier>>,
}

impl ServerTls {
    /// `client_ca_pem`: whose client certificates are believed; `None` asks for none.
    pub fn new(certificate_pem: &[u8], key_pem: &[u8], client_ca_pem: Option<&[u8]>) -> Result<Self, Error> {
        install_crypto();
        let certificate = Arc::new(SwappableCertificate(RwLock::new(certified_key(
            certificate_pem,
            key_pem,
        )?)));
        let clients = client_ca_pem.map(client_verifier).transpose()?;
        let builder = ServerConfig::builder();
        let builder = match &clients {
            Some(verifier) => builder.with_client_cert_verifier(Arc::new(DeferredVerifier(verifier.clone()))),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            certificate,
            clients,
            proxies: None,
        })
    }

    /// Whose front proxies are believed, besides clients. Errors: `Pem`.
    pub fn trusting_proxies(mut self, proxy_ca_pem: &[u8]) -> Result<Self, Error> {
        self.proxies = Some(client_verifier(proxy_ca_pem)?);
        Ok(self)
    }

    /// Uses another certificate for connections made from now on.
    pub fn replace_certificate(&self, certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), Error> {
        let key = certified_key(certificate_pem, key_pem)?;
        *self.certificate.0.write().expect("no holder of this lock panics") = key;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> &TlsAcceptor {
        &self.acceptor
    }

    /// Whether a chain that a client proved to own leads to the client CA.
    pub(crate) fn verify_client(&self, chain: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        let (Some(verifier), Some((leaf, rest))) = (&self.clients, chain.split_first()) else {
            return Err(rustls::Error::General(
                "client certificates are not accepted here".into(),
            ));
        };
        verifier.verify_client_cert(leaf, rest, UnixTime::now()).map(|_| ())
    }

    /// Whether a chain that a client proved to own leads to the authority of front proxies.
    pub(crate) fn verify_proxy(&self, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(verifier), Some((leaf, rest))) = (&self.proxies, chain.split_first()) else {
            return false;
        };
        verifier.verify_client_cert(leaf, rest, UnixTime::now()).is_ok()
    }
}

impl std::fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerTls")
            .field("client_certificates", &self.clients.is_some())
            .finish_non_exhaustive()
    }
}

fn client_verifier(ca_pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    WebPkiClientVerifier::builder(Arc::new(roots(ca_pem)?))
        .allow_unauthenticated()
        .build()
        .map_err(|why| Error::Pem(why.to_string()))
}

fn roots(pem: &[u8]) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_from_pem(pem)? {
        roots.add(certificate)?;
    }
    Ok(roots)
}

fn private_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|why| Error::Pem(why.to_string()))
}

fn certified_key(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Arc<CertifiedKey>, Error> {
    let signer = rustls::crypto::ring::sign::any_supported_type(&private_key(key_pem)?)?;
    let key = CertifiedKey::new(certificates_from_pem(certificate_pem)?, signer);
    key.keys_match()?;
    Ok(Arc::new(key))
}

#[derive(Debug)]
struct SwappableCertificate(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for SwappableCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().expect("no holder of this lock panics").clone())
    }
}

/// Checks in the handshake only that the client owns its certificate. Whether the chain
/// is believed is decided after it, so that a stranger gets 401 and not a broken
/// connection, as from upstream.
#[derive(Debug)]
struct DeferredVerifier(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for DeferredVerifier {
    fn offer_client_auth(&self) -> bool {
        true
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// How a client does TLS: whom it believes and who it is.
#[derive(Clone)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
}

impl ClientTls {
    /// `identity` is a certificate chain and its key, both PEM.
    pub fn new(roots_pem: &[u8], identity: Option<(&[u8], &[u8])>) -> Result<Self, Error> {
        install_crypto();
        let verifier = Anchored::new(certificates_from_pem(roots_pem)?)?;
        let builder = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let mut config = match identity {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(certificates_from_pem(certificate)?, private_key(key)?)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// Believes any certificate, for a peer of which an administrator has said so (`insecureSkipTLSVerify`).
    pub fn unverified(identity: Option<(&[u8], &[u8])>) -> Result<Self, Error> {
        install_crypto();
        let builder = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified));
        let mut config = match identity {
            Some((certificate, key)) => {
                builder.with_client_auth_cert(certificates_from_pem(certificate)?, private_key(key)?)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            config: Arc::new(config),
        })
    }

    /// The same, but speaking HTTP/1.1 only, which upgrades need.
    pub fn http1_only(&self) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Self {
            config: Arc::new(config),
        }
    }

    /// Does the handshake over a connection; `server` is a DNS name or an IP address.
    pub async fn connect<T: Io>(&self, io: T, server: &str) -> Result<tokio_rustls::client::TlsStream<T>, Error> {
        let name = ServerName::try_from(server.trim_matches(['[', ']']).to_owned())
            .map_err(|_| Error::Request(format!("{server:?} is not a server name")))?;
        Ok(TlsConnector::from(self.config.clone()).connect(name, io).await?)
    }
}

/// Asks of a server only that it owns the certificate it shows.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
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
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        rustls::crypto::verify_tls12_signature(message, leaf, signature, &provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::ring::default_provider();
        rustls::crypto::verify_tls13_signature(message, leaf, signature, &provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

impl std::fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientTls")
    }
}
