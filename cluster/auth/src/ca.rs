//! The cluster's certificate authority: ECDSA P-256, made at first start.

mod subject;

use crate::{Error, files};
use pem::{EncodeConfig, LineEnding, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use subject::Subject;

const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
const SHORT_LIFETIME: Duration = Duration::from_secs(8 * 3600);
const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// Certificates start this long ago, for peers whose clock lags.
const BACKDATE: Duration = Duration::from_secs(300);

/// The common name of the authority in front of extension API servers.
pub const FRONT_PROXY_CA: &str = "strata-front-proxy-ca";
/// Who the API server is to extension API servers; only this name may say who a request comes from.
pub const FRONT_PROXY_CLIENT: &str = "front-proxy-client";

/// Signs the cluster's certificates.
pub struct ClusterCa {
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    leaf_lifetime: Duration,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Leaf {
    /// The certificate.
    pub cert_pem: String,
    /// The private key, PKCS #8. Secret.
    pub key_pem: String,
    /// When the certificate begins to be valid.
    pub not_before: SystemTime,
    /// When it ceases to be.
    pub not_after: SystemTime,
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl ClusterCa {
    /// Reads `ca.crt` and `ca.key` of a directory, or makes them. Errors: one file without the other, or one damaged.
    pub fn open_or_create(directory: &Path) -> Result<Self, Error> {
        Self::open_or_create_named(directory, "ca", "strata-ca")
    }

    /// The authority in front of extension API servers, in `front-proxy-ca.crt` and `.key`: what it has signed speaks
    /// for others, so it is another than the cluster's.
    pub fn open_or_create_front_proxy(directory: &Path) -> Result<Self, Error> {
        Self::open_or_create_named(directory, "front-proxy-ca", FRONT_PROXY_CA)
    }

    fn open_or_create_named(directory: &Path, file: &str, name: &str) -> Result<Self, Error> {
        files::create_private_dir(directory)?;
        let certificate_path = directory.join(format!("{file}.crt"));
        let key_path = directory.join(format!("{file}.key"));
        let certificate = files::read_text(&certificate_path)?;
        let key = files::read_text(&key_path)?;
        match (certificate, key) {
            (Some(certificate), Some(key)) => Self::from_pem(certificate, &key, &certificate_path),
            // The key is written first: alone, it has signed nothing yet.
            (None, Some(key)) => Self::create(&certificate_path, name, KeyPair::from_pem(&key)?),
            (None, None) => {
                let key = KeyPair::generate()?;
                files::write_private(&key_path, key.serialize_pem().as_bytes())?;
                Self::create(&certificate_path, name, key)
            }
            (Some(_), None) => Err(Error::Content {
                path: key_path,
                why: format!("is missing beside {file}.crt"),
            }),
        }
    }

    /// Takes a certificate and a key made elsewhere.
    pub fn from_pem(certificate_pem: String, key_pem: &str, path: &Path) -> Result<Self, Error> {
        let wrong = |why: String| Error::Content {
            path: PathBuf::from(path),
            why,
        };
        let key = KeyPair::from_pem(key_pem).map_err(|why| wrong(format!("its key cannot be read: {why}")))?;
        let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|_| wrong("is not a PEM certificate".into()))?;
        let parsed = pem.parse_x509().map_err(|_| wrong("is not a certificate".into()))?;
        if !parsed.is_ca() {
            return Err(wrong("is not the certificate of an authority".into()));
        }
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(wrong("does not belong to the key beside it".into()));
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)?;
        Ok(Self {
            certificate_pem,
            issuer,
            leaf_lifetime: LEAF_LIFETIME,
        })
    }

    fn create(path: &Path, name: &str, key: KeyPair) -> Result<Self, Error> {
        let mut params = params(name, CA_LIFETIME);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let certificate = params.self_signed(&key)?.pem();
        files::write_private(path, certificate.as_bytes())?;
        Self::from_pem(certificate, &key.serialize_pem(), path)
    }

    /// The same authority, whose leaves live that long instead of a year.
    #[must_use]
    pub fn with_leaf_lifetime(mut self, lifetime: Duration) -> Self {
        self.leaf_lifetime = lifetime;
        self
    }

    /// The authority's own certificate.
    pub fn ca_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate for a server; the first name becomes its common name.
    pub fn issue_server(&self, names: &[String], addresses: &[IpAddr]) -> Result<Leaf, Error> {
        let key = KeyPair::generate()?;
        let params = self.server_params(names, addresses)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(self.leaf(certificate.pem(), key.serialize_pem()))
    }

    /// A certificate for a client: its name and groups.
    pub fn issue_client(&self, common_name: &str, organizations: &[&str]) -> Result<Leaf, Error> {
        let key = KeyPair::generate()?;
        let certificate = self.client_params().signed_by(&key, &self.issuer)?;
        let pem = self.named(certificate.der(), &Subject::new(common_name, organizations))?;
        Ok(self.leaf(pem, key.serialize_pem()))
    }

    /// Signs the key of a request for a client; everything but the key is decided here, not by the request.
    pub fn sign_client_request(&self, request_pem: &str, common_name: &str, groups: &[&str]) -> Result<String, Error> {
        let request = read_request(request_pem)?;
        let certificate = self.client_params().signed_by(&request.public_key, &self.issuer)?;
        self.named(certificate.der(), &Subject::new(common_name, groups))
    }

    /// As [`Self::sign_client_request`], for the uses of the key that are asked for and valid no longer than asked.
    /// Names and addresses beside the subject are those of the request, as is what its subject says beside name and groups.
    pub fn sign_client_request_for(
        &self,
        request_pem: &str,
        common_name: &str,
        groups: &[&str],
        (usages, lifetime): (&[String], Duration),
    ) -> Result<String, Error> {
        let request = read_request(request_pem)?;
        let mut params = self.client_params();
        restrict(&mut params, usages, lifetime);
        params.subject_alt_names = request.params.subject_alt_names;
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        let subject = Subject::new(common_name, groups).with_rest_of(request_pem)?;
        self.named(certificate.der(), &subject)
    }

    /// Signs the key of a request for a node's server: its subject (name and group), names and addresses are decided
    /// here, not by the request; for the uses of the key that are asked for and valid no longer than asked.
    pub fn sign_node_server_request(
        &self,
        request_pem: &str,
        (common_name, group): (&str, &str),
        names: &[String],
        addresses: &[IpAddr],
        (usages, lifetime): (&[String], Duration),
    ) -> Result<String, Error> {
        let mut params = self.server_params(names, addresses)?;
        restrict(&mut params, usages, lifetime);
        let request = read_request(request_pem)?;
        let certificate = params.signed_by(&request.public_key, &self.issuer)?;
        let subject = Subject::new(common_name, &[group]).with_rest_of(request_pem)?;
        self.named(certificate.der(), &subject)
    }

    /// The certificate with a subject, as PEM.
    fn named(&self, certificate: &[u8], subject: &Subject) -> Result<String, Error> {
        let signed = subject::replace(certificate, subject.encode(), self.issuer.key())?;
        let lines = EncodeConfig::new().set_line_ending(LineEnding::LF);
        Ok(pem::encode_config(&Pem::new("CERTIFICATE", signed), lines))
    }

    fn server_params(&self, names: &[String], addresses: &[IpAddr]) -> Result<CertificateParams, Error> {
        let common_name = names.first().map_or("strata", String::as_str);
        let mut params = params(common_name, self.leaf_lifetime);
        for name in names {
            params
                .subject_alt_names
                .push(SanType::DnsName(name.as_str().try_into()?));
        }
        params
            .subject_alt_names
            .extend(addresses.iter().copied().map(SanType::IpAddress));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        Ok(params)
    }

    /// Of a client whose subject comes later.
    fn client_params(&self) -> CertificateParams {
        let mut params = params("", self.leaf_lifetime);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params
    }

    fn leaf(&self, cert_pem: String, key_pem: String) -> Leaf {
        let now = SystemTime::now();
        Leaf {
            cert_pem,
            key_pem,
            not_before: now,
            not_after: now + self.leaf_lifetime,
        }
    }
}

impl fmt::Debug for ClusterCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterCa")
    }
}

