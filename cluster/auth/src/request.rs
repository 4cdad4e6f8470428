//! Certificate requests: made by a machine that joins, read by the controller that signs.

use crate::Error;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, SanType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    prelude::FromDer,
};

/// What a request asks to be called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedNames {
    /// CN of the subject.
    pub common_name: String,
    /// O of the subject.
    pub organizations: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
}

impl RequestedNames {
    /// Reads a request (PKCS #10, PEM). Errors: anything that is not one, or asks for other kinds of names.
    pub fn parse(request_pem: &str) -> Result<Self, Error> {
        let malformed = |why: String| Error::Request(why);
        let (_, pem) =
            x509_parser::pem::parse_x509_pem(request_pem.as_bytes()).map_err(|e| malformed(e.to_string()))?;
        let (_, request) = X509CertificationRequest::from_der(&pem.contents).map_err(|e| malformed(e.to_string()))?;
        let subject = &request.certification_request_info.subject;
        let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().map(str::to_owned).unwrap_or_default();
        let mut names = Self {
            common_name: subject.iter_common_name().next().map(text).unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            ..Self::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(alternatives) = extension {
                for name in &alternatives.general_names {
                    names.add(name)?;
                }
            }
        }
        Ok(names)
    }

    fn add(&mut self, name: &GeneralName<'_>) -> Result<(), Error> {
        match name {
            GeneralName::DNSName(dns) => self.dns.push((*dns).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let address = match <[u8; 4]>::try_from(*bytes) {
                    Ok(v4) => Ipv4Addr::from(v4).into(),
                    Err(_) => match <[u8; 16]>::try_from(*bytes) {
                        Ok(v6) => Ipv6Addr::from(v6).into(),
                        Err(_) => return Err(Error::Request("an address has a wrong length".into())),
                    },
                };
                self.addresses.push(address);
            }
            _ => return Err(Error::Request("only DNS names and addresses can be asked for".into())),
        }
        Ok(())
    }
}

/// A new key and a request for it: (request, key), both PEM. The key is secret.
pub fn certificate_request(
    common_name: &str,
    organization: &str,
    dns: &[String],
    addresses: &[IpAddr],
) -> Result<(String, String), Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    subject.push(DnType::OrganizationName, organization);
    params.distinguished_name = subject;
    for name in dns {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into()?));
    }
    params
        .subject_alt_names
        .extend(addresses.iter().copied().map(SanType::IpAddress));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let server = !(dns.is_empty() && addresses.is_empty());
    let usage = if server {
        ExtendedKeyUsagePurpose::ServerAuth
    } else {
        ExtendedKeyUsagePurpose::ClientAuth
    };
    params.extended_key_usages = vec![usage];
    let request = params.serialize_request(&key)?.pem()?;
    Ok((request, key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_says_what_it_was_made_for() {
        let address: IpAddr = "10.0.0.7".parse().unwrap();
        let (request, key) = certificate_request("system:node:a", "system:nodes", &["a".into()], &[address]).unwrap();
        assert!(key.contains("PRIVATE KEY"));
        let names = RequestedNames::parse(&request).unwrap();
        assert_eq!(names.common_name, "system:node:a");
        assert_eq!(names.organizations, ["system:nodes"]);
        assert_eq!((names.dns, names.addresses), (vec!["a".to_owned()], vec![address]));
        assert!(RequestedNames::parse("nonsense").is_err());
    }
}
