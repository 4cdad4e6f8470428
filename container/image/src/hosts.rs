//! Where a registry's images are asked for: containerd's certs.d folders.
//!
//! `HOSTS_DIR/HOST[:PORT]/hosts.toml`, or `_default/hosts.toml`, names mirrors in the order
//! they are tried and the server that is tried last.

use crate::ImageError;
use crate::disk::read_bounded;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// One address that serves a registry's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `http` or `https`; with `guess`, the one tried first.
    pub scheme: &'static str,
    /// Whether plain HTTP is tried when TLS is not spoken there (loopback only).
    pub guess: bool,
    /// Host and port.
    pub authority: String,
    /// Path that `/REPOSITORY/manifests/…` is added to; usually `/v2`.
    pub path: String,
    /// Whether this is the registry itself, which gets the credentials.
    pub origin: bool,
    /// Whether tags may be resolved here.
    pub resolve: bool,
    /// Whether content may be fetched here.
    pub pull: bool,
    /// Headers for every request.
    pub headers: Vec<(String, String)>,
    /// How its certificate is checked.
    pub tls: TlsSettings,
}

/// How a server's certificate is checked, and what is shown to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct TlsSettings {
    /// More roots, PEM.
    pub roots: Vec<Vec<u8>>,
    /// What is shown to the server.
    pub client: Option<ClientPair>,
    /// Accept anything.
    pub skip_verify: bool,
}

/// Certificate chain and key, PEM.
pub(crate) type ClientPair = (Vec<u8>, Vec<u8>);

const MAX_FILE: u64 = 1 << 20;
const MAX_HOSTS: usize = 32;
/// The registry API of docker.io is served elsewhere.
const DOCKER_HUB: &str = "registry-1.docker.io";

/// The endpoints for a registry, in the order they are tried. Reads the files afresh: changes count at once.
pub(crate) fn endpoints(hosts_dir: Option<&Path>, registry: &str) -> Result<Vec<Endpoint>, ImageError> {
    let mut server = default_server(registry);
    let Some(folder) = hosts_dir.and_then(|dir| folder_for(dir, registry)) else {
        return Ok(vec![server]);
    };
    let file = folder.join("hosts.toml");
    let Some(text) = read_bounded(&file, MAX_FILE)? else {
        server.tls.roots = bare_certificates(&folder)?;
        return Ok(vec![server]);
    };
    let invalid = |why: String| ImageError::Configuration {
        path: file.clone(),
        why,
    };
    let text = String::from_utf8(text).map_err(|error| invalid(error.to_string()))?;
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| invalid(error.message().to_owned()))?;
    let mut found = Vec::new();
    if let Some(hosts) = table.get("host") {
        let hosts = hosts.as_table().ok_or_else(|| invalid("host must be a table".into()))?;
        if hosts.len() > MAX_HOSTS {
            return Err(invalid(format!("more than {MAX_HOSTS} hosts")));
        }
        for (url, settings) in hosts {
            let settings = settings
                .as_table()
                .ok_or_else(|| invalid(format!("host.{url:?} must be a table")))?;
            found.push(endpoint(url, registry, settings, &folder).map_err(&invalid)?);
        }
    }
    let server = match table.get("server") {
        None => {
            apply(&mut server, &table, &folder).map_err(&invalid)?;
            server
        }
        Some(Value::String(url)) => {
            let mut endpoint = endpoint(url, registry, &table, &folder).map_err(&invalid)?;
            endpoint.origin = true;
            endpoint
        }
        Some(_) => return Err(invalid("server must be a text".into())),
    };
    if !found
        .iter()
        .any(|e| e.authority == server.authority && e.path == server.path)
    {
        found.push(server);
    }
    Ok(found)
}

/// A registry without configuration: TLS, and for loopback addresses whatever is spoken there, as docker does.
fn default_server(registry: &str) -> Endpoint {
    let authority = if registry == "docker.io" { DOCKER_HUB } else { registry };
    let loopback = is_loopback(authority);
    Endpoint {
        scheme: "https",
        guess: loopback,
        authority: authority.to_owned(),
        path: "/v2".to_owned(),
        origin: true,
        resolve: true,
        pull: true,
        headers: Vec::new(),
        tls: TlsSettings {
            skip_verify: loopback,
            ..TlsSettings::default()
        },
    }
}

