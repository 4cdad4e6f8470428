//! Subjects with any number of groups.
//!
//! rcgen keeps one value per type, so a certificate that it made is taken apart, given the subject, and signed again.
//! Subjects are written as Go's crypto/x509 does: one set of organizations, then the common name.

use crate::Error;
use rcgen::SigningKey;
use yasna::{ASN1Result, DERWriter, models::ObjectIdentifier};

const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
/// The place of the subject among the members of a TBSCertificate of version 3 (RFC 5280 section 4.1).
const SUBJECT: usize = 5;

/// A Name (RFC 5280 section 4.1.2.4).
pub(super) fn encode(common_name: &str, organizations: &[&str]) -> Vec<u8> {
    yasna::construct_der(|name| {
        name.write_sequence(|sets| {
            for (kind, values) in [(ORGANIZATION, organizations), (COMMON_NAME, &[common_name])] {
                if values.iter().all(|value| value.is_empty()) {
                    continue;
                }
                sets.next().write_set_of(|set| {
                    values.iter().for_each(|value| attribute(set.next(), kind, value));
                });
            }
        });
    })
}

fn attribute(writer: DERWriter<'_>, kind: &[u64], value: &str) {
    writer.write_sequence(|pair| {
        pair.next().write_oid(&ObjectIdentifier::from_slice(kind));
        let plain = |c: char| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c);
        match value.chars().all(plain) {
            true => pair.next().write_printable_string(value),
            false => pair.next().write_utf8_string(value),
        }
    });
}

/// The certificate with another subject, signed anew.
pub(super) fn replace(certificate: &[u8], subject: Vec<u8>, key: &impl SigningKey) -> Result<Vec<u8>, Error> {
    let damaged = || Error::Request("a certificate of the authority's own cannot be read".into());
    let whole = members(certificate).map_err(|_| damaged())?;
    let [inner, algorithm, _signature] = whole.as_slice() else {
        return Err(damaged());
    };
    let mut inner = members(inner).map_err(|_| damaged())?;
    *inner.get_mut(SUBJECT).ok_or_else(damaged)? = subject;
    let inner = yasna::construct_der(|writer| {
        writer.write_sequence(|all| inner.iter().for_each(|member| all.next().write_der(member)));
    });
    let signature = key.sign(&inner)?;
    Ok(yasna::construct_der(|writer| {
        writer.write_sequence(|all| {
            all.next().write_der(&inner);
            all.next().write_der(algorithm);
            all.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    }))
}

fn members(sequence: &[u8]) -> ASN1Result<Vec<Vec<u8>>> {
    yasna::parse_der(sequence, |reader| {
        reader.collect_sequence_of(|member| member.read_der())
    })
}
