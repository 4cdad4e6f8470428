//! Formats of values beyond names, with the sentences upstream rejects them with
//! (k8s.io/apimachinery/pkg/util/validation).

use super::Field;
use std::net::IpAddr;
use strata_meta::{LabelSelector, StatusCause, names};

/// Problems of the name of a port (RFC 6335 service name).
pub(crate) fn port_name(name: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if name.len() > 15 {
        problems.push("must be no more than 15 characters".to_owned());
    }
    if name.is_empty()
        || !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !name.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if name.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if name.starts_with('-') || name.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// A number or name of a port, where one must be.
pub(crate) fn port_number_or_name(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    match field.value().as_str() {
        Some(name) => field.problems(causes, port_name(name)),
        None => port_number(field, causes),
    }
}

/// A number of a port, where one must be.
pub(crate) fn port_number(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    if !field.int().is_some_and(|n| (1..=65535).contains(&n)) {
        let why = "must be between 1 and 65535, inclusive";
        causes.push(field.invalid_as(field.int().unwrap_or(0), why));
    }
}

/// Problems of the name of an environment variable.
pub(crate) fn environment_name(name: &str) -> Vec<String> {
    if name.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=') {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// Problems of the name of an HTTP header.
pub(crate) fn header_name(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Vec::new();
    }
    vec![
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')"
            .to_owned(),
    ]
}

/// Problems of a key of a ConfigMap or Secret.
pub(crate) fn config_key(key: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if key.len() > 253 {
        problems.push("must be no more than 253 characters".to_owned());
    }
    let fits = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !fits {
        problems.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')".to_owned(),
        );
    }
    if key == "." || key == ".." {
        problems.push(format!("must not be '{key}'"));
    } else if key.starts_with("..") {
        problems.push("must not start with '..'".to_owned());
    }
    problems
}

/// Problems of an address.
pub(crate) fn ip(text: &str) -> Vec<String> {
    if text.parse::<IpAddr>().is_ok() {
        return Vec::new();
    }
    vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()]
}

/// Problems of an address that must be written in the one canonical way.
pub(crate) fn canonical_ip(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Err(_) => ip(text),
        Ok(address) if address.to_string() != text => {
            vec![format!("must be in canonical form (\"{address}\")")]
        }
        Ok(_) => Vec::new(),
    }
}