/// The host of `HOST[:PORT]`; an IPv6 address without its brackets.
pub(crate) fn host_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Whether a host, with or without port, is this machine itself.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn folder_for(dir: &Path, registry: &str) -> Option<PathBuf> {
    // containerd also reads `host_port_` for systems that allow no colon in names.
    let underscored = registry.split_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = [Some(registry.to_owned()), underscored, Some("_default".to_owned())];
    names
        .into_iter()
        .flatten()
        .map(|name| dir.join(name))
        .find(|folder| folder.is_dir())
}

fn endpoint(url: &str, registry: &str, settings: &Table, folder: &Path) -> Result<Endpoint, String> {
    let (scheme, rest) = match url.split_once("://") {
        Some(("https", rest)) => ("https", rest),
        Some(("http", rest)) => ("http", rest),
        Some((other, _)) => return Err(format!("unknown scheme {other:?} in {url:?}")),
        None => ("https", url),
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    if authority.is_empty() || authority.contains(['@', '?', '#']) {
        return Err(format!("no usable host in {url:?}"));
    }
    let path = path.trim_end_matches('/');
    let overridden = flag(settings, "override_path")?;
    let path = if overridden || path.ends_with("/v2") {
        path.to_owned()
    } else {
        format!("{path}/v2")
    };
    let origin = authority == default_server(registry).authority;
    let mut endpoint = Endpoint {
        scheme,
        guess: false,
        authority: authority.to_owned(),
        path,
        origin,
        resolve: true,
        pull: true,
        headers: Vec::new(),
        tls: TlsSettings::default(),
    };
    apply(&mut endpoint, settings, folder)?;
    Ok(endpoint)
}

fn apply(endpoint: &mut Endpoint, settings: &Table, folder: &Path) -> Result<(), String> {
    if let Some(capabilities) = settings.get("capabilities") {
        let names = texts(capabilities, "capabilities")?;
        endpoint.resolve = names.iter().any(|name| name == "resolve");
        endpoint.pull = names.iter().any(|name| name == "pull");
    }
    if settings.contains_key("skip_verify") {
        endpoint.tls.skip_verify = flag(settings, "skip_verify")?;
    }
    if let Some(ca) = settings.get("ca") {
        for path in texts(ca, "ca")? {
            endpoint.tls.roots.push(read(folder, &path)?);
        }
    }
    endpoint.tls.client = match settings.get("client") {
        None => None,
        Some(Value::String(both)) => Some((read(folder, both)?, read(folder, both)?)),
        Some(Value::Array(items)) => client_pair(items, folder)?,
        Some(_) => return Err("client must be a text or an array".into()),
    };
    if let Some(headers) = settings.get("header") {
        let headers = headers.as_table().ok_or("header must be a table")?;
        for (name, values) in headers {
            endpoint
                .headers
                .extend(texts(values, name)?.into_iter().map(|value| (name.clone(), value)));
        }
    }
    Ok(())
}

/// `["cert", "key"]` or `[["cert", "key"], …]`; the first pair is used.
fn client_pair(items: &[Value], folder: &Path) -> Result<Option<ClientPair>, String> {
    let pair = match items.first() {
        None => return Ok(None),
        Some(Value::Array(inner)) => inner.as_slice(),
        Some(_) => items,
    };
    let paths: Vec<&str> = pair.iter().filter_map(Value::as_str).collect();
    match paths.as_slice() {
        [both] => Ok(Some((read(folder, both)?, read(folder, both)?))),
        [certificate, key] => Ok(Some((read(folder, certificate)?, read(folder, key)?))),
        _ => Err("client must name a certificate and a key".into()),
    }
}

fn read(folder: &Path, path: &str) -> Result<Vec<u8>, String> {
    // An absolute path replaces the folder.
    let path = folder.join(path);
    match read_bounded(&path, MAX_FILE) {
        Ok(Some(content)) => Ok(content),
        Ok(None) => Err(format!("{} does not exist", path.display())),
        Err(error) => Err(error.to_string()),
    }
}

fn bare_certificates(folder: &Path) -> Result<Vec<Vec<u8>>, ImageError> {
    let mut roots = Vec::new();
    for item in std::fs::read_dir(folder).map_err(ImageError::io("read directory", folder))? {
        let path = item.map_err(ImageError::io("read directory", folder))?.path();
        if path.extension().is_some_and(|extension| extension == "crt")
            && let Some(pem) = read_bounded(&path, MAX_FILE)?
        {
            roots.push(pem);
        }
    }
    Ok(roots)
}

fn flag(table: &Table, name: &str) -> Result<bool, String> {
    table.get(name).map_or(Ok(false), |value| {
        value.as_bool().ok_or_else(|| format!("{name} must be true or false"))
    })
}

fn texts(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let invalid = || format!("{name} must be a text or an array of texts");
    match value {
        Value::String(text) => Ok(vec![text.clone()]),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(invalid))
            .collect(),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(name: &str, text: &str, registry: &str) -> Result<Vec<Endpoint>, ImageError> {
        let dir = tempfile::tempdir().expect("folder");
        let folder = dir.path().join(name);
        std::fs::create_dir_all(&folder).expect("folder");
        std::fs::write(folder.join("hosts.toml"), text).expect("file");
        std::fs::write(folder.join("ca.crt"), "PEM").expect("file");
        endpoints(Some(dir.path()), registry)
    }

    #[test]
    fn without_configuration_only_loopback_may_be_plain() {
        for (registry, authority, guess) in [
            ("docker.io", "registry-1.docker.io", false),
            ("quay.io", "quay.io", false),
            ("localhost:5000", "localhost:5000", true),
            ("127.0.0.9:5000", "127.0.0.9:5000", true),
            ("[::1]:5000", "[::1]:5000", true),
            ("10.0.0.1:5000", "10.0.0.1:5000", false),
            ("localhost.example.com", "localhost.example.com", false),
        ] {
            let found = endpoints(None, registry).expect("default");
            assert_eq!(found.len(), 1);
            assert_eq!(
                (found[0].authority.as_str(), found[0].guess),
                (authority, guess),
                "{registry}"
            );
            assert_eq!(found[0].tls.skip_verify, guess);
        }
    }

    #[test]
    fn mirrors_come_in_order_and_the_server_last() {
        let text = r#"
server = "https://registry.k8s.io"
[host."http://z.local:5000"]
  capabilities = ["pull", "resolve"]
[host."https://a.local/mirror/v2/k8s"]
  override_path = true
  skip_verify = true
  capabilities = ["pull"]
  ca = "ca.crt"
  [host."https://a.local/mirror/v2/k8s".header]
    x-custom = ["one"]
"#;
        let found = configured("registry.k8s.io", text, "registry.k8s.io").expect("valid");
        let addresses: Vec<String> = found
            .iter()
            .map(|e| format!("{}://{}{}", e.scheme, e.authority, e.path))
            .collect();
        assert_eq!(
            addresses,
            [
                "http://z.local:5000/v2",
                "https://a.local/mirror/v2/k8s",
                "https://registry.k8s.io/v2"
            ]
        );
        assert!(found[1].tls.skip_verify && !found[1].resolve && found[1].pull);
        assert_eq!(found[1].tls.roots, [b"PEM".to_vec()]);
        assert_eq!(found[1].headers, [("x-custom".to_owned(), "one".to_owned())]);
        assert_eq!(found.iter().map(|e| e.origin).collect::<Vec<_>>(), [false, false, true]);
    }

    #[test]
    fn the_default_folder_serves_registries_without_one() {
        let found = configured("_default", "[host.\"http://mirror:1\"]\n", "docker.io").expect("valid");
        assert_eq!(found[0].authority, "mirror:1");
        assert_eq!(found[1].authority, "registry-1.docker.io");
        assert!(configured("host_5000_", "server = \"http://x\"", "host:5000").expect("valid")[0].origin);
    }

    #[test]
    fn a_broken_file_is_an_error_that_names_it() {
        for text in [
            "server = 1",
            "host = 2",
            "[host.\"ftp://x\"]",
            "not toml",
            "[host.\"https://x\"]\nca = \"absent\"",
        ] {
            let error = configured("r.local", text, "r.local").expect_err(text).to_string();
            assert!(error.contains("hosts.toml"), "{error}");
        }
    }
}
