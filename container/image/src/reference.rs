//! Names of images, read as docker reads them.

use crate::{Digest, ImageError};
use std::{fmt, str::FromStr};

/// A full image name: registry, repository, and a tag or digest.
///
/// `nginx` means `docker.io/library/nginx:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Registry host with its port if one is written.
    pub registry: String,
    /// Path of the repository below the registry.
    pub repository: String,
    /// The tag; `latest` when neither tag nor digest is written.
    pub tag: Option<String>,
    /// The digest, which wins over the tag.
    pub digest: Option<Digest>,
}

const DEFAULT_REGISTRY: &str = "docker.io";
const MAX_NAME: usize = 255;
const MAX_TAG: usize = 128;

impl Reference {
    /// `registry/repository`, the part before tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The name as people write it: without docker.io and library/.
    pub fn familiar(&self) -> String {
        let full = self.to_string();
        let Some(rest) = full.strip_prefix("docker.io/") else {
            return full;
        };
        let short = rest.strip_prefix("library/").unwrap_or(rest);
        // A repository whose first part looks like a host keeps its registry.
        match short.parse::<Self>() {
            Ok(again) if again == *self => short.to_owned(),
            _ => full,
        }
    }

    /// The last part of a manifest's address: digest or tag.
    pub(crate) fn selector(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// `registry/repository:tag`, if there is a tag.
    pub(crate) fn tagged(&self) -> Option<String> {
        self.tag.as_ref().map(|tag| format!("{}:{tag}", self.name()))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Reference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        parse(text).map_err(|why| ImageError::InvalidReference {
            name: text.chars().take(300).collect(),
            why,
        })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    const FORM: &str = "couldn't parse image name: invalid reference format";
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|_| "invalid digest")?)),
        None => (text, None),
    };
    let (name, tag) = match rest.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (rest, None),
    };
    let (registry, repository) = match name.split_once('/') {
        Some((host, path)) if is_host(host) => (host, path.to_owned()),
        _ if name.contains('/') => (DEFAULT_REGISTRY, name.to_owned()),
        _ => (DEFAULT_REGISTRY, format!("library/{name}")),
    };
    let (registry, repository) = match registry {
        "index.docker.io" => (DEFAULT_REGISTRY, repository),
        other => (other, repository),
    };
    let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        format!("library/{repository}")
    } else {
        repository
    };
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err("repository name must not be more than 255 characters");
    }
    if repository.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("repository name must be lowercase");
    }
    if !valid_host(registry) || !repository.split('/').all(valid_component) || !tag.is_none_or(valid_tag) {
        return Err(FORM);
    }
    let tag = match (tag, &digest) {
        (None, None) => Some("latest".to_owned()),
        (tag, _) => tag.map(str::to_owned),
    };
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag,
        digest,
    })
}

/// The first component is a host if it could not be a repository's name (docker's rule).
fn is_host(component: &str) -> bool {
    component == "localhost" || component.contains(['.', ':']) || component.bytes().any(|b| b.is_ascii_uppercase())
}

fn valid_host(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return address.parse::<std::net::Ipv6Addr>().is_ok() && valid_port(port);
    }
    let (name, port) = match host.split_once(':') {
        Some((name, _)) => (name, &host[name.len()..]),
        None => (host, ""),
    };
    valid_port(port)
        && name.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn valid_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
}

/// Lower-case words joined by one dot, one or two underscores, or dashes.
fn valid_component(component: &str) -> bool {
    let bytes = component.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !edge(bytes.first()) || !edge(bytes.last()) {
        return false;
    }
    bytes
        .split(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        .all(|joint| matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|b| *b == b'-'))
}

fn valid_tag(tag: &str) -> bool {
    let bytes = tag.as_bytes();
    (1..=MAX_TAG).contains(&bytes.len())
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && !matches!(bytes[0], b'.' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let by_digest = format!("a/b@sha256:{hex}");
        let cases = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.25", "docker.io/library/nginx:1.25"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("index.docker.io/library/nginx", "docker.io/library/nginx:latest"),
            ("user/app", "docker.io/user/app:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
            ("[::1]:5000/a", "[::1]:5000/a:latest"),
            (by_digest.as_str(), &format!("docker.io/a/b@sha256:{hex}")),
            ("a__b/c-_d", ""),
            ("a__b/c--d", "docker.io/a__b/c--d:latest"),
        ];
        for (text, full) in cases {
            match text.parse::<Reference>() {
                Ok(reference) => assert_eq!(reference.to_string(), full, "{text}"),
                Err(error) => assert_eq!(full, "", "{text}: {error}"),
            }
        }
    }

    #[test]
    fn familiar_names_mean_the_same() {
        for (text, familiar) in [
            ("docker.io/library/nginx:1", "nginx:1"),
            ("docker.io/team/app", "team/app:latest"),
            ("r.example/library/x", "r.example/library/x:latest"),
            ("docker.io/looks.like/host", "docker.io/looks.like/host:latest"),
            ("docker.io/library/localhost/x", "docker.io/library/localhost/x:latest"),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(familiar.parse::<Reference>().ok(), Some(reference));
        }
    }

    #[test]
    fn impossible_names_are_refused() {
        for bad in [
            "",
            ":",
            "UPPER",
            "a/../b",
            "a//b",
            "/a",
            "a:",
            "a:b c",
            "a@sha256:12",
            "-a",
            "a/b:-t",
            "x:y:z",
            "host:99999/a",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad:?}");
        }
        assert!("a".repeat(300).parse::<Reference>().is_err());
    }
}
