//! Subjects with any number of groups.
//!
//! rcgen keeps one value per type, so a certificate that it made is taken apart, given the subject, and signed again.
//! Subjects are written as Go's crypto/x509 does: a set for each type, in its order, with the common name behind the
//! places.

use crate::Error;
use rcgen::SigningKey;
use x509_parser::{certification_request::X509CertificationRequest, oid_registry::Oid, prelude::FromDer};
use yasna::{ASN1Result, DERWriter, models::ObjectIdentifier};

const COUNTRY: &[u64] = &[2, 5, 4, 6];
const ORGANIZATION: &[u64] = &[2, 5, 4, 10];
const ORGANIZATIONAL_UNIT: &[u64] = &[2, 5, 4, 11];
const LOCALITY: &[u64] = &[2, 5, 4, 7];
const PROVINCE: &[u64] = &[2, 5, 4, 8];
const STREET: &[u64] = &[2, 5, 4, 9];
const POSTAL_CODE: &[u64] = &[2, 5, 4, 17];
const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const SERIAL_NUMBER: &[u64] = &[2, 5, 4, 5];
/// In the order in which they are written.
const TYPES: [&[u64]; 9] = [
    COUNTRY,
    ORGANIZATION,
    ORGANIZATIONAL_UNIT,
    LOCALITY,
    PROVINCE,
    STREET,
    POSTAL_CODE,
    COMMON_NAME,
    SERIAL_NUMBER,
];
/// The place of the subject among the members of a TBSCertificate of version 3 (RFC 5280 section 4.1).
const SUBJECT: usize = 5;

/// A Name (RFC 5280 section 4.1.2.4): values of types, in any order.
pub(super) struct Subject(Vec<(&'static [u64], String)>);

impl Subject {
    /// A name and groups.
    pub(super) fn new(common_name: &str, organizations: &[&str]) -> Self {
        let mut values: Vec<_> = organizations.iter().map(|o| (ORGANIZATION, (*o).to_owned())).collect();
        values.push((COMMON_NAME, common_name.to_owned()));
        Self(values)
    }

    /// With what a request's subject says beside name and groups, of the types that Go keeps.
    pub(super) fn with_rest_of(mut self, request_pem: &str) -> Result<Self, Error> {
        let malformed = |why: String| Error::Request(why);
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(request_pem.as_bytes()).map_err(|e| malformed(e.to_string()))?;
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|e| malformed(e.to_string()))?;
        for attribute in request.certification_request_info.subject.iter_attributes() {
            let kept = TYPES
                .into_iter()
                .filter(|kind| ![COMMON_NAME, ORGANIZATION].contains(kind));
            let kind = kept.into_iter().find(|kind| is(attribute.attr_type(), kind));
            let (Some(kind), Ok(text)) = (kind, attribute.as_str()) else {
                continue;
            };
            if kind == SERIAL_NUMBER {
                // Go has room for one.
                self.0.retain(|(other, _)| *other != SERIAL_NUMBER);
            }
            self.0.push((kind, text.to_owned()));
        }
        Ok(self)
    }

    fn of(&self, kind: &[u64]) -> Vec<&str> {
        let values = self.0.iter().filter(|(found, _)| *found == kind);
        values.map(|(_, value)| value.as_str()).collect()
    }

    /// As DER.
    pub(super) fn encode(&self) -> Vec<u8> {
        yasna::construct_der(|name| {
            name.write_sequence(|sets| {
                for kind in TYPES {
                    let values = self.of(kind);
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
}

fn is(found: &Oid<'_>, kind: &[u64]) -> bool {
    found.iter().is_some_and(|parts| parts.eq(kind.iter().copied()))
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
