//! A webhook as a kubeconfig file says it: audit, authentication, authorisation.

use super::ClientConfig;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use std::fs;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Kubeconfig {
    #[serde(rename = "current-context")]
    current: String,
    clusters: Vec<Named>,
    users: Vec<Named>,
    contexts: Vec<Named>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
    cluster: Cluster,
    user: User,
    context: Context,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: String,
    certificate_authority_data: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: String,
    client_certificate_data: String,
    client_key: String,
    client_key_data: String,
    token: String,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

/// Reads a kubeconfig's current context. Errors: a sentence.
pub(crate) fn from_kubeconfig(text: &str) -> Result<ClientConfig, String> {
    let file: Kubeconfig = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
    let context = file
        .contexts
        .iter()
        .find(|c| c.name == file.current)
        .map(|c| c.context.clone());
    let context = context.ok_or_else(|| format!("there is no context {:?}", file.current))?;
    let cluster = file
        .clusters
        .iter()
        .find(|c| c.name == context.cluster)
        .map(|c| c.cluster.clone());
    let cluster = cluster.ok_or_else(|| format!("there is no cluster {:?}", context.cluster))?;
    let user = file
        .users
        .iter()
        .find(|u| u.name == context.user)
        .map(|u| u.user.clone())
        .unwrap_or_default();
    let ca = content(&cluster.certificate_authority_data, &cluster.certificate_authority)?;
    let certificate = content(&user.client_certificate_data, &user.client_certificate)?;
    let key = content(&user.client_key_data, &user.client_key)?;
    let mut config = ClientConfig::from_url(&cluster.server, ca)?;
    if !certificate.is_empty() {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|e| e.to_string());
        config.identity = Some((text(certificate)?, text(key)?));
    }
    config.authorization = (!user.token.is_empty()).then(|| format!("Bearer {}", user.token));
    Ok(config)
}

fn content(data: &str, path: &str) -> Result<Vec<u8>, String> {
    match (data, path) {
        ("", "") => Ok(Vec::new()),
        ("", path) => fs::read(path).map_err(|e| format!("{path}: {e}")),
        (data, _) => STANDARD.decode(data).map_err(|e| e.to_string()),
    }
}
