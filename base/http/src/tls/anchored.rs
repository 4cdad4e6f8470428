//! Whom a client believes: chains that lead to its anchors, and an anchor itself.

use rustls::{
    CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use std::sync::Arc;

/// Verifies as the Web does, but takes a certificate that is itself among the anchors although it is an authority's:
/// `openssl req -x509` makes such ones, webhooks are served with them, and Go's verification takes them.
#[derive(Debug)]
pub(super) struct Anchored {
    chains: Arc<WebPkiServerVerifier>,
    anchors: Vec<CertificateDer<'static>>,
}

impl Anchored {
    pub(super) fn new(anchors: Vec<CertificateDer<'static>>) -> Result<Self, crate::Error> {
        let mut roots = RootCertStore::empty();
        for anchor in &anchors {
            roots.add(anchor.clone())?;
        }
        let chains = WebPkiServerVerifier::builder(Arc::new(roots))
            .build()
            .map_err(|why| crate::Error::Pem(why.to_string()))?;
        Ok(Self { chains, anchors })
    }
}

impl ServerCertVerifier for Anchored {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let error = match self.chains.verify_server_cert(leaf, intermediates, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            Err(error) => error,
        };
        // Times are checked before this is found; the name is not.
        if authority_as_leaf(&error) && self.anchors.iter().any(|anchor| anchor == leaf) {
            verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
            return Ok(ServerCertVerified::assertion());
        }
        Err(error)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chains.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

/// Whether the only thing wrong is that an authority's certificate is a server's.
fn authority_as_leaf(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(why))) = error else {
        return false;
    };
    matches!(why.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use std::time::Duration;

    fn authority(name: &str) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().into()
    }

    fn verify(anchors: &[&CertificateDer<'static>], leaf: &CertificateDer<'_>, name: &str, now: UnixTime) -> bool {
        crate::install_crypto();
        let anchored = Anchored::new(anchors.iter().map(|&anchor| anchor.clone()).collect()).unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        anchored.verify_server_cert(leaf, &[], &name, &[], now).is_ok()
    }

    #[test]
    fn an_anchor_may_be_the_server_itself_under_its_name_while_it_is_valid() {
        let (one, other) = (authority("one.example.com"), authority("one.example.com"));
        let now = UnixTime::now();
        assert!(verify(&[&one], &one, "one.example.com", now));
        assert!(!verify(&[&one], &one, "two.example.com", now), "another name");
        assert!(!verify(&[&one], &other, "one.example.com", now), "another certificate");
        let late = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
        assert!(!verify(&[&one], &one, "one.example.com", late), "too late");
    }
}
