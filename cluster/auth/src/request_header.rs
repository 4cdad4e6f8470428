//! Who a front proxy says that somebody is: headers, believed from those that show a certificate of the authority
//! of front proxies.

use crate::UserInfo;
use http::{HeaderMap, HeaderName};
use std::collections::BTreeMap;
use strata_http::Peer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Which proxies are believed, and in which headers they speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeaders {
    /// Common names that a proxy's certificate may have; any if there is none.
    pub allowed_names: Vec<String>,
    /// Headers of the user's name, the first that is there counts.
    pub names: Vec<String>,
    /// Headers of the user's uid, likewise.
    pub uids: Vec<String>,
    /// Headers of the user's groups.
    pub groups: Vec<String>,
    /// What the names of headers begin with that hold anything else about the user.
    pub extra_prefixes: Vec<String>,
}

impl RequestHeaders {
    /// The headers that Kubernetes' own parts use, from proxies of some names.
    pub fn of(allowed_names: Vec<String>) -> Self {
        let one = |name: &str| vec![name.to_owned()];
        Self {
            allowed_names,
            names: one("X-Remote-User"),
            uids: one("X-Remote-Uid"),
            groups: one("X-Remote-Group"),
            extra_prefixes: one("X-Remote-Extra-"),
        }
    }

    /// Whom the headers name, if a proxy sent them that is believed; `None` if nobody is named or nobody is believed.
    pub fn user(&self, headers: &HeaderMap, peer: &Peer) -> Option<UserInfo> {
        let proxy = peer.proxy.as_ref()?.first()?;
        let name = self.first(headers, &self.names)?;
        if !self.is_allowed(proxy) {
            tracing::debug!(address = %peer.address, "a front proxy's name is not allowed");
            return None;
        }
        let mut user = UserInfo {
            name,
            uid: self.first(headers, &self.uids).unwrap_or_default(),
            groups: self.all(headers),
            extra: self.extra(headers),
        };
        if !user.is_anonymous() {
            user.add_authenticated();
        }
        Some(user)
    }

    /// Takes the headers away.
    pub fn forget(&self, headers: &mut HeaderMap) {
        let single = self.names.iter().chain(&self.uids).chain(&self.groups);
        let mut names: Vec<HeaderName> = single.filter_map(|name| name.parse().ok()).collect();
        let is_extra = |name: &&HeaderName| self.extra_key(name.as_str()).is_some();
        names.extend(headers.keys().filter(is_extra).cloned());
        for name in names {
            headers.remove(name);
        }
    }

    fn is_allowed(&self, certificate: &[u8]) -> bool {
        if self.allowed_names.is_empty() {
            return true;
        }
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return false;
        };
        let name = certificate.subject().iter_common_name().next();
        let name = name.and_then(|name| name.as_str().ok());
        name.is_some_and(|name| self.allowed_names.iter().any(|allowed| allowed == name))
    }

    fn first(&self, headers: &HeaderMap, names: &[String]) -> Option<String> {
        let values = names.iter().filter_map(|name| headers.get(name.as_str()));
        values.map(text).find(|value| !value.is_empty())
    }

    fn all(&self, headers: &HeaderMap) -> Vec<String> {
        let values = self.groups.iter().flat_map(|name| headers.get_all(name.as_str()));
        values.map(text).filter(|value| !value.is_empty()).collect()
    }

    fn extra(&self, headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
        let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in headers {
            if let Some(key) = self.extra_key(name.as_str()) {
                extra.entry(unescaped(key)).or_default().push(text(value));
            }
        }
        extra
    }

    /// The rest of a header's name behind one of the prefixes.
    fn extra_key<'h>(&self, header: &'h str) -> Option<&'h str> {
        self.extra_prefixes.iter().find_map(|prefix| {
            let (start, key) = header.split_at_checked(prefix.len())?;
            start.eq_ignore_ascii_case(prefix).then_some(key)
        })
    }
}

fn text(value: &http::HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// Go's url.PathUnescape; what is not escaped right stays as it is.
fn unescaped(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte != b'%' {
            out.push(*byte);
            at += 1;
            continue;
        }
        let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else {
            return key.to_owned();
        };
        out.push((high << 4 | low) as u8);
        at += 3;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClusterCa;
    use http::HeaderValue;
    use proptest::prelude::*;
    use std::sync::{Arc, OnceLock};

    fn peer(name: Option<&str>) -> Peer {
        let chain = name.map(|name| {
            let directory = tempfile::tempdir().unwrap();
            let ca = ClusterCa::open_or_create_front_proxy(directory.path()).unwrap();
            let leaf = ca.issue_client(name, &[]).unwrap();
            Arc::new(strata_http::certificates_from_pem(leaf.cert_pem.as_bytes()).unwrap())
        });
        Peer {
            address: ([127, 0, 0, 1], 1).into(),
            certificates: None,
            certificate_error: None,
            proxy: chain,
            memo: Arc::new(OnceLock::new()),
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn only_a_proxy_of_an_allowed_name_speaks_for_others() {
        let said = headers(&[
            ("x-remote-user", "alice"),
            ("x-remote-uid", "7"),
            ("x-remote-group", "a"),
            ("x-remote-group", "b"),
            ("x-remote-extra-acme.com%2fproject", "p"),
            ("x-remote-extra-bad%zz", "q"),
        ]);
        let believed = RequestHeaders::of(vec!["front".into()]);
        let user = believed.user(&said, &peer(Some("front"))).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("alice", "7"));
        assert_eq!(user.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(user.extra["acme.com/project"], ["p"]);
        assert_eq!(user.extra["bad%zz"], ["q"]);
        assert_eq!(believed.user(&said, &peer(Some("other"))), None);
        assert_eq!(believed.user(&said, &peer(None)), None);
        assert_eq!(believed.user(&HeaderMap::new(), &peer(Some("front"))), None);
        let anyone = RequestHeaders::of(Vec::new());
        assert!(anyone.user(&said, &peer(Some("other"))).is_some());
        let mut rest = said;
        rest.insert("accept", HeaderValue::from_static("*/*"));
        believed.forget(&mut rest);
        assert_eq!(rest.len(), 1);
    }

    proptest! {
        #[test]
        fn any_headers_are_read_without_harm(
            name in "[a-z%0-9-]{0,30}",
            value in proptest::collection::vec(32u8..=255, 0..40),
        ) {
            let mut said = headers(&[("x-remote-user", "u")]);
            let name = format!("x-remote-extra-{name}").parse::<HeaderName>();
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value)) {
                said.append(name, value);
            }
            let believed = RequestHeaders::of(Vec::new());
            let found = believed.user(&said, &peer(Some("front")));
            prop_assert!(found.is_some());
        }
    }
}
