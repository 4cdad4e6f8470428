use super::*;
use std::os::unix::fs::PermissionsExt;
use x509_parser::prelude::{FromDer, X509Certificate};

fn open(directory: &tempfile::TempDir) -> ClusterCa {
    ClusterCa::open_or_create(&directory.path().join("pki")).expect("authority")
}

fn der(pem: &str) -> Vec<u8> {
    x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .expect("PEM")
        .1
        .contents
}

#[test]
fn files_are_private_and_kept() {
    let directory = tempfile::tempdir().expect("directory");
    let first = open(&directory);
    assert_eq!(open(&directory).ca_pem(), first.ca_pem());
    for (name, mode) in [("pki", 0o700), ("pki/ca.crt", 0o600), ("pki/ca.key", 0o600)] {
        let metadata = std::fs::metadata(directory.path().join(name)).expect("there");
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{name}");
    }
    assert_eq!(
        std::fs::read_dir(directory.path().join("pki")).expect("listed").count(),
        2,
        "no temporary files"
    );
}

#[test]
fn leaves_lead_to_the_authority_and_say_who_they_are() {
    let directory = tempfile::tempdir().expect("directory");
    let ca = open(&directory);
    let leaf = ca
        .issue_client("system:node:one", &["system:nodes", "second"])
        .expect("issued");
    let (authority, der) = (der(ca.ca_pem()), der(&leaf.cert_pem));
    let (_, authority) = X509Certificate::from_der(&authority).expect("certificate");
    let (_, certificate) = X509Certificate::from_der(&der).expect("certificate");
    certificate
        .verify_signature(Some(authority.public_key()))
        .expect("signed by the authority");
    let subject: Vec<_> = certificate
        .subject()
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .collect();
    assert_eq!(subject, ["second", "system:nodes"], "a set is ordered by its encoding");
    assert!(!certificate.is_ca() && authority.is_ca());
    let validity = certificate.validity();
    let year = validity.not_after.timestamp() - validity.not_before.timestamp();
    assert!((365 * 86400..366 * 86400).contains(&year), "{year}");
    let read = Leaf::from_pem(leaf.cert_pem.clone(), leaf.key_pem.clone()).expect("read");
    assert!(read.not_after.duration_since(leaf.not_after).unwrap_or_default() < Duration::from_secs(2));
    assert!(read.not_before < leaf.not_before && read.renew_at() > SystemTime::now());
    assert!(!format!("{leaf:?}").contains("PRIVATE"));
    let server = ca
        .issue_server(&["kubernetes".into()], &["10.0.0.1".parse().expect("address")])
        .expect("issued");
    assert!(server.renew_at() > server.not_before && server.renew_at() < server.not_after);
}

#[test]
fn a_request_gives_its_key_and_nothing_else() {
    let directory = tempfile::tempdir().expect("directory");
    let ca = open(&directory);
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::new(vec!["evil".into()]).expect("params");
    params.distinguished_name.push(DnType::CommonName, "system:admin");
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:masters");
    let request = params.serialize_request(&key).expect("request").pem().expect("PEM");
    let signed = ca
        .sign_client_request(&request, "system:node:one", &["system:nodes"])
        .expect("signed");
    let der = der(&signed);
    let (_, certificate) = X509Certificate::from_der(&der).expect("certificate");
    assert_eq!(certificate.subject().to_string(), "O=system:nodes, CN=system:node:one");
    assert!(certificate.subject_alternative_name().expect("parsed").is_none());
    assert_eq!(
        certificate.public_key().subject_public_key.data.as_ref(),
        key.public_key_raw()
    );
    let damaged = request.replacen('M', "N", 1);
    for bad in ["", "nonsense", ca.ca_pem(), &damaged] {
        assert!(ca.sign_client_request(bad, "x", &[]).is_err());
    }
}

#[test]
fn half_an_authority_is_refused_with_the_file_that_is_wrong() {
    let directory = tempfile::tempdir().expect("directory");
    drop(open(&directory));
    let pki = directory.path().join("pki");
    let other = tempfile::tempdir().expect("directory");
    drop(open(&other));
    std::fs::copy(other.path().join("pki/ca.key"), pki.join("ca.key")).expect("copied");
    let error = ClusterCa::open_or_create(&pki).expect_err("another key").to_string();
    assert!(error.contains("ca.crt") && error.contains("does not belong"), "{error}");
    std::fs::remove_file(pki.join("ca.key")).expect("removed");
    let error = ClusterCa::open_or_create(&pki).expect_err("no key").to_string();
    assert!(error.contains("ca.key") && error.contains("missing"), "{error}");
    std::fs::write(pki.join("ca.key"), "x").expect("written");
    assert!(ClusterCa::open_or_create(&pki).is_err());
}

