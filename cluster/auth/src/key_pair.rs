//! Whether a certificate and a key belong together, for those who are warned when they do not.

use ring::{
    rand::SystemRandom,
    signature::RsaKeyPair,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    },
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// What Go's crypto/tls finds wrong with a certificate and its key, both PEM. Keys of kinds that are not known here are
/// not found wrong.
pub fn key_pair_problem(certificates: &[u8], key: &[u8]) -> Option<String> {
    let certificate = match first(certificates, |tag| tag == "CERTIFICATE") {
        Ok(found) => found,
        Err(tags) => {
            return Some(match tags.as_slice() {
                [] => "tls: failed to find any PEM data in certificate input".to_owned(),
                [only] if only.ends_with("PRIVATE KEY") => "tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched".to_owned(),
                tags => format!(
                    "tls: failed to find \"CERTIFICATE\" PEM block in certificate input after skipping PEM blocks of the following types: [{}]",
                    tags.join(" ")
                ),
            });
        }
    };
    let key = match first(key, |tag| tag == "PRIVATE KEY" || tag.ends_with(" PRIVATE KEY")) {
        Ok(found) => found,
        Err(tags) => {
            return Some(match tags.as_slice() {
                [] => "tls: failed to find any PEM data in key input".to_owned(),
                [only] if only == "CERTIFICATE" => {
                    "tls: found a certificate rather than a key in the PEM for the private key".to_owned()
                }
                tags => format!(
                    "tls: failed to find PEM block with type ending in \"PRIVATE KEY\" in key input after skipping PEM blocks of the following types: [{}]",
                    tags.join(" ")
                ),
            });
        }
    };
    let Ok((_, certificate)) = X509Certificate::from_der(certificate.contents()) else {
        return Some("x509: malformed certificate".to_owned());
    };
    let wanted = &certificate.public_key().subject_public_key.data;
    let (kind, public) = public_key(key.contents())?;
    let algorithm = certificate.public_key().algorithm.algorithm.to_id_string();
    if algorithm != kind {
        return Some("tls: private key type does not match public key type".to_owned());
    }
    (public != **wanted).then(|| "tls: private key does not match public key".to_owned())
}

/// The first block that is wanted. Errors: the types of all others.
fn first(text: &[u8], wanted: impl Fn(&str) -> bool) -> Result<pem::Pem, Vec<String>> {
    // What is no PEM holds no blocks.
    let blocks = pem::parse_many(text).unwrap_or_else(|_| Vec::new());
    let mut skipped = Vec::new();
    for block in blocks {
        if wanted(block.tag()) {
            return Ok(block);
        }
        skipped.push(block.tag().to_owned());
    }
    Err(skipped)
}

/// The algorithm's number (RFC 5480, 8017, 8410) and the public half of a private key.
fn public_key(der: &[u8]) -> Option<(&'static str, Vec<u8>)> {
    const RSA: &str = "1.2.840.113549.1.1.1";
    const EC: &str = "1.2.840.10045.2.1";
    const ED25519: &str = "1.3.101.112";
    if let Ok(pair) = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der)) {
        return Some((RSA, pair.public_key().as_ref().to_vec()));
    }
    let random = SystemRandom::new();
    for algorithm in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(algorithm, der, &random) {
            return Some((EC, pair.public_key().as_ref().to_vec()));
        }
    }
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).ok()?;
    Some((ED25519, pair.public_key().as_ref().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_belong_together_is_told_in_the_words_of_go() {
        let pair = || {
            let key = rcgen::KeyPair::generate().expect("key");
            let params = rcgen::CertificateParams::new(vec!["a.example.com".to_owned()]).expect("params");
            (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
        };
        let ((certificate, key), (_, other)) = (pair(), pair());
        let problem = |a: &str, b: &str| key_pair_problem(a.as_bytes(), b.as_bytes());
        assert_eq!(problem(&certificate, &key), None);
        for (certificates, key, why) in [
            ("", "", "tls: failed to find any PEM data in certificate input"),
            (&*certificate, "x", "tls: failed to find any PEM data in key input"),
            (&*certificate, &*other, "tls: private key does not match public key"),
            (
                &*certificate,
                &*certificate,
                "tls: found a certificate rather than a key in the PEM for the private key",
            ),
        ] {
            assert_eq!(problem(certificates, key).as_deref(), Some(why));
        }
        assert!(problem(&key, &key).is_some_and(|why| why.contains("may have been switched")));
    }
}
