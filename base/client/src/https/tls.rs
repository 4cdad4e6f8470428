//! TLS as a client.

use super::ClientAuth;
use crate::Error;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{fmt, sync::Arc};

/// Trusts only the given authority; HTTP/2 preferred.
pub(super) fn client_config(ca_pem: &[u8], auth: &ClientAuth) -> Result<ClientConfig, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca_pem, "the cluster's authority")? {
        roots.add(certificate).map_err(|e| bad("the cluster's authority", &e))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("protocol versions", &e))?
        .with_root_certificates(roots);
    let mut config = match auth {
        ClientAuth::Certificate { cert_pem, key_pem } => {
            let chain = certificates(cert_pem, "the client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|e| bad("the client's key", &e))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| bad("the client certificate", &e))?
        }
        ClientAuth::Token(_) | ClientAuth::TokenFile(_) | ClientAuth::None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn certificates(pem: &[u8], whose: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let chain = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(whose, &e))?;
    if chain.is_empty() {
        return Err(bad(whose, &"no certificate in it"));
    }
    Ok(chain)
}

fn bad(what: &str, why: &dyn fmt::Display) -> Error {
    Error::Transport(format!("reading {what}: {why}"))
}