impl Leaf {
    /// Takes a certificate and a key kept elsewhere; when it ends is read from the certificate.
    pub fn from_pem(cert_pem: String, key_pem: String) -> Result<Self, Error> {
        let wrong = |_| Error::Request("not a PEM certificate".into());
        let (_, pem) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).map_err(wrong)?;
        let certificate = pem
            .parse_x509()
            .map_err(|_| Error::Request("not a certificate".into()))?;
        let time = |at: i64| UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0));
        let validity = certificate.validity();
        let (not_before, not_after) = (
            time(validity.not_before.timestamp()),
            time(validity.not_after.timestamp()),
        );
        Ok(Self {
            cert_pem,
            key_pem,
            not_before,
            not_after,
        })
    }

    /// Two thirds of its life: when to ask for the next one.
    pub fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or(Duration::ZERO);
        self.not_before + life * 2 / 3
    }
}

fn params(common_name: &str, lifetime: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(DAY);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch.saturating_sub(BACKDATE);
    params.not_after = epoch + since_epoch + lifetime;
    params.use_authority_key_identifier_extension = true;
    params
}

/// What a request asks for, in the words of certificates.k8s.io. A life of some hours is not shortened by its start in
/// the past.
fn restrict(params: &mut CertificateParams, usages: &[String], lifetime: Duration) {
    let asked = |name: &str| usages.iter().any(|usage| usage == name);
    let uses = [
        ("digital signature", KeyUsagePurpose::DigitalSignature),
        ("key encipherment", KeyUsagePurpose::KeyEncipherment),
    ];
    params.key_usages = uses
        .into_iter()
        .filter(|(name, _)| asked(name))
        .map(|(_, use_)| use_)
        .collect();
    params.is_ca = IsCa::ExplicitNoCa;
    let given = if lifetime < SHORT_LIFETIME {
        BACKDATE
    } else {
        Duration::ZERO
    };
    params.not_after = params.not_after.min(params.not_before + given + lifetime);
}

fn read_request(pem: &str) -> Result<CertificateSigningRequestParams, Error> {
    CertificateSigningRequestParams::from_pem(pem).map_err(|why| Error::Request(why.to_string()))
}

#[cfg(test)]
mod tests;
