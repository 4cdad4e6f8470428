//! Where a webhook is and whom to believe there.

use crate::json;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::fmt;

/// The port of a service reference that names none.
const DEFAULT_PORT: u16 = 443;

/// Where a webhook listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    /// A host that this machine resolves.
    Host {
        /// A name or an address; an IPv6 address without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// A service of the cluster.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// One of its ports.
        port: u16,
    },
}

impl Endpoint {
    /// The name that the certificate there is for.
    pub(crate) fn server_name(&self) -> String {
        match self {
            Self::Host { host, .. } => host.clone(),
            Self::Service { namespace, name, .. } => format!("{name}.{namespace}.svc"),
        }
    }
}

/// Host and port as a URL has them.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host { host, port } => write!(f, "{host}:{port}"),
            Self::Service { port, .. } => write!(f, "{}:{port}", self.server_name()),
        }
    }
}

/// Everything about a webhook's server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientConfig {
    /// Where it is.
    pub(crate) endpoint: Endpoint,
    /// The path, with its slash, and the query behind a `?` if there is one.
    pub(crate) path: String,
    /// Whom to believe, PEM; the machine's own authorities when empty.
    pub(crate) ca_bundle: Vec<u8>,
    /// Certificate chain and key to show, both PEM.
    pub(crate) identity: Option<(String, String)>,
    /// The `Authorization` header.
    pub(crate) authorization: Option<String>,
}

impl ClientConfig {
    /// Reads a `clientConfig` as webhook configurations and CustomResourceDefinitions have it. Errors: a sentence.
    pub(crate) fn from_value(value: &Value) -> Result<Self, String> {
        let (endpoint, path) = match json::get(value, "service") {
            Some(service) => service_reference(service)?,
            None => parse_url(json::text(value, "url"))?,
        };
        let bundle = json::text(value, "caBundle");
        let ca_bundle = STANDARD.decode(bundle).map_err(|e| format!("caBundle: {e}"))?;
        Ok(Self {
            endpoint,
            path,
            ca_bundle,
            identity: None,
            authorization: None,
        })
    }

    /// A server at an `https` URL. Errors: a sentence.
    pub(crate) fn from_url(url: &str, ca_bundle: Vec<u8>) -> Result<Self, String> {
        let (endpoint, path) = parse_url(url)?;
        Ok(Self {
            endpoint,
            path,
            ca_bundle,
            identity: None,
            authorization: None,
        })
    }
}

fn service_reference(service: &Value) -> Result<(Endpoint, String), String> {
    let port = match json::int(service, "port") {
        None | Some(0) => DEFAULT_PORT,
        Some(port) => u16::try_from(port).map_err(|_| format!("{port} is no port"))?,
    };
    let endpoint = Endpoint::Service {
        namespace: json::text(service, "namespace").to_owned(),
        name: json::text(service, "name").to_owned(),
        port,
    };
    let path = json::text(service, "path");
    Ok((endpoint, format!("/{}", path.trim_start_matches('/'))))
}

fn parse_url(url: &str) -> Result<(Endpoint, String), String> {
    if url.is_empty() {
        return Err("webhook configuration must have either service or URL".into());
    }
    let uri: http::Uri = url.parse().map_err(|e| format!("Unparsable URL: {e}"))?;
    if uri.scheme_str() != Some("https") {
        return Err(format!("Unparsable URL: {url:?} is not https"));
    }
    let host = uri
        .host()
        .ok_or_else(|| format!("Unparsable URL: {url:?} names no host"))?;
    let endpoint = Endpoint::Host {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: uri.port_u16().unwrap_or(DEFAULT_PORT),
    };
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    Ok((endpoint, path.to_owned()))
}
