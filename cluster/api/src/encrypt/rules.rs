//! A configuration in force: for each key of the store the providers in the order in which they are tried.

use super::{
    MARK,
    cipher::Cipher,
    config::{GroupResource, ProviderSettings, Settings},
    kms::{Kms, Times},
    unreadable,
};
use crate::cache::prefix_of;
use bytes::Bytes;
use std::{collections::HashMap, sync::Arc};
use strata_metrics::Page;
use strata_store::Error;

/// What values are written with and may have been written with.
pub(super) enum Provider {
    Cipher(Box<Cipher>),
    Kms(Arc<Kms>),
    /// As they are.
    Identity,
}

/// A configuration in force.
pub(crate) struct Encryption {
    rules: HashMap<GroupResource, Vec<Arc<Provider>>>,
    services: Vec<Arc<Kms>>,
}

impl Encryption {
    /// Reads a configuration in YAML and asks its key management services once. Errors: a sentence.
    pub(crate) async fn open(text: &str, times: Times) -> Result<Self, String> {
        let settings = Settings::parse(text)?;
        let mut rules: HashMap<GroupResource, Vec<Arc<Provider>>> = HashMap::new();
        let mut services = Vec::new();
        for rule in settings.rules {
            let mut providers = Vec::new();
            for provider in rule.providers {
                providers.push(Arc::new(match provider {
                    ProviderSettings::Cipher(cipher) => Provider::Cipher(cipher),
                    ProviderSettings::Identity => Provider::Identity,
                    ProviderSettings::Kms(settings) => {
                        let kms = Kms::start(settings, times).await;
                        services.push(kms.clone());
                        Provider::Kms(kms)
                    }
                }));
            }
            for resource in rule.resources {
                rules.entry(resource).or_default().extend(providers.iter().cloned());
            }
        }
        Ok(Self { rules, services })
    }

    /// The providers of a key's resource, the closest rule first; nothing for what is not encrypted.
    pub(super) fn providers(&self, key: &[u8]) -> Option<&[Arc<Provider>]> {
        let (group, resource) = resource_of(key)?;
        let any = || "*".to_owned();
        let candidates = [(group.clone(), resource), (group, any()), (any(), any())];
        candidates
            .iter()
            .find_map(|wanted| self.rules.get(wanted))
            .map(Vec::as_slice)
    }

    /// What the keys of all rules begin with.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = String> {
        self.rules
            .keys()
            .map(|(group, resource)| match (group.as_str(), resource.as_str()) {
                ("*", _) => "/registry/".to_owned(),
                (group, "*") => {
                    let whole = prefix_of(group, "");
                    whole.trim_end_matches('/').to_owned() + "/"
                }
                (group, resource) => prefix_of(group, resource),
            })
    }

    /// Whether every key management service is well; `None` if there is none. Errors: a sentence for each that is not.
    pub(crate) async fn check(&self) -> Option<Result<(), String>> {
        if self.services.is_empty() {
            return None;
        }
        let mut wrong = Vec::new();
        for (index, kms) in self.services.iter().enumerate() {
            if let Err(why) = kms.check().await {
                wrong.push(format!("kms-provider-{index}: {why}"));
            }
        }
        Some(if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join(", "))
        })
    }

    /// Whether a value is written as it would be now.
    pub(super) fn is_current(&self, key: &[u8], value: &[u8]) -> bool {
        match self.providers(key).and_then(|p| p.first()).map(Arc::as_ref) {
            None | Some(Provider::Identity) => !value.starts_with(MARK),
            Some(Provider::Cipher(cipher)) => value.starts_with(cipher.prefix()),
            Some(Provider::Kms(kms)) => value.starts_with(kms.prefix()) && kms.is_current(value),
        }
    }

    pub(super) fn seal(&self, key: &[u8], plain: Bytes) -> Result<Bytes, Error> {
        match self.providers(key).and_then(|p| p.first()).map(Arc::as_ref) {
            None | Some(Provider::Identity) => Ok(plain),
            Some(Provider::Cipher(cipher)) => cipher.seal(key, &plain),
            Some(Provider::Kms(kms)) => kms.seal(key, &plain),
        }
    }

    pub(super) async fn open_value(&self, key: &[u8], value: Bytes) -> Result<Bytes, Error> {
        let Some(providers) = self.providers(key) else {
            return match value.starts_with(MARK) {
                true => Err(unreadable(key, "it is encrypted and no provider is configured for it")),
                false => Ok(value),
            };
        };
        for provider in providers {
            match provider.as_ref() {
                Provider::Identity if !value.starts_with(MARK) => return Ok(value),
                Provider::Cipher(cipher) if value.starts_with(cipher.prefix()) => return cipher.open(key, &value),
                Provider::Kms(kms) if value.starts_with(kms.prefix()) => return kms.open(key, &value).await,
                _ => {}
            }
        }
        Err(unreadable(
            key,
            match value.starts_with(MARK) {
                true => "no matching prefix found: none of its providers has written it",
                false => "no matching prefix found: it is not encrypted, and identity is none of its providers",
            },
        ))
    }

    /// Shows the services' counters.
    pub(crate) fn show(&self, page: &mut Page) {
        self.services.iter().for_each(|kms| kms.show(page));
    }
}

/// Group and plural of a key such as `/registry/apps/deployments/n/d`.
fn resource_of(key: &[u8]) -> Option<(String, String)> {
    let text = std::str::from_utf8(key).ok()?.strip_prefix("/registry/")?;
    let (group, rest) = text.split_once('/')?;
    let (resource, _) = rest.split_once('/')?;
    let group = if group == "core" { "" } else { group };
    Some((group.to_owned(), resource.to_owned()))
}