#[test]
fn a_certificate_has_the_uses_and_the_life_that_were_asked_for() {
    let directory = tempfile::tempdir().expect("directory");
    let ca = open(&directory);
    let key = KeyPair::generate().expect("key");
    let request = CertificateParams::default().serialize_request(&key);
    let request = request.expect("request").pem().expect("PEM");
    let signed = |usages: &[&str], hours: u64| {
        let usages: Vec<String> = usages.iter().map(|usage| (*usage).to_owned()).collect();
        let asked = (usages.as_slice(), Duration::from_secs(hours * 3600));
        let pem = ca
            .sign_client_request_for(&request, "jane", &["dev"], asked)
            .expect("signed");
        let der = der(&pem);
        let (_, certificate) = X509Certificate::from_der(&der).expect("certificate");
        let uses = certificate
            .key_usage()
            .expect("parsed")
            .map_or(0, |uses| uses.value.flags);
        let validity = certificate.validity();
        assert!(!certificate.is_ca());
        (uses, validity.not_after.timestamp() - validity.not_before.timestamp())
    };
    let backdate = i64::try_from(BACKDATE.as_secs()).expect("small");
    assert_eq!(signed(&["client auth"], 1), (0, 3600 + backdate));
    assert_eq!(signed(&["client auth", "digital signature"], 8), (1, 8 * 3600));
    assert_eq!(signed(&["key encipherment", "digital signature"], 24), (5, 24 * 3600));
}

#[test]
fn a_client_may_be_in_any_number_of_groups_and_keeps_its_names() {
    let directory = tempfile::tempdir().expect("directory");
    let ca = open(&directory);
    let key = KeyPair::generate().expect("key");
    let request = CertificateParams::new(vec!["jane.example.com".into()])
        .expect("params")
        .serialize_request(&key);
    let request = request.expect("request").pem().expect("PEM");
    let usages = ["client auth".to_owned(), "digital signature".to_owned()];
    let groups = ["test", "dev", "naïve", "o=ps"];
    let asked = (usages.as_slice(), Duration::from_secs(3600));
    let pem = ca
        .sign_client_request_for(&request, "jane", &groups, asked)
        .expect("signed");
    let der = der(&pem);
    let (_, certificate) = X509Certificate::from_der(&der).expect("certificate");
    let text = |name: &x509_parser::x509::AttributeTypeAndValue<'_>| name.as_str().expect("text").to_owned();
    let mut seen: Vec<String> = certificate.subject().iter_organization().map(text).collect();
    seen.sort();
    assert_eq!(seen, ["dev", "naïve", "o=ps", "test"]);
    assert_eq!(
        certificate.subject().iter_common_name().map(text).collect::<Vec<_>>(),
        ["jane"]
    );
    let names = certificate.subject_alternative_name().expect("parsed").expect("there");
    assert_eq!(names.value.general_names.len(), 1);
    let ca_der = self::der(ca.ca_pem());
    let (_, authority) = X509Certificate::from_der(&ca_der).expect("certificate");
    certificate
        .verify_signature(Some(authority.public_key()))
        .expect("signed by the authority");
}

#[test]
fn what_a_requests_subject_says_beside_name_and_groups_is_kept() {
    let directory = tempfile::tempdir().expect("directory");
    let ca = open(&directory);
    let key = KeyPair::generate().expect("key");
    let mut params = CertificateParams::default();
    let mut subject = rcgen::DistinguishedName::new();
    for (kind, value) in [
        (rcgen::DnType::CommonName, "mallory"),
        (rcgen::DnType::OrganizationName, "system:masters"),
        (rcgen::DnType::OrganizationalUnitName, "kitchen"),
        (rcgen::DnType::StateOrProvinceName, "Uri"),
        (rcgen::DnType::CountryName, "CH"),
        (rcgen::DnType::CustomDnType(vec![1, 2, 3, 4]), "whatever"),
        (rcgen::DnType::CustomDnType(vec![2, 5, 4, 5]), "7"),
        (rcgen::DnType::LocalityName, "Altdorf"),
    ] {
        subject.push(kind, value);
    }
    params.distinguished_name = subject;
    let request = params.serialize_request(&key).expect("request").pem().expect("PEM");
    let usages = ["client auth".to_owned()];
    let asked = (usages.as_slice(), Duration::from_secs(3600));
    let pem = ca
        .sign_client_request_for(&request, "jane", &["dev"], asked)
        .expect("signed");
    let der = der(&pem);
    let (_, certificate) = X509Certificate::from_der(&der).expect("certificate");
    let said = "C=CH, O=dev, OU=kitchen, L=Altdorf, ST=Uri, CN=jane, serialNumber=7";
    assert_eq!(certificate.subject().to_string(), said);
}