/// Problems of an address that traffic is sent to.
pub(crate) fn endpoint_ip(text: &str) -> Vec<String> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return vec!["must be a valid IP address".to_owned()];
    };
    let (link_local, local_multicast) = match address {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    let mut problems = Vec::new();
    if address.is_unspecified() {
        problems.push(format!("may not be unspecified ({text})"));
    }
    if address.is_loopback() {
        problems.push("may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned());
    }
    if link_local {
        problems.push("may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned());
    }
    if local_multicast {
        problems.push("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned());
    }
    problems
}

/// Problems of a network.
pub(crate) fn cidr(text: &str) -> Vec<String> {
    let valid = text.split_once('/').is_some_and(|(address, length)| {
        let most = match address.parse() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        length.parse::<u8>().is_ok_and(|length| length <= most)
    });
    if valid {
        return Vec::new();
    }
    vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()]
}

/// Problems of a host name that may begin with `*.`.
pub(crate) fn wildcard_subdomain(name: &str) -> Vec<String> {
    match name.strip_prefix("*.") {
        Some(rest) if names::dns1123_subdomain(rest).is_empty() => Vec::new(),
        _ => vec![
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')".to_owned(),
        ],
    }
}

/// Labels.
pub(crate) fn labels(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    for (key, value) in field.entries() {
        causes.extend(names::qualified_name(key).iter().map(|why| field.invalid_as(key, why)));
        let text = value.text();
        causes.extend(names::label_value(text).iter().map(|why| field.invalid_as(text, why)));
    }
}

/// Annotations, as templates of objects have them.
pub(crate) fn annotations(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    for (key, _) in field.entries() {
        let problems = names::qualified_name(&key.to_lowercase());
        causes.extend(problems.iter().map(|why| field.invalid_as(key, why)));
    }
}

/// A label selector.
pub(crate) fn label_selector(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    labels(&field.at("matchLabels"), causes);
    for expression in field.at("matchExpressions").items() {
        let values = expression.at("values");
        match expression.at("operator").text() {
            "In" | "NotIn" if values.is_empty() => {
                causes.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                causes.push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => causes.push(expression.at("operator").invalid("not a valid selector operator")),
        }
        let key = expression.at("key");
        key.problems(causes, names::qualified_name(key.text()));
        for value in values.items() {
            value.problems(causes, names::label_value(value.text()));
        }
    }
}

/// A domain and a path, like `acme.io/foo`.
pub(crate) fn domain_prefixed_path(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    if field.is_empty() {
        causes.push(field.required(""));
        return;
    }
    let parts = field
        .text()
        .split_once('/')
        .filter(|(domain, path)| !domain.is_empty() && !path.is_empty());
    let Some((domain, path)) = parts else {
        causes.push(field.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"));
        return;
    };
    let problems = names::dns1123_subdomain(domain);
    causes.extend(problems.iter().map(|why| field.invalid_as(domain, why)));
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&b);
    if !path.bytes().all(allowed) {
        let why = "Invalid path (e.g. 'my-path', regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')";
        causes.push(field.invalid_as(path, why));
    }
}

/// Problems of an identifier as C has them.
pub(crate) fn c_identifier(text: &str) -> Vec<String> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if text.bytes().all(fits) && !text.is_empty() && !text.as_bytes()[0].is_ascii_digit() {
        return Vec::new();
    }
    vec![
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')".to_owned(),
    ]
}

/// A label selector as one can match with it; `None` when there is none or it is malformed.
pub(crate) fn read_selector(field: &Field<'_>) -> Option<strata_meta::Selector> {
    let mut problems = Vec::new();
    label_selector(field, &mut problems);
    if !problems.is_empty() {
        return None;
    }
    let selector = serde_json::from_value::<LabelSelector>(field.value().clone()).ok()?;
    selector.to_selector().ok()
}

/// A path inside a volume.
pub(crate) fn descending_path(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    if field.text().starts_with('/') {
        causes.push(field.invalid("must be a relative path"));
    }
    no_backsteps(field, causes);
}

/// A path without `..`.
pub(crate) fn no_backsteps(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    if field.text().split('/').any(|part| part == "..") {
        causes.push(field.invalid("must not contain '..'"));
    }
}

/// A path of a projected file.
pub(crate) fn unreserved_path(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    descending_path(field, causes);
    if field.text().starts_with("..") && !field.text().starts_with("../") {
        causes.push(field.invalid("must not start with '..'"));
    }
}

/// A number that is a count or a percentage; what is said of the rest is upstream's.
pub(crate) fn count_or_percent(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    match field.value().as_str() {
        Some(text) => {
            let digits = text.strip_suffix('%').unwrap_or("");
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                causes.push(field.invalid(why));
            }
        }
        None => field.not_negative(causes),
    }
}

/// A percentage above 100.
pub(crate) fn at_most_all(field: &Field<'_>, causes: &mut Vec<StatusCause>) {
    if percent(field).is_some_and(|n| n > 100) {
        causes.push(field.invalid("must not be greater than 100%"));
    }
}

/// The number of a percentage.
pub(crate) fn percent(field: &Field<'_>) -> Option<i64> {
    field.text().strip_suffix('%')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_accept_and_refuse_as_upstream() {
        for (rule, good, bad) in [
            (port_name as fn(&str) -> Vec<String>, "http-2", "-HTTP"),
            (port_name, "a", "1234"),
            (environment_name, "my var.x", "a=b"),
            (header_name, "X-A", "a b"),
            (config_key, "a.b_c", "../x"),
            (ip, "10.0.0.1", "10.0.0.01"),
            (endpoint_ip, "10.0.0.1", "127.0.0.1"),
            (endpoint_ip, "2001:db8::1", "169.254.1.1"),
            (cidr, "10.0.0.0/8", "10.0.0.0/33"),
            (wildcard_subdomain, "*.a.b", "*a.b"),
        ] {
            assert_eq!(rule(good), Vec::<String>::new(), "{good}");
            assert!(!rule(bad).is_empty(), "{bad}");
        }
    }
}
