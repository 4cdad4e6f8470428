//! apiserver.config.k8s.io/v1 EncryptionConfiguration: which resources, and with which keys.

use super::{
    cipher::{Algorithm, Cipher},
    kms,
};
use crate::duration;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use std::{collections::HashSet, time::Duration};

/// A provider's `timeout`, if it has none.
const KMS_TIMEOUT: Duration = Duration::from_secs(3);

/// Resources of a group, or all of it; `("*", "*")` is everything.
pub(super) type GroupResource = (String, String);

/// A configuration that can be used.
pub(super) struct Settings {
    pub(super) rules: Vec<RuleSettings>,
}

/// Resources and their providers in order.
pub(super) struct RuleSettings {
    pub(super) resources: Vec<GroupResource>,
    pub(super) providers: Vec<ProviderSettings>,
}

/// How one provider is made.
pub(super) enum ProviderSettings {
    Cipher(Box<Cipher>),
    Kms(kms::Settings),
    Identity,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<Resources>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<Provider>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Provider {
    aesgcm: Option<Keys>,
    aescbc: Option<Keys>,
    secretbox: Option<Keys>,
    kms: Option<Kms>,
    identity: Option<Nothing>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    keys: Vec<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Key {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kms {
    #[serde(rename = "apiVersion", default)]
    api_version: String,
    #[serde(default)]
    name: String,
    cachesize: Option<i32>,
    #[serde(default)]
    endpoint: String,
    #[serde(default, deserialize_with = "duration::member")]
    timeout: Option<Duration>,
}

impl Settings {
    /// Reads a configuration in YAML. Errors: a sentence with the place.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let file: File = serde_saphyr::from_str(text).map_err(|e| e.to_string())?;
        if file.api_version != "apiserver.config.k8s.io/v1" || file.kind != "EncryptionConfiguration" {
            return Err(format!(
                "{} {} is no apiserver.config.k8s.io/v1 EncryptionConfiguration",
                file.api_version, file.kind
            ));
        }
        if file.resources.is_empty() {
            return Err("resources: Required value: at least one resources is required".into());
        }
        let mut services = HashSet::new();
        let mut rules = Vec::new();
        for (index, entry) in file.resources.into_iter().enumerate() {
            let at = format!("resources[{index}]");
            let resources = read_resources(&format!("{at}.resources"), &entry.resources)?;
            if entry.providers.is_empty() {
                return Err(format!(
                    "{at}.providers: Required value: at least one {at}.providers is required"
                ));
            }
            let mut providers = Vec::new();
            for (index, provider) in entry.providers.into_iter().enumerate() {
                read_provider(
                    &format!("{at}.providers[{index}]"),
                    provider,
                    &mut services,
                    &mut providers,
                )?;
            }
            rules.push(RuleSettings { resources, providers });
        }
        check_masks(&rules)?;
        Ok(Self { rules })
    }
}

fn read_resources(at: &str, names: &[String]) -> Result<Vec<GroupResource>, String> {
    if names.is_empty() {
        return Err(format!("{at}: Required value: at least one {at} is required"));
    }
    let mut read: Vec<GroupResource> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let wrong = |why: &str| Err(format!("{at}[{index}]: Invalid value: {name:?}: {why}"));
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        if name.to_lowercase() != *name {
            return wrong("resource name should not contain capital letters");
        }
        match (resource, group) {
            _ if name == "*" => {
                return wrong(
                    "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources",
                );
            }
            ("apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations", "") => {
                return wrong("resources which do not have REST API/s cannot be encrypted");
            }
            (_, "events.k8s.io") => {
                return wrong(
                    "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file",
                );
            }
            (_, "extensions") => {
                return wrong("'extensions' group has been removed and cannot be used for encryption");
            }
            (resource, "*") if resource != "*" => {
                return wrong("encrypting the same resource across groups is not supported");
            }
            _ => read.push((group.to_owned(), resource.to_owned())),
        }
    }
    for (index, one) in read.iter().enumerate() {
        for other in read.iter().skip(index + 1) {
            let why = if one == other {
                "the same resource cannot be specified multiple times"
            } else if [one, other].iter().any(|r| r.0 == "*") || one.0 == other.0 && (one.1 == "*" || other.1 == "*") {
                "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they will be masked"
            } else {
                continue;
            };
            return Err(format!("{at}: Invalid value: {names:?}: {why}"));
        }
    }
    Ok(read)
}

/// A rule behind one that covers all it is about would never be looked at.
fn check_masks(rules: &[RuleSettings]) -> Result<(), String> {
    let mut seen: HashSet<&GroupResource> = HashSet::new();
    let name = |(group, resource): &GroupResource| match (group.as_str(), resource.as_str()) {
        ("", "*") => "*.".to_owned(),
        ("", resource) => resource.to_owned(),
        (group, resource) => format!("{resource}.{group}"),
    };
    for wanted in rules.iter().flat_map(|rule| &rule.resources) {
        for mask in [(wanted.0.clone(), "*".to_owned()), ("*".to_owned(), "*".to_owned())] {
            if seen.contains(&mask) {
                return Err(format!(
                    "resource {:?} is masked by earlier rule {:?}",
                    name(wanted),
                    name(&mask)
                ));
            }
        }
        seen.insert(wanted);
    }
    Ok(())
}

fn read_provider(
    at: &str,
    provider: Provider,
    services: &mut HashSet<String>,
    into: &mut Vec<ProviderSettings>,
) -> Result<(), String> {
    let keyed = [
        (Algorithm::AesGcm, provider.aesgcm),
        (Algorithm::AesCbc, provider.aescbc),
        (Algorithm::Secretbox, provider.secretbox),
    ];
    let stated = keyed.iter().filter(|(_, keys)| keys.is_some()).count()
        + usize::from(provider.kms.is_some())
        + usize::from(provider.identity.is_some());
    match stated {
        0 => {
            return Err(format!(
                "{at}: Invalid value: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
            ));
        }
        1 => {}
        _ => {
            return Err(format!(
                "{at}: Invalid value: more than one provider specified in a single element, should split into different list elements"
            ));
        }
    }
    for (algorithm, keys) in keyed {
        if let Some(keys) = keys {
            let at = format!("{at}.{}.keys", algorithm.name());
            if keys.keys.is_empty() {
                return Err(format!("{at}: Required value: at least one keys is required"));
            }
            for (index, key) in keys.keys.iter().enumerate() {
                let cipher = read_key(&format!("{at}[{index}]"), algorithm, key)?;
                into.push(ProviderSettings::Cipher(Box::new(cipher)));
            }
        }
    }
    if let Some(kms) = provider.kms {
        into.push(ProviderSettings::Kms(read_kms(&format!("{at}.kms"), kms, services)?));
    }
    if provider.identity.is_some() {
        into.push(ProviderSettings::Identity);
    }
    Ok(())
}

fn read_key(at: &str, algorithm: Algorithm, key: &Key) -> Result<Cipher, String> {
    if key.name.is_empty() {
        return Err(format!(
            "{at}.name: Required value: name is a mandatory field for a key"
        ));
    }
    if key.secret.is_empty() {
        return Err(format!(
            "{at}.secret: Required value: secret is a mandatory field for a key"
        ));
    }
    let wrong = |why: String| format!("{at}.secret: Invalid value: \"REDACTED\": {why}");
    let secret = STANDARD.decode(&key.secret);
    let secret = secret.map_err(|_| wrong("secrets must be base64 encoded".into()))?;
    Cipher::new(algorithm, &key.name, &secret).map_err(wrong)
}

fn read_kms(at: &str, kms: Kms, services: &mut HashSet<String>) -> Result<kms::Settings, String> {
    match kms.api_version.as_str() {
        "v2" => {}
        "" | "v1" => {
            return Err(format!(
                "{at}.apiVersion: KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead."
            ));
        }
        other => {
            return Err(format!(
                "{at}.apiVersion: Invalid value: {other:?}: unsupported apiVersion apiVersion for KMS provider, only v1 and v2 are supported"
            ));
        }
    }
    let name = kms.name;
    if name.is_empty() {
        return Err(format!(
            "{at}.name: Required value: name is a mandatory field for a provider"
        ));
    }
    if name.contains(':') {
        return Err(format!(
            "{at}.name: Invalid value: {name:?}: invalid KMS provider name {name}, must not contain ':'"
        ));
    }
    if !services.insert(name.clone()) {
        return Err(format!(
            "{at}.name: Invalid value: {name:?}: duplicate KMS provider name {name}, names must be unique"
        ));
    }
    if let Some(size) = kms.cachesize {
        return Err(format!(
            "{at}.cachesize: Invalid value: {size}: cachesize is not supported in v2"
        ));
    }
    let timeout = kms.timeout.unwrap_or(KMS_TIMEOUT);
    if timeout.is_zero() {
        return Err(format!(
            "{at}.timeout: Invalid value: \"0s\": timeout should be a positive value"
        ));
    }
    if kms.endpoint.is_empty() {
        return Err(format!(
            "{at}.endpoint: Invalid value: \"\": endpoint is a mandatory field for a kms"
        ));
    }
    let scheme = kms.endpoint.split_once(':').map_or("", |(scheme, _)| scheme);
    let path = kms.endpoint.strip_prefix("unix://").filter(|_| scheme == "unix");
    let path = path.filter(|path| path.len() > 1 && path.starts_with('/'));
    let path = path.ok_or_else(|| {
        format!(
            "{at}.endpoint: Invalid value: {:?}: unsupported scheme {scheme:?} for KMS provider, only unix is supported",
            kms.endpoint
        )
    })?;
    // Upstream's way to name a socket in the abstract namespace.
    let address = path
        .strip_prefix("/@")
        .map_or(path.to_owned(), |name| format!("@{name}"));
    Ok(kms::Settings { name, address, timeout })
}
