//! Private keys as clients of every language read them.

use base64::{Engine, engine::general_purpose::STANDARD};
use std::{borrow::Cow, fmt::Write};
use x509_parser::pem::parse_x509_pem;

/// PKCS #8 around a P-256 key (RFC 5208, RFC 5915) up to the key's 32 bytes.
const PKCS8: [u8; 36] = [
    0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
    0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20,
];
/// A SEC 1 key of its own up to those bytes.
const SEC1: [u8; 7] = [0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20];
/// Which curve, which only a key of its own says.
const CURVE: [u8; 12] = [0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// The key as SEC 1 ("EC PRIVATE KEY"): Java's clients take a key for RSA unless its header says otherwise.
/// Any key but a P-256 one in PKCS #8 stays as it is.
pub(super) fn widely_read(pem: &str) -> Cow<'_, str> {
    let Some(key) = parse_x509_pem(pem.as_bytes())
        .ok()
        .and_then(|(_, parsed)| sec1(&parsed.contents))
    else {
        return Cow::Borrowed(pem);
    };
    let text = STANDARD.encode(key);
    let mut out = String::from("-----BEGIN EC PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        let _ = writeln!(out, "{}", String::from_utf8_lossy(line));
    }
    out.push_str("-----END EC PRIVATE KEY-----\n");
    Cow::Owned(out)
}

fn sec1(pkcs8: &[u8]) -> Option<Vec<u8>> {
    let (private, public) = pkcs8.strip_prefix(&PKCS8)?.split_at_checked(32)?;
    (public.len() == 70).then(|| [&SEC1, private, &CURVE, public].concat())
}
